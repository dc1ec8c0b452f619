"""The status as a table, as JSON, or as the line of a Nagios plugin."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamer.status.model import ConsumerRow, Level, PickerRow, StationRow, Status
from streamer.timebase import iso

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red"}
STATION_HEADINGS = (
    "station", "ch", "age", "data lat", "feed lat", "gaps", "P/min", "S/min", "last pick", "Rsv P",
    "Rsv S", "QC",
)  # fmt: skip
UNKNOWN = "-"


def as_json(status: Status) -> str:
    """One JSON object."""
    document = asdict(status) | {"level": status.level.name}
    for rows in ("stations", "pickers", "consumers"):
        document[rows] = [row | {"level": row["level"].name} for row in document[rows]]
    return json.dumps(document, indent=1)


def as_nagios(status: Status) -> str:
    """`MSNET LEVEL - words | performance data`, one line."""
    heard = [row.data_latency_s for row in status.stations if row.data_latency_s is not None]
    silent = sum(row.level == Level.CRITICAL for row in status.stations)
    total = len(status.stations)
    words = "; ".join(status.problems) or f"{total} stations, {len(status.pickers)} pickers"
    data = {
        "stations": str(total),
        "silent": str(silent),
        "pickers": str(len(status.pickers)),
        "waiting": str(sum(row.waiting for row in status.pickers)),
        "p_per_min": f"{sum(row.p_per_min for row in status.stations):.1f}",
        "s_per_min": f"{sum(row.s_per_min for row in status.stations):.1f}",
    }
    if heard:
        data["worst_latency"] = f"{max(heard):.1f}s"
    if status.pick_latency_s:
        data["pick_latency"] = f"{status.pick_latency_s['total']:.3f}s"
    numbers = " ".join(f"{name}={value}" for name, value in data.items())
    # A bar begins the performance data: none may be in the words.
    return f"MSNET {status.level.name} - {words.replace('|', '/')} | {numbers}"


def as_table(status: Status) -> RenderableType:
    """All of it, the worst first."""
    parts: list[RenderableType] = [headline(status)]
    parts += [Text(f"  {problem}") for problem in status.problems]
    if status.pick_latency_s:
        parts.append(pick_latency(status))
    parts += ["", picker_table(status.pickers)]
    if status.consumers:
        parts += ["", consumer_table(status.consumers)]
    if status.stations:
        parts += ["", station_table(status.stations)]
    return Group(*parts)


def headline(status: Status) -> Text:
    """The level, and how much there is."""
    counts = ", ".join(
        f"{UNKNOWN if length is None else length} {stream}"
        for stream, length in status.lengths.items()
    )
    text = Text(f" {status.level.name} ", style=f"reverse {STYLES[status.level]}")
    return text.append(f"  {len(status.stations)} stations; on Redis: {counts}", style="default")


def pick_latency(status: Status) -> Text:
    """How long after the onset new picks are published, and where that time goes (medians)."""
    stages = dict(status.pick_latency_s)
    total_s = stages.pop("total")
    parts = ", ".join(f"{name.replace('_', '-')} {each:.2f}" for name, each in stages.items())
    return Text(f"new picks {total_s:.2f} s after the onset: {parts}")


def picker_table(pickers: Sequence[PickerRow]) -> Table:
    """One row per picker."""
    table = _table("picker", "age", "stations", "SeedLink", "step", "waiting", "lost")
    for row in pickers:
        table.add_row(
            _name(row.name, row.level), duration(row.age_s), str(row.stations),
            "connected" if row.connected else "[red]none[/]", f"{row.step_s} s", str(row.waiting),
            str(row.dropped),
        )  # fmt: skip
    return table


def consumer_table(consumers: Sequence[ConsumerRow]) -> Table:
    """One row per consumer group."""
    table = _table("consumer", "behind", "unacknowledged")
    for row in consumers:
        lag = "unknown" if row.lag is None else str(row.lag)
        table.add_row(_name(row.name, row.level), lag, str(row.pending))
    return table


def station_table(stations: Sequence[StationRow]) -> Table:
    """One row per instrument."""
    table = _table(*STATION_HEADINGS)
    for row in stations:
        *cells, notes = station_cells(row)
        table.add_row(*cells, Text(notes, no_wrap=True, overflow="ellipsis"))
    return table


def station_cells(row: StationRow) -> tuple[str, ...]:
    """What a row of the table says of an instrument."""
    gaps = str(row.gaps) if row.gaps_per_h is None else f"{row.gaps_per_h:.0f}/h"
    return (
        _name(row.name.rstrip("."), row.level),
        str(row.components),
        duration(row.age_s),
        duration(row.data_latency_s),
        duration(row.feed_latency_s),
        gaps,
        f"{row.p_per_min:.1f}",
        f"{row.s_per_min:.1f}",
        UNKNOWN if row.last_pick_ns is None else iso(row.last_pick_ns)[5:19].replace("T", " "),
        _share(row.share_p),
        _share(row.share_s),
        ", ".join(row.notes),
    )


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 m`, `5 h`, `12 d`: two digits are enough."""
    if seconds is None:
        return UNKNOWN
    if abs(seconds) < 10:
        return f"{seconds:.1f} s"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _share(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.0f} %"


def _name(name: str, level: Level) -> str:
    return f"[{STYLES[level]}]{name}[/]"


def _table(*headings: str) -> Table:
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for number, heading in enumerate(headings):
        is_last = heading == STATION_HEADINGS[-1]  # the one that gives way on a narrow screen
        side: Literal["left", "right"] = "left" if number == 0 or is_last else "right"
        table.add_column(heading, no_wrap=not is_last, justify=side)
    return table
