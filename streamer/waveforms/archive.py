"""Files -> records: what the replay server serves and the offline picker reads.

    find_files     names, folders and globs -> the files themselves, each once
    read_records   one file -> its records; what cannot be read is rejected, counted and logged
    read_archive   many files -> their records
    read_stretches one file -> its records, joined to stretches where they are alike
    read_extents   many files -> channels and times of their records or stretches
    pack           many files -> miniSEED 2 records of 512 bytes, by start time

miniSEED goes through `records.scan_file`; every other format goes through obspy.
"""

import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import structlog

from streamer.errors import DataError, NoInputError
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, as_rate, continuity_tolerance_ns
from streamer.waveforms.records import (
    RECORD_BYTES,
    Extent,
    Record,
    Stretch,
    decode_header,
    encode,
    scan_file,
    scan_headers,
    scan_stretches,
)

log = structlog.get_logger()

Reject = Callable[[str], None]
_Found = TypeVar("_Found")
_Scan = Callable[[Path, Reject], Iterator[tuple[bytes, _Found]]]

# Formats without a network code (GSE2, most SAC files) get the FDSN's code for test data.
UNKNOWN_NETWORK = "XX"


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One miniSEED 2 record of 512 bytes with what its header says; half-open range of UTC ns."""

    nslc: Nslc
    start_ns: int
    end_ns: int
    data: bytes


def find_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files behind names, folders (walked, SDS archives too) and globs: sorted, each once.

    Two names of one file count once. Hidden files and folders inside folders are left out.
    Raises NoInputError naming a path that does not exist, a pattern or folder without any file.
    """
    by_target: dict[Path, Path] = {}
    for given in paths:
        found = sorted(_files_behind(Path(given)))
        if not found:
            raise NoInputError(f"{given}: no file found there; give files, folders or patterns")
        for path in found:
            by_target.setdefault(path.resolve(), path)
    return sorted(by_target.values())


def read_records(path: Path, on_reject: Reject | None = None) -> Iterator[Record]:
    """Every waveform record of a file, in file order; integers as int32 where they fit.

    A part that cannot be read is left out, told to `on_reject` (one call each, with the reason) and
    logged, once per file with the count, as `record_rejected`.
    Raises NoInputError if the file cannot be opened, DataError if nothing in it can be read.
    """
    for _, record in _scan(path, on_reject, scan_file):
        yield record


def read_stretches(path: Path, on_reject: Reject | None = None) -> Iterator[Record | Stretch]:
    """As `read_records`, with the consecutive records that are alike as stretches."""
    for _, found in _scan(path, on_reject, scan_stretches):
        yield found


def read_archive(
    paths: Iterable[str | Path], on_reject: Reject | None = None
) -> Iterator[tuple[Path, Record]]:
    """The records of all files behind `paths` with the file they come from, file by file.

    Raises as `find_files` and `read_records`; but a file without waveforms that was met inside a
    folder is a rejection, and only a folder without any waveform a DataError.
    """
    for path, _, record in _scan_archive(paths, on_reject, scan_file):
        yield path, record


def read_extents(
    paths: Iterable[str | Path], on_reject: Reject | None = None
) -> Iterator[tuple[Path, Extent]]:
    """What `read_archive` gives, in stretches, without samples; of miniSEED it reads headers only.

    Samples that are corrupt are found when they are read; all is logged then. Raises as
    `read_archive`.
    """
    for path, _, extent in _scan_archive(paths, on_reject, scan_headers, log_rejects=False):
        yield path, extent if isinstance(extent, Extent) else extent.extent


def pack(
    paths: Iterable[str | Path],
    record_seconds: float | None = None,
    on_reject: Reject | None = None,
) -> list[RawRecord]:
    """All records of an archive as 512-byte miniSEED 2, sorted by start time (stable).

    Records that are miniSEED 2 of 512 bytes already are passed on byte for byte, others encoded
    anew. With `record_seconds` all are cut to that length; a piece that does not fit one record of
    512 bytes becomes several. Raises as `read_archive`; ValueError unless `record_seconds` > 0.
    """
    if record_seconds is not None and not record_seconds > 0:
        raise ValueError(f"record_seconds must be positive, got {record_seconds}")
    packed: list[RawRecord] = []
    by_channel: dict[Nslc, list[Record]] = {}
    for path, raw, record in _scan_archive(paths, on_reject, scan_file):
        if record_seconds is not None:
            by_channel.setdefault(record.nslc, []).append(record)
        elif raw is not None and len(raw) == RECORD_BYTES and not raw.startswith(b"MS\x03"):
            packed.append(RawRecord(record.nslc, record.start_ns, record.end_ns, raw))
        else:
            packed.extend(_encoded(record, path, on_reject))
    for nslc, records in by_channel.items():
        records.sort(key=lambda record: record.start_ns)
        for piece in _cut(records, record_seconds or 0.0):
            packed.extend(_encoded(piece, str(nslc), on_reject))
    packed.sort(key=lambda record: record.start_ns)
    return packed


def _files_behind(given: Path) -> Iterator[Path]:
    if given.is_file():
        yield given
    elif given.is_dir():
        for folder, folders, names in os.walk(given):
            folders[:] = [name for name in folders if not name.startswith(".")]
            visible = (Path(folder, name) for name in names if not name.startswith("."))
            yield from (path for path in visible if path.is_file())
    elif glob.has_magic(str(given)):
        for name in glob.glob(str(given), recursive=True):
            yield from _files_behind(Path(name))
    else:
        raise NoInputError(f"{given}: no such file or folder; check the path")


def _scan_archive(
    paths: Iterable[str | Path],
    on_reject: Reject | None,
    scan: _Scan[_Found],
    *,
    log_rejects: bool = True,
) -> Iterator[tuple[Path, bytes | None, _Found | Record]]:
    given = [Path(path) for path in paths]
    named = {path.resolve() for path in given if path.is_file()}
    useless: list[str] = []
    any_record = False
    for path in find_files(given):
        try:
            for raw, record in _scan(path, on_reject, scan, log_rejects=log_rejects):
                any_record = True
                yield path, raw, record
        except DataError as error:
            if path.resolve() in named:
                raise
            useless.append(str(error))
            log.warning("file_rejected", file=str(path), reason=str(error))
            if on_reject:
                on_reject(str(error))
    if not any_record:
        raise DataError(
            f"no waveforms in any of {len(useless)} files; first: {useless[0]}"
            if useless
            else "no waveforms given; name at least one file or folder"
        )


def _scan(
    path: Path, on_reject: Reject | None, scan: _Scan[_Found], *, log_rejects: bool = True
) -> Iterator[tuple[bytes | None, _Found | Record]]:
    """(raw miniSEED record or None, what `scan` gives for it) of one file; see `read_records`."""
    reasons = _Rejections(path, on_reject)
    early: list[str] = []  # of no interest unless the file is miniSEED
    told = early.append

    def reject(reason: str) -> None:
        told(reason)

    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; delete it or fetch it again")
        found = scan(path, reject)
        if (first := next(found, None)) is not None:
            told = reasons.add
            for reason in early:
                told(reason)
            yield first
            yield from found
        else:
            for record in _foreign_records(path, reasons.add):
                yield None, record
    except OSError as error:
        raise NoInputError(
            f"{path}: {error.strerror or error}; check that it is readable"
        ) from error
    if log_rejects:
        reasons.report()


class _Rejections:
    """Counts what could not be read in one file, for one warning about all of it."""

    def __init__(self, path: Path, on_reject: Reject | None) -> None:
        self._path = path
        self._on_reject = on_reject
        self._count = 0
        self._first = ""

    def add(self, reason: str) -> None:
        self._first = self._first or reason
        self._count += 1
        if self._on_reject:
            self._on_reject(f"{self._path}: {reason}")

    def report(self) -> None:
        if self._count:
            log.warning(
                "record_rejected", file=str(self._path), count=self._count, first=self._first
            )


def _foreign_records(path: Path, reject: Reject) -> Iterator[Record]:
    """Records of a file in any format that obspy knows; gaps end a record."""
    yielded = False
    for trace in _obspy_traces(path):
        try:
            yield _trace_record(trace)
            yielded = True
        except ValueError as error:
            reject(f"trace {trace.id}: {error}")
    if not yielded:
        raise DataError(f"{path} holds no waveform samples with codes and a rate; leave it out")


def _obspy_traces(path: Path) -> list[Any]:
    with warnings.catch_warnings():
        # Only whether samples come out matters here, not what obspy thinks of the header.
        warnings.simplefilter("ignore")
        import obspy
        from obspy.core.util.base import ENTRY_POINTS

        # To find out a format obspy would unpickle the file, and so run code that it may contain.
        ENTRY_POINTS["waveform"].pop("PICKLE", None)
        try:
            # Escaped, for obspy takes brackets in a name for a pattern.
            stream = obspy.read(glob.escape(str(path)))
        except Exception as error:  # readers of foreign formats raise whatever they like
            raise DataError(
                f"{path} is neither miniSEED nor a waveform file that obspy can read ({error}); "
                "leave it out or convert it to miniSEED"
            ) from error
        return list(stream.split())  # masked samples are gaps


def _trace_record(trace: Any) -> Record:
    """Raises ValueError if the trace has no samples, rate, or station and channel code."""
    stats = trace.stats
    if stats.npts == 0:
        raise ValueError("no samples")
    if not stats.station or not stats.channel:
        raise ValueError("no station or channel code")
    nslc = Nslc(stats.network or UNKNOWN_NETWORK, stats.station, stats.location, stats.channel)
    return Record(nslc, stats.starttime.ns, as_rate(stats.sampling_rate), _samples(trace.data))


def _samples(data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """int32 where nothing is lost, float32 as it is, float64 otherwise."""
    limits = np.iinfo(np.int32)
    if data.dtype.kind in "iu" and limits.min <= data.min() and data.max() <= limits.max:
        return data.astype(np.int32)
    if data.dtype == np.float32:
        return data.astype(np.float32)  # native byte order
    if data.dtype.kind in "iuf":
        return data.astype(np.float64)
    raise ValueError(f"samples of type {data.dtype} are no waveform")


def _cut(records: list[Record], record_seconds: float) -> Iterator[Record]:
    """Pieces of `record_seconds` of one channel's records, joined where one continues the other.

    `records` are sorted by start time. Each piece keeps the time that its source record gives its
    first sample, so clock drift is not smoothed away; the last piece before a gap is shorter.
    """
    rest: Record | None = None
    for record in records:
        if rest is not None and not _continues(rest, record):
            yield rest
            rest = None
        joined = record
        if rest is not None:
            samples = np.concatenate([rest.samples, record.samples])
            joined = replace(rest, samples=samples)
        step = max(1, round(record_seconds * record.rate))
        offset = len(joined.samples) - len(record.samples)
        start = 0
        while start + step <= len(joined.samples):
            yield _part(joined, record, offset, start, start + step)
            start += step
        rest = None
        if start < len(joined.samples):
            rest = _part(joined, record, offset, start, len(joined.samples))
    if rest is not None:
        yield rest


def _part(joined: Record, record: Record, offset: int, start: int, stop: int) -> Record:
    """Samples [start, stop) of `joined`, whose sample `offset` is the first of `record`."""
    source, index = (record, start - offset) if start >= offset else (joined, start)
    lead_ns = index * NS_PER_S * source.rate.denominator // source.rate.numerator
    return replace(joined, start_ns=source.start_ns + lead_ns, samples=joined.samples[start:stop])


def _continues(rest: Record, record: Record) -> bool:
    return (
        rest.rate == record.rate
        and rest.samples.dtype == record.samples.dtype
        and abs(record.start_ns - rest.end_ns) <= continuity_tolerance_ns(rest.rate)
    )


def _encoded(record: Record, source: str | Path, on_reject: Reject | None) -> Iterator[RawRecord]:
    try:
        pieces = encode(record)
    except DataError as error:
        log.warning("record_rejected", file=str(source), count=1, first=str(error))
        if on_reject:
            on_reject(f"{source}: {error}")
        return
    for data in pieces:
        nslc, start_ns, end_ns = decode_header(data)
        yield RawRecord(nslc, start_ns, end_ns, data)
