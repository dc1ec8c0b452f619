"""The watermark: up to which time all picks are known, as far as anyone can tell."""

from collections.abc import Iterable, Mapping
from typing import Any

from streamer.association.window import NEVER_NS
from streamer.timebase import NS_PER_S

# Pickers beat every few seconds; one that has said nothing for so long says nothing any more.
BEAT_LIFE_S = 60.0


class Watermark:
    """Follows the heartbeats of stations or, without any, the newest publications.

    Times in POSIX ns. `codes`: network and station codes that matter; `hold_s`: how far a station
    may be behind the foremost one and still be waited for; `unheard_lateness_s`: how long before
    the newest publication picks are complete.
    """

    def __init__(
        self, codes: Iterable[tuple[str, str]], hold_s: float, unheard_lateness_s: float
    ) -> None:
        self._newest_made_ns = NEVER_NS
        self._newest_at_ns = 0
        self.held_back = 0  # stations that are not waited for
        self.follow(codes, hold_s, unheard_lateness_s)

    def follow(
        self, codes: Iterable[tuple[str, str]], hold_s: float, unheard_lateness_s: float
    ) -> None:
        """Others matter from now on."""
        self._codes = frozenset(codes)
        self._hold_ns = round(hold_s * NS_PER_S)
        self._unheard_ns = round(unheard_lateness_s * NS_PER_S)

    def published(self, made_ns: int, steady_ns: int) -> None:
        """A pick was published; `steady_ns` is a clock that nobody sets."""
        if made_ns > self._newest_made_ns:
            self._newest_made_ns, self._newest_at_ns = made_ns, steady_ns

    def heard(self, now_ns: int, stations: Mapping[str, Mapping[str, Any]]) -> int | None:
        """The watermark by the states of NET.STA.LOC.BI; None if no picker says anything."""
        through: list[int] = [
            state["through_ns"]
            for name, state in stations.items()
            if tuple(name.split(".")[:2]) in self._codes
            and _is_time(state.get("through_ns"))
            and _is_time(state.get("time_ns"))
            and abs(now_ns - state["time_ns"]) < BEAT_LIFE_S * NS_PER_S
        ]
        if not through:
            return None
        awaited = [each for each in through if each > max(through) - self._hold_ns]
        self.held_back = len(through) - len(awaited)
        return min(awaited)

    def unheard(self, steady_ns: int) -> int:
        """The watermark without heartbeats; time goes on where nothing is published."""
        if self._newest_made_ns == NEVER_NS:
            return NEVER_NS
        return self._newest_made_ns + (steady_ns - self._newest_at_ns) - self._unheard_ns


def _is_time(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
