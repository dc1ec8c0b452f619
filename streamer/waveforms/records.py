"""miniSEED bytes <-> `Record`: the only decoder and encoder of miniSEED (pymseed, in C)."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pymseed import (
    DataEncoding,
    MiniSEEDError,
    MS3Record,
    nslc2sourceid,
    set_prealloc_block_size,
    sourceid2nslc,
)

from streamer.errors import DataError
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, as_rate
from streamer.waveforms.alike import Rows
from streamer.waveforms.unpack import Samples, read_header, unpack, unpack_row

PIECE_S = (
    10  # longest run that enters a ring at once: components advance together, no ring overflows
)
RECORD_BYTES = 512  # what SeedLink v3 servers send and every client accepts
# No recorder writes longer records; a header that claims more is broken.
MAX_RECORD_BYTES = 1 << 20
_READ_BYTES = 4 << 20

# Channels, rates and extra headers that are remembered: more than one process picks.
_CHANNELS, _RATES, _EXTRAS = 1 << 15, 1 << 10, 1 << 8

# Bits of `Record.flags`: a calibration signal is in the data; the time tag is questionable.
CALIBRATION, CLOCK_DOUBTFUL = 1, 2
_TOLD = CALIBRATION | CLOCK_DOUBTFUL
NOT_KNOWN = -1  # timing quality

# Start of a fixed section of data header (sequence number, quality, reserved), or of miniSEED 3.
_HEADER = re.compile(rb"[0-9 \0]{6}[DRQM][ \0]|MS\x03")
_HEADER_BYTES = 8

_STEIM = (DataEncoding.STEIM1, DataEncoding.STEIM2)
_DTYPE: dict[str | None, npt.DTypeLike] = {"i": np.int32, "f": np.float32, "d": np.float64}
_ENCODING = {
    "i": DataEncoding.STEIM2,
    "f": DataEncoding.FLOAT32,
    "d": DataEncoding.FLOAT64,
}


class Extent(NamedTuple):
    """The channel of a record or of a stretch, and the half-open range of UTC ns that it covers.

    `last_ns` is where the last record begins.
    """

    nslc: Nslc
    start_ns: int
    last_ns: int
    end_ns: int


_Found = TypeVar("_Found")


@dataclass(slots=True)  # frozen ones take three times as long to make
class Record:
    """One contiguous run of samples of one channel.

    `start_ns` is the UTC time of the first sample; `samples` is (n,) int32, float32 or float64 in
    counts (or whatever unit the source has). `flags` are those of miniSEED 3 (`CALIBRATION`,
    `CLOCK_DOUBTFUL`); `timing_quality` is that of blockette 1001, %, or `NOT_KNOWN`.
    """

    nslc: Nslc
    start_ns: int
    rate: Fraction
    samples: Samples
    flags: int = 0
    timing_quality: int = NOT_KNOWN

    @property
    def end_ns(self) -> int:
        """Time just after the last sample (half-open range), ns."""
        return self.start_ns + len(self.samples) * NS_PER_S * self.rate.denominator // (
            self.rate.numerator
        )

    @property
    def extent(self) -> Extent:
        """Without the samples."""
        return Extent(self.nslc, self.start_ns, self.start_ns, self.end_ns)

    def cut(self, t_ns: int) -> tuple["Record | None", "Record | None"]:
        """What lies before UTC `t_ns`, and the rest; None for nothing."""
        ahead = (t_ns - self.start_ns) * self.rate.numerator
        count = -(-ahead // (NS_PER_S * self.rate.denominator))
        if count <= 0:
            return None, self
        if count >= len(self.samples):
            return self, None
        return self._part(0, count), self._part(count, len(self.samples))

    def _part(self, first: int, stop: int) -> "Record":
        lead_ns = first * NS_PER_S * self.rate.denominator // self.rate.numerator
        return self.holding(self.samples[first:stop], self.start_ns + lead_ns)

    def holding(self, samples: Samples, start_ns: int) -> "Record":
        """A record of the same kind with other samples (n,); faster than `replace`."""
        return Record(self.nslc, start_ns, self.rate, samples, self.flags, self.timing_quality)

    def pieces(self, longest_s: int) -> Iterator["Record"]:
        """The record in consecutive records of at most `longest_s`; most are one piece."""
        if len(self.samples) * self.rate.denominator <= longest_s * self.rate.numerator:
            yield self
            return
        step = max(int(longest_s * self.rate), 1)
        for first in range(0, len(self.samples), step):
            yield self._part(first, first + step)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive records of one file, by time and alike in all but times and samples.

    Record i begins at `starts_ns[i]` (n,) and holds samples[bounds[i] : bounds[i + 1]] (n + 1,).
    """

    nslc: Nslc
    starts_ns: npt.NDArray[np.int64]
    rate: Fraction
    samples: npt.NDArray[np.int32]
    bounds: npt.NDArray[np.int64]
    flags: int = 0
    timing_quality: int = NOT_KNOWN

    @property
    def start_ns(self) -> int:
        """Where the first record begins."""
        return int(self.starts_ns[0])

    @property
    def last_ns(self) -> int:
        """Where the last record begins."""
        return int(self.starts_ns[-1])

    @property
    def ends_ns(self) -> npt.NDArray[np.int64]:
        """`Record.end_ns` of each, (n,)."""
        return _ends_ns(self.starts_ns, np.diff(self.bounds), self.rate)

    def part(self, first: int, stop: int) -> "Stretch":
        """Records [first, stop)."""
        starts_ns, bounds = self.starts_ns[first:stop], self.bounds[first : stop + 1]
        marks = self.flags, self.timing_quality
        return Stretch(self.nslc, starts_ns, self.rate, self.samples, bounds, *marks)

    def records(self) -> Iterator[Record]:
        """Each of them."""
        marks = self.flags, self.timing_quality
        bounds = pairwise(self.bounds.tolist())
        for start_ns, (begin, end) in zip(self.starts_ns.tolist(), bounds, strict=True):
            yield Record(self.nslc, start_ns, self.rate, self.samples[begin:end], *marks)

    def joined(self) -> Record:
        """All as one record, which begins where the first does."""
        samples = self.samples[self.bounds[0] : self.bounds[-1]]
        marks = self.flags, self.timing_quality
        return Record(self.nslc, self.start_ns, self.rate, samples, *marks)


def decode(data: bytes) -> Record:
    """The waveform record in `data` (miniSEED 2 or 3, any length and encoding).

    Raises DataError: broken header, corrupt compression, no samples, or a text record.
    """
    if found := _unpacked(data, 0):
        return found[0]
    _allocate_as_needed()
    try:
        return _record(MS3Record.parse(data, unpack_data=True), data)
    except MiniSEEDError as error:
        raise DataError(f"not a readable miniSEED record: {error}") from error


def decode_header(data: bytes) -> tuple[Nslc, int, int]:
    """(nslc, start_ns, end_ns half-open) without unpacking the samples. Raises DataError."""
    try:
        header = MS3Record.parse(data)
        nslc = _nslc(header.sourceid)
        if header.samprate <= 0 or header.samplecnt <= 0:
            raise DataError(f"record of {nslc} has no time series")
        rate = _rate(header.samprate)
    except (MiniSEEDError, ValueError) as error:
        raise DataError(f"not a readable miniSEED record: {error}") from error
    length_ns = header.samplecnt * NS_PER_S * rate.denominator // rate.numerator
    return nslc, header.starttime, header.starttime + length_ns


def scan_file(path: Path, on_reject: Callable[[str], None]) -> Iterator[tuple[bytes, Record]]:
    """Every waveform record of a miniSEED file with its raw bytes, in file order.

    What cannot be read (a broken record, foreign bytes, a truncated end) is told to `on_reject`,
    and the search goes on at the next thing that looks like a header: the length in a broken header
    is not believed. Memory stays bounded whatever the size of the file.
    Raises OSError; a file without any record yields nothing.
    """
    return _scan(path, on_reject, _unpacked)


def scan_stretches(
    path: Path, on_reject: Callable[[str], None]
) -> Iterator[tuple[bytes, Record | Stretch]]:
    """As `scan_file`, with what continues long enough in one kind of record as stretches."""
    return _scan(path, on_reject, partial(_unpacked_row, Rows()))


def scan_headers(path: Path, on_reject: Callable[[str], None]) -> Iterator[tuple[bytes, Extent]]:
    """As `scan_stretches`, without looking at the samples where the header makes sense."""
    for raw, found in _scan(path, on_reject, partial(_headed, Rows())):
        yield raw, found if isinstance(found, Extent) else found.extent


def _scan(
    path: Path,
    on_reject: Callable[[str], None],
    take: Callable[[bytes, int], tuple[_Found, int] | None],
) -> Iterator[tuple[bytes, _Found | Record]]:
    """What `take` makes of the record at a position, with its length; else the record itself."""
    _allocate_as_needed()
    with path.open("rb") as file:
        buffer, position, offset = b"", 0, 0  # `offset` is the place of buffer[0] in the file
        at_end = False
        while True:
            if not at_end and len(buffer) - position < MAX_RECORD_BYTES:
                chunk = file.read(_READ_BYTES)
                at_end = not chunk
                offset += position
                buffer, position = buffer[position:] + chunk, 0
                continue
            if position >= len(buffer):
                return
            try:
                found, length = take(buffer, position) or _judged(buffer, position)
            except (MiniSEEDError, DataError) as error:
                on_reject(f"byte {offset + position}: {error}")
                position = _next_header(buffer, position + 1, at_end)
                continue
            yield buffer[position : position + length], found
            position += length


def read_file(path: Path) -> Iterator[Record]:
    """Every waveform record of a miniSEED file, in file order.

    Raises DataError at the first record that cannot be read (what came before has been yielded).
    """

    def refuse(reason: str) -> None:
        raise DataError(f"{path}: {reason}")

    for _, record in scan_file(path, refuse):
        yield record


def encode(record: Record, record_bytes: int = RECORD_BYTES) -> list[bytes]:
    """miniSEED 2 records of exactly `record_bytes` each; floats as they are, integers as Steim2.

    Integers whose differences exceed the 30 bits of Steim2 (SEED manual, appendix B) become INT32.
    Raises DataError if the codes do not fit a miniSEED 2 header.
    """
    kind = {"int32": "i", "float32": "f"}.get(record.samples.dtype.name, "d")
    try:
        template = MS3Record(reclen=record_bytes, encoding=_ENCODING[kind])
        template.formatversion = 2
        nslc = record.nslc
        template.sourceid = nslc2sourceid(nslc.network, nslc.station, nslc.location, nslc.channel)
        template.starttime = record.start_ns
        template.samprate = float(record.rate)
        if kind == "i" and np.any(np.abs(np.diff(record.samples.astype(np.int64))) >= 1 << 29):
            template.encoding = DataEncoding.INT32
        return list(template.generate(record.samples, kind))
    except (MiniSEEDError, ValueError) as error:
        raise DataError(f"{record.nslc} cannot be written as miniSEED 2: {error}") from error


def _next_header(buffer: bytes, position: int, at_end: bool) -> int:
    """Where the next thing that looks like a header begins, or may begin once more is read."""
    match = _HEADER.search(buffer, position)
    if match:
        return match.start()
    return len(buffer) if at_end else max(position, len(buffer) - _HEADER_BYTES + 1)


@cache
def _allocate_as_needed() -> None:
    """Get no more memory for the samples of a record than they fill.

    By default pymseed gets and returns a megabyte for each, which takes longer than decoding it.
    """
    set_prealloc_block_size(0)


@lru_cache(_CHANNELS)
def _nslc(sourceid: str) -> Nslc:
    return Nslc(*sourceid2nslc(sourceid))


_rate = lru_cache(_RATES)(as_rate)


def _judged(buffer: bytes, at: int) -> tuple[Record, int]:
    """The record at byte `at`, and its length. Raises MiniSEEDError or DataError: what is wrong."""
    window = memoryview(buffer)[at : at + MAX_RECORD_BYTES]
    # from_buffer, unlike parse, also sizes a last record that has no blockette 1000.
    header = next(MS3Record.from_buffer(window, unpack_data=True))
    return _record(header, window), header.reclen


def _headed(rows: Rows, data: bytes, at: int) -> tuple[Extent, int] | None:
    """Channel and time of the records at byte `at`, and their length; None for a closer look."""
    if (row := rows.find(data, at)) and (
        kind := _kind(row.header.sourceid, row.header.samples_per_s)
    ):
        nslc, rate = kind
        end_ns = int(_ends_ns(row.starts_ns, row.counts, rate).max())
        extent = Extent(nslc, int(row.starts_ns[0]), int(row.starts_ns[-1]), end_ns)
        return extent, row.header.length * len(row.counts)
    header = read_header(data, at)
    if header is None or header.length > MAX_RECORD_BYTES:
        return None
    if (kind := _kind(header.sourceid, header.samples_per_s)) is None:
        return None
    nslc, rate = kind
    length_ns = header.sample_count * NS_PER_S * rate.denominator // rate.numerator
    start_ns = header.start_ns
    return Extent(nslc, start_ns, start_ns, start_ns + length_ns), header.length


def _unpacked_row(rows: Rows, data: bytes, at: int) -> tuple[Record | Stretch, int] | None:
    """The stretch at byte `at`, else the record, and its length; None for a closer look."""
    if row := rows.find(data, at):
        header = row.header
        samples = unpack_row(data, at, row.data_at, row.counts)
        bounds = np.concatenate([[0], row.counts.cumsum()])
        count = int(bounds.searchsorted(len(samples)))
        if count and (kind := _kind(header.sourceid, header.samples_per_s)):
            marks = _marks(header.flags, header.extra)
            starts_ns, bounds = row.starts_ns[:count], bounds[: count + 1]
            stretch = Stretch(kind[0], starts_ns, kind[1], samples, bounds, *marks)
            return stretch, header.length * count
    return _unpacked(data, at)


def _unpacked(data: bytes | memoryview, at: int) -> tuple[Record, int] | None:
    """The record at byte `at`, and its length; None where it is to be looked at closer."""
    found = unpack(data, at)
    if found is None or found[0].length > MAX_RECORD_BYTES:
        return None
    header, samples = found
    if (kind := _kind(header.sourceid, header.samples_per_s)) is None:
        return None
    return Record(
        kind[0], header.start_ns, kind[1], samples, *_marks(header.flags, header.extra)
    ), header.length


@lru_cache(_CHANNELS)
def _kind(sourceid: str, samples_per_s: float) -> tuple[Nslc, Fraction] | None:
    """Channel and rate, if they make sense."""
    try:
        return _nslc(sourceid), _rate(samples_per_s)
    except ValueError:
        return None


@lru_cache(_EXTRAS)
def _marks(flags: int, extra: bytes) -> tuple[int, int]:
    """`Record.flags` and `Record.timing_quality`."""
    return flags & _TOLD, _named_quality(extra) if extra else NOT_KNOWN


def _ends_ns(
    starts_ns: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], rate: Fraction
) -> npt.NDArray[np.int64]:
    """`Record.end_ns` of records of at most 65535 samples, (n,): no product overflows."""
    return starts_ns + counts * NS_PER_S * rate.denominator // rate.numerator


def _record(header: MS3Record, raw: bytes | memoryview) -> Record:
    """`header` with its samples unpacked -> record; `raw` begins with the bytes it comes from."""
    try:
        nslc = _nslc(header.sourceid)
        samprate, count = header.samprate, header.numsamples
        dtype = _DTYPE.get(header.sampletype)
        if samprate <= 0 or count <= 0 or dtype is None:
            raise DataError(f"record of {nslc} holds no waveform samples")
        if count != header.samplecnt:
            raise DataError(f"record of {nslc} holds {count} of {header.samplecnt} samples")
        rate = _rate(samprate)
    except ValueError as error:
        raise DataError(f"record header makes no sense: {error}") from error
    samples = np.frombuffer(header.datasamples, dtype).copy()
    if header.encoding in _STEIM:
        _check_last_sample(header, raw, int(samples[-1]))
    quality = _named_quality(header.extra) if header.extralength else NOT_KNOWN
    return Record(nslc, header.starttime, rate, samples, header.flags & _TOLD, quality)


@lru_cache(_EXTRAS)
def _named_quality(extra: str | bytes) -> int:
    """The timing quality in the extra headers of a record, %."""
    try:
        quality = json.loads(extra)["FDSN"]["Time"]["Quality"]
    except (ValueError, KeyError, TypeError):
        return NOT_KNOWN
    return int(quality) if isinstance(quality, int | float) else NOT_KNOWN


def _check_last_sample(header: MS3Record, raw: bytes | memoryview, last: int) -> None:
    """Steim frames name their last sample (word 2 of the first, SEED manual, appendix B).

    Nothing else tells a spoilt difference from a good one. Either byte order may be the right one.
    Raises DataError.
    """
    data_at = header.reclen - header.datalength  # miniSEED 3: nothing follows the data
    if header.formatversion == 2:
        swapped = header.swapflag_dict()["header_swapped"]
        big = (sys.byteorder == "little") == swapped
        data_at = int.from_bytes(raw[44:46], "big" if big else "little")
    word = raw[data_at + 8 : data_at + 12]
    named = int.from_bytes(word, "big", signed=True)
    if last != named and last != int.from_bytes(word, "little", signed=True):
        raise DataError(
            f"samples of {header.sourceid} are corrupt: the last is {last}, its header says {named}"
        )
