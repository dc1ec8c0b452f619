"""What was taken of whom: where to go on, what came twice, and the holes that servers leave.

Pure. The packets themselves are kept, and looked into only when a connection is made.
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TypeVar

from streamer.seedlink.packets import MAX_CHANNELS, Frame
from streamer.seedlink.requests import OVERLAP_NS, Standing
from streamer.seedlink.state import Position

# Records of each channel that are known again: a minute of the shortest in use (0.5 s), which is
# what requests by time bring twice. Less recent ones are known by their samples (`waveforms.ring`).
REMEMBERED_RECORDS = 2 * OVERLAP_NS // 1_000_000_000
# A channel that goes on within this after its last record has no hole: clocks jitter.
HOLE_NS = 100_000_000
# The record number at the head of miniSEED 2, which servers may change.
_NUMBER_BYTES = 8

Value = TypeVar("Value")
# Half-open limits (start, end) of a record, UTC ns; None if it is damaged.
Limits = Callable[[bytes], tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class Hole:
    """Time of a channel that no server sent: the end of its last record and the start of the next.

    Both in UTC ns.
    """

    key: bytes
    begin_ns: int
    end_ns: int


class Progress:
    """Of all servers and stations; `resume` as in `FeedConfig`."""

    def __init__(self, resume: Mapping[str, Mapping[str, Position]], limits: Limits) -> None:
        self._limits = limits
        self._standings = {
            server: {name: Standing(p.sequence, p.time_ns) for name, p in stations.items()}
            for server, stations in resume.items()
        }
        self._frames: dict[str, dict[str, Frame]] = {}  # newer than the standings
        self._asked_ns: dict[str, int] = {}  # when each station was asked for the first time
        self._records: dict[bytes, bytes] = {}  # the last of each channel
        self._seen: dict[bytes, dict[int, None]] = {}
        self._ends_ns: dict[bytes, int] = {}  # where channels ended that have not gone on yet

    def is_new(self, key: bytes, record: bytes) -> bool:
        """Whether this record of the channel `key` was not here before; from now on it was."""
        if key not in self._seen:
            _make_room(self._seen)
        seen = self._seen.setdefault(key, {})
        content = hash(record if record.startswith(b"MS") else record[_NUMBER_BYTES:])
        if content in seen:
            return False
        seen[content] = None
        if len(seen) > REMEMBERED_RECORDS:
            del seen[next(iter(seen))]
        return True

    def took(self, server: str, frame: Frame) -> None:
        """The packet has been handed on."""
        self._frames.setdefault(server, {})[frame.station] = frame

    def goes_on(self, key: bytes, record: bytes) -> Hole | None:
        """The hole between the last record of a channel before the connection and this first one.

        To be told of every record that is handed on.
        """
        if key not in self._records:
            _make_room(self._records)
        self._records[key] = record
        if not self._ends_ns:
            return None
        end_ns = self._ends_ns.pop(key, None)
        limits = self._limits(record) if end_ns is not None else None
        if end_ns is None or limits is None or limits[0] - end_ns <= HOLE_NS:
            return None
        return Hole(key, end_ns, limits[0])

    def asked(self, stations: Iterable[str], now_ns: int) -> None:
        """From `now_ns` on: where to go on with those that have sent nothing yet."""
        for station in stations:
            self._asked_ns.setdefault(station, now_ns)

    def begin(self, server: str) -> tuple[dict[str, Standing], bool]:
        """Where each station stands as a connection to `server` is made.

        Also whether another server has brought newer data, so that the numbers of this one would
        bring much of it again.
        """
        self._ends_ns = {
            key: limits[1]
            for key, record in self._records.items()
            if (limits := self._limits(record)) is not None
        }
        for each in list(self._frames):
            self._settle(each)
        own = self._standings.get(server, {})
        newest = dict(own)
        for other, standings in self._standings.items():
            for station, standing in standings.items() if other != server else ():
                known = newest.get(station, Standing(None, None))
                if (standing.time_ns or 0) > (known.time_ns or 0):
                    newest[station] = Standing(None, standing.time_ns)
        return newest | self._nothing_yet(newest), newest != own

    def _nothing_yet(self, standings: Mapping[str, Standing]) -> dict[str, Standing]:
        """Stations that have sent nothing: from when they were asked for, on the clock of the data.

        An archive that is replayed lies in the past.
        """
        times = [
            standing.time_ns for standing in standings.values() if standing.time_ns is not None
        ]
        if not times:
            return {}
        return {
            station: Standing(None, min(asked_ns, max(times)))
            for station, asked_ns in self._asked_ns.items()
            if station not in standings
        }

    def standings(self, server: str) -> Mapping[str, Standing]:
        """What this server itself has brought, as of the last `begin`."""
        return self._standings.get(server, {})

    def forget_numbers(self, server: str) -> None:
        """The server counts anew: its earlier numbers are only good for their times."""
        self._settle(server)
        self._standings[server] = {
            station: Standing(None, standing.time_ns)
            for station, standing in self._standings[server].items()
        }

    def _settle(self, server: str) -> None:
        """Look into the last packets."""
        standings = self._standings.setdefault(server, {})
        for station, frame in self._frames.pop(server, {}).items():
            limits = self._limits(frame.payload)
            standings[station] = Standing(frame.sequence, limits[0] if limits else None)


def _make_room(channels: MutableMapping[bytes, Value]) -> None:
    """A server can name channels without end: forget the first."""
    if len(channels) >= MAX_CHANNELS:
        del channels[next(iter(channels))]
