"""Many files -> one sequence of records by start time, as a network would have sent them.

Files are read twice: once to learn when each begins and whether it is in order, then only while the
sequence passes through them. A file in order (an SDS day file) costs one record of memory; one that
holds its channels one after the other is sorted in memory.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from streamer.seedid import Nslc
from streamer.waveforms.archive import Reject, read_archive, read_records
from streamer.waveforms.records import PIECE_S, Record


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
    for path, record in read_archive(paths, on_reject):
        span = spans.get(path)
        if span is None:
            if on_file:
                on_file(path)
            span = spans[path] = FileSpan(path, record.start_ns, record.end_ns)
            latest_ns = record.start_ns
        for piece in record.pieces(PIECE_S):
            span.in_order &= piece.start_ns >= latest_ns
            latest_ns = piece.start_ns
        span.start_ns = min(span.start_ns, record.start_ns)
        span.end_ns = max(span.end_ns, record.end_ns)
        span.channels.add(record.nslc)
    return sorted(spans.values(), key=lambda span: (span.start_ns, str(span.path)))


def in_time_order(spans: Iterable[FileSpan]) -> Iterator[Record]:
    """All records of the surveyed files by start time, in pieces of at most `PIECE_S`."""
    waiting = sorted(spans, key=lambda span: (span.start_ns, str(span.path)), reverse=True)
    number = count()
    heads: list[tuple[int, int, Record, Iterator[Record]]] = []

    def push(records: Iterator[Record]) -> None:
        record = next(records, None)
        if record is not None:
            heapq.heappush(heads, (record.start_ns, next(number), record, records))

    while heads or waiting:
        if waiting and (not heads or waiting[-1].start_ns <= heads[0][0]):
            push(_pieces(waiting.pop()))
        else:
            _, _, record, records = heapq.heappop(heads)
            yield record
            push(records)


def _pieces(span: FileSpan) -> Iterator[Record]:
    pieces = (
        piece
        for record in read_records(span.path, log_rejects=False)  # the survey told of them
        for piece in record.pieces(PIECE_S)
    )
    return pieces if span.in_order else iter(sorted(pieces, key=lambda piece: piece.start_ns))
