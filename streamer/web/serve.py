"""`msnet-stream web`: what the Redis keys say, on the board, behind an HTTP server.

Works from any host that reaches the Redis server; it needs to read, and to write questions for
waveforms (`streamer.bus.asks`), no more.
"""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import structlog
import uvicorn

from streamer.association.message import Event
from streamer.bus.asks import Ask, ask
from streamer.bus.connect import explained, open_connection
from streamer.bus.heartbeat import read_stations
from streamer.bus.reading import follow_entries, id_since
from streamer.bus.redis_url import RedisServer
from streamer.errors import DataError, MsnetError, UnavailableError
from streamer.picks import Pick
from streamer.tasks import end
from streamer.web.app import make_app
from streamer.web.board import Board

log = structlog.get_logger()

_SINCE = "1h"  # what is on the page when it opens
_STATIONS_S = 2.0
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def serve_page(
    server: RedisServer,
    prefix: str,
    host: str,
    port: int,
    *,
    hosts: Iterable[str] = (),
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until SIGTERM or SIGINT; `started` is told its address.

    `hosts` are further names by which browsers reach it. Raises UnavailableError if the port is
    taken or Redis is not there.
    """
    asyncio.run(_serve(server, prefix, host, port, [*_LOOPBACK, host, *hosts], started))


async def _serve(
    server: RedisServer,
    prefix: str,
    host: str,
    port: int,
    hosts: list[str],
    started: Callable[[str], None],
) -> None:
    board, loop = Board(), asyncio.get_running_loop()
    connection = open_connection(server)
    with explained(server):
        await connection.client.ping()

    async def look_up(question: Ask) -> object | None:
        try:
            with explained(server):
                return await ask(connection, prefix, question)
        except MsnetError as error:
            log.warning("waveforms_unavailable", error=str(error))
            return None

    settings = uvicorn.Config(
        make_app(board, look_up, hosts),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,  # longer than a question for waveforms takes
    )
    http = _Server(settings, board, started)
    since = id_since(_SINCE, time.time_ns())
    for key, add in ((f"{prefix}:picks", _pick), (f"{prefix}:events", _event)):
        follow = (server, key, since, add, loop, board)
        threading.Thread(target=_follow, args=follow, name=key, daemon=True).start()
    watching = asyncio.create_task(_watch_stations(connection.client, server, prefix, board))
    try:
        with suppress(asyncio.CancelledError):
            await http.serve()
    except SystemExit as error:  # how uvicorn says that it cannot listen
        raise UnavailableError(f"cannot serve on {host}:{port}: choose another port") from error
    finally:
        await end(watching)
        await connection.close()


class _Server(uvicorn.Server):
    """Tells its address once it listens, and ends the live streams when it is to end."""

    def __init__(
        self, config: uvicorn.Config, board: Board, started: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self._board = board
        self._tell = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Both signals mean an orderly end; uvicorn would raise them again afterwards."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            log.info("page_served", address=f"{host}:{port}")
            self._tell(f"http://{host}:{port}/")

    async def shutdown(self, sockets: Any = None) -> None:
        """Stop."""
        self._board.close()
        await super().shutdown(sockets)


def _follow(
    server: RedisServer,
    key: str,
    since: str,
    add: Callable[[Board, Mapping[str, str]], None],
    loop: asyncio.AbstractEventLoop,
    board: Board,
) -> None:
    """In a thread: put each entry on the board, for ever."""
    for _, fields in follow_entries(server, key, since):
        with suppress(RuntimeError):  # the loop has ended, and so does this process
            loop.call_soon_threadsafe(add, board, fields)


def _pick(board: Board, fields: Mapping[str, str]) -> None:
    try:
        board.add_pick(Pick.from_fields(fields).to_fields())
    except DataError as error:
        log.warning("pick_unreadable", error=str(error))


def _event(board: Board, fields: Mapping[str, str]) -> None:
    try:
        board.add_event(json.loads(Event.from_fields(fields).to_json()))
    except DataError as error:
        log.warning("event_unreadable", error=str(error))


async def _watch_stations(client: Any, server: RedisServer, prefix: str, board: Board) -> None:
    """Look at the state of the stations every few seconds."""
    while True:
        try:
            with explained(server):
                found = await client.hgetall(f"{prefix}:stations")
            board.set_stations(read_stations(dict(sorted(found.items()))))
        except MsnetError as error:
            log.warning("stations_unreadable", error=str(error))
        await asyncio.sleep(_STATIONS_S)
