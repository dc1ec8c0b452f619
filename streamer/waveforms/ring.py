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


_CONTINUED = Arrival(Verdict.ACCEPTED)


class ChannelRing:
    """A bounded run of samples of one channel at one rate.

    Positions are absolute sample indices. What was never received (or is not a finite number) is
    not valid; the first value received for a position stays. Samples keep the type they were sent
    in, so nothing is rounded.

    Nearly every record continues the data, and nearly every read asks for samples without a gap up
    to the end: both are plain copies. All else is decided position by position.
    """

    _MAX_OFFSETS = 64  # remembered clock offsets; a channel has one, a drifting clock a few

    def __init__(self, rate: Fraction, capacity_samples: int) -> None:
        self.rate = rate
        self.capacity = capacity_samples
        self.end = 0  # index after the newest sample; 0 before the first record
        self._samples: npt.NDArray[np.generic] = np.zeros(capacity_samples, dtype=np.int32)
        self._valid = np.zeros(capacity_samples, dtype=bool)
        self._whole_from = 0  # all that the ring holds from this index on is valid
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
        if abs(index - self.end) != 1:
            return index
        if index < self.end and self._samples[index % self.capacity] == record.samples[0]:
            return index
        deviation_ns = abs(record.start_ns - sample_time_ns(self.end, self.rate))
        return self.end if deviation_ns <= continuity_tolerance_ns(self.rate) else index

    def write(self, record: Record) -> Arrival:
        """Take the samples of `record` that are new. Raises ValueError for another rate."""
        if record.rate is not self.rate and record.rate != self.rate:
            raise ValueError(f"ring of {self.rate} Hz got a record of {record.rate} Hz")
        first = self.locate(record)
        if first == self.end and self._can_append(record.samples):
            self._append(record)
            return _CONTINUED
        return self._merge(first, record)

    def _merge(self, first: int, record: Record) -> Arrival:
        """Take what is new of any record that begins at index `first`, position by position."""
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
        end_before = self.end or first
        self._extend(first, stop)
        self._put(first, record)
        self._note_gap(max(end_before, self.start), self.end)
        return Arrival(verdict, missing)

    def read(self, first: int, stop: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Samples (n,) float64 and validity (n,) of `first` to `stop`; 0 where not valid."""
        if self._whole(first, stop):
            samples = np.empty(stop - first)
            self._copy(first, stop, samples)
            return samples, np.ones(stop - first, dtype=bool)
        samples, valid = np.zeros(stop - first), np.zeros(stop - first, dtype=bool)
        held_first, held_stop = max(first, self.start), min(stop, self.end)
        if held_first < held_stop:
            slots = np.arange(held_first, held_stop) % self.capacity
            target = slice(held_first - first, held_stop - first)
            valid[target] = self._valid[slots]
            samples[target] = np.where(valid[target], self._samples[slots], 0)
        return samples, valid

    def read_into(self, first: int, stop: int, out: npt.NDArray[np.float64]) -> bool:
        """Write samples `first` to `stop`, 0 where not valid, into `out` (n,); whether all are."""
        if self._whole(first, stop):
            self._copy(first, stop, out)
            return True
        out[:], valid = self.read(first, stop)
        return bool(valid.all())

    def next_valid(self, first: int) -> int | None:
        """Index of the first received sample at or after `first`, or None."""
        first = max(first, self.start)
        if self._whole(first, first + 1):
            return first
        count = max(self.end - first, 0)
        slot, before = self._place(first, count)
        if (held := self._valid[slot : slot + before]).any():
            return first + int(held.argmax())
        if (held := self._valid[: count - before]).any():
            return first + before + int(held.argmax())
        return None

    def offset_ns(self, index: int) -> int:
        """True time minus grid time of the sample at `index`, to the millisecond."""
        position = bisect_right(self._offset_from, index) - 1
        return self._offsets_ms[max(position, 0)] * NS_PER_MS if self._offsets_ms else 0

    def _can_append(self, samples: npt.NDArray[np.generic]) -> bool:
        """Whether samples that continue the data are all taken, and as they are."""
        return (
            self.end > 0
            and 0 < len(samples) <= self.capacity
            and samples.dtype == self._samples.dtype
            and (samples.dtype.kind == "i" or bool(np.isfinite(samples).all()))
        )

    def _append(self, record: Record) -> None:
        first, count = self.end, len(record.samples)
        slot, before = self._place(first, count)
        self._samples[slot : slot + before] = record.samples[:before]
        self._valid[slot : slot + before] = True
        if before < count:
            self._samples[: count - before] = record.samples[before:]
            self._valid[: count - before] = True
        self.end = first + count
        self._note_offset(first, self.end, record.start_ns - sample_time_ns(first, self.rate))

    def _whole(self, first: int, stop: int) -> bool:
        """Whether `first` to `stop` lie in what was received since the last gap."""
        return self._whole_from <= first < stop <= self.end and self.end - first <= self.capacity

    def _copy(self, first: int, stop: int, out: npt.NDArray[np.float64]) -> None:
        """Samples `first` to `stop`, all held, into `out` (n,)."""
        count = stop - first
        slot, before = self._place(first, count)
        out[:before] = self._samples[slot : slot + before]
        if before < count:
            out[before:] = self._samples[: count - before]

    def _place(self, first: int, count: int) -> tuple[int, int]:
        """Slot of position `first`, and how many of `count` come before the ring begins anew."""
        slot = first % self.capacity
        return slot, min(count, self.capacity - slot)

    def _note_gap(self, first: int, stop: int) -> None:
        """Nothing is missing from the newest position of `first` to `stop` on that is not valid."""
        valid = self._valid[np.arange(first, stop) % self.capacity]
        if not valid.all():
            self._whole_from = stop - int(np.argmin(valid[::-1]))

    def _compare(self, first: int, stop: int) -> Verdict:
        """What a record that begins before the end is; the positions it shares decide."""
        shared = np.arange(max(first, self.start), min(stop, self.end)) % self.capacity
        if not self._valid[shared].all():
            return Verdict.LATE
        return Verdict.OVERLAP if stop > self.end else Verdict.DUPLICATE

    def _extend(self, first: int, stop: int) -> None:
        """Move the end to `stop`; positions that come free are not valid."""
        if not self.end:
            self.end = self._whole_from = first
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
        if self._offsets_ms[-1:] == [offset_ms] and self._offset_from[-1] <= first:
            return  # nothing new: every record of a good clock
        left, right = bisect_left(self._offset_from, first), bisect_right(self._offset_from, stop)
        following_ms = self._offsets_ms[right - 1] if right else offset_ms
        same_before = left > 0 and self._offsets_ms[left - 1] == offset_ms
        same_after = following_ms == offset_ms
        self._offset_from[left:right] = [first] * (not same_before) + [stop] * (not same_after)
        self._offsets_ms[left:right] = [offset_ms] * (not same_before) + [following_ms] * (
            not same_after
        )
        del self._offset_from[: -self._MAX_OFFSETS], self._offsets_ms[: -self._MAX_OFFSETS]
