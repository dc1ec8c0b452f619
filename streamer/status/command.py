"""`msnet-stream status`: one look, told in the way of a Nagios plugin."""

import time
from collections.abc import Callable
from typing import Literal, TextIO

from rich.console import Console

from streamer.bus.address import server_address
from streamer.bus.connect import open_client
from streamer.bus.reading import Entry, read_entries
from streamer.bus.redis_url import RedisServer
from streamer.bus.survey import survey
from streamer.config import Config
from streamer.errors import AccessDeniedError, UnavailableError
from streamer.output import FILE_WIDTH
from streamer.status.model import Level, Limits, Status, judge
from streamer.status.rates import SPAN_S, PickRates
from streamer.status.render import as_json, as_nagios, as_table
from streamer.timebase import NS_PER_MS, NS_PER_S

StatusFormat = Literal["table", "json", "nagios"]


def tell_status(config: Config, kind: StatusFormat, limits: Limits, output: TextIO) -> Level:
    """Write how things are; the level is the exit code. A Redis that is away is critical.

    Raises ConfigError.
    """
    try:
        status = look(server_address(config), config.redis.prefix, limits, time.time_ns)
    except (UnavailableError, AccessDeniedError) as error:
        status = Status(
            level=Level.CRITICAL, problems=[str(error)], stations=(), pickers=(), consumers=()
        )
    if kind == "table":
        width = None if output.isatty() else FILE_WIDTH
        Console(file=output, width=width).print(as_table(status))
    else:
        print(as_json(status) if kind == "json" else as_nagios(status), file=output)
    return status.level


def look(server: RedisServer, prefix: str, limits: Limits, clock: Callable[[], int]) -> Status:
    """The status as it is on Redis. Raises UnavailableError or AccessDeniedError."""
    rates = PickRates()
    for entry in recent_picks(server, prefix, clock()):
        rates.add(entry)
    with open_client(server) as client:
        found = survey(client, prefix)
    return judge(found, rates, clock(), limits)


def recent_picks(server: RedisServer, prefix: str, now_ns: int) -> list[Entry]:
    """What was published in the time over which picks are counted."""
    first_ms = (now_ns - SPAN_S * NS_PER_S) // NS_PER_MS
    return list(read_entries(server, f"{prefix}:picks", first=str(first_ms)))
