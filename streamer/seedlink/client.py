"""The live feed: connect, find out what the server has, ask for it channel by channel, stay on.

Headers, TLS and both protocol versions are seedlink-client's. What is decided here: wildcards are
resolved against INFO STREAMS into explicit stations (a wildcard cannot be resumed, and one unknown
station must not cost the others), a lost connection is taken up again after the last packet of each
station, servers are tried in turn, and the wait between attempts grows with jitter.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import structlog
from seedlink_client import (
    AsyncSeedLink,
    Protocol,
    SeedLinkAuthError,
    SeedLinkError,
    SeedLinkPacket,
    mseed,
)
from seedlink_client.protocol import (
    FORMAT_JSON,
    FORMAT_MSEED2,
    FORMAT_XML,
    HEADSIZE_V3,
    HEADSIZE_V4,
    MAX_RECORD_LEN,
    MIN_PAYLOAD_DETECT,
    SUBFORMAT_JSON_ERROR,
    StreamEvent,
    classify_stream_prefix,
    parse_header_v3,
    parse_header_v4,
    parse_reply,
    scan_line,
)

from streamer.clock import Clock
from streamer.errors import AccessDeniedError, ConfigError, UnavailableError
from streamer.seedid import Nslc
from streamer.seedlink.state import Position
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
# What one wake-up can take: a hundred packets.
_READ_BYTES = 1 << 16
_ERROR_BYTES = len(b"ERROR")
# Without a blockette that tells its length, a record in v3 has this one.
_RECORD_BYTES_V3 = 512

_PROTOCOLS = {"auto": None, "3": Protocol.V3, "4": Protocol.V4}


@dataclass(frozen=True, slots=True)
class Packet:
    """One SeedLink packet: the record as sent, when it arrived (UTC ns) and from which server.

    `station` is NET_STA, `sequence` the number the server gave it. Together with the start time of
    the record they are the `Position` from which the server can go on.
    """

    data: bytes
    received_ns: int
    server: str
    station: str
    sequence: int | None


class _Link(AsyncSeedLink):
    """The library's link for large networks.

    Its own negotiation must be over within one timeout, however many stations there are. Its own
    `collect` waits for each packet with a task and a timer, even if a hundred have arrived.
    """

    _reply_timeout_s: float | None = None
    _keepalive_s = 0.0  # clock of the loop when the next one is due; 0 before the data phase

    async def negotiate(self) -> None:
        """As in the library, but the timeout holds for each reply."""
        self._reply_timeout_s, self._timeout = self._timeout, None
        await super().negotiate()

    async def _send_command(self, cmd: Any) -> Any:
        async with asyncio.timeout(self._reply_timeout_s):
            return await super()._send_command(cmd)

    def buffered(self) -> bytes:
        """What came behind the last reply of the negotiation."""
        return bytes(self._recv_view[self._recv_start : self._recv_end])

    async def arrived(self, until_s: float) -> bytes:
        """The next bytes, however many; asks for a sign of life now and then.

        Raises SeedLinkError when the server closes or nothing comes until `until_s` (clock of the
        loop).
        """
        loop = asyncio.get_running_loop()
        self._keepalive_s = self._keepalive_s or loop.time() + KEEPALIVE_S
        while self._reader is not None and self._writer is not None:
            limit = asyncio.timeout_at(min(until_s, self._keepalive_s))
            try:
                async with limit:
                    data = await self._reader.read(_READ_BYTES)
            except TimeoutError:
                if not limit.expired():  # that of the connection itself
                    raise
                if loop.time() >= until_s:
                    raise SeedLinkError("no data within the network timeout") from None
                self._writer.write(b"INFO ID\r\n")
                self._keepalive_s = loop.time() + KEEPALIVE_S
                continue
            if data:
                return data
            break
        raise SeedLinkError("the server closed the connection")


class PacketSplitter:
    """The bytes of a server in its data phase -> packets, in whatever pieces they arrive."""

    def __init__(self, protocol: Protocol | None) -> None:
        self.ended = False  # the server has sent all that was asked for
        self._packet = _packet_v4 if protocol is Protocol.V4 else _packet_v3
        self._pending = b""

    def feed(self, data: bytes) -> Iterator[SeedLinkPacket]:
        """The packets completed by `data`; to be exhausted before the next call.

        Raises SeedLinkError behind the last packet before what cannot be a packet.
        """
        data = self._pending + data
        at = 0
        while not self.ended and (found := self._next(data, at)) is not None:
            packet, at = found
            if (
                packet.payload_format == FORMAT_JSON
                and packet.payload_subformat == SUBFORMAT_JSON_ERROR
            ):
                raise SeedLinkError(packet.payload.decode(errors="replace"))
            yield packet
        self._pending = data[at:]

    def _next(self, data: bytes, at: int) -> tuple[SeedLinkPacket, int] | None:
        """The packet that begins at byte `at` and where the next one does; None if incomplete."""
        if data.startswith(b"S", at):
            return self._packet(data, at)
        begin = data[at : at + _ERROR_BYTES]
        event = classify_stream_prefix(begin)
        if event is StreamEvent.END:
            self.ended = True
        elif event is StreamEvent.ERROR:
            line = scan_line(data, at, len(data), 0)
            if line is not None:
                reply = parse_reply(line[0])
                raise SeedLinkError(reply.message or "the server sent ERROR", reply.code)
        elif not b"ERROR".startswith(begin) and not b"END".startswith(begin):
            raise SeedLinkError(f"unexpected data between packets: {begin!r}")
        return None


def _packet_v4(data: bytes, at: int) -> tuple[SeedLinkPacket, int] | None:
    body = at + HEADSIZE_V4
    if body > len(data):
        return None
    header = parse_header_v4(data[at:body])
    if header.payload_length > MAX_RECORD_LEN:
        raise SeedLinkError(f"packet of {header.payload_length} bytes is longer than any record")
    payload_at = body + header.station_id_length
    stop = payload_at + header.payload_length
    if stop > len(data):
        return None
    packet = SeedLinkPacket(
        station_id=data[body:payload_at].decode("ascii"),
        seqnum=header.seqnum,
        payload_format=header.payload_format,
        payload_subformat=header.payload_subformat,
        payload=data[payload_at:stop],
    )
    return packet, stop


def _packet_v3(data: bytes, at: int) -> tuple[SeedLinkPacket, int] | None:
    """v3 tells neither the length of the record nor its station: the record does."""
    payload_at = at + HEADSIZE_V3
    least = payload_at + MIN_PAYLOAD_DETECT
    if least > len(data):
        return None
    header = parse_header_v3(data[at:payload_at])
    detected = mseed.detect_record_length(data[payload_at:least])
    length = detected[0] if detected else _RECORD_BYTES_V3
    if length > MAX_RECORD_LEN:
        raise SeedLinkError(f"a record says that it has {length} bytes")
    stop = payload_at + length
    if stop > len(data):
        return None
    payload = data[payload_at:stop]
    packet = SeedLinkPacket(
        station_id="" if header.is_info else _station_id(payload),
        seqnum=header.seqnum,
        payload_format=FORMAT_XML if header.is_info else FORMAT_MSEED2,
        payload_subformat="",
        payload=payload,
    )
    return packet, stop


def _station_id(record: bytes) -> str:
    """`NET_STA` of a miniSEED record."""
    if record.startswith(b"MS"):  # version 3
        return mseed.station_id(mseed.parse_record(record))
    return _seed_station_id(record[8:20])


@lru_cache(MAX_CHANNELS)
def _seed_station_id(codes: bytes) -> str:
    """Of station, location, channel and network code (SEED manual, chapter 8: bytes 9 to 20)."""
    text = codes.decode("ascii", errors="replace")
    return f"{text[10:]}_{text[:5]}".replace(" ", "")


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """What to ask of whom.

    `servers` are (host, port) by preference; `start` is `now`, `earliest` or an ISO 8601 time.
    `resume` maps a server (`host:port`) and a station (`NET_STA`) to the position behind which the
    first connection goes on, instead of at `start`.
    """

    servers: Sequence[tuple[str, int]]
    spec: StationSpec
    protocol: str = "auto"
    start: str = "now"
    connect_timeout_s: float = 15.0
    network_timeout_s: float = 120.0
    startup_timeout_s: float = 30.0
    client_version: str = ""
    resume: Mapping[str, Mapping[str, Position]] = field(default_factory=dict)


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
        self._last: dict[str, dict[str, Position]] = {  # of each station of each server
            server: dict(stations) for server, stations in config.resume.items()
        }
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
        link = _Link(
            *server,
            timeout=self._config.connect_timeout_s,
            protocol=_PROTOCOLS[self._config.protocol],
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
            await link.close()
        return "the server closed the connection"

    async def _subscribe(self, link: _Link, server: str) -> None:
        """Ask for every wanted channel the server has, each station from where it was left."""
        channels = _channels(await link.info_dict("STREAMS"), link.protocol)
        wanted = [nslc for nslc in channels if self._config.spec.matches(nslc)]
        if not wanted:
            self._complain_of_no_match(channels, server)
        last = self._last.setdefault(server, {})
        if self._config.start != "now" and not any(self._last.values()):
            earliest = self._config.start == "earliest"
            start_ns = EARLIEST_NS if earliest else parse_iso(self._config.start)
            link.set_timewindow(iso(start_ns))
        for station in sorted({(nslc.network, nslc.station) for nslc in wanted}):
            name = "_".join(station)
            selectors = [_selector(n) for n in wanted if (n.network, n.station) == station]
            position = last.get(name)
            link.add_stream(
                name,
                selectors,
                seqnum=position.sequence if position else None,
                timestamp=iso(position.time_ns) if position and position.time_ns else None,
            )
        self._announce(wanted)
        await link.negotiate()
        self._connected_once = self.connected = True
        protocol = link.protocol.name if link.protocol else ""
        log.info("seedlink_connected", server=server, channels=len(wanted), protocol=protocol)

    async def _receive(self, link: _Link, server: str) -> None:
        """Deliver packets until the server ends the session. Raises SeedLinkError if they cease."""
        loop = asyncio.get_running_loop()
        splitter = PacketSplitter(link.protocol)
        last = self._last[server]
        data, received_ns, latest_s = link.buffered(), self._clock(), loop.time()
        while True:
            for packet in splitter.feed(data):
                if packet.is_info:  # the answer to a keepalive, which is no data
                    continue
                station, sequence = packet.station_id, packet.seqnum
                await self._deliver(Packet(packet.payload, received_ns, server, station, sequence))
                if sequence is not None:
                    last[station] = Position(sequence, _start_ns(packet.payload))
                latest_s = loop.time()
            if splitter.ended:
                return
            data = await link.arrived(latest_s + self._config.network_timeout_s)
            received_ns = self._clock()

    def _complain_of_no_match(self, channels: list[Nslc], server: str) -> None:
        asked = str(self._config.spec)
        if self._connected_once:
            raise SeedLinkError(f"{server} has none of the channels {asked} any more")
        nearest = ", ".join(self._config.spec.nearest(str(nslc) for nslc in channels))
        hint = f"nearest: {nearest}" if nearest else "the server has no channels at all"
        raise ConfigError(f"{server} has no channel that matches --stations {asked}; {hint}")


def _start_ns(record: bytes) -> int | None:
    try:
        return mseed.parse_record(record).starttime
    except SeedLinkError:  # a damaged record: the number has to do
        return None


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
