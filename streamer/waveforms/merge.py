"""Many files -> their data by time, as a network would have sent them, in long runs.

Files are read twice: once, the headers only, to learn when each begins and whether it is in order;
then while the time passes through them. A file in order (an SDS day file) costs the memory of a
cell; one that holds its channels one after the other is held as a whole. Stretches of records are
taken apart only where they run into others or over the end of a cell.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.archive import Reject, read_extents, read_stretches
from streamer.waveforms.records import Record, Stretch
from streamer.waveforms.ring import grid_place

Piece = Record | Stretch

_LARGE = 1 << 58  # as long as time x rate is less, `grid_place` can do with 64 bits


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
    for path, (nslc, start_ns, last_ns, end_ns) in read_extents(paths, on_reject):
        span = spans.get(path)
        if span is None:
            if on_file:
                on_file(path)
            span = spans[path] = FileSpan(path, start_ns, end_ns)
            latest_ns = start_ns
        span.in_order &= start_ns >= latest_ns
        latest_ns = last_ns
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
            span = waiting.pop()
            sources.append(_Source(read_stretches(span.path, on_reject), span.in_order))
        pieces = [piece for source in sources for piece in source.take(end_ns)]
        sources = [source for source in sources if source.more]
        if pieces:
            yield end_ns, list(_runs(pieces))


class _Source:
    """The data of one file, as far as they are needed."""

    def __init__(self, pieces: Iterator[Piece], in_order: bool) -> None:
        continuous = _continuous(pieces)
        self._later = enumerate(continuous if in_order else _apart(list(continuous)))
        self._ahead: list[tuple[int, int, Piece]] = []  # heap: start, place in the file, piece
        self._rests: list[Record] = []  # of records that go on beyond what was taken
        self._read_on(1 if in_order else None)

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return bool(self._ahead or self._rests)

    @property
    def start_ns(self) -> int:
        """Where what is left begins."""
        starts = [record.start_ns for record in self._rests]
        return min([*starts, self._ahead[0][0]] if self._ahead else starts)

    def take(self, end_ns: int) -> list[Piece]:
        """What lies before `end_ns`, by time."""
        begun: list[tuple[int, int, Piece]] = []
        while self._ahead and self._ahead[0][0] < end_ns:
            _, place, piece = heappop(self._ahead)
            if isinstance(piece, Stretch):
                parts, later = _split(piece, end_ns)
                begun += [(part.start_ns, place, part) for part in parts]
                if later is not None:
                    heappush(self._ahead, (later.start_ns, place, later))
            else:
                begun.append((piece.start_ns, place, piece))
            if not self._ahead:
                self._read_on()
        begun.sort(key=itemgetter(0, 1))
        taken: list[Piece] = []
        rests, self._rests = self._rests, []
        for piece in [*rests, *(piece for _, _, piece in begun)]:
            if isinstance(piece, Stretch) or piece.end_ns <= end_ns:
                taken.append(piece)
                continue
            before, rest = piece.cut(end_ns)
            taken += [before] if before is not None else []
            self._rests += [rest] if rest is not None else []
        return taken

    def _read_on(self, most: int | None = 1) -> None:
        for place, piece in islice(self._later, most):
            heappush(self._ahead, (piece.start_ns, place, piece))


def _continuous(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces; stretches in parts of which each record continues the last, as in `_runs`."""
    for piece in pieces:
        if isinstance(piece, Record):
            yield piece
            continue
        # Whole periods of the grid change nothing else; from the last one on, numbers stay small.
        period_ns = NS_PER_S * piece.rate.denominator
        starts_ns: Any = piece.starts_ns - piece.start_ns // period_ns * period_ns
        if int(starts_ns[-1]) * piece.rate.numerator >= _LARGE:
            starts_ns = starts_ns.astype(object)  # Python's integers do not overflow
        index, offset_ms = map(np.asarray, grid_place(starts_ns, piece.rate))
        goes_on = (np.diff(index) == np.diff(piece.bounds[:-1])) & (np.diff(offset_ms) == 0)
        edges = [0, *(np.flatnonzero(~goes_on) + 1).tolist(), len(index)]
        for first, stop in pairwise(edges):
            yield from (
                [piece.part(first, stop)] if stop - first > 1 else piece.part(first, stop).records()
            )


def _split(stretch: Stretch, end_ns: int) -> tuple[list[Piece], Stretch | None]:
    """What begins before `end_ns`, where it goes on beyond it record by record; and the rest."""
    begun = int(stretch.starts_ns.searchsorted(end_ns))
    later = stretch.part(begun, len(stretch.starts_ns)) if begun < len(stretch.starts_ns) else None
    beyond = stretch.part(0, begun).ends_ns > end_ns
    whole = int(beyond.argmax()) if beyond.any() else begun
    parts: list[Piece] = [stretch.part(0, whole)] if whole else []
    parts += stretch.part(whole, begun).records()
    return parts, later


def _apart(pieces: list[Piece]) -> list[Piece]:
    """The pieces in their order; what runs into other data of its channel record by record."""
    channels: dict[Nslc, list[Piece]] = defaultdict(list)
    for piece in pieces:
        channels[piece.nslc].append(piece)
    tangled = {nslc for nslc, channel in channels.items() if _tangled(channel)}
    if not tangled:
        return pieces
    return [
        each for piece in pieces for each in (_records(piece) if piece.nslc in tangled else [piece])
    ]


def _tangled(channel: list[Piece]) -> bool:
    """Whether, of several, one begins before the last record of another, or with it."""
    if not any(isinstance(piece, Stretch) for piece in channel):
        return False
    by_time = sorted(channel, key=lambda piece: piece.start_ns)
    return any(after.start_ns <= _last_ns(before) for before, after in pairwise(by_time))


def _last_ns(piece: Piece) -> int:
    return piece.last_ns if isinstance(piece, Stretch) else piece.start_ns


def _records(piece: Piece) -> Iterable[Record]:
    return piece.records() if isinstance(piece, Stretch) else [piece]


def _runs(pieces: list[Piece]) -> Iterator[Record]:
    """Pieces, joined where one continues the other on the grid with the same clock offset."""
    channels: dict[Nslc, list[Piece]] = defaultdict(list)
    for piece in _apart(pieces):
        channels[piece.nslc].append(piece)
    for channel in channels.values():
        channel.sort(key=lambda piece: piece.start_ns)
        parts: list[Record] = []
        expected = None
        for piece in channel:
            record = piece.joined() if isinstance(piece, Stretch) else piece
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
    return parts[0].holding(np.concatenate([part.samples for part in parts]), parts[0].start_ns)
