"""A track hands each block of a station to the network once, on the absolute grid."""

from fractions import Fraction

import numpy as np
import pytest

from model.onsets import OnsetDetector
from model.preprocess import BLOCK, Resampler
from streamer.picking.track import Context, Sampling, Step, Track
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record
from streamer.waveforms.stations import Station

NOW_NS = 1_600_000_000 * NS_PER_S
T0_BLOCK = 1_600_000_000  # block of 1 s at 100 Hz
CONTEXT = Context(history=3, network=2)
BUFFER_S = 100


def wave(first: int, stop: int) -> np.ndarray:
    """A value for each sample index that tells where it belongs."""
    return (np.arange(first, stop) % 1_000_003).astype(np.int32)


def new_station(*channels: str) -> Station:
    station = Station(Nslc("XX", "A", "", "HHZ").instrument, BUFFER_S)
    for channel in channels or ("HHZ",):
        station.component(Nslc("XX", "A", "", channel))
    station.declared = True
    return station


def feed(station: Station, first: int, stop: int, channel: str = "HHZ", rate=Fraction(100)) -> None:
    """Samples of the absolute indices [first, stop), in one record."""
    nslc = Nslc("XX", "A", "", channel)
    samples = wave(first, stop)
    station.accept(Record(nslc, sample_time_ns(first, rate), rate, samples), NOW_NS)


def new_track(station: Station, sampling: Sampling = Sampling.RESAMPLE) -> Track:
    return Track(station, sampling, CONTEXT, OnsetDetector((0.3, 0.3)))


def advance(track: Track, *sizes: int) -> list[Step]:
    """Steps of the given sizes, then of single blocks until nothing is ready."""
    steps = []
    for size in sizes:
        assert track.ready_blocks(NOW_NS) >= size
        steps.append(track.advance(size))
    while track.ready_blocks(NOW_NS):
        steps.append(track.advance(1))
    return steps


def given_out(steps: list[Step]) -> list[int]:
    """The blocks whose probabilities the steps give for the first time, in that order."""
    return [
        block
        for step in steps
        for block in range(step.first_block + step.known_blocks, step.first_block + step.blocks)
    ]


def columns(step: Step, block: int) -> slice:
    """Where the samples of a block are in the input of a step."""
    origin = step.first_block - CONTEXT.history - CONTEXT.network
    return slice((block - origin) * BLOCK, (block - origin + 1) * BLOCK)


@pytest.mark.parametrize("offset", [0, 1, 50, 99])
def test_blocks_lie_on_the_absolute_grid_wherever_the_data_begin(offset):
    station = new_station()
    first = T0_BLOCK * BLOCK + offset
    feed(station, first, first + 1000)
    for step in advance(new_track(station)):
        for block in range(step.first_block, step.first_block + step.blocks + CONTEXT.network):
            valid = step.validity(block, 0, 0)[0, 0]
            assert valid == (first <= block * BLOCK and (block + 1) * BLOCK <= first + 1000)
            if valid:
                expected = wave(block * BLOCK, (block + 1) * BLOCK)
                assert np.array_equal(step.samples[0, columns(step, block)], expected)


@pytest.mark.parametrize("sizes", [(), (30,), (1, 5, 2, 10), (10, 10)])
def test_each_block_is_given_out_once_and_none_is_left_out(sizes):
    """From the block in which the data begin to the last with its right context."""
    station = new_station()
    feed(station, T0_BLOCK * BLOCK + 30, (T0_BLOCK + 40) * BLOCK + 99)
    track = new_track(station)
    steps = advance(track, *sizes)
    assert given_out(steps) == list(range(T0_BLOCK, T0_BLOCK + 40 - CONTEXT.network))
    last = track.finish()
    assert given_out([*steps, last]) == list(range(T0_BLOCK, T0_BLOCK + 40))
    assert last.ends
    assert track.finish() is None


def test_a_step_has_all_that_its_blocks_depend_on():
    station = new_station()
    feed(station, T0_BLOCK * BLOCK, (T0_BLOCK + 40) * BLOCK)
    for step in advance(new_track(station), 5, 2):
        assert step.samples.shape == (3, (CONTEXT.kept + step.blocks) * BLOCK)
        assert step.valid.shape == (3, CONTEXT.kept + step.blocks)
        stop = step.first_block + step.blocks + CONTEXT.network
        assert columns(step, stop - 1).stop == step.samples.shape[1]


def test_a_track_that_goes_on_after_it_finished_loses_and_repeats_nothing():
    station = new_station()
    feed(station, T0_BLOCK * BLOCK, (T0_BLOCK + 10) * BLOCK + 50)
    track = new_track(station)
    steps = [*advance(track), track.finish()]
    assert track.finish() is None
    feed(station, (T0_BLOCK + 10) * BLOCK + 50, (T0_BLOCK + 20) * BLOCK)
    later = [*advance(track, 2), track.finish()]
    assert given_out(steps + later) == list(range(T0_BLOCK, T0_BLOCK + 20))
    block = T0_BLOCK + 10  # half of it came before the silence
    assert np.array_equal(
        later[0].samples[0, columns(later[0], block)], wave(block * BLOCK, (block + 1) * BLOCK)
    )


def test_a_long_gap_is_skipped_and_a_short_one_is_not():
    for gap_blocks in (3, 5_000):
        station = new_station()
        feed(station, T0_BLOCK * BLOCK, (T0_BLOCK + 10) * BLOCK)
        track = new_track(station)
        steps = advance(track)
        begin = T0_BLOCK + 10 + gap_blocks
        feed(station, begin * BLOCK, (begin + 10) * BLOCK)
        steps += [*advance(track), track.finish()]
        blocks = given_out(steps)
        assert blocks == sorted(set(blocks))
        assert {*range(T0_BLOCK, T0_BLOCK + 10), *range(begin, begin + 10)} <= set(blocks)
        assert len(steps) < 50
        assert steps[-1].validity(begin + 9, 3, 1)[0].tolist() == [True] * 4 + [False]


def test_a_block_with_a_missing_sample_is_not_valid():
    station = new_station("HHZ", "HHN")
    first = T0_BLOCK * BLOCK
    feed(station, first, first + 1000, "HHN")
    feed(station, first, first + 350)
    feed(station, first + 353, first + 1000)
    step = advance(new_track(station), 10)[0]
    valid = step.validity(T0_BLOCK, 0, 9)
    assert valid[0].tolist() == [block != 3 for block in range(10)]
    assert valid[1].all()
    assert not valid[2].any()


@pytest.mark.parametrize("rate", [Fraction(50), Fraction(125, 2), Fraction(200), Fraction(500)])
def test_resampled_steps_hold_the_numbers_of_the_whole_recording(rate):
    station = new_station()
    first, stop = T0_BLOCK * rate, (T0_BLOCK + 30) * rate
    feed(station, int(first), int(stop), rate=rate)
    resampler = Resampler(rate)
    steps = advance(new_track(station), 5, 10)
    assert given_out(steps)[0] == T0_BLOCK
    for step in steps:
        for block in range(step.first_block, step.first_block + step.blocks + CONTEXT.network):
            a, b = resampler.input_range(block * BLOCK, (block + 1) * BLOCK)
            valid = step.validity(block, 0, 0)[0, 0]
            assert valid == (first <= a and b <= stop)
            if valid:
                expected = resampler(wave(a, b), block * BLOCK, (block + 1) * BLOCK)
                assert np.array_equal(step.samples[0, columns(step, block)], expected)


def test_native_sampling_feeds_the_samples_one_for_one():
    """500 Hz: a block lasts 0.2 s."""
    station = new_station()
    first = T0_BLOCK * 500
    feed(station, first, first + 1000, rate=Fraction(500))
    track = new_track(station, Sampling.NATIVE)
    assert track.rate == 500
    steps = advance(track, 10)
    assert given_out(steps)[0] == first // BLOCK
    assert np.array_equal(
        steps[0].samples[0, columns(steps[0], first // BLOCK)], wave(first, first + BLOCK)
    )


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
    track.advance(1)
    assert track.has_room(ring, first + capacity + BLOCK)
    assert not track.has_room(ring, first + capacity + BLOCK + 1)


def test_the_history_of_the_resampling_filter_is_not_displaced():
    station = new_station()
    rate = Fraction(200)
    first = T0_BLOCK * 200
    feed(station, first, first + BUFFER_S * 200, rate=rate)
    track = new_track(station)
    ring = station.rings()[0]
    track.ready_blocks(NOW_NS)
    track.advance(10)
    needed, _ = Resampler(rate).input_range(track.next_block * BLOCK, track.next_block * BLOCK + 1)
    assert needed < track.next_block * 200
    assert track.has_room(ring, needed + ring.capacity)
    assert not track.has_room(ring, needed + ring.capacity + 1)


def test_a_ring_without_anything_to_take_has_room_for_a_jump():
    station = new_station()
    first = T0_BLOCK * BLOCK
    feed(station, first, first + 1050)
    track = new_track(station)
    advance(track)
    assert track.has_room(station.rings()[0], first + 10**9)


def test_validity_is_false_outside_what_is_remembered():
    station = new_station()
    feed(station, T0_BLOCK * BLOCK, (T0_BLOCK + 40) * BLOCK)
    step = advance(new_track(station), 10, 10)[1]
    oldest = step.first_block - CONTEXT.history - CONTEXT.network
    newest = step.first_block + step.blocks + CONTEXT.network - 1
    assert step.validity(oldest, 2, 1)[0].tolist() == [False, False, True, True]
    assert step.validity(newest, 1, 2)[0].tolist() == [True, True, False, False]
    assert not step.validity(newest + 50, 3, 3).any()
    assert not step.validity(oldest - 50, 3, 3).any()


def test_a_rate_the_network_cannot_take_is_an_error():
    station = new_station()
    feed(station, 10**9, 10**9 + 100, rate=Fraction(10007, 100))
    with pytest.raises(ValueError, match="cannot resample"):
        new_track(station)
