"""STA/LTA with AIC: onsets where they are, none where the recording begins, ends or is dead."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # obspy's import uses deprecated functions of Python
    import obspy.signal.trigger  # noqa: F401

from model.stalta import StaLtaConfig, pick

RATE_HZ = 100.0
P, S = 0, 1
P_AT, S_AT = 3000, 3600


def noise(length: int = 9000, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, length))


def event(snr: float = 10.0, seed: int = 1, p: int = P_AT, s: int = S_AT) -> np.ndarray:
    """Noise of RMS 1, P mostly on the vertical, a three times stronger S on the horizontals."""
    x = noise(seed=seed)
    rng = np.random.default_rng(seed + 1000)
    for at, gains in ((p, (1, 0.3, 0.3)), (s, (0.9, 3, 3))):
        time = np.arange(x.shape[1] - at)
        burst = rng.normal(size=(3, len(time))) * np.exp(-time / 300)
        x[:, at:] += snr * np.array(gains)[:, None] * burst
    return x


@pytest.mark.parametrize("seed", range(8))
def test_p_and_s_are_found_within_a_twentieth_of_a_second(seed):
    found = pick(event(seed=seed), RATE_HZ)
    assert [phase for phase, _, _ in found] == [P, S]
    assert [index for _, index, _ in found] == pytest.approx([P_AT, S_AT], abs=5)


def test_the_value_is_the_ratio_that_the_trigger_needed_and_grows_with_the_signal():
    c = StaLtaConfig()
    weak, strong = ({p: v for p, _, v in pick(event(snr), RATE_HZ)} for snr in (10, 100))
    assert c.on[P] <= weak[P] < strong[P]
    assert c.on[S] <= weak[S]


def test_the_rate_only_scales_time():
    """An onset at the same second at 250 Hz is found at 2.5 times the sample."""
    x = noise(22_500)
    x[0, 7500:] += (
        15 * np.random.default_rng(5).normal(size=15_000) * np.exp(-np.arange(15_000) / 700)
    )
    assert [p for p, _, _ in pick(x, 250.0)][:1] == [P]
    assert pick(x, 250.0)[0][1] == pytest.approx(7500, abs=12)


def test_unit_and_offset_of_the_samples_do_not_matter():
    want = [(phase, index) for phase, index, _ in pick(event(), RATE_HZ)]
    got = [(phase, index) for phase, index, _ in pick(event() * 1e-9 + 1e-5, RATE_HZ)]
    assert got == want


def test_an_hour_of_stationary_noise_gives_nothing():
    assert pick(noise(360_000), RATE_HZ) == []


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_gap_in_noise_gives_no_onset_at_its_edges(offset):
    x = noise(20_000) + offset
    x[:, 8000:8300] = np.nan
    x[1, 15_000:] = np.nan
    x[0, 12_000:12_004] = np.nan
    assert pick(x, RATE_HZ) == []


@pytest.mark.parametrize("level", [0.0, -12_345.0])
def test_a_filled_gap_and_a_dead_channel_count_as_not_recorded(level):
    filled = noise(20_000)
    filled[:, 8000:8300] = level
    assert pick(filled, RATE_HZ) == []
    assert pick(np.full((3, 9000), level), RATE_HZ) == []


def test_nothing_recorded_gives_nothing():
    assert pick(np.full((3, 9000), np.nan), RATE_HZ) == []
    assert pick(np.zeros((3, 0)), RATE_HZ) == []


def test_an_onset_after_a_gap_is_found_at_its_absolute_sample():
    x = event()
    x[:, 1500:2000] = np.nan
    assert [index for _, index, _ in pick(x, RATE_HZ)] == pytest.approx([P_AT, S_AT], abs=5)


def test_an_onset_hidden_by_the_start_of_a_stretch_is_not_invented_elsewhere():
    x = event()
    x[:, :2990] = np.nan
    assert all(index >= S_AT - 5 for _, index, _ in pick(x, RATE_HZ))


def test_s_is_found_with_one_dead_horizontal_and_on_the_vertical_where_both_are():
    one = event()
    one[1] = 7.0
    assert [index for _, index, _ in pick(one, RATE_HZ)] == pytest.approx([P_AT, S_AT], abs=5)
    vertical_only = event()
    vertical_only[1:] = np.nan
    found = pick(vertical_only, RATE_HZ)
    assert [phase for phase, _, _ in found] == [P, S]
    assert [index for _, index, _ in found] == pytest.approx([P_AT, S_AT], abs=5)


def test_without_a_vertical_there_are_no_onsets():
    x = event()
    x[0] = np.nan
    assert pick(x, RATE_HZ) == []


def test_an_s_that_triggers_the_vertical_is_not_a_second_p():
    x = event(snr=10, s=P_AT + 1000)
    x[0, P_AT + 300 : P_AT + 1000] = noise(700)[0]
    x[0, P_AT + 1000 :] *= 10
    x[1:, P_AT + 1000 :] *= 10
    assert [phase for phase, _, _ in pick(x, RATE_HZ)] == [P, S]
    beyond = replace(StaLtaConfig(), within_s=5.0)
    assert [phase for phase, _, _ in pick(x, RATE_HZ, beyond)].count(P) == 2


def test_two_events_each_have_their_p_and_s():
    both = np.concatenate([event(seed=1), event(seed=2)], axis=1)
    found = pick(both, RATE_HZ)
    assert [phase for phase, _, _ in found] == [P, S, P, S]
    assert [i for _, i, _ in found] == pytest.approx([P_AT, S_AT, 9000 + P_AT, 9000 + S_AT], abs=5)


def test_a_full_scale_spike_deafens_for_minutes_but_not_for_good():
    """A running sum would lose the digits of the noise for ever."""
    before = 50_000
    x = np.concatenate([noise(before, seed=3), event()], axis=1)
    x[:, 400] = 2.0**31
    found = [(phase, index) for phase, index, _ in pick(x, RATE_HZ) if index > 1000]
    assert [phase for phase, _ in found] == [P, S]
    assert [index - before for _, index in found] == pytest.approx([P_AT, S_AT], abs=5)


def test_a_rate_too_low_for_the_band_is_refused():
    with pytest.raises(ValueError, match="fs"):
        pick(noise(), 40.0)
