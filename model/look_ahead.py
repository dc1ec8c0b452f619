"""When an onset can be trusted before the network has seen all that follows it.

The probability of a sample is final when the network knows the 4.75 s behind it. Long before, the
network run on what there is (a *preview*: the plain forward of the newest blocks, whose zero
padding it met at the ends of its training windows) tells most arrivals already. A preview costs
several times the step it follows, so it is made only where something may just have begun.

All constants are from the study in docs/look-ahead.md (benchmarks/look_ahead.py), which says on
which recordings they were chosen and on which they were checked.
"""

import numpy as np
import numpy.typing as npt

from model.onsets import Onset, Trace, find_onsets
from model.preprocess import BLOCK

# What a preview gives out: with the wait for the end of a block, an onset is in two of them.
PREVIEW_BLOCKS = 3

# An early onset has this many samples behind it, and at least these probabilities (P, S).
TRUST_SAMPLES = 50
EARLY_THRESHOLDS = (0.80, 0.80)

# Some P look like S at first: an early S needs a P of the station, published by then, so shortly
# before it.
S_AFTER_P_SAMPLES = 3000

# Something may have begun in a block that is so many times livelier than the mean of those before.
RISE = 1.5
RISE_BLOCKS = 5
_LAG = 5  # samples: the difference over them passes what onsets are made of, around 10 Hz

# All that decides, besides the thresholds, which onsets are early.
EARLY_RULE = (PREVIEW_BLOCKS, TRUST_SAMPLES, S_AFTER_P_SAMPLES, RISE, RISE_BLOCKS)

Floats = npt.NDArray[np.float32]


def liveliness(samples: Floats) -> Floats:
    """Mean absolute difference over 50 ms within each block: (..., C, n x 100) -> (..., n, C)."""
    blocks = samples.reshape(*samples.shape[:-1], -1, BLOCK)
    difference = blocks[..., _LAG:] - blocks[..., :-_LAG]
    mean: Floats = np.abs(difference, out=difference).mean(axis=-1)
    return mean.swapaxes(-1, -2)


def rise(lively: Floats) -> Floats:
    """How much livelier blocks are than those before: (..., RISE_BLOCKS + n, C) -> (..., n).

    The components count together, so that a station may have one or three. Blocks that were not
    recorded (0) have no say in the mean; where there is none before, nothing rises (0).
    """
    together = lively.sum(axis=-1)
    before = np.lib.stride_tricks.sliding_window_view(together, RISE_BLOCKS, axis=-1)[..., :-1, :]
    recorded = (before > 0).sum(axis=-1)
    now, total = together[..., RISE_BLOCKS:], before.sum(axis=-1)
    ratio: Floats = np.divide(now * recorded, total, out=np.zeros_like(now), where=total > 0)
    return ratio


def rises(lively: Floats) -> npt.NDArray[np.bool_]:
    """Which blocks may hold a beginning: (..., RISE_BLOCKS + n, C) -> (..., n) of the last n."""
    return rise(lively) >= RISE


def early_onsets(
    preview: Trace, end: int, thresholds: tuple[float, ...], separation_samples: int
) -> list[Onset]:
    """Onsets to be trusted in a preview (2, n) that ends at sample `end`."""
    if preview.max() < min(thresholds):  # most
        return []
    found = find_onsets(preview, thresholds, separation_samples)
    start = end - preview.shape[1]
    return [
        Onset(onset.phase, start + onset.index, onset.probability)
        for onset in found
        if separation_samples <= onset.index <= preview.shape[1] - TRUST_SAMPLES
    ]
