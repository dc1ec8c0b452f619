"""Which stations are silent: told when one falls silent, and when it comes back."""

from collections.abc import Collection


class StationWatch:
    """Times are seconds of one clock that never goes back."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._heard_s: dict[str, float] = {}
        self._silent: set[str] = set()

    @property
    def silent(self) -> frozenset[str]:
        """The stations that are silent now."""
        return frozenset(self._silent)

    def expect(self, stations: Collection[str], now_s: float) -> None:
        """From now on these are watched, and no others; silent ones stay so until heard."""
        before_s = self._heard_s
        self._silent.intersection_update(stations)
        self._heard_s = {
            station: before_s[station] if station in self._silent else now_s for station in stations
        }

    def heard(self, station: str, now_s: float) -> float | None:
        """A packet came; the length of the silence that it ends, s."""
        before_s = self._heard_s.get(station)
        if before_s is None:
            return None
        self._heard_s[station] = now_s
        if station not in self._silent:
            return None
        self._silent.discard(station)
        return now_s - before_s

    def fallen_silent(self, now_s: float) -> list[tuple[str, float]]:
        """The stations that have fallen silent since the last look, and for how long, s."""
        found = [
            (station, now_s - heard_s)
            for station, heard_s in self._heard_s.items()
            if now_s - heard_s >= self._timeout_s and station not in self._silent
        ]
        self._silent.update(station for station, _ in found)
        return found
