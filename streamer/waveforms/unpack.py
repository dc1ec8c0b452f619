"""A miniSEED record in memory -> header and samples, by libmseed without Python objects between.

`pymseed.MS3Record` wraps each record in objects that take several times longer than decoding it.
This is the same library under the same checks, for the records that are nearly all: what it cannot
vouch for it leaves to `MS3Record`, which tells what is wrong with it.
"""

import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pymseed import DataEncoding, configure_logging
from pymseed.clib import clibmseed, ffi

STEIM = frozenset(map(int, (DataEncoding.STEIM1, DataEncoding.STEIM2)))
_DTYPES: dict[int, npt.DTypeLike] = {
    **dict.fromkeys(STEIM, np.int32),
    int(DataEncoding.INT16): np.int32,
    int(DataEncoding.INT32): np.int32,
    int(DataEncoding.FLOAT32): np.float32,
    int(DataEncoding.FLOAT64): np.float64,
}
_PAYLOAD_SWAPPED, _CHECKED = clibmseed.MSSWAP_PAYLOAD, clibmseed.MSF_VALIDATECRC
# A byte of data holds less than this many samples in any of them; a header that claims more is
# broken, and must not make us allocate them.
SAMPLES_PER_BYTE = 2


Samples = npt.NDArray[np.int32] | npt.NDArray[np.float32] | npt.NDArray[np.float64]


class Header(NamedTuple):
    """What a record says of itself: `length` is its bytes, `start_ns` UTC.

    `flags` are those of miniSEED 3, `extra` its extra headers (JSON), made from the blockettes of
    miniSEED 2.
    """

    sourceid: str
    start_ns: int
    samples_per_s: float
    sample_count: int
    length: int
    flags: int
    extra: bytes


class _Scratch(threading.local):
    """What libmseed writes into; each thread has its own."""

    def __init__(self) -> None:
        configure_logging()  # or it would print its complaints
        self.record = ffi.gc(ffi.new("MS3Record **"), clibmseed.msr3_free)
        self.data_at, self.data_bytes = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        self.kind = ffi.new("char *")


_scratch = _Scratch()


def read_header(data: bytes | memoryview, at: int = 0) -> Header | None:
    """The header of the record at byte `at` of `data`; None if there is no time series."""
    record = _parse(data, at, _scratch)
    return None if record is None else _header(record)


def unpack(data: bytes | memoryview, at: int = 0) -> tuple[Header, Samples] | None:
    """Header and samples (n,) of the record at byte `at` of `data`; None for `MS3Record` to judge.

    The samples are the caller's own.
    """
    scratch = _scratch
    record = _parse(data, at, scratch)
    if record is None:
        return None
    dtype, header = _DTYPES.get(record.encoding), _header(record)
    if dtype is None or clibmseed.msr3_data_bounds(record, scratch.data_at, scratch.data_bytes):
        return None
    data_at, data_bytes = at + scratch.data_at[0], scratch.data_bytes[0]
    if header.sample_count > data_bytes * SAMPLES_PER_BYTE:
        return None
    samples: Samples = np.empty(header.sample_count, dtype)
    count = clibmseed.ms_decode_data(
        ffi.from_buffer(data) + data_at,
        data_bytes,
        record.encoding,
        header.sample_count,
        ffi.from_buffer(samples),
        samples.nbytes,
        scratch.kind,
        record.swapflag & _PAYLOAD_SWAPPED,
        record.sid,
        0,
    )
    if count != header.sample_count:
        return None
    if record.encoding in STEIM and not _ends_as_named(samples, data, data_at):
        return None
    return header, samples


def unpack_row(
    data: bytes, at: int, data_at: int, counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """The samples of consecutive records from byte `at` on, one after the other.

    The records are alike (`alike.Row`: Steim), hold `counts` (n,) samples each and begin to do so
    at their byte `data_at`. The first that `MS3Record` is to judge ends the samples.
    """
    scratch = _scratch
    record = _parse(data, at, scratch)
    if record is None:
        return np.empty(0, np.int32)
    ends = counts.cumsum()
    samples = np.empty(int(ends[-1]), np.int32)
    length = record.reclen
    data_bytes = length - data_at
    source, target = ffi.from_buffer(data) + at + data_at, ffi.from_buffer("int32_t[]", samples)
    rest = scratch.kind, record.swapflag & _PAYLOAD_SWAPPED, record.sid, 0
    encoding, decode = record.encoding, clibmseed.ms_decode_data
    good = first = 0
    for count in counts.tolist():
        got = decode(source, data_bytes, encoding, count, target + first, 4 * count, *rest)
        if got != count:
            break
        source += length
        first += count
        good += 1
    words = np.ndarray((good,), ">i4", data, at + data_at + 8, (length,))
    last = samples[ends[:good] - 1]
    as_named = (last == words) | (last == words.view("<i4"))
    if not as_named.all():
        good = int(as_named.argmin())
    return samples[: int(counts[:good].sum())]


def _parse(data: bytes | memoryview, at: int, scratch: _Scratch) -> Any | None:
    """The MS3Record struct at byte `at`, good until the next call; None if it is no time series."""
    size = len(data) - at
    pointer = ffi.from_buffer(data) + at
    if clibmseed.msr3_parse(pointer, size, scratch.record, _CHECKED, 0):
        return None
    record = scratch.record[0]
    return record if record.samplecnt > 0 and record.samprate > 0 else None


def _header(record: Any) -> Header:
    sourceid = ffi.string(record.sid).decode("ascii", "replace")
    extra = ffi.string(record.extra) if record.extralength else b""
    return Header(
        sourceid,
        record.starttime,
        record.samprate,
        record.samplecnt,
        record.reclen,
        record.flags,
        extra,
    )


def _ends_as_named(samples: npt.NDArray[Any], data: bytes | memoryview, data_at: int) -> bool:
    """Whether the last sample is the one that the first Steim frame names, in any byte order."""
    word, last = data[data_at + 8 : data_at + 12], int(samples[-1])
    return last == int.from_bytes(word, "big", signed=True) or last == int.from_bytes(
        word, "little", signed=True
    )
