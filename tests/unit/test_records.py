"""Bytes of a record -> samples: what is believed, what is refused, and what a record owns."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import DataError
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import (
    CALIBRATION,
    CLOCK_DOUBTFUL,
    NOT_KNOWN,
    Record,
    _named_quality,
    decode,
    decode_header,
    encode,
)

NSLC = Nslc("XX", "ABC", "00", "HHZ")
START_NS = 1_600_000_000 * NS_PER_S
FIRST_FRAME_AT = 64  # of the samples in the 512-byte records of `encode`


def record(values: np.ndarray, rate: Fraction = Fraction(100)) -> Record:
    return Record(NSLC, START_NS, rate, values)


def walk(seed: int = 0, count: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).integers(-100, 100, count).cumsum().astype(np.int32)


RAW = encode(record(walk()))[0]


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_a_decoded_record_says_what_was_encoded(dtype):
    sent = record(walk(count=50).astype(dtype), Fraction(125, 2))
    (raw,) = encode(sent)
    got = decode(raw)
    assert (got.nslc, got.start_ns, got.rate) == (sent.nslc, sent.start_ns, sent.rate)
    assert got.samples.dtype == dtype
    assert np.array_equal(got.samples, sent.samples)
    assert decode_header(raw) == (NSLC, START_NS, got.end_ns)


BLOCKETTE_1001 = b"\x03\xe9\x00\x00" + bytes([93, 0, 0, 7])


def test_timing_quality_and_flags_of_the_header_are_told():
    """Quality is in blockette 1001; the clock and calibrations have bits in the fixed header."""
    assert decode(RAW).timing_quality == NOT_KNOWN
    assert decode(RAW).flags & (CALIBRATION | CLOCK_DOUBTFUL) == 0
    raw = bytearray(RAW)
    raw[50:52] = (56).to_bytes(2, "big")  # behind blockette 1000 there is another one
    raw[56:64] = BLOCKETTE_1001
    raw[39] = 2  # blockettes
    assert decode(bytes(raw)).timing_quality == 93
    raw[36] |= 0x01
    assert decode(bytes(raw)).flags & CALIBRATION
    raw[38] |= 0x80
    assert decode(bytes(raw)).flags & CLOCK_DOUBTFUL


def test_timing_quality_is_found_wherever_its_blockette_is():
    raw = bytearray(encode(record(walk(count=40)), 4096)[0])
    data_at = int.from_bytes(raw[44:46], "big")
    frames = raw[data_at : data_at + 512]
    raw[128 : 128 + 512], raw[44:46] = frames, (128).to_bytes(2, "big")
    raw[50:52], raw[39] = (72).to_bytes(2, "big"), 2
    raw[72:80] = BLOCKETTE_1001
    assert decode(bytes(raw)).timing_quality == 93


@pytest.mark.parametrize(
    "extra", ["[]", "{", '{"FDSN": 1}', '{"FDSN": {"Time": {"Quality": "x"}}}']
)
def test_extra_headers_that_make_no_sense_say_nothing(extra):
    assert _named_quality(extra) == NOT_KNOWN


def test_a_record_in_the_leap_second_begins_with_the_new_day_in_posix_time():
    raw = bytearray(RAW)
    raw[20:30] = bytes([2016 >> 8, 2016 & 255, 366 >> 8, 366 & 255, 23, 59, 60, 0, 0, 0])
    assert decode(bytes(raw)).start_ns == 1_483_228_800 * NS_PER_S


def test_samples_outlive_the_bytes_and_the_records_decoded_later():
    buffer = bytearray(RAW)
    got = decode(buffer)
    buffer[:] = bytes(len(buffer))
    for seed in range(1, 20):
        decode(encode(record(walk(seed)))[0])
    assert np.array_equal(got.samples, walk())
    got.samples[0] = 7  # and may be written to


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("encoding", ["STEIM1", "STEIM2", "INT32"])
def test_both_byte_orders_are_read(byteorder, encoding):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of obspy, about its own plugins
        import obspy
    header = {"network": "XX", "station": "ABC", "location": "00", "channel": "HHZ"}
    trace = obspy.Trace(walk(count=60), header | {"sampling_rate": 100.0})
    file = io.BytesIO()
    trace.write(file, "MSEED", byteorder=byteorder, encoding=encoding, reclen=512)
    assert np.array_equal(decode(file.getvalue()).samples, walk(count=60))


@pytest.mark.parametrize("word", [5, 20, 40])
def test_a_spoilt_difference_is_noticed_by_the_last_sample(word):
    """The frames are compressed differences: one wrong bit shifts all samples behind it."""
    raw = bytearray(RAW)
    raw[FIRST_FRAME_AT + 4 * word + 3] ^= 1
    with pytest.raises(DataError, match=r"FDSN:XX_ABC_00_H_H_Z are corrupt: the last is -?\d+"):
        decode(bytes(raw))


@pytest.mark.parametrize(
    "raw", [b"", b"no record", RAW[:300], RAW[:40], RAW[:30] + b"\0\0" + RAW[32:]]
)
def test_what_holds_no_waveform_is_refused(raw):
    """Nothing, something else, the beginning of a record, and one that says it has no samples."""
    with pytest.raises(DataError):
        decode(raw)


@given(st.dictionaries(st.integers(0, 127), st.integers(0, 255), max_size=6))
def test_a_damaged_header_gives_a_record_or_a_refusal(spoilt):
    raw = bytearray(RAW)
    for at, byte in spoilt.items():
        raw[at] = byte
    try:
        got = decode(bytes(raw))
    except DataError:
        return
    assert got.rate > 0
    assert len(got.samples) > 0


def test_a_record_is_cut_only_where_it_is_longer_than_wanted():
    whole = record(walk(count=1000))
    (piece,) = whole.pieces(10)
    assert piece is whole
    pieces = list(record(walk(count=1001)).pieces(10))
    assert [len(piece.samples) for piece in pieces] == [1000, 1]
    assert pieces[1].start_ns == START_NS + 10 * NS_PER_S
    slow = record(walk(count=3), Fraction(1, 20)).pieces(10)
    assert [len(piece.samples) for piece in slow] == [1, 1, 1]


def test_a_claim_of_more_samples_than_the_bytes_can_hold_is_refused():
    raw = bytearray(RAW)
    raw[30:32] = b"\xff\xff"  # number of samples
    with pytest.raises(DataError):
        decode(bytes(raw))


def test_records_are_decoded_in_any_thread():
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(decode, [encode(record(walk(seed)))[0] for seed in range(200)]))
    for seed, each in enumerate(got):
        assert np.array_equal(each.samples, walk(seed))
