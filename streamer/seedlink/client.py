"""The live feed: connect, find out what the server has, ask for it channel by channel, stay on.

Framing, TLS and both protocol versions are seedlink-client's. What is decided here: wildcards are
resolved against INFO STREAMS into explicit stations (a wildcard cannot be resumed, and one unknown
station must not cost the others), a lost connection is taken up again after the last packet of each
station, servers are tried in turn, and the wait between attempts grows with jitter.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from seedlink_client import AsyncSeedLink, Protocol, SeedLinkAuthError, SeedLinkError

from streamer.clock import Clock
from streamer.errors import AccessDeniedError, ConfigError, UnavailableError
from streamer.seedid import Nslc
from streamer.stationspec import StationSpec
from streamer.timebase import NS_PER_S, iso, parse_iso

log = structlog.get_logger()

# The wait before attempt n is 2^n seconds up to this, less up to half of it at random: a server
# that comes back must not meet all its clients in the same second.
MAX_BACKOFF_S = 30.0
# EarthScope asks for no more than one keepalive in four minutes; a half-open connection ends by the
# network timeout.
KEEPALIVE_S = 240.0
# A server may announce what it likes; this many channels is more than any network has.
MAX_CHANNELS = 100_000
EARLIEST_NS = (
    315_532_800 * NS_PER_S
)  # 1980: "everything" for servers that take DATA ALL to mean "next"

_PROTOCOLS = {"auto": None, "3": Protocol.V3, "4": Protocol.V4}


@dataclass(frozen=True, slots=True)
class Packet:
    """One SeedLink packet: the record as sent, when it arrived (UTC ns) and from which server."""

    data: bytes
    received_ns: int
    server: str


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """What to ask of whom.

    `servers` are (host, port) by preference; `start` is `now`, `earliest` or an ISO 8601 time.
    """

    servers: Sequence[tuple[str, int]]
    spec: StationSpec
    protocol: str = "auto"
    start: str = "now"
    connect_timeout_s: float = 15.0
    network_timeout_s: float = 120.0
    startup_timeout_s: float = 30.0
    client_version: str = ""


class SeedLinkFeed:
    """Keeps one connection alive and hands every packet to `deliver`.

    `deliver` may wait: TCP then pushes back on the server. `announce` is told the channels asked
    for, before their first packet.
    """

    def __init__(
        self,
        config: FeedConfig,
        deliver: Callable[[Packet], Awaitable[None]],
        announce: Callable[[list[Nslc]], None],
        clock: Clock,
    ) -> None:
        self._config = config
        self._deliver = deliver
        self._announce = announce
        self._clock = clock
        self._resume: dict[str, tuple[int, str | None]] = {}
        self._connected_once = False
        self.connected = False

    async def run(self) -> None:
        """Feed until cancelled.

        Raises UnavailableError if no server answers within the start-up time, ConfigError if the
        first that answers has none of the stations, AccessDeniedError if it refuses the login.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.startup_timeout_s
        attempt = 0
        while True:
            server = self._config.servers[attempt % len(self._config.servers)]
            failure = await self._stay_connected(server)
            if not self._connected_once and loop.time() >= deadline:
                raise UnavailableError(
                    f"no SeedLink server could be used in {self._config.startup_timeout_s:g} s; "
                    f"the last, {_name(server)}: {failure}. Check host and port, and that a "
                    "SeedLink server listens there"
                )
            attempt = 0 if self.connected else attempt + 1
            self.connected = False
            wait_s = min(2.0**attempt, MAX_BACKOFF_S) * random.uniform(0.5, 1.0)
            if not self._connected_once:
                wait_s = min(wait_s, deadline - loop.time())
            log.warning(
                "seedlink_disconnected",
                server=_name(server),
                error=failure,
                retry_s=round(wait_s, 1),
            )
            await asyncio.sleep(wait_s)

    async def _stay_connected(self, server: tuple[str, int]) -> str:
        """One connection from start to end; returns why it ended."""
        link = AsyncSeedLink(
            *server,
            timeout=self._config.connect_timeout_s,
            protocol=_PROTOCOLS[self._config.protocol],
            keepalive=KEEPALIVE_S,
            idle_timeout=self._config.network_timeout_s,
            clientname="msnet-stream",
            clientversion=self._config.client_version,
        )
        try:
            await link.connect()
            await self._subscribe(link, _name(server))
            await self._receive(link, _name(server))
        except SeedLinkAuthError as error:
            raise AccessDeniedError(f"{_name(server)} refused the login: {error}") from error
        except (SeedLinkError, OSError, ValueError) as error:
            return str(error) or type(error).__name__
        finally:
            self._remember(link)
            await link.close()
        return "the server closed the connection"

    async def _subscribe(self, link: AsyncSeedLink, server: str) -> None:
        """Ask for every wanted channel the server has, each station from where it was left."""
        channels = _channels(await link.info_dict("STREAMS"), link.protocol)
        wanted = [nslc for nslc in channels if self._config.spec.matches(nslc)]
        if not wanted:
            self._complain_of_no_match(channels, server)
        if self._config.start != "now" and not self._resume:
            earliest = self._config.start == "earliest"
            start_ns = EARLIEST_NS if earliest else parse_iso(self._config.start)
            link.set_timewindow(iso(start_ns))
        for station in sorted({(nslc.network, nslc.station) for nslc in wanted}):
            name = "_".join(station)
            sequence, time = self._resume.get(name, (None, None))
            selectors = [_selector(n) for n in wanted if (n.network, n.station) == station]
            link.add_stream(name, selectors, seqnum=sequence, timestamp=time)
        self._announce(wanted)
        await link.negotiate()
        self._connected_once = self.connected = True
        protocol = link.protocol.name if link.protocol else ""
        log.info("seedlink_connected", server=server, channels=len(wanted), protocol=protocol)

    async def _receive(self, link: AsyncSeedLink, server: str) -> None:
        async for packet in link.collect(reconnect=False):
            await self._deliver(Packet(packet.payload, self._clock(), server))

    def _remember(self, link: AsyncSeedLink) -> None:
        """Where each station stands, for the next connection."""
        for stream in link.streams:
            if stream.seqnum is not None:
                self._resume[stream.station_id] = (stream.seqnum, stream.resolve_timestamp())

    def _complain_of_no_match(self, channels: list[Nslc], server: str) -> None:
        asked = str(self._config.spec)
        if self._connected_once:
            raise SeedLinkError(f"{server} has none of the channels {asked} any more")
        nearest = ", ".join(self._config.spec.nearest(str(nslc) for nslc in channels))
        hint = f"nearest: {nearest}" if nearest else "the server has no channels at all"
        raise ConfigError(f"{server} has no channel that matches --stations {asked}; {hint}")


def _name(server: tuple[str, int]) -> str:
    return f"{server[0]}:{server[1]}"


def _selector(nslc: Nslc) -> str:
    return f"{nslc.location or '--'}{nslc.channel}"


def _channels(info: dict[str, Any], protocol: Protocol | None) -> list[Nslc]:
    """The channels in a reply to INFO STREAMS of either version; unusable entries are left out."""
    found = set()
    if protocol is Protocol.V4:
        for station in info.get("station") or []:
            network, _, name = str(station.get("id", "")).partition("_")
            for stream in station.get("stream") or []:
                location, _, source = str(stream.get("id", "")).partition("_")
                found.add((network, name, location, source.replace("_", "")))
    else:
        for station in info.get("seedlink", {}).get("station") or []:
            for stream in station.get("stream") or []:
                codes = (station.get("network"), station.get("name"))
                location = (stream.get("location") or "").strip()
                found.add((*codes, location, stream.get("seedname")))
    if len(found) > MAX_CHANNELS:
        raise SeedLinkError(f"INFO STREAMS lists {len(found)} channels, more than {MAX_CHANNELS}")
    return sorted(Nslc(*map(str, codes)) for codes in found if codes[0] and codes[1] and codes[3])
