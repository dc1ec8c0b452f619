"""A publisher at work on a server that goes away and comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bus_picks import NOW_NS, make_pick
from bus_servers import ServerProcess, stream_on
from structlog.testing import capture_logs

from streamer.bus.publisher import Publisher
from streamer.bus.redis_url import RedisServer
from streamer.bus.spool import Spool

PICKS = 300
Disturbance = Callable[[], None]


class Time:
    """A clock that gives each pick its own time of publication."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS

    def __call__(self) -> int:
        self.now_ns += 1_000
        return self.now_ns


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def publishing(server: RedisServer, spool: Spool | None = None) -> AsyncIterator[Publisher]:
    """A publisher that runs; in the end all it has is published."""
    stream = stream_on(server, reply_timeout_s=0.4)
    await stream.connect()
    clock = Time()
    publisher = Publisher(stream, spool or Spool(None, 10, clock), clock=clock)
    task = asyncio.create_task(publisher.run())
    yield publisher
    assert await publisher.drain(20) == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await publisher.close()
    await stream.close()


def submit(publisher: Publisher, first: int, count: int) -> None:
    for number in range(first, first + count):
        publisher.submit(make_pick(number))


def through(
    server: ServerProcess, begin: Disturbance, end: Disturbance, login: RedisServer | None = None
) -> list[Any]:
    """Publish before, during and after an outage; returns what was logged."""

    async def session() -> None:
        async with publishing(login or server.server) as publisher:
            submit(publisher, 0, PICKS)
            await until(lambda: publisher.pending == 0)
            begin()
            submit(publisher, PICKS, PICKS)
            await until(lambda: not publisher.is_up)
            assert publisher.pending == PICKS
            async with asyncio.timeout(1):
                await publisher.secure()
            end()
            await until(lambda: publisher.pending == 0)
            submit(publisher, 2 * PICKS, PICKS)
        assert publisher.dropped == 0

    with capture_logs() as logs:
        asyncio.run(session())
    return logs


def assert_each_once_in_order(server: ServerProcess, count: int) -> None:
    fields = [fields for _, fields in server.entries()]
    assert [each["id"] for each in fields] == [make_pick(number).id for number in range(count)]
    made_ns = [int(each["made_ns"]) for each in fields]
    assert made_ns == sorted(made_ns), "the times of publication are those of before the outage"
