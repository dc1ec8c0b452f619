"""For any time and rate: index and time are inverse, ordered and free of drift."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from streamer.timebase import (
    NS_PER_S,
    as_rate,
    iso,
    parse_iso,
    sample_index,
    sample_time_ns,
)

# Rates that recorders use, and odd ones; times from 1900 to 2100.
RATES = st.sampled_from([1, 20, 31.25, 40, 50, 100, 100 / 3, 125, 200, 250, 500, 1000]).map(as_rate)
ANY_RATE = RATES | st.fractions(Fraction(1, 100), 5000, max_denominator=10_000)
TIMES_NS = st.integers(-70 * 365 * 86_400 * NS_PER_S, 130 * 365 * 86_400 * NS_PER_S)


@given(index=st.integers(-(10**13), 10**13), rate=ANY_RATE)
def test_the_time_of_an_index_has_that_index(index, rate):
    assert sample_index(sample_time_ns(index, rate), rate) == index


@given(t_ns=TIMES_NS, rate=ANY_RATE)
def test_a_time_is_within_nine_sixteenths_of_its_sample(t_ns, rate):
    """The border lies 7/16 of an interval after a sample; 1 ns is lost to rounding."""
    deviation_ns = t_ns - sample_time_ns(sample_index(t_ns, rate), rate)
    interval_ns = NS_PER_S / rate
    assert -9 * interval_ns / 16 - 1 <= deviation_ns <= 7 * interval_ns / 16 + 1


@given(t_ns=TIMES_NS, later_ns=st.integers(0, 10**15), rate=ANY_RATE)
def test_later_never_has_a_smaller_index(t_ns, later_ns, rate):
    assert sample_index(t_ns, rate) <= sample_index(t_ns + later_ns, rate)


@given(t_ns=TIMES_NS, periods=st.integers(-(10**8), 10**8), rate=ANY_RATE)
def test_whole_seconds_move_the_index_exactly(t_ns, periods, rate):
    """`denominator` seconds hold exactly `numerator` samples, wherever they begin."""
    moved_ns = t_ns + periods * rate.denominator * NS_PER_S
    assert sample_index(moved_ns, rate) == sample_index(t_ns, rate) + periods * rate.numerator


@given(rate=ANY_RATE)
def test_a_rate_survives_the_double_of_a_header(rate):
    assert as_rate(float(rate)) == rate


@given(us=st.integers(-(10**15), 10**17))
def test_iso_and_parse_iso_are_inverse_to_the_microsecond(us):
    assert parse_iso(iso(us * 1000)) == us * 1000


@given(t_ns=TIMES_NS)
def test_iso_text_sorts_like_time(t_ns):
    assert iso(t_ns) < iso(t_ns + 1000)
