"""Preprocessing has a finite memory on an absolute grid: however a stream is cut, same numbers."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.preprocess import (
    BLOCK,
    PreprocessConfig,
    Resampler,
    initial_state,
    normalise,
    normalise_next,
    state_size,
)

CONFIGS = st.builds(
    PreprocessConfig,
    high_pass_passes=st.integers(0, 3),
    memory_blocks=st.integers(1, 12),
    exponent=st.sampled_from([0.5, 1.0, 2.0]),
    shared_scale=st.booleans(),
)
RATES = st.sampled_from(
    [Fraction(r) for r in (20, 25, 40, 50, "62.5", 80, 100, 120, 125, 200, 250, 256, 500, 1000)]
)
BLOCKS = 30


@st.composite
def recordings(draw):
    """Samples (3, BLOCKS x 100) with offsets, steps and bursts, and validity (3, BLOCKS)."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.normal(size=(3, BLOCKS * BLOCK)) * draw(st.sampled_from([1e-6, 1.0, 1e4]))
    x += draw(st.sampled_from([0.0, 1e5])) * rng.normal(size=(3, 1))
    first = draw(st.integers(0, BLOCKS * BLOCK - 500))
    x[:, first : first + 400] *= 300
    valid = np.ones((3, BLOCKS), dtype=bool)
    for component, block, length in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, BLOCKS - 1), st.integers(1, 9)))
    ):
        valid[component, block : block + length] = False
    return x, valid


@settings(max_examples=50, deadline=None)
@given(
    recording=recordings(), config=CONFIGS, cut=st.tuples(st.integers(0, 29), st.integers(1, 30))
)
def test_any_piece_with_its_history_has_the_numbers_of_the_whole(recording, config, cut):
    x, valid = recording
    first, stop = cut[0], min(cut[0] + cut[1], BLOCKS)
    before = max(first - config.history_blocks, 0)
    whole = normalise(x, valid, config)[:, first * BLOCK : stop * BLOCK]
    piece = normalise(x[:, before * BLOCK : stop * BLOCK], valid[:, before:stop], config)
    np.testing.assert_allclose(piece[:, (first - before) * BLOCK :], whole, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    recording=recordings(),
    config=CONFIGS,
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
)
def test_pieces_one_after_the_other_have_the_numbers_of_the_whole(recording, config, sizes):
    """Gaps may lie on their borders, and a piece may be nothing but a gap."""
    x, valid = recording
    state, pieces, first, number = initial_state((3,), config), [], 0, 0
    while first < BLOCKS:
        stop = min(first + sizes[number % len(sizes)], BLOCKS)
        piece, state = normalise_next(
            x[:, first * BLOCK : stop * BLOCK], valid[:, first:stop], config, state
        )
        pieces.append(piece)
        first, number = stop, number + 1
        assert state.shape == (3, state_size(config))
    whole = normalise(x, valid, config)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(recording=recordings(), config=CONFIGS, stations=st.integers(1, 4))
def test_stations_of_one_call_do_not_touch_each_other(recording, config, stations):
    """Each has a state of its own; what was recorded elsewhere does not count."""
    x, valid = recording
    half = BLOCKS // 2
    many = np.stack([np.roll(x, n * 7 * BLOCK, axis=1) for n in range(stations)])
    ok = np.stack([np.roll(valid, n * 7, axis=1) for n in range(stations)])
    state = initial_state((stations, 3), config)
    cut = half * BLOCK
    first, state = normalise_next(many[..., :cut], ok[..., :half], config, state)
    second, _ = normalise_next(many[..., cut:], ok[..., half:], config, state)
    together = np.concatenate([first, second], axis=-1)
    for n in range(stations):
        alone = normalise(many[n], ok[n], config)
        np.testing.assert_allclose(together[n], alone, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(recording=recordings(), config=CONFIGS)
def test_what_is_older_than_the_history_is_forgotten(recording, config):
    x, valid = recording
    after = normalise(x, valid, config)
    start = BLOCKS - config.history_blocks - 1
    x[:, : max(start, 0) * BLOCK] = 1e9
    valid[:, : max(start, 0)] = True
    changed = normalise(x, valid, config)
    np.testing.assert_allclose(changed[:, -BLOCK:], after[:, -BLOCK:], rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    rate=RATES,
    origin=st.integers(0, 200_000_000_000),
    first=st.integers(0, 900),
    length=st.integers(1, 300),
)
def test_resampling_a_piece_gives_the_numbers_of_the_whole(rate, origin, first, length):
    """To the rounding of double precision: it is a matrix product, and the order in which BLAS
    adds up depends on how many rows there are."""
    resampler = Resampler(rate)
    start, stop = resampler.input_range(origin, origin + 1200)
    x = np.random.default_rng(0).normal(size=(2, stop - start))
    whole = resampler(x, origin, origin + 1200)
    piece_first = origin + first
    a, b = resampler.input_range(piece_first, piece_first + length)
    assert start <= a < b <= stop
    piece = resampler(x[:, a - start : b - start], piece_first, piece_first + length)
    np.testing.assert_allclose(piece, whole[:, first : first + length], rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(rate=RATES, start=st.integers(0, 200_000_000_000), length=st.integers(1, 500))
def test_resampling_waits_for_no_more_than_it_needs(rate, start, length):
    """Up to the samples that one output skips, the last of the input range counts."""
    resampler = Resampler(rate)
    a, b = resampler.input_range(start, start + length)
    x = np.zeros(b - a)
    x[-1 - resampler.down // resampler.up :] = 1.0
    assert resampler(x, start, start + length)[-1] != 0
