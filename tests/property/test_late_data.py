"""Late data: what the first pass could not have had is picked and flagged, and nothing twice."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stream_equals_batch import (
    T0_S,
    WARM_UP_S,
    channels,
    cut,
    final,
    infer,
    new_engine,
    own_weights,
)

from streamer.clock import DataClock
from streamer.config import PickingConfig
from streamer.picking.engine import Engine
from streamer.picks import Pick
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import Record

SETTLED_S = 20  # after the last record: all that waits for a while has waited


@pytest.fixture(scope="module")
def picking(tmp_path_factory) -> PickingConfig:
    weights = own_weights(tmp_path_factory.mktemp("weights"))
    return PickingConfig(weights=weights, provisional=False)


@pytest.fixture(scope="module")
def archive(picking) -> list[Pick]:
    engine, clock = new_engine(picking)
    return take(engine, clock, in_order()) + infer_all(engine)


def in_order() -> list[Record]:
    """A station of three components and one of one, in records of one and two seconds."""
    two = [stretch for station, stretch in channels() if station in {"AAA", "BBB"}]
    pieces = [piece for stretch in two for piece in cut(stretch, [100])]
    return sorted(pieces, key=lambda piece: piece.end_ns)


def without(records: list[Record], station: str, span_s: tuple[int, int], components: str):
    """Records in time, and those of some channels between two times."""

    def is_late(record: Record) -> bool:
        nslc, since_s = record.nslc, record.start_ns / NS_PER_S - T0_S
        inside = span_s[0] <= since_s < span_s[1]
        return inside and nslc.station == station and nslc.component in components

    return [r for r in records if not is_late(r)], [r for r in records if is_late(r)]


def take(engine: Engine, clock: DataClock, records: list[Record]) -> list[Pick]:
    """With a look at the stations now and then."""
    found: list[Pick] = []
    for number, record in enumerate(records):
        clock.advance(record.end_ns)
        engine.bank.accept(record)
        if number % 7 == 0:
            found += infer(engine, engine.scheduler.collect())
    return found


def wait(engine: Engine, clock: DataClock) -> list[Pick]:
    found: list[Pick] = []
    for _ in range(SETTLED_S):
        clock.advance(clock.now_ns + NS_PER_S)
        found += infer(engine, engine.scheduler.collect())
    return found


def arrives_late(picking: PickingConfig, late: list[Record], on_time: list[Record], at_s: int):
    """Picks of an archive some of whose records come when the data are at `at_s`."""
    engine, clock = new_engine(picking)
    before = [record for record in on_time if record.end_ns <= (T0_S + at_s) * NS_PER_S]
    picks = take(engine, clock, before)
    for record in late:
        engine.bank.accept(record)
    picks += take(engine, clock, on_time[len(before) :])
    picks += wait(engine, clock)
    return picks + infer_all(engine), engine


def infer_all(engine: Engine) -> list[Pick]:
    return list(infer(engine, engine.scheduler.finish()))


def outline(picks: list[Pick]) -> list[tuple[str, str]]:
    return [(pick.id, pick.nslc) for pick in picks]


@settings(max_examples=6, deadline=None)
@given(
    start_s=st.integers(30, 90),
    length_s=st.integers(1, 20),
    delay_s=st.integers(12, 35),
    seed=st.integers(0, 100),
)
def test_onsets_of_a_stretch_that_came_late_are_those_of_the_archive(
    picking, archive, start_s, length_s, delay_s, seed
):
    """With their ids, flagged, once; whatever the order in which the late records come."""
    span_s = start_s, start_s + length_s
    on_time, late = without(in_order(), "AAA", span_s, "ZNE")
    late = [late[n] for n in np.random.default_rng(seed).permutation(len(late))]
    at_s = span_s[1] + delay_s
    picks, engine = arrives_late(picking, late, on_time, at_s)
    assert max(Counter(pick.id for pick in picks).values()) == 1

    def of_stretch(some: list[Pick]) -> list[Pick]:
        first_ns, stop_ns = ((T0_S + s) * NS_PER_S for s in span_s)
        first_ns += NS_PER_S // 2  # up to there one of the first pass may be the same onset
        return [p for p in final(some) if p.sta == "AAA" and first_ns <= p.t_ns < stop_ns]

    expected = of_stretch(archive)
    assert outline(of_stretch(picks)) == outline(expected)
    assert all("late" in (pick.qual or "").split(",") for pick in of_stretch(picks))
    others = [pick for pick in picks if pick.sta != "AAA"]
    assert not any("late" in (pick.qual or "") for pick in others)
    totals = engine.bank.totals()
    assert totals["late_stretches"] == 1
    assert totals["late_stretches_dropped"] == totals["late_stretches_too_old"] == 0


def test_live_stations_do_not_wait_and_one_step_at_a_time_is_for_late_data(picking):
    on_time, late = without(in_order(), "AAA", (40, 70), "ZNE")
    engine, clock = new_engine(picking)
    take(engine, clock, [r for r in on_time if r.end_ns <= (T0_S + 90) * NS_PER_S])
    for record in late:
        engine.bank.accept(record)
    list(infer(engine, engine.scheduler.collect()))
    clock.advance(clock.now_ns + 3 * NS_PER_S)
    late_steps = 0
    while batches := engine.scheduler.collect():
        of_late = [step for batch in batches for step in batch if step.track.late]
        assert len(of_late) <= 1
        assert not of_late or batches[-1] == of_late
        late_steps += len(of_late)
        list(infer(engine, batches))
    assert late_steps >= 2


def test_late_components_add_onsets_but_repeat_none_that_were_published(picking):
    """The others were picked without them, with fewer components."""
    on_time, late = without(in_order(), "AAA", (50, 80), "Z")
    picks, engine = arrives_late(picking, late, on_time, 115)
    times = sorted((p.phase, p.t_ns) for p in final(picks) if p.sta == "AAA")
    near = [b[1] - a[1] for a, b in itertools.pairwise(times) if a[0] == b[0]]
    assert min(near) > NS_PER_S // 2
    assert engine.bank.totals()["late_stretches"] == 1


def test_late_data_that_the_rings_cannot_lead_up_to_are_counted_and_left(picking):
    """What the network must know before them is no longer there."""
    on_time, late = without(in_order(), "BBB", (50, 60), "Z")
    engine, clock = new_engine(picking, buffer_s=75)
    picks = take(engine, clock, [r for r in on_time if r.end_ns <= (T0_S + 123) * NS_PER_S])
    for record in late:
        engine.bank.accept(record)
    picks += wait(engine, clock)
    totals = engine.bank.totals()
    assert totals["late"] == len(late)
    assert (totals["late_stretches"], totals["late_stretches_too_old"]) == (0, 1)
    assert not any("late" in (pick.qual or "") for pick in picks)


def test_the_checkpoint_reaches_back_over_late_data_that_are_not_picked_yet(picking):
    on_time, late = without(in_order(), "AAA", (50, 60), "ZNE")
    engine, clock = new_engine(picking)
    take(engine, clock, [r for r in on_time if r.end_ns <= (T0_S + 90) * NS_PER_S])
    instrument = late[0].nslc.instrument
    usual, _ = engine.scheduler.needed_from_ns(instrument)
    for record in late:
        engine.bank.accept(record)
    needed, more = engine.scheduler.needed_from_ns(instrument)
    assert more
    assert needed <= (T0_S + 50 - WARM_UP_S) * NS_PER_S
    take(engine, clock, [r for r in on_time if r.end_ns > (T0_S + 90) * NS_PER_S])
    wait(engine, clock)
    assert engine.scheduler.needed_from_ns(instrument)[0] > usual
