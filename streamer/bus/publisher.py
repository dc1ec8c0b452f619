"""The tasks between the picker and Redis: picks go in without waiting, and out in order, for ever.

    submit --queue--> store: the spool on disk --> send: the Redis stream

`resume`, `submit`, `secure`, `run` and `drain` are all that the pipeline sees of it. The two tasks
are apart so that a Redis that stalls holds up nothing that waits for the disk, and the spool has
one thread of its own so that a disk that stalls holds up nothing but the picks.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import structlog

from streamer.bus.redis_streams import PublishResult
from streamer.bus.spool import Row, Spool, SpoolError, State, place_of
from streamer.clock import Clock
from streamer.errors import MsnetError
from streamer.picks import Pick
from streamer.tasks import EndingGroup
from streamer.timebase import NS_PER_S

log = structlog.get_logger()

Result = TypeVar("Result")

CHECK_S = 5.0
"""How often a server that gets no picks is asked whether it still has the last one."""

RESTORE_S = 3600.0
"""What was confirmed within this time is sent again when a server has lost it."""

_BACKOFF_FIRST_S = 0.1
_BACKOFF_LAST_S = 5.0
_SPOOL_RETRY_S = 1.0
_STORE_PICKS = 1000
_COMPARE_ROWS = 500


class Destination(Protocol):
    """What picks are published to: a `PickStream`. MsnetError when it must be tried again."""

    async def publish(self, picks: Sequence[Pick], after: Row | None = None) -> PublishResult:
        """Add each revision of a pick once, and say whether `after` is still there."""
        ...

    async def missing(self, rows: Sequence[Row]) -> list[Row]:
        """Those of `rows` whose entry is not on the stream."""
        ...


@dataclass(slots=True)
class _Message:
    """A pick on its way to the spool, and what is to be known with it."""

    pick: Pick
    ends_step: bool
    state: State | None


class Publisher:
    """Takes picks through the spool to Redis.

    At most `capacity` picks wait for the spool, and `batch` at a time go to Redis. Beyond the
    bounds of queue and spool the oldest is dropped, counted and logged. While the spool fails,
    picks go to Redis directly. A server that comes back with less than it had confirmed, or a
    replica promoted too early, is given again what it lacks of the last `restore_s`.

    Counters: `published` picks that Redis confirmed, `duplicates` among them that it already had,
    `repeated` that the spool already knew, `restored` that were sent again, `dropped`, `pending`.
    `told` is the number of the last state that was submitted.
    """

    def __init__(
        self,
        stream: Destination,
        spool: Spool,
        *,
        capacity: int = 10_000,
        batch: int = 200,
        restore_s: float = RESTORE_S,
        clock: Clock,
    ) -> None:
        self.published = self.duplicates = self.repeated = self.restored = 0
        self._stream = stream
        self._spool = spool
        self._clock = clock
        self._batch_limit = batch
        self._restore_ns = int(restore_s * NS_PER_S)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        # On the way to the spool: `_settled` of `_accepted` picks are in it, published or dropped.
        self._queue: deque[_Message] = deque(maxlen=capacity)
        self._storing: list[_Message] = []
        self._accepted = self._settled = 0
        self.told = 0
        self._store_lock = asyncio.Lock()
        self._submitted = asyncio.Event()
        self._spool_works = True
        # On the way to Redis.
        self._sending: list[Row] = []
        self._confirmed: dict[str, str] = {}  # entry id by name, to be marked in the spool
        self._send_lock = asyncio.Lock()
        self._stored = asyncio.Event()
        self._last: Row | None = None
        self._verified = False  # the server was seen to hold what it confirmed last
        # It was seen not to: by a run that ended before it could look for what is missing, perhaps.
        self._lost = True
        self._failures = 0
        self._down_since_ns: int | None = None

    @property
    def pending(self) -> int:
        """Picks that Redis has not confirmed yet."""
        in_spool = max(self._spool.waiting - len(self._confirmed), 0)
        return len(self._queue) + len(self._storing) + in_spool

    @property
    def dropped(self) -> int:
        """Picks given up since the start: the spool or the queue before it was full."""
        return self._spool.drops.total

    @property
    def is_up(self) -> bool:
        """False from the first failed attempt to the next answer of Redis."""
        return self._down_since_ns is None

    def resume(self, told: int) -> dict[str, Any]:
        """The states by source that were submitted after the one of number `told`.

        Raises SpoolError. New ones are numbered behind all of them.
        """
        states = self._spool.states()
        self.told = max([told, *(state.number for state in states)])
        return {state.source: state.body for state in states if state.number > told}

    def submit(self, *picks: Pick, source: str = "", state: Any = None) -> None:
        """Queue the messages of one step, and the `state` of their `source` behind them.

        The state gets into the spool with all of them, or not yet. Never waits, never raises; a
        full queue loses its oldest pick.
        """
        for pick in picks:
            if len(self._queue) == self._queue.maxlen:
                oldest = self._queue[0].pick.name
                self._spool.drops.count(oldest, f"queue of {self._queue.maxlen} picks")
                self._settled += 1
            kept: State | None = None
            if pick is picks[-1] and state is not None:
                self.told += 1
                kept = State(source, self.told, state)
            self._queue.append(_Message(pick, pick is picks[-1], kept))
        self._accepted += len(picks)
        self._submitted.set()

    async def secure(self) -> None:
        """Return when every pick submitted before this call is safe, even from a loss of power.

        That is on the disk, or confirmed by Redis while the disk fails. Works without `run` too.
        Waits for as long as the disk fails: put a time limit around it where that matters.
        """
        target = self._accepted
        while True:
            if self._settled < target:
                if await self._store():
                    continue
            else:
                with suppress(SpoolError):
                    return await self._in_spool(self._spool.flush)
            await asyncio.sleep(_SPOOL_RETRY_S)

    async def run(self) -> None:
        """Publish what is submitted until cancelled; trouble with disk or Redis never ends it."""
        async with EndingGroup() as tasks:
            await asyncio.wait(
                (
                    tasks.create_task(self._keep_storing()),
                    tasks.create_task(self._keep_sending()),
                )
            )

    async def drain(self, timeout_s: float) -> int:
        """Publish what waits, for the shutdown; returns how many picks were left in the end.

        May be called while `run` runs or after it was cancelled. What is left stays in the spool
        and is published after the next start.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.pending:
                    await self._store()
                    if not await self._send():  # the spool cannot be read at the moment
                        await asyncio.sleep(_BACKOFF_FIRST_S)
        except TimeoutError:
            log.warning("picks_left_unpublished", count=self.pending, timeout_s=timeout_s)
        return self.pending

    async def close(self) -> None:
        """Leave everything to the spool and close it; `run` must have ended."""
        await self._store()
        with suppress(SpoolError):
            await self._mark()
            await self._in_spool(self._spool.flush)
        await self._in_spool(self._spool.close)
        self._thread.shutdown(wait=False)

    async def _keep_storing(self) -> None:
        while True:
            await self._submitted.wait()
            self._submitted.clear()
            while self._queue or self._storing:
                if not await self._store():
                    await asyncio.sleep(_SPOOL_RETRY_S)

    async def _keep_sending(self) -> None:
        while True:
            self._stored.clear()
            if await self._send():
                continue
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._stored.wait()
            except TimeoutError:
                self._verified = False

    async def _store(self) -> bool:
        """One attempt to bring what is queued into the spool; whether it went well."""
        async with self._store_lock:
            self._fill()
            if not self._storing:
                return True
            try:
                picks = [message.pick for message in self._storing]
                states = [message.state for message in self._storing if message.state]
                added = await self._in_spool(self._spool.add, picks, states)
            except SpoolError:
                return False
            finally:
                self._stored.set()  # also for the way around a spool that fails
            self.repeated += len(self._storing) - added
            self._settle()
            return True

    def _fill(self) -> None:
        while self._queue and (
            len(self._storing) < _STORE_PICKS or not self._storing[-1].ends_step
        ):
            self._storing.append(self._queue.popleft())

    def _settle(self) -> None:
        self._settled += len(self._storing)
        self._storing.clear()

    async def _send(self) -> bool:
        """One attempt to publish a batch; False if nothing waits.

        A batch that fails stays and is tried again after a growing pause.
        """
        async with self._send_lock:
            try:
                return await self._send_spooled() or await self._send_directly()
            except MsnetError as error:
                self._note_down(error)
        await asyncio.sleep(_pause_s(self._failures))
        return True

    async def _send_spooled(self) -> bool:
        try:
            rows = await self._next_rows()
        except SpoolError:
            return False
        if not rows:
            return False
        result = await self._stream.publish([row.pick for row in rows], self._last)
        self._note_published(result)
        self._confirmed |= zip((row.pick.name for row in rows), result.entries, strict=True)
        self._last = _latest([self._last, *map(_placed, rows, result.entries)])
        self._sending = []
        if not result.intact:
            self._lost, self._verified = True, False
        return True

    async def _next_rows(self) -> list[Row]:
        """What is to be sent now: the batch that failed before, else the oldest that waits."""
        with suppress(SpoolError):
            await self._mark()
        await self._verify()
        if not self._sending:
            rows = await self._in_spool(self._spool.take, self._batch_limit, len(self._confirmed))
            self._sending = [row for row in rows if row.pick.name not in self._confirmed]
        return self._sending

    async def _send_directly(self) -> bool:
        """The way around a spool that fails."""
        if self._spool_works:
            return False
        async with self._store_lock:
            self._fill()
            if not self._storing:
                return False
            now_ns = self._clock()
            for message in self._storing:
                message.pick = replace(message.pick, made_ns=message.pick.made_ns or now_ns)
            picks = [message.pick for message in self._storing]
            self._note_published(await self._stream.publish(picks))
            self._settle()
        return True

    async def _mark(self) -> None:
        """Tell the spool what Redis has confirmed."""
        if confirmed := dict(self._confirmed):
            await self._in_spool(self._spool.sent, confirmed)
            self._confirmed.clear()

    async def _verify(self) -> None:
        """Make sure that Redis still has the last pick it confirmed, else restore what it lost.

        What a server loses by a crash, an empty restart or a fail-over is the end of the stream.
        """
        if self._verified:
            return
        since_ns = self._clock() - self._restore_ns
        last = await self._in_spool(self._spool.latest_sent, since_ns, 1)
        if last:
            (self._last,) = last
        if self._lost or await self._stream.missing(last):
            await self._restore(since_ns)
        if last:
            self._note_up()
        self._verified, self._lost = True, False

    async def _restore(self, since_ns: int) -> None:
        """Have sent again what is missing, back to the last page of rows that is complete."""
        missing: list[Row] = []
        page: list[Row] = []
        while page := await self._in_spool(
            self._spool.latest_sent, since_ns, _COMPARE_ROWS, page[-1] if page else None
        ):
            lost = await self._stream.missing(page)
            if not lost:
                break
            missing += lost
        if missing:
            await self._in_spool(self._spool.resend, [row.pick.name for row in missing])
            self._last, self._sending = None, []  # the older ones go first
            self.restored += len(missing)
            log.warning("picks_restored", count=len(missing), oldest=missing[-1].pick.id)

    async def _in_spool(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Call the spool in its thread. Raises SpoolError, after a line when that is new.

        Only what was written shows that the disk takes something again.
        """
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._thread, work, *arguments)
        except SpoolError as error:
            if self._spool_works:
                log.error("spool_failed", error=str(error))
            self._spool_works = False
            raise
        if not self._spool_works and work in (self._spool.add, self._spool.sent):
            self._spool_works = True
            log.info("spool_recovered", waiting=self._spool.waiting)
        return result

    def _note_published(self, result: PublishResult) -> None:
        self.published += len(result.entries)
        self.duplicates += result.duplicates
        self._note_up()

    def _note_down(self, error: MsnetError) -> None:
        self._failures += 1
        self._verified = False
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


def _placed(row: Row, entry: str) -> Row:
    return replace(row, entry=entry)


def _latest(rows: Iterable[Row | None]) -> Row | None:
    """The row whose entry is nearest to the end of the stream; duplicates may be further back."""
    known = [(place, row) for row in rows if row and (place := place_of(row.entry)) is not None]
    return max(known, key=lambda each: each[0])[1] if known else None


def _pause_s(failures: int) -> float:
    """Pause after so many failures in a row; random, lest several daemons return as one."""
    # 2^10 is beyond the last pause already: the power need not grow with an outage of weeks.
    longest_s = min(_BACKOFF_LAST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10))
    return longest_s * random.uniform(0.5, 1.0)
