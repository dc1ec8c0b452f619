"""Many files become one sequence of records by start time, as a network would have sent them."""

import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import DataError, NoInputError
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.merge import in_time_order, survey
from streamer.waveforms.records import PIECE_S, Record, encode

T0_NS = 1_600_000_000 * NS_PER_S
HZ_100 = Fraction(100)


def record(station: str, start_s: float, length_s: float, component: str = "Z") -> Record:
    nslc = Nslc("XX", station, "", f"HH{component}")
    samples = np.random.default_rng(0).integers(-99, 99, round(length_s * 100)).astype(np.int32)
    return Record(nslc, T0_NS + round(start_s * NS_PER_S), HZ_100, samples)


def write(path: Path, *records: Record) -> Path:
    path.write_bytes(b"".join(data for piece in records for data in encode(piece, 4096)))
    return path


def order(paths: list[Path]) -> list[tuple[float, str]]:
    return [
        ((piece.start_ns - T0_NS) / NS_PER_S, f"{piece.nslc.station}{piece.nslc.component}")
        for piece in in_time_order(survey(paths))
    ]


def test_records_of_all_files_come_by_start_time(tmp_path):
    paths = [
        write(tmp_path / "late", *(record("LATE", start, 5) for start in (40, 45, 50))),
        write(tmp_path / "a", *(record("A", start, 5) for start in (0, 5, 10))),
        write(tmp_path / "b", *(record("B", start, 3) for start in (2, 5, 8))),
    ]
    expected = [
        (0, "AZ"), (2, "BZ"), (5, "AZ"), (5, "BZ"), (8, "BZ"), (10, "AZ"),
        (40, "LATEZ"), (45, "LATEZ"), (50, "LATEZ"),
    ]  # fmt: skip
    for _ in range(3):
        random.shuffle(paths)
        assert sorted(order(paths)) == expected
        assert [start for start, _ in order(paths)] == [start for start, _ in expected]


def test_a_file_with_its_channels_one_after_the_other_is_put_in_order(tmp_path):
    pieces = [record("A", start, 5, c) for c in "ZNE" for start in (0, 5, 10)]
    starts = [start for start, _ in order([write(tmp_path / "file", *pieces)])]
    assert starts == sorted(starts)


def test_long_records_that_begin_together_are_taken_apart_together(tmp_path):
    """A trace per channel is what most formats hold: no channel may run ahead of the others."""
    (tmp_path / "file.mseed").write_bytes(
        b"".join(data for c in "ZNE" for data in encode(record("A", 0, 60, c), record_bytes=65_536))
    )
    found = order([tmp_path / "file.mseed"])
    assert [start for start, _ in found] == [n for n in range(0, 60, PIECE_S) for _ in "ZNE"]


def test_no_sample_is_lost_or_changed(tmp_path):
    whole = record("A", 0, 60)
    path = write(tmp_path / "file", whole)
    pieces = list(in_time_order(survey([path])))
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), whole.samples)
    assert all(len(piece.samples) <= PIECE_S * 100 for piece in pieces)


def test_files_in_order_are_read_as_they_are_needed(tmp_path):
    """Days of one channel: the second is opened only when the first has come that far."""
    day = [write(tmp_path / f"day{n}", record("A", 100 * n, 100)) for n in range(2)]
    pieces = in_time_order(survey(day))
    assert (next(pieces).start_ns - T0_NS) / NS_PER_S == 0
    day[1].unlink()
    with pytest.raises(NoInputError):
        list(pieces)


def test_the_survey_tells_what_a_file_holds(tmp_path):
    path = write(tmp_path / "file", record("A", 20, 5, "Z"), record("A", 10, 5, "N"))
    seen: list[Path] = []
    (span,) = survey([path], on_file=seen.append)
    assert ((span.start_ns - T0_NS) / NS_PER_S, (span.end_ns - T0_NS) / NS_PER_S) == (10, 25)
    assert {str(nslc) for nslc in span.channels} == {"XX.A..HHZ", "XX.A..HHN"}
    assert not span.in_order
    assert seen == [path]


def test_what_cannot_be_read_is_told_and_the_rest_used(tmp_path):
    path = write(tmp_path / "file", record("A", 0, 5), record("A", 5, 5))
    data = path.read_bytes()
    path.write_bytes(data + b"rubbish " * 10)
    rejected: list[str] = []
    (span,) = survey([path], rejected.append)
    assert len(list(in_time_order([span]))) == 2
    assert len(rejected) == 1
    assert "file" in rejected[0]


def test_files_without_waveforms_are_an_error(tmp_path):
    (tmp_path / "text").write_text("nothing to see")
    with pytest.raises(DataError, match="text"):
        survey([tmp_path / "text"])
    with pytest.raises(NoInputError, match="missing"):
        survey([tmp_path / "missing"])
