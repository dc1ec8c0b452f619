"""Late data: a stretch that the steps had passed without it is picked once more, apart.

The network cannot be told of samples after the fact. So the stretch goes through it again, from as
far back as it remembers, on a row of its own; only onsets that the first pass could not have had
are published, with `qual` holding `late`. One such step follows the live ones of a round, so that
these never wait; where the rings no longer reach back far enough, it is counted and left.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from model.onsets import Onset, OnsetDetector
from streamer.picking.judged import Judged
from streamer.picking.track import Step, Track
from streamer.timebase import NS_PER_S
from streamer.waveforms.spans import Spans

# A gap is filled record by record: wait for the last of them, but not for ever.
SETTLE_NS = 2 * NS_PER_S
LONGEST_WAIT_NS = 15 * NS_PER_S

STEP_BLOCKS = 30  # of a late station in one round: some milliseconds
MOST_STRETCHES = 256  # that wait; more are dropped

# Beyond what the network remembers, until filters and noise level are those of the first pass.
_SETTLING_BLOCKS = 4


class LateTrack(Track):
    """A second way of a station through the network, for the onsets in some of its blocks."""

    late = True

    def __init__(self, first: Track, blocks: range, row: int) -> None:
        detector = OnsetDetector(first.detector.thresholds, first.detector.separation_samples)
        super().__init__(first.station, first.sampling, first.context, detector, row)
        self._first_pass = first
        self.vacated = first.vacated
        self._wanted = blocks
        self._stop = blocks.stop + reach_after(first)
        begin = rebuild_from(first, blocks.start)
        self._begin(max(begin, self._first_block_from(begin)))

    def next_step(self) -> Step | None:
        """Some more blocks, none that the first pass has not taken; None at the end."""
        ready = min(self._stop, self._first_pass.next_block) - self.next_block
        return self.advance(min(ready, STEP_BLOCKS)) if ready > 0 else self.finish()

    def wants(self, onset: Onset) -> bool:
        """Whether the first pass cannot have had it, and did not publish it."""
        known = [*self._first_pass.published]
        known += [(one.phase, one.index) for one, _ in self._first_pass.provisional]
        near = self.detector.separation_samples
        return self._block_of_output(onset.index) in self._wanted and not any(
            phase == onset.phase and abs(index - onset.index) <= near for phase, index in known
        )

    def judged(self) -> Judged | None:
        """Of the first pass: what this one publishes is known by it."""
        return self._first_pass.judged()

    def note_published(self, onset: Onset) -> None:
        """For the next stretch as well."""
        self._first_pass.note_published(onset)


def rebuild_from(track: Track, block: int) -> int:
    """Where a second pass begins, to know what the first one knew at `block`."""
    return block - track.context.kept - _SETTLING_BLOCKS


def first_fillable(track: Track) -> int | None:
    """First block of the earliest gap that would be picked once more if its data came now.

    A restart must know again what leads up to it: they may come right before or after.
    """
    rings = track.station.rings()
    oldest = track.block_at(max(ring.start for ring in rings)) + 1
    first = track.first_input(oldest - rebuild_from(track, 0))
    gaps = [gap for ring in rings if (gap := ring.first_gap(first)) is not None]
    block = track.block_at(min(gaps)) - 1 if gaps else track.passed
    return block if block < track.passed else None


def reach_after(track: Track) -> int:
    """Blocks after an onset until it is certain."""
    return track.context.network + track.context.hop + 1


@dataclass
class _Waiting:
    """Blocks of one track, since when, and when the last of them came (clock ns)."""

    since_ns: int
    noted_ns: int
    blocks: Spans = field(default_factory=lambda: Spans(MOST_STRETCHES))


class LateWork:
    """What is to be picked once more, and the one track that does it.

    `blind_blocks`: after the beginning of data the first pass was blind for so many. `open_row` and
    `on_end` get a row of the network and give it back; `counts` gets what became of it.
    """

    def __init__(
        self,
        blind_blocks: int,
        open_row: Callable[[], int],
        on_end: Callable[[Track], None],
        counts: Counter[str],
    ) -> None:
        self._blind_blocks = blind_blocks
        self._open_row = open_row
        self._on_end = on_end
        self._counts = counts
        self._waiting: dict[Track, _Waiting] = {}
        self._active: tuple[Track, int, LateTrack] | None = None  # first pass, first block, second

    def note(self, track: Track, ranges: list[tuple[int, int]], now_ns: int) -> None:
        """Samples of these ranges of indices came late; what no step has passed is in time."""
        for first, stop in ranges:
            blocks = track.touched(first, stop)
            passed = min(blocks.stop, track.passed)
            if blocks.start >= passed:
                continue
            waiting = self._waiting.setdefault(track, _Waiting(now_ns, now_ns))
            if sum(len(list(each.blocks)) for each in self._waiting.values()) >= MOST_STRETCHES:
                self._counts["late_stretches_dropped"] += 1
                continue
            waiting.noted_ns = now_ns
            waiting.blocks.add(blocks.start, passed)

    def forget(self, track: Track) -> None:
        """The track takes no more steps."""
        waiting = self._waiting.pop(track, None)
        if waiting is not None:
            self._counts["late_stretches_dropped"] += len(list(waiting.blocks))

    def next_step(self, now_ns: int, is_over: Callable[[Track], bool]) -> Step | None:
        """One step of the stretch that is being picked again, or of the next that is due.

        `is_over`: whether no more data of a track will come soon.
        """
        while True:
            self._active = self._active or self._next_stretch(now_ns, is_over)
            if self._active is None:
                return None
            step = self._active[2].next_step()
            if step is not None:
                return step
            self._on_end(self._active[2])
            self._active = None

    def needed_from(self, track: Track) -> int | None:
        """First block that is needed for what is to be done of a track; None if that is nothing."""
        blocks = (
            [first for first, _ in self._waiting[track].blocks] if track in self._waiting else []
        )
        if self._active is not None and self._active[0] is track:
            blocks.append(self._active[1])
        return rebuild_from(track, min(blocks)) if blocks else None

    def _next_stretch(
        self, now_ns: int, is_over: Callable[[Track], bool]
    ) -> tuple[Track, int, LateTrack] | None:
        for track, waiting in list(self._waiting.items()):
            over = is_over(track)
            settled = (
                now_ns - waiting.noted_ns >= SETTLE_NS
                or now_ns - waiting.since_ns >= LONGEST_WAIT_NS
            )
            for first, stop in waiting.blocks:
                blocks = range(first, stop + self._blind_blocks)
                complete = track.next_block >= blocks.stop + reach_after(track)
                if not over and not (settled and complete):
                    continue
                waiting.blocks.remove(first, stop)
                if not waiting.blocks:
                    del self._waiting[track]
                if self._is_reachable(track, first):
                    self._counts["late_stretches"] += 1
                    return track, first, LateTrack(track, blocks, self._open_row())
        return None

    def _is_reachable(self, track: Track, block: int) -> bool:
        """Whether the rings hold what the network must know again."""
        start = track.first_input(rebuild_from(track, block))
        if all(ring.start <= start for ring in track.station.rings()):
            return True
        self._counts["late_stretches_too_old"] += 1
        return False
