"""How far stations advance at a time: as little as the machine can keep up with."""

from collections.abc import Callable

import structlog

log = structlog.get_logger()

STEPS_S = (1, 2, 5)

# A longer step costs less per second of data: fewer calls, each with more to do. The gap between
# the limits of the busy time is wider than that gain, so that the interval does not swing.
WIDEN_ABOVE, NARROW_BELOW = 0.9, 0.5

# A round that takes long finds more stations due in the next one, and larger batches cost less: a
# machine that is always busy may still keep up, as long as no round comes near the step interval.
LONG_ROUND = 0.8
WINDOW_S = 5.0


class Pace:
    """The step interval, wider under overload and narrower again.

    `least_s`: the interval that is wanted; `now_s` gives seconds of a clock that does not jump.
    """

    def __init__(self, least_s: int, now_s: Callable[[], float]) -> None:
        self._steps_s = [step for step in STEPS_S if step >= least_s]
        self._at = 0
        self._now_s = now_s
        self._since_s = now_s()
        self._busy_s, self._rounds = 0.0, 0
        self.widened = 0  # times

    @property
    def step_s(self) -> int:
        """The present step interval, s."""
        return self._steps_s[self._at]

    def note(self, round_s: float) -> None:
        """A round over all stations that were due took `round_s`; 0 if none was."""
        self._busy_s += round_s
        self._rounds += round_s > 0
        elapsed_s = self._now_s() - self._since_s
        if elapsed_s < WINDOW_S:
            return
        load = self._busy_s / elapsed_s
        mean_round_s = self._busy_s / max(self._rounds, 1)
        self._busy_s, self._rounds, self._since_s = 0.0, 0, self._now_s()
        before_s = self.step_s
        if load > WIDEN_ABOVE and mean_round_s > LONG_ROUND * self.step_s:
            self._at = min(self._at + 1, len(self._steps_s) - 1)
        elif load < NARROW_BELOW:
            self._at = max(self._at - 1, 0)
        if self.step_s != before_s:
            self.widened += self.step_s > before_s
            log.warning("step_interval", step_s=self.step_s, before_s=before_s, load=round(load, 2))
