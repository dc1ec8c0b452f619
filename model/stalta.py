"""The classic picker: STA/LTA triggers, onsets refined by the Akaike information criterion (AIC).

P on the vertical and S on the horizontals, after Allen (BSSA 68, 1521-1532, 1978) for the ratio of
a short-term to a long-term average that switches a trigger on and off, and Maeda (Zisin 38,
365-379, 1985) for the onset as the minimum of the AIC of the trace. What a network has to beat.

Every stretch between gaps is picked by itself, and nothing triggers in its first seconds: a gap
gives no onset.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Range = tuple[int, int]

# (phase: 0 P, 1 S; sample index of the onset; highest ratio while the trigger was on)
Triggered = tuple[int, int, float]
_P, _S = 0, 1


@dataclass(frozen=True, kw_only=True)
class StaLtaConfig:
    """Constants of `pick`; pairs are for P and S, ratios are of energies.

    Tried out on 254 recordings of Northern California, with at most 5 picks per station-hour in 4
    quiet station-hours of Colombia.

    band_hz, order: corners and order of the causal Butterworth band-pass.
    sta_s, lta_s: time constants of the averages; the long one ends `sta_s` before the short one.
    settle_s: least data in the long average: of the stretch for P, since P for S.
    on, off: ratio that switches a trigger on, and below which it is off again.
    rest_s: how long after a P nothing triggers another one.
    within_s: how long after a P an S is looked for, if no other P comes first.
    before_s, after_s: range around the moment of a trigger in which the AIC is computed.
    flat_s: equal samples for so long are a dead channel or a filled gap: not recorded.
    """

    band_hz: tuple[float, float] = (1.0, 20.0)
    order: int = 2
    sta_s: tuple[float, float] = (0.5, 0.3)
    lta_s: float = 10.0
    settle_s: tuple[float, float] = (3.0, 0.3)
    on: tuple[float, float] = (13.0, 2.5)
    off: float = 1.5
    rest_s: float = 1.0
    within_s: float = 20.0
    before_s: float = 2.0
    after_s: float = 0.5
    flat_s: float = 0.5


@dataclass(frozen=True)
class _Traces:
    """Band-passed samples (3, n), 0 where not recorded, and the recorded ranges per component."""

    samples: Floats
    recorded: tuple[list[Range], ...]
    rate_hz: float
    config: StaLtaConfig

    def count(self, seconds: float) -> int:
        return max(round(seconds * self.rate_hz), 1)


def pick(
    samples: npt.ArrayLike, rate_hz: float, config: StaLtaConfig | None = None
) -> list[Triggered]:
    """Onsets of P, each followed by its S if there is one.

    samples: (3, n), components Z, N, E in any unit; NaN where nothing was recorded.
    Without a vertical there is no P, and without a P no S. The vertical stands in for the
    horizontals where both are missing; an S that triggers it counts as a P then.
    Raises ValueError if `rate_hz` is too low for the band.
    """
    traces = _band_pass(np.asarray(samples, dtype=np.float64), rate_hz, config or StaLtaConfig())
    found: list[Triggered] = []
    for stretch in traces.recorded[0]:
        p_waves = _p_onsets(traces, stretch)
        bounds = [index for _, index, _ in p_waves] + [stretch[1]]
        for p, (first, last) in zip(p_waves, pairwise(bounds), strict=True):
            found.append(p)
            found.extend(_s_onset(traces, first, last))
    return found


def _band_pass(x: Floats, rate_hz: float, config: StaLtaConfig) -> _Traces:
    from scipy import signal

    recorded = tuple(_recorded(row, round(config.flat_s * rate_hz)) for row in x)
    sections = signal.butter(config.order, config.band_hz, "bandpass", fs=rate_hz, output="sos")
    settled = signal.sosfilt_zi(sections)  # as if the first sample had always been there: no step
    y = np.zeros_like(x)
    for component, ranges in enumerate(recorded):
        for first, last in ranges:
            part = x[component, first:last]
            y[component, first:last], _ = signal.sosfilt(sections, part, zi=settled * part[0])
    return _Traces(y, recorded, rate_hz, config)


def _recorded(x: Floats, flat_samples: int) -> list[Range]:
    """Half-open ranges that are finite and nowhere constant for `flat_samples`."""
    ok = np.isfinite(x)
    for first, last in _ranges(np.diff(x) == 0):
        if last - first + 1 >= flat_samples:
            ok[first : last + 1] = False
    return _ranges(ok)


def _ranges(flags: npt.NDArray[np.bool_]) -> list[Range]:
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _p_onsets(traces: _Traces, stretch: Range) -> list[Triggered]:
    """P of one stretch; a trigger of the vertical by an S that follows it is passed over."""
    c, (first, last) = traces.config, stretch
    vertical = traces.samples[:1, first:last]
    found: list[Triggered] = []
    for on, ratio in _triggers(vertical, _P, traces):
        previous = found[-1][1] - first if found else -last
        if on - previous < traces.count(c.rest_s):
            continue
        onset = _refine(vertical, on, traces)
        if onset - previous < traces.count(c.within_s) and _is_s(traces, first + onset):
            continue
        found.append((_P, first + onset, ratio))
    return found


def _is_s(traces: _Traces, onset: int) -> bool:
    """Whether the horizontals have more energy than the vertical from there on."""
    energy = np.square(traces.samples[:, onset : onset + traces.count(traces.config.sta_s[_P])])
    components = _horizontals(traces, onset)
    return bool(components) and energy[components].mean() > energy[0].mean()


def _s_onset(traces: _Traces, p: int, end: int) -> list[Triggered]:
    """The strongest S trigger between a P and `end`; none or one.

    The averages begin anew at P, so that it is the P and its coda that S has to rise above.
    """
    used = _horizontals(traces, p) or [0]
    ends = [last for k in used for first, last in traces.recorded[k] if first <= p < last]
    stop = min(end, p + traces.count(traces.config.within_s), *ends)
    part = traces.samples[used, p:stop]
    triggers = _triggers(part, _S, traces)
    if not triggers:
        return []
    on, ratio = max(triggers, key=lambda trigger: trigger[1])
    return [(_S, p + _refine(part, on, traces), ratio)]


def _horizontals(traces: _Traces, index: int) -> list[int]:
    """The horizontal components recorded at a sample."""
    return [k for k in (1, 2) if any(first <= index < last for first, last in traces.recorded[k])]


def _triggers(part: Floats, phase: int, traces: _Traces) -> list[tuple[int, float]]:
    """When the ratio of the averages of the energy of (c, n) switches on, and its highest value."""
    from obspy.signal.trigger import trigger_onset

    c = traces.config
    sta = traces.count(c.sta_s[phase])
    energy = np.square(part).sum(axis=0)
    short, long = _average(energy, sta), _average(energy, traces.count(c.lta_s))
    ratio = np.zeros_like(energy)
    np.divide(short[sta:], long[:-sta], out=ratio[sta:], where=long[:-sta] > 0)
    ratio[: sta + traces.count(c.settle_s[phase])] = 0
    switched = trigger_onset(ratio, c.on[phase], c.off)
    return [(int(on), float(ratio[on : off + 1].max())) for on, off in switched]


def _average(energy: Floats, count: int) -> Floats:
    """Recursive average with a time constant of `count` samples; at first of what there is.

    Recursive (Withers et al., BSSA 88, 95-106, 1998), because a sum that runs on never recovers
    the digits lost in a spike.
    """
    from scipy import signal

    keep = 1 - 1 / count
    average = signal.lfilter([1 - keep], [1, -keep], energy)
    return average / (1 - keep ** np.arange(1, len(energy) + 1))  # type: ignore[no-any-return]


def _refine(part: Floats, trigger: int, traces: _Traces) -> int:
    """Sample of (c, n) at which it becomes another process: the minimum of the summed AIC."""
    from obspy.signal.trigger import aic_simple

    first = max(trigger - traces.count(traces.config.before_s), 0)
    window = part[:, first : trigger + traces.count(traces.config.after_s)]
    aic = np.sum([aic_simple(row) for row in window], axis=0)
    # Its ends are variances of one or two samples.
    return first + 2 + int(np.argmin(aic[1:-2]))
