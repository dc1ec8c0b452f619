"""Clocks are passed in: the daemon passes `time.time_ns`, an offline run the time of its data."""

from collections.abc import Callable

Clock = Callable[[], int]  # UTC ns


class DataClock:
    """A clock that a reader of archives advances to the time of what it reads."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        """UTC ns of the data read so far; 0 before any."""
        return self.now_ns

    def advance(self, t_ns: int) -> None:
        """Move to `t_ns`; never back."""
        self.now_ns = max(self.now_ns, t_ns)
