"""Rows of miniSEED 2 records that are alike in all but time and samples, found at once.

libmseed reads the header of the first. Where the others have the same bytes, they say the same;
only what differs from record to record is read here: start and number of samples. Everything that
is not quite plain (a leap second, another byte order or encoding, further blockettes) ends a row,
and is for libmseed to read by itself.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamer.timebase import NS_PER_S
from streamer.waveforms.unpack import SAMPLES_PER_BYTE, STEIM, Header, read_header

# Shorter rows cost more than their records do one by one; longer ones only memory.
_LEAST_RECORDS = 16
_ROW_BYTES = 128 << 10
_LONGEST_PAUSE = 63  # records that are not looked at because the last looks were in vain

_FRAME_BYTES = 64  # of Steim

# What differs, in the fixed section of data header (SEED manual, chapter 8).
_FIELDS = np.dtype(
    {
        "names": ["sequence", "year", "day", "hour", "minute", "second", "fraction", "count"],
        "formats": ["6u1", ">u2", ">u2", "u1", "u1", "u1", ">u2", ">u2"],
        "offsets": [0, 20, 22, 24, 25, 26, 28, 30],
        "itemsize": 48,
    }
)


class _Layout:
    """Where blockettes 1000 and 1001 are; `last` are the type of the last and its end mark."""

    def __init__(self, at_1000: int, at_1001: int | None, last: bytes) -> None:
        self.at_1000, self.at_1001, self.last = at_1000, at_1001, last
        self.header_bytes = 56 if at_1001 is None else 64
        same = np.full(64, 255, np.uint8)
        same[:6] = same[20:27] = same[28:32] = same[self.header_bytes :] = 0
        if at_1001 is not None:
            same[[at_1001 + 5, at_1001 + 7]] = 0  # microseconds, number of frames
        self.same = same.view(np.uint64)  # mask of what is the same in a row


# By where the first blockette is, its type, and where the next is.
_LAYOUTS = {
    b"\x00\x30\x03\xe8\x00\x00": _Layout(48, None, b""),
    b"\x00\x30\x03\xe8\x00\x38": _Layout(48, 56, b"\x03\xe9\x00\x00"),
    b"\x00\x30\x03\xe9\x00\x38": _Layout(56, 48, b"\x03\xe8\x00\x00"),
}


class Row(NamedTuple):
    """Starts (n,) of the records, UTC ns, not decreasing, and how many samples each has (n,).

    `header` is that of the first, `data_at` where in each record its samples begin.
    """

    header: Header
    data_at: int
    starts_ns: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


class Rows:
    """Finds rows in one file; where it looks in vain (channels take turns), it looks less often."""

    def __init__(self) -> None:
        self._pause = self._left = 0

    def find(self, data: bytes, at: int) -> Row | None:
        """The row of records that begins at byte `at`; None if none is found that is worth it."""
        if self._left:
            self._left -= 1
            return None
        row = _row(data, at)
        self._pause = 0 if row else min(2 * self._pause + 1, _LONGEST_PAUSE)
        self._left = self._pause
        return row


def _row(data: bytes, at: int) -> Row | None:
    layout = _LAYOUTS.get(data[at + 46 : at + 52])
    if layout is None or not data.startswith(layout.last, at + 56):
        return None
    encoding, _, exponent = data[at + layout.at_1000 + 4 : at + layout.at_1000 + 7]
    length = 1 << exponent if 7 <= exponent <= 16 else 0
    if not length or encoding not in STEIM or not _promising(data, at, length):
        return None
    data_at = int.from_bytes(data[at + 44 : at + 46], "big")
    if not layout.header_bytes <= data_at <= length - _FRAME_BYTES:
        return None
    most = min(len(data) - at, _ROW_BYTES) // length
    words = np.ndarray((most, 8), np.uint64, data, at, (length, 8)) & layout.same
    fields = np.ndarray((most,), _FIELDS, data, at, (length,))
    starts_ns, counts = _start_ns(fields), fields["count"].astype(np.int64)
    if layout.at_1001 is not None:
        microseconds = np.ndarray((most,), np.int8, data, at + layout.at_1001 + 5, (length,))
        starts_ns += microseconds * np.int64(1000)
    plain = (words == words[0]).all(axis=1) & _makes_sense(fields)
    plain &= (counts > 0) & (counts <= (length - data_at) * SAMPLES_PER_BYTE)
    plain[1:] &= starts_ns[1:] >= starts_ns[:-1]
    count = most if plain.all() else int(plain.argmin())
    header = read_header(data, at) if count >= _LEAST_RECORDS else None
    if header is None or header.length != length:
        return None
    # The header may ask for a time correction, the same in all.
    starts_ns += header.start_ns - starts_ns[0]
    return Row(header, data_at, starts_ns[:count], counts[:count])


def _promising(data: bytes, at: int, length: int) -> bool:
    """A quick look whether the next records are of one channel and kind, and in order."""
    channel, time, kind = data[at + 8 : at + 20], data[at + 20 : at + 30], data[at + 32 : at + 44]
    for _ in range(_LEAST_RECORDS - 1):
        at += length
        if not (data.startswith(channel, at + 8) and data.startswith(kind, at + 32)):
            return False
        last, time = time, data[at + 20 : at + 30]
        if time < last:
            return False
    return True


def _start_ns(fields: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Times of the headers to 100 us, without correction, (n,)."""
    year = fields["year"].astype(np.int64)
    days = 365 * (year - 1970) + (year - 1969) // 4 + fields["day"] - 1
    seconds = ((days * 24 + fields["hour"]) * 60 + fields["minute"]) * 60 + fields["second"]
    ns: npt.NDArray[np.int64] = seconds * NS_PER_S + fields["fraction"] * np.int64(100_000)
    return ns


def _makes_sense(fields: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Whether sequence number and time are what nearly all are, (n,)."""
    sequence, year, day = fields["sequence"], fields["year"], fields["day"]
    digits = (sequence >= ord("0")) & (sequence <= ord("9"))
    made = (digits | (sequence == ord(" ")) | (sequence == 0)).all(axis=1)
    made &= (year > 1900) & (year < 2100)  # every fourth of them is a leap year
    made &= (day >= 1) & (day <= 365 + (year % 4 == 0))
    made &= (fields["hour"] < 24) & (fields["minute"] < 60) & (fields["second"] < 60)
    made &= fields["fraction"] < 10_000
    return np.asarray(made, np.bool_)
