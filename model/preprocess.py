"""From raw samples to the input of the network: one code in training, evaluation and the daemon.

Everything here is causal to one block, has a finite memory and lies on the absolute sample grid, so
a stream cut anywhere gives the numbers of the whole archive. A block is 100 samples (one second at
100 Hz).

1. `Resampler`: any rate to 100 Hz by a minimum-phase polyphase filter whose delay is taken out.
2. `normalise`: high-pass, division by the recent noise level, compression of the amplitude.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

BLOCK = 100  # samples; the total stride of the network
MODEL_RATE = Fraction(100)  # samples/s

# What the high-pass leaves of a constant: float64 rounding of sums over one block, with a margin.
_ROUNDING = 1e-12
# Relative change within a block that the rounding of float32 samples may cause.
_STILL = 2.0**-22

# Blocks of components that are normalised at once: their arrays stay in the caches of a processor.
_AT_ONCE = 768

# Through a block: the shares of the noise level before it and at its end, and how often its first
# sample stands for what lies before it.
_RAMP = np.array([np.arange(BLOCK - 1, -1, -1), np.arange(1, BLOCK + 1)]) / BLOCK
_AHEAD = np.arange(BLOCK - 1, -1, -1, dtype=np.float64)

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Constants of `normalise`; stored in the artifact because the weights belong to them.

    high_pass_passes: how often the running mean of one block (1 s at 100 Hz) is subtracted; two
        passes have their corner near 0.35 Hz at 100 Hz.
    memory_blocks: over how many blocks, the present one included, the noise level is averaged.
    exponent: power mean of the block RMS values. 2 is the RMS of the memory; below 1 a short strong
        signal hardly moves the level, so an event does not mask the next one.
    gain: input of 1/gain noise levels is where asinh turns from linear to logarithmic.
    shared_scale: one noise level for the components of a station instead of one each.
    """

    high_pass_passes: int = 2
    memory_blocks: int = 30
    exponent: float = 0.5
    gain: float = 2.0
    shared_scale: bool = False

    @property
    def history_blocks(self) -> int:
        """Blocks before the first wanted one that influence it."""
        return self.high_pass_passes + self.memory_blocks


def normalise(
    samples: npt.ArrayLike, valid: npt.ArrayLike, config: PreprocessConfig
) -> npt.NDArray[np.float32]:
    """Samples in any unit to noise levels, high-passed and compressed.

    samples: (..., C, n x 100), components last but one; invalid blocks are ignored, even NaN.
    valid: (..., C, n) bool, whether every sample of the block was recorded.
    Returns float32 of the shape of `samples`; invalid blocks are exactly 0. The first
    `config.history_blocks` blocks are exact only where the data begin there.
    """
    ok = np.asarray(valid, dtype=bool)
    prepared, _ = normalise_next(samples, ok, config, initial_state(ok.shape[:-1], config))
    return prepared


def state_size(config: PreprocessConfig) -> int:
    """Numbers that `normalise_next` remembers of one component."""
    return config.high_pass_passes * (BLOCK + 1) + 2 * config.memory_blocks


def initial_state(shape: tuple[int, ...], config: PreprocessConfig) -> Floats:
    """What is remembered, (*shape, state_size), before anything was recorded."""
    return np.zeros((*shape, state_size(config)))


def normalise_next(
    samples: npt.ArrayLike, valid: npt.ArrayLike, config: PreprocessConfig, state: Floats
) -> tuple[npt.NDArray[np.float32], Floats]:
    """`normalise` of the blocks that follow those that `state` remembers, and the new state.

    state: (..., C, state_size) float64. For each pass of the high-pass: what the last block leaves
    in the running mean of each sample of the next one, and whether it was recorded. Then for each
    block of the memory its term of the power mean, and whether it counts.
    """
    ok = np.asarray(valid, dtype=bool)
    x = np.asarray(samples, dtype=np.float64).reshape(*ok.shape, BLOCK)
    at_once = max(_AT_ONCE * ok.shape[-1] // max(ok.size, 1), 1)
    parts = []
    for first in range(0, max(ok.shape[-1], 1), at_once):
        part = slice(first, first + at_once)
        prepared, state = _normalised(x[..., part, :], ok[..., part], config, state)
        parts.append(prepared)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1), state


def _normalised(
    x: Floats, ok: Flags, config: PreprocessConfig, state: Floats
) -> tuple[npt.NDArray[np.float32], Floats]:
    """`normalise_next` of samples (..., C, n, 100), all at once."""
    if not ok.all():
        x = np.where(ok[..., None], x, 0.0)
    rounding = _ROUNDING**2 * np.einsum("...i,...i->...", x, x)
    remembered = np.empty_like(state)
    for start in range(0, config.high_pass_passes * (BLOCK + 1), BLOCK + 1):
        part = np.s_[..., start : start + BLOCK + 1]
        x = _subtract_running_mean(x, ok, state[part], remembered[part])
    energy = np.einsum("...i,...i->...", x, x)
    # A dead channel with an offset is silent: without this its rounding would be its noise level.
    silent = energy <= rounding
    if silent.any():
        x, energy = np.where(silent[..., None], 0.0, x), np.where(silent, 0.0, energy)
    memory = np.s_[..., -2 * config.memory_blocks :]
    before, after, remembered[memory] = _noise_level(energy / BLOCK, ok, config, state[memory])
    unit = np.stack([before / config.gain, after / config.gain], axis=-1) @ _RAMP
    if before.all() and after.all():
        y = np.divide(x, unit, out=unit)
    else:
        y = np.divide(x, unit, out=np.zeros_like(x), where=unit > 0)
    return _arcsinh(y).reshape(*ok.shape[:-1], -1), remembered


def constant(samples: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which blocks of (..., n x 100) samples never change, to the rounding of float32: (..., n).

    A dead component, a line filled by a data centre: no sensor stands still for a whole second.
    What follows would look like an onset out of perfect silence.
    """
    x = np.asarray(samples, dtype=np.float64)
    x = x.reshape(*x.shape[:-1], -1, BLOCK)
    highest, lowest = x.max(axis=-1), x.min(axis=-1)
    still: npt.NDArray[np.bool_] = highest - lowest <= _STILL * np.maximum(highest, -lowest)
    return still


_HUGE = 1e18  # its square is finite in float32


def _arcsinh(x: Floats) -> npt.NDArray[np.float32]:
    """By functions that are vectorised on all processors; its error is that of float32 at 1."""
    single = np.clip(x, -_HUGE, _HUGE, dtype=np.float32, casting="same_kind")
    size = np.abs(single)
    root = size * size
    root += 1
    y: npt.NDArray[np.float32] = np.log(np.add(np.sqrt(root, out=root), size, out=root), out=root)
    return np.copysign(y, single, out=y)  # type: ignore[no-any-return]


def _subtract_running_mean(x: Floats, ok: Flags, state: Floats, left: Floats) -> Floats:
    """x minus its mean over the last 100 samples; before data begin, their first sample counts.

    left: what is to be remembered in place of `state`, written here.
    """
    mean = np.cumsum(x, axis=-1)
    rest = mean[..., -1:] - mean  # of a block, in the sums of the next one
    recorded = np.concatenate([state[..., BLOCK:], ok], axis=-1)
    left[..., :BLOCK], left[..., BLOCK] = rest[..., -1, :], recorded[..., -1]
    begins = recorded[..., :-1] == 0
    if begins.any():
        before = np.concatenate([state[..., None, :BLOCK], rest[..., :-1, :]], axis=-2)
        mean += np.where(begins[..., None], x[..., :1] * _AHEAD, before)
    else:
        mean[..., 0, :] += state[..., :BLOCK]
        mean[..., 1:, :] += rest[..., :-1, :]
    mean /= BLOCK
    x = np.subtract(x, mean, out=mean)
    return x if ok.all() else np.where(ok[..., None], x, 0.0)


def _noise_level(
    power: Floats, ok: Flags, config: PreprocessConfig, state: Floats
) -> tuple[Floats, Floats, Floats]:
    """Power mean of the RMS of the remembered valid blocks, before and at the end of each block.

    Both (..., C, n), and the new state. Where nothing is known before a block it is that of its
    end; 0 where unknown.
    """
    count = ok.astype(np.float64)
    if config.shared_scale:
        share = np.maximum(count.sum(axis=-2, keepdims=True), 1.0)
        power = np.broadcast_to(power.sum(axis=-2, keepdims=True) / share, power.shape)
        count = np.broadcast_to(count.any(axis=-2, keepdims=True), count.shape).astype(np.float64)
    memory = config.memory_blocks
    terms = np.concatenate([state[..., :memory], power ** (config.exponent / 2) * count], axis=-1)
    counts = np.concatenate([state[..., memory:], count], axis=-1)
    total, known = _sums(terms, memory), _sums(counts, memory)
    level = (total / np.maximum(known, 1.0)) ** (1 / config.exponent)
    before = np.where(known[..., :-1] > 0, level[..., :-1], level[..., 1:])
    left = np.concatenate([terms[..., -memory:], counts[..., -memory:]], axis=-1)
    return before, level[..., 1:], left


def _sums(x: Floats, count: int) -> Floats:
    """Of `count` consecutive ones: (..., n) -> (..., n - count + 1).

    Each is added afresh, so that no rounding drifts; in this order it is quick for any n.
    """
    stop = x.shape[-1] - count + 1
    total = x[..., :stop].copy()
    for first in range(1, count):
        total += x[..., first : first + stop]
    return total


# 33 taps per phase reach 80 dB in a transition band of a tenth of the lower Nyquist frequency.
_TAPS_PER_PHASE = 33
_KAISER_BETA = 8.0
_PASS_BAND = 0.9
# The delay is taken out to this fraction of the interval of the lower rate: 1 ms at 20 Hz.
_DELAY_STEPS = 64


@lru_cache
def _minimum_phase_filter(up: int, down: int) -> tuple[Floats, int]:
    """Taps at rate_in x `up`, and their delay at low frequencies (a multiple of `down`).

    Designed on a finer grid: the taps are those of its points whose delay is nearest to a whole.
    """
    from scipy import signal

    factor = max(up, down)
    finer = -(-_DELAY_STEPS // factor)
    linear = signal.firwin(
        _TAPS_PER_PHASE * factor * finer | 1,
        _PASS_BAND / (factor * finer),
        window=("kaiser", _KAISER_BETA),
    )
    fine = signal.minimum_phase(linear, method="homomorphic", half=False)
    fine_delay = round(float(np.arange(len(fine)) @ fine / fine.sum()))
    taps, delay = fine[fine_delay % finer :: finer], fine_delay // finer
    padding = -delay % down
    taps = np.concatenate([np.zeros(padding), taps])
    for phase in range(up):  # equal sums, or a constant offset would leak as a tone
        taps[phase::up] /= taps[phase::up].sum()
    taps.flags.writeable = False  # shared by all that resample alike
    return taps, delay + padding


# Outputs per row of the product below: few enough that little of the matrix is zero.
_GROUP = 10


@lru_cache
def _resampling_matrix(up: int, down: int) -> tuple[Floats, int]:
    """(inputs, outputs) of one group of outputs, and where its inputs begin.

    A group begins at an output that is a multiple of `up`; then it needs inputs from the same
    place in the period of `down` inputs on, which is that of the group plus the second result.
    """
    taps, delay = _minimum_phase_filter(up, down)
    outputs = -(-_GROUP // up) * up
    first = -(-(delay - len(taps) + 1) // up)
    stop = ((outputs - 1) * down + delay) // up + 1
    tap = np.arange(outputs) * down + delay - np.arange(first, stop)[:, None] * up
    matrix = np.where((tap >= 0) & (tap < len(taps)), taps[np.clip(tap, 0, len(taps) - 1)], 0.0)
    matrix.flags.writeable = False
    return matrix, first


class Resampler:
    """Polyphase resampling to 100 Hz on the absolute grid: sample n lies at n / rate on both sides.

    With `rate_out` equal to `rate_in` (native sampling) the samples pass as they are.

    The filter is minimum phase: it rings after an onset, never before it (a linear-phase filter
    moves picks of high-rate data early). Its delay at low frequencies is taken out, so it needs a
    few samples beyond the last output. Raises ValueError for rates that no sensible filter serves.
    """

    _MAX_FACTOR = 128  # 256 Hz needs 25/64; beyond this the rate in the header is likely wrong

    def __init__(self, rate_in: Fraction, rate_out: Fraction = MODEL_RATE) -> None:
        ratio = rate_out / rate_in
        self.rate_in, self.rate_out = rate_in, rate_out
        self.up, self.down = ratio.numerator, ratio.denominator
        if max(self.up, self.down) > self._MAX_FACTOR or rate_in < 10:
            raise ValueError(f"cannot resample {float(rate_in):g} Hz to {float(rate_out):g} Hz")

    def input_range(self, start: int, stop: int) -> tuple[int, int]:
        """Half-open range of input sample indices that outputs `start` to `stop` depend on."""
        if self.up == self.down:
            return start, stop
        taps, delay = _minimum_phase_filter(self.up, self.down)
        first = -(-(start * self.down + delay - len(taps) + 1) // self.up)
        return first, ((stop - 1) * self.down + delay) // self.up + 1

    def __call__(self, samples: npt.ArrayLike, start: int, stop: int) -> Floats:
        """Outputs `start` to `stop` from samples (..., n), exactly those of `input_range`."""
        x = np.asarray(samples, dtype=np.float64)
        if self.up == self.down or start == stop:
            return x[..., : stop - start]
        matrix, first = _resampling_matrix(self.up, self.down)
        inputs, outputs = matrix.shape
        aligned = start // self.up * self.up  # the first group begins here
        groups = -(-(stop - aligned) // outputs)
        hop = outputs * self.down // self.up
        # What lies outside the input range meets zeros of the matrix, or outputs not asked for.
        before = self.input_range(start, stop)[0] - (aligned * self.down // self.up + first)
        padded = np.zeros((*x.shape[:-1], (groups - 1) * hop + inputs))
        padded[..., before : before + x.shape[-1]] = x
        windows = sliding_window_view(padded, inputs, axis=-1)[..., ::hop, :]
        y: Floats = (windows @ matrix).reshape(*x.shape[:-1], -1)
        return y[..., start - aligned : stop - aligned]
