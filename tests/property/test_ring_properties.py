"""A ring against the plainest model of it, a dictionary from index to the first value received;
and its short cuts against itself without them.
"""

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.seedid import Nslc
from streamer.timebase import sample_time_ns
from streamer.waveforms.records import Record
from streamer.waveforms.ring import ChannelRing, Mark, RingRules, Verdict

NSLC = Nslc("XX", "A", "", "HHZ")
RATE = Fraction(50)  # one sample is more than the tolerance of the clock: no doubt about places
T0 = 100 * 1_000_000_000
CAPACITY = 64

# (first index, number of samples): overlapping, repeated, out of order, far apart.
RECORDS = st.lists(
    st.tuples(st.integers(0, 150) | st.sampled_from([0, 1, 300]), st.integers(1, 90)),
    min_size=1,
    max_size=12,
)


def record(first: int, values: np.ndarray) -> Record:
    return Record(NSLC, sample_time_ns(T0 + first, RATE), RATE, values.astype(np.int32))


@settings(max_examples=300, deadline=None)
@given(records=RECORDS)
def test_a_ring_holds_the_first_value_of_each_of_the_newest_positions(records):
    ring, model, end = ChannelRing(RATE, CAPACITY), {}, 0
    for number, (first, count) in enumerate(records):
        values = 1000 * number + np.arange(count)
        old_end, old_model = end, dict(model)
        start = max(end - CAPACITY, 0) if end else 0
        if not end or first + count > start:
            end = max(end, first + count)
        start = max(end - CAPACITY, 0)
        for index, value in zip(range(first, first + count), values, strict=True):
            if index >= start:
                model.setdefault(index, value)
        model = {index: value for index, value in model.items() if index >= start}

        arrival = ring.write(record(first, values))
        assert ring.end == T0 + end
        read, valid = ring.read(T0 + end - CAPACITY - 20, T0 + end + 20)
        held = {
            end - CAPACITY - 20 + int(position): read[position]
            for position in np.flatnonzero(valid)
        }
        assert held == model
        assert arrival.missing_samples == (max(first - old_end, 0) if old_end else 0)
        if arrival.verdict in (Verdict.DUPLICATE, Verdict.EXPIRED):
            assert model == old_model
        else:
            assert model != old_model
        assert (arrival.verdict is Verdict.GAP) == (arrival.missing_samples > 0)


@settings(max_examples=100, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 499), max_size=20),
    seed=st.integers(0, 1000),
    gap=st.tuples(st.integers(0, 499), st.integers(0, 80)),
    jitter_us=st.integers(-400, 400),
)
def test_record_sizes_order_and_repetition_do_not_matter(cuts, seed, gap, jitter_us):
    """Only the first record must come first: a ring does not reach back beyond its capacity."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-(2**31), 2**31, 500)
    borders = sorted({0, 500, *cuts, gap[0], min(sum(gap), 500)})
    pieces = [
        (first, stop)
        for first, stop in itertools.pairwise(borders)
        if not gap[0] <= first < sum(gap)
    ]
    order = [*rng.permutation(len(pieces)), *rng.integers(0, max(len(pieces), 1), 3)]
    ring = ChannelRing(RATE, 1000)
    for number in order if pieces else []:
        first, stop = pieces[number]
        start_ns = sample_time_ns(T0 + first, RATE) + int(rng.integers(-50, 50)) * 1000
        piece = values[first:stop].astype(np.int32)
        ring.write(Record(NSLC, start_ns + jitter_us * 1000, RATE, piece))
    read, valid = ring.read(T0, T0 + 500)
    there = np.ones(500, dtype=bool)
    there[gap[0] : sum(gap)] = False
    assert np.array_equal(valid, there)
    assert np.array_equal(read, np.where(there, values, 0))


@settings(max_examples=100, deadline=None)
@given(
    offsets_ms=st.lists(st.integers(-4, 3), min_size=1, max_size=10),
    seed=st.integers(0, 1000),
)
def test_every_sample_keeps_the_clock_offset_of_its_record(offsets_ms, seed):
    ring = ChannelRing(RATE, 1000)
    for number in np.random.default_rng(seed).permutation(len(offsets_ms)):
        first = int(number) * 20
        start_ns = sample_time_ns(T0 + first, RATE) + offsets_ms[number] * 1_000_000
        ring.write(Record(NSLC, start_ns, RATE, np.zeros(20, dtype=np.int32)))
    for number, offset_ms in enumerate(offsets_ms):
        for index in (number * 20, number * 20 + 19):
            assert ring.offset_ns(T0 + index) == offset_ms * 1_000_000


@settings(max_examples=200, deadline=None)
@given(
    records=st.lists(
        st.tuples(st.integers(0, 150), st.integers(1, 90), st.sampled_from([None, None, 0, 5])),
        min_size=1,
        max_size=12,
    ),
    bridge_s=st.sampled_from([0.0, 0.1]),
)
def test_every_sample_is_counted_once(records, bridge_s):
    """What was taken, what was there already, too old or no number: all that was sent, and no more.

    Each value is another one, so that a sample taken twice, or at two places, would be found.
    """
    ring = ChannelRing(RATE, CAPACITY, RingRules(bridge_s))
    sent = 0
    seen: set[float] = set()
    for first, count, bad in records:
        values = np.arange(sent + 1, sent + 1 + count, dtype=np.float64)
        if bad is not None and bad < count:
            values[bad] = np.nan
        before = held_values(ring)
        arrival = ring.write(Record(NSLC, sample_time_ns(T0 + first, RATE), RATE, values))
        not_taken = arrival.repeated_samples + arrival.expired_samples + arrival.unusable_samples
        new = held_values(ring) - before
        assert len(new) == count - not_taken
        assert not new & seen
        seen |= new
        sent += count


def held_values(ring: ChannelRing) -> set[float]:
    """The values of received samples."""
    samples, valid = ring.read(ring.start, ring.end)
    for number in range(len(valid)):
        index = ring.start + number
        if ring.marked(Mark.INTERPOLATED, index, index + 1):
            valid[number] = False
    return set(samples[valid].tolist())


class LongWayRing(ChannelRing):
    """Takes every record and answers every read position by position."""

    def _can_append(self, samples: np.ndarray) -> bool:
        return False

    def _whole(self, first: int, stop: int) -> bool:
        return False


# A record begins so many samples behind the end of the data: most continue it.
LEADS = st.just(0) | st.sampled_from([0, 0, -1, 1, -3, 5, -40, 70, -200])
ARRIVALS = st.lists(
    st.tuples(
        LEADS,
        st.integers(1, 20) | st.sampled_from([CAPACITY, CAPACITY + 3, 3 * CAPACITY]),
        st.sampled_from([np.int32] * 8 + [np.float32, np.float64]),
        st.sampled_from([0] * 6 + [1, 6, -4]),  # of the clock, ms
        st.sampled_from([None] * 6 + [0, 3]),  # which sample is no number
        st.booleans(),  # whether it repeats the value that is there
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=200, deadline=None)
@given(arrivals=ARRIVALS, rate=st.sampled_from([Fraction(50), Fraction(100), Fraction(125, 2)]))
def test_short_cuts_change_nothing(arrivals, rate):
    """Continuing records and uninterrupted reads are copied whole; all else is looked at closely.

    At 100 Hz one sample is within the tolerance of the clock.
    """
    ring, long_way = ChannelRing(rate, CAPACITY), LongWayRing(rate, CAPACITY)
    for number, (lead, count, dtype, offset_ms, bad, repeats) in enumerate(arrivals):
        first = (ring.end or T0) + lead
        # What float32 cannot hold of int32, and int32 not of float32.
        value = 100_000_001 * number if dtype is np.int32 else number + 0.25
        values = np.full(count, 1 if repeats else value, dtype=dtype)
        if bad is not None and bad < count and dtype is not np.int32:
            values[bad] = np.nan
        start_ns = sample_time_ns(first, rate) + offset_ms * 1_000_000
        arriving = Record(NSLC, start_ns, rate, values)
        assert ring.locate(arriving) == long_way.locate(arriving)
        assert ring.write(arriving) == long_way.write(arriving)
        assert ring.end == long_way.end
        for back in (CAPACITY + 5, CAPACITY, 25, 8, 1):
            begin = ring.end - back
            assert ring.next_valid(begin) == long_way.next_valid(begin)
            assert_alike(ring, long_way, begin, ring.end)
            assert_alike(ring, long_way, begin, begin + 6)
    for index in range(ring.end - CAPACITY, ring.end):
        if ring.next_valid(index) == index:
            assert ring.offset_ns(index) == long_way.offset_ns(index)


def assert_alike(ring: ChannelRing, long_way: ChannelRing, first: int, stop: int) -> None:
    samples, valid = ring.read(first, stop)
    expected, expected_valid = long_way.read(first, stop)
    assert np.array_equal(samples, expected)
    assert np.array_equal(valid, expected_valid)
    out = np.full(stop - first, np.nan)
    assert ring.read_into(first, stop, out) == valid.all()
    assert np.array_equal(out, expected)
