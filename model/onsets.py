"""From probability traces to onsets: the one rule, used live, offline and in evaluation.

An onset is a sample whose probability reaches the threshold of its phase and is the highest within
`separation_samples` on both sides. Each phase has its own trace, so P and S never suppress each
other, however close; two onsets of one phase closer than the separation are one. The rule looks a
fixed number of samples ahead, hence any cutting of the trace into pieces gives the same onsets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Trace = npt.NDArray[np.float32]

# Samples above this share of the peak locate it: their centroid is finer than one sample and,
# unlike the position of the maximum, does not jump when rounding differs on a flat top. The share
# is high because the peaks are skewed: from 0.7 to 0.9 the median absolute residual of P fell by 3
# to 13 % on three data sets. Higher shares would gain little and leave fewer samples to average.
_CENTROID_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Onset:
    """`phase` indexes the traces (0 P, 1 S); `index` is the position in samples since the epoch."""

    phase: int
    index: float
    probability: float


class OnsetDetector:
    """Onsets of one station from consecutive pieces of its probability traces."""

    def __init__(self, thresholds: tuple[float, ...], separation_samples: int = 50) -> None:
        self.thresholds = thresholds
        self.separation_samples = separation_samples
        self._limits = np.array(thresholds, dtype=np.float32)[:, None]
        # What lies below is no part of any onset, not of its centroid either; a little less, for
        # rounding.
        self._floor = (_CENTROID_SHARE - 0.01) * min(thresholds)
        self._trace: Trace = np.zeros((len(thresholds), 0), dtype=np.float32)
        self._silence: Trace = np.zeros((len(thresholds), 2 * separation_samples), dtype=np.float32)
        self._silent = True  # all that is kept is below the floor
        self._start = 0  # index of the first kept sample
        self._undecided = 0
        # First sample that may be an onset, by phase: after `finish` one may lie just behind us.
        self._free_from = [0] * len(thresholds)

    @property
    def end(self) -> int:
        """Index after the last sample seen."""
        return self._start + int(self._trace.shape[1])

    @property
    def decided(self) -> int:
        """Index of the first sample not yet judged."""
        return self._undecided

    @property
    def free_from(self) -> tuple[int, ...]:
        """By phase, where the next onset may be at the earliest; () if anywhere from here on."""
        return tuple(self._free_from) if max(self._free_from) > self._undecided else ()

    def keep_free(self, free_from: tuple[int, ...]) -> None:
        """Onsets were found elsewhere: none is to come before these indices, one per phase."""
        pairs = zip(self._free_from, free_from, strict=True)
        self._free_from = [max(pair) for pair in pairs]

    @property
    def open(self) -> bool:
        """Whether samples wait for what follows them."""
        return self._undecided < self.end

    def push(self, start: int, probability: Trace) -> list[Onset]:
        """Continue the traces with (phases, n) from sample `start`; returns what is now certain.

        A jump in `start` begins new traces. Raises ValueError if samples before it are undecided:
        call `finish` first.
        """
        if start != self.end:
            if self.open:
                raise ValueError(f"trace ends at sample {self.end}, continued at {start}")
            self._start = self._undecided = start
            self._free_from = [start] * len(self.thresholds)
            self._trace = self._trace[:, :0]
            self._silent = True
        highest = float(probability.max(initial=0))
        if self.pass_over(start, start + probability.shape[1], highest):
            return []
        self._trace = np.concatenate([self._trace, probability], axis=1)
        onsets = self._decide(self.end - self.separation_samples)
        keep = max(self._undecided - self.separation_samples, self._start)
        # A copy, or what is kept would keep the traces of a whole batch of stations in memory.
        self._trace = self._trace[:, keep - self._start :].copy()
        self._start = keep
        self._silent = bool(self._trace.max(initial=0) < self._floor)
        return onsets

    def pass_over(self, start: int, stop: int, highest: float) -> bool:
        """Continue the traces to sample `stop` if nothing is in them, as nearly always.

        highest: no probability from sample `start` to `stop` is above. Whether they were continued;
        if not, `push` is to be called.
        """
        if not (self._silent and highest < self._floor and start == self.end):
            return False
        separation, silence = self.separation_samples, self._silence
        self._undecided = max(stop - separation, self._undecided)
        self._start = max(self._undecided - separation, self._start)
        kept = stop - self._start
        self._trace = silence if kept == silence.shape[1] else silence[:, :kept]
        return True

    def finish(self) -> list[Onset]:
        """No more samples for now: judge what is left with what there is.

        Traces that go on after all must not repeat an onset, so the last samples stay known.
        """
        return self._decide(self.end)

    def _decide(self, stop: int) -> list[Onset]:
        """Judge the samples up to `stop`, in order of time."""
        first, last = self._undecided - self._start, stop - self._start
        if last <= first:
            return []
        self._undecided = stop
        onsets: list[Onset] = []
        reached = self._trace[:, :last] >= self._limits
        if not reached.any():  # nearly always
            return onsets
        free = [max(first, index - self._start) for index in self._free_from]
        phases, places = (reached & _peaks(self._trace)[:, :last]).nonzero()
        for phase, peak in zip(phases.tolist(), places.tolist(), strict=True):
            trace = self._trace[phase]
            if peak >= free[phase] and self._is_highest(trace, peak):
                index = self._start + _centroid(trace, peak, self.separation_samples)
                onsets.append(Onset(phase, index, float(trace[peak])))
                self._free_from[phase] = self._start + peak + self.separation_samples + 1
        return sorted(onsets, key=lambda onset: onset.index)

    def _is_highest(self, trace: Trace, peak: int) -> bool:
        """The first of the highest samples around it."""
        left = max(peak - self.separation_samples, 0)
        around = trace[left : peak + self.separation_samples + 1]
        return left + int(np.argmax(around)) == peak


def _peaks(trace: Trace) -> npt.NDArray[np.bool_]:
    """Which samples of (phases, n) are higher than the one before and no lower than that behind."""
    peaks = np.ones(trace.shape, dtype=bool)
    peaks[:, 1:] = trace[:, 1:] > trace[:, :-1]
    peaks[:, :-1] &= trace[:, :-1] >= trace[:, 1:]
    return peaks


def _centroid(trace: Trace, peak: int, reach: int) -> float:
    """Centroid of what rises above a share of the peak, in samples from the start of the trace."""
    left, share = max(peak - reach, 0), _CENTROID_SHARE * float(trace[peak])
    around: list[float] = trace[left : peak + reach + 1].tolist()  # ten or twenty of them count
    first, last = peak - left, peak - left + 1
    while first > 0 and around[first - 1] > share:
        first -= 1
    while last < len(around) and around[last] > share:
        last += 1
    weights = [probability - share for probability in around[first:last]]
    return left + sum(n * weight for n, weight in enumerate(weights, first)) / sum(weights)


def find_onsets(
    probability: Trace, thresholds: tuple[float, ...], separation_samples: int = 50
) -> list[Onset]:
    """Onsets of whole traces (phases, n) that begin at sample 0."""
    detector = OnsetDetector(thresholds, separation_samples)
    return detector.push(0, probability) + detector.finish()
