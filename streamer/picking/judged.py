"""How far the picks of an instrument are published: where a restart goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from model.onsets import Onset
from streamer.picks import Pick
from streamer.timebase import NS_PER_S

# Beyond what the network remembers: the onset rule, previews, and room for doubt.
EXTRA_BLOCKS = 30

# Nothing that the daemon asks for again reaches back so far: what does is another recording.
LONGEST_REBUILD_NS = 3600 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All messages that the blocks up to `time_ns` give were made; none of later ones was.

    A track that begins with earlier data takes these blocks again to know what it knew, but its
    messages are not published again. `flushed_ns`: where the last picks were given out without what
    follows them, if ever; to be done again at the same place. `settled`, `free_from`, `published`,
    `vacated`, `provisional`: of the track and its detector, as they were (sample indices at
    `rate`).
    """

    time_ns: int
    rate: str
    flushed_ns: int | None = None
    settled: tuple[float, ...] = ()
    free_from: tuple[int, ...] = ()
    published: tuple[tuple[int, float], ...] = ()
    vacated: tuple[tuple[str, float], ...] = ()
    provisional: tuple[tuple[Onset, Pick], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For a file; what is empty is left out."""
        values: dict[str, Any] = {"time_ns": self.time_ns, "rate": self.rate}
        if self.flushed_ns is not None:
            values["flushed_ns"] = self.flushed_ns
        if any(index > -inf for index in self.settled):
            values["settled"] = [None if index == -inf else index for index in self.settled]
        if self.free_from:
            values["free_from"] = list(self.free_from)
        if self.published:
            values["published"] = [list(each) for each in self.published]
        if self.vacated:
            values["vacated"] = [list(each) for each in self.vacated]
        if self.provisional:
            values["provisional"] = [
                [onset.phase, onset.index, onset.probability, pick.to_fields()]
                for onset, pick in self.provisional
            ]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Judged":
        """Inverse of `to_json`. Raises DataError, KeyError, TypeError or ValueError."""
        flushed_ns = values.get("flushed_ns")
        return cls(
            time_ns=int(values["time_ns"]),
            rate=str(values["rate"]),
            flushed_ns=None if flushed_ns is None else int(flushed_ns),
            settled=tuple(
                -inf if index is None else float(index) for index in values.get("settled", ())
            ),
            free_from=tuple(map(int, values.get("free_from", ()))),
            published=tuple(
                (int(phase), float(index)) for phase, index in values.get("published", ())
            ),
            vacated=tuple((str(name), float(index)) for name, index in values.get("vacated", ())),
            provisional=tuple(
                (Onset(int(phase), float(index), float(probability)), Pick.from_fields(fields))
                for phase, index, probability, fields in values.get("provisional", ())
            ),
        )
