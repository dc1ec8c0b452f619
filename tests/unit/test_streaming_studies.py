"""The day of one station that `benchmarks/streaming.py --offline --recording` picks."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record, encode

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:seisbench")


@pytest.fixture(scope="module")
def studies(seisbench_cache):
    """The script as a module; what it imports from its own folder is forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import streaming_studies

        yield streaming_studies
    for name in ("streaming_studies", "contenders"):
        del sys.modules[name]


def recording(path: Path, rate: int = 100) -> np.ndarray:
    """Seven and a half seconds of three components, of which N begins a second later."""
    samples = np.random.default_rng(0).integers(-999, 999, (3, 750), dtype=np.int32)
    with path.open("wb") as file:
        for component, trace, late_s in zip("ZNE", samples, (0, 1, 0), strict=True):
            begin = Record(
                Nslc("XX", "A", "", f"HH{component}"),
                late_s * NS_PER_S,
                Fraction(rate),
                trace[late_s * rate :],
            )
            file.writelines(encode(begin))
    return samples


def test_a_recording_is_repeated_by_whole_seconds_from_where_all_components_are(studies, tmp_path):
    samples = recording(tmp_path / "a.mseed")
    day = studies.repeated(tmp_path / "a.mseed", 20)
    assert day.shape == (3, 2000)
    np.testing.assert_array_equal(day, np.tile(samples[:, 100:700], 4)[:, :2000])


def test_a_recording_of_another_rate_is_refused(studies, tmp_path):
    recording(tmp_path / "a.mseed", rate=50)
    with pytest.raises(ValueError, match="100 Hz"):
        studies.repeated(tmp_path / "a.mseed", 20)
