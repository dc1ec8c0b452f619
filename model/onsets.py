"""From probability traces to onsets: the one rule, used live, offline and in evaluation.

An onset is a sample whose probability reaches the threshold of its phase and is the highest within
`separation_samples` on both sides. Each phase has its own trace, so P and S never suppress each other,
however close; two onsets of one phase closer than the separation are one. The rule looks a fixed number of
samples ahead, hence any cutting of the trace into pieces gives the same onsets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Trace = npt.NDArray[np.float32]

# Samples above this share of the peak locate it: their centroid is finer than one sample and, unlike the
# position of the maximum, does not jump when rounding differs on a flat top.
_CENTROID_SHARE = 0.7


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
        self._trace: Trace = np.zeros((len(thresholds), 0), dtype=np.float32)
        self._start = 0  # index of the first kept sample
        self._undecided = 0  # index of the first sample not yet judged

    @property
    def end(self) -> int:
        """Index after the last sample seen."""
        return self._start + self._trace.shape[1]

    @property
    def open(self) -> bool:
        """Whether there are traces to continue."""
        return self._trace.shape[1] > 0

    def push(self, start: int, probability: Trace) -> list[Onset]:
        """Continue the traces with (phases, n) beginning at sample `start`; returns what is now certain.

        A jump in `start` ends the traces there: call `finish` before it or lose what is undecided, hence
        ValueError.
        """
        if not self._trace.shape[1]:
            self._start = self._undecided = start
        elif start != self.end:
            raise ValueError(f"trace ends at sample {self.end}, continued at {start}")
        self._trace = np.concatenate([self._trace, probability], axis=1)
        onsets = self._decide(self.end - self.separation_samples)
        keep = max(self._undecided - self.separation_samples, self._start)
        self._trace = self._trace[:, keep - self._start :]
        self._start = keep
        return onsets

    def finish(self) -> list[Onset]:
        """The traces end here: judge what is left with what there is, and forget them."""
        onsets = self._decide(self.end)
        self._trace = self._trace[:, :0]
        return onsets

    def _decide(self, stop: int) -> list[Onset]:
        """Judge the samples up to `stop`, in order of time."""
        first, last = self._undecided - self._start, stop - self._start
        if last <= first:
            return []
        self._undecided = stop
        onsets = [
            Onset(
                phase,
                self._start + _centroid(trace, peak, self.separation_samples),
                float(trace[peak]),
            )
            for phase, (trace, threshold) in enumerate(
                zip(self._trace, self.thresholds, strict=True)
            )
            for peak in first + np.flatnonzero(trace[first:last] >= threshold)
            if self._is_highest(trace, peak)
        ]
        return sorted(onsets, key=lambda onset: onset.index)

    def _is_highest(self, trace: Trace, peak: int) -> bool:
        """The first of the highest samples around it."""
        left = max(peak - self.separation_samples, 0)
        around = trace[left : peak + self.separation_samples + 1]
        return left + int(np.argmax(around)) == peak


def _centroid(trace: Trace, peak: int, reach: int) -> float:
    """Centroid of what rises above a share of the peak, in samples from the start of the trace."""
    left = max(peak - reach, 0)
    around = trace[left : peak + reach + 1].astype(np.float64)
    weight = around - _CENTROID_SHARE * float(trace[peak])
    below = np.flatnonzero(weight <= 0)
    first = below[below < peak - left].max(initial=-1) + 1
    last = below[below > peak - left].min(initial=len(around))
    weight = weight[first:last]
    return left + float(np.arange(first, last) @ weight / weight.sum())


def find_onsets(
    probability: Trace, thresholds: tuple[float, ...], separation_samples: int = 50
) -> list[Onset]:
    """Onsets of whole traces (phases, n) that begin at sample 0."""
    detector = OnsetDetector(thresholds, separation_samples)
    return detector.push(0, probability) + detector.finish()
