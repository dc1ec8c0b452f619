"""What a pick says besides its time: signal-to-noise ratio, amplitude, period, first motion.

All of it is measured on the channel the pick is reported on, as the instrument recorded it, less
its running mean of one second (a high-pass near 0.4 Hz at 100 Hz, as before the network). Seconds
are those of the network: with native sampling of 500 Hz, three of them are 0.6 s.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamer.picking.excerpt import Excerpt, rms

Floats = npt.NDArray[np.float64]

_MEAN_S = 1.0
# Signal and noise; the noise ends before the onset, which may be early by some samples.
SIGNAL_S = (0.0, 3.0)
NOISE_S = (-3.2, -0.2)

# First motion: the first swing that leaves the noise, looked for around the onset.
MOTION_S = (-0.15, 0.35)
_LEAVES_NOISE = 3.0  # times the standard deviation
_SURER_EVERY = 4.8  # standard deviations: the doubt falls to 1/e
LEAST_POLARITY_PROB = 0.85
_MOST_POLARITY_PROB = 0.99  # a cable may be the wrong way round


@dataclass(frozen=True, slots=True)
class Measures:
    """Ratio of RMS after and before; zero-to-peak amplitude in counts and its period, s."""

    snr: float | None = None
    amplitude: float | None = None
    period_s: float | None = None


def measure(around: Excerpt, slot: int) -> Measures:
    """What the 3 s after an onset say; empty where samples are missing, or not known yet."""
    moved = high_passed(around, slot, NOISE_S[0], SIGNAL_S[1])
    if moved is None:
        return Measures()
    split = round((NOISE_S[1] - NOISE_S[0]) * around.per_s)
    noise = rms(moved[:split])
    onset = len(moved) - round((SIGNAL_S[1] - SIGNAL_S[0]) * around.per_s)
    signal = moved[onset:]
    peak = onset + int(np.argmax(np.abs(signal)))
    return Measures(
        snr=rms(signal) / noise if noise > 0 else None,
        amplitude=float(abs(moved[peak])),
        period_s=_period(moved, peak, around.rate_hz),
    )


def first_motion(around: Excerpt, slot: int) -> tuple[Literal["up", "down"], float] | None:
    """Direction of the first motion and the probability that it is right; None unless clear.

    It is that of the first swing that reaches three standard deviations of the noise; the larger it
    is, the less an earlier one can have been missed.
    """
    moved = high_passed(around, slot, NOISE_S[0], MOTION_S[1])
    if moved is None:
        return None
    noise = moved[: round((NOISE_S[1] - NOISE_S[0]) * around.per_s)]
    mean = float(noise.mean())
    level = rms(noise - mean)
    if level == 0:
        return None
    search = moved[round((MOTION_S[0] - NOISE_S[0]) * around.per_s) :] - mean
    swing = first_swing(search, _LEAVES_NOISE * level)
    probability = polarity_probability(abs(swing) / level)
    if swing == 0 or probability < LEAST_POLARITY_PROB:
        return None
    return ("up" if swing > 0 else "down"), probability


def polarity_probability(size: float) -> float:
    """Probability that a first swing of `size` standard deviations of noise points the true way.

    Fitted to strong recordings with noise added (benchmarks/pick_content.py, docs/picks.md).
    """
    return min(1 - math.exp((_LEAVES_NOISE - size) / _SURER_EVERY) / 2, _MOST_POLARITY_PROB)


def high_passed(around: Excerpt, slot: int, start_s: float, stop_s: float) -> Floats | None:
    """A part less the mean of the second before each sample; None if samples are missing."""
    samples = around.whole(slot, start_s - _MEAN_S, stop_s)
    if samples is None:
        return None
    length = round(_MEAN_S * around.per_s)
    total = np.cumsum(samples - samples[0])
    part = around.part(start_s, stop_s)
    count = part.stop - part.start
    mean = (total[length:] - total[:-length])[-count:] / length
    moved: Floats = (samples - samples[0])[-count:] - mean
    return moved


def first_swing(x: Floats, least: float) -> float:
    """The extreme of the first stretch of one sign that reaches `least`; 0 if none does."""
    outside = np.flatnonzero(np.abs(x) >= least)
    if not len(outside):
        return 0.0
    first = int(outside[0])
    same = np.flatnonzero(np.sign(x[first:]) != np.sign(x[first]))
    stop = first + int(same[0]) if len(same) else len(x)
    swing = x[first:stop]
    return float(swing[np.argmax(np.abs(swing))])


def _period(x: Floats, peak: int, rate_hz: float) -> float | None:
    """Twice the time between the changes of sign around the peak, s."""
    sign = np.sign(x)
    changes = np.flatnonzero(sign[1:] != sign[:-1])
    right = int(changes.searchsorted(peak))
    if not 0 < right < len(changes):
        return None
    a, b = (float(i) + float(x[i] / (x[i] - x[i + 1])) for i in changes[right - 1 : right + 1])
    return 2 * (b - a) / rate_hz
