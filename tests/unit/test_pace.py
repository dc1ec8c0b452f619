"""The step interval: wide enough for the machine to keep up, and no wider for longer than that."""

from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from streamer.picking.pace import NARROW_BELOW, STEPS_S, WIDEN_ABOVE, WINDOW_S, Pace

TICK_S = 0.1


class Scene:
    """A clock that the test moves."""

    def __init__(self, least_s: int = 1) -> None:
        self.now_s = 1000.0
        self.pace = Pace(least_s, lambda: self.now_s)

    def run(self, load: float, for_s: float) -> int:
        """The interval after rounds of one interval each, of which this share went into steps."""
        end_s = self.now_s + for_s
        while (rest_s := end_s - self.now_s) > 1e-6:
            length_s = min(self.pace.step_s, rest_s)
            self.now_s += length_s
            self.pace.note(load * length_s)
        return self.pace.step_s


def test_the_interval_is_the_configured_one_as_long_as_the_machine_keeps_up():
    for least_s in STEPS_S:
        assert Scene(least_s).run(WIDEN_ABOVE - 0.05, 60) == least_s


def test_under_overload_the_interval_widens_window_by_window_up_to_the_widest():
    """Not before a whole window was too busy: a burst is no overload."""
    scene = Scene()
    assert scene.run(1.0, WINDOW_S - TICK_S) == 1
    assert scene.run(1.0, 2 * TICK_S) == 2
    assert scene.run(1.0, WINDOW_S + TICK_S) == 5
    assert scene.run(1.0, 10 * WINDOW_S) == 5
    assert scene.pace.widened == 2


def test_a_machine_that_is_always_busy_with_short_rounds_keeps_up():
    """More stations in a round make it longer, and cheaper for each: no overload yet."""
    scene = Scene()
    for _ in range(200):
        scene.now_s += 0.4
        scene.pace.note(0.4)
    assert scene.pace.step_s == 1


def test_a_burst_of_a_second_is_no_overload():
    scene = Scene()
    for _ in range(5):
        scene.run(1.0, 1.0)
        scene.run(0.5, 4.0)
    assert scene.pace.step_s == 1


def test_between_the_limits_the_interval_stays_as_it_is():
    """Wider steps cost less: what made them necessary is not over when the load falls a little."""
    scene = Scene()
    scene.run(1.0, 2 * WINDOW_S + 1)
    assert scene.run((NARROW_BELOW + WIDEN_ABOVE) / 2, 60) == 5
    assert scene.pace.widened == 2


def test_the_interval_narrows_step_by_step_and_never_below_the_configured_one():
    for least_s, expected in ((1, [5, 2, 1, 1]), (2, [5, 2, 2, 2]), (5, [5, 5, 5, 5])):
        scene = Scene(least_s)
        scene.run(1.0, 3 * WINDOW_S + 1)
        intervals = [scene.pace.step_s]
        intervals += [scene.run(NARROW_BELOW - 0.1, WINDOW_S + TICK_S) for _ in range(3)]
        assert intervals == expected


def test_a_load_that_wide_steps_can_carry_does_not_swing():
    """A wider step costs less, but not so much less that it seems idle."""
    scene = Scene()
    cost = {1: 1.1, 2: 0.75, 5: 0.55}  # CPU s per s of data
    for _ in range(60):
        scene.run(min(cost[scene.pace.step_s], 1.0), 1)
    assert (scene.pace.step_s, scene.pace.widened) == (2, 1)


def test_time_in_which_nothing_was_noted_counts_as_idle():
    """One long step is measured against the time it took."""
    scene = Scene()
    scene.now_s += 4.0
    scene.pace.note(4.0)
    scene.now_s += 4.0
    scene.pace.note(0.0)
    assert scene.pace.step_s == 1
    scene.now_s += 20.0
    scene.pace.note(20.0)
    assert scene.pace.step_s == 2


@pytest.mark.parametrize("least_s", [1, 2])
def test_every_change_is_logged_once_and_nothing_else(least_s):
    scene = Scene(least_s)
    with capture_logs() as lines:
        scene.run(1.0, 10 * WINDOW_S)
        scene.run(0.1, 10 * WINDOW_S)
    widths = [step for step in STEPS_S if step >= least_s]
    path = widths + widths[-2::-1]
    assert [(line["event"], line["before_s"], line["step_s"]) for line in lines] == [
        ("step_interval", before, after) for before, after in pairwise(path)
    ]
    assert all(line["load"] > WIDEN_ABOVE or line["load"] < NARROW_BELOW for line in lines)
