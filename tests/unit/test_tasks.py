"""Tasks end although one of them loses a cancellation, as `asyncio.wait_for` may up to 3.11."""

import asyncio
from contextlib import suppress

import pytest

from streamer.tasks import EndingGroup, end

FOREVER_S = 3600.0
LIMIT_S = 20.0


async def _lose(cancellations: int) -> None:
    """Waits for ever, and goes on after so many cancellations."""
    for _ in range(cancellations):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(FOREVER_S)
    await asyncio.sleep(FOREVER_S)


async def _fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("this one")


def test_a_task_is_cancelled_until_it_ends() -> None:
    """Two cancellations are lost, the third is not; ended tasks and none at all do no harm."""

    async def scene() -> None:
        task = asyncio.create_task(_lose(2))
        await asyncio.sleep(0)
        await end(task)
        assert task.cancelled()
        await end(task)
        await end()

    asyncio.run(asyncio.wait_for(scene(), LIMIT_S))


def test_a_failure_ends_the_group() -> None:
    """The others end too, and the failure is told."""

    async def scene() -> None:
        async with EndingGroup() as group:
            group.create_task(_lose(1))
            group.create_task(_lose(2))
            group.create_task(_fail())
            await asyncio.sleep(FOREVER_S)

    with pytest.raises(ExceptionGroup) as failures:
        asyncio.run(asyncio.wait_for(scene(), LIMIT_S))
    assert [str(error) for error in failures.value.exceptions] == ["this one"]


def test_leaving_the_body_ends_the_group() -> None:
    """In good order."""

    async def scene() -> None:
        async with EndingGroup() as group:
            task = group.create_task(_lose(1))
            await asyncio.sleep(0)
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(scene(), LIMIT_S))


def test_a_group_within_a_group_ends_when_it_is_cancelled() -> None:
    """The outer one ends, although it is a task of the inner one that loses the cancellation."""
    inner: list[asyncio.Task[None]] = []

    async def nested() -> None:
        async with EndingGroup() as group:
            inner.append(group.create_task(_lose(2)))
            await asyncio.wait(inner)

    async def scene() -> None:
        task = asyncio.create_task(nested())
        await asyncio.sleep(0.01)
        await end(task)
        assert task.cancelled()
        assert inner[0].cancelled()

    asyncio.run(asyncio.wait_for(scene(), LIMIT_S))
