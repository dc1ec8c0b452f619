"""`msnet-stream stations`: what would be asked of which server."""

import asyncio
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Literal, TextIO

from rich.console import Console
from rich.table import Table

from streamer.config import Server
from streamer.errors import ConfigError, MsnetError, UnavailableError
from streamer.seedlink.client import FeedConfig
from streamer.seedlink.lookup import look_up, no_match
from streamer.seedlink.packets import LinkError
from streamer.seedlink.requests import selector

ListingFormat = Literal["table", "json", "csv"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A channel that would be asked for; `latest` is the end of its data, as the server says."""

    server: str
    protocol: str
    network: str
    station: str
    location: str
    channel: str
    selector: str
    latest: str


async def wanted_channels(feed: FeedConfig) -> tuple[list[Wanted], list[str]]:
    """What would be asked of each server, and what is wrong with those of which nothing would be.

    Raises UnavailableError if no server can be used, ConfigError if none has any of the stations.
    """
    answers = await asyncio.gather(*(_ask(Server(*server), feed) for server in feed.servers))
    found = [channel for channels, _ in answers for channel in channels]
    problems = [problem for _, problem in answers if problem is not None]
    if not found:
        kind = (
            ConfigError if any(isinstance(p, ConfigError) for p in problems) else UnavailableError
        )
        raise kind("; ".join(map(str, problems)))
    return found, [str(problem) for problem in problems]


async def _ask(server: Server, feed: FeedConfig) -> tuple[list[Wanted], MsnetError | None]:
    name = str(server)
    try:
        listing = await look_up(server, feed.link_settings(), feed.spec)
    except (LinkError, OSError) as error:
        reason = str(error) or type(error).__name__
        return [], UnavailableError(f"{name} cannot be used: {reason}")
    protocol = "4" if listing.v4 else "3"
    channels = [
        Wanted(name, protocol, n.network, n.station, n.location, n.channel,
               selector(n, listing.v4), listing.channels[n])
        for n in sorted(listing.channels)
        if feed.spec.matches(n)
    ]  # fmt: skip
    return channels, None if channels else ConfigError(no_match(feed.spec, listing, name))


def write_listing(channels: Sequence[Wanted], form: ListingFormat, output: TextIO) -> None:
    """One line per channel; in the table, one per station."""
    if form == "json":
        json.dump([asdict(channel) for channel in channels], output, indent=1)
        output.write("\n")
    elif form == "csv":
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(field.name for field in fields(Wanted))
        writer.writerows(asdict(channel).values() for channel in channels)
    else:
        Console(file=output, soft_wrap=True).print(_table(channels))


def _table(channels: Sequence[Wanted]) -> Table:
    table = Table(header_style="bold")
    for heading in ("server", "version", "station", "selectors", "latest data"):
        table.add_column(heading)
    for (server, protocol, station), group in groupby(
        channels, lambda c: (c.server, c.protocol, f"{c.network}_{c.station}")
    ):
        asked = list(group)
        selectors = " ".join(channel.selector for channel in asked)
        table.add_row(server, protocol, station, selectors, max(c.latest for c in asked))
    return table
