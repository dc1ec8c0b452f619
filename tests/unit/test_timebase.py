"""Sample indices are a matter of time and rate alone."""

from fractions import Fraction

import pytest

from streamer.timebase import (
    NS_PER_S,
    as_rate,
    continuity_tolerance_ns,
    iso,
    parse_iso,
    sample_index,
    sample_time_ns,
)

HZ_100 = Fraction(100)


@pytest.mark.parametrize(
    ("rate_hz", "rate"),
    [
        (100.0, Fraction(100)),
        (1 / 3, Fraction(1, 3)),
        (0.1, Fraction(1, 10)),
        (33.333332061767578, Fraction(100, 3)),  # a miniSEED 2 header holds single precision
        (31.25, Fraction(125, 4)),
    ],
)
def test_rates_from_headers_become_the_fractions_that_were_meant(rate_hz, rate):
    assert as_rate(rate_hz) == rate


@pytest.mark.parametrize("rate_hz", [0.0, -100.0, 1e-9, float("nan"), float("inf"), -float("inf")])
def test_a_rate_that_is_no_positive_number_is_refused(rate_hz):
    with pytest.raises(ValueError, match="must be positive"):
        as_rate(rate_hz)


def test_the_index_counts_from_1970():
    t_ns = parse_iso("2010-05-27T16:24:33.15Z")
    assert sample_index(0, HZ_100) == 0
    assert sample_index(t_ns, HZ_100) == t_ns // 10_000_000
    assert sample_time_ns(t_ns // 10_000_000, HZ_100) == t_ns


@pytest.mark.parametrize(
    ("offset_ns", "index"),
    [(0, 0), (4_374_999, 0), (4_375_000, 1), (5_000_000, 1), (9_999_999, 1), (-5_624_999, 0)],
)
def test_from_seven_sixteenths_of_a_sample_on_it_is_the_next_one(offset_ns, index):
    """Half a sample, with the 100 us that headers round to, is on one side for all components."""
    start = 127_000_000_000
    t_ns = start * 10_000_000 + offset_ns
    assert sample_index(t_ns, HZ_100) == start + index


def test_odd_rates_do_not_drift_over_decades():
    """50 years at 100/3 Hz: a float interval would be off by many samples."""
    rate = as_rate(100 / 3)
    seconds = 50 * 365 * 86_400
    assert sample_index(3 * seconds * NS_PER_S, rate) == 100 * seconds


@pytest.mark.parametrize(
    ("rate_hz", "tolerance_ns"),
    [
        (1, 15_000_000),
        (100, 15_000_000),
        (105, 15_000_000),
        (106, 4_500_000),
        (250, 4_500_000),
        (500, 2_500_000),
        (1000, 1_500_000),
        (2000, 500_000),
    ],
)
def test_tolerance_of_continuity_shrinks_with_the_rate(rate_hz, tolerance_ns):
    assert continuity_tolerance_ns(Fraction(rate_hz)) == tolerance_ns


@pytest.mark.parametrize(
    ("text", "t_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01.5", 1_500_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999999Z", -1000),
        ("1970-01-01T00:00:00.123456789Z", 123_456_000),
    ],
)
def test_parse_iso_takes_times_without_a_zone_as_utc(text, t_ns):
    assert parse_iso(text) == t_ns


@pytest.mark.parametrize("text", ["", "now", "2010-13-01", "0001-01-01T00:00:00+23:59"])
def test_parse_iso_refuses_what_is_no_time(text):
    with pytest.raises(ValueError, match=r"isoformat|month|calendar"):
        parse_iso(text)


@pytest.mark.parametrize(
    ("t_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_274_977_473_150_000_999, "2010-05-27T16:24:33.150000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_iso_has_six_decimals_and_never_rounds_up(t_ns, text):
    assert iso(t_ns) == text
