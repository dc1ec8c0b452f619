"""The task between the picker and Redis: picks go in without waiting, and out in order, for ever.

`submit`, `run` and `drain` are all that the pipeline sees of it.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from streamer.bus.redis_streams import PublishResult
from streamer.errors import MsnetError
from streamer.picks import Pick
from streamer.timebase import NS_PER_S

log = structlog.get_logger()

_BACKOFF_FIRST_S = 0.1
_BACKOFF_LAST_S = 5.0
_DROP_LOG_INTERVAL_NS = 60 * NS_PER_S


class Destination(Protocol):
    """What picks are published to: a `PickStream`."""

    async def publish(self, picks: Sequence[Pick]) -> PublishResult:
        """Add each revision of a pick once; MsnetError when it must be tried again."""
        ...


class Publisher:
    """Bounded queue of picks and the loop that empties it.

    At most `capacity` picks wait, besides one batch of at most `batch` that is on its way; beyond
    that the oldest is dropped, counted and logged. `clock` gives POSIX ns and stamps `made_ns` of a
    pick when it is first sent, so that a repetition is the same message.

    Counters: `published` picks that Redis confirmed, `duplicates` among them that it already had,
    `dropped`, and `pending`.
    """

    def __init__(
        self,
        stream: Destination,
        *,
        capacity: int = 10_000,
        batch: int = 200,
        clock: Callable[[], int],
    ) -> None:
        self.published = 0
        self.duplicates = 0
        self.dropped = 0
        self._stream = stream
        self._batch_limit = batch
        self._clock = clock
        self._queue: deque[Pick] = deque(maxlen=capacity)
        self._batch: list[Pick] = []
        self._arrived = asyncio.Event()
        self._sending = asyncio.Lock()
        self._failures = 0
        self._down_since_ns: int | None = None
        self._drop_log_due_ns = 0

    @property
    def pending(self) -> int:
        """Picks that Redis has not confirmed yet."""
        return len(self._queue) + len(self._batch)

    @property
    def is_up(self) -> bool:
        """False from the first failed batch to the next confirmed one."""
        return self._down_since_ns is None

    def submit(self, pick: Pick) -> None:
        """Queue a pick. Never waits, never raises; a full queue loses its oldest pick."""
        if len(self._queue) == self._queue.maxlen:
            self._count_drop(self._queue[0])
        self._queue.append(pick)
        self._arrived.set()

    async def run(self) -> None:
        """Publish what is submitted until cancelled; trouble with Redis never ends it."""
        while True:
            await self._arrived.wait()
            await self._publish_batch()

    async def drain(self, timeout_s: float) -> int:
        """Publish what is queued, for the shutdown; returns how many picks were left in the end.

        May be called while `run` runs or after it was cancelled.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.pending:
                    await self._publish_batch()
        except TimeoutError:
            log.warning("picks_left_unpublished", count=self.pending, timeout_s=timeout_s)
        return self.pending

    async def _publish_batch(self) -> None:
        """One attempt; a batch that fails stays and is tried again after a growing pause."""
        async with self._sending:
            while self._queue and len(self._batch) < self._batch_limit:
                self._batch.append(replace(self._queue.popleft(), made_ns=self._clock()))
            if not self._batch:
                self._arrived.clear()
                return
            try:
                result = await self._stream.publish(self._batch)
            except MsnetError as error:
                self._note_down(error)
            else:
                self.published += len(self._batch)
                self.duplicates += result.duplicates
                self._batch.clear()
                self._note_up()
                return
        await asyncio.sleep(_pause_s(self._failures))

    def _note_down(self, error: MsnetError) -> None:
        self._failures += 1
        if self._down_since_ns is None:
            self._down_since_ns = self._clock()
            log.warning("redis_down", error=str(error), pending=self.pending)

    def _note_up(self) -> None:
        if self._down_since_ns is not None:
            log.info(
                "redis_up",
                down_s=round((self._clock() - self._down_since_ns) / NS_PER_S, 3),
                attempts=self._failures,
                pending=self.pending,
                dropped=self.dropped,
            )
        self._failures = 0
        self._down_since_ns = None

    def _count_drop(self, oldest: Pick) -> None:
        self.dropped += 1
        if self._clock() >= self._drop_log_due_ns:
            self._drop_log_due_ns = self._clock() + _DROP_LOG_INTERVAL_NS
            log.error(
                "picks_dropped", total=self.dropped, oldest=oldest.id, capacity=self._queue.maxlen
            )


def _pause_s(failures: int) -> float:
    """Pause after so many failures in a row; random, lest several daemons return as one."""
    # 2^10 is beyond the last pause already: the power need not grow with an outage of weeks.
    longest_s = min(_BACKOFF_LAST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10))
    return longest_s * random.uniform(0.5, 1.0)
