"""Many files -> their data by time, as a network would have sent them, in long runs.

Files are read twice: once, the headers only, to learn when each begins and whether it is in order;
then while the time passes through them. A file in order (an SDS day file) costs the memory of a
cell; one that holds its channels one after the other is held as a whole.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.archive import Reject, read_extents, read_records
from streamer.waveforms.records import Record
from streamer.waveforms.ring import grid_place


@dataclass
class FileSpan:
    """What the first reading of one file found; `end_ns` and `start_ns` are UTC."""

    path: Path
    start_ns: int
    end_ns: int
    in_order: bool = True
    channels: set[Nslc] = field(default_factory=set)


def survey(
    paths: Iterable[str | Path],
    on_reject: Reject | None = None,
    on_file: Callable[[Path], None] | None = None,
) -> list[FileSpan]:
    """The first reading: spans of all files with waveforms by start time.

    Raises as `read_archive`.
    """
    spans: dict[Path, FileSpan] = {}
    latest_ns = 0
    for path, (nslc, start_ns, end_ns) in read_extents(paths, on_reject):
        span = spans.get(path)
        if span is None:
            if on_file:
                on_file(path)
            span = spans[path] = FileSpan(path, start_ns, end_ns)
            latest_ns = start_ns
        span.in_order &= start_ns >= latest_ns
        latest_ns = start_ns
        span.start_ns = min(span.start_ns, start_ns)
        span.end_ns = max(span.end_ns, end_ns)
        span.channels.add(nslc)
    return sorted(spans.values(), key=lambda span: (span.start_ns, str(span.path)))


def by_cells(
    spans: Iterable[FileSpan], cell_s: int, on_reject: Reject | None = None
) -> Iterator[tuple[int, list[Record]]]:
    """The data of the surveyed files, cell of time by cell: (its end, UTC ns; runs).

    Cells are `cell_s` seconds of the absolute grid. In one, each channel has its data by time, and
    records that continue each other are one run. What `records` has nothing of is left out.
    """
    cell_ns = cell_s * NS_PER_S
    waiting = sorted(spans, key=lambda span: (span.start_ns, str(span.path)), reverse=True)
    sources: list[_Source] = []
    while sources or waiting:
        starts = [source.start_ns for source in sources]
        starts += [waiting[-1].start_ns] if waiting else []
        end_ns = (min(starts) // cell_ns + 1) * cell_ns
        while waiting and waiting[-1].start_ns < end_ns:
            sources.append(_Source(_records(waiting.pop(), on_reject)))
        records = [record for source in sources for record in source.take(end_ns)]
        sources = [source for source in sources if source.more]
        if records:
            yield end_ns, list(_runs(records))


class _Source:
    """The records of one file, as far as they are needed."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self._next = next(records, None)
        self._rests: list[Record] = []  # of records that go on beyond what was taken

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._next is not None or bool(self._rests)

    @property
    def start_ns(self) -> int:
        """Where what is left begins."""
        left = [*self._rests, *([self._next] if self._next else [])]
        return min(record.start_ns for record in left)

    def take(self, end_ns: int) -> Iterator[Record]:
        """What lies before `end_ns`."""
        rests, self._rests = self._rests, []
        for record in rests:
            yield from self._before(record, end_ns)
        while self._next is not None and self._next.start_ns < end_ns:
            yield from self._before(self._next, end_ns)
            self._next = next(self._records, None)

    def _before(self, record: Record, end_ns: int) -> Iterator[Record]:
        if record.end_ns <= end_ns:
            yield record
            return
        before, rest = record.cut(end_ns)
        if before is not None:
            yield before
        if rest is not None:
            self._rests.append(rest)


def _records(span: FileSpan, on_reject: Reject | None) -> Iterator[Record]:
    records = read_records(span.path, on_reject)
    return records if span.in_order else iter(sorted(records, key=lambda each: each.start_ns))


def _runs(records: list[Record]) -> Iterator[Record]:
    """Records, joined where one continues the other on the grid with the same clock offset."""
    channels: dict[Nslc, list[Record]] = defaultdict(list)
    for record in records:
        channels[record.nslc].append(record)
    for channel in channels.values():
        channel.sort(key=lambda record: record.start_ns)
        parts: list[Record] = []
        expected = None
        for record in channel:
            index, offset_ms = grid_place(record.start_ns, record.rate)
            kind = record.rate, record.samples.dtype, record.flags, record.timing_quality, offset_ms
            if parts and (kind, index) != expected:
                yield _joined(parts)
                parts = []
            parts.append(record)
            expected = kind, index + len(record.samples)
        yield _joined(parts)


def _joined(parts: list[Record]) -> Record:
    if len(parts) == 1:
        return parts[0]
    return replace(parts[0], samples=np.concatenate([part.samples for part in parts]))
