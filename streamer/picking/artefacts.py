"""Onsets that are no ground motion: spikes, steps, filled stretches, calibrations; and clipping.

Each rule asks whether the artefact explains all of the onset: with its few samples left out nothing
rises above the noise, on any component. An earthquake has a coda, and is on all components. The
limits were set so that none of the manual picks at hand is suppressed (docs/picks.md).
"""

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.picking.excerpt import Excerpt

Floats = npt.NDArray[np.float64]


class Artefact(StrEnum):
    """What an onset came from, and what its suppression is counted as."""

    DATA_START = "data_start"  # there is nothing before it to stand out from
    SPIKE = "spike"  # a few samples far off
    STEP = "step"  # an offset that jumps
    FLAT = "flat"  # samples that stand still beside a jump: filled in, or a dead line
    CALIBRATION = "calibration"  # a sine from one moment on; or the header says so


# Where the cause of an onset is looked for, s from the onset: the network points some samples early
# for spikes, and late for ragged edges.
_CAUSE_S = (-0.35, 0.6)
_NOISE_S = (-3.35, -0.35)
_CODA_S = 1.3

_CLUSTER = 3  # samples on each side of the largest difference
_STANDS_OUT = 12.0  # times the noise: the differences at a glitch
_ZERO_STANDS_OUT = 6.0  # if it jumps to 0 or back: filled in
_BESIDE = 5.0  # times the noise: the third largest of them, in a wave
_RISES = 1.6  # times the noise: what is left after it
_NET_SHARE = 0.3  # of the largest difference: what a spike leaves behind

_FLAT_SAMPLES = 4  # equal ones, with a jump before or after them, or so many of them that in
_CHANCE = 1e-5  # such noise they come about by chance this often
_FILLED_RISES = 3.0  # times the noise, of which a filled stretch leaves little to measure
_NOISE_SAMPLES = 30
_EDGE = 8.0  # times the noise: the jump at an end of a filled stretch

_SINE_BEGINS_S, _SINE_S = 0.1, 2.5  # after the onset
_SINE_SAMPLES = 50
_SINE_PERIODS = 3
_SINE_LINE = 0.8  # of the energy: near the strongest frequency
_SINE_REST = 0.02  # of the energy: what the sine does not explain
_SINE_RISES = 4.0  # times the noise
_SINE_DECAYS = 4.0  # times less energy in the last third than in the first, or the reverse: no
_SLOW_ORDER = 5

_CLIP_S = (-0.5, 3.0)
_CLIP_SAMPLES = 3
_CLIP_LEVELS = 1000  # between the extremes: in few levels, noise repeats its extreme by chance
_CLIP_ENTRY = 0.02  # of the range: how steeply the signal runs into the limit


def artefact(around: Excerpt) -> Artefact | None:
    """The artefact that explains the onset, if one does."""
    if _is_filled(around):
        return Artefact.FLAT
    return _glitch(around) or (Artefact.CALIBRATION if _is_sine(around) else None)


def is_clipped(around: Excerpt) -> bool:
    """Whether a component runs into its limit after the onset: several samples at its extreme."""
    return any(_clipped(samples) for samples in _there(around, *_CLIP_S))


def _there(around: Excerpt, start_s: float, stop_s: float) -> Iterator[Floats]:
    """The components that were received all through a part and that are no dead lines."""
    for slot in range(len(around.samples)):
        samples = around.whole(slot, start_s, stop_s)
        if samples is not None and np.ptp(samples) > 0:
            yield samples


def _glitch(around: Excerpt) -> Artefact | None:
    found: Artefact | None = None
    begin = around.part(*_NOISE_S).start
    noise_stop = around.part(*_NOISE_S).stop - begin
    first, stop = (at - begin for at in (around.part(*_CAUSE_S).start, around.part(*_CAUSE_S).stop))
    for samples in _there(around, _NOISE_S[0], _CODA_S):
        change = np.diff(samples)
        noise = _rms(change[:noise_stop])
        peak = first + int(np.argmax(np.abs(change[first:stop])))
        least = _STANDS_OUT if samples[peak : peak + 2].all() else _ZERO_STANDS_OUT
        stands_out = abs(change[peak]) > least * noise > 0
        reach = _CLUSTER if stands_out else 0
        cluster = slice(max(peak - reach, first), peak + reach + 1)
        rest = np.concatenate([change[first : cluster.start], change[cluster.stop :]])
        if _rms(rest) > _RISES * noise:
            return None
        if stands_out and np.sort(np.abs(change[cluster]))[-3] > _BESIDE * noise:
            return None  # a wave, however short
        if stands_out:
            net = abs(change[cluster].sum())
            found = Artefact.SPIKE if net < _NET_SHARE * abs(change[peak]) else Artefact.STEP
    return found


def _is_filled(around: Excerpt) -> bool:
    """Whether a component stands still near the onset where its noise would not.

    A signal at its limit stands still as well, but goes on afterwards.
    """
    if not _may_stand_still(around):
        return False  # nearly always
    begin = around.part(*_NOISE_S).start
    noise_stop, first = around.part(*_NOISE_S).stop - begin, around.part(*_CAUSE_S).start - begin
    changes = [np.abs(np.diff(samples)) for samples in _there(around, _NOISE_S[0], _CODA_S)]
    stills = [_still(change) for change in changes]
    if not any(still.any() for still in stills):
        return False
    for change, still in zip(changes, stills, strict=True):
        noise = change[:noise_stop][~still[:noise_stop]]
        noise = noise if len(noise) >= _NOISE_SAMPLES else change[~still]
        if _rms(change[first:][~still[first:]]) > _FILLED_RISES * _rms(noise):
            return False
    return True


def _may_stand_still(around: Excerpt) -> bool:
    """Whether a component has as many equal neighbours as a filled stretch has at least."""
    part = around.part(_NOISE_S[0], _CODA_S)
    samples = around.samples[around.valid[:, part.start], part]
    equal = np.count_nonzero(samples[:, 1:] == samples[:, :-1], axis=1)
    return bool((equal >= _FLAT_SAMPLES - 1).any())


def _still(change: Floats) -> npt.NDArray[np.bool_]:
    """Which differences (n,) are in or beside samples that stand still and were filled in.

    That is a run of zeros with a jump at an end, or too long for chance.
    """
    still = np.zeros(len(change), dtype=bool)
    zero = change == 0
    zeros = int(zero.sum())
    if zeros < _FLAT_SAMPLES - 1:
        return still
    least_jump = _EDGE * np.median(change[~zero])
    padded = np.concatenate([[0.0], change, [0.0]])
    for start, stop in zip(*_runs(zero), strict=True):
        count = stop - start
        jumps = max(padded[start], padded[stop + 1]) > least_jump
        chance = len(change) * ((zeros - count + 1) / len(change)) ** count
        if count >= _FLAT_SAMPLES - 1 and (jumps or chance < _CHANCE):
            still[max(start - _CLUSTER - 1, 0) : stop + _CLUSTER + 1] = True
    return still


def _runs(flags: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each run of true values begins and ends (half-open)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2]


def _is_sine(around: Excerpt) -> bool:
    """Whether all that rises after the onset, on any component, is one sine of constant size.

    Slow noise (microseism) is taken out of both sides by a polynomial.
    """
    length_s = min(_SINE_S, around.known_s) - _SINE_BEGINS_S
    found = False
    for slot in range(len(around.samples)):
        before = around.whole(slot, _NOISE_S[1] - length_s, _NOISE_S[1])
        after = around.whole(slot, _SINE_BEGINS_S, _SINE_BEGINS_S + length_s)
        if before is None or after is None or len(after) < _SINE_SAMPLES:
            continue
        noise, signal = _energy(before), _energy(after)
        if signal < _SINE_RISES**2 * noise:
            continue
        if not _fits_sine(after, noise):
            return False
        found = True
    return found


def _fits_sine(samples: Floats, noise: float) -> bool:
    """Whether a sine explains the samples but for noise of this energy."""
    count = len(samples)
    flat = _without_slow(samples)
    power = np.abs(np.fft.rfft(flat * np.hanning(count), 4 * count)) ** 2
    peak = int(np.argmax(power))
    if not 4 * _SINE_PERIODS <= peak < 1.8 * count:
        return False
    if power[max(peak - 8, 0) : peak + 9].sum() < _SINE_LINE * power.sum():
        return False
    first, last = flat[: count // 3], flat[-(count // 3) :]
    weaker, stronger = sorted((first @ first, last @ last))
    if stronger > _SINE_DECAYS * weaker:
        return False  # nearly always by now: the fits below are much more work
    cycles, least = peak / 4, 0.0
    for width in (0.5, 0.1):
        trials = cycles + np.linspace(-width, width, 11)
        rests = _rests(flat, trials)
        cycles, least = float(trials[int(np.argmin(rests))]), float(rests.min())
    return least < max(_SINE_REST * float(flat @ flat), 2 * noise)


def _rests(flat: Floats, cycles: Floats) -> Floats:
    """Energy that sines of so many cycles (m,) do not explain, each alone: (m,)."""
    phase = 2 * np.pi * np.outer(np.arange(len(flat)), cycles) / len(flat)
    waves = _without_slow(np.concatenate([np.sin(phase), np.cos(phase)], axis=1))
    waves = waves.reshape(len(flat), 2, len(cycles)).transpose(2, 1, 0)  # (m, 2, n)
    product = waves @ flat
    fitted = np.linalg.solve(waves @ waves.transpose(0, 2, 1), product[..., None])[..., 0]
    rests: Floats = flat @ flat - (product * fitted).sum(axis=1)
    return rests


def _energy(samples: Floats) -> float:
    """Of what is not slow."""
    left = _without_slow(samples)
    return float(left @ left)


def _without_slow(samples: Floats) -> Floats:
    """Samples (n,) or (n, m) less the polynomial that fits them best."""
    slow = _slow(len(samples))
    left: Floats = samples - slow @ (slow.T @ samples)
    return left


@lru_cache(maxsize=64)
def _slow(count: int) -> Floats:
    """Orthonormal polynomials (count, _SLOW_ORDER + 1)."""
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, count), _SLOW_ORDER)
    slow: Floats = np.linalg.qr(basis)[0]
    return slow


def _clipped(samples: Floats) -> bool:
    limits = (samples.max(), samples.min())
    if all(np.count_nonzero(samples == limit) < _CLIP_SAMPLES for limit in limits):
        return False  # nearly always
    reach = np.ptp(samples)
    change = np.abs(np.diff(samples))
    if reach < _CLIP_LEVELS * change[change > 0].min(initial=np.inf):
        return False
    for limit in limits:
        first, stop = _runs(samples == limit)
        long = stop - first >= _CLIP_SAMPLES
        padded = np.concatenate([[0.0], change, [0.0]])
        entry = np.maximum(padded[first[long]], padded[stop[long]])
        if (entry > _CLIP_ENTRY * reach).any():
            return True
    return False


def _rms(x: Floats) -> float:
    return float(np.sqrt(np.mean(x * x))) if len(x) else 0.0
