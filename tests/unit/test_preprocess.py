"""Preprocessing: what the network sees of silence, gaps, offsets, and other sampling rates."""

from fractions import Fraction

import numpy as np
import pytest

from model.preprocess import (
    _AT_ONCE,
    BLOCK,
    MODEL_RATE,
    PreprocessConfig,
    Resampler,
    constant,
    initial_state,
    normalise,
    normalise_next,
    state_size,
)

CONFIG = PreprocessConfig()
RATES_HZ = (20, 25, 40, 50, 62.5, 80, 120, 125, 200, 250, 256, 500, 512, 1000)


def noise(components: int, blocks: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(components, blocks * BLOCK)) * 300 + 5000


def all_valid(components: int, blocks: int) -> np.ndarray:
    return np.ones((components, blocks), dtype=bool)


@pytest.mark.parametrize("offset", [0.0, 7.0, 0.1, -1234.567, 1e6 + 0.3, 2.0**31])
def test_a_dead_channel_is_silent_whatever_its_offset(offset):
    """Rounding of the high-pass must not become the noise level that everything is divided by."""
    y = normalise(np.full((1, 40 * BLOCK), offset), all_valid(1, 40), CONFIG)
    assert not y.any()


@pytest.mark.parametrize("rate_hz", [50, 200, 250, 1000])
def test_a_dead_channel_is_silent_after_resampling(rate_hz):
    resampler = Resampler(Fraction(rate_hz))
    first, stop = resampler.input_range(1000, 5000)
    x = resampler(np.full((1, stop - first), 1234.567), 1000, 5000)
    assert not normalise(x, all_valid(1, 40), CONFIG).any()


def test_one_count_of_noise_on_a_large_offset_is_not_silent():
    """The rule for dead channels spares the least that a digitiser can send."""
    x = 2.0**23 + np.random.default_rng(0).integers(0, 2, (1, 40 * BLOCK))
    assert np.std(normalise(x, all_valid(1, 40), CONFIG)[:, 3 * BLOCK :]) > 0.5


def test_a_dead_component_leaves_the_others_alone():
    x = noise(3, 40)
    alone = normalise(x, all_valid(3, 40), CONFIG)
    x[1] = 17.5
    with_dead = normalise(x, all_valid(3, 40), CONFIG)
    assert not with_dead[1].any()
    assert np.array_equal(with_dead[[0, 2]], alone[[0, 2]])


def test_noise_comes_out_at_the_level_the_gain_sets():
    """The median of |noise| is 0.674 levels; gain and asinh make the rest."""
    y = normalise(noise(1, 200), all_valid(1, 200), CONFIG)[:, 40 * BLOCK :]
    assert np.median(np.abs(y)) == pytest.approx(np.arcsinh(CONFIG.gain * 0.674), rel=0.05)


@pytest.mark.parametrize("factor", [2.0**-20, 0.37, 1e6])
@pytest.mark.parametrize("shared", [False, True])
def test_the_unit_of_the_samples_does_not_matter(factor, shared):
    config = PreprocessConfig(shared_scale=shared)
    x, valid = noise(3, 40), all_valid(3, 40)
    np.testing.assert_allclose(
        normalise(factor * x, valid, config), normalise(x, valid, config), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("config", [CONFIG, PreprocessConfig(shared_scale=True)])
def test_what_is_not_valid_is_exactly_zero_and_never_looked_at(config):
    x, valid = noise(3, 50), all_valid(3, 50)
    valid[0, 10:13] = valid[1, 20] = False
    valid[2] = False
    expected = normalise(x, valid, config)
    x.reshape(3, 50, BLOCK)[~valid] = np.nan
    y = normalise(x, valid, config)
    assert not y.reshape(3, 50, BLOCK)[~valid].any()
    assert np.array_equal(y, expected)
    assert y.dtype == np.float32


def test_nothing_valid_is_all_zero():
    assert not normalise(np.full((3, 500), np.nan), np.zeros((3, 5), bool), CONFIG).any()


def test_the_offset_at_the_start_of_data_makes_no_transient():
    """Data begin anywhere in their swing: the first block looks like the later ones."""
    x = noise(1, 60) + 1e7
    valid = all_valid(1, 60)
    valid[:, 20:25] = False
    y = np.abs(normalise(x, valid, CONFIG).reshape(60, BLOCK))
    assert y[0].max() < 6
    assert y[25].max() < 6


def test_a_low_exponent_keeps_an_event_from_masking_the_next_one():
    """3 s of strong shaking weigh far less than in the RMS (exponent 2) of the memory."""
    x = noise(1, 80)
    x[0, 4000:4300] += 1e5 * np.sin(np.arange(300))
    later = slice(5500, 6500)
    heights = {}
    for exponent in (0.5, 2.0):
        y = normalise(x, all_valid(1, 80), PreprocessConfig(exponent=exponent))
        heights[exponent] = np.std(y[0, later])
        assert np.abs(y[0, 4000:4300]).max() > 3
    assert heights[0.5] > 5 * heights[2.0]


@pytest.mark.parametrize("rate_hz", [*RATES_HZ, 100])
def test_a_constant_stays_a_constant(rate_hz):
    """No tone leaks from the phases of the filter."""
    resampler = Resampler(Fraction(rate_hz))
    first, stop = resampler.input_range(300, 700)
    y = resampler(np.full((2, stop - first), 1e6), 300, 700)
    assert y.shape == (2, 400)
    np.testing.assert_allclose(y, 1e6, rtol=1e-12)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_low_frequencies_are_delayed_by_less_than_a_tenth_of_a_sample(rate_hz):
    resampler = Resampler(Fraction(rate_hz))
    first, stop = resampler.input_range(100_000, 102_000)
    frequency_hz = 1.0
    x = np.sin(2 * np.pi * frequency_hz * np.arange(first, stop) / rate_hz)
    y = resampler(x, 100_000, 102_000)
    out_s = np.arange(100_000, 102_000) / 100
    spectrum = np.exp(-2j * np.pi * frequency_hz * out_s) @ y * 2j / len(y)
    delay_s = -np.angle(spectrum) / (2 * np.pi * frequency_hz)
    assert abs(delay_s) < 0.1 / min(rate_hz, 100)
    assert abs(spectrum) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("rate_hz", [rate for rate in RATES_HZ if rate > 110])
def test_what_lies_beyond_the_new_nyquist_frequency_does_not_alias(rate_hz):
    """60 dB down from 55 Hz on, up to what the input can hold."""
    resampler = Resampler(Fraction(rate_hz))
    first, stop = resampler.input_range(5000, 7000)
    for frequency_hz in np.linspace(55, rate_hz / 2, 5):
        x = np.sin(2 * np.pi * frequency_hz * np.arange(first, stop) / rate_hz + 0.3)
        assert np.abs(resampler(x, 5000, 7000)).max() < 1e-3


@pytest.mark.parametrize("rate_hz", [20, 25, 40, 50, 62.5, 80])
def test_up_sampling_makes_no_mirror_image(rate_hz):
    resampler = Resampler(Fraction(rate_hz))
    first, stop = resampler.input_range(5000, 9000)
    frequency_hz = 0.3 * rate_hz
    y = resampler(np.sin(2 * np.pi * frequency_hz * np.arange(first, stop) / rate_hz), 5000, 9000)
    spectrum = np.abs(np.fft.rfft(y * np.hanning(4000)))
    out_hz = np.fft.rfftfreq(4000, 0.01)
    away = np.abs(out_hz - frequency_hz) > 1
    assert spectrum[away].max() < 1e-3 * spectrum.max()


@pytest.mark.parametrize("rate_hz", [rate for rate in RATES_HZ if rate > 100])
def test_an_onset_has_no_ringing_before_it(rate_hz):
    """A linear-phase filter oscillates for 0.3 s before an impulse and moves picks early."""
    resampler = Resampler(Fraction(rate_hz))
    first, stop = resampler.input_range(0, 1000)
    impulse = np.zeros(stop - first)
    impulse[round(5 * rate_hz) - first] = 1
    y = resampler(impulse, 0, 1000)
    y /= y.max()
    peak = int(np.argmax(y))
    assert abs(peak - 500) <= 1
    assert y[:peak].min() >= 0
    assert np.all(y[: peak - 3] < 1e-2)


@pytest.mark.parametrize("rate_hz", [100, 500, 62.5])
def test_native_sampling_passes_the_samples_as_they_are(rate_hz):
    rate = Fraction(rate_hz)
    resampler = Resampler(rate, rate)
    assert resampler.input_range(-300, 700) == (-300, 700)
    x = np.random.default_rng(0).normal(size=(3, 1000))
    assert np.array_equal(resampler(x, -300, 700), x)


@pytest.mark.parametrize("rate_hz", [100, 40, 200, 62.5])
def test_no_samples_are_asked_for_and_none_are_given(rate_hz):
    """The step in which a station falls silent has none."""
    assert Resampler(Fraction(rate_hz))(np.zeros((3, 0)), 700, 700).shape == (3, 0)


@pytest.mark.parametrize("rate_hz", [5, 9.99, 100.1, 99.97, 33.3333, 257, 20_000])
def test_a_rate_that_no_sensible_filter_serves_is_refused(rate_hz):
    with pytest.raises(ValueError, match="cannot resample"):
        Resampler(Fraction(rate_hz).limit_denominator(10_000))


def test_the_model_has_one_block_per_second():
    assert MODEL_RATE == BLOCK


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e6])
def test_a_block_that_never_changes_is_constant_and_a_change_of_one_count_is_none(offset):
    samples = np.full((3, 3 * BLOCK), offset)
    samples[0, BLOCK + 7] += 1
    assert constant(samples).tolist() == [[True, False, True], [True] * 3, [True] * 3]


def test_unknown_samples_are_not_constant():
    assert not constant(np.full((1, BLOCK), np.nan)).any()


def test_the_memory_of_a_component_has_a_fixed_size():
    """Two passes over a block and what goes with them, and the blocks of the noise level."""
    assert state_size(CONFIG) == 2 * (BLOCK + 1) + 2 * CONFIG.memory_blocks
    assert initial_state((5, 3), CONFIG).shape == (5, 3, state_size(CONFIG))
    assert not initial_state((5, 3), CONFIG).any()


def test_many_blocks_come_out_as_they_do_one_by_one():
    """However many are normalised at once."""
    rng = np.random.default_rng(3)
    config, blocks = PreprocessConfig(), 700
    samples = np.cumsum(rng.normal(size=(2, 3, blocks * BLOCK)), axis=-1)
    valid = rng.uniform(size=(2, 3, blocks)) > 0.02
    state, pieces = initial_state((2, 3), config), []
    for n in range(blocks):
        piece = samples[..., n * BLOCK : (n + 1) * BLOCK]
        prepared, state = normalise_next(piece, valid[..., n : n + 1], config, state)
        pieces.append(prepared)
    assert 2 * 3 * blocks > 4 * _AT_ONCE
    np.testing.assert_array_equal(
        normalise(samples, valid, config), np.concatenate(pieces, axis=-1)
    )
