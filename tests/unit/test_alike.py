"""Records read many at once are what they are one by one, whatever is wrong with some of them."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms import alike
from streamer.waveforms.archive import read_records, read_stretches
from streamer.waveforms.merge import by_cells, survey
from streamer.waveforms.records import Record, Stretch, encode, scan_headers

T0_NS = 1_400_000_000 * NS_PER_S  # 2014-05-13
RECORD_BYTES = 512


def channel(
    component: str = "Z", start_s: float = 0, count: int = 48, seed: int = 0, record_s: int = 1
) -> list[bytes]:
    """`count` records of `record_s` seconds at 100 Hz."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-99, 99, (count, 100 * record_s)).astype(np.int32)
    nslc = Nslc("XX", "ABC", "", f"HH{component}")
    starts = (T0_NS + round((start_s + n * record_s) * NS_PER_S) for n in range(count))
    return [
        encode(Record(nslc, start_ns, Fraction(100), samples))[0]
        for start_ns, samples in zip(starts, values, strict=True)
    ]


def changed(record: bytes, *bytes_at: tuple[int, bytes]) -> bytes:
    data = bytearray(record)
    for at, new in bytes_at:
        data[at : at + len(new)] = new
    return bytes(data)


# (where, what): blockette 1001 behind 1000, before it, and a time correction of 1.2 ms.
QUALITY = b"\x03\xe9\x00\x00" + bytes([93, 0, 0, 7])
BEHIND = ((39, b"\2"), (44, b"\0\x40"), (50, b"\0\x38"), (56, QUALITY))
BEFORE = ((39, b"\2"), (48, QUALITY[:2] + b"\0\x38" + QUALITY[4:]), (56, b"\3\xe8\0\0\x0b\1\x09\0"))
CORRECTED = ((40, (12).to_bytes(4, "big")),)


def facts(record: Record) -> tuple[Any, ...]:
    samples = record.samples.dtype, record.samples.tobytes()
    marks = record.flags, record.timing_quality
    return record.nslc, record.start_ns, record.rate, *marks, *samples


def singly(path: Path) -> tuple[list[tuple[Any, ...]], list[str]]:
    rejected: list[str] = []
    return [facts(record) for record in read_records(path, rejected.append)], rejected


def together(path: Path) -> tuple[list[tuple[Any, ...]], list[str]]:
    rejected: list[str] = []
    pieces = list(read_stretches(path, rejected.append))
    return [facts(record) for piece in pieces for record in records(piece)], rejected


def records(piece: Record | Stretch) -> Iterator[Record]:
    yield from piece.records() if isinstance(piece, Stretch) else [piece]


@pytest.mark.parametrize("layout", [(), BEHIND, BEFORE, CORRECTED, (*BEFORE, *CORRECTED)])
def test_a_row_of_records_is_one_stretch(tmp_path: Path, layout: tuple[tuple[int, bytes], ...]):
    path = tmp_path / "file"
    row = [changed(record, *layout) for record in channel()]
    if (56, QUALITY) in layout:  # blockettes tell microseconds, other ones in each record
        row = [changed(record, (61, bytes([n]))) for n, record in enumerate(row)]
    path.write_bytes(b"".join(row))
    (piece,) = read_stretches(path)
    assert isinstance(piece, Stretch)
    assert together(path) == singly(path)
    ((_, extent),) = scan_headers(path, pytest.fail)
    assert (extent.start_ns, extent.last_ns) == (piece.start_ns, piece.last_ns)
    assert extent.end_ns == list(piece.records())[-1].end_ns


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (0, b"ABCDEF"),  # sequence number
        (6, b"X"),  # no header
        (20, bytes([2016 >> 8, 2016 & 255, 366 >> 8, 366 & 255, 23, 59, 60])),  # a leap second
        (20, bytes([2016 >> 8, 2016 & 255, 366 >> 8, 366 & 255, 23, 59, 59])),
        (20, bytes([2015 >> 8, 2015 & 255, 366 >> 8, 366 & 255, 23, 59, 59])),  # no such day
        (20, b"\x07\xdd\x00\x01\x00\x00\x00"),  # an earlier time
        (24, bytes([24])),  # hour
        (28, b"\xff\xff"),  # fraction of a second
        (30, b"\x00\x00"),  # samples
        (30, b"\x00\x63"),
        (30, b"\xff\xff"),
        (32, b"\x00\x32"),  # rate
        (36, b"\x01"),  # calibration
        (38, b"\x80"),  # bad clock
        (40, b"\x00\x00\x00\x09"),  # time correction
        (44, b"\x02\x00"),  # where the samples begin
        (48, b"\x01\xf4"),  # another blockette
        (52, b"\x0a"),  # encoding
        (54, b"\x08"),  # length
        (84, b"\xff"),  # a difference
    ],
)
def test_whatever_one_record_has_of_its_own_it_is_read_as_if_alone(
    tmp_path: Path, at: int, new: bytes
):
    path = tmp_path / "file"
    row = channel(count=64)
    row[30] = changed(row[30], (at, new))
    path.write_bytes(b"".join(row))
    assert any(isinstance(piece, Stretch) for piece in read_stretches(path))
    assert together(path) == singly(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, 40 * RECORD_BYTES - 1), st.integers(0, 255), max_size=8))
def test_damage_costs_what_it_costs_record_by_record(tmp_path: Path, damage: dict[int, int]):
    path = tmp_path / "file"
    data = bytearray(b"".join(channel(count=40)))
    for at, byte in damage.items():
        data[at] = byte
    path.write_bytes(data)
    assert together(path) == singly(path)


def test_a_row_is_found_soon_after_channels_took_turns(tmp_path: Path):
    turns = [record for three in zip(*map(channel, "ZNE"), strict=True) for record in three]
    path = tmp_path / "file"
    path.write_bytes(b"".join([*turns, *channel(start_s=48, count=200)]))
    stretches = [piece for piece in read_stretches(path) if isinstance(piece, Stretch)]
    assert sum(len(stretch.starts_ns) for stretch in stretches) > 200 - 64
    assert together(path) == singly(path)


Rows = list[bytes]
ARRANGEMENTS: dict[str, Callable[[Rows], list[Rows]]] = {
    "in order": lambda row: [row],
    "channel by channel": lambda row: [[*row, *channel("N"), *channel("E", 0.003)]],
    "the end first": lambda row: [[*row[24:], *row[:24]]],
    "records of other lengths": lambda row: [[*row, *channel("N", 0.3, record_s=3)]],
    "other values later in the file": lambda row: [[*row, *channel(seed=1, start_s=20)]],
    "three values": lambda row: [[*row, *channel(seed=1, start_s=20.253), *channel(seed=2)]],
    "other values in another file": lambda row: [row, channel(seed=1, start_s=0.5)],
    "a gap": lambda row: [[*row[:20], *channel(start_s=24.253)]],
    "another clock offset": lambda row: [[*row[:24], *channel(start_s=24.25)]],
}


@pytest.mark.parametrize("arranged", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
@pytest.mark.parametrize("cell_s", [7, 20])
def test_cells_and_runs_are_those_of_single_records(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arranged: Callable[[Rows], list[Rows]],
    cell_s: int,
):
    """Of samples that overlap the first stay, so the order of records must not change either."""
    paths = [tmp_path / f"file{n}" for n in range(2)]
    for path, rows in zip(paths, arranged(channel(start_s=0.253)), strict=False):
        path.write_bytes(b"".join(rows))
    given = [path for path in paths if path.exists()]

    def found() -> tuple[Any, ...]:
        spans = survey(given)
        cells = [(end, list(map(facts, runs))) for end, runs in by_cells(spans, cell_s)]
        return [(span.start_ns, span.end_ns, span.in_order) for span in spans], cells

    at_once = found()
    monkeypatch.setattr(alike, "_row", lambda data, at: None)
    assert not any(isinstance(piece, Stretch) for piece in read_stretches(given[0]))
    assert found() == at_once
