"""What a pick says of its signal: each number against what the signal was made of."""

import math

import numpy as np
import pytest
from onset_excerpts import AT, COUNT, RATE, around, event, noise

from streamer.picking.measures import LEAST_POLARITY_PROB, Measures, first_motion, measure

TIME_S = (np.arange(COUNT) - AT) / RATE


def test_signal_to_noise_ratio_is_that_of_three_seconds_after_and_before():
    sine = np.sin(2 * np.pi * 10 * TIME_S)
    samples = np.stack([np.where(TIME_S < 0, 100 * sine, 700 * sine)] * 3)
    assert measure(around(samples), 0).snr == pytest.approx(7, rel=0.02)


@pytest.mark.parametrize("hz", [2.0, 5.0, 12.5])
def test_amplitude_and_period_are_those_of_the_largest_swing(hz):
    samples = noise(level=1) + event(5000, hz, decay_s=3.0)
    found = measure(around(samples), 0)
    swing = 5000 * math.exp(-1 / (4 * hz) / 3)
    assert found.amplitude == pytest.approx(swing, rel=0.1)
    assert found.period_s == pytest.approx(1 / hz, rel=0.1)


def test_an_offset_does_not_count():
    samples = noise() + event()
    plain, offset = measure(around(samples), 0), measure(around(samples + 1_000_000), 0)
    assert offset.snr == pytest.approx(plain.snr)
    assert offset.amplitude == pytest.approx(plain.amplitude)


@pytest.mark.parametrize("missing", [slice(AT + 299, AT + 300), slice(AT - 300, AT - 299)])
def test_without_all_samples_nothing_is_said(missing):
    assert measure(around(noise() + event(), missing=missing), 0) == Measures()


def test_in_perfect_silence_there_is_no_ratio():
    found = measure(around(event(), at=AT), 0)
    assert found.snr is None
    assert found.amplitude > 0


@pytest.mark.parametrize(("sign", "direction"), [(1, "up"), (-1, "down")])
@pytest.mark.parametrize("beside", [-8, 0, 8])
def test_a_clear_first_motion_is_told_and_told_right(sign, direction, beside):
    """Noise that swings far just before the onset makes it unclear."""
    motions = [
        first_motion(around(noise(seed) + sign * event(3000, 4), at=AT + beside), 0)
        for seed in range(20)
    ]
    told = [motion for motion in motions if motion]
    assert len(told) >= 14
    assert {motion for motion, _ in told} == {direction}
    assert all(LEAST_POLARITY_PROB <= probability < 1 for _, probability in told)


@pytest.mark.parametrize("seed", range(20))
def test_no_first_motion_is_told_where_there_is_only_noise_or_a_weak_arrival(seed):
    assert first_motion(around(noise(seed)), 0) is None
    assert first_motion(around(noise(seed) + event(40, 4)), 0) is None


def test_first_motion_needs_a_third_of_a_second_after_the_onset_and_no_more():
    samples = noise() + event(3000, 4)
    assert first_motion(around(samples, missing=slice(AT + 35, COUNT)), 0)
    assert first_motion(around(samples, missing=slice(AT + 34, COUNT)), 0) is None
