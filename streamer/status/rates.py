"""How often stations pick, from the stream of picks."""

from collections import Counter, deque

from streamer.bus.reading import Entry

SPAN_S = 600


class PickRates:
    """New picks of each station and phase over the last ten minutes of publication."""

    def __init__(self, span_s: int = SPAN_S) -> None:
        self._span_ms = 1000 * span_s
        self._picks: deque[tuple[int, tuple[str, str]]] = deque()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, entry: Entry) -> None:
        """A message of the stream; only the first one of a pick counts."""
        entry_id, message = entry
        if message.get("rev") != "0":
            return
        names = (message.get(name, "") for name in ("net", "sta", "loc"))
        station = ".".join((*names, message.get("cha", "")[:-1]))
        key = station, message.get("phase", "")
        self._picks.append((int(entry_id.partition("-")[0]), key))
        self._counts[key] += 1

    def per_minute(self, station: str, phase: str, now_ms: int) -> float:
        """Picks a minute of a station (NET.STA.LOC.BI) up to now."""
        while self._picks and self._picks[0][0] < now_ms - self._span_ms:
            _, key = self._picks.popleft()
            self._counts[key] -= 1
        return self._counts[station, phase] * 60_000 / self._span_ms
