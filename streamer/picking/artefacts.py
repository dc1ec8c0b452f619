"""Onsets that are no ground motion: spikes, steps, filled stretches, calibrations; and clipping.

Each rule asks whether the artefact explains all of the onset: with its few samples left out nothing
rises above the noise, on any component. An earthquake has a coda, and is on all components. The
limits were set so that none of the manual picks at hand is suppressed (docs/picks.md).
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
from numpy import fft  # which numpy would import at the first pick
from numpy.polynomial import legendre

from streamer.picking.excerpt import Excerpt, energy, rms

Floats = npt.NDArray[np.float64]


class Artefact(StrEnum):
    """What an onset came from, and what its suppression is counted as."""

    DATA_START = "data_start"  # there is nothing before it to stand out from
    SPIKE = "spike"  # a few samples far off
    STEP = "step"  # an offset that jumps
    FLAT = "flat"  # samples that stand still beside a jump: filled in, or a dead line
    RESCALED = "rescaled"  # the noise looks larger: its level has forgotten a glitch long before
    CALIBRATION = "calibration"  # a sine from one moment on; or the header says so


# Where the cause of an onset is looked for, s from the onset: the network points some samples early
# for spikes, and late for ragged edges.
_CAUSE_S = (-0.35, 0.6)
_NOISE_S = (-3.35, -0.35)
_CODA_S, _LEAST_CODA_S = 1.3, 0.5  # a provisional onset is judged by the coda that has come

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

# The noise level of the bundled weights is that of ten blocks (`memory_blocks`) and falls at once
# when a glitch has left them: one or two blocks of it, and an onset in the block after or near it.
_FORGOTTEN_S = (-13.0, -9.0)
_OUTLIVES = 50.0  # times the noise: a difference that still tells then

_SINE_BEGINS_S, _SINE_S = 0.1, 2.5  # after the onset
_SINE_SAMPLES = 50
_SINE_PERIODS = 3
_SINE_LINE = 0.8  # of the energy: near the strongest frequency
_SINE_REST = 0.02  # of the energy: what the sine does not explain
_SINE_RISES = 4.0  # times the noise
_SINE_DECAYS = 4.0  # times less energy in the last third than in the first, or the reverse: no
_SLOW_ORDER = 5
_STEPS = np.linspace(-1, 1, 11)  # of a trial frequency, on both sides of the best one known

_CLIP_S = (-0.5, 3.0)
_CLIP_SAMPLES = 3
_CLIP_LEVELS = 1000  # between the extremes: in few levels, noise repeats its extreme by chance
_CLIP_ENTRY = 0.02  # of the range: how steeply the signal runs into the limit


def artefact(around: Excerpt) -> Artefact | None:
    """The artefact that explains the onset, if one does."""
    known_s = around.known_s
    lines = _Lines.of(around, min(_CODA_S, max(known_s, _LEAST_CODA_S)))
    if _is_filled(lines):
        return Artefact.FLAT
    if cause := _glitch(lines):
        return cause
    if _is_rescaled(around, lines):
        return Artefact.RESCALED
    return Artefact.CALIBRATION if _is_sine(around, known_s) else None


def is_clipped(around: Excerpt) -> bool:
    """Whether a component runs into its limit after the onset: several samples at its extreme."""
    part, few = around.part(*_CLIP_S), _CLIP_SAMPLES
    samples = around.samples[:, part]
    ordered = np.partition(samples, (few - 1, -few), axis=1)
    top = ordered[:, -few:].max(axis=1) == ordered[:, -few]
    bottom = ordered[:, :few].min(axis=1) == ordered[:, few - 1]
    return any(
        around.valid[n, part].all() and _clipped(samples[n])
        for n in np.flatnonzero(top | bottom).tolist()
    )


def _there(around: Excerpt, start_s: float, stop_s: float) -> Floats:
    """The components (k, n) that were received all through a part and that are no dead lines."""
    part = around.part(start_s, stop_s)
    samples = around.samples[:, part]
    there = around.valid[:, part].all(axis=1) & (samples.max(axis=1) > samples.min(axis=1))
    return samples if there.all() else samples[there]


@dataclass(frozen=True, slots=True)
class _Lines:
    """Components from the noise to the coda: samples (k, n), their differences (k, n - 1), squared.

    `noise_stop`, `cause`: which of them are before the onset, and where its cause is looked for.
    """

    samples: Floats
    change: Floats
    square: Floats
    noise_stop: int
    cause: slice

    @classmethod
    def of(cls, around: Excerpt, end_s: float) -> Self:
        samples = _there(around, _NOISE_S[0], end_s)
        change = samples[:, 1:] - samples[:, :-1]
        noise, cause = around.part(*_NOISE_S), around.part(*_CAUSE_S)
        return cls(
            samples,
            change,
            change * change,
            noise.stop - noise.start,
            slice(cause.start - noise.start, cause.stop - noise.start),
        )


def _rms(square: Floats) -> Floats:
    """Root mean squares (k,) of squares (k, n)."""
    mean: Floats = np.sqrt(square.sum(axis=1) / square.shape[1])
    return mean


def _glitch(lines: _Lines) -> Artefact | None:
    found: Artefact | None = None
    first = lines.cause.start
    noises = _rms(lines.square[:, : lines.noise_stop]).tolist()
    peaks = lines.square[:, lines.cause].argmax(axis=1).tolist()
    for n, (noise, at) in enumerate(zip(noises, peaks, strict=True)):
        samples, change, square = lines.samples[n], lines.change[n], lines.square[n]
        peak = first + at
        least = _STANDS_OUT if samples[peak : peak + 2].all() else _ZERO_STANDS_OUT
        stands_out = abs(change[peak]) > least * noise > 0
        reach = _CLUSTER if stands_out else 0
        cluster = slice(max(peak - reach, first), peak + reach + 1)
        before, after = square[first : cluster.start], square[cluster.stop :]
        rest = (before.sum() + after.sum()) / (len(before) + len(after))
        if rest > (_RISES * noise) ** 2:
            return None
        if stands_out and np.sort(np.abs(change[cluster]))[-3] > _BESIDE * noise:
            return None  # a wave, however short
        if stands_out:
            net = abs(change[cluster].sum())
            found = Artefact.SPIKE if net < _NET_SHARE * abs(change[peak]) else Artefact.STEP
    return found


def _is_rescaled(around: Excerpt, lines: _Lines) -> bool:
    """Whether a component has just forgotten a glitch, and nothing rises on any."""
    before, after = lines.square[:, : lines.noise_stop - 1], lines.square[:, lines.noise_stop :]
    if (_rms(after) > _RISES * _rms(before)).any():
        return False  # nearly always
    past, noise_part = around.part(*_FORGOTTEN_S), around.part(*_NOISE_S)
    valid = around.valid[:, past]
    change = np.abs(np.diff(around.samples[:, past])) * (valid[:, 1:] & valid[:, :-1])
    noise = _rms(np.square(np.diff(around.samples[:, noise_part])))
    forgotten = change.max(axis=1) > _OUTLIVES * noise
    return bool((forgotten & (noise > 0)).any())


def _is_filled(lines: _Lines) -> bool:
    """Whether a component stands still near the onset where its noise would not.

    A signal at its limit stands still as well, but goes on afterwards.
    """
    zero = lines.change == 0
    stands = zero
    for _ in range(_FLAT_SAMPLES - 2):
        stands = stands[:, 1:] & zero[:, : stands.shape[1] - 1]
    may_stand = stands.any(axis=1)
    if not may_stand.any():
        return False  # nearly always
    first, stop = lines.cause.start, lines.noise_stop
    rises = _rms(lines.square[:, first:]) > _FILLED_RISES * _rms(lines.square[:, :stop])
    if (rises & ~may_stand).any():
        return False
    found = False
    for change in lines.change:
        still = _still(change)
        noise = change[:stop][~still[:stop]]
        noise = noise if len(noise) >= _NOISE_SAMPLES else change[~still]
        if rms(change[first:][~still[first:]]) > _FILLED_RISES * rms(noise):
            return False
        found = found or bool(still.any())
    return found


def _still(change: Floats) -> npt.NDArray[np.bool_]:
    """Which differences (n,) are in or beside samples that stand still and were filled in.

    That is a run of zeros with a jump at an end, or too long for chance.
    """
    still = np.zeros(len(change), dtype=bool)
    size = np.abs(change)
    zero = size == 0
    zeros = int(zero.sum())
    if not zeros:
        return still
    first, end = _runs(zero)
    long = end - first >= _FLAT_SAMPLES - 1
    if not long.any():
        return still
    least_jump = _EDGE * _median(size[~zero])
    padded = np.concatenate([[0.0], size, [0.0]])
    for start, stop in zip(first[long].tolist(), end[long].tolist(), strict=True):
        count = stop - start
        jumps = max(padded[start], padded[stop + 1]) > least_jump
        chance = len(change) * ((zeros - count + 1) / len(change)) ** count
        if jumps or chance < _CHANCE:
            still[max(start - _CLUSTER - 1, 0) : stop + _CLUSTER + 1] = True
    return still


def _median(sizes: Floats) -> float:
    """The middle one of (n,); 0 of none. Numpy's imports its masked arrays first: 70 ms."""
    ordered, half = np.sort(sizes), len(sizes) // 2
    return float(ordered[half] + ordered[-half - 1]) / 2 if len(sizes) else 0.0


def _runs(flags: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each run of true values begins and ends (half-open)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2]


def _is_sine(around: Excerpt, known_s: float) -> bool:
    """Whether all that rises after the onset, on any component, is one sine of constant size.

    Slow noise (microseism) is taken out of both sides by a polynomial.
    """
    length_s = min(_SINE_S, known_s) - _SINE_BEGINS_S
    before = around.part(_NOISE_S[1] - length_s, _NOISE_S[1])
    after = around.part(_SINE_BEGINS_S, _SINE_BEGINS_S + length_s)
    if after.stop - after.start < _SINE_SAMPLES:
        return False
    valid = around.valid
    whole = valid[:, before].all(axis=1) & valid[:, after].all(axis=1)
    signals = _without_slow(around.samples[whole, after])
    steady = _is_steady(signals)
    if not any(steady):
        return False  # most
    noises = np.square(_without_slow(around.samples[whole, before])).sum(axis=1).tolist()
    found = False
    for signal, noise, may_fit in zip(signals, noises, steady, strict=True):
        if energy(signal) < _SINE_RISES**2 * noise:
            continue
        if not (may_fit and _fits_sine(signal, noise)):
            return False
        found = True
    return found


def _is_steady(signals: Floats) -> list[bool]:
    """Which of (k, n) have about the same energy in their first and their last third."""
    square, third = signals * signals, signals.shape[1] // 3
    first, last = square[:, :third].sum(axis=1), square[:, -third:].sum(axis=1)
    weaker, stronger = np.minimum(first, last), np.maximum(first, last)
    steady: list[bool] = (stronger <= _SINE_DECAYS * weaker).tolist()
    return steady


def _fits_sine(signal: Floats, noise: float) -> bool:
    """Whether a sine explains the signal (n,), which has no slow part, but for so much energy."""
    count = len(signal)
    power = np.abs(fft.rfft(signal * _hann(count), 4 * count)) ** 2
    peak = int(np.argmax(power))
    if not 4 * _SINE_PERIODS <= peak < 1.8 * count:
        return False
    if power[max(peak - 8, 0) : peak + 9].sum() < _SINE_LINE * power.sum():
        return False  # nearly all by now: the fits below are much more work
    cycles, least = peak / 4, 0.0
    for width in (0.5, 0.1):
        rests = _rests(signal, cycles, width)
        cycles, least = cycles + width * float(_STEPS[rests.argmin()]), float(rests.min())
    return least < max(_SINE_REST * energy(signal), 2 * noise)


def _rests(flat: Floats, cycles: float, width: float) -> Floats:
    """Energy that sines do not explain, each alone: of `cycles` + _STEPS x `width` cycles."""
    count = len(flat)
    turns = np.exp(2j * np.pi * cycles / count * np.arange(count)) * _turned(count, width)
    turns = _without_slow(turns)  # (m, n), cosine and sine
    both = turns @ flat
    square = np.einsum("mn,mn->m", turns, turns)
    size = np.einsum("mn,mn->m", turns, turns.conj()).real
    # Of the normal equations: energies of cosine and sine, and their product.
    cc, ss, cs = (size + square.real) / 2, (size - square.real) / 2, square.imag / 2
    explained = ss * both.real**2 - 2 * cs * both.real * both.imag + cc * both.imag**2
    rests: Floats = energy(flat) - explained / (cc * ss - cs * cs)
    return rests


@lru_cache(maxsize=64)
def _turned(count: int, width: float) -> npt.NDArray[np.complex128]:
    """Turns (m, count) by which the trials of `_rests` differ."""
    turned: npt.NDArray[np.complex128]
    turned = np.exp(2j * np.pi * width / count * np.outer(_STEPS, np.arange(count)))
    return turned


def _without_slow(samples: Floats) -> Floats:
    """Samples (..., n) less the polynomial that fits them best."""
    slow = _slow(samples.shape[-1])
    left: Floats = samples - (samples @ slow) @ slow.T
    return left


@lru_cache(maxsize=64)
def _slow(count: int) -> Floats:
    """Orthonormal polynomials (count, _SLOW_ORDER + 1)."""
    basis = legendre.legvander(np.linspace(-1, 1, count), _SLOW_ORDER)
    slow: Floats = np.linalg.qr(basis)[0]
    return slow


@lru_cache(maxsize=64)
def _hann(count: int) -> Floats:
    return np.hanning(count)


def _clipped(samples: Floats) -> bool:
    limits = (samples.max(), samples.min())
    if all(np.count_nonzero(samples == limit) < _CLIP_SAMPLES for limit in limits):
        return False  # nearly always
    reach = limits[0] - limits[1]
    change = abs(samples[1:] - samples[:-1])
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
