"""Picks and events line by line, as they are published."""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TextIO

from streamer.association.message import Event
from streamer.bus.address import server_address
from streamer.bus.reading import Entry, follow_entries, id_since
from streamer.bus.redis_streams import as_picks
from streamer.config import Config
from streamer.export.anss import anss_json
from streamer.export.event_formats import CSV_COLUMNS as EVENT_COLUMNS
from streamer.export.event_formats import EVENT_HEADINGS, event_cells, feature
from streamer.export.sources import as_events
from streamer.latency import STAGES
from streamer.output import CSV_COLUMNS as PICK_COLUMNS
from streamer.output import PICK_HEADINGS, csv_line, pick_cells
from streamer.picks import Pick
from streamer.timebase import NS_PER_S

PickLines = Literal["table", "jsonl", "csv", "anss", "latency"]
EventLines = Literal["table", "jsonl", "csv", "geojson"]
PICK_LINE = "{:<23}  {:<15} {:<5} {:>4}  {:<11} {}"
LATENCY_LINE = "{:<23}  {:<15} {:<5} {:<11} {:>8}  {:>10} {:>7} {:>9} {:>7} {:>7} {:>7}"
EVENT_LINE = "{:<19} {:>8} {:>9} {:>6} {:>5} {:>5} {:>5} {:>3} {:>4} {:>4} {}"


def follow_picks(config: Config, since: str, kind: PickLines, output: TextIO) -> None:
    """Print picks published since a time and from then on, until interrupted.

    Raises ConfigError, UnavailableError, AccessDeniedError.
    """
    with contextlib.suppress(KeyboardInterrupt):
        print_picks(as_picks(_entries(config, "picks", since)), kind, output)


def follow_events(config: Config, since: str, kind: EventLines, output: TextIO) -> None:
    """Print events published since a time and from then on; as `follow_picks`."""
    with contextlib.suppress(KeyboardInterrupt):
        print_events(as_events(_entries(config, "events", since)), kind, output)


def _entries(config: Config, stream: str, since: str) -> Iterator[Entry]:
    after = id_since(since, time.time_ns())
    return follow_entries(server_address(config), f"{config.redis.prefix}:{stream}", after)


def print_picks(picks: Iterable[Pick], kind: PickLines, output: TextIO) -> None:
    """Write each pick as soon as it comes; every message, retractions too."""
    lines: dict[PickLines, Callable[[Pick], str]] = {
        "table": pick_line,
        "jsonl": lambda pick: json.dumps(pick.to_fields()),
        "csv": lambda pick: csv_line(pick.to_fields().get(name, "") for name in PICK_COLUMNS),
        "anss": anss_json,
        "latency": latency_line,
    }
    headers: dict[PickLines, str] = {
        "table": PICK_LINE.format(*PICK_HEADINGS),
        "csv": ",".join(PICK_COLUMNS),
        "latency": LATENCY_LINE.format(
            "time (UTC)", "channel", "phase", "state", "seconds", *STAGES
        ).replace("_", "-"),
    }
    _print(picks, lines[kind], headers.get(kind), output)


def print_events(events: Iterable[Event], kind: EventLines, output: TextIO) -> None:
    """Write each version of an event as soon as it comes; every message, retractions too."""
    lines: dict[EventLines, Callable[[Event], str]] = {
        "table": event_line,
        "jsonl": Event.to_json,
        "csv": lambda event: csv_line(event.to_fields().get(name, "") for name in EVENT_COLUMNS),
        "geojson": lambda event: json.dumps(feature(event)),
    }
    headers = {"table": EVENT_LINE.format(*EVENT_HEADINGS), "csv": ",".join(EVENT_COLUMNS)}
    _print(events, lines[kind], headers.get(kind), output)


def _print(
    things: Iterable[Any], line: Callable[[Any], str], header: str | None, output: TextIO
) -> None:
    if header is not None:
        print(header, file=output, flush=True)
    for each in things:
        print(line(each), file=output, flush=True)


def pick_line(pick: Pick) -> str:
    """A row of the table of picks."""
    return PICK_LINE.format(*pick_cells(pick)).rstrip()


def latency_line(pick: Pick) -> str:
    """From the onset to the publication, s, and the stages of it where the message tells them."""
    time, channel, phase, _, state, _ = pick_cells(pick)
    stages = pick.stages_s or dict.fromkeys(STAGES, None)
    cells = ("-" if each is None else f"{each:.3f}" for each in stages.values())
    total_s = (pick.made_ns - pick.t_ns) / NS_PER_S
    return LATENCY_LINE.format(time, channel, phase, state, f"{total_s:.3f}", *cells)


def event_line(event: Event) -> str:
    """A row of the table of events."""
    return EVENT_LINE.format(*event_cells(event)).rstrip()
