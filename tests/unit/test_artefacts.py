"""Which onsets are no ground motion: what each rule is for, and what it must leave alone."""

import numpy as np
import pytest
from onset_excerpts import AT, COUNT, RATE, around, event, noise

from streamer.picking.artefacts import Artefact, artefact, is_clipped

SEEDS = range(5)
EVERY, VERTICAL = slice(None), slice(0, 1)
TIME_S = np.maximum(np.arange(COUNT) - AT, 0) / RATE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [300, 10_000])
@pytest.mark.parametrize("components", [EVERY, VERTICAL])
@pytest.mark.parametrize("beside", [-20, 0, 8])
def test_a_spike_explains_an_onset(seed, size, components, beside):
    samples = noise(seed)
    samples[components, AT + beside] += size
    assert artefact(around(samples)) is Artefact.SPIKE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [300, -10_000])
def test_an_offset_that_jumps_explains_an_onset(seed, size):
    samples = noise(seed)
    samples[VERTICAL, AT + 5 :] += size
    assert artefact(around(samples)) is Artefact.STEP


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("known", [55, 90])
def test_a_spike_explains_an_onset_of_which_the_coda_is_still_to_come(seed, known):
    samples = noise(seed)
    samples[VERTICAL, AT] += 1000
    assert artefact(around(samples, missing=slice(AT + known, None))) is Artefact.SPIKE
    arrival = noise(seed) + event()
    assert artefact(around(arrival, missing=slice(AT + known, None))) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("since_s", [9.5, 11, 12.5])
@pytest.mark.parametrize("known", [55, 90, 400])
def test_a_glitch_that_the_noise_level_has_just_forgotten_explains_an_onset(seed, since_s, known):
    samples = noise(seed)
    samples[VERTICAL, AT - round(since_s * RATE)] += 100_000
    unknown = slice(AT + known, None)
    assert artefact(around(samples, missing=unknown)) is Artefact.RESCALED
    assert artefact(around(samples + event(200), missing=unknown)) is None  # something rises
    assert artefact(around(noise(seed), missing=unknown)) is None


@pytest.mark.parametrize("since_s", [4, 8.5])
def test_a_glitch_that_the_noise_level_still_knows_explains_nothing(since_s):
    samples = noise()
    samples[:, AT - round(since_s * RATE)] += 100_000
    assert artefact(around(samples)) is None


def test_the_edge_of_a_gap_is_no_glitch():
    """Samples that were not received are 0."""
    missing = slice(AT - 1150, AT - 1000)
    assert artefact(around(noise() + 100_000, missing=missing)) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hz", [2.0, 5.0, 11.0])
@pytest.mark.parametrize("components", [EVERY, VERTICAL])
def test_a_sine_of_constant_size_is_a_calibration(seed, hz, components):
    samples = noise(seed)
    samples[components] += 500 * np.sin(2 * np.pi * hz * TIME_S)
    assert artefact(around(samples)) is Artefact.CALIBRATION


def test_a_calibration_is_seen_through_slow_noise():
    """Microseism may be larger than the calibration signal."""
    samples = noise()
    samples += 3000 * np.sin(2 * np.pi * 0.15 * np.arange(COUNT) / RATE)
    samples[VERTICAL] += 300 * np.sin(2 * np.pi * 5 * TIME_S)
    assert artefact(around(samples)) is Artefact.CALIBRATION


@pytest.mark.parametrize("length", [4, 10, 60, 150])
@pytest.mark.parametrize("ends", [-5, 10, 40])
@pytest.mark.parametrize("offset", [3000, -50_000])
def test_samples_that_were_filled_in_explain_an_onset(length, ends, offset):
    samples = noise() + offset
    samples[:, AT + ends - length : AT + ends] = 0
    assert artefact(around(samples)) is Artefact.FLAT


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [150, 500, 20_000])
@pytest.mark.parametrize("hz", [3.0, 8.0, 15.0])
@pytest.mark.parametrize("beside", [-10, 0, 10])
def test_an_arrival_is_none(seed, size, hz, beside):
    samples = noise(seed) + event(size, hz)
    assert artefact(around(samples, at=AT + beside)) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_is_none(seed):
    assert artefact(around(noise(seed))) is None
    assert artefact(around(np.round(noise(seed) / 20))) is None  # in few counts: stands still often


def test_a_glitch_within_an_arrival_does_not_suppress_it():
    samples = noise() + event(1000)
    samples[0, AT + 10] += 50_000
    assert artefact(around(samples)) is None


def test_a_glitch_on_one_component_does_not_suppress_what_others_show():
    samples = noise() + event(1000) * np.array([[0.0], [1.0], [1.0]])
    samples[0, AT] += 50_000
    assert artefact(around(samples)) is None


def test_nothing_is_said_of_what_was_not_received():
    samples = noise()
    samples[:, AT] += 10_000
    assert artefact(around(samples, missing=slice(AT + 20, AT + 30))) is None
    assert artefact(around(np.zeros((3, COUNT)))) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_an_arrival_that_is_clipped_is_an_arrival(seed):
    assert artefact(around(np.clip(noise(seed) + event(20_000, 3), -3000, 3000))) is None


@pytest.mark.parametrize("limit", [(-np.inf, 8000), (-8000, np.inf), (-8000, 8000)])
def test_samples_at_the_limit_of_the_instrument_are_clipped(limit):
    assert is_clipped(around(np.clip(noise() + event(20_000), *limit)))


def test_neither_quiet_nor_slow_signals_are_clipped():
    assert not is_clipped(around(noise() + event(20_000)))
    assert not is_clipped(around(np.round(noise() / 20)))
    assert not is_clipped(around(noise(level=0) + 5000 * np.sin(2 * np.pi * 0.1 * TIME_S)))
