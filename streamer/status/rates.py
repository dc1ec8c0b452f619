"""How often stations pick, and where the time to a pick goes, from the stream of picks."""

from collections import Counter, deque
from contextlib import suppress
from statistics import median

from streamer.bus.reading import Entry
from streamer.latency import INSTANTS, STAGES, stages_s

SPAN_S = 600


class PickRates:
    """New picks of each station and phase over the last ten minutes of publication."""

    def __init__(self, span_s: int = SPAN_S) -> None:
        self._span_ms = 1000 * span_s
        self._picks: deque[tuple[int, tuple[str, str]]] = deque()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._stages: deque[tuple[int, tuple[float, ...]]] = deque()

    def add(self, entry: Entry) -> None:
        """A message of the stream; only the first one of a pick counts."""
        entry_id, message = entry
        if message.get("rev") != "0":
            return
        names = (message.get(name, "") for name in ("net", "sta", "loc"))
        station = ".".join((*names, message.get("cha", "")[:-1]))
        key = station, message.get("phase", "")
        entered_ms = int(entry_id.partition("-")[0])
        self._picks.append((entered_ms, key))
        self._counts[key] += 1
        with suppress(KeyError, ValueError):
            stages = stages_s([int(message[name]) for name in INSTANTS])
            self._stages.append((entered_ms, tuple(stages.values())))

    def per_minute(self, station: str, phase: str, now_ms: int) -> float:
        """Picks a minute of a station (NET.STA.LOC.BI) up to now."""
        while self._picks and self._picks[0][0] < now_ms - self._span_ms:
            _, key = self._picks.popleft()
            self._counts[key] -= 1
        return self._counts[station, phase] * 60_000 / self._span_ms

    def stages_s(self, now_ms: int) -> dict[str, float]:
        """The median of each stage (`latency.STAGES`) up to now, and of their `total`, s.

        Empty if no message tells them.
        """
        while self._stages and self._stages[0][0] < now_ms - self._span_ms:
            self._stages.popleft()
        if not self._stages:
            return {}
        durations = [each for _, each in self._stages]
        medians = map(median, zip(*durations, strict=True))
        return dict(zip(STAGES, medians, strict=True)) | {"total": median(map(sum, durations))}
