"""`msnet-stream replay`: an archive as a live SeedLink server, with its progress."""

import asyncio
import math
import signal
from collections.abc import Iterable
from pathlib import Path

import click
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streamer.config import Server
from streamer.errors import ConfigError
from streamer.seedlink.server import Mode, ReplayServer
from streamer.waveforms.archive import pack

log = structlog.get_logger()


def parse_speed(text: str) -> float:
    """A positive factor, or infinity for `max`. Raises ConfigError."""
    try:
        speed = math.inf if text == "max" else float(text)
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise ConfigError(f"--speed {text}: give a positive number (times real time) or max")
    return speed


async def serve_archive(
    paths: Iterable[Path],
    host: str,
    port: int,
    speed: float,
    mode: Mode,
    record_seconds: float | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises as `pack` and `ReplayServer.start`."""
    records = pack(paths, record_seconds)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = [TextColumn(column) if isinstance(column, str) else column for column in columns]
    console = Console(stderr=True)
    with Progress(*bars, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("waiting for a client", total=len(records))

        def show(released: int, total: int, clients: int) -> None:
            progress.update(
                task, completed=released, total=total, description=f"records, {clients} client(s)"
            )

        server = ReplayServer(records, host=host, port=port, speed=speed, mode=mode, progress=show)
        await server.start()
        address = str(Server(host, server.port))
        click.echo(address)
        log.info("replay_listening", address=address, records=len(records))
        serving = asyncio.create_task(server.serve_forever())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        await asyncio.gather(serving, return_exceptions=True)
