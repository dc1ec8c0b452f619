"""Leap seconds: a day of 86401 s on a time scale whose days have 86400.

POSIX time gives 23:59:60 and the 00:00:00 after it the same second. A record that begins behind the
leap second is stamped one second before the sample that continues the last one, though nothing is
torn. So the sample grid of the station runs one second ahead of POSIX time from there on, until the
daemon is restarted; the clock offset of the channel takes the second out of pick times again.
"""

from datetime import UTC, datetime

from streamer.timebase import NS_PER_S

# Leap seconds are the last of June or December (UTC). A digitiser may learn of one only when it
# next sees its satellites.
_MONTHS = (1, 7)
_NOTICED_WITHIN_NS = 24 * 3600 * NS_PER_S


def leap_midnight_ns(t_ns: int) -> int | None:
    """The midnight a leap second may have come before, if it lies within the day before `t_ns`."""
    moment = datetime.fromtimestamp(t_ns // NS_PER_S, UTC)
    if moment.month not in _MONTHS or moment.day > 2:
        return None
    midnight = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    midnight_ns = int(midnight.timestamp()) * NS_PER_S
    return midnight_ns if t_ns - midnight_ns < _NOTICED_WITHIN_NS else None


class LeapSeconds:
    """The leap seconds that one station has seen; its channels share them.

    `ahead_ns`: how far its grid runs ahead of POSIX time, for what is stamped from `since_ns` on.
    """

    def __init__(self) -> None:
        self.ahead_ns = 0
        self.since_ns = 0
        self._midnight_ns = 0

    def note(self, midnight_ns: int, start_ns: int) -> bool:
        """There was one before a record stamped `start_ns`; False if it is known already."""
        if midnight_ns == self._midnight_ns:
            return False
        self.ahead_ns += NS_PER_S
        self._midnight_ns = midnight_ns
        self.since_ns = min(midnight_ns, start_ns)  # some stamp the leap second 23:59:59 again
        return True

    def grid_ns(self, start_ns: int, expected_ns: int, tolerance_ns: int) -> int:
        """Where a record stamped `start_ns` begins on the grid.

        A stamp in the first second of the day stands for two of them: what continues the data, at
        `expected_ns` of the grid, is the one before.
        """
        before = start_ns + self.ahead_ns - NS_PER_S
        if start_ns < self.since_ns:
            return before
        repeated = start_ns < self.since_ns + NS_PER_S
        continues = abs(before - expected_ns) <= tolerance_ns
        return before if repeated and continues else start_ns + self.ahead_ns
