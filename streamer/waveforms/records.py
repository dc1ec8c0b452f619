"""miniSEED bytes <-> `Record`: the only decoder and encoder of miniSEED (pymseed, in C)."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, lru_cache
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
from streamer.waveforms.unpack import read_header, unpack

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
    """The channel of a record, and the half-open range of UTC ns that it covers."""

    nslc: Nslc
    start_ns: int
    end_ns: int


_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Record:
    """One contiguous run of samples of one channel.

    `start_ns` is the UTC time of the first sample; `samples` is (n,) int32, float32 or float64 in
    counts (or whatever unit the source has). `flags` are those of miniSEED 3 (`CALIBRATION`,
    `CLOCK_DOUBTFUL`); `timing_quality` is that of blockette 1001, %, or `NOT_KNOWN`.
    """

    nslc: Nslc
    start_ns: int
    rate: Fraction
    samples: npt.NDArray[np.int32] | npt.NDArray[np.float32] | npt.NDArray[np.float64]
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
        return Extent(self.nslc, self.start_ns, self.end_ns)

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
        return replace(self, start_ns=self.start_ns + lead_ns, samples=self.samples[first:stop])

    def pieces(self, longest_s: int) -> Iterator["Record"]:
        """The record in consecutive records of at most `longest_s`; most are one piece."""
        if len(self.samples) * self.rate.denominator <= longest_s * self.rate.numerator:
            yield self
            return
        step = max(int(longest_s * self.rate), 1)
        for first in range(0, len(self.samples), step):
            yield self._part(first, first + step)


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


def scan_headers(path: Path, on_reject: Callable[[str], None]) -> Iterator[tuple[bytes, Extent]]:
    """As `scan_file`, without looking at the samples where the header makes sense."""
    for raw, found in _scan(path, on_reject, _headed):
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


def _headed(data: bytes, at: int) -> tuple[Extent, int] | None:
    """Channel and time of the record at byte `at`, and its length; None for a closer look."""
    header = read_header(data, at)
    if header is None or header.length > MAX_RECORD_BYTES:
        return None
    try:
        nslc, rate = _nslc(header.sourceid), _rate(header.samples_per_s)
    except ValueError:
        return None
    length_ns = header.sample_count * NS_PER_S * rate.denominator // rate.numerator
    return Extent(nslc, header.start_ns, header.start_ns + length_ns), header.length


def _unpacked(data: bytes | memoryview, at: int) -> tuple[Record, int] | None:
    """The record at byte `at`, and its length; None where it is to be looked at closer."""
    found = unpack(data, at)
    if found is None or found[0].length > MAX_RECORD_BYTES:
        return None
    header, samples = found
    try:
        nslc, rate = _nslc(header.sourceid), _rate(header.samples_per_s)
    except ValueError:
        return None
    quality = _named_quality(header.extra) if header.extra else NOT_KNOWN
    return Record(
        nslc, header.start_ns, rate, samples, header.flags & _TOLD, quality
    ), header.length


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
