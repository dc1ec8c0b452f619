"""Many files become one sequence of runs of samples by time, as a network would have sent them."""

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import DataError, NoInputError
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.merge import by_cells, survey
from streamer.waveforms.records import Record, encode

T0_NS = 1_600_000_000 * NS_PER_S
HZ_100 = Fraction(100)


def record(station: str, start_s: float, length_s: float, component: str = "Z") -> Record:
    nslc = Nslc("XX", station, "", f"HH{component}")
    samples = np.random.default_rng(0).integers(-99, 99, round(length_s * 100)).astype(np.int32)
    return Record(nslc, T0_NS + round(start_s * NS_PER_S), HZ_100, samples)


def write(path: Path, *records: Record) -> Path:
    path.write_bytes(b"".join(data for piece in records for data in encode(piece, 4096)))
    return path


def cells(paths: list[Path], cell_s: int = 20) -> list[tuple[float, list[tuple[float, str, int]]]]:
    """(end of the cell, its runs: start, channel, samples), times in s since T0."""
    return [
        (
            (end_ns - T0_NS) / NS_PER_S,
            [
                (
                    (run.start_ns - T0_NS) / NS_PER_S,
                    f"{run.nslc.station}{run.nslc.component}",
                    len(run.samples),
                )
                for run in runs
            ],
        )
        for end_ns, runs in by_cells(survey(paths), cell_s)
    ]


def test_files_are_taken_together_cell_by_cell_whatever_their_order(tmp_path):
    paths = [
        write(tmp_path / "late", *(record("LATE", start, 5) for start in (50, 55))),
        write(tmp_path / "a", *(record("A", start, 5) for start in (0, 5, 15))),
        write(tmp_path / "b", *(record("B", start, 3) for start in (2, 18))),
    ]
    expected = [
        (20, [(0, "AZ", 1000), (2, "BZ", 300), (15, "AZ", 500), (18, "BZ", 200)]),
        (40, [(20, "BZ", 100)]),
        (60, [(50, "LATEZ", 1000)]),
    ]
    for _ in range(3):
        random.shuffle(paths)
        assert [(end, sorted(runs)) for end, runs in cells(paths)] == expected


def test_a_file_with_its_channels_one_after_the_other_is_put_in_order(tmp_path):
    """A trace per channel is what most formats hold: no channel may run ahead of the others."""
    path = tmp_path / "file.mseed"
    path.write_bytes(
        b"".join(data for c in "ZNE" for data in encode(record("A", 0, 60, c), record_bytes=65_536))
    )
    expected = [(n + 20, [(n, f"A{c}", 2000) for c in "ZNE"]) for n in (0, 20, 40)]
    assert cells([path]) == expected


def test_channels_that_take_turns_in_a_file_in_order_are_all_in_their_cell(tmp_path):
    """The record of one is cut at the end of the cell while those of the others still follow."""
    taking_turns = [record("A", start, 12, c) for start in (0, 12, 24) for c in "ZNE"]
    assert cells([write(tmp_path / "file", *taking_turns)]) == [
        (20, [(0, f"A{c}", 2000) for c in "ZNE"]),
        (40, [(20, f"A{c}", 1600) for c in "ZNE"]),
    ]


def test_no_sample_is_lost_or_changed(tmp_path):
    whole = record("A", 3, 60)
    path = write(tmp_path / "file", whole)
    runs = [run for _, runs in by_cells(survey([path]), 7) for run in runs]
    assert np.array_equal(np.concatenate([run.samples for run in runs]), whole.samples)


@pytest.mark.parametrize(
    ("second_s", "runs"),
    [
        (10.0, 1),
        (10.0001, 1),  # headers round to 100 us
        (10.004, 2),  # on the grid it continues, but another clock offset holds
        (10.02, 2),
        (9.99, 2),  # an overlap is for the ring to judge
    ],
)
def test_only_what_a_ring_would_take_alike_is_joined(tmp_path, second_s, runs):
    path = write(tmp_path / "file", record("A", 0, 10), record("A", second_s, 5))
    ((_, found),) = by_cells(survey([path]), 20)
    assert len(found) == runs
    assert sum(len(run.samples) for run in found) == 1500


def test_records_of_another_kind_of_number_are_a_run_of_their_own(tmp_path):
    whole = record("A", 10, 5)
    path = write(tmp_path / "file", record("A", 0, 10), replace(whole, samples=whole.samples / 3))
    ((_, found),) = by_cells(survey([path]), 20)
    assert [run.samples.dtype for run in found] == [np.int32, np.float64]


def test_files_in_order_are_read_as_they_are_needed(tmp_path):
    """Days of one channel: the second is opened only when the first has come that far."""
    day = [write(tmp_path / f"day{n}", record("A", 100 * n, 100)) for n in range(2)]
    taken = by_cells(survey(day), 50)
    assert (next(taken)[1][0].start_ns - T0_NS) / NS_PER_S == 0
    day[1].unlink()
    with pytest.raises(NoInputError):
        list(taken)


def test_the_survey_tells_what_a_file_holds(tmp_path):
    path = write(tmp_path / "file", record("A", 20, 5, "Z"), record("A", 10, 5, "N"))
    seen: list[Path] = []
    (span,) = survey([path], on_file=seen.append)
    assert ((span.start_ns - T0_NS) / NS_PER_S, (span.end_ns - T0_NS) / NS_PER_S) == (10, 25)
    assert {str(nslc) for nslc in span.channels} == {"XX.A..HHZ", "XX.A..HHN"}
    assert not span.in_order
    assert seen == [path]


def test_what_cannot_be_read_is_told_and_the_rest_used(tmp_path):
    """Foreign bytes by the survey, corrupt samples only when they are read."""
    path = write(tmp_path / "file", record("A", 0, 5), record("A", 5, 5))
    data = bytearray(path.read_bytes())
    data[64 + 4 * 5] ^= 1  # a difference in the first frame of the first record
    path.write_bytes(data + b"rubbish " * 10)
    rejected: list[str] = []
    spans = survey([path], rejected.append)
    assert len(rejected) == 1
    ((_, runs),) = by_cells(spans, 20, rejected.append)
    assert [(run.start_ns - T0_NS) / NS_PER_S for run in runs] == [5]
    assert ["corrupt" in each for each in rejected] == [False, True, False]
    assert all("file" in each for each in rejected)


def test_files_without_waveforms_are_an_error(tmp_path):
    (tmp_path / "text").write_text("nothing to see")
    with pytest.raises(DataError, match="text"):
        survey([tmp_path / "text"])
    with pytest.raises(NoInputError, match="missing"):
        survey([tmp_path / "missing"])
