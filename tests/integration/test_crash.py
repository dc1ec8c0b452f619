"""Invariant 2: killed with -9 at any instant, any number of times, nothing is lost or told twice.

`tests/crash_long.py` is the same for as long as wanted.
"""

import tempfile
from pathlib import Path

import pytest
from crash_parts import SCENES, Scene, Told, long_archive, undisturbed

from streamer.waveforms.archive import RawRecord

REPEATS = 2  # of the recordings: nearly 8 minutes of four stations


@pytest.fixture(scope="module")
def records() -> list[RawRecord]:
    return long_archive(REPEATS)


@pytest.fixture(scope="module")
def expected(redis_server_binary: str, records: list[RawRecord]) -> Told:
    with tempfile.TemporaryDirectory(prefix="calm") as folder:
        told = undisturbed(Path(folder), redis_server_binary, records)
    finals = [fields for fields in told.values() if fields["final"] == "1"]
    assert len(finals) > 40
    assert len(told) > len(finals), "no pick was told before it was final"
    return told


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_killed_at_any_instant_the_daemon_tells_what_one_tells_that_is_left_alone(
    redis_server_binary: str, records: list[RawRecord], expected: Told, scene: Scene
) -> None:
    """Every message of every pick, once, whatever the instants (the seed is the same each time)."""
    done = scene.play(redis_server_binary, records, expected, seed=1)
    assert all(done[name] for name in scene.weights), done
