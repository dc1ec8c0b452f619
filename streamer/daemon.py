"""The daemon around the pipeline: Redis, signals, and what each part gets of the configuration."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from streamer.bus.address import broker_config, server_address
from streamer.bus.broker import Broker, start_broker
from streamer.bus.publisher import RESTORE_S, Publisher
from streamer.bus.redis_streams import PickStream
from streamer.bus.redis_url import EMBEDDED_URL, parse_redis_url
from streamer.bus.spool import Spool
from streamer.checkpoint import load_checkpoint
from streamer.clock import Clock
from streamer.config import Config
from streamer.errors import MsnetError, UnavailableError
from streamer.pipeline import run
from streamer.reload import Reloads
from streamer.seedlink.client import feed_config
from streamer.shutdown import stop_on_signals

log = structlog.get_logger()

BROKER_CHECK_S = 2.0
SECONDS_PER_DAY = 86_400
SPOOL_NAME = "spool.sqlite"


async def serve(config: Config, reread: Callable[[], Config] | None = None) -> None:
    """The daemon: open Redis, pick until SIGTERM or SIGINT, drain. A second signal ends it at once.

    At SIGHUP the configuration is read again by `reread`. Raises any MsnetError that keeps it from
    starting or going on.
    """
    os.umask(0o077)  # what is written from here on is for this user alone
    feed = feed_config(config)  # first: a wrong station list is told before anything is started
    stop = asyncio.Event()
    stop_on_signals(stop)
    reloads = Reloads(reread or (lambda: config))
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloads.asked.set)
    async with open_publisher(config, time.time_ns) as publisher:
        # Behind the lock of the spool: nobody else writes the checkpoint any more.
        before = load_checkpoint(config.state_dir)
        before = before.joined(publisher.resume(before.told))
        feed = replace(feed, resume=before.positions, started=before.started)
        await run(
            config, feed, publisher, server_address(config), before, reloads, stop, time.time_ns
        )


@asynccontextmanager
async def open_publisher(config: Config, clock: Clock) -> AsyncIterator[Publisher]:
    """The way to Redis, through the spool of the state folder; what is left in it is sent first."""
    # Before Redis: two daemons with one state folder are told so at once.
    spool = Spool(config.state_dir / SPOOL_NAME, config.spool.max_mb, clock)
    try:
        # One that has published before picks on while Redis is away: the URL was right once.
        known = bool(spool.latest_sent(0, 1))
        async with open_stream(config, clock, must_answer=not known) as stream:
            publisher = Publisher(
                stream, spool, restore_s=min(RESTORE_S, retention_s(config)), clock=clock
            )
            try:
                yield publisher
            finally:
                await publisher.close()
    finally:
        spool.close()


@asynccontextmanager
async def open_stream(
    config: Config, clock: Clock, *, must_answer: bool = True
) -> AsyncIterator[PickStream]:
    """The Redis stream of the configuration, its embedded broker running while it is open.

    Raises what `PickStream.connect` raises; without `must_answer` not that it is unavailable.
    """
    broker: Broker | None = None
    if config.redis.url == EMBEDDED_URL:
        broker = await asyncio.to_thread(start_broker, broker_config(config))
        server = broker.server
    else:
        server = parse_redis_url(config.redis.url, password_file=config.redis.password_file)
    stream = PickStream(
        server,
        prefix=config.redis.prefix,
        retention_s=int(retention_s(config)),
        max_entries=config.redis.max_entries,
        clock=clock,
    )
    guard = asyncio.create_task(_keep_running(config, broker)) if broker else None
    try:
        try:
            await stream.connect()
        except UnavailableError:
            if must_answer:
                raise
        yield stream
    finally:
        if guard:
            guard.cancel()
        await stream.close()
        if broker:
            await asyncio.to_thread(broker.stop)


async def _keep_running(config: Config, broker: Broker) -> None:
    """Start the embedded broker again when it died; the publisher keeps the picks meanwhile."""
    while True:
        await asyncio.sleep(BROKER_CHECK_S)
        if not await asyncio.to_thread(broker.alive):
            try:
                successor = await asyncio.to_thread(start_broker, broker_config(config))
            except MsnetError as error:
                log.error("broker_failed", error=str(error), retry_s=BROKER_CHECK_S)
            else:
                broker.pid, broker.process = successor.pid, successor.process


def retention_s(config: Config) -> float:
    """Age at which picks leave the stream."""
    return config.redis.retention_days * SECONDS_PER_DAY
