"""The way of one station through the network: which blocks are next, and what they are made of.

A block is 100 samples of the input of the network, on the absolute grid (a multiple of 100 since
the epoch). Every block of a station is taken from its rings once and goes through the network once;
what the network still has to remember of earlier ones, it keeps by the row of the station.
"""

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from math import inf
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from model.onsets import Onset, OnsetDetector
from model.preprocess import BLOCK, MODEL_RATE, Resampler
from streamer.picking.judged import EXTRA_BLOCKS, LONGEST_REBUILD_NS, Judged
from streamer.picks import Pick
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.ring import ChannelRing
from streamer.waveforms.stations import SLOT_COUNT, Station

# More than a ring of some minutes can hold; what is older is picked no second time.
_PUBLISHED = 512

# Blocks before an onset that a pick asks the rings for (excerpt.py).
LOOK_BACK_BLOCKS = 14


class Sampling(StrEnum):
    """How a station's samples reach the network."""

    RESAMPLE = "resample"  # to the 100 Hz of the network
    NATIVE = "native"  # one for one, times scaled: the paper's way for 500 Hz microseismic data


@dataclass(frozen=True, slots=True)
class Context:
    """What the network of a track looks at, in blocks.

    Its probabilities depend on `history` blocks before the `network` blocks on each side of them.
    `hop` blocks are given out together, from a multiple of it on; `rate` (samples/s) is the one the
    network knows.
    """

    history: int
    network: int
    hop: int = 1
    rate: Fraction = MODEL_RATE

    @property
    def kept(self) -> int:
        """Blocks that the probabilities not yet given out depend on."""
        return self.history + 2 * (self.network + self.hop - 1)

    def hop_start(self, block: int) -> int:
        """First block of the hop that `block` is in."""
        return block // self.hop * self.hop

    def reach(self, block: int) -> tuple[int, int]:
        """Blocks before and after `block` that the network looks at for it."""
        inside = block - self.hop_start(block)
        return self.network + inside, self.network + self.hop - 1 - inside


@dataclass(slots=True)  # frozen ones take three times as long to make
class Step:
    """One advance of one station by `blocks` new blocks from `first_block` on.

    raw: (3, n) float64, what the instrument recorded for them at its own rate; received: (3,
    blocks), which of them depend on received samples only. Data begin at `begins`, a sample index
    at the rate of the network: nothing before it is to be given out. `fresh`: nothing that the
    network remembers counts. `ends`: no data follow for now, give out what waits for them; such a
    step has no blocks. The last of the data, which end before sample `data_end` of the instrument,
    arrived at `arrived_ns`. `again`: before a restart this was done already, and its messages are
    known.
    """

    track: "Track"
    first_block: int
    blocks: int
    raw: npt.NDArray[np.float64]
    received: npt.NDArray[np.bool_]
    begins: int
    fresh: bool
    ends: bool
    arrived_ns: int
    data_end: int
    again: bool = False

    @property
    def end(self) -> int:
        """The sample index, at the rate of the network, at which its data end."""
        return (self.first_block + self.blocks) * BLOCK


@dataclass(slots=True)
class Response:
    """What the network answers to a step.

    probability: (2, n) of P and S from sample `start` on; 0 where nothing was recorded. valid: (3,
    m), which components were recorded in the blocks from `origin` on, up to the newest. previews:
    probabilities (2, k) of what is not final yet, each with the sample index at which it ends.
    highest: no final probability is above.
    """

    start: int
    probability: npt.NDArray[np.float32]
    origin: int
    valid: npt.NDArray[np.bool_]
    previews: tuple[tuple[int, npt.NDArray[np.float32]], ...] = ()
    highest: float = inf

    @property
    def stop(self) -> int:
        """Sample index after the last probability."""
        return self.start + int(self.probability.shape[1])

    def validity(self, block: int, before: int, after: int) -> npt.NDArray[np.bool_]:
        """Validity (3, before + 1 + after) around `block`; not valid outside what is remembered."""
        window = np.zeros((SLOT_COUNT, before + 1 + after), dtype=bool)
        first, stop = block - before - self.origin, block + after + 1 - self.origin
        inside = self.valid[:, max(first, 0) : max(stop, 0)]
        offset = max(-first, 0)
        window[:, offset : offset + inside.shape[1]] = inside
        return window


@lru_cache(maxsize=64)
def _all_received(blocks: int) -> npt.NDArray[np.bool_]:
    """That of nearly every step, (3, blocks); many have it."""
    received = np.ones((SLOT_COUNT, blocks), dtype=bool)
    received.flags.writeable = False
    return received


class _Recent(TypedDict):
    published: tuple[tuple[int, float], ...]
    vacated: tuple[tuple[str, float], ...]


class Track:
    """State of one station between steps: its position, its onsets, its unfinished picks.

    `row` is its place in the memory of the network. An `urgent` station is served first, and at
    every block even when the others advance in wider steps. `before`: how far it was before a
    restart; up to there it only learns again what it knew.
    """

    late = False  # whether it goes a second time where another one has been

    def __init__(
        self,
        station: Station,
        sampling: Sampling,
        context: Context,
        detector: OnsetDetector,
        row: int = 0,
        *,
        urgent: bool = False,
        before: Judged | None = None,
    ) -> None:
        rate = station.rate
        if rate is None:
            raise ValueError(f"{station.instrument} has no data yet")
        self.station = station
        self.sampling = sampling
        self.context = context
        self.detector = detector
        self.row = row
        self.urgent = urgent
        self.rate: Fraction = rate if sampling is Sampling.NATIVE else context.rate
        self.resampler = Resampler(rate, self.rate)
        self._capacity = min(ring.capacity for ring in station.rings())
        self._rate_in = rate.numerator, rate.denominator  # a Fraction is slow
        # Samples of the rings in a block, if that is a whole number.
        per_block, rest = divmod(self.resampler.down * BLOCK, self.resampler.up)
        self._per_block = 0 if rest else per_block
        self.samples_each = float(rate / self.rate)  # of the rings, for one of the network
        self.seconds_each = float(context.rate / self.rate)  # of the data, for one of the network
        self.next_block = 0  # first block not yet taken from the rings
        self.next_output = 0  # first sample whose probabilities are not yet judged
        self.provisional: list[tuple[Onset, Pick]] = []  # published, not final
        self.settled = [-inf, -inf]  # sample index of the last final onset of each phase
        # Phase and sample index of the last final picks.
        self.published: deque[tuple[int, float]] = deque(maxlen=_PUBLISHED)
        # Ids of picks that moved from where the id says, or were retracted, and where they ended.
        self.vacated: deque[tuple[str, float]] = deque(maxlen=_PUBLISHED)
        self._begins: int | None = None  # first block since the last long gap
        self._fresh = True
        self._finished = 0  # the block before which all was given out for want of further data
        self._empty_blocks = 0  # taken since the last received sample
        # In samples of the rings: the first one that a pick may still ask for, and the end of the
        # data that completes the next block.
        self._held = self._needed = 0
        self._reach = context.network + context.hop + 1 + LOOK_BACK_BLOCKS
        # Blocks: the first whose messages are to be made, and the first they may ask for; None if
        # `_held` and `_roomy_until_ns` were found for them.
        self._holding: tuple[int, int] | None = None
        self.in_flight = False  # a step was taken whose messages are not made yet
        self._roomy_until_ns = 0  # a record that ends before displaces nothing unread
        self._before = before  # until it is reached
        if before is not None and before.rate == str(self.rate):
            self.published.extend(before.published)
            self.vacated.extend(before.vacated)
        self._judged_block: int | None = None  # all messages of the blocks before it were made
        self._flushed_block: int | None = None  # the last one at which `finish` was judged
        self.restart_gap_s = 0.0  # missing since a restart

    def wants(self, onset: Onset) -> bool:
        """Whether a final onset is to be published."""
        return True

    def note_published(self, onset: Onset) -> None:
        """A final onset became a pick."""
        self.published.append((onset.phase, onset.index))

    @property
    def passed(self) -> int:
        """First block whose messages are not made, now or before a restart."""
        before = self._before
        known = 0 if before is None else self._block_of(before.time_ns)
        return max(self.next_block, known)

    def touched(self, first: int, stop: int) -> range:
        """The blocks that depend on samples `first` to `stop` of the rings."""
        begin, end = self.block_at(first), self.block_at(stop - 1) + 1
        while self.resampler.input_range((begin - 1) * BLOCK, begin * BLOCK)[1] > first:
            begin -= 1
        while self.first_input(end) < stop:
            end += 1
        return range(begin, end)

    def first_input(self, block: int) -> int:
        """The first sample of the rings that a block depends on."""
        return self.resampler.input_range(block * BLOCK, block * BLOCK + 1)[0]

    def ready_blocks(self, now_ns: int, *, patient: bool = True) -> int:
        """How many new blocks are complete on all components worth waiting for.

        Unless `patient` none is waited for.
        """
        end = self.station.awaited_end(now_ns, patient=patient)
        if end is None:
            return 0
        if self._begins is None:
            self._begin(self._first_block_from(0))
            self._look_back(self.next_block)
        ready = self._complete(end) - self.next_block if end >= self._needed else 0
        return ready if self._before is None else self._up_to_known(self._before, ready)

    def advance(self, blocks: int) -> Step:
        """Take `blocks` new blocks from the rings."""
        first = self.next_block
        again = self._again()
        start, stop = first * BLOCK, (first + blocks) * BLOCK
        raw_start, raw_stop = self.resampler.input_range(start, stop)
        raw = np.empty((SLOT_COUNT, raw_stop - raw_start))
        received = _all_received(blocks)
        torn = self.station.read_into(raw_start, raw_stop, raw)
        if torn:
            received = received.copy()
        for slot in torn:
            _, valid = self.station.read(slot, raw_start, raw_stop)
            received[slot] = self._received_blocks(valid, first, first + blocks, raw_start)
        step = Step(
            track=self,
            first_block=first,
            blocks=blocks,
            raw=raw,
            received=received,
            begins=(self._begins or 0) * BLOCK,
            fresh=self._fresh,
            ends=False,
            arrived_ns=self.station.arrived_ns,
            data_end=self.station.end,
            again=again,
        )
        self._fresh = False
        self.in_flight = True
        self._hold(first)
        self._move_to(first + blocks)
        if len(torn) < SLOT_COUNT or received[:, -1].any():  # nearly always
            self._empty_blocks = 0
            return step
        recorded = np.flatnonzero(received.any(axis=0))
        before = self._empty_blocks + blocks
        self._empty_blocks = blocks - 1 - int(recorded[-1]) if len(recorded) else before
        if self._empty_blocks >= self.context.kept:
            self._skip_gap()
        return step

    def finish(self) -> Step | None:
        """The blocks still waiting for their right context, without it; None if there are none.

        Nothing is taken from the rings: if the data go on after all, so does the track.
        """
        if self._begins is None or self._finished == self.next_block or self._fresh:
            return None
        again = self._again(ends=True)
        self._finished = self.next_block
        return Step(
            track=self,
            first_block=self.next_block,
            blocks=0,
            raw=np.zeros((SLOT_COUNT, 0)),
            received=np.zeros((SLOT_COUNT, 0), dtype=bool),
            begins=self._begins * BLOCK,
            fresh=False,
            ends=True,
            arrived_ns=self.station.arrived_ns,
            data_end=self.station.end,
            again=again,
        )

    @property
    def learns(self) -> bool:
        """Whether it is still where it has been before a restart."""
        return self._before is not None

    @property
    def flush_due(self) -> bool:
        """Whether the picks were given out here without what follows, before a restart."""
        before = self._before
        return (
            before is not None
            and before.flushed_ns is not None
            and self._block_of(before.flushed_ns) == self.next_block
            and self._finished != self.next_block
            and not self._fresh
        )

    @property
    def given_out(self) -> bool:
        """Whether nothing that was taken from the rings waits for what follows it."""
        return self._fresh or self._judged_block == self.next_block == self._finished

    def note_judged(self, step: Step) -> None:
        """All messages of a step were made."""
        self.in_flight = False
        self._hold(self.next_block)
        self._judged_block = step.first_block + step.blocks
        if step.ends:
            self._flushed_block = step.first_block

    def judged(self) -> Judged | None:
        """How far all messages were made; None if none can have been."""
        if self._before is not None:
            return replace(self._before, **self._recent())
        if self._judged_block is None:
            return None
        flushed = self._flushed_block
        return Judged(
            time_ns=self.block_ns(self._judged_block),
            rate=str(self.rate),
            flushed_ns=None if flushed is None else self.block_ns(flushed),
            settled=tuple(self.settled),
            free_from=self.detector.free_from,
            **self._recent(),
            provisional=tuple(self.provisional),
        )

    def _recent(self) -> _Recent:
        """What is to be known about all that late data can still be part of."""
        oldest = self.block_at(min(ring.start for ring in self.station.rings())) * BLOCK
        return _Recent(
            published=tuple(each for each in self.published if each[1] >= oldest),
            vacated=tuple(each for each in self.vacated if each[1] >= oldest),
        )

    def needed_from_ns(self) -> int:
        """Data that end later are needed to go on after a restart; all of them if 0."""
        judged = self.judged()
        if judged is None:
            return 0
        return judged.time_ns - self.block_ns(self.context.kept + EXTRA_BLOCKS)

    def has_room(self, ring: ChannelRing, stop: int) -> bool:
        """Whether data up to sample `stop` fit in `ring` without displacing what is still needed.

        That is what no step has taken, and what a pick of the step in flight may ask for.
        """
        if self._begins is None:
            first = ring.next_valid(0)
            return first is None or stop - ring.capacity <= first
        if ring.end < self._needed and not self.in_flight:
            return True
        self._find_held()
        return stop - ring.capacity <= self._held

    def is_roomy(self, end_ns: int) -> bool:
        """Whether a record that ends then fits without a look at its place: nearly always."""
        if end_ns >= self._roomy_until_ns:
            self._find_held()  # which has moved on since it was last asked for
        return end_ns < self._roomy_until_ns

    def give_up_behind(self) -> None:
        """Wait no longer for the components that keep the next block from being complete."""
        self.station.give_up_before(self._needed)

    def _again(self, *, ends: bool = False) -> bool:
        """Whether the next step was judged before a restart; if not, it goes on from there."""
        before = self._before
        if before is None:
            return False
        if self.next_block < self._block_of(before.time_ns) or (ends and self.flush_due):
            return True
        self._before = None
        if before.rate == str(self.rate):
            self.provisional = list(before.provisional)
            self.settled = list(before.settled) or self.settled
            if before.free_from:
                self.detector.keep_free(before.free_from)
        return False

    def _up_to_known(self, before: Judged, ready: int) -> int:
        """Of so many blocks those up to the next place that was one before the restart."""
        if self.flush_due:
            return 0
        known = [self._block_of(ns) for ns in (before.flushed_ns, before.time_ns) if ns is not None]
        ahead = [block - self.next_block for block in known if block > self.next_block]
        return min([ready, *ahead])

    def _look_back(self, block: int) -> None:
        """Data begin with `block`: compare with where the restart was."""
        before = self._before
        if before is None:
            return
        behind_ns = before.time_ns - self.block_ns(block)
        if behind_ns > LONGEST_REBUILD_NS:
            self._before = None
            self.published.clear()
            self.vacated.clear()
        else:
            self.restart_gap_s = max(-behind_ns, 0) / NS_PER_S

    def block_ns(self, block: int) -> int:
        """Time of its first sample, or length of so many blocks."""
        return sample_time_ns(block * BLOCK, self.rate)

    def _block_of(self, time_ns: int) -> int:
        """Inverse of `block_ns`."""
        return round(time_ns * self.rate / (BLOCK * NS_PER_S))

    def _begin(self, block: int) -> None:
        self._begins = block
        self._fresh = True
        self._move_to(block)
        if not self.in_flight:
            self._hold(block)

    def _move_to(self, block: int) -> None:
        self.next_block = block
        start = block * BLOCK
        _, self._needed = self.resampler.input_range(start, start + BLOCK)

    def _hold(self, block: int) -> None:
        """Messages of `block` and later ones are still to be made: what they need stays."""
        self._holding = block, max(block - self._reach, self._begins or 0)

    def _find_held(self) -> None:
        """Asked for once in some minutes, and changed by every step."""
        if self._holding is None:
            return
        (block, first), self._holding = self._holding, None
        unread, wanted = self.first_input(block), self.first_input(first)
        # Half a ring at most: with native sampling of low rates a block is long.
        self._held = max(wanted, unread - self._capacity // 2)
        numerator, denominator = self._rate_in
        # Two samples early, as a record may be placed beside the index of its time, and one second,
        # for leap seconds.
        last = self._held + self._capacity - 2 - numerator // denominator
        self._roomy_until_ns = last * NS_PER_S * denominator // numerator

    def _skip_gap(self) -> None:
        """Nothing remembered was recorded: what follows does not depend on the gap's length."""
        block = self._first_block_from(self.next_block)
        if block > self.next_block:
            self._begin(block)

    def _first_block_from(self, block: int) -> int:
        """First block at or after `block` that holds a received sample; `block` if none does."""
        first = max(self.first_input(block), 0)
        found = [ring.next_valid(first) for ring in self.station.rings()]
        indices = [index for index in found if index is not None]
        if not indices:
            return block
        return max(self.block_at(min(indices)), block)

    def _block_of_output(self, index: float) -> int:
        """The block in which sample `index` of the network lies."""
        return int(index // BLOCK)

    def block_at(self, index: int) -> int:
        """The block in which sample `index` of the rings lies."""
        return index * self.resampler.up // (self.resampler.down * BLOCK)

    def _complete(self, end: int) -> int:
        """First block that data up to sample `end` do not complete, which complete the next."""
        if self._per_block:
            return self.next_block + (end - self._needed) // self._per_block + 1
        block = self.block_at(end)
        while self.resampler.input_range(block * BLOCK - 1, block * BLOCK)[1] > end:
            block -= 1
        return block

    def _received_blocks(
        self, valid: npt.NDArray[np.bool_], first_block: int, stop_block: int, raw_start: int
    ) -> npt.NDArray[np.bool_] | bool:
        """Which blocks depend on received samples only."""
        if not valid.any():
            return False
        ranges = (
            self.resampler.input_range(block * BLOCK, (block + 1) * BLOCK)
            for block in range(first_block, stop_block)
        )
        return np.array([valid[a - raw_start : b - raw_start].all() for a, b in ranges])
