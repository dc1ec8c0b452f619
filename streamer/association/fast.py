"""Preliminary events, pick by pick as they come: the fast one of two speeds.

A pick that an open event predicts joins it; a P pick that none predicts starts a search among the
picks that no event has, with the kernels of the profile `best`. What passes the least numbers and
odds is published; what does not yet is kept and grows. The settled result decides in the end.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.association import best_kernels as kernels
from streamer.association.best import FROM_EVENT, FROM_NODE, SURE_SIGMA, Best, Odds
from streamer.association.best_kernels import FREE, TAKEN, WIDEST_SIGMA, Picks
from streamer.association.geodesy import Floats
from streamer.association.network import Network
from streamer.association.parameters import BestParameters
from streamer.association.pickfiles import PHASES, PickRow
from streamer.association.store import StoredPick
from streamer.timebase import NS_PER_S

# Fewer picks than this are no event in the making.
LEAST_SEEDS = 4
MOST_OPEN = 256
# A pick that an event predicts within SURE_SIGMA joins it without a new fit, until such picks are
# this share of all that it has.
UNFITTED_SHARE = 1 / 4
ROOM = 1024
# The mean probability of picks, per phase, follows them by this share of each.
MEAN_SHARE, FIRST_MEAN = 0.01, 0.5


@dataclass(slots=True)
class Open:
    """An event in the making: origin (s after the epoch), gain, ids of its picks.

    `enough`: passes all rules; `stands`: may stay once it is published; `told`: number of picks,
    lat, lon, depth_km when it was; arrivals it predicts [phase, station], with their sigma;
    `unfitted`: how many of the picks joined since the origin was fitted.
    """

    origin: Floats
    gain: float
    picks: list[str]
    arrival_s: Floats
    sigma_s: Floats
    begins_s: float = 0.0
    enough: bool = False
    stands: bool = False
    told: tuple[int, float, float, float] | None = None
    unfitted: int = 0


Path = tuple[int, int]  # phase and station


class _Buffer:
    """The picks of late, sorted by path and time, with what the kernels need of each."""

    def __init__(self, n_stations: int) -> None:
        self.n_stations = n_stations
        self.names: list[str] = []
        self.starts = np.zeros((2, n_stations + 1), np.int64)
        # More room than there are picks: one that is inserted moves only those behind it.
        self._times_s, self._value = np.empty(ROOM), np.empty(ROOM)
        self._owner = np.empty(ROOM, np.int64)

    @property
    def times_s(self) -> Floats:
        """Times [pick], ascending within a path."""
        return self._times_s[: len(self.names)]

    @property
    def owner(self) -> kernels.Ints:
        """Numbers of open events [pick]."""
        return self._owner[: len(self.names)]

    def picks(self, alive: kernels.Flags) -> Picks:
        n = len(self.names)
        return Picks(self._times_s[:n], self._value[:n], self._owner[:n], self.starts, alive)

    def insert(self, path: Path, t_s: float, value: float, name: str) -> int:
        if len(self.names) == len(self._times_s):
            self._grow()
        at = kernels.insert(self._times_s, self._value, self._owner, self.starts, *path, t_s, value)
        self.names.insert(at, name)
        return at

    def find(self, path: Path, t_s: float, name: str) -> int | None:
        first, end = self._range(path)
        at = bisect_left(self._times_s, t_s, first, end)
        while at < end and self._times_s[at] == t_s:
            if self.names[at] == name:
                return at
            at += 1
        return None

    def remove(self, path: Path, at: int) -> None:
        n = len(self.names)
        for column in (self._times_s, self._value, self._owner):
            column[at : n - 1] = column[at + 1 : n]
        del self.names[at]
        phase, station = path
        self.starts[phase, station + 1 :] -= 1
        self.starts[phase + 1 :] -= 1

    def count(self, path: Path, early_s: float, late_s: float) -> int:
        first, end = self._range(path)
        low = bisect_left(self._times_s, early_s, first, end)
        return bisect_left(self._times_s, late_s, low, end) - low

    def prune(self, before_s: float) -> list[str]:
        """Drop what is older; its names."""
        n = len(self.names)
        keep = self.times_s >= before_s
        dropped = [name for name, kept in zip(self.names, keep, strict=True) if not kept]
        before = np.concatenate([[0], np.cumsum(keep)])
        self.starts[:] = before[self.starts]
        for column in (self._times_s, self._value, self._owner):
            column[: n - len(dropped)] = column[:n][keep]
        self.names = [name for name, kept in zip(self.names, keep, strict=True) if kept]
        return dropped

    def _range(self, path: Path) -> tuple[int, int]:
        phase, station = path
        return int(self.starts[phase, station]), int(self.starts[phase, station + 1])

    def _grow(self) -> None:
        more = np.zeros(len(self._times_s))
        self._times_s = np.concatenate([self._times_s, more])
        self._value = np.concatenate([self._value, more])
        self._owner = np.concatenate([self._owner, more.astype(np.int64)])


class Fast:
    """Open events of one network. `epoch_ns` is where its seconds begin; errors may be set anew."""

    def __init__(
        self, network: Network, rules: BestParameters, epoch_ns: int, like: Best | None
    ) -> None:
        self.network = network
        self.epoch_ns = epoch_ns
        self.best = Best(network, rules, like)
        self.open: dict[int, Open] = {}
        self.means = [FIRST_MEAN, FIRST_MEAN]
        self.newest_s = 0.0
        self.next_number = 0
        self.rows: dict[str, tuple[PickRow, float]] = {}
        self._p_times_s: list[float] = []
        self._buffer = _Buffer(len(network.stations))
        self._odds = Odds(rules.least_gain, self.best.odds_span_s, self._p_times_s)
        self._counted_from_s = -math.inf
        # P picks count for the odds of events as old as this.
        self._p_span_s = 2 * self.best.odds_span_s + self.best.reach_s
        self._alive = np.ones(len(network.stations), np.bool_)
        self.keep_s = self.best.rate_span_s + 2 * self.best.reach_s

    def seconds(self, t_ns: int) -> float:
        """Seconds after the epoch."""
        return (t_ns - self.epoch_ns) / NS_PER_S

    @property
    def newest_ns(self) -> int:
        """Time of the newest pick, POSIX ns."""
        return self.epoch_ns + math.floor(self.newest_s * NS_PER_S)

    def is_late(self, t_ns: int) -> bool:
        """Whether a pick is too old for events in the making."""
        return self.seconds(t_ns) < self.newest_s - self.best.reach_s

    def new_value(self, row: PickRow) -> float:
        """What a pick of its probability is worth at a station with its rate of picks."""
        phase = PHASES.index(row.phase)
        probability = min(max(row.prob, 0.05), 1.0)
        self.means[phase] += MEAN_SHARE * (probability - self.means[phase])
        t_s, span_s = self.seconds(row.t_ns), self.best.rate_span_s
        near = 1 + self._buffer.count(self._path(row), t_s - span_s, t_s + span_s)
        return math.log(probability / self.means[phase]) - math.log(near / (2 * span_s))

    def insert(self, row: PickRow, value: float) -> int:
        """Put a pick among the others, without looking at it; its place."""
        t_s = self.seconds(row.t_ns)
        self.rows[row.id] = row, value
        if row.phase == "P":
            insort(self._p_times_s, t_s)
        self.newest_s = max(self.newest_s, t_s)
        return self._buffer.insert(self._path(row), t_s, value, row.id)

    def look(self, row: PickRow, at: int) -> list[int]:
        """What the pick changes: numbers of the open events that it joined, or the one it began."""
        number = self._joined(row, at)
        if number is not None:
            return [number]
        if row.phase != "P" or len(self.open) >= MOST_OPEN:
            return []
        return self._begin(row)

    def remove(self, name: str) -> list[int]:
        """Take a pick back; numbers of the open events that change by it."""
        row, _ = self.rows.pop(name)
        t_s = self.seconds(row.t_ns)
        at = self._buffer.find(self._path(row), t_s, name)
        if at is None:
            return []
        owner = int(self._buffer.owner[at])
        self._buffer.remove(self._path(row), at)
        if row.phase == "P":
            del self._p_times_s[bisect_left(self._p_times_s, t_s)]
        if owner not in self.open:
            return []
        self._refined(owner)
        return [owner]

    def close(self, number: int) -> None:
        """Forget an open event; its picks are free."""
        self._buffer.owner[self._buffer.owner == number] = FREE
        del self.open[number]

    def prune(self) -> None:
        """Forget what is too old to matter."""
        for number, event in list(self.open.items()):
            if event.told is None and event.origin[0] < self.newest_s - 2 * self.best.reach_s:
                self.close(number)
        for name in self._buffer.prune(self.newest_s - self.keep_s):
            del self.rows[name]
        self._counted_from_s = self.newest_s - self._p_span_s
        del self._p_times_s[: bisect_left(self._p_times_s, self._counted_from_s)]
        self._odds.forget(self._counted_from_s)

    def count(self, t_ns: int, *, gone: bool = False) -> None:
        """An event was published, or is no longer, for the odds of others."""
        origin_s = self.seconds(t_ns)
        if origin_s < self._counted_from_s:
            return
        if gone:
            self._odds.remove(origin_s)
        else:
            self._odds.add(origin_s)

    def dump(self) -> dict[str, Any]:
        """The state besides the picks, for JSON; numbers come back exactly."""
        return {
            "epoch_ns": self.epoch_ns,
            "since_ns": self.epoch_ns + math.floor((self.newest_s - self._p_span_s) * NS_PER_S),
            "means": self.means,
            "newest_s": self.newest_s,
            "next_number": self.next_number,
            "counted_from_s": self._counted_from_s,
            "open": {
                str(number): {
                    "origin": event.origin.tolist(),
                    "gain": event.gain,
                    "picks": event.picks,
                    "arrival_s": event.arrival_s.tolist(),
                    "sigma_s": event.sigma_s.tolist(),
                    "begins_s": event.begins_s,
                    "enough": event.enough,
                    "stands": event.stands,
                    "told": event.told,
                    "unfitted": event.unfitted,
                }
                for number, event in self.open.items()
            },
        }

    def load(self, state: Mapping[str, Any], picks: Iterable[StoredPick]) -> None:
        """Go on from a state and the picks in use."""
        for pick in sorted(picks, key=lambda pick: (pick.row.t_ns, pick.row.id)):
            if pick.value is not None:
                self.insert(pick.row, pick.value)
        self.means, self.newest_s = state["means"], state["newest_s"]
        self.next_number = state["next_number"]
        self._counted_from_s = state["counted_from_s"]
        self._odds.forget(self._counted_from_s)
        for number, event in state["open"].items():
            arrays = {name: np.array(event[name]) for name in ("origin", "arrival_s", "sigma_s")}
            told = None if event["told"] is None else tuple(event["told"])
            self.open[int(number)] = Open(**event | arrays | {"told": told})
            self._own(int(number), event["picks"])

    def take(self, names: Iterable[str]) -> None:
        """These picks have a settled event."""
        self._own(TAKEN, names)

    def _own(self, owner: int, names: Iterable[str]) -> None:
        for name in names:
            if name in self.rows:
                row, _ = self.rows[name]
                at = self._buffer.find(self._path(row), self.seconds(row.t_ns), name)
                if at is not None:
                    self._buffer.owner[at] = owner

    def _path(self, row: PickRow) -> Path:
        return PHASES.index(row.phase), self.network.index[row.code]

    def _empty(self) -> tuple[Floats, Floats]:
        shape = 2, len(self.network.stations)
        return np.full(shape, np.inf), np.ones(shape)

    def _joined(self, row: PickRow, at: int) -> int | None:
        """The open event that predicts the pick best, if it makes use of it."""
        phase, station = PHASES.index(row.phase), self.network.index[row.code]
        t_s = self.seconds(row.t_ns)
        for off, number in self._predicted(phase, station, t_s):
            event = self.open[number]
            if off < SURE_SIGMA and self._needs_no_fit(event, row):
                self._buffer.owner[at] = number
                event.picks.append(row.id)
                event.unfitted += 1
                return number
            self._refined(number)
            if row.id in event.picks:
                return number
        return None

    def _needs_no_fit(self, event: Open, row: PickRow) -> bool:
        """Whether one more pick changes little, and the event has none of its path."""
        if not event.enough or event.unfitted + 1 > UNFITTED_SHARE * len(event.picks):
            return False
        others = (self.rows[name][0] for name in event.picks)
        return all(one.code != row.code or one.phase != row.phase for one in others)

    def _predicted(self, phase: int, station: int, t_s: float) -> list[tuple[float, int]]:
        near = []
        for number, event in self.open.items():
            if not event.begins_s < t_s < event.begins_s + self.best.reach_s:
                continue
            off = abs(t_s - event.arrival_s[phase, station]) / event.sigma_s[phase, station]
            if off < WIDEST_SIGMA:
                near.append((off, number))
        return sorted(near)

    def _begin(self, row: PickRow) -> list[int]:
        station = self.network.index[row.code]
        origin = self.best.search(self._picks(), station, self.seconds(row.t_ns))
        if origin is None:
            return []
        gain = self.best.refine(origin, FROM_NODE, self._picks(), FREE)
        n_p, n_s, _ = kernels.numbers(self.best.fit.used)
        if gain < 0 or n_p + n_s < LEAST_SEEDS:
            return []
        number = self.next_number
        self.next_number += 1
        self.open[number] = Open(origin, gain, [], *self._empty())
        self._keep_fit(number, origin, gain)
        return [number]

    def _refined(self, number: int) -> None:
        event = self.open[number]
        origin = event.origin.copy()
        gain = self.best.refine(origin, FROM_EVENT, self._picks(), number)
        self._keep_fit(number, origin, gain)

    def _keep_fit(self, number: int, origin: Floats, gain: float) -> None:
        """Make what was just refined the state of an open event."""
        event, fit, errors = self.open[number], self.best.fit, self.best.errors
        kernels.own(self._buffer.owner, number, fit)
        event.origin, event.gain, event.begins_s = origin, gain, float(origin[0])
        event.picks = [self._buffer.names[j] for j in fit.chosen[fit.used].tolist()]
        event.arrival_s = origin[0] + fit.travel_s + errors.static_s
        event.sigma_s = fit.sigma_s.copy()
        has_enough = self.best.has_enough(origin)
        event.enough = has_enough and gain >= self._odds.least_gain(float(origin[0]))
        event.stands = has_enough and gain >= 0
        event.unfitted = 0

    def _picks(self) -> Picks:
        return self._buffer.picks(self._alive)
