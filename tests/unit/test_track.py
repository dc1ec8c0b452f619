"""A track takes each block of a station from the rings once, on the absolute grid."""

from bisect import bisect_left
from fractions import Fraction

import numpy as np
import pytest
from track_parts import BUFFER_S, NOW_NS, T0_BLOCK, advance, feed, new_station, taken, wave

from model.onsets import OnsetDetector
from model.preprocess import BLOCK, Resampler
from streamer.picking.inference import resampled
from streamer.picking.track import LOOK_BACK_BLOCKS, Context, Response, Sampling, Track
from streamer.timebase import sample_time_ns
from streamer.waveforms.stations import Station

CONTEXT = Context(history=3, network=2)


def new_track(station: Station, sampling: Sampling = Sampling.RESAMPLE) -> Track:
    return Track(station, sampling, CONTEXT, OnsetDetector((0.3, 0.3)))


@pytest.mark.parametrize("offset", [0, 1, 50, 99])
def test_blocks_lie_on_the_absolute_grid_wherever_the_data_begin(offset):
    station = new_station()
    first = T0_BLOCK * BLOCK + offset
    feed(station, first, first + 1000)
    steps = advance(new_track(station), 2)
    assert taken(steps) == list(range(T0_BLOCK, T0_BLOCK + 10))
    for step in steps:
        assert step.begins == T0_BLOCK * BLOCK
        for number, block in enumerate(taken([step])):
            assert step.received[:, number].tolist() == [first <= block * BLOCK, False, False]
            if first <= block * BLOCK:
                raw = step.raw[0, number * BLOCK : (number + 1) * BLOCK]
                assert np.array_equal(raw, wave(block * BLOCK, (block + 1) * BLOCK))


@pytest.mark.parametrize("sizes", [(), (30,), (1, 5, 2, 10), (10, 10)])
def test_each_block_is_taken_once_and_none_is_left_out(sizes):
    """From the block in which the data begin to the last complete one."""
    station = new_station()
    feed(station, T0_BLOCK * BLOCK + 30, (T0_BLOCK + 40) * BLOCK + 99)
    track = new_track(station)
    steps = advance(track, *sizes)
    assert taken(steps) == list(range(T0_BLOCK, T0_BLOCK + 40))
    assert [step.fresh for step in steps] == [True] + [False] * (len(steps) - 1)
    assert not any(step.ends for step in steps)


def test_what_waits_at_the_end_of_the_data_is_asked_for_once():
    """The end takes nothing from the rings."""
    station = new_station()
    feed(station, T0_BLOCK * BLOCK, T0_BLOCK * BLOCK + 1050)
    track = new_track(station)
    assert track.finish() is None
    assert track.ready_blocks(NOW_NS) == 10
    assert track.finish() is None
    advance(track)
    last = track.finish()
    assert last is not None
    assert (last.first_block, last.blocks, last.ends) == (T0_BLOCK + 10, 0, True)
    assert last.raw.shape == (3, 0)
    assert track.finish() is None


def test_a_step_has_all_that_its_blocks_depend_on_and_nothing_else():
    station = new_station()
    rate = Fraction(200)
    feed(station, T0_BLOCK * 200, (T0_BLOCK + 40) * 200, rate=rate)
    for step in advance(new_track(station), 5, 2):
        start, stop = step.first_block * BLOCK, (step.first_block + step.blocks) * BLOCK
        first, last = Resampler(rate).input_range(start, stop)
        assert step.raw.shape == (3, last - first)
        assert step.received.shape == (3, step.blocks)


def test_a_track_that_goes_on_after_it_finished_loses_and_repeats_nothing():
    station = new_station()
    feed(station, T0_BLOCK * BLOCK, (T0_BLOCK + 10) * BLOCK + 50)
    track = new_track(station)
    steps = [*advance(track), track.finish()]
    assert track.finish() is None
    feed(station, (T0_BLOCK + 10) * BLOCK + 50, (T0_BLOCK + 20) * BLOCK)
    later = [*advance(track, 2), track.finish()]
    assert taken(steps + later) == list(range(T0_BLOCK, T0_BLOCK + 20))
    assert not any(step.fresh for step in later)
    block = T0_BLOCK + 10  # half of it came before the silence
    assert np.array_equal(later[0].raw[0, :BLOCK], wave(block * BLOCK, (block + 1) * BLOCK))


def test_a_long_gap_is_skipped_and_a_short_one_is_not():
    """What follows a skipped one begins afresh, as at the first data."""
    for gap_blocks in (3, 5_000):
        station = new_station()
        feed(station, T0_BLOCK * BLOCK, (T0_BLOCK + 10) * BLOCK)
        track = new_track(station)
        steps = advance(track)
        begin = T0_BLOCK + 10 + gap_blocks
        feed(station, begin * BLOCK, (begin + 10) * BLOCK)
        steps += advance(track)
        blocks = taken(steps)
        assert blocks == sorted(set(blocks))
        assert {*range(T0_BLOCK, T0_BLOCK + 10), *range(begin, begin + 10)} <= set(blocks)
        assert len(steps) < 50
        skipped = gap_blocks == 5_000
        later = [step for step in steps if step.first_block >= begin]
        assert [step.fresh for step in later] == [skipped] + [False] * 9
        assert {step.begins for step in later} == {(begin if skipped else T0_BLOCK) * BLOCK}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_gap_is_skipped_once_nothing_that_is_remembered_was_recorded(size):
    """However it is cut into steps."""
    station = new_station()
    begin = T0_BLOCK + 10 + 50
    feed(station, T0_BLOCK * BLOCK, (T0_BLOCK + 10) * BLOCK)
    feed(station, begin * BLOCK, (begin + 10) * BLOCK)
    track = new_track(station)
    blocks = []
    while ready := track.ready_blocks(NOW_NS):
        blocks += taken([track.advance(min(size, ready))])
    empty = len(set(blocks) & set(range(T0_BLOCK + 10, begin)))
    assert CONTEXT.kept <= empty < CONTEXT.kept + size


@pytest.mark.parametrize("size", [1, 2, 60])
def test_short_gaps_do_not_add_up_to_a_long_one(size):
    """What lies between them is remembered."""
    station = new_station()
    for first, stop in ((0, 10), (14, 16), (20, 30)):
        assert CONTEXT.kept < 2 * 4
        feed(station, (T0_BLOCK + first) * BLOCK, (T0_BLOCK + stop) * BLOCK)
    track = new_track(station)
    steps = []
    while ready := track.ready_blocks(NOW_NS):
        steps.append(track.advance(min(size, ready)))
    assert taken(steps) == list(range(T0_BLOCK, T0_BLOCK + 30))
    assert sum(step.fresh for step in steps) == 1


def test_a_block_with_a_missing_sample_was_not_received():
    station = new_station("HHZ", "HHN")
    first = T0_BLOCK * BLOCK
    feed(station, first, first + 1000, "HHN")
    feed(station, first, first + 350)
    feed(station, first + 353, first + 1000)
    step = advance(new_track(station), 10)[0]
    assert step.received[0].tolist() == [block != 3 for block in range(10)]
    assert step.received[1].all()
    assert not step.received[2].any()


@pytest.mark.parametrize("rate", [Fraction(50), Fraction(125, 2), Fraction(200), Fraction(500)])
def test_resampled_steps_hold_the_numbers_of_the_whole_recording(rate):
    """To rounding: how many samples a matrix product has decides how it adds them up."""
    station = new_station()
    first, stop = T0_BLOCK * rate, (T0_BLOCK + 30) * rate
    feed(station, int(first), int(stop), rate=rate)
    resampler = Resampler(rate)
    steps = advance(new_track(station), 5, 10)
    assert taken(steps)[0] == T0_BLOCK
    for step in steps:
        (samples,) = resampled([step])
        for number, block in enumerate(taken([step])):
            a, b = resampler.input_range(block * BLOCK, (block + 1) * BLOCK)
            assert step.received[0, number] == (first <= a and b <= stop)
            if step.received[0, number]:
                expected = resampler(wave(a, b), block * BLOCK, (block + 1) * BLOCK)
                got = samples[0, number * BLOCK : (number + 1) * BLOCK]
                np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_native_sampling_feeds_the_samples_one_for_one():
    """500 Hz: a block lasts 0.2 s."""
    station = new_station()
    first = T0_BLOCK * 500
    feed(station, first, first + 1000, rate=Fraction(500))
    track = new_track(station, Sampling.NATIVE)
    assert track.rate == 500
    steps = advance(track, 10)
    assert taken(steps)[0] == first // BLOCK
    assert np.array_equal(resampled(steps)[0, 0], wave(first, first + 1000))


def test_the_slowest_awaited_component_decides():
    station = new_station("HHZ", "HHN")
    first = T0_BLOCK * BLOCK
    feed(station, first, first + 1000)
    track = new_track(station)
    assert track.ready_blocks(NOW_NS) == 0
    feed(station, first, first + 599, "HHN")
    assert track.ready_blocks(NOW_NS) == 5
    assert track.ready_blocks(NOW_NS, patient=False) == 10


def test_samples_that_no_step_has_taken_are_not_displaced():
    station = new_station()
    first, capacity = T0_BLOCK * BLOCK, BUFFER_S * 100
    feed(station, first, first + capacity)
    track = new_track(station)
    ring = station.rings()[0]
    assert track.has_room(ring, first + capacity)
    assert not track.has_room(ring, first + capacity + 1)
    assert track.ready_blocks(NOW_NS) == BUFFER_S
    assert not track.has_room(ring, first + capacity + 1)


def test_samples_that_a_pick_may_ask_for_are_not_displaced():
    """Those of the step in flight, and before it those of onsets that are not decided yet."""
    station = new_station()
    first, capacity = T0_BLOCK * BLOCK, BUFFER_S * 100
    feed(station, first, first + capacity)
    track = new_track(station)
    ring = station.rings()[0]
    reach = CONTEXT.network + CONTEXT.hop + 1 + LOOK_BACK_BLOCKS
    track.ready_blocks(NOW_NS)
    for taken_blocks, judged_blocks in ((30, 0), (60, 30)):
        step = track.advance(30)
        assert track.in_flight
        room = first + capacity + max(judged_blocks - reach, 0) * BLOCK
        assert track.has_room(ring, room)
        assert not track.has_room(ring, room + 1)
        track.note_judged(step)
        room = first + capacity + (taken_blocks - reach) * BLOCK
        assert track.has_room(ring, room)
        assert not track.has_room(ring, room + 1)


def test_what_is_kept_for_picks_is_half_a_ring_at_most():
    """A block of slow data that are taken sample for sample is long."""
    station = new_station()
    rate = Fraction(10)
    first = T0_BLOCK * 10
    feed(station, first, first + BUFFER_S * 10, rate=rate)
    track = Track(station, Sampling.NATIVE, CONTEXT, OnsetDetector((0.3, 0.3)))
    ring = station.rings()[0]
    assert track.ready_blocks(NOW_NS) == BUFFER_S * 10 // BLOCK
    track.note_judged(track.advance(8))
    held = first + 8 * BLOCK - ring.capacity // 2
    assert track.has_room(ring, held + ring.capacity)
    assert not track.has_room(ring, held + ring.capacity + 1)


def test_the_history_of_the_resampling_filter_is_not_displaced():
    station = new_station()
    rate = Fraction(200)
    first = T0_BLOCK * 200
    feed(station, first, first + BUFFER_S * 200, rate=rate)
    track = new_track(station)
    ring = station.rings()[0]
    track.ready_blocks(NOW_NS)
    track.note_judged(track.advance(30))
    reach = CONTEXT.network + CONTEXT.hop + 1 + LOOK_BACK_BLOCKS
    oldest = track.next_block - reach
    needed, _ = Resampler(rate).input_range(oldest * BLOCK, oldest * BLOCK + 1)
    assert needed < oldest * 200
    assert track.has_room(ring, needed + ring.capacity)
    assert not track.has_room(ring, needed + ring.capacity + 1)


@pytest.mark.parametrize("rate", [Fraction(100), Fraction(200), Fraction(125, 2)])
def test_a_record_that_ends_early_enough_has_room_whatever_its_place_in_the_ring(rate):
    """The short way round `has_room`: a record may be placed a sample beside that of its time."""
    station = new_station()
    first = int(T0_BLOCK * rate)
    feed(station, first, first + int(BUFFER_S * rate), rate=rate)
    track = new_track(station)
    assert not track.is_roomy(1)
    track.ready_blocks(NOW_NS)
    ring = station.rings()[0]
    for _ in range(3):
        track.note_judged(track.advance(27))
        times_ns = range(sample_time_ns(ring.start, rate), sample_time_ns(ring.end + 10**6, rate))
        latest_ns = times_ns[bisect_left(times_ns, True, key=lambda ns: not track.is_roomy(ns))]
        latest = int((latest_ns * rate) // 10**9)
        assert latest > ring.end
        assert track.has_room(ring, latest + 1)
        assert not track.has_room(ring, latest + 4 + int(rate))  # a leap second may be in between


def test_a_ring_without_anything_to_take_has_room_for_a_jump():
    station = new_station()
    first = T0_BLOCK * BLOCK
    feed(station, first, first + 1050)
    track = new_track(station)
    advance(track)
    assert track.has_room(station.rings()[0], first + 10**9)


def test_validity_is_false_outside_what_is_remembered():
    valid = np.ones((3, 20), dtype=bool)
    response = Response(0, np.zeros((2, 0), dtype=np.float32), origin=100, valid=valid)
    assert response.validity(100, 2, 1)[0].tolist() == [False, False, True, True]
    assert response.validity(119, 1, 2)[0].tolist() == [True, True, False, False]
    assert not response.validity(170, 3, 3).any()
    assert not response.validity(50, 3, 3).any()


def test_a_rate_the_network_cannot_take_is_an_error():
    station = new_station()
    feed(station, 10**9, 10**9 + 100, rate=Fraction(10007, 100))
    with pytest.raises(ValueError, match="cannot resample"):
        new_track(station)
