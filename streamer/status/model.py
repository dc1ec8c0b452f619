"""From what is on Redis to what an operator wants to know: levels, problems, the worst first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from streamer.bus.survey import Survey
from streamer.status.rates import PickRates
from streamer.timebase import NS_PER_MS, NS_PER_S

# A consumer is behind with so many messages, or with half of all that are kept.
LEAST_LAG = 1000
# Timing quality below which it is worth a word, %.
TIMING = 60
# A spool with so many messages: Redis has been away for a while.
WAITING = 1000


class Level(IntEnum):
    """As Nagios has it, and its exit codes."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From when on something is wrong, s; `silent_share` of the stations makes it critical."""

    late_s: float = 60.0
    silent_s: float = 300.0
    beat_s: float = 30.0
    silent_share: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRow:
    """One instrument, NET.STA.LOC.BI. Times in s; None where nobody tells.

    `age_s` since its picker told; `gaps` since the start of the picker; `share_p`, `share_s` of its
    picks of the last hour have an event (Rsv/Pick).
    """

    name: str
    level: Level
    age_s: float
    data_latency_s: float | None
    feed_latency_s: float | None
    gaps: int
    gaps_per_h: float | None
    p_per_min: float
    s_per_min: float
    last_pick_ns: int | None
    components: int
    share_p: float | None
    share_s: float | None
    notes: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PickerRow:
    """One picker: its last word `age_s` ago, and what it said."""

    name: str
    level: Level
    age_s: float
    stations: int
    connected: bool
    waiting: int
    dropped: int
    step_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerRow:
    """A consumer group of msnet:picks; `lag` is None where the server does not know."""

    name: str
    level: Level
    lag: int | None
    pending: int


@dataclass(frozen=True, kw_only=True)
class Status:
    """All of it, the worst first; `problems` in words.

    `pick_latency_s`: medians of `PickRates.stages_s`, empty if unknown.
    """

    level: Level
    problems: Sequence[str]
    stations: Sequence[StationRow]
    pickers: Sequence[PickerRow]
    consumers: Sequence[ConsumerRow]
    lengths: Mapping[str, int | None] = field(default_factory=dict)
    pick_latency_s: Mapping[str, float] = field(default_factory=dict)


def judge(
    found: Survey,
    rates: PickRates,
    now_ns: int,
    limits: Limits,
    gaps_per_h: Mapping[str, float] | None = None,
) -> Status:
    """What it means; `now_ns` is the time (POSIX ns), `gaps_per_h` by station where known."""
    pickers = [_picker(name, fields, now_ns, limits) for name, fields in found.health.items()]
    stations = [
        _station(name, members, found.shares, rates, now_ns, limits, (gaps_per_h or {}).get(name))
        for name, members in found.stations.items()
    ]
    consumers = [_consumer(group, found.lengths.get("picks")) for group in found.groups]
    problems = [
        *_of_pickers(pickers, limits),
        *_of_stations(stations, limits),
        *_of_consumers(consumers),
    ]
    return Status(
        level=max((level for level, _ in problems), default=Level.OK),
        problems=[text for _, text in sorted(problems, key=lambda problem: -problem[0])],
        stations=sorted(stations, key=lambda row: (-row.level, -_badness(row), row.name)),
        pickers=sorted(pickers, key=lambda row: (-row.level, row.name)),
        consumers=sorted(consumers, key=lambda row: (-row.level, row.name)),
        lengths=found.lengths,
        pick_latency_s=rates.stages_s(now_ns // NS_PER_MS),
    )


def _picker(name: str, fields: Mapping[str, str], now_ns: int, limits: Limits) -> PickerRow:
    age_s = (now_ns - _whole(fields.get("time_ns"))) / NS_PER_S
    connected = _whole(fields.get("connected")) > 0
    waiting, dropped = _whole(fields.get("pending")), _whole(fields.get("dropped"))
    level = Level.OK
    if waiting >= WAITING or dropped:
        level = Level.WARNING
    if age_s > limits.beat_s or not connected:
        level = Level.CRITICAL
    return PickerRow(
        name=name,
        level=level,
        age_s=age_s,
        stations=_whole(fields.get("stations")),
        connected=connected,
        waiting=waiting,
        dropped=dropped,
        step_s=_whole(fields.get("step_s")),
    )


def _station(
    name: str,
    members: Mapping[str, Any],
    shares: Mapping[str, Mapping[str, Any]],
    rates: PickRates,
    now_ns: int,
    limits: Limits,
    gaps_per_h: float | None,
) -> StationRow:
    age_s = (now_ns - _whole(members.get("time_ns"))) / NS_PER_S
    latency_s = _number(members.get("data_latency_s"))
    level, notes = _station_level(age_s, latency_s, limits)
    components, quality = _whole(members.get("components")), members.get("timing_quality")
    notes += [f"{components} comp"] if components < 3 else []
    notes += [f"timing {quality} %"] if isinstance(quality, int) and quality < TIMING else []
    code = ".".join(name.split(".")[:2])
    share = {phase: shares.get(f"{code}.{phase}", {}).get("share_1h") for phase in ("P", "S")}
    now_ms = now_ns // NS_PER_MS
    return StationRow(
        name=name,
        level=level,
        age_s=age_s,
        data_latency_s=latency_s,
        feed_latency_s=_number(members.get("feed_latency_s")),
        gaps=_whole(members.get("gaps")),
        gaps_per_h=gaps_per_h,
        p_per_min=rates.per_minute(name, "P", now_ms),
        s_per_min=rates.per_minute(name, "S", now_ms),
        last_pick_ns=_whole(members.get("last_pick_ns")) or None,
        components=components,
        share_p=_number(share["P"]),
        share_s=_number(share["S"]),
        notes=notes,
    )


def _station_level(
    age_s: float, latency_s: float | None, limits: Limits
) -> tuple[Level, list[str]]:
    if age_s > limits.beat_s:
        return Level.CRITICAL, ["no news"]
    if latency_s is None or latency_s > limits.silent_s:
        return Level.CRITICAL, ["silent"]
    if latency_s > limits.late_s:
        return Level.WARNING, ["late"]
    return Level.OK, []


def _badness(row: StationRow) -> float:
    return max(row.age_s, row.data_latency_s or 0.0)


def _consumer(group: Mapping[str, Any], length: int | None) -> ConsumerRow:
    lag = group.get("lag")
    limit = max(LEAST_LAG, (length or 0) // 2)
    return ConsumerRow(
        name=str(group.get("name")),
        level=Level.WARNING if isinstance(lag, int) and lag > limit else Level.OK,
        lag=lag if isinstance(lag, int) else None,
        pending=_whole(group.get("pending")),
    )


def _of_pickers(pickers: Sequence[PickerRow], limits: Limits) -> Iterator[tuple[Level, str]]:
    alive = [row for row in pickers if row.age_s <= limits.beat_s]
    if not alive:
        yield Level.CRITICAL, "no picker is alive"
        return
    for row in pickers:
        if row not in alive:
            yield Level.WARNING, f"picker {row.name} has said nothing for {row.age_s:.0f} s"
    for row in alive:
        if not row.connected:
            yield Level.CRITICAL, f"picker {row.name} has no SeedLink server"
        if row.waiting >= WAITING:
            yield Level.WARNING, f"picker {row.name}: {row.waiting} picks wait for Redis"
        if row.dropped:
            yield Level.WARNING, f"picker {row.name} has lost {row.dropped} picks"


def _of_stations(stations: Sequence[StationRow], limits: Limits) -> Iterator[tuple[Level, str]]:
    """One silent station is a warning; it takes many to be critical."""
    silent = [row for row in stations if row.level == Level.CRITICAL]
    late = [row for row in stations if row.level == Level.WARNING]
    if silent:
        many = len(silent) >= limits.silent_share * len(stations)
        yield Level.CRITICAL if many else Level.WARNING, f"{_names(silent)} silent"
    if late:
        yield Level.WARNING, f"{_names(late)} late"


def _of_consumers(consumers: Iterable[ConsumerRow]) -> Iterator[tuple[Level, str]]:
    for row in consumers:
        if row.level:
            yield row.level, f"consumer {row.name} is {row.lag} picks behind"


def _names(rows: Sequence[StationRow], shown: int = 3) -> str:
    """`3 stations (XX.A, XX.B ...)`."""
    names = ", ".join(row.name.rstrip(".") for row in rows[:shown])
    more = " ..." if len(rows) > shown else ""
    return f"{len(rows)} station{'s' if len(rows) > 1 else ''} ({names}{more})"


def _whole(value: object) -> int:
    """An int from the text or number of a message; 0 if it is none."""
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        return 0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
