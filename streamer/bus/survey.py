"""One look at all that pickers and workers leave on Redis, from any host, changing nothing.

A reader must be allowed +hgetall +xrevrange on msnet:*; +xinfo +xlen are used where allowed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamer.bus.connect import ResponseError
from streamer.bus.heartbeat import read_stations
from streamer.bus.reading import Entry

# Entries of msnet:health to look at: more than there are pickers, or those of some minutes.
HEALTH_ENTRIES = 500
STREAMS = ("picks", "events", "dead")


@dataclass(frozen=True)
class Survey:
    """What was found.

    `stations` NET.STA.LOC.BI -> members of its heartbeat; `health` the newest fields of each picker
    by name; `shares` NET.STA.PHASE -> members of its share of picks with an event; `groups` the
    consumer groups of msnet:picks; `lengths` entries of each stream, None where not allowed.
    """

    stations: Mapping[str, Mapping[str, Any]]
    health: Mapping[str, Mapping[str, str]]
    shares: Mapping[str, Mapping[str, Any]]
    groups: Sequence[Mapping[str, Any]]
    lengths: Mapping[str, int | None]


def survey(client: Any, prefix: str) -> Survey:
    """Look once. Raises what `client` raises when the heartbeats may not be read."""
    pipeline = client.pipeline(transaction=False)
    pipeline.hgetall(f"{prefix}:stations")
    pipeline.xrevrange(f"{prefix}:health", count=HEALTH_ENTRIES)
    pipeline.hgetall(f"{prefix}:rsv")
    pipeline.xinfo_groups(f"{prefix}:picks")
    for stream in STREAMS:
        pipeline.xlen(f"{prefix}:{stream}")
    stations, health, *others = pipeline.execute(raise_on_error=False)
    for reply in (stations, health):
        if isinstance(reply, Exception):
            raise reply
    shares, groups, *lengths = (_allowed(reply) for reply in others)
    return Survey(
        stations=read_stations(stations),
        health=_newest(health),
        shares=read_stations(shares or {}),
        groups=groups or [],
        lengths=dict(zip(STREAMS, lengths, strict=True)),
    )


def _allowed(reply: Any) -> Any:
    """The reply; None if the server refused (no permission, or no such stream)."""
    if isinstance(reply, ResponseError):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply


def _newest(entries: Sequence[Entry]) -> dict[str, Mapping[str, str]]:
    """The first entry of each instance; they come newest first."""
    found: dict[str, Mapping[str, str]] = {}
    for _, fields in entries:
        if fields.get("v") == "1" and "instance" in fields:
            found.setdefault(fields["instance"], fields)
    return found
