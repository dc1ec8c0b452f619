"""The shipped weights and thresholds through the deployed path, on whole records."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import obspy
import pytest

from model import artifact
from model.preprocess import Resampler
from train.config import DataConfig
from train.datasets import Record, load_records, resample_range
from train.evaluate import artifact_picker, quiet_picks, score

TOLERANCE_S = 0.5
MAX_FALSE_PER_STATION_HOUR = 5
DEMO = Path(obspy.__file__).parent / "signal" / "tests" / "data"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shipped() -> artifact.Artifact:
    return artifact.load()


@pytest.mark.peer
@pytest.mark.parametrize(("dataset", "floor"), [("stead_sample", 0.95), ("martinique", 0.44)])
def test_recall_holds_its_floor(shipped, shared_data, tmp_path, dataset, floor):
    """`stead_sample` was learnt from, `martinique` only decided when to stop."""
    by = score(artifact_picker(shipped), load_records(shared_data, (dataset,), tmp_path))
    assert by["P"].recall(TOLERANCE_S) >= floor
    assert by["S"].recall(TOLERANCE_S) >= floor


@pytest.mark.peer
def test_false_picks_on_quiet_data_stay_as_rare_as_the_thresholds_promise(
    shipped, shared_data, tmp_path
):
    config = DataConfig()
    records = load_records(shared_data, config.quiet, tmp_path)
    false = quiet_picks(artifact_picker(shipped), records, config.quiet_s)
    assert false.hours > 4
    assert false.rate() <= MAX_FALSE_PER_STATION_HOUR


def demo_record(station: str) -> tuple[obspy.UTCDateTime, Record]:
    """One station of obspy's bundled recordings of two geothermal microearthquakes, at 100 Hz."""
    traces = obspy.Stream()
    for path in sorted(DEMO.glob(f"BW.{station}._.?H?.D.2010.147.cut.slist.gz")):
        traces += obspy.read(path)
    rate = Fraction(traces[0].stats.sampling_rate).limit_denominator(1000)
    length = max(t.stats.npts for t in traces)
    samples = np.full((3, length), np.nan, dtype=np.float32)
    for trace in traces:
        samples["ZNE".index(trace.stats.channel[-1]), : trace.stats.npts] = trace.data
    resampler = Resampler(rate)
    stop = length * resampler.up // resampler.down
    resampled = resample_range(samples, resampler, 0, stop)
    return traces[0].stats.starttime, Record("demo", station, resampled)


def test_both_demo_earthquakes_are_picked_on_the_stations_that_recorded_them(shipped):
    """P on at least three of four stations; P and S on UH3, within 0.2 s of what is known."""
    pick = artifact_picker(shipped)
    found = {}
    for station in ("UH1", "UH2", "UH3", "UH4"):
        start, record = demo_record(station)
        found[station] = [(phase, start + index / 100) for phase, index, _ in pick(record)]

    def picked(station: str, phase: int, time: str, within_s: float) -> bool:
        known = obspy.UTCDateTime(f"2010-05-27T{time}")
        return any(p == phase and abs(t - known) <= within_s for p, t in found[station])

    for p_at, s_at in (("16:24:33.15", "16:24:34.32"), ("16:27:30.42", "16:27:31.59")):
        assert picked("UH3", 0, p_at, 0.2)
        assert picked("UH3", 1, s_at, 0.3)
        assert sum(picked(station, 0, p_at, 1.2) for station in found) >= 3
    assert picked("UH4", 0, "16:24:34.12", 0.2)
    assert picked("UH4", 0, "16:27:31.37", 0.2)
