"""The onset rule: which peaks of the probability traces are onsets, and where exactly."""

import numpy as np
import pytest

from model.onsets import OnsetDetector, find_onsets

SEPARATION = 50
THRESHOLDS = (0.3, 0.4)


def trace(*peaks: tuple[float, float], length: int = 1000, width: float = 10.0) -> np.ndarray:
    """Gaussian bumps (position, height) as one probability trace."""
    position = np.arange(length)
    bumps = [height * np.exp(-(((position - at) / width) ** 2)) for at, height in peaks]
    return np.max([np.zeros(length), *bumps], axis=0).astype(np.float32)


def found(p=None, s=None, length: int = 1000):
    quiet = np.zeros(length, dtype=np.float32)
    both = np.stack([quiet if p is None else p, quiet if s is None else s])
    return [(o.phase, round(o.index, 3)) for o in find_onsets(both, THRESHOLDS, SEPARATION)]


def test_p_and_s_a_fraction_of_a_second_apart_are_both_found():
    """Each phase has its own trace: 0.3 s at 100 Hz is nothing special."""
    assert found(p=trace((500, 0.9)), s=trace((530, 0.8))) == [(0, 500), (1, 530)]
    assert found(p=trace((500, 0.9)), s=trace((500, 0.8))) == [(0, 500), (1, 500)]


def test_two_onsets_of_one_phase_within_the_separation_are_the_higher_one():
    assert found(p=trace((500, 0.7), (540, 0.9))) == [(0, 540)]
    assert found(p=trace((500, 0.9), (540, 0.7))) == [(0, 500)]


def test_two_onsets_of_one_phase_beyond_the_separation_are_two():
    apart = trace((500, 0.7), (500 + SEPARATION + 1, 0.9), width=0.1)
    assert found(p=apart) == [(0, 500), (0, 551)]
    closer = trace((500, 0.7), (500 + SEPARATION, 0.9), width=0.1)
    assert found(p=closer) == [(0, 550)]


def test_the_threshold_of_each_phase_is_reached_by_equality():
    at, below = np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(0))
    spike = np.zeros(1000, dtype=np.float32)
    spike[400] = at
    assert len(find_onsets(spike[None], (float(at),), SEPARATION)) == 1
    spike[400] = below
    assert find_onsets(spike[None], (float(at),), SEPARATION) == []
    assert found(p=trace((400, 0.35)), s=trace((400, 0.35))) == [(0, 400)]


def test_a_flat_top_is_located_at_its_middle():
    plateau = np.zeros(1000, dtype=np.float32)
    plateau[500:511] = 0.9
    assert found(p=plateau) == [(0, 505)]


def test_the_position_is_finer_than_a_sample():
    onsets = find_onsets(trace((500.3, 0.9))[None], (0.3,), SEPARATION)
    assert [onset.index for onset in onsets] == pytest.approx([500.3], abs=0.05)
    assert onsets[0].probability == pytest.approx(0.9, abs=0.01)


def test_a_second_bump_does_not_shift_the_position_of_the_first():
    """Only what hangs together with the peak above the share counts."""
    assert found(p=trace((500, 0.9), (530, 0.85), width=4)) == [(0, 500)]


def test_onsets_at_the_ends_of_the_traces_are_found():
    ends = np.zeros(1000, dtype=np.float32)
    ends[0] = ends[999] = 0.8
    assert found(p=ends) == [(0, 0), (0, 999)]


def test_onsets_come_in_order_of_time():
    onsets = found(p=trace((300, 0.5), (700, 0.9)), s=trace((200, 0.9), (500, 0.6)))
    assert onsets == [(1, 200), (0, 300), (1, 500), (0, 700)]


def test_an_onset_is_given_out_once_its_right_side_is_known():
    detector = OnsetDetector((0.3,), SEPARATION)
    whole = trace((500, 0.9))[None]
    assert detector.push(10_000, whole[:, : 500 + SEPARATION]) == []
    certain = detector.push(10_550, whole[:, 550:551])
    assert [round(onset.index) for onset in certain] == [10_500]
    assert detector.push(10_551, whole[:, 551:]) == []
    assert detector.finish() == []


def test_finish_judges_what_is_left():
    detector = OnsetDetector((0.3,), SEPARATION)
    assert detector.push(0, trace((980, 0.9))[None]) == []
    assert detector.open
    assert [round(onset.index) for onset in detector.finish()] == [980]
    assert not detector.open
    assert detector.finish() == []


@pytest.mark.parametrize("cut", [955, 970, 979, 980, 981, 985, 1000, 1029])
def test_traces_that_go_on_after_finish_do_not_repeat_an_onset(cut):
    """The flank behind a cut is no onset of its own, nor is a higher peak within the separation."""
    whole = trace((980, 0.9), length=2000)[None]
    detector = OnsetDetector((0.3,), SEPARATION)
    onsets = detector.push(0, whole[:, :cut]) + detector.finish()
    onsets += detector.push(cut, whole[:, cut:]) + detector.finish()
    assert len(onsets) == 1
    assert abs(onsets[0].index - 980) < 15


def test_traces_that_go_on_after_finish_lose_nothing_beyond_the_separation():
    whole = trace((980, 0.9), (1040, 0.8), length=2000, width=5)[None]
    detector = OnsetDetector((0.3,), SEPARATION)
    onsets = detector.push(0, whole[:, :985]) + detector.finish()
    onsets += detector.push(985, whole[:, 985:]) + detector.finish()
    assert [round(onset.index) for onset in onsets] == [980, 1040]


def test_a_jump_after_finish_begins_new_traces():
    detector = OnsetDetector((0.3,), SEPARATION)
    detector.push(0, trace((995, 0.9))[None])
    detector.finish()
    onsets = detector.push(1010, trace((20, 0.8))[None])
    assert [round(onset.index, 1) for onset in onsets] == [1030]


@pytest.mark.parametrize("start", [999, 1001, 0])
def test_a_piece_that_does_not_continue_the_traces_is_an_error(start):
    detector = OnsetDetector((0.3,), SEPARATION)
    detector.push(0, trace(length=1000)[None])
    with pytest.raises(ValueError, match="ends at sample 1000"):
        detector.push(start, trace(length=10)[None])


def test_memory_is_bounded_by_the_separation():
    detector = OnsetDetector((0.3, 0.3), SEPARATION)
    rng = np.random.default_rng(0)
    for start in range(0, 100_000, 1000):
        detector.push(start, rng.random((2, 1000)).astype(np.float32))
    assert detector._trace.shape[1] <= 2 * SEPARATION
    assert detector._trace.base is None  # or the traces of a whole batch would stay with it


def test_what_is_decided_lies_one_separation_behind_the_end_until_the_traces_finish():
    detector = OnsetDetector((0.3,), SEPARATION)
    detector.push(10_000, trace(length=30)[None])
    assert (detector.end, detector.decided, detector.open) == (10_030, 10_000, True)
    detector.push(10_030, trace(length=300)[None])
    assert (detector.end, detector.decided) == (10_330, 10_330 - SEPARATION)
    detector.finish()
    assert (detector.end, detector.decided, detector.open) == (10_330, 10_330, False)


def test_what_is_too_low_for_an_onset_is_passed_over_without_a_look():
    """As if it had been pushed; not if it reaches the floor, if something waits, or after a gap."""
    detector = OnsetDetector((0.3, 0.4), SEPARATION)
    detector.push(0, np.zeros((2, 300), dtype=np.float32))
    assert not detector.pass_over(300, 400, 0.27)  # part of the centroid of an onset of 0.3
    assert not detector.pass_over(301, 400, 0.1)
    assert detector.pass_over(300, 400, 0.26)
    assert (detector.end, detector.decided, detector.open) == (400, 400 - SEPARATION, True)
    bump = trace((95, 0.9), length=100)
    detector.push(400, np.stack([bump, np.zeros_like(bump)]))
    assert not detector.pass_over(500, 600, 0.0)
    (onset,) = detector.push(500, np.zeros((2, 100), dtype=np.float32))
    assert round(onset.index) == 495
