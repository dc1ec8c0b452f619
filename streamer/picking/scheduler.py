"""Which stations are due for which blocks, gathered into batches of equal length."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import structlog

from streamer.clock import Clock
from streamer.picking.late import LateWork, first_fillable, rebuild_from
from streamer.picking.picker import BLIND_BLOCKS
from streamer.picking.track import Step, Track
from streamer.seedid import Instrument
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record
from streamer.waveforms.stations import SLOTS, Station, StationBank

log = structlog.get_logger()

# Blocks in one step. Live stations advance by the first; a backlog is worked off in longer steps,
# which cost less. Few sizes, so that stations that catch up share batches.
STEP_BLOCKS = (1, 2, 5, 10, 30, 60, 240, 480, 960, 1920, 3840)
BATCH_BLOCKS = 512  # of all stations of a batch: more do not fit into the caches of a processor

# Only stations with new data are looked at, and so often those that had none in the meantime, for
# what is due for want of data.
SWEEP_NS = NS_PER_S


class Scheduler:
    """Turns what the rings hold into batches of steps.

    `make_track` builds the track of a station once its rate is known; it raises ValueError for a
    rate the network cannot take. `on_end` hears of a track that takes no more steps; `open_row`
    gives one for late data its row in the network. `step_blocks` is the least number of new blocks
    worth a step; it may be changed at any time.
    """

    def __init__(
        self,
        bank: StationBank,
        make_track: Callable[[Station], Track],
        clock: Clock,
        *,
        on_end: Callable[[Track], None] = lambda track: None,
        open_row: Callable[[], int] = lambda: 0,
        step_blocks: int = 1,
        batch_stations: int = 256,
        silence_flush_s: float = 60.0,
    ) -> None:
        self._bank = bank
        self._make_track = make_track
        self._on_end = on_end
        self._late = LateWork(BLIND_BLOCKS, open_row, on_end, bank.counts)
        self._clock = clock
        self.step_blocks = step_blocks
        self._batch_stations = batch_stations
        self._silence_flush_s = silence_flush_s
        self._listening_since_ns: int | None = 0  # clock of the connection; None without one
        self._tracks: dict[Station, Track | None] = {}
        self._swept_ns = 0

    def has_room(self, record: Record) -> bool:
        """Whether `record` fits without displacing samples that no step has taken yet.

        A station that could not make room, because a component is too far behind, waits for it no
        longer: the record fits after the next steps.
        """
        station = self._bank.find(record.nslc)
        track = None if station is None else self._track(station)
        if station is None or track is None or track.is_roomy(record.end_ns):
            return True
        component = station.components[SLOTS.get(record.nslc.component, 0)]
        if component is None or component.ring is None or component.ring.rate != record.rate:
            return True
        stop = component.ring.locate(record) + len(record.samples)
        if track.has_room(component.ring, stop):
            return True
        if not track.in_flight and not track.ready_blocks(self._clock()):
            track.give_up_behind()
            self._bank.counts["components_given_up"] += 1
        self._bank.changed[station] = None  # its next steps make room: let them not wait
        return False

    def listen(self, *, connected: bool) -> None:
        """Whether what stations send would arrive; always, if this is never called."""
        if not connected:
            self._listening_since_ns = None
        elif self._listening_since_ns is None:
            self._listening_since_ns = self._clock()

    def collect(self, least_blocks: int | None = None, *, ended: bool = False) -> list[list[Step]]:
        """Batches of the steps that are due now: urgent stations first, then most blocks first.

        A station that fell silent is asked for all it has, and then for what still waits for its
        right context. `least_blocks` overrides `step_blocks`. `ended`: nothing more is received, so
        late data wait for nothing.
        """
        now_ns = self._clock()
        changed = self._bank.take_changed()
        stations: Iterable[Station] = changed
        if least_blocks is not None:
            stations = self._bank.stations.values()
        elif now_ns - self._swept_ns >= SWEEP_NS:
            stations = [*changed, *self._without_news(set(changed))]
            self._swept_ns = now_ns
        batches = self._collect(stations, least_blocks or self.step_blocks)
        if self._bank.retired:
            batches += self._retire()
        if ended and batches:
            return batches
        return batches + self._late_step(now_ns, ended=ended)

    def _without_news(self, changed: set[Station]) -> Iterator[Station]:
        """The stations whose data did not go on since the last sweep: nobody looked at them."""
        for station in self._bank.stations.values():
            if station.progress_ns <= self._swept_ns and station not in changed:
                yield station

    def tracks(self) -> Iterator[Track]:
        """The tracks of all stations that have one."""
        return (track for track in self._tracks.values() if track is not None)

    def needed_from_ns(self, instrument: Instrument) -> tuple[int, bool] | None:
        """Which data a restart needs of an instrument, those that end later; None if of none.

        And whether any more can come of them: not if it is silent and gave out all it has.
        """
        station = self._bank.stations[instrument]
        track = self._track(station)
        if track is None:
            return None if station.rate is not None else (0, True)
        if any(retired.instrument == instrument for retired in self._bank.retired):
            return 0, True
        now_ns = self._clock()
        self._note_late(now_ns)
        needed_ns = track.needed_from_ns()
        late_block = self._late.needed_from(track)
        if late_block is not None:
            return min(needed_ns, track.block_ns(late_block - 1)), True
        gap = first_fillable(track)
        if gap is not None:
            needed_ns = min(needed_ns, track.block_ns(rebuild_from(track, gap) - 1))
        over = (
            self._is_silent(station, now_ns)
            and track.given_out
            and not track.ready_blocks(now_ns, patient=False)
        )
        return needed_ns, not over

    def _is_silent(self, station: Station, now_ns: int) -> bool:
        """While nobody listens, a station is not silent: its data wait at the server."""
        if self._listening_since_ns is None:
            return False
        listening_s = (now_ns - self._listening_since_ns) / NS_PER_S
        return min(station.silent_for_s(now_ns), listening_s) > self._silence_flush_s

    def finish(self) -> Iterator[list[Step]]:
        """The data end here for good: the steps of all that is left, as if all had fallen silent.

        Each batch is to be judged before the next one is asked for: what a station learns again
        after a restart is judged with what it knew then, and what follows with what it knew later.
        """
        stations = self._bank.stations.values()
        while due := self._collect(stations, 1, ended=True) + self._retire():
            yield from due
        while due := self._late_step(self._clock(), ended=True):
            yield from due

    def _late_step(self, now_ns: int, *, ended: bool) -> list[list[Step]]:
        """At most one step for late data, behind those of the round."""
        self._note_late(now_ns)

        def is_over(track: Track) -> bool:
            return ended or self._is_silent(track.station, now_ns)

        step = self._late.next_step(now_ns, is_over)
        return [] if step is None else [[step]]

    def _note_late(self, now_ns: int) -> None:
        """What came late and is not in time for the steps is to be picked once more."""
        for station in self._bank.take_late():
            ranges, station.late = station.late, []
            track = self._track(station)
            if track is not None:
                self._late.note(track, ranges, now_ns)

    def _retire(self) -> list[list[Step]]:
        """The next step of each station that was replaced; one that has none left is forgotten."""
        batches = self._collect(self._bank.retired, 1, ended=True)
        going_on = {step.track.station for batch in batches for step in batch}
        for station in [s for s in self._bank.retired if s not in going_on]:
            self._bank.retired.remove(station)
            if track := self._tracks.pop(station, None):
                self._late.forget(track)
                self._on_end(track)
        return batches

    def _collect(
        self, stations: Iterable[Station], least_blocks: int, *, ended: bool = False
    ) -> list[list[Step]]:
        now_ns = self._clock()
        alike: dict[tuple[bool, int], list[Step]] = defaultdict(list)
        for station in stations:
            track = self._track(station)
            if track is None:
                continue
            silent = ended or self._is_silent(station, now_ns)
            ready = track.ready_blocks(now_ns, patient=not silent)
            least = 1 if silent or track.urgent or track.learns else least_blocks
            step = track.advance(_longest_step(ready)) if ready >= least else None
            if step is None and (silent or track.flush_due):
                step = track.finish()
            if step is not None:
                alike[track.urgent, step.blocks].append(step)
                if step.blocks < ready or track.learns:
                    self._bank.changed[station] = None
        return self._batches(alike)

    def _track(self, station: Station) -> Track | None:
        """The track of a station; None before its first record, or for good if it was rejected."""
        if station not in self._tracks and station.rate is not None:
            self._tracks[station] = self._new_track(station)
        return self._tracks.get(station)

    def _new_track(self, station: Station) -> Track | None:
        try:
            return self._make_track(station)
        except ValueError as error:
            log.warning("station_rejected", station=str(station.instrument), error=str(error))
            self._bank.counts["stations_rejected"] += 1
            return None

    def _batches(self, alike: dict[tuple[bool, int], list[Step]]) -> list[list[Step]]:
        batches = []
        for (_, blocks), steps in sorted(alike.items(), key=lambda item: item[0], reverse=True):
            size = max(min(self._batch_stations, BATCH_BLOCKS // max(blocks, 1)), 1)
            batches += [steps[start : start + size] for start in range(0, len(steps), size)]
        return batches


def _longest_step(ready: int) -> int:
    return STEP_BLOCKS[bisect_right(STEP_BLOCKS, ready) - 1]
