"""Where something may just have begun, and which onsets of a preview are to be trusted."""

import numpy as np
import pytest

from model.look_ahead import (
    PREVIEW_BLOCKS,
    RISE,
    RISE_BLOCKS,
    TRUST_SAMPLES,
    early_onsets,
    liveliness,
    rise,
    rises,
)
from model.preprocess import BLOCK

THRESHOLDS = (0.8, 0.8)
SEPARATION = 50


def noise(blocks: int, components: int = 3, seed: int = 0) -> np.ndarray:
    """Steady and white, (blocks x 100, components)."""
    samples = np.random.default_rng(seed).normal(size=(blocks * BLOCK, components))
    return samples.astype(np.float32)


def silence(blocks: int = RISE_BLOCKS, components: int = 3) -> np.ndarray:
    return np.zeros((blocks * BLOCK, components), dtype=np.float32)


def passed(samples: np.ndarray) -> list[int]:
    """The blocks of (n x 100, C) that hold a beginning; nothing was recorded before them."""
    whole = np.concatenate([silence(components=samples.shape[1]), samples])
    return np.flatnonzero(rises(liveliness(whole.T))).tolist()


@pytest.mark.parametrize("components", [1, 3])
def test_a_block_that_is_livelier_than_those_before_may_hold_a_beginning(components):
    samples = noise(20, components)
    samples[12 * BLOCK :] *= 2
    assert passed(samples)[0] == 12


def test_a_beginning_on_one_component_of_three_is_one():
    """The vertical of a P; the others count with what they have."""
    samples = noise(20)
    samples[12 * BLOCK :, 0] *= 4
    assert passed(samples)[0] == 12


def test_the_last_quarter_of_a_block_is_enough():
    samples = noise(20)
    samples[12 * BLOCK + 75 : 13 * BLOCK] *= 5
    assert passed(samples) == [12]


def test_steady_noise_never_passes():
    """What a preview costs is spent on beginnings."""
    for components in (1, 3):
        assert passed(noise(2000, components)) == []


def test_the_first_data_never_pass_nor_do_those_behind_a_gap():
    """Where nothing is before, nothing rises; a gap inside the memory has no say in it."""
    samples = 100 * noise(20)
    samples[5 * BLOCK : (5 + RISE_BLOCKS) * BLOCK] = 0
    samples[14 * BLOCK : 16 * BLOCK] = 0
    assert passed(samples) == []


def test_a_beginning_behind_a_short_gap_is_measured_by_what_was_recorded():
    samples = noise(20)
    samples[10 * BLOCK : 13 * BLOCK] = 0
    samples[13 * BLOCK :] *= 2
    assert passed(samples)[0] == 13


def test_rise_is_the_ratio_to_the_mean_of_the_recorded_blocks_before():
    lively = np.array([0, 2, 0, 4, 0, 6, 9], dtype=np.float32)[:, None]
    assert RISE_BLOCKS == 5
    np.testing.assert_allclose(rise(lively), [6 / 3, 9 / 4])
    assert rises(np.array([1, 1, 1, 1, 1, RISE, RISE], dtype=np.float32)[:, None]).tolist() == [
        True,
        False,
    ]


def test_components_count_together():
    lively = np.ones((RISE_BLOCKS + 1, 3), dtype=np.float32)
    lively[-1] = 1, 1, 4
    np.testing.assert_allclose(rise(lively), [2])


def test_liveliness_is_that_of_frequencies_of_onsets():
    """The mean difference over 50 ms: all of 10 Hz, a tenth of 0.3 Hz, nothing of an offset."""
    time_s = np.arange(10 * BLOCK) / 100
    lively = {hz: liveliness(np.sin(2 * np.pi * hz * time_s)[None]).mean() for hz in (0.3, 10.0)}
    assert lively[10.0] == pytest.approx(4 / np.pi, rel=0.05)
    assert lively[0.3] < 0.1 * lively[10.0]
    assert not liveliness(np.full((3, 2, 4 * BLOCK), 7.0)).any()


def test_stations_of_one_call_do_not_touch_each_other():
    samples = np.stack([noise(9, seed=n) for n in range(4)])
    samples[2, 7 * BLOCK :] *= 5
    samples = samples.swapaxes(1, 2)
    together = liveliness(samples)
    assert together.shape == (4, 9, 3)
    for n in range(4):
        assert np.array_equal(together[n], liveliness(samples[n]))
        assert np.array_equal(rises(together)[n], rises(together[n]))
    assert rises(together).any(axis=1).tolist() == [False, False, True, False]


LENGTH = PREVIEW_BLOCKS * BLOCK


def preview(*peaks: tuple[int, int, float]) -> np.ndarray:
    """(2, LENGTH) with triangles at (phase, position, height); a position may lie outside."""
    traces = np.zeros((2, LENGTH), dtype=np.float32)
    for phase, at, height in peaks:
        triangle = height * (1 - np.abs(np.arange(LENGTH) - at) / 41)
        traces[phase] = np.maximum(traces[phase], triangle)
    return traces


def test_onsets_of_a_preview_lie_on_the_absolute_grid_up_to_its_end():
    end = 160_000_000_100
    found = early_onsets(preview((0, 120, 0.9), (1, 220, 0.85)), end, THRESHOLDS, SEPARATION)
    assert [(onset.phase, onset.index) for onset in found] == [
        (0, end - LENGTH + 120),
        (1, end - LENGTH + 220),
    ]
    assert [onset.probability for onset in found] == pytest.approx([0.9, 0.85])


@pytest.mark.parametrize(("behind_it", "count"), [(TRUST_SAMPLES, 1), (TRUST_SAMPLES - 1, 0)])
def test_an_onset_needs_data_behind_it(behind_it, count):
    trace = preview((0, LENGTH - behind_it, 0.9))
    assert len(early_onsets(trace, 10_000, THRESHOLDS, SEPARATION)) == count


def test_an_onset_needs_its_surroundings_before_it():
    """The flank of a peak that is older than the preview is no onset."""
    for at, count in ((-5, 0), (-1, 0), (0, 0), (SEPARATION - 1, 0), (SEPARATION, 1)):
        trace = preview((0, at, 0.95))
        assert trace[0].max() >= THRESHOLDS[0]
        assert len(early_onsets(trace, 10_000, THRESHOLDS, SEPARATION)) == count


def test_an_onset_anywhere_is_trusted_at_the_ends_of_at_least_two_blocks():
    """So that a pick can be moved before it is final, and no place in a block is a worse one."""
    for at in range(BLOCK):
        ends = [
            end
            for end in range(BLOCK, 6 * BLOCK, BLOCK)
            if early_onsets(preview((0, at - end + LENGTH, 0.9)), end, THRESHOLDS, SEPARATION)
        ]
        assert len(ends) >= 2
        assert ends == list(range(ends[0], ends[-1] + 1, BLOCK))
        assert ends[0] - at < BLOCK + TRUST_SAMPLES


def test_an_onset_needs_the_early_probability_of_its_phase():
    trace = preview((0, 150, 0.85), (1, 150, 0.85))
    found = early_onsets(trace, 10_000, (0.9, 0.8), SEPARATION)
    assert [onset.phase for onset in found] == [1]


def test_a_higher_peak_that_is_not_trusted_yet_hides_the_lower_one_beside_it():
    """Two of one phase within the separation are one; which, is seen with the next preview."""
    near = LENGTH - TRUST_SAMPLES + 10
    trace = preview((0, near - 40, 0.85), (0, near, 0.95))
    assert early_onsets(trace, 10_000, THRESHOLDS, SEPARATION) == []
