"""One connection to a server: the only file that knows the library seedlink-client.

The library connects, says HELLO, picks the version and logs in. Commands, INFO and the data phase
are read here: its own negotiation must be over within one timeout however many stations there are,
is ended by one refused station (v4), and goes on by number alone.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from seedlink_client import AsyncSeedLink, Protocol, SeedLinkAuthError, SeedLinkError, mseed
from seedlink_client.protocol import SeedLinkResponse, parse_reply

from streamer.config import Server
from streamer.errors import AccessDeniedError, ConfigError
from streamer.seedlink.packets import InfoAnswer, LinkError, PacketSplitter
from streamer.seedlink.requests import StationRequest
from streamer.timebase import NS_PER_S

_PROTOCOLS = {"auto": None, "3": Protocol.V3, "4": Protocol.V4}
# What one wake-up can take: a hundred packets.
_READ_BYTES = 1 << 16
# The second address of a host is tried when the first has not answered for this long.
_NEXT_ADDRESS_S = 0.3

# A record that claims to last longer is damaged: thirty years.
MAX_RECORD_S = 1e9

# User and password, or a token (JWT).
Login = tuple[str, str] | str


@dataclass(frozen=True, kw_only=True)
class LinkSettings:
    """How to connect: the version (`auto`, `3`, `4`), times in s, who we are, whom we trust."""

    protocol: str
    timeout_s: float
    client_version: str
    ca_file: Path | None
    login: Login | None


@dataclass(slots=True)
class Refusals:
    """What a server did not accept: stations; selectors and requests as `NET_STA: command`."""

    stations: list[str] = field(default_factory=list)
    selectors: list[str] = field(default_factory=list)
    reason: str = ""


class Link(AsyncSeedLink):
    """A connection to `server`; use as `async with`, then `info`, `subscribe`, `arrived`."""

    def __init__(self, server: Server, settings: LinkSettings) -> None:
        super().__init__(
            server.host,
            server.port,
            timeout=settings.timeout_s,
            tls=server.tls,
            protocol=_PROTOCOLS[settings.protocol],
            clientname="msnet-stream",
            clientversion=settings.client_version,
            auth=settings.login,
        )
        self._ca_file = settings.ca_file

    @property
    def v4(self) -> bool:
        """Whether version 4 was agreed upon."""
        return self.protocol is Protocol.V4

    async def open(self) -> None:
        """Connect, HELLO, agree on the version, log in.

        Raises LinkError, AccessDeniedError if the login is refused.
        """
        try:
            await self.connect()
        except SeedLinkAuthError as error:
            raise AccessDeniedError(f"the login was refused: {error}") from error
        except (SeedLinkError, OSError, ValueError) as error:
            raise LinkError(str(error) or type(error).__name__) from error

    async def info(self, item: str) -> bytes:  # type: ignore[override]
        """The whole answer to `INFO item`. Raises RefusedError, LinkError."""
        splitter, answer = PacketSplitter(v4=self.v4), InfoAnswer(v4=self.v4)
        await self._write(f"INFO {item}\r\n")
        async with self._patience():
            while True:
                data = self.buffered() or await self._read()
                for frame in splitter.feed(data):
                    text = answer.add(frame) if frame.is_info else None
                    if text is not None:
                        return text

    async def subscribe(self, requests: Iterable[StationRequest]) -> Refusals:
        """Ask for all stations and begin the data phase; what is refused is left out.

        Raises LinkError if nothing is accepted, or an answer takes longer than the timeout.
        """
        refusals, accepted = Refusals(), 0
        for request in requests:
            (reply,) = await self._ask([request.station])
            if not reply:
                refusals.stations.append(request.name)
                refusals.reason = _reason(reply)
                continue
            selectors = [selector for selector, _ in request.selects]
            lines = [command for _, command in request.selects] + [request.data[0]]
            *selects, data = await self._ask(lines)
            for selector, reply in zip(selectors, selects, strict=True):
                if not reply:
                    refusals.selectors.append(f"{request.name}:{selector}")
                    refusals.reason = _reason(reply)
            for line in request.data[1:]:
                if data:
                    break
                (data,) = await self._ask([line])
            accepted += bool(data)
            if not data:
                refusals.stations.append(request.name)
                refusals.reason = _reason(data)
        if not accepted:
            raise LinkError(f"no station was accepted: {refusals.reason}")
        await self._write("END\r\n")
        return refusals

    def buffered(self) -> bytes:
        """What came behind the last reply; it is given out once."""
        data = bytes(self._recv_view[self._recv_start : self._recv_end])
        self._reset_recv_buf()
        return data

    async def arrived(self, until_s: float) -> bytes:
        """The next bytes, however many; none if none come until `until_s` (clock of the loop).

        Raises LinkError when the server closes.
        """
        limit = asyncio.timeout_at(until_s)
        try:
            async with limit:
                return await self._read()
        except TimeoutError:
            if not limit.expired():  # that of the connection itself
                raise
            return b""

    async def pause(self, pause_s: float) -> None:
        """Leave what arrives to the kernel for so long; when all is read that has arrived."""
        if self._writer is not None:
            transport = cast(asyncio.Transport, self._writer.transport)
            transport.pause_reading()
            try:
                await asyncio.sleep(pause_s)
            finally:
                transport.resume_reading()

    def ask_info(self, item: str) -> None:
        """Ask in the data phase: the answer comes amid the packets."""
        if self._writer is not None:
            self._writer.write(f"INFO {item}\r\n".encode())

    async def close(self) -> None:
        """Close at once: a peer that is gone must not be waited for."""
        if self._writer is not None:
            self._writer.transport.abort()
        await super().close()

    async def _ask(self, lines: Sequence[str]) -> list[SeedLinkResponse]:
        """The reply to each command. In v4 they are sent together, which saves round trips."""
        replies: list[SeedLinkResponse] = []
        for batch in [lines] if self.v4 else [[line] for line in lines]:
            await self._write("".join(f"{line}\r\n" for line in batch))
            for _ in batch:
                async with self._patience():
                    replies.append(parse_reply(await self._reply()))
        return replies

    async def _reply(self) -> str:
        try:
            return await self._read_line()
        except (SeedLinkError, ValueError) as error:
            raise LinkError(str(error)) from error

    async def _read(self) -> bytes:
        if self._reader is None:
            raise LinkError("not connected")
        data = await self._reader.read(_READ_BYTES)
        if not data:
            raise LinkError("the server closed the connection")
        return data

    async def _write(self, text: str) -> None:
        if self._writer is None:
            raise LinkError("not connected")
        self._writer.write(text.encode("ascii"))
        await self._writer.drain()

    def _patience(self) -> asyncio.Timeout:
        """For one answer, not for the whole negotiation: there may be thousands of stations."""
        return asyncio.timeout(self._timeout)

    def _ssl_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca_file)

    async def _connect_socket(self) -> None:
        """As in the library, but with all addresses of the host, and the own CA."""
        try:
            context = self._ssl_context() if self._tls else None
        except OSError as error:  # SSLError is one
            raise ConfigError(f"the CA file {self._ca_file} cannot be used: {error}") from error
        try:
            self._reader, self._writer = await asyncio.open_connection(
                self._host,
                self._port,
                ssl=context,
                happy_eyeballs_delay=_NEXT_ADDRESS_S,
            )
        except ssl.SSLCertVerificationError as error:
            raise SeedLinkError(
                f"its certificate is not trusted: {error.verify_message}; "
                "name its CA with seedlink.ca_file"
            ) from error
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reset_recv_buf()


def limits_ns(record: bytes) -> tuple[int, int] | None:
    """Half-open limits of a miniSEED record, UTC ns; None if it is damaged or has no samples."""
    try:
        header = mseed.parse_record(record)
    except SeedLinkError:
        return None
    rate, count = header.samprate, header.samplecnt
    length_s = count / rate if rate > 0 else 0.0
    if not 0 < length_s < MAX_RECORD_S:
        return None
    return header.starttime, header.starttime + round(length_s * NS_PER_S)


def _reason(reply: SeedLinkResponse) -> str:
    return " ".join(filter(None, (reply.code, reply.message))) or reply.status


class _WithoutSecrets(logging.Filter):
    """The library logs each command at level debug, AUTH included."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "AUTH" not in record.getMessage()


logging.getLogger("seedlink_client.aio").addFilter(_WithoutSecrets())
