"""From when on a reader of the streams reads."""

import pytest

from streamer.bus.reading import id_since
from streamer.errors import ConfigError

NOW_NS = 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("text", "first_ms"),
    [
        ("10m", 1_700_000_000_123 - 600_000),
        ("90s", 1_700_000_000_123 - 90_000),
        ("2h", 1_700_000_000_123 - 7_200_000),
        ("1d", 1_700_000_000_123 - 86_400_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20.500", 1_700_000_000_500),
    ],
)
def test_the_first_entry_read_is_that_of_the_moment_itself(text, first_ms):
    milliseconds, sequence = map(int, id_since(text, NOW_NS).split("-"))
    assert (milliseconds, sequence) == (first_ms - 1, 2**64 - 1)


def test_now_is_what_comes_and_earliest_and_before_1970_are_all_there_is():
    assert id_since("now", NOW_NS) == "$"
    assert id_since("earliest", NOW_NS) == "0-0"
    assert id_since("30000d", NOW_NS) == "0-0"
    assert id_since("1960-01-01", NOW_NS) == "0-0"


@pytest.mark.parametrize("text", ["", "yesterday", "-5m", "5 m", "1w"])
def test_anything_else_is_refused_with_what_is_possible(text):
    with pytest.raises(ConfigError, match="10m or 2h"):
        id_since(text, NOW_NS)
