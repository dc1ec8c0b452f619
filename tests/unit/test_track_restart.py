"""Where a track goes on that was judged before a restart."""

from fractions import Fraction

from track_parts import NOW_NS, T0_BLOCK, Listener, advance, feed, new_station, taken

from model.preprocess import BLOCK
from streamer.picking.judged import LONGEST_REBUILD_NS, Judged
from streamer.picking.track import Context, Sampling, Step, Track
from streamer.timebase import NS_PER_S

CONTEXT = Context(history=3, network=2)
T0_SAMPLE = T0_BLOCK * BLOCK


def track_with(judged_s: float, first_s: int, stop_s: int, **judged: int) -> Track:
    """Judged up to `judged_s`; data have come from `first_s` to `stop_s`. Seconds from T0."""
    station = new_station()
    feed(station, T0_SAMPLE + first_s * BLOCK, T0_SAMPLE + stop_s * BLOCK)
    before = Judged(time_ns=round((T0_BLOCK + judged_s) * NS_PER_S), rate="100", **judged)
    return Track(station, Sampling.RESAMPLE, CONTEXT, Listener(), before=before)


def outline(steps: list[Step]) -> list[tuple[int, bool]]:
    return [(block - T0_BLOCK, step.again) for step in steps for block in taken([step])]


def test_blocks_that_were_judged_are_taken_again_and_marked():
    track = track_with(3, 0, 5)
    assert outline(advance(track)) == [(n, n < 3) for n in range(5)]
    assert not track.learns
    assert track.restart_gap_s == 0


def test_no_step_goes_beyond_the_place_of_the_restart():
    track = track_with(3, 0, 5)
    assert track.ready_blocks(NOW_NS) == 3
    advance(track, 3)
    assert track.next_block == T0_BLOCK + 5


def test_data_that_begin_later_are_a_gap_of_known_length():
    track = track_with(3, 10, 12)
    assert outline(advance(track)) == [(10, False), (11, False)]
    assert track.restart_gap_s == 7


def test_data_that_begin_long_before_are_another_recording():
    """They are judged as if nothing had been."""
    track = track_with(LONGEST_REBUILD_NS / NS_PER_S + 1, 0, 2)
    assert outline(advance(track)) == [(0, False), (1, False)]
    assert track.restart_gap_s == 0


def test_a_flush_is_due_again_where_it_was():
    flushed_ns = (T0_BLOCK + 2) * NS_PER_S
    track = track_with(4, 0, 6, flushed_ns=flushed_ns)
    assert track.ready_blocks(NOW_NS) == 2
    track.advance(2)
    assert track.flush_due
    assert track.ready_blocks(NOW_NS) == 0
    step = track.finish()
    assert step is not None
    assert step.again
    assert outline(advance(track)) == [(2, True), (3, True), (4, False), (5, False)]


def test_how_far_it_was_judged_stays_known_until_it_is_there_again():
    track = track_with(3, 0, 2)
    before = track.judged()
    advance(track)
    assert track.judged() == before


def test_a_station_judged_at_another_rate_goes_on_at_the_same_time():
    station = new_station()
    feed(station, T0_BLOCK * 50, T0_BLOCK * 50 + 500, rate=Fraction(50))
    before = Judged(time_ns=(T0_BLOCK + 4) * NS_PER_S, rate="100")
    track = Track(station, Sampling.NATIVE, CONTEXT, Listener(), before=before)
    assert [step.again for step in advance(track)] == [True, True, False, False, False]
