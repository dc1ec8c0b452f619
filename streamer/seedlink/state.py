"""How far each station has been taken from each server, and how far that is safe.

Some servers number the packets of all stations together and go on at the newest number they are
given, others number each station separately. One cut of the order of arrival serves both: all
packets before it are needed no more, and those behind it are asked for again after a restart.
"""

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamer.timebase import NS_PER_S

LEAST_EPOCH_NS = NS_PER_S // 10
# The cut is up to this share too early. An epoch that is as long as a share of all that is held
# keeps the number of epochs small, however long the cut stands still.
EPOCH_SHARE = 16

_WRAP_V3 = 1 << 24


@dataclass(frozen=True, slots=True)
class Position:
    """The last packet taken of a station of one server.

    `sequence` is its number (-1 before a packet numbered 0), None if the server counts anew since;
    `time_ns` the start of its record (UTC ns), None if it has none.
    """

    sequence: int | None
    time_ns: int | None


Positions = Mapping[str, Mapping[str, Position]]  # by server, by station


class Need(NamedTuple):
    """What a restart needs of the data of one source.

    `from_ns`: all that ends later. Unless it `holds`, the cut goes on without it: no more can come
    of these data, and only the position of its own station stays.
    """

    from_ns: int
    holds: bool


@dataclass(slots=True)
class _Epoch:
    """Packets of one server that arrived one after the other; the last one had number `newest`.

    `started` is when the server did, by which its numbers are known.
    `last`: number and start time of the last one, by station. `ends`: the end of the data (UTC ns),
    by source.
    """

    server: str
    started: str
    begun_ns: int
    closes_ns: int
    newest: int | None = None
    last: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    ends: dict[Hashable, int] = field(default_factory=dict)


class Ledger:
    """The order of arrival, in epochs. Costs a few hundred bytes per epoch and station.

    A source is what needs data: an instrument. `positions` are those that were resumed from, of
    servers that had `started` then.
    """

    def __init__(self, positions: Positions, started: Mapping[str, str]) -> None:
        self._epochs: deque[_Epoch] = deque()
        self._cut = {server: dict(stations) for server, stations in positions.items()}
        self.started = dict(started)  # of the packets before the cut, by server
        self._newest: dict[str, int] = {}  # the last number before the cut, by server
        # Of stations without a packet before the cut: what to ask for to get their first one.
        self._before_first: dict[str, dict[str, Position]] = {}
        self._station_of: dict[Hashable, str] = {}

    @property
    def epochs(self) -> int:
        """Epochs behind the cut."""
        return len(self._epochs)

    def note(
        self,
        server: str,
        station: str,
        sequence: int | None,
        time_ns: int | None,
        received_ns: int,
        started: str = "",
    ) -> None:
        """A packet was taken, whatever it held; one without a number has no position."""
        epoch = self._epochs[-1] if self._epochs else None
        if (
            epoch is None
            or not epoch.begun_ns <= received_ns < epoch.closes_ns
            or epoch.server != server
            or epoch.started != started
        ):
            epoch = self._open(server, started, received_ns)
        if sequence is not None:
            if station not in epoch.last:
                self._note_first(server, station, sequence, time_ns)
            epoch.last[station] = sequence, time_ns
            epoch.newest = sequence

    def note_data(self, source: Hashable, station: str, end_ns: int) -> None:
        """The packet noted last held data of `source` up to `end_ns`."""
        ends = self._epochs[-1].ends
        known_ns = ends.get(source)
        if known_ns is None:
            self._station_of[source] = station
        if known_ns is None or known_ns < end_ns:
            ends[source] = end_ns

    def advance(self, need: Callable[[Any], Need | None]) -> None:
        """Move the cut over what is needed no more; `need` is None for a source that needs nothing.

        `need` is asked once per source of each epoch that is looked at.
        """
        while self._epochs:
            held: set[str] = set()  # stations of which something is still needed
            for source, end_ns in self._epochs[0].ends.items():
                needed = need(source)
                if needed is None or end_ns <= needed.from_ns:
                    continue
                if needed.holds:
                    return
                held.add(self._station_of[source])
            self._move_over(self._epochs.popleft(), held)

    def positions(self) -> dict[str, dict[str, Position]]:
        """Where to go on after a restart, by server and station."""
        found = {server: dict(stations) for server, stations in self._cut.items()}
        for server, stations in self._before_first.items():
            newest = self._newest[server]
            for station, before in stations.items():
                # Where all stations are numbered together, a newer number would skip packets of
                # the others; elsewhere an older one costs nothing.
                sequence = before.sequence
                if sequence is not None and _is_before(newest, sequence):
                    sequence = newest
                found.setdefault(server, {})[station] = Position(sequence, before.time_ns)
        return found

    def _open(self, server: str, started: str, received_ns: int) -> _Epoch:
        held_ns = received_ns - self._epochs[0].begun_ns if self._epochs else 0
        length_ns = max(LEAST_EPOCH_NS, held_ns // EPOCH_SHARE)
        self._epochs.append(_Epoch(server, started, received_ns, received_ns + length_ns))
        return self._epochs[-1]

    def _note_first(self, server: str, station: str, sequence: int, time_ns: int | None) -> None:
        before = Position(sequence - 1, time_ns)
        self._newest.setdefault(server, sequence - 1)
        if station not in self._cut.get(server, {}):
            self._before_first.setdefault(server, {}).setdefault(station, before)

    def _move_over(self, epoch: _Epoch, held: set[str]) -> None:
        cut = self._cut.setdefault(epoch.server, {})
        if epoch.started != self.started.get(epoch.server, epoch.started):
            for station, position in cut.items():
                cut[station] = Position(None, position.time_ns)
        self.started[epoch.server] = epoch.started
        waiting = self._before_first.get(epoch.server, {})
        for station, (sequence, time_ns) in epoch.last.items():
            if station not in held:
                cut[station] = Position(sequence, time_ns)
                waiting.pop(station, None)
        if epoch.newest is not None:
            self._newest[epoch.server] = epoch.newest


def _is_before(a: int, b: int) -> bool:
    """Whether number `a` comes before `b`, across the wrap of SeedLink 3 if both may be of it."""
    if max(a, b) < _WRAP_V3:
        return 0 < (b - a) % _WRAP_V3 < _WRAP_V3 // 2
    return a < b
