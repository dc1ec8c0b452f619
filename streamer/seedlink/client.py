"""The live feed: choose a server, ask it for every wanted channel, stay on, go on where it ended.

    link       one connection: the library, commands, TLS, login
    discovery  what the server has; wildcards become explicit stations, for a wildcard cannot be
               resumed and one unknown station must not cost the others
    requests   what to ask for; `progress` knows where each station stands
    receiver   the data phase; `packets` takes the bytes apart

What is decided here: which server, the wait between attempts, and whether its numbers still count.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog

from streamer import __version__
from streamer.clock import Clock
from streamer.config import Config, SeedLinkConfig, Server, split_server
from streamer.errors import AccessDeniedError, ConfigError, UnavailableError
from streamer.seedid import Nslc
from streamer.seedlink.discovery import Listing
from streamer.seedlink.link import Link, LinkSettings, Login, Refusals, limits_ns
from streamer.seedlink.login import find_login
from streamer.seedlink.lookup import listing_of, look_up, no_match
from streamer.seedlink.packets import LinkError, Packet
from streamer.seedlink.progress import Progress
from streamer.seedlink.receiver import SHOWN, Intent, Receiver
from streamer.seedlink.requests import plan
from streamer.seedlink.state import Position
from streamer.seedlink.watch import StationWatch
from streamer.stationspec import StationSpec, parse_station_spec
from streamer.tasks import end

__all__ = ["FeedConfig", "Packet", "SeedLinkFeed", "feed_config"]

log = structlog.get_logger()

# The wait before attempt n is 2^n seconds up to this, less up to half of it at random: a server
# that comes back must not meet all its clients in the same second.
MAX_BACKOFF_S = 30.0
# Each reply of a negotiation may take the connect timeout. Thousands of stations in v3 come to more
# replies, but not one by one at the limit.
NEGOTIATION_REPLIES = 20

_DEFAULT = SeedLinkConfig()


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """What to ask of whom.

    `servers` are (host, port[, tls]) by preference; `start` is `now`, `earliest` or an ISO 8601
    time. `resume` maps a server (`host:port`) and a station (`NET_STA`) to the position behind
    which the first connection goes on, instead of at `start`; its number is of use if the server
    still says that it started when it did then (`started`). `login` is asked before each
    connection, as tokens expire.
    """

    servers: Sequence[Server | tuple[str, int]]
    spec: StationSpec
    protocol: str = _DEFAULT.protocol
    start: str = _DEFAULT.start
    connect_timeout_s: float = _DEFAULT.connect_timeout_s
    network_timeout_s: float = _DEFAULT.network_timeout_s
    startup_timeout_s: float = _DEFAULT.startup_timeout_s
    discovery_s: float = _DEFAULT.discovery_s
    station_timeout_s: float = _DEFAULT.station_timeout_s
    ca_file: Path | None = _DEFAULT.ca_file
    login: Callable[[], Login | None] = lambda: None
    client_version: str = ""
    resume: Mapping[str, Mapping[str, Position]] = field(default_factory=dict)
    started: Mapping[str, str] = field(default_factory=dict)

    def link_settings(self) -> LinkSettings:
        """For one connection. Raises as `login`."""
        return LinkSettings(
            protocol=self.protocol,
            timeout_s=self.connect_timeout_s,
            client_version=self.client_version,
            ca_file=self.ca_file,
            login=self.login(),
        )


def feed_config(config: Config) -> FeedConfig:
    """What the feed needs of the configuration. Raises ConfigError, as `parse_station_spec`."""
    seedlink = config.seedlink
    if not seedlink.servers:
        raise ConfigError("no SeedLink server is given: name one with --server HOST:PORT")
    return FeedConfig(
        servers=[split_server(server) for server in seedlink.servers],
        spec=parse_station_spec(config.stations, sys.stdin),
        protocol=seedlink.protocol,
        start=seedlink.start,
        connect_timeout_s=seedlink.connect_timeout_s,
        network_timeout_s=seedlink.network_timeout_s,
        startup_timeout_s=seedlink.startup_timeout_s,
        discovery_s=seedlink.discovery_s,
        station_timeout_s=seedlink.station_timeout_s,
        ca_file=seedlink.ca_file,
        login=partial(find_login, seedlink),
        client_version=__version__,
    )


class SeedLinkFeed:
    """Keeps one connection alive and hands every packet to `deliver`.

    `deliver` may wait: TCP then pushes back on the server. `announce` is told the channels asked
    for, before their first packet. What was received and left out is added to `counts`.
    """

    def __init__(
        self,
        config: FeedConfig,
        deliver: Callable[[Packet], Awaitable[None]],
        announce: Callable[[list[Nslc]], None],
        clock: Clock,
        counts: Counter[str] | None = None,
    ) -> None:
        self.connected = False
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._config = config
        self._servers = [Server(*server) for server in config.servers]
        self._deliver = deliver
        self._announce = announce
        self._clock = clock
        self._progress = Progress(config.resume, limits_ns)
        self._watch = StationWatch(config.station_timeout_s)
        self._started = dict(config.started)  # when each server says that it started
        self._connected_once = False
        self._failures = 0  # since the last packet
        self._link: Link | None = None
        self._leaving_because = ""  # of us, not of the server
        self._happened: object = None
        self._happened_s = 0.0
        self._intent = Intent(
            spec=config.spec,
            network_timeout_s=config.network_timeout_s,
            discovery_s=config.discovery_s,
        )

    async def run(self) -> None:
        """Feed until cancelled.

        Raises UnavailableError if no server answers within the start-up time, ConfigError if the
        first that answers has none of the stations, AccessDeniedError if it refuses the login.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.startup_timeout_s
        while True:
            number = self._failures % len(self._servers)
            server = self._servers[number]
            received = self.counts["packets"]
            failure = await self._stay_connected(server, self._servers[:number])
            self.connected = False
            fruitful = self.counts["packets"] > received
            self._failures = 0 if fruitful else self._failures + 1
            if not self._connected_once and loop.time() >= deadline:
                raise UnavailableError(
                    f"no SeedLink server could be used in {self._config.startup_timeout_s:g} s; "
                    f"the last, {server}: {failure}. Check host and port, and that a "
                    "SeedLink server listens there"
                )
            wait_s = self._wait_s()
            if not self._connected_once:
                wait_s = min(wait_s, deadline - loop.time())
            self.counts["disconnections"] += 1
            log.warning(
                "seedlink_disconnected",
                server=str(server),
                error=failure,
                retry_s=round(wait_s, 1),
            )
            await asyncio.sleep(wait_s)

    def _wait_s(self) -> float:
        """Before the next attempt: longer after each round of all servers."""
        rounds = self._failures // len(self._servers)
        return min(2.0**rounds, MAX_BACKOFF_S) * random.uniform(0.5, 1.0)

    async def _stay_connected(self, server: Server, preferred: Sequence[Server]) -> str:
        """One connection from start to end; returns why it ended."""
        settings = self._config.link_settings()
        link = self._link = Link(server, settings)
        self._leaving_because = ""
        probing = asyncio.create_task(self._await_preferred(preferred, link))
        try:
            await link.open()
            if settings.login is not None and not link.v4:
                self._tell_login_unused(server)
            receiver, asked, known = await self._subscribe(link, str(server))
            await receiver.run(asked, known)
        except AccessDeniedError as error:
            if not self._connected_once:
                raise AccessDeniedError(f"{server}: {error}") from error
            return str(error)
        except (LinkError, OSError) as error:
            return self._leaving_because or str(error) or type(error).__name__
        finally:
            self._link = None
            try:
                await end(probing)
            finally:
                await link.close()
        return "the server closed the session"

    def pulse(self) -> object:
        """Another value at each call as long as something happens in good time.

        Packets, a connection, an attempt to make one: without any of them for longer than all
        time limits together allow, the value stays.
        """
        now_s = time.monotonic()
        happened = (self.counts["packets"], self.counts["disconnections"], self.connected)
        if happened != self._happened:
            self._happened, self._happened_s = happened, now_s
        limits_s = self._config.network_timeout_s + MAX_BACKOFF_S
        limits_s += NEGOTIATION_REPLIES * self._config.connect_timeout_s
        return now_s if now_s - self._happened_s < limits_s else happened

    async def change_stations(self, spec: StationSpec) -> None:
        """Want these from now on. A connection is made anew; each station goes on where it was.

        Does nothing if they are those of before.
        """
        if spec == self._config.spec:
            return
        self._config = replace(self._config, spec=spec)
        self._intent = replace(self._intent, spec=spec)
        if self._link is not None:
            await self._leave(self._link, "other stations are wanted")

    async def _leave(self, link: Link, reason: str) -> None:
        self._leaving_because = reason
        await link.close()

    async def _await_preferred(self, preferred: Sequence[Server], link: Link) -> None:
        """Close `link` when one of the servers named before its own can be used again."""
        while preferred:
            await asyncio.sleep(self._config.discovery_s)
            for server in preferred:
                try:
                    listing = await look_up(server, self._config.link_settings(), self._config.spec)
                except (LinkError, AccessDeniedError, OSError):
                    continue
                if any(map(self._config.spec.matches, listing.channels)):
                    await self._leave(link, "a server named before it is back")
                    return

    async def _subscribe(self, link: Link, server: str) -> tuple[Receiver, set[str], list[Nslc]]:
        """Ask for every wanted channel the server has, each station from where it stands."""
        listing = await listing_of(link, self._config.spec)
        wanted = [nslc for nslc in sorted(listing.channels) if self._config.spec.matches(nslc)]
        if not wanted:
            self._complain_of_no_match(listing, server)
        standings, by_time = self._progress.begin(server)
        anew = self._counts_anew(listing, server)
        if anew:
            log.warning("seedlink_restarted", server=server, started=listing.started)
        requests = plan(
            wanted,
            standings,
            v4=link.v4,
            by_time=by_time or anew,
            start=self._config.start,
        )
        if self._config.start == "now":
            self._progress.asked((request.name for request in requests), self._clock())
        self._announce(wanted)
        refusals = await link.subscribe(requests)
        self._tell_refusals(refusals, server)
        if anew:
            self._progress.forget_numbers(server)
        self._started[server] = listing.started
        asked = {request.name for request in requests} - set(refusals.stations)
        self._watch.expect(asked, asyncio.get_running_loop().time())
        self._connected_once = self.connected = True
        log.info(
            "seedlink_connected",
            server=server,
            stations=len(asked),
            channels=len(wanted),
            protocol="V4" if link.v4 else "V3",
        )
        receiver = Receiver(
            link,
            server,
            listing.started,
            self._intent,
            self._deliver,
            self._progress,
            self._watch,
            self.counts,
            self._clock,
        )
        return receiver, asked, wanted

    def _counts_anew(self, listing: Listing, server: str) -> bool:
        """Whether the server has started again, or has never given the numbers that we have."""
        before = self._started.get(server, listing.started)
        standings = self._progress.standings(server)
        return bool(standings) and (before != listing.started or listing.counts_anew(standings))

    def _tell_login_unused(self, server: Server) -> None:
        """Version 3 has no login, so nothing was refused; but somebody believes to be logged in."""
        self.counts["logins_unused"] += 1
        log.warning(
            "seedlink_login_unused",
            server=str(server),
            reason="SeedLink version 3 has no login: we get what anybody gets",
        )

    def _tell_refusals(self, refusals: Refusals, server: str) -> None:
        for what, names in (("stations", refusals.stations), ("selectors", refusals.selectors)):
            if names:
                self.counts[f"{what}_refused"] += len(names)
                log.warning(
                    "request_refused",
                    server=server,
                    what=what,
                    names=names[:SHOWN],
                    count=len(names),
                    reason=refusals.reason,
                )

    def _complain_of_no_match(self, listing: Listing, server: str) -> None:
        asked = str(self._config.spec)
        if self._connected_once:
            raise LinkError(f"{server} has none of the channels {asked} any more")
        raise ConfigError(no_match(self._config.spec, listing, server))
