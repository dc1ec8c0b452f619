"""The ring of a channel: what each record is to it, and that no sample changes place or value."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.leap import LeapSeconds
from streamer.waveforms.records import CALIBRATION, CLOCK_DOUBTFUL, NOT_KNOWN, Record
from streamer.waveforms.ring import CONTINUED, ChannelRing, Mark, RingRules, Verdict

NSLC = Nslc("XX", "A", "", "HHZ")
HZ_100 = Fraction(100)
T0 = 100 * 1_000_000_000  # index of the first sample in most tests, at 100 Hz


def record(first: int, samples, *, rate: Fraction = HZ_100, offset_ns: int = 0) -> Record:
    values = np.arange(first, first + samples) if isinstance(samples, int) else np.array(samples)
    if values.dtype == np.int64:
        values = values.astype(np.int32)
    return Record(NSLC, sample_time_ns(first, rate) + offset_ns, rate, values)


def ring(capacity: int = 1000, rate: Fraction = HZ_100) -> ChannelRing:
    return ChannelRing(rate, capacity)


def content(a_ring: ChannelRing, first: int, stop: int) -> list[float | None]:
    samples, valid = a_ring.read(first, stop)
    assert not samples[~valid].any()
    return [float(x) if ok else None for x, ok in zip(samples, valid, strict=True)]


def test_the_first_record_and_what_continues_it_are_accepted():
    a_ring = ring()
    assert a_ring.end == 0
    assert a_ring.write(record(T0, [1, 2, 3])).verdict is Verdict.ACCEPTED
    assert a_ring.write(record(T0 + 3, [4])).verdict is Verdict.ACCEPTED
    assert content(a_ring, T0 - 1, T0 + 5) == [None, 1, 2, 3, 4, None]
    assert a_ring.end == T0 + 4


def test_missing_samples_are_a_gap_with_their_count():
    a_ring = ring()
    a_ring.write(record(T0, [1, 2, 3]))
    arrival = a_ring.write(record(T0 + 5, [6, 7]))
    assert (arrival.verdict, arrival.missing_samples) == (Verdict.GAP, 2)
    assert content(a_ring, T0, T0 + 7) == [1, 2, 3, None, None, 6, 7]


def test_a_record_that_fills_a_gap_is_late():
    a_ring = ring()
    a_ring.write(record(T0, [1, 2]))
    a_ring.write(record(T0 + 5, [6]))
    assert a_ring.write(record(T0 + 3, [4])).verdict is Verdict.LATE
    assert content(a_ring, T0, T0 + 6) == [1, 2, None, 4, None, 6]


def test_the_first_values_stay_where_records_overlap():
    a_ring = ring()
    a_ring.write(record(T0, [1, 2, 3]))
    assert a_ring.write(record(T0 + 1, [20, 30, 40])).verdict is Verdict.OVERLAP
    assert content(a_ring, T0, T0 + 4) == [1, 2, 3, 40]


def test_a_record_that_spans_a_gap_fills_only_the_gap():
    a_ring = ring()
    a_ring.write(record(T0, [1, 2]))
    a_ring.write(record(T0 + 4, [5]))
    assert a_ring.write(record(T0, [10, 20, 30, 40, 50, 60])).verdict is Verdict.LATE
    assert content(a_ring, T0, T0 + 6) == [1, 2, 30, 40, 5, 60]


@pytest.mark.parametrize(("first", "count"), [(0, 5), (1, 3), (0, 1), (4, 1)])
def test_what_is_there_already_is_a_duplicate(first, count):
    a_ring = ring()
    a_ring.write(record(T0, [1, 2, 3, 4, 5]))
    repeated = record(T0 + first, [1, 2, 3, 4, 5][first : first + count])
    assert a_ring.write(repeated).verdict is Verdict.DUPLICATE
    assert content(a_ring, T0, T0 + 5) == [1, 2, 3, 4, 5]


def test_an_overlap_of_one_sample_is_told_from_a_clock_that_is_early():
    """At 100 Hz one sample is within the tolerance of the clock: the repeated value decides."""
    overlap, early = ring(), ring()
    for a_ring in (overlap, early):
        a_ring.write(record(T0, [1, 2, 3]))
    assert overlap.write(record(T0 + 2, [3, 4])).verdict is Verdict.OVERLAP
    assert early.write(record(T0 + 2, [4, 5])).verdict is Verdict.ACCEPTED
    assert content(overlap, T0, T0 + 5) == [1, 2, 3, 4, None]
    assert content(early, T0, T0 + 5) == [1, 2, 3, 4, 5]


def test_what_is_older_than_the_ring_reaches_is_expired():
    a_ring = ring(capacity=10)
    a_ring.write(record(T0, 10))
    assert a_ring.write(record(T0 - 5, [1, 2, 3, 4, 5])).verdict is Verdict.EXPIRED
    assert a_ring.start == T0


def test_the_part_within_reach_of_an_old_record_is_taken():
    a_ring = ring(capacity=10)
    a_ring.write(record(T0, [0]))
    a_ring.write(record(T0 + 8, [8, 9]))
    assert a_ring.write(record(T0 - 3, [-3, -2, -1, 0, 1, 2])).verdict is Verdict.LATE
    assert content(a_ring, T0 - 3, T0 + 4) == [None, None, None, 0, 1, 2, None]


def test_the_newest_samples_displace_the_oldest():
    a_ring = ring(capacity=10)
    for first in range(0, 40, 4):
        a_ring.write(record(T0 + first, 4))
    assert a_ring.start == T0 + 30
    samples, valid = a_ring.read(T0 + 29, T0 + 40)
    assert valid.tolist() == [False] + [True] * 10
    expected = np.arange(T0 + 30, T0 + 40).astype(np.int32)
    assert np.array_equal(samples[1:], expected)


def test_a_record_longer_than_the_ring_leaves_its_end():
    a_ring = ring(capacity=10)
    a_ring.write(record(T0, [1, 2, 3]))
    assert a_ring.write(record(T0 + 3, list(range(100)))).verdict is Verdict.ACCEPTED
    assert content(a_ring, T0 + 93, T0 + 103) == list(range(90, 100))


def test_a_jump_longer_than_the_ring_leaves_nothing_of_before():
    a_ring = ring(capacity=10)
    a_ring.write(record(T0, list(range(10))))
    arrival = a_ring.write(record(T0 + 1_000_003, [1, 2]))
    assert (arrival.verdict, arrival.missing_samples) == (Verdict.GAP, 999_993)
    assert content(a_ring, T0 + 999_995, T0 + 1_000_005) == [None] * 8 + [1, 2]


def test_next_valid_skips_gaps():
    a_ring = ring(capacity=100)
    assert a_ring.next_valid(0) is None
    a_ring.write(record(T0, 3))
    a_ring.write(record(T0 + 50, 3))
    assert a_ring.next_valid(0) == T0
    assert a_ring.next_valid(T0 + 2) == T0 + 2
    assert a_ring.next_valid(T0 + 3) == T0 + 50
    assert a_ring.next_valid(T0 + 53) is None


def test_the_first_gap_lies_between_samples_and_may_begin_before_where_it_is_looked_for():
    a_ring = ring(capacity=100)
    assert a_ring.first_gap(0) is None
    a_ring.write(record(T0, 10))
    assert a_ring.first_gap(0) is None, "what is before the data is no gap"
    a_ring.write(record(T0 + 15, 10))
    a_ring.write(record(T0 + 90, 5))
    assert [a_ring.first_gap(first) for first in (0, T0 + 9, T0 + 12)] == [T0 + 10] * 2 + [T0 + 12]
    assert a_ring.first_gap(T0 + 15) == T0 + 25
    a_ring.write(record(T0 + 10, 5))
    assert a_ring.first_gap(0) == T0 + 25
    a_ring.write(record(T0 + 25, 65))
    assert a_ring.first_gap(0) is None
    a_ring.write(record(T0 + 130, 5))
    assert a_ring.first_gap(0) == T0 + 95, "of what the ring still holds"


def test_a_record_of_another_rate_is_an_error():
    with pytest.raises(ValueError, match="50 Hz"):
        ring().write(record(T0, 3, rate=Fraction(50)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_valid(bad):
    """One NaN would silence the noise level of a component for half a minute."""
    a_ring = ring()
    a_ring.write(record(T0, np.array([1, bad, 3], dtype=np.float32)))
    assert content(a_ring, T0, T0 + 3) == [1, None, 3]


@pytest.mark.parametrize(
    ("dtypes", "values"),
    [
        (["int32", "float32"], [2**31 - 1, 0.1]),
        (["float32", "int32"], [0.1, 2**31 - 1]),
        (["float64", "int32", "float32"], [1 / 3, 2**31 - 1, 0.1]),
    ],
)
def test_samples_of_mixed_types_are_not_rounded(dtypes, values):
    a_ring = ring()
    sent = [np.array([value], dtype=dtype) for value, dtype in zip(values, dtypes, strict=True)]
    for position, samples in enumerate(sent):
        a_ring.write(record(T0 + position, samples))
    assert content(a_ring, T0, T0 + len(sent)) == [float(samples[0]) for samples in sent]


@pytest.mark.parametrize("rate", [Fraction(100), Fraction(200), Fraction(125, 2), Fraction(50)])
def test_components_stamped_between_two_samples_stay_aligned(rate):
    """Half a sample, and headers rounded to 100 us on either side of it: one index."""
    half_ns = NS_PER_S * rate.denominator // (2 * rate.numerator)
    for jitter_ns in (-50_000, 0, 50_000):
        a_ring = ring(rate=rate)
        start_ns = sample_time_ns(1_000_000, rate) + half_ns + jitter_ns
        a_ring.write(Record(NSLC, start_ns, rate, np.ones(5, dtype=np.int32)))
        assert a_ring.next_valid(0) == 1_000_001
        assert a_ring.offset_ns(1_000_003) == pytest.approx(-half_ns, abs=600_000)


@pytest.mark.parametrize("offset_ms", [-5, -4, 0, 3, 4])
def test_the_offset_gives_the_true_time_back(offset_ms):
    a_ring = ring()
    a_ring.write(record(T0, 100, offset_ns=offset_ms * 1_000_000))
    assert a_ring.next_valid(0) == T0
    assert a_ring.offset_ns(T0 + 50) == offset_ms * 1_000_000


@pytest.mark.parametrize("mark_ns", range(-900_000, 1_000_000, 100_000))
def test_headers_rounded_to_100_us_give_one_offset(mark_ns):
    """The border between two milliseconds lies on no mark of 100 us."""
    offsets = set()
    for jitter_ns in (-20_000, -1, 0, 1, 20_000):
        a_ring = ring()
        a_ring.write(record(T0, 10, offset_ns=mark_ns + jitter_ns))
        offsets.add(a_ring.offset_ns(T0))
    assert len(offsets) == 1
    assert abs(offsets.pop() - mark_ns) <= 530_000


def test_jitter_within_the_tolerance_continues_the_data_and_is_remembered():
    a_ring = ring()
    a_ring.write(record(T0, 100))
    a_ring.write(record(T0 + 100, 100, offset_ns=12_000_000))
    a_ring.write(record(T0 + 200, 100, offset_ns=-3_000_000))
    assert a_ring.read(T0, T0 + 300)[1].all()
    offsets = [a_ring.offset_ns(T0 + index) for index in (0, 99, 100, 199, 200, 299)]
    assert offsets == [0, 0, 12_000_000, 12_000_000, -3_000_000, -3_000_000]


def test_a_slip_beyond_the_tolerance_is_a_gap():
    a_ring = ring()
    a_ring.write(record(T0, 100))
    arrival = a_ring.write(record(T0 + 100, 100, offset_ns=16_000_000))
    assert (arrival.verdict, arrival.missing_samples) == (Verdict.GAP, 2)
    assert a_ring.offset_ns(T0 + 102) == -4_000_000


def test_offsets_do_not_depend_on_the_order_of_records():
    pieces = [
        record(T0, 100),
        record(T0 + 100, 100, offset_ns=3_000_000),
        record(T0 + 200, 100),
        record(T0 + 300, 100, offset_ns=-4_000_000),
    ]
    expected = [0, 3_000_000, 0, -4_000_000]
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 2, 1], [0, 3, 1, 2]):
        a_ring = ring()
        for number in order:
            a_ring.write(pieces[number])
        assert [a_ring.offset_ns(T0 + index) for index in (50, 150, 250, 350)] == expected


def test_remembered_offsets_are_bounded():
    """A clock that jitters for ever must not fill the memory."""
    a_ring = ring(capacity=1000)
    for number in range(1000):
        a_ring.write(record(T0 + 10 * number, 10, offset_ns=(number % 5) * 1_000_000))
    assert len(a_ring._offset_from) == len(a_ring._offsets_ms) <= ChannelRing._MAX_OFFSETS
    assert a_ring.offset_ns(T0 + 9995) == 999 % 5 * 1_000_000
    assert a_ring.offset_ns(T0 + 9985) == 998 % 5 * 1_000_000


def test_an_overlap_with_other_values_is_a_tear_of_time_and_marked():
    """The data go on, but the clock was set: one of the two times is wrong."""
    a_ring = ring()
    a_ring.write(record(T0, 100))
    arrival = a_ring.write(record(T0 + 80, [7] * 50))
    assert (arrival.verdict, arrival.torn, arrival.repeated_samples) == (Verdict.OVERLAP, True, 20)
    assert a_ring.marked(Mark.DOUBTFUL_TIME, T0 + 80, T0 + 81)
    assert not a_ring.marked(Mark.DOUBTFUL_TIME, T0, T0 + 80)
    resent = ring()
    resent.write(record(T0, 100))
    assert not resent.write(record(T0 + 80, 50)).torn
    assert not resent.marked(Mark.DOUBTFUL_TIME, T0, T0 + 130)


@pytest.mark.parametrize(
    ("quality", "flags", "doubtful"),
    [
        (100, 0, False),
        (50, 0, False),
        (49, 0, True),
        (0, 0, False),  # never set
        (NOT_KNOWN, 0, False),
        (100, CLOCK_DOUBTFUL, True),
    ],
)
def test_samples_of_a_bad_clock_are_marked(quality, flags, doubtful):
    a_ring = ChannelRing(HZ_100, 1000, RingRules(timing_quality_min=50))
    a_ring.write(record(T0, 10))
    arriving = replace(record(T0 + 10, 10), timing_quality=quality, flags=flags)
    assert a_ring.write(arriving) is CONTINUED
    assert a_ring.marked(Mark.DOUBTFUL_TIME, T0 + 10, T0 + 20) is doubtful
    assert not a_ring.marked(Mark.DOUBTFUL_TIME, T0, T0 + 10)


def test_samples_with_a_calibration_signal_are_marked():
    a_ring = ring()
    a_ring.write(replace(record(T0, 10), flags=CALIBRATION))
    a_ring.write(record(T0 + 10, 10))
    assert a_ring.marked(Mark.CALIBRATION, T0 + 9, T0 + 20)
    assert not a_ring.marked(Mark.CALIBRATION, T0 + 10, T0 + 20)


def bridging_ring(bridge_s: float = 0.05) -> ChannelRing:
    return ChannelRing(HZ_100, 1000, RingRules(bridge_s=bridge_s))


def test_a_small_gap_is_bridged_and_the_samples_marked():
    a_ring = bridging_ring()
    a_ring.write(record(T0, [0, 10]))
    arrival = a_ring.write(record(T0 + 5, [50, 60]))
    assert (arrival.verdict, arrival.missing_samples, arrival.bridged_samples) == (
        Verdict.GAP,
        3,
        3,
    )
    assert content(a_ring, T0, T0 + 7) == [0, 10, 20, 30, 40, 50, 60]
    assert a_ring.marked(Mark.INTERPOLATED, T0 + 4, T0 + 5)
    assert not a_ring.marked(Mark.INTERPOLATED, T0, T0 + 2)


@pytest.mark.parametrize(("missing", "bridge_s"), [(6, 0.05), (2, 0)])
def test_a_longer_gap_is_never_filled_and_none_unless_asked_for(missing, bridge_s):
    a_ring = bridging_ring(bridge_s)
    a_ring.write(record(T0, [0, 10]))
    assert a_ring.write(record(T0 + 2 + missing, [50])).bridged_samples == 0
    assert content(a_ring, T0 + 2, T0 + 2 + missing) == [None] * missing


def test_a_gap_beside_a_sample_that_is_no_number_is_not_bridged():
    a_ring = bridging_ring()
    a_ring.write(record(T0, np.array([1, np.nan], dtype=np.float32)))
    assert a_ring.write(record(T0 + 3, np.array([4], dtype=np.float32))).bridged_samples == 0


def test_what_comes_late_takes_the_place_of_what_was_interpolated():
    a_ring = bridging_ring()
    a_ring.write(record(T0, [0, 10]))
    a_ring.write(record(T0 + 5, [50]))
    arrival = a_ring.write(record(T0 + 2, [7, 8]))
    assert (arrival.verdict, arrival.late) == (Verdict.LATE, (T0 + 2, T0 + 4))
    assert content(a_ring, T0, T0 + 6) == [0, 10, 7, 8, 40, 50]
    assert not a_ring.marked(Mark.INTERPOLATED, T0, T0 + 4)
    assert a_ring.marked(Mark.INTERPOLATED, T0, T0 + 5)


MIDNIGHT_NS = 1_483_228_800 * NS_PER_S  # 2017-01-01, after the last leap second there was


def stamped(start_s: float, first: int, samples: int) -> Record:
    """A record stamped so long after the midnight; its samples are those from number `first` on."""
    start_ns = MIDNIGHT_NS + round(start_s * NS_PER_S)
    return Record(NSLC, start_ns, HZ_100, np.arange(first, first + samples, dtype=np.int32))


@pytest.mark.parametrize(
    "cuts_s", [(-5, 4, 13), (-5, -2, 0.5, 13), (-10, 0, 0.3, 0.9, 3), (-3, 50)]
)
def test_a_leap_second_neither_tears_nor_repeats_anything(cuts_s):
    """In true seconds; POSIX time stamps the second from 0 to 1 like the one after it."""
    a_ring, number = ring(capacity=20_000), 0
    for start_s, stop_s in itertools.pairwise([*cuts_s, cuts_s[-1] + 5]):
        stamp_s = start_s - 1 if start_s >= 1 else start_s  # 23:59:60.3 is 00:00:00.3
        count = round((stop_s - start_s) * 100)
        arrival = a_ring.write(stamped(stamp_s, number, count))
        assert arrival.verdict is Verdict.ACCEPTED
        assert arrival.repeated_samples == 0
        number += count
    first = a_ring.end - number
    assert content(a_ring, first, a_ring.end) == list(range(number))
    stamp_s = (cuts_s[-1] + 5 - 1) if cuts_s[-1] + 5 > 1 else 0
    true_ns = sample_time_ns(a_ring.end - 1, HZ_100) + a_ring.offset_ns(a_ring.end - 1)
    assert true_ns == MIDNIGHT_NS + round((stamp_s - 0.01) * NS_PER_S)


def test_channels_of_a_station_share_the_leap_second_even_across_a_gap():
    leap_seconds = LeapSeconds()
    one, other = (ChannelRing(HZ_100, 5000, leap_seconds=leap_seconds) for _ in range(2))
    for a_ring, stop_s in ((one, 5), (other, -2)):
        a_ring.write(stamped(-5, 0, round((stop_s + 5) * 100)))
    assert one.write(stamped(4, 1000, 100)).leap_second
    gap = other.write(stamped(4, 1000, 100))
    assert (gap.verdict, gap.missing_samples) == (Verdict.GAP, 700)
    assert one.end == other.end


@pytest.mark.parametrize("start_s", [-100, 90_000, 20 * 86_400])
def test_a_second_back_at_another_time_is_a_tear(start_s):
    a_ring = ring()
    a_ring.write(stamped(start_s, 0, 500))
    arrival = a_ring.write(stamped(start_s + 4, 500, 500))
    assert (arrival.verdict, arrival.torn) == (Verdict.OVERLAP, True)


def test_a_record_sent_again_near_a_leap_second_is_no_leap_second():
    a_ring = ring()
    a_ring.write(stamped(2, 0, 300))
    assert a_ring.write(stamped(4, 200, 300)).verdict is Verdict.OVERLAP
    assert content(a_ring, a_ring.end - 500, a_ring.end) == list(range(500))
