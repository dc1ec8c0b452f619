"""UTC integer nanoseconds <-> absolute sample index.

The index of a sample is `(t - 1970) x rate`, rounded: it depends on nothing but the time of the
sample and the rate, so that a restart, another host or another record size gives a sample the same
index. Rates are exact fractions; no float seconds in the data path.
"""

import math
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

# How far a record may start from the sample that continues the last one and still continue it, by
# rate: the limits UUSS uses in production to tell clock jitter from a slip.
_TOLERANCE_NS = ((105, 15_000_000), (255, 4_500_000), (505, 2_500_000), (1005, 1_500_000))


def as_rate(rate_hz: float) -> Fraction:
    """Exact rate in samples/s of a float from a header; 1/3 Hz stays 1/3.

    Raises ValueError unless it is finite and at least 1/10000.
    """
    rate = Fraction(rate_hz).limit_denominator(10_000) if math.isfinite(rate_hz) else Fraction(0)
    if rate <= 0:
        raise ValueError(f"sampling rate must be positive, got {rate_hz}")
    return rate


def sample_index(t_ns: int, rate: Fraction) -> int:
    """Index of the grid position nearest to `t_ns`; from 7/16 of a sample on it is the next one.

    Digitisers like to stamp exactly half a sample, and headers round to 100 us: with the border at
    1/2 the components of one instrument would fall on different sides of it.
    """
    return (16 * t_ns * rate.numerator + 9 * NS_PER_S * rate.denominator) // (
        16 * NS_PER_S * rate.denominator
    )


def sample_time_ns(index: int, rate: Fraction) -> int:
    """Time of the grid position `index`, rounded to the nanosecond."""
    return (2 * index * NS_PER_S * rate.denominator + rate.numerator) // (2 * rate.numerator)


def continuity_tolerance_ns(rate: Fraction) -> int:
    """Largest start-time deviation that still continues the last record, ns."""
    for limit_hz, tolerance_ns in _TOLERANCE_NS:
        if rate <= limit_hz:
            return tolerance_ns
    return NS_PER_S * rate.denominator // rate.numerator


def iso(t_ns: int) -> str:
    """ISO 8601 UTC with 6 decimals and Z."""
    seconds, ns = divmod(t_ns, NS_PER_S)
    return f"{_stamp(seconds)}.{ns // 1000:06d}Z"


@lru_cache(maxsize=256)  # the picks of an event share their seconds
def _stamp(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_iso(text: str) -> int:
    """UTC ns of an ISO 8601 time (`Z` or no zone = UTC) to the microsecond. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        whole = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is outside the calendar") from None
    return int(whole.replace(microsecond=0).timestamp()) * NS_PER_S + whole.microsecond * 1000
