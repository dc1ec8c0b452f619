"""Tasks that end when they are told to.

Up to Python 3.11 `asyncio.wait_for`, which the clients of SeedLink and Redis wait with, loses a
cancellation that meets a result: the task goes on as if nobody had asked. So we ask until it ends.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")

CANCEL_AGAIN_S = 0.5


async def end(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel until all have ended. What they raise stays with them."""
    while waiting := {task for task in tasks if not task.done()}:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)


class EndingGroup(asyncio.TaskGroup):
    """A TaskGroup whose tasks are ended when its body is left, by a failure or in good order."""

    def __init__(self) -> None:
        super().__init__()
        self._running: set[asyncio.Task[Any]] = set()

    def create_task(
        self,
        coro: Coroutine[Any, Any, Result] | Generator[Any, None, Result],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[Result]":
        """As that of `asyncio.TaskGroup`."""
        task = super().create_task(coro, name=name, context=context)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ending = asyncio.create_task(end(*self._running))
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            ending.cancel()
