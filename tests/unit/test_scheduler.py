"""The scheduler: who is due, in batches of bounded size, without losing samples or time."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from track_parts import taken

from model.onsets import OnsetDetector
from streamer.clock import DataClock
from streamer.picking.scheduler import BATCH_BLOCKS, STEP_BLOCKS, SWEEP_NS, Scheduler
from streamer.picking.track import Context, Sampling, Step, Track
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record
from streamer.waveforms.stations import Station, StationBank

T0_S = 1_600_000_000
BUFFER_S = 100
TIMEOUT_S = 30.0
FLUSH_S = 60.0
SWEEP_S = SWEEP_NS / NS_PER_S
CONTEXT = Context(history=3, network=2)


class WatchedTrack(Track):
    """A track that counts how often it is looked at."""

    def __init__(self, looks: Counter[str], station: Station, *, urgent: bool) -> None:
        detector = OnsetDetector((0.3, 0.3))
        super().__init__(station, Sampling.RESAMPLE, CONTEXT, detector, urgent=urgent)
        self._looks = looks

    def ready_blocks(self, now_ns: int, *, patient: bool = True) -> int:
        self._looks[self.station.instrument.station] += 1
        return super().ready_blocks(now_ns, patient=patient)


class Scene:
    """A clock, a bank and its scheduler; the data are an hour old when they come."""

    def __init__(self, *, urgent: str = "", **options: int) -> None:
        self.clock = DataClock()
        self.at(0)
        self.bank = StationBank(self.clock, BUFFER_S, TIMEOUT_S)
        self.looks: Counter[str] = Counter()
        self._urgent = urgent
        self.ended: list[Track] = []
        self.scheduler = Scheduler(
            self.bank,
            self._make_track,
            self.clock,
            on_end=self.ended.append,
            silence_flush_s=FLUSH_S,
            **options,
        )

    def _make_track(self, station: Station) -> Track:
        urgent = station.instrument.station in self._urgent
        return WatchedTrack(self.looks, station, urgent=urgent)

    def at(self, seconds: float) -> None:
        self.clock.advance((T0_S + 3600) * NS_PER_S + round(seconds * NS_PER_S))

    def declare(self, station: str, channels: str = "Z") -> None:
        for component in channels:
            self.bank.declare(Nslc("XX", station, "", f"HH{component}"))

    def feed(self, station: str, start_s: float, stop_s: float, component: str = "Z") -> None:
        self.bank.accept(self.record(station, start_s, stop_s, component))

    def record(
        self, station: str, start_s: float, stop_s: float, component: str = "Z", hz: int = 100
    ) -> Record:
        rate = Fraction(hz)
        first = round((T0_S + start_s) * hz)
        samples = np.zeros(round((stop_s - start_s) * hz), dtype=np.int32)
        nslc = Nslc("XX", station, "", f"HH{component}")
        return Record(nslc, sample_time_ns(first, rate), rate, samples)


def outline(batches: list[list[Step]]) -> list[list[tuple[str, int]]]:
    return [[(step.track.station.instrument.station, step.blocks) for step in b] for b in batches]


def test_nothing_is_due_without_data_or_complete_blocks():
    scene = Scene()
    scene.declare("A")
    assert scene.scheduler.collect() == []
    scene.feed("A", 0, 0.99)
    assert scene.scheduler.collect() == []
    scene.feed("A", 0.99, 1)
    assert outline(scene.scheduler.collect()) == [[("A", 1)]]
    assert scene.scheduler.collect() == []


def test_stations_with_the_same_number_of_blocks_share_a_batch_of_bounded_size():
    scene = Scene(batch_stations=2)
    for name, length_s in (("A", 1), ("B", 5), ("C", 1), ("D", 1)):
        scene.declare(name)
        scene.feed(name, 0, length_s)
    assert outline(scene.scheduler.collect()) == [
        [("B", 5)],
        [("A", 1), ("C", 1)],
        [("D", 1)],
    ]


def test_a_backlog_is_worked_off_in_the_longest_steps():
    scene = Scene()
    scene.declare("A")
    scene.feed("A", 0, 98)
    sizes = []
    while batches := scene.scheduler.collect():
        sizes += [step.blocks for step in batches[0]]
    assert sizes == [60, 30, 5, 2, 1]
    assert set(sizes) <= set(STEP_BLOCKS)


def test_less_than_a_step_is_not_due():
    scene = Scene(step_blocks=5)
    scene.declare("A")
    scene.feed("A", 0, 4)
    assert scene.scheduler.collect() == []
    assert outline(scene.scheduler.collect(2)) == [[("A", 2)]]
    scene.feed("A", 4, 8)
    assert outline(scene.scheduler.collect()) == [[("A", 5)]]


def test_a_silent_station_is_asked_for_all_it_has_and_then_for_what_lacks_context():
    scene = Scene(step_blocks=5)
    scene.declare("A")
    scene.declare("B")
    scene.feed("A", 0, 9)
    scene.feed("B", 0, 9)
    assert outline(scene.scheduler.collect()) == [[("A", 5), ("B", 5)]]
    scene.at(FLUSH_S)
    scene.feed("B", 9, 9.5)
    assert scene.scheduler.collect() == []
    scene.at(FLUSH_S + SWEEP_S)
    assert outline(scene.scheduler.collect()) == [[("A", 2)]]
    assert outline(scene.scheduler.collect()) == [[("A", 2)]]
    assert scene.scheduler.collect() == []
    scene.at(FLUSH_S + 2 * SWEEP_S)
    ((step,),) = scene.scheduler.collect()
    assert (step.track.station.instrument.station, step.ends) == ("A", True)


def test_a_silent_station_does_not_wait_for_a_component_that_is_behind():
    """What is complete on the others comes before the end is declared."""
    scene = Scene()
    scene.declare("A", "ZN")
    scene.feed("A", 0, 20, "Z")
    scene.feed("A", 0, 8, "N")
    steps = []
    for sweep in range(4):
        scene.at(FLUSH_S + 0.1 + sweep * SWEEP_S)
        steps += [step for batch in scene.scheduler.collect() for step in batch]
    assert taken(steps) == list(range(T0_S, T0_S + 20))
    assert [step.ends for step in steps] == [False, False, True]


def test_finish_takes_all_that_is_left_of_every_station_in_order():
    """Also where a component ended a little earlier than the others."""
    scene = Scene(batch_stations=1)
    scene.declare("A", "ZNE")
    scene.declare("B")
    scene.feed("A", 0, 47, "Z")
    scene.feed("A", 0, 30, "N")
    scene.feed("B", 0, 3)
    given: dict[str, list[int]] = {"A": [], "B": []}
    ended: Counter[str] = Counter()
    for batch in scene.scheduler.finish():
        for step in batch:
            name = step.track.station.instrument.station
            given[name] += range(step.first_block, step.first_block + step.blocks)
            ended[name] += step.ends
    assert given["A"] == list(range(T0_S, T0_S + 47))
    assert given["B"] == list(range(T0_S, T0_S + 3))
    assert ended == {"A": 1, "B": 1}
    assert list(scene.scheduler.finish()) == []


def test_a_rate_the_network_cannot_take_rejects_only_its_station():
    scene = Scene()
    scene.declare("A")
    scene.feed("A", 0, 2)
    odd = scene.record("B", 0, 10, hz=263)
    scene.bank.accept(odd)
    assert outline(scene.scheduler.collect()) == [[("A", 2)]]
    assert scene.scheduler.collect() == []
    assert scene.bank.counts["stations_rejected"] == 1
    assert scene.scheduler.has_room(odd)


def test_there_is_room_until_samples_would_be_lost():
    """From the first record on, also while a declared component is awaited."""
    scene = Scene()
    scene.declare("A", "ZN")
    scene.feed("A", 0, 10)
    assert scene.scheduler.has_room(scene.record("A", 10, 20))
    assert scene.scheduler.has_room(scene.record("A", 90, BUFFER_S))
    assert not scene.scheduler.has_room(scene.record("A", 91, BUFFER_S + 1))


@pytest.mark.parametrize("least_blocks", [None, 1])
@pytest.mark.parametrize("others_s", [0, 3, 5.5])
def test_room_is_always_made_without_the_clock_going_on(others_s, least_blocks):
    """Else a component that comes after the others would hold up every station for ever."""
    scene = Scene()
    scene.declare("A", "ZN")
    begun_s = 0
    for begun_s in range(0, 300, 10):
        record = scene.record("A", begun_s, begun_s + 10)
        for _ in range(300):
            if scene.scheduler.has_room(record):
                break
            for batch in scene.scheduler.collect(least_blocks):
                for step in batch:
                    step.track.note_judged(step)
        else:
            raise AssertionError(f"no room {begun_s} s after the start")
        scene.bank.accept(record)
        if others_s and begun_s == 50:
            scene.feed("A", 0, others_s, "N")
    assert scene.bank.counts["components_given_up"] >= 1


def test_old_records_and_records_of_unknown_stations_always_have_room():
    scene = Scene()
    assert scene.scheduler.has_room(scene.record("NEW", 0, 10))
    scene.declare("A")
    scene.feed("A", 0, BUFFER_S)
    scene.scheduler.collect(1)
    for start_s, component in ((0, "Z"), (-500, "Z"), (0, "N"), (0, "X")):
        assert scene.scheduler.has_room(scene.record("A", start_s, start_s + 10, component))
    assert scene.scheduler.has_room(scene.record("A", 0, 10, hz=200))


def test_samples_are_handed_over_once_however_often_stations_are_looked_at():
    scene = Scene()
    scene.declare("A")
    given = []
    for start_s in range(50):
        scene.feed("A", start_s, start_s + 1)
        for _ in range(3):
            given += [block for batch in scene.scheduler.collect() for block in taken(batch)]
    assert given == list(range(T0_S, T0_S + 50))


def test_between_sweeps_only_stations_with_new_data_are_looked_at():
    """What a tick costs depends on the records that came, not on the stations there are."""
    scene = Scene()
    for name in "ABC":
        scene.declare(name)
        scene.feed(name, 0, 1.5)
    scene.scheduler.collect()
    scene.looks.clear()
    scene.feed("B", 1.5, 1.9)
    for _ in range(10):
        assert scene.scheduler.collect() == []
    assert scene.looks == {"B": 1}
    scene.at(SWEEP_S)
    scene.scheduler.collect()
    assert scene.looks == {"A": 1, "B": 2, "C": 1}


def test_a_backlog_needs_no_new_data_and_no_sweep():
    scene = Scene()
    scene.declare("A")
    scene.feed("A", 0, 1)
    scene.scheduler.collect()
    scene.feed("A", 1, 98)
    sizes = []
    while batches := scene.scheduler.collect():
        sizes += [step.blocks for batch in batches for step in batch]
    assert sizes == [60, 30, 5, 2]


def test_a_late_component_that_completes_a_block_makes_the_station_due_at_once():
    scene = Scene()
    scene.declare("A", "ZN")
    scene.feed("A", 0, 1, "Z")
    assert scene.scheduler.collect() == []
    scene.feed("A", 0, 0.9, "N")
    assert scene.scheduler.collect() == []
    scene.feed("A", 0.9, 1, "N")
    assert outline(scene.scheduler.collect()) == [[("A", 1)]]


def test_a_component_that_is_given_up_makes_the_station_due_within_a_sweep():
    """Nobody sends a record to say so."""
    scene = Scene()
    scene.declare("A", "ZN")
    scene.feed("A", 0, 0.5, "N")
    scene.feed("A", 0, 1, "Z")
    scene.at(TIMEOUT_S - 0.5)
    assert scene.scheduler.collect() == []
    scene.at(TIMEOUT_S + SWEEP_S)
    assert outline(scene.scheduler.collect()) == [[("A", 1)]]


def test_urgent_stations_come_first_and_advance_by_every_block():
    """However wide the steps of the others have become."""
    scene = Scene(urgent="U", step_blocks=1)
    for name in ("A", "U", "B"):
        scene.declare(name)
        scene.feed(name, 0, 1)
    assert outline(scene.scheduler.collect()) == [[("U", 1)], [("A", 1), ("B", 1)]]
    scene.scheduler.step_blocks = 5
    collected = []
    for second in range(1, 11):
        for name in ("A", "U", "B"):
            scene.feed(name, second, second + 1)
        collected.append(outline(scene.scheduler.collect()))
    others = [("A", 5), ("B", 5)]
    assert collected == [[[("U", 1)], others] if n in {4, 9} else [[("U", 1)]] for n in range(10)]


def test_a_station_left_waiting_by_wide_steps_goes_on_when_they_narrow():
    """With its next record, or with the next sweep."""
    scene = Scene(step_blocks=5)
    for name in "AB":
        scene.declare(name)
        scene.feed(name, 0, 3)
    assert scene.scheduler.collect() == []
    scene.scheduler.step_blocks = 1
    scene.feed("B", 3, 3.5)
    assert outline(scene.scheduler.collect()) == [[("B", 2)]]
    scene.at(SWEEP_S)
    assert outline(scene.scheduler.collect()) == [
        [
            ("A", 2),
        ],
        [("B", 1)],
    ]
    assert outline(scene.scheduler.collect()) == [[("A", 1)]]


def test_a_batch_has_a_bounded_number_of_blocks():
    """More do not fit into the caches of a processor."""
    scene = Scene()
    names = [f"S{number:02}" for number in range(20)]
    for name in names:
        scene.declare(name)
        scene.feed(name, 0, 60)
    batches = outline(scene.scheduler.collect())
    assert [step for batch in batches for step in batch] == [(name, 60) for name in names]
    assert [len(batch) for batch in batches] == [BATCH_BLOCKS // 60, BATCH_BLOCKS // 60, 4]


def test_a_station_with_a_new_rate_ends_the_old_one_and_begins_anew():
    """The last samples of the old rate are taken, then its track ends; nothing waits for it."""
    scene = Scene()
    scene.declare("A")
    scene.feed("A", 0, 3.5)
    while scene.scheduler.collect():
        pass
    for start_s in (3.5, 5.5):
        scene.bank.accept(scene.record("A", start_s, start_s + 2, hz=200))
    steps = []
    while batches := scene.scheduler.collect():
        steps += [step for batch in batches for step in batch]
    old = [(s.blocks, s.ends) for s in steps if s.track.station.rate == 100]
    new = [block for s in steps if s.track.station.rate == 200 for block in taken([s])]
    assert old == [(0, True)]
    assert new == list(range(T0_S + 3, T0_S + 7))
    assert [float(track.station.rate) for track in scene.ended] == [100]
    assert scene.bank.retired == []
