"""The samples of one channel on an absolute sample index, with what is missing known exactly."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from streamer.timebase import NS_PER_MS, continuity_tolerance_ns, sample_index, sample_time_ns
from streamer.waveforms.records import Record

# Offsets from x.47 ms on count as x + 1. Headers round to 100 us: a border on one of their marks
# would let the same clock fall on either side of it.
_ROUND_UP_NS = 530_000


class Verdict(StrEnum):
    """What a record was to its ring."""

    ACCEPTED = "accepted"  # continues the data, or begins them
    GAP = "gap"  # accepted, but samples before it are missing
    OVERLAP = "overlap"  # begins before the end of the data; only its new samples were taken
    LATE = "late"  # fills a gap that lay behind the end of the data
    DUPLICATE = "duplicate"  # brings nothing new
    EXPIRED = "expired"  # older than the ring reaches


@dataclass(frozen=True, slots=True)
class Arrival:
    """Outcome of one record: the verdict, and how many samples are missing before it."""

    verdict: Verdict
    missing_samples: int = 0


class ChannelRing:
    """A bounded run of samples of one channel at one rate.

    Positions are absolute sample indices. What was never received (or is not a finite number) is
    not valid; the first value received for a position stays. Samples keep the type they were sent
    in, so nothing is rounded.
    """

    _MAX_OFFSETS = 64  # remembered clock offsets; a channel has one, a drifting clock a few

    def __init__(self, rate: Fraction, capacity_samples: int) -> None:
        self.rate = rate
        self.capacity = capacity_samples
        self.end = 0  # index after the newest sample; 0 before the first record
        self._samples: npt.NDArray[np.generic] = np.zeros(capacity_samples, dtype=np.int32)
        self._valid = np.zeros(capacity_samples, dtype=bool)
        # Clock offset from each of these indices up to the next one.
        self._offset_from: list[int] = []
        self._offsets_ms: list[int] = []

    @property
    def start(self) -> int:
        """Index of the oldest position still held."""
        return max(self.end - self.capacity, 0)

    def locate(self, record: Record) -> int:
        """Index of the first sample: the continuing one if the clock allows, else the nearest.

        One sample early is an overlap, and no jitter of the clock, if it repeats the last sample.
        """
        index = sample_index(record.start_ns, self.rate)
        if index == self.end - 1 and self._samples[index % self.capacity] == record.samples[0]:
            return index
        deviation_ns = abs(record.start_ns - sample_time_ns(self.end, self.rate))
        if abs(index - self.end) <= 1 and deviation_ns <= continuity_tolerance_ns(self.rate):
            return self.end
        return index

    def write(self, record: Record) -> Arrival:
        """Take the samples of `record` that are new. Raises ValueError for another rate."""
        if record.rate != self.rate:
            raise ValueError(f"ring of {self.rate} Hz got a record of {record.rate} Hz")
        first = self.locate(record)
        stop = first + len(record.samples)
        if self.end and stop <= self.start:
            return Arrival(Verdict.EXPIRED)
        verdict, missing = Verdict.ACCEPTED, 0
        if self.end and first > self.end:
            verdict, missing = Verdict.GAP, first - self.end
        elif first < self.end:
            verdict = self._compare(first, stop)
            if verdict is Verdict.DUPLICATE:
                return Arrival(verdict)
        self._extend(first, stop)
        self._put(first, record)
        return Arrival(verdict, missing)

    def read(self, first: int, stop: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Samples (n,) float64 and validity (n,) of `first` to `stop`; 0 where not valid."""
        samples, valid = np.zeros(stop - first), np.zeros(stop - first, dtype=bool)
        held_first, held_stop = max(first, self.start), min(stop, self.end)
        if held_first < held_stop:
            slots = np.arange(held_first, held_stop) % self.capacity
            target = slice(held_first - first, held_stop - first)
            valid[target] = self._valid[slots]
            samples[target] = np.where(valid[target], self._samples[slots], 0)
        return samples, valid

    def next_valid(self, first: int) -> int | None:
        """Index of the first received sample at or after `first`, or None."""
        first = max(first, self.start)
        found = np.flatnonzero(self._valid[np.arange(first, self.end) % self.capacity])
        return first + int(found[0]) if len(found) else None

    def offset_ns(self, index: int) -> int:
        """True time minus grid time of the sample at `index`, to the millisecond."""
        position = bisect_right(self._offset_from, index) - 1
        return self._offsets_ms[max(position, 0)] * NS_PER_MS if self._offsets_ms else 0

    def _compare(self, first: int, stop: int) -> Verdict:
        """What a record that begins before the end is; the positions it shares decide."""
        shared = np.arange(max(first, self.start), min(stop, self.end)) % self.capacity
        if not self._valid[shared].all():
            return Verdict.LATE
        return Verdict.OVERLAP if stop > self.end else Verdict.DUPLICATE

    def _extend(self, first: int, stop: int) -> None:
        """Move the end to `stop`; positions that come free are not valid."""
        if not self.end:
            self.end = first
        if stop <= self.end:
            return
        fresh = min(stop - self.end, self.capacity)
        self._valid[np.arange(stop - fresh, stop) % self.capacity] = False
        self.end = stop

    def _put(self, first: int, record: Record) -> None:
        """Write what is new of the record that begins at index `first`."""
        keep = max(first, self.start)
        samples = record.samples[keep - first :]
        if self._samples.dtype not in (samples.dtype, np.float64):
            widest = np.float64 if self._valid.any() else samples.dtype
            self._samples = self._samples.astype(widest)
        slots = np.arange(keep, keep + len(samples)) % self.capacity
        new = ~self._valid[slots] & np.isfinite(samples)
        self._samples[slots[new]] = samples[new]
        self._valid[slots[new]] = True
        if new.any():
            positions = keep + np.flatnonzero(new)
            offset_ns = record.start_ns - sample_time_ns(first, self.rate)
            self._note_offset(int(positions[0]), int(positions[-1]) + 1, offset_ns)

    def _note_offset(self, first: int, stop: int, offset_ns: int) -> None:
        """The offset holds from `first` to `stop`; what follows keeps the one it had."""
        offset_ms = (offset_ns + _ROUND_UP_NS) // NS_PER_MS
        left, right = bisect_left(self._offset_from, first), bisect_right(self._offset_from, stop)
        following_ms = self._offsets_ms[right - 1] if right else offset_ms
        same_before = left > 0 and self._offsets_ms[left - 1] == offset_ms
        same_after = following_ms == offset_ms
        self._offset_from[left:right] = [first] * (not same_before) + [stop] * (not same_after)
        self._offsets_ms[left:right] = [offset_ms] * (not same_before) + [following_ms] * (
            not same_after
        )
        del self._offset_from[: -self._MAX_OFFSETS], self._offsets_ms[: -self._MAX_OFFSETS]
