"""The replay server: an archive as a SeedLink 3.1 and 4.0 server on a TCP port.

    ReplayServer   the port, the clock that releases records, what all clients share
    Session        one client: its commands, then its packets

Nothing is copied per client: a session is a position in the shared, immutable catalogue. A client
that does not read stops only its own session, at the write buffer of its connection.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Literal, Self

import structlog

from streamer import __version__
from streamer.clock import Clock
from streamer.errors import UnavailableError
from streamer.seedlink.catalogue import ArchiveRecord, Catalogue
from streamer.seedlink.handshake import Handshake, Plan
from streamer.seedlink.info import ConnectionInfo, ServerInfo, info_v3, info_v4
from streamer.seedlink.protocol import (
    TERMINATOR,
    Command,
    CommandError,
    LineSplitter,
    error_line,
    packet_v3,
    packet_v4,
    station_id,
)
from streamer.timebase import NS_PER_S

log = structlog.get_logger()

Mode = Literal["from-start", "shift-to-now"]
Progress = Callable[[int, int, int], None]

# obspy and libslink take the number behind "v" for the highest protocol version.
SOFTWARE = f"SeedLink v4.0 (msnet-stream/{__version__})"

# Each connection costs a task and a write buffer; a demonstration or a test needs a handful.
MAX_CLIENTS = 500

_READ_BYTES = 4096
# A client that reads as fast as we write never makes us wait; without a pause after this many
# records no other client would get a turn.
_RECORDS_PER_TURN = 64


class ReplayServer:
    """Serves records to any number of clients, released at `speed` times their own pace.

    `mode` "from-start": the replay begins when the first client asks for data, and DATA without a
    number means the earliest record. "shift-to-now": it begins with the server, record times are
    shifted by whole seconds so that nothing is ever stamped in the future (at speed 1 the archive
    starts now, at `math.inf` it ends now), and DATA without a number means the next record.
    `speed` `math.inf` releases everything at once. When all is released (`exhausted`) connections
    stay open and idle, as with a live server.

    `progress(released, total, clients)` is called after each change. `clock` gives the UTC ns to
    shift to. The constructor does no I/O; raises ValueError for no records, a record that has not
    512 bytes, or a speed that is not positive.
    """

    def __init__(
        self,
        records: Iterable[ArchiveRecord],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        mode: Mode = "from-start",
        organisation: str = "msnet-stream replay",
        clock: Clock = time.time_ns,
        progress: Progress | None = None,
        first_sequence: int = 1,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be positive, got {speed}")
        self.catalogue = Catalogue(records, first_sequence)
        self.exhausted = asyncio.Event()
        self.released = 0
        self.organisation = organisation
        self.mode: Mode = mode
        self.clock = clock
        self.port = port
        self._host = host
        self._speed = speed
        self._progress = progress
        self._server: asyncio.Server | None = None
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._replaying = False
        self._started_ns = 0

    async def start(self) -> None:
        """Bind the port (0: any free one; then see `port`). Raises UnavailableError."""
        try:
            self._server = await asyncio.start_server(self._accept, self._host, self.port)
        except OSError as error:
            raise UnavailableError(
                f"cannot serve on {self._host}:{self.port}: {error.strerror or error}; "
                "choose another port"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._started_ns = self.clock()
        if self.mode == "shift-to-now":
            self.catalogue.shift_to(self._started_ns - self._lead_ns())
            self.begin()

    def _lead_ns(self) -> int:
        """How far the time of the archive runs ahead of ours until all is released."""
        span_ns = self.catalogue.end_ns - self.catalogue.start_ns
        return round(span_ns * max(1 - 1 / self._speed, 0))

    async def serve_forever(self) -> None:
        """Return after `close`; cancelled, close."""
        try:
            await self._closed.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop listening and drop all clients. May be called again."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def clients(self) -> int:
        """Open connections."""
        return len(self._sessions)

    def info(self) -> ServerInfo:
        """What INFO can tell at this moment."""
        connections = [session.info() for session in self._sessions]
        stations = self.catalogue.stations(self.released)
        return ServerInfo(SOFTWARE, self.organisation, self._started_ns, stations, connections)

    def begin(self) -> None:
        """Let the replay begin, unless it has."""
        if self._replaying:
            return
        self._replaying = True
        if math.isinf(self._speed):
            self._release_up_to(len(self.catalogue))
        else:
            self._own(self._replay())

    async def wait_beyond(self, position: int) -> int:
        """Wait until more than `position` records are released; how many are."""
        while self.released <= position:
            await self._changed.wait()
        return self.released

    async def _replay(self) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        while self.released < len(self.catalogue):
            due_s = begun_s + self.catalogue.due_after_ns(self.released) / NS_PER_S / self._speed
            await asyncio.sleep(due_s - loop.time())
            elapsed_ns = round((loop.time() - begun_s) * self._speed * NS_PER_S)
            # At least one: a timer may fire within its resolution before its time.
            self._release_up_to(max(self.released + 1, self.catalogue.due(elapsed_ns)))

    def _release_up_to(self, count: int) -> None:
        self.released = count
        self._changed.set()
        self._changed = asyncio.Event()
        if count == len(self.catalogue):
            self.exhausted.set()
            log.info("replay_exhausted", records=count)
        self._report()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._own(self._run_session(reader, writer))

    async def _run_session(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        session = Session(self, reader, writer)
        try:
            if len(self._sessions) >= MAX_CLIENTS:
                log.warning("client_refused", peer=session.peer, clients=len(self._sessions))
                await session.send(error_line(CommandError("LIMIT", "too many clients"), v4=True))
                return
            self._sessions.add(session)
            self._report()
            await session.run()
        except asyncio.CancelledError:
            writer.transport.abort()  # a peer that does not read must not hold a closing server
            raise
        finally:
            self._sessions.discard(session)
            self._report()
            writer.close()

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._disown)

    def _disown(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("replay_task_failed", exc_info=task.exception())

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.released, len(self.catalogue), self.clients)


class Session:
    """One client from its first command to its end."""

    def __init__(
        self, server: ReplayServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._handshake = Handshake(SOFTWARE, server.organisation, server.catalogue.station_ids)
        self._plan: Plan | None = None
        self._streaming: asyncio.Task[None] | None = None
        self._packets = 0
        self._connected_ns = server.clock()
        host, port, *_ = writer.get_extra_info("peername") or ("unknown", 0)
        self._host, self._port = str(host), int(port)

    @property
    def peer(self) -> str:
        """`host:port` of the client."""
        return f"{self._host}:{self._port}"

    def info(self) -> ConnectionInfo:
        """What INFO CONNECTIONS tells of it."""
        stations = self._plan.stations if self._plan else ()
        return ConnectionInfo(
            self._host,
            self._port,
            self._connected_ns,
            self._handshake.agent,
            stations,
            self._packets,
        )

    async def run(self) -> None:
        """Obey commands until the client leaves; records flow beside, in a task of its own."""
        log.info("client_connected", peer=self.peer)
        try:
            async with asyncio.TaskGroup() as group:
                await self._converse(group)
                if self._streaming is not None:
                    self._streaming.cancel()
        except* OSError as lost:
            # The client is gone, or the way to it: nobody is there to be told.
            log.info("client_lost", peer=self.peer, reason=str(lost.exceptions[0]))
        finally:
            log.info("client_disconnected", peer=self.peer, packets=self._packets)

    async def send(self, message: bytes) -> None:
        """Write one whole packet or reply and wait while the client is behind.

        All bytes of a session pass here: the place to delay, cut or spoil them.
        """
        self._writer.write(message)
        await self._writer.drain()

    async def _converse(self, group: asyncio.TaskGroup) -> None:
        lines = LineSplitter()
        while data := await self._reader.read(_READ_BYTES):
            try:
                commands = lines.feed(data)
            except CommandError as error:
                await self._refuse(error)
                return
            for command in commands:
                if command.name == "BYE":
                    return
                try:
                    await self._obey(command, group)
                except CommandError as error:
                    await self._refuse(error)
                    if error.code == "LIMIT":
                        return

    async def _refuse(self, error: CommandError) -> None:
        log.info("command_refused", peer=self.peer, reason=str(error))
        if not self._handshake.ready:  # a line amid packets would break the framing
            await self.send(self._handshake.refusal(error))

    async def _obey(self, command: Command, group: asyncio.TaskGroup) -> None:
        if command.name == "INFO":
            await self._answer_info(command)
        elif not self._handshake.ready:  # "Overall Operation": only INFO and BYE in the data phase
            reply = self._handshake.handle(command)
            if reply:
                await self.send(reply)
            if self._handshake.ready:
                self._server.begin()
                self._streaming = group.create_task(self._stream_records())

    async def _answer_info(self, command: Command) -> None:
        if self._handshake.v4:
            await self.send(info_v4(command.arguments, self._server.info()))
            return
        level = command.arguments[0].upper() if command.arguments else ""
        for packet in info_v3(level, self._server.info(), self._server.clock()):
            await self.send(packet)

    async def _stream_records(self) -> None:
        server = self._server
        plan = Plan(self._handshake, server.catalogue, server.released, server.mode == "from-start")
        self._plan = plan
        position = plan.start
        while plan.stop is None or position < plan.stop:
            released = await server.wait_beyond(position)
            turn_ends = min(released, position + _RECORDS_PER_TURN)
            if plan.stop is not None:
                turn_ends = min(turn_ends, plan.stop)
            for wanted in filter(plan.wants, range(position, turn_ends)):
                await self.send(self._packet(wanted))
                self._packets += 1
            position = turn_ends
            await asyncio.sleep(0)
        await self.send(TERMINATOR)

    def _packet(self, position: int) -> bytes:
        catalogue = self._server.catalogue
        sequence, data = catalogue.sequence(position), catalogue.data(position)
        if self._handshake.v4:
            return packet_v4(sequence, station_id(catalogue.nslc(position)), data)
        return packet_v3(sequence, data)
