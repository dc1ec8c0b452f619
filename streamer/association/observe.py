"""What can be asked of a running association worker: metrics and readiness."""

from collections.abc import Callable, Collection, Mapping

from streamer.association.share import Share
from streamer.metrics import Reading
from streamer.reload import Reloads
from streamer.timebase import NS_PER_S

# What became of the picks that were read, by the counters of the worker.
_PICKS = {
    "taken": "picks",
    "duplicate": "duplicates",
    "future": "picks_future",
    "too_old": "picks_too_old",
    "late": "picks_late",
    "unknown_station": "picks_of_unknown_stations",
    "crowded": "picks_crowded",
}
_EVENTS = "events_"
# Picks come every few seconds at the latest where stations are alive: a worker this far behind the
# clock of its watermark waits for something.
_STALLED_S = 300.0


class WorkerObserver:
    """Reads what a worker counts and keeps anyway; may be asked beside the event loop."""

    def __init__(
        self,
        counts: Callable[[], Mapping[str, int]],
        watermark_age_s: Callable[[], float | None],
        shares: Callable[[], Mapping[tuple[str, str], Share]],
        collapsed: Callable[[], Collection[tuple[str, str]]],
        lag: Callable[[], int | None],
        reloads: Reloads,
    ) -> None:
        self._counts = counts
        self._watermark_age_s = watermark_age_s
        self._shares = shares
        self._collapsed = collapsed
        self._lag = lag
        self._reloads = reloads

    def why_not_ready(self) -> str | None:
        """What keeps events from coming; None if nothing does."""
        age_s = self._watermark_age_s()
        if age_s is None:
            return "nothing has been heard of any picker"
        return f"picks are complete up to {age_s:.0f} s ago only" if age_s > _STALLED_S else None

    def read(self) -> Reading:
        """All series with their present values."""
        counts, age_s, lag = self._counts(), self._watermark_age_s(), self._lag()
        picks: dict[tuple[str, ...], float] = {
            (result,): float(counts.get(name, 0)) for result, name in _PICKS.items()
        }
        events: dict[tuple[str, ...], float] = {
            (name.removeprefix(_EVENTS),): float(count)
            for name, count in counts.items()
            if name.startswith(_EVENTS)
        }
        shares: dict[tuple[str, ...], float] = {
            (*station.split("."), phase): share.share_1h
            for (station, phase), share in self._shares().items()
            if share.share_1h is not None
        }
        collapsed = self._collapsed()
        return {
            "msnet_association_picks_total": picks,
            "msnet_events_total": events,
            "msnet_dead_letters_total": float(counts.get("dead_letters", 0)),
            "msnet_station_rsv_ratio": shares,
            **self._reloads.reading(),
            "msnet_station_rsv_collapsed": {
                (*station.split("."), phase): float((station, phase) in collapsed)
                for station, phase in self._shares()
            },
            **({} if age_s is None else {"msnet_association_watermark_age_seconds": age_s}),
            **({} if lag is None else {"msnet_stream_lag": {("assoc",): float(lag)}}),
        }


def age_s(watermark_ns: int, now_ns: int) -> float | None:
    """How far behind the clock a watermark is, s; None before there is one."""
    return (now_ns - watermark_ns) / NS_PER_S if watermark_ns > 0 else None
