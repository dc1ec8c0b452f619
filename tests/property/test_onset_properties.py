"""Onsets do not depend on how the probability traces are cut into pieces."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.onsets import OnsetDetector, find_onsets

LENGTH = 400
# Coarse heights make ties and flat tops, which is where a rule goes wrong.
HEIGHTS = st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.5, 0.5, 0.9])


@st.composite
def traces(draw):
    """(2, LENGTH) float32 of steps, spikes and noise."""
    both = np.zeros((2, LENGTH), dtype=np.float32)
    for phase, at, width, height in draw(
        st.lists(
            st.tuples(st.integers(0, 1), st.integers(0, LENGTH - 1), st.integers(1, 80), HEIGHTS),
            max_size=12,
        )
    ):
        both[phase, at : at + width] = height
    if draw(st.booleans()):
        both += np.random.default_rng(draw(st.integers(0, 99))).random(both.shape) * 0.05
    return both.astype(np.float32)


SEPARATIONS = st.integers(1, 60)
CUTS = st.lists(st.integers(0, LENGTH), max_size=12).map(lambda cuts: sorted({0, *cuts, LENGTH}))


@settings(max_examples=200, deadline=None)
@given(both=traces(), separation=SEPARATIONS, cuts=CUTS, origin=st.integers(0, 10**12))
def test_any_cutting_gives_the_same_onsets(both, separation, cuts, origin):
    detector = OnsetDetector((0.3, 0.2), separation)
    pieces = []
    for start, stop in pairwise(cuts):
        pieces += detector.push(origin + start, both[:, start:stop])
    pieces += detector.finish()
    whole = find_onsets(both, (0.3, 0.2), separation)
    assert sorted((o.phase, o.probability) for o in pieces) == sorted(
        (o.phase, o.probability) for o in whole
    )
    np.testing.assert_allclose(
        sorted(o.index - origin for o in pieces), sorted(o.index for o in whole), atol=1e-3
    )


@settings(max_examples=200, deadline=None)
@given(both=traces(), separation=SEPARATIONS)
def test_onsets_are_the_samples_that_the_rule_describes(both, separation):
    """Against the definition, sample by sample."""
    expected = []
    for phase, (trace, threshold) in enumerate(zip(both, (0.3, 0.2), strict=True)):
        for at, height in enumerate(trace):
            before = trace[max(at - separation, 0) : at]
            after = trace[at + 1 : at + separation + 1]
            if height >= threshold and np.all(before < height) and np.all(after <= height):
                expected.append((phase, float(height)))
    onsets = find_onsets(both, (0.3, 0.2), separation)
    assert sorted((o.phase, o.probability) for o in onsets) == sorted(expected)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10_000), separation=SEPARATIONS, cuts=CUTS)
def test_finishing_in_between_never_gives_two_onsets_within_the_separation(seed, separation, cuts):
    """A station that falls silent and goes on repeats nothing; only which peak wins may change."""
    both = np.random.default_rng(seed).permutation(2 * LENGTH).reshape(2, LENGTH)
    both = (both / (2 * LENGTH)).astype(np.float32)  # each height once, so it tells the position
    detector = OnsetDetector((0.6, 0.7), separation)
    peaks: list[list[int]] = [[], []]
    for start, stop in pairwise(cuts):
        for onset in detector.push(start, both[:, start:stop]) + detector.finish():
            position = np.flatnonzero(both[onset.phase] == np.float32(onset.probability))
            peaks[onset.phase].append(int(position[0]))
    for positions in peaks:
        assert positions
        assert np.all(np.diff(positions) > separation)
