"""The samples of a data set lie in one mapped file that is made anew when what made it changed."""

import csv
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model import preprocess
from model.msnet import MSNet, MSNetConfig
from model.preprocess import Resampler
from streamer.errors import CannotCreateError, DataError
from streamer.timebase import NS_PER_S
from train.baselines import stalta_picker
from train.config import Paths, TrainConfig
from train.data import fit_config
from train.datasets import Record, load_records, resample_range
from train.evaluate import msnet_picker
from train.fit import prepare
from train.folder import Folder
from train.sampler import Sampler
from train.select import select
from train.sources.recording import Pick, Recording, Segment, Station

COUNT = 60
LENGTH = 600
P_INDEX, S_INDEX = 300, 340


def waves(number: int) -> npt.NDArray[np.float32]:
    """float32 (3, LENGTH) with a fraction in every sample."""
    return np.random.default_rng(number).normal(size=(3, LENGTH)).astype(np.float32)


def rate_hz(number: int) -> int:
    """Every fourth record is recorded at twice the model's rate."""
    return 200 if number % 4 == 3 else 100


def recording(number: int, samples: npt.NDArray[np.float32], **changes: object) -> Recording:
    start_ns = number * NS_PER_S
    rate = Fraction(rate_hz(number))
    picks = tuple(
        Pick(phase, start_ns + int(index * NS_PER_S / rate), "manual")
        for phase, index in (("P", P_INDEX), ("S", S_INDEX))
    )
    segments = tuple(Segment(code, 0, x) for code, x in zip("ZNE", samples, strict=False))
    station = Station("XX", f"S{number % 5}", "", "HH")
    whole = Recording("set", f"r{number:03d}", station, start_ns, rate, segments, picks)
    return replace(whole, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """COUNT records of two rates at five stations."""
    with Folder(tmp_path / "data") as out:
        for number in range(COUNT):
            out.add(recording(number, waves(number)))
    return tmp_path / "data"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "set").iterdir())


def same(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    """To the bit, and what was not recorded in the same places."""
    return np.array_equal(one, other, equal_nan=True)


def as_fed(number: int) -> npt.NDArray[np.float32]:
    """The samples of a record of the folder at 100 Hz, without any file between."""
    stop = LENGTH * 100 // rate_hz(number)
    return resample_range(waves(number), Resampler(Fraction(rate_hz(number))), 0, stop)


def test_samples_are_read_only_views_of_one_map_and_equal_the_recording_to_the_bit(folder, cache):
    records = load_records(folder, ("set",), cache)
    assert len({id(record.samples.base) for record in records}) == 1
    assert isinstance(records[0].samples.base.base, np.memmap)
    assert not any(record.samples.flags.writeable for record in records)
    assert [record.record_id for record in records] == [f"r{n:03d}" for n in range(COUNT)]
    for number, record in enumerate(records):
        assert same(record.samples, as_fed(number))
        assert record.arrivals[0].index == P_INDEX * 100 / rate_hz(number)


def test_a_second_start_does_not_read_the_waveforms(folder, cache):
    first = load_records(folder, ("set",), cache)
    for path in folder.rglob("*.mseed"):
        seen = path.stat()
        path.write_bytes(b"\0" * seen.st_size)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    for before, after in zip(first, load_records(folder, ("set",), cache), strict=True):
        assert same(before.samples, after.samples)


def test_a_changed_filter_makes_the_cache_anew(folder, cache, monkeypatch):
    first = load_records(folder, ("set",), cache)
    (old,) = (cache / "set").glob("*.f32")
    monkeypatch.setattr(preprocess, "_PASS_BAND", 0.5)
    remembered = preprocess._minimum_phase_filter, preprocess._resampling_matrix
    for design in remembered:
        design.cache_clear()
    try:
        second = load_records(folder, ("set",), cache)
        assert same(second[3].samples, as_fed(3))
    finally:
        for design in remembered:
            design.cache_clear()
    assert not same(second[3].samples, first[3].samples)
    assert same(second[0].samples, first[0].samples)
    assert len(files(cache)) == 2
    assert not old.exists()
    assert same(first[5].samples, waves(5)), "a running training keeps the old file"


def test_a_changed_waveform_file_makes_the_cache_anew(folder, cache):
    load_records(folder, ("set",), cache)
    before = files(cache)
    path = next(folder.rglob("*.mseed"))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    load_records(folder, ("set",), cache)
    assert len(files(cache)) == 2
    assert not set(files(cache)) & set(before)


def test_changed_picks_leave_the_cache_as_it_is(folder, cache):
    load_records(folder, ("set",), cache)
    before = files(cache)
    (folder / "picks.csv").write_text("dataset,record_id,phase,time,evaluation\n")
    assert not any(record.arrivals for record in load_records(folder, ("set",), cache))
    assert files(cache) == before


def test_native_and_resampled_samples_stand_side_by_side(folder, cache):
    load_records(folder, ("set",), cache)
    native = load_records(folder, ("set",), cache, native=("set",))
    assert same(native[3].samples, waves(3))
    assert native[3].arrivals[0].index == P_INDEX
    assert [name.partition("-")[0] for name in files(cache)] == ["100", "100", "native", "native"]


def test_a_file_that_lost_its_end_is_made_anew(folder, cache):
    load_records(folder, ("set",), cache)
    (path,) = (cache / "set").glob("*.f32")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4)
    assert same(load_records(folder, ("set",), cache)[-1].samples, as_fed(COUNT - 1))


def test_a_build_that_fails_leaves_nothing(folder, cache):
    broken = sorted(folder.rglob("*.mseed"))[2]
    whole = broken.read_bytes()
    broken.write_bytes(b"x" * len(whole))
    with pytest.raises(DataError, match=broken.name):
        load_records(folder, ("set",), cache)
    assert files(cache) == []


def test_a_cache_that_cannot_be_written_is_named(folder, cache):
    cache.write_text("in the way")
    with pytest.raises(CannotCreateError, match=str(cache)):
        load_records(folder, ("set",), cache)


def bad_data(out: Path) -> None:
    """A folder made by hand: what each rule of `select` is there for, and one sound record."""
    spoilt, absurd, flat, dead = (waves(n) for n in range(4))
    spoilt[1, 7] = np.nan
    absurd[0, 7] = 1e12
    flat[:] = 3
    dead[2] = 3
    late = Pick("S", 9 * NS_PER_S, "manual")
    with Folder(out) as folder:
        for name, samples in (("a", spoilt), ("b", absurd), ("c", flat), ("d", dead)):
            folder.add(recording(0, samples, record_id=name))
        folder.add(recording(0, waves(4)[:1], record_id="e"))
        folder.add(recording(0, waves(5), record_id="f", picks=(late,)))
        folder.add(recording(0, waves(6)))
        folder.add(recording(0, waves(7)))


def test_fit_turns_bad_data_away_and_says_why_at_every_start(tmp_path, cache):
    bad_data(tmp_path / "data")
    config, paths = fit_config(["set"]), Paths(data=tmp_path / "data", cache=cache, out=tmp_path)
    expected = {
        "non_finite_samples": 1,
        "absurd_amplitude": 1,
        "flat_record": 1,
        "flat_component": 1,
        "missing_component": 2,
        "pick_outside_trace": 1,
        "duplicate_record": 1,
    }
    data = prepare(config, paths)
    assert data.rejected == expected
    assert [record.record_id for record in data.train] == ["d", "e", "f", "r000"]
    assert np.isnan(data.train[0].samples[2]).all()
    assert same(data.train[3].samples, waves(6))
    # The second start knows this from the index: the samples are not looked at.
    (path,) = (cache / "set").glob("*.f32")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert prepare(config, paths).rejected == expected


def test_the_table_of_contents_tells_people_what_became_of_each_record(tmp_path, cache):
    bad_data(tmp_path / "data")
    load_records(tmp_path / "data", ("set",), cache)
    (index,) = (cache / "set").glob("*.csv")
    with index.open(encoding="utf-8", newline="") as file:
        rows = {row["record_id"]: row for row in csv.DictReader(file)}
    assert rows["b"] == {
        "record_id": "b", "npts": "600", "rule": "absurd_amplitude", "flat": "0", "missing": "0",
    }  # fmt: skip
    assert rows["e"]["missing"] == "2"


def test_training_and_judging_give_the_same_with_mapped_samples_as_with_samples_in_memory(
    folder, cache
):
    mapped, _ = select(load_records(folder, ("set",), cache))
    in_memory = [replace(record, samples=np.array(record.samples)) for record in mapped]
    config = TrainConfig(window_blocks=3, batch=16)
    model = MSNet(MSNetConfig(channels=(8, 8, 8, 8))).eval()
    pickers = (msnet_picker(model, config.preprocess, (0.0, 0.0)), stalta_picker())

    def results(records: list[Record]) -> list[object]:
        sampler = Sampler(records, records[:20], config)
        batches = [sampler.batch(step).samples.tobytes() for step in range(3)]
        return [*batches, *(pick(record) for pick in pickers for record in records[:5])]

    assert results(mapped) == results(in_memory)
