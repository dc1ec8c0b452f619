"""The rest between rounds over the stations."""

import pytest

from streamer.pipeline import REST, rest_s

TICK_S = 0.05


def test_short_rounds_begin_with_the_ticks():
    assert rest_s(TICK_S, 0.01) == pytest.approx(0.04)
    assert rest_s(TICK_S, 0.0) == TICK_S


def test_long_rounds_leave_a_share_for_what_arrives_and_for_a_larger_batch():
    """But no more than a tick: a round of a second is not made worse."""
    assert rest_s(TICK_S, 0.1) == pytest.approx(REST * 0.1)
    assert rest_s(TICK_S, 1.0) == TICK_S
