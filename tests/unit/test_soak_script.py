"""The verdict of the soak: growth is seen, noise is not."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def soak() -> Iterator[ModuleType]:
    """The script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import soak

        yield soak


def samples(soak: ModuleType, grow: str = "", by: float = 0.0) -> list[object]:
    """Ten hours; one quantity grows from the beginning to the end by so much."""
    found = []
    for number in range(100):
        values: dict[str, float] = {
            "rss_mb": 400 + number % 3, "descriptors": 15 + number % 2, "threads": 8,
            "spool_mb": 1, "log_mb": 1, "checkpoint_mb": 1, "pending": 0, "packets_waiting": 0,
            "epochs": 30, "published": number,
        }  # fmt: skip
        if grow:
            values[grow] += by * number / 99
        found.append(soak.Sample(data_h=number / 10, wall_s=number, **values))
    return found


def test_a_run_that_stays_as_it_is_has_no_faults(soak):
    assert soak.verdict(samples(soak), {"missing_samples": 0, "records": 7}) == []


@pytest.mark.parametrize(("name", "by"), [("rss_mb", 40), ("descriptors", 8), ("threads", 8)])
def test_what_grows_is_told(soak, name, by):
    (fault,) = soak.verdict(samples(soak, name, by), {})
    assert "grew" in fault


def test_what_was_lost_is_told(soak):
    assert soak.verdict(samples(soak), {"missing_samples": 100}) == ["100 missing_samples"]
