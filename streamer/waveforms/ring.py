"""The samples of one channel on an absolute sample index, with what is missing known exactly."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from streamer.timebase import (
    NS_PER_MS,
    NS_PER_S,
    continuity_tolerance_ns,
    sample_index,
    sample_time_ns,
)
from streamer.waveforms.leap import LeapSeconds, leap_midnight_ns
from streamer.waveforms.records import CALIBRATION, CLOCK_DOUBTFUL, Record
from streamer.waveforms.spans import Spans

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
    # Said by the station bank:
    FUTURE = "future"  # stamped later than any clock may be ahead
    SET_ASIDE = "set_aside"  # of another rate than its instrument; kept until all components agree


class Mark(StrEnum):
    """What is to be known about samples that were taken."""

    INTERPOLATED = "interpolated"  # made from their neighbours
    DOUBTFUL_TIME = "doubtful_time"  # the clock was bad, or was set here
    CALIBRATION = "calibration"  # the header says so
    LATE = "late"  # came after what follows them


@dataclass(frozen=True, slots=True)
class RingRules:
    """How a channel's records are taken.

    A gap of at most `bridge_s` is filled by interpolation, and marked; samples of a record whose
    timing quality is below `timing_quality_min` (%) have a doubtful time. A quality of 0 counts as
    not known: many digitisers never set it.
    """

    bridge_s: float = 0.0
    timing_quality_min: int = 0


PLAIN_RULES = RingRules()


@dataclass(frozen=True, slots=True)
class Arrival:
    """Outcome of one record: the verdict, and what became of samples that are no plain new ones.

    Before it `missing_samples` are missing, `bridged_samples` of which were interpolated. Of its
    own samples `repeated_samples` were there already (`torn`: with other values, so that one of the
    two clocks was wrong), `expired_samples` are older than the ring reaches, `unusable_samples` are
    no finite numbers; all others were taken. `late`: range of indices it filled behind the end of
    the data. `leap_second`: one was found before it.
    """

    verdict: Verdict
    missing_samples: int = 0
    bridged_samples: int = 0
    repeated_samples: int = 0
    expired_samples: int = 0
    unusable_samples: int = 0
    torn: bool = False
    late: tuple[int, int] | None = None
    leap_second: bool = False


CONTINUED = Arrival(Verdict.ACCEPTED)  # nearly every record


def grid_place(start_ns: int, rate: Fraction) -> tuple[int, int]:
    """Index of the grid position nearest to a time, and the time's offset from it in ms."""
    index = sample_index(start_ns, rate)
    return index, _offset_ms(start_ns - sample_time_ns(index, rate))


def _offset_ms(offset_ns: int) -> int:
    return (offset_ns + _ROUND_UP_NS) // NS_PER_MS


class ChannelRing:
    """A bounded run of samples of one channel at one rate.

    Positions are absolute sample indices. What was never received (or is not a finite number) is
    not valid; the first value received for a position stays. Samples keep the type they were sent
    in, so nothing is rounded.

    Nearly every record continues the data, and nearly every read asks for samples without a gap up
    to the end: both are plain copies. All else is decided position by position.
    """

    _MAX_OFFSETS = 64  # remembered clock offsets; a channel has one, a drifting clock a few

    def __init__(
        self,
        rate: Fraction,
        capacity_samples: int,
        rules: RingRules = PLAIN_RULES,
        leap_seconds: LeapSeconds | None = None,
    ) -> None:
        self.rate = rate
        self.capacity = capacity_samples
        self.end = 0  # index after the newest sample; 0 before the first record
        self._timed_end = self._timed_end_ns = 0  # the last `end` whose time was asked for
        # Between samples, if that is a whole number; a Fraction is slow.
        each_ns, rest = divmod(NS_PER_S * rate.denominator, rate.numerator)
        self._each_ns = 0 if rest else each_ns
        # Less than what rounds to another index.
        self._surely_ns = NS_PER_S * 3 * rate.denominator // (8 * rate.numerator)
        self._bridge_samples = int(rules.bridge_s * rate)
        self._quality_min = rules.timing_quality_min
        self._leap_seconds = leap_seconds or LeapSeconds()
        self.marks: dict[Mark, Spans] = {}  # where, by kind
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
        start_ns = self._grid_ns(record) if self._leap_seconds.ahead_ns else record.start_ns
        if self.end and abs(start_ns - self._end_ns()) < self._surely_ns:
            return self.end  # nearly always
        index = sample_index(start_ns, self.rate)
        if abs(index - self.end) != 1:
            return index
        if index < self.end and self._samples[index % self.capacity] == record.samples[0]:
            return index
        deviation_ns = abs(start_ns - self._end_ns())
        return self.end if deviation_ns <= self._tolerance_ns() else index

    def write(self, record: Record) -> Arrival:
        """Take the samples of `record` that are new. Raises ValueError for another rate."""
        if record.rate is not self.rate and record.rate != self.rate:
            raise ValueError(f"ring of {self.rate} Hz got a record of {record.rate} Hz")
        first = self.locate(record)
        if record.flags or 0 < record.timing_quality < self._quality_min:
            self._mark_all(first, record)
        if first == self.end and self._append(record):
            return CONTINUED
        return self._merge(first, record)

    def marked(self, mark: Mark, first: int, stop: int) -> bool:
        """Whether any of the indices [first, stop) has this mark."""
        return mark in self.marks and self.marks[mark].meets(first, stop)

    def _tolerance_ns(self) -> int:
        return continuity_tolerance_ns(self.rate)

    def _grid_ns(self, record: Record) -> int:
        """Time of the first sample on the grid: POSIX time, but for leap seconds."""
        if not self._leap_seconds.ahead_ns:
            return record.start_ns
        return self._leap_seconds.grid_ns(record.start_ns, self._end_ns(), self._tolerance_ns())

    def _end_ns(self) -> int:
        """Time of the grid position `end`."""
        if self._timed_end != self.end:
            end_ns = self.end * self._each_ns or sample_time_ns(self.end, self.rate)
            self._timed_end, self._timed_end_ns = self.end, end_ns
        return self._timed_end_ns

    def _mark(self, mark: Mark, first: int, stop: int) -> None:
        self.marks.setdefault(mark, Spans()).add(first, stop)

    def _mark_all(self, first: int, record: Record) -> None:
        """What the header says is true of all samples of a record."""
        stop = first + len(record.samples)
        if record.flags & CALIBRATION:
            self._mark(Mark.CALIBRATION, first, stop)
        if record.flags & CLOCK_DOUBTFUL or 0 < record.timing_quality < self._quality_min:
            self._mark(Mark.DOUBTFUL_TIME, first, stop)

    def _merge(self, first: int, record: Record) -> Arrival:
        """Take what is new of any record that begins at index `first`, position by position."""
        given = len(record.samples)
        if self.end and first + given <= self.start:
            return Arrival(Verdict.EXPIRED, expired_samples=given)
        if first < self.end and self._leap_second_before(first, record):
            return replace(self.write(record), leap_second=True)
        end_before = self.end or first
        self._extend(first, first + given)
        keep = max(first, self.start)
        samples = record.samples[keep - first :]
        held = self._held(keep, keep + len(samples))
        finite = np.isfinite(samples)
        differs = self._samples[np.arange(keep, keep + len(samples)) % self.capacity] != samples
        torn = bool((held & finite & differs).any())
        new = keep + np.flatnonzero(~held & finite)
        self._put(new, samples[new - keep], record.start_ns - sample_time_ns(first, self.rate))
        missing = max(first - end_before, 0)
        bridged = self._bridge(end_before, first) if 0 < missing <= self._bridge_samples else 0
        self._note_gap(max(end_before, self.start), self.end)
        late = _span(new[new < end_before])
        if late:
            self._mark(Mark.LATE, *late)
        if torn:
            self._mark(Mark.DOUBTFUL_TIME, keep, end_before)
        return Arrival(
            _verdict(missing, late, first - end_before, first + given - end_before),
            missing,
            bridged,
            repeated_samples=int(held.sum()),
            expired_samples=given - len(samples),
            unusable_samples=int((~held & ~finite).sum()),
            torn=torn,
            late=late,
        )

    def _leap_second_before(self, first: int, record: Record) -> bool:
        """Whether the record continues the data but for a leap second, which is noted then."""
        end_ns = sample_time_ns(self.end, self.rate)
        if abs(self._grid_ns(record) + NS_PER_S - end_ns) > self._tolerance_ns():
            return False
        midnight_ns = leap_midnight_ns(end_ns - self._leap_seconds.ahead_ns)
        if midnight_ns is None or self._repeats(first, record.samples):
            return False
        return self._leap_seconds.note(midnight_ns, record.start_ns)

    def _repeats(self, first: int, samples: npt.NDArray[np.generic]) -> bool:
        """Whether samples that begin at `first`, before the end, are those that are there."""
        count = min(self.end - first, len(samples))
        held = self._samples[np.arange(first, first + count) % self.capacity]
        return bool((held == samples[:count]).all())

    def _held(self, first: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which positions were received; what was interpolated gives way to what comes late."""
        held = self._valid[np.arange(first, stop) % self.capacity]
        for a, b in self.marks.get(Mark.INTERPOLATED, ()):
            held[max(a - first, 0) : max(b - first, 0)] = False
        return held

    def _bridge(self, first: int, stop: int) -> int:
        """Interpolate between the samples on both sides of a gap, if both were received."""
        slots = np.arange(first - 1, stop + 1) % self.capacity
        if not (self._valid[slots[0]] and self._valid[slots[-1]]):
            return 0
        left, right = self._samples[slots[[0, -1]]].astype(np.float64)
        filled = np.linspace(left, right, len(slots))[1:-1]
        is_integer = self._samples.dtype.kind == "i"
        self._samples[slots[1:-1]] = np.rint(filled) if is_integer else filled
        self._valid[slots[1:-1]] = True
        self._mark(Mark.INTERPOLATED, first, stop)
        return stop - first

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

    def first_gap(self, first: int) -> int | None:
        """Index of the first missing sample at or after `first` that has older ones, or None."""
        if self._whole_from <= max(first, self.start):
            return None
        begin = self.next_valid(self.start)
        if begin is None:
            return None
        first = max(first, begin)
        slot, before = self._place(first, self.end - first)
        for piece, offset in (
            (self._valid[slot : slot + before], 0),
            (self._valid[: self.end - first - before], before),
        ):
            if not piece.all():
                return first + offset + int(piece.argmin())
        return None

    def offset_ns(self, index: int) -> int:
        """True time minus grid time of the sample at `index`, to the millisecond."""
        position = bisect_right(self._offset_from, index) - 1
        return self._offsets_ms[max(position, 0)] * NS_PER_MS if self._offsets_ms else 0

    def _append(self, record: Record) -> bool:
        """Take samples that continue the data, if all of them are to be taken, and as they are."""
        samples, held, first = record.samples, self._samples, self.end
        count = len(samples)
        if not (first > 0 and 0 < count <= self.capacity and samples.dtype == held.dtype):
            return False
        if samples.dtype.kind != "i" and not np.isfinite(samples).all():
            return False
        offset_ns = record.start_ns - self._end_ns()
        slot = first % self.capacity
        stop = slot + count
        if stop <= self.capacity:
            held[slot:stop] = samples
        else:
            before = self.capacity - slot
            held[slot:] = samples[:before]
            held[: count - before] = samples[before:]
        if first - self.capacity < self._whole_from:  # else all that is replaced was valid
            self._valid[slot:stop] = True
            self._valid[: max(stop - self.capacity, 0)] = True
        self.end = first + count
        self._note_offset(first, self.end, offset_ns)
        return True

    def _whole(self, first: int, stop: int) -> bool:
        """Whether `first` to `stop` lie in what was received since the last gap."""
        return self._whole_from <= first < stop <= self.end and self.end - first <= self.capacity

    def _copy(self, first: int, stop: int, out: npt.NDArray[np.float64]) -> None:
        """Samples `first` to `stop`, all held, into `out` (n,)."""
        slot, count = first % self.capacity, stop - first
        if slot + count <= self.capacity:
            out[:] = self._samples[slot : slot + count]
        else:
            before = self.capacity - slot
            out[:before] = self._samples[slot:]
            out[before:] = self._samples[: count - before]

    def _place(self, first: int, count: int) -> tuple[int, int]:
        """Slot of position `first`, and how many of `count` come before the ring begins anew.

        `_append` and `_copy`, the way of all records, do without: a quarter of their time.
        """
        slot = first % self.capacity
        return slot, min(count, self.capacity - slot)

    def _note_gap(self, first: int, stop: int) -> None:
        """Nothing is missing from the newest position of `first` to `stop` on that is not valid."""
        valid = self._valid[np.arange(first, stop) % self.capacity]
        if not valid.all():
            self._whole_from = stop - int(np.argmin(valid[::-1]))

    def _extend(self, first: int, stop: int) -> None:
        """Move the end to `stop`; positions that come free are not valid."""
        if not self.end:
            self.end = self._whole_from = first
        if stop <= self.end:
            return
        fresh = min(stop - self.end, self.capacity)
        self._valid[np.arange(stop - fresh, stop) % self.capacity] = False
        self.end = stop

    def _put(
        self, positions: npt.NDArray[np.int64], samples: npt.NDArray[np.generic], offset_ns: int
    ) -> None:
        """Write samples at positions (n,), in order, of a record with this clock offset."""
        if not len(positions):
            return
        if self._samples.dtype not in (samples.dtype, np.float64):
            widest = np.float64 if self._valid.any() else samples.dtype
            self._samples = self._samples.astype(widest)
        slots = positions % self.capacity
        self._samples[slots] = samples
        self._valid[slots] = True
        first, stop = int(positions[0]), int(positions[-1]) + 1
        if Mark.INTERPOLATED in self.marks:
            self.marks[Mark.INTERPOLATED].remove(first, stop)
        self._note_offset(first, stop, offset_ns)

    def _note_offset(self, first: int, stop: int, offset_ns: int) -> None:
        """The offset holds from `first` to `stop`; what follows keeps the one it had."""
        offset_ms = _offset_ms(offset_ns)
        known = self._offsets_ms
        if known and known[-1] == offset_ms and self._offset_from[-1] <= first:
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


def _verdict(missing: int, late: tuple[int, int] | None, lead: int, beyond: int) -> Verdict:
    """Of a record that begins `lead` and ends `beyond` samples after the end of the data."""
    if missing:
        return Verdict.GAP
    if late:
        return Verdict.LATE
    if beyond > 0:
        return Verdict.OVERLAP if lead < 0 else Verdict.ACCEPTED
    return Verdict.DUPLICATE


def _span(indices: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    return (int(indices[0]), int(indices[-1]) + 1) if len(indices) else None
