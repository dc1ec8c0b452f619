"""`msnet-stream top`: stations worst first, events at the side, until q."""

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from streamer.association.message import Event, latest_events
from streamer.bus.address import server_address
from streamer.bus.connect import open_client
from streamer.bus.reading import read_entries
from streamer.bus.redis_url import RedisServer
from streamer.bus.survey import Survey, survey
from streamer.config import Config
from streamer.errors import AccessDeniedError, ConfigError, UnavailableError
from streamer.export.event_formats import event_table
from streamer.export.sources import as_events
from streamer.status.command import recent_picks
from streamer.status.model import Level, Limits, Status, judge
from streamer.status.rates import PickRates
from streamer.status.render import headline, pick_latency, picker_table, station_table
from streamer.timebase import NS_PER_MS, NS_PER_S

REFRESH_S = 1.0
# Gaps per hour are known once they have been watched for so long.
LEAST_WATCHED_S, WATCHED_S = 60, 3600
EVENTS_SINCE_S = 86_400
MOST_EVENTS = 200
# Rows of the screen taken by headline, problems and frames.
PROBLEMS, FRAME_ROWS = 4, 8
EVENTS_WIDTH = 70
EVENTS_SHOWN = ("time (UTC)", "lat", "lon", "z km", "±km", "P/S", "mag", "state")


def show_top(config: Config, limits: Limits) -> None:
    """Show the live view until q or Ctrl-C. A Redis that goes away meanwhile is waited for.

    Raises ConfigError without a terminal; UnavailableError, AccessDeniedError at the start.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("top needs a terminal: use msnet-stream status elsewhere")
    watcher = Watcher(server_address(config), config.redis.prefix, limits, time.time_ns)
    console = Console()
    view = watcher.look()
    with (
        contextlib.suppress(KeyboardInterrupt),
        _keys(sys.stdin) as key,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(draw(view, watcher.events, console.height, console.width), refresh=True)
            if key(REFRESH_S) == "q":
                return
            view = _again(watcher, view)


def _again(watcher: "Watcher", before: Status) -> Status:
    try:
        return watcher.look()
    except (UnavailableError, AccessDeniedError) as error:
        return Status(
            level=Level.CRITICAL, problems=[str(error)], stations=before.stations,
            pickers=before.pickers, consumers=before.consumers, lengths=before.lengths,
        )  # fmt: skip


class Watcher:
    """Looks again and again, and remembers what rates need."""

    def __init__(
        self, server: RedisServer, prefix: str, limits: Limits, clock: Callable[[], int]
    ) -> None:
        self._server = server
        self._prefix = prefix
        self._limits = limits
        self._clock = clock
        self._rates = PickRates()
        self._gaps: deque[tuple[int, dict[str, int]]] = deque()
        self._after: dict[str, str] = {}
        self._events: dict[str, Event] = {}

    @property
    def events(self) -> list[Event]:
        """The newest events, the latest first."""
        return latest_events(self._events.values())[::-1]

    def look(self) -> Status:
        """The status now. Raises UnavailableError or AccessDeniedError."""
        now_ns = self._clock()
        self._read_picks(now_ns)
        self._read_events(now_ns)
        with open_client(self._server) as client:
            found = survey(client, self._prefix)
        return judge(found, self._rates, now_ns, self._limits, self._gaps_per_h(found, now_ns))

    def _read_picks(self, now_ns: int) -> None:
        after = self._after.get("picks")
        if after is None:
            entries = recent_picks(self._server, self._prefix, now_ns)
        else:
            entries = list(read_entries(self._server, f"{self._prefix}:picks", first=f"({after}"))
        for entry in entries:
            self._rates.add(entry)
        self._after["picks"] = entries[-1][0] if entries else after or f"{now_ns // NS_PER_MS}-0"

    def _read_events(self, now_ns: int) -> None:
        first = self._after.get("events", f"{(now_ns - EVENTS_SINCE_S * NS_PER_S) // NS_PER_MS}-0")
        entries = list(read_entries(self._server, f"{self._prefix}:events", first=f"({first}"))
        for event in as_events(entries):
            known = self._events.get(event.id)
            if known is None or event.version >= known.version:
                self._events[event.id] = event
        while len(self._events) > MOST_EVENTS:
            del self._events[min(self._events, key=lambda name: self._events[name].t_ns)]
        self._after["events"] = entries[-1][0] if entries else first

    def _gaps_per_h(self, found: Survey, now_ns: int) -> dict[str, float]:
        """By the difference to what was told up to an hour ago; a restarted picker counts anew."""
        gaps = {name: int(members.get("gaps", 0)) for name, members in found.stations.items()}
        self._gaps.append((now_ns, gaps))
        while self._gaps[0][0] < now_ns - WATCHED_S * NS_PER_S:
            self._gaps.popleft()
        then_ns, then = self._gaps[0]
        watched_s = (now_ns - then_ns) / NS_PER_S
        if watched_s < LEAST_WATCHED_S:
            return {}
        return {
            name: 3600 * (count - (then[name] if then.get(name, 0) <= count else 0)) / watched_s
            for name, count in gaps.items()
            if name in then
        }


def draw(status: Status, events: Sequence[Event], height: int, width: int) -> RenderableType:
    """The screen: headline, pickers, stations that fit, and events beside them if it is wide."""
    problems = [Text(f" {text}", overflow="ellipsis") for text in status.problems[:PROBLEMS]]
    latency = [pick_latency(status)] if status.pick_latency_s else []
    for line in latency:
        line.no_wrap, line.overflow = True, "ellipsis"
    above = len(latency) + len(problems) + len(status.pickers)
    rows = max(height - FRAME_ROWS - above, 1)
    stations = station_table(status.stations[:rows])
    hidden = len(status.stations) - rows
    layout = Layout()
    layout.split_column(
        Layout(
            Group(headline(status), *latency, *problems, picker_table(status.pickers)), name="head",
            size=3 + above,
        ),
        Layout(name="body"),
        Layout(Text(" q quits", style="dim"), name="foot", size=1),
    )  # fmt: skip
    note = f"{hidden} more, all better" if hidden > 0 else None
    panels = [Layout(Panel(stations, title="stations, worst first", subtitle=note))]
    if width >= 2 * EVENTS_WIDTH:
        table = event_table(events[:rows], headings=EVENTS_SHOWN)
        panels.append(Layout(Panel(table, title="events"), size=EVENTS_WIDTH))
    layout["body"].split_row(*panels)
    return layout


@contextlib.contextmanager
def _keys(terminal: TextIO) -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key, "" without one; no need of Enter."""
    before = termios.tcgetattr(terminal)
    descriptor = terminal.fileno()

    def key(timeout_s: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
        return os.read(descriptor, 1).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(terminal)
        yield key
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
