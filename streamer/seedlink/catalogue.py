"""The records of a replay in the order of their release, and what INFO says about them.

A record is released when its last sample would have been taken: records are ordered by end time and
numbered in that order, one counter for all stations, so that the numbers of a station increase.
The numbers are a property of the archive: a restarted server gives every record the same one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from streamer.seedid import Nslc
from streamer.seedlink.info import StationInfo, StreamInfo
from streamer.seedlink.protocol import RECORD_BYTES, shift_record
from streamer.timebase import NS_PER_S

# Records of one channel this far apart still follow each other: INFO GAPS leaves out clock jitter.
_GAP_NS = 15_000_000


class ArchiveRecord(Protocol):
    """What the server needs to know of a record: codes, half-open limits in UTC ns, 512 bytes."""

    @property
    def nslc(self) -> Nslc: ...  # noqa: D102

    @property
    def start_ns(self) -> int: ...  # noqa: D102

    @property
    def end_ns(self) -> int: ...  # noqa: D102

    @property
    def data(self) -> bytes: ...  # noqa: D102


@dataclass(slots=True)
class _Channel:
    """Positions of the records of one channel, and its gaps as (position behind, begin, end)."""

    nslc: Nslc
    positions: list[int] = field(default_factory=list)
    gaps: list[tuple[int, int, int]] = field(default_factory=list)


class Catalogue:
    """Immutable list of records by position 0, 1, ... in order of release.

    `shift_s` is the only thing that may be set later: all times given out lie that much later.
    """

    def __init__(self, records: Iterable[ArchiveRecord], first_sequence: int = 1) -> None:
        """Raises ValueError: no records, or one that has not 512 bytes."""
        self._records = sorted(records, key=lambda record: record.end_ns)
        if not self._records:
            raise ValueError("nothing to replay: no records")
        wrong = next((r for r in self._records if len(r.data) != RECORD_BYTES), None)
        if wrong is not None:
            raise ValueError(f"record of {wrong.nslc} has {len(wrong.data)} bytes, not 512")
        self.first_sequence = first_sequence
        self.shift_s = 0
        self._ends_ns = [record.end_ns for record in self._records]
        self._start_ns = min(record.start_ns for record in self._records)
        self._stations: dict[str, dict[Nslc, _Channel]] = {}
        for position, record in enumerate(self._records):
            self._enter(position, record)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def start_ns(self) -> int:
        """Time of the first sample of all, as given out."""
        return self._start_ns + self._shift_ns

    @property
    def end_ns(self) -> int:
        """Time just after the last sample of all, as given out."""
        return self._ends_ns[-1] + self._shift_ns

    @property
    def station_ids(self) -> list[str]:
        """All `NET_STA`, sorted."""
        return sorted(self._stations)

    def shift_to(self, now_ns: int) -> None:
        """Let the archive start at `now_ns`, to the whole second below."""
        self.shift_s = (now_ns - self._start_ns) // NS_PER_S

    def nslc(self, position: int) -> Nslc:
        """Channel of a record."""
        return self._records[position].nslc

    def limits_ns(self, position: int) -> tuple[int, int]:
        """(start, end) of a record, as given out, ns."""
        record = self._records[position]
        return record.start_ns + self._shift_ns, record.end_ns + self._shift_ns

    def data(self, position: int) -> bytes:
        """The bytes of a record, as given out."""
        data = self._records[position].data
        return shift_record(data, self.shift_s) if self.shift_s else data

    def sequence(self, position: int) -> int:
        """Sequence number of a record."""
        return self.first_sequence + position

    def due(self, elapsed_ns: int) -> int:
        """How many records have ended `elapsed_ns` after the start of the archive."""
        return bisect_right(self._ends_ns, self._start_ns + elapsed_ns)

    def due_after_ns(self, position: int) -> int:
        """How long after the start of the archive a record ends, ns."""
        return self._ends_ns[position] - self._start_ns

    def stations(self, released: int) -> list[StationInfo]:
        """What INFO tells of all stations when the first `released` records are out.

        A station or channel of which nothing is out yet is there, with an empty range.
        """
        return [self._station(name, self._stations[name], released) for name in self.station_ids]

    @property
    def _shift_ns(self) -> int:
        return self.shift_s * NS_PER_S

    def _enter(self, position: int, record: ArchiveRecord) -> None:
        name = f"{record.nslc.network}_{record.nslc.station}"
        channels = self._stations.setdefault(name, {})
        channel = channels.setdefault(record.nslc, _Channel(record.nslc))
        if channel.positions:
            last_end_ns = self._ends_ns[channel.positions[-1]]
            if record.start_ns - last_end_ns > _GAP_NS:
                channel.gaps.append((position, last_end_ns, record.start_ns))
        channel.positions.append(position)

    def _station(self, name: str, channels: dict[Nslc, _Channel], released: int) -> StationInfo:
        first = min(channel.positions[0] for channel in channels.values())
        end = first
        streams = []
        for nslc in sorted(channels):
            channel = channels[nslc]
            count = bisect_left(channel.positions, released)
            begin_ns = end_ns = self.limits_ns(channel.positions[0])[0]
            if count:
                end_ns = self.limits_ns(channel.positions[count - 1])[1]
                end = max(end, channel.positions[count - 1] + 1)
            gaps = [
                (gap_begin_ns + self._shift_ns, gap_end_ns + self._shift_ns)
                for position, gap_begin_ns, gap_end_ns in channel.gaps
                if position < released
            ]
            streams.append(StreamInfo(nslc, begin_ns, end_ns, gaps))
        network, _, station = name.partition("_")
        return StationInfo(network, station, self.sequence(first), self.sequence(end), streams)
