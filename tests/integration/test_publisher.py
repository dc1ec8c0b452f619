"""Outages of real Redis and Valkey servers while picks are published: none lost, none twice."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bus_picks import NOW_NS, make_pick
from bus_servers import ServerProcess, running, stream_on
from structlog.testing import capture_logs

from streamer.bus.publisher import Publisher
from streamer.bus.redis_streams import PickStream
from streamer.bus.spool import Spool


def publisher_to(stream: PickStream, **options: Any) -> Publisher:
    """A publisher whose spool is in memory."""
    return Publisher(stream, Spool(None, 10, lambda: NOW_NS), clock=lambda: NOW_NS, **options)


async def submit_through(
    publisher: Publisher, disturb: Callable[[], Awaitable[None]], count: int
) -> int:
    """Submit `count` picks while `disturb` runs half-way; returns what was left unpublished."""
    running = asyncio.create_task(publisher.run())
    for number in range(count):
        publisher.submit(make_pick(number))
        if number == count // 2:
            await disturb()
        if number % 50 == 0:
            await asyncio.sleep(0.005)
    left = await publisher.drain(10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return left


def outage(server: ServerProcess, disturb: Callable[[Publisher], Awaitable[None]]) -> list[Any]:
    """Publish 1000 picks through an outage; checks that none is lost or twice; returns the log."""

    async def session() -> tuple[int, Publisher]:
        stream = stream_on(server.server, reply_timeout_s=0.4)
        await stream.connect()
        publisher = publisher_to(stream)
        left = await submit_through(publisher, lambda: disturb(publisher), 1000)
        await publisher.close()
        await stream.close()
        return left, publisher

    with capture_logs() as logs:
        left, publisher = asyncio.run(session())
    assert (left, publisher.pending, publisher.dropped, publisher.published) == (0, 0, 0, 1000)
    fields = [fields for _, fields in server.entries()]
    assert [each["id"] for each in fields] == [make_pick(number).id for number in range(1000)]
    assert {each["made_ns"] for each in fields} == {str(NOW_NS)}
    return logs


def assert_states_alternate(logs: list[Any]) -> None:
    """One line per change of state, however many attempts lie between."""
    states = [entry["event"] for entry in logs if entry["event"] in ("redis_down", "redis_up")]
    assert states
    assert states == ["redis_down", "redis_up"] * (len(states) // 2)


async def until_down(publisher: Publisher) -> None:
    async with asyncio.timeout(5):
        while True:
            if not publisher.is_up:
                return
            await asyncio.sleep(0.01)


def test_stalled_server_loses_and_doubles_nothing(binary: str, folder: Path) -> None:
    """A server that stops and goes on gets the same picks twice and adds them once."""

    async def stall(publisher: Publisher) -> None:
        server.signal(signal.SIGSTOP)
        await until_down(publisher)
        server.signal(signal.SIGCONT)

    with running(binary, folder) as server:
        logs = outage(server, stall)
    assert_states_alternate(logs)


def test_killed_and_restarted_server_loses_and_doubles_nothing(binary: str, folder: Path) -> None:
    """kill -9 of the server while picks flow: with a durable log each is there once, in order."""

    async def kill_and_restart(publisher: Publisher) -> None:
        server.kill()
        await until_down(publisher)
        server.start()

    with running(binary, folder, "--appendonly", "yes", "--appendfsync", "always") as server:
        logs = outage(server, kill_and_restart)
    assert_states_alternate(logs)


@pytest.mark.parametrize("outage_kind", ["killed", "stalled"])
def test_drain_gives_up_in_time_and_keeps_what_is_left(
    binary: str, folder: Path, outage_kind: str
) -> None:
    """The shutdown is bounded when Redis is away; a later attempt publishes each pick once."""

    async def session() -> list[int]:
        stream = stream_on(server.server)
        publisher = Publisher(
            stream, Spool(None, 10, lambda: NOW_NS), batch=2, clock=lambda: NOW_NS
        )
        publisher.submit(make_pick(0))
        left = [await publisher.drain(5)]
        for number in range(1, 6):
            publisher.submit(make_pick(number))
        if outage_kind == "killed":
            server.kill()
        else:
            server.signal(signal.SIGSTOP)
        left.append(await publisher.drain(0.3))
        if outage_kind == "killed":
            server.start()
        else:
            server.signal(signal.SIGCONT)
        left.append(await publisher.drain(10))
        await publisher.close()
        await stream.close()
        return left

    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with running(binary, folder, *durable) as server:
        assert asyncio.run(session()) == [0, 5, 0]
        assert [fields["id"] for _, fields in server.entries()] == [
            make_pick(number).id for number in range(6)
        ]
