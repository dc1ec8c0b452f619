"""Picks on a Redis stream: the keys, and how each revision of a pick enters once.

Keys (`msnet` is the configurable prefix)
    msnet:picks           stream of `msnet.pick/1` messages, flat string fields (streamer/picks.py);
                          entry ids by the server's clock. Entries older than the retention (7 d) or
                          beyond `max_entries` are trimmed about once a minute, in whole nodes of
                          100 entries.
    msnet:dd:<id>:<rev>   id of the entry, expires after an hour: this revision of this pick is in
                          the stream.

Contract: delivery is at least once, in the order of publication, and a revision of a pick enters
the stream once however often it is sent within the hour. Consumers insert or ignore by (id, rev).

Works on Redis >= 6.2 and Valkey; what a user must be allowed is in deploy/redis/msnet.acl. Without
EVALSHA, SCRIPT LOAD, GET and SET the stream still gets every pick, but a repeated transmission
after a lost connection may enter twice; without XRANGE, what a restarted server has lost is not
sent again. The `default` user must keep +@all (give it a password instead): as it, Redis 7.0 reads
the append-only file back, and silently leaves out the transactions, which is what our script is
recorded as, that `default` may not run.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import structlog

from streamer.bus.connect import (
    REPLY_TIMEOUT_S,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
    explained,
    once_loaded,
    open_connection,
    refuse_unusable,
)
from streamer.bus.reading import Entry, read_entries
from streamer.bus.redis_url import RedisServer
from streamer.bus.spool import Row
from streamer.errors import DataError, MsnetError
from streamer.picks import Pick
from streamer.timebase import NS_PER_S

log = structlog.get_logger()

# Replies whether the pick was added, and its entry id either way: empty if the entry was trimmed or
# deleted. The marker is set before the pick is added, and given one millisecond to live when Redis
# refuses the pick: set afterwards, a refused marker would let every repetition in. The server logs
# the effects of a script as one, so a crash leaves all or nothing.
_XADD_ONCE = """
local known = redis.call('GET', KEYS[2])
if known then
    local held = redis.pcall('XRANGE', KEYS[1], known, known)
    return {0, #held == 0 and not held.err and '' or known}
end
redis.call('SET', KEYS[2], '0', 'EX', ARGV[1])
local id = redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, 2))
if type(id) == 'table' then
    redis.call('SET', KEYS[2], '0', 'PX', 1)
    return id
end
redis.call('SET', KEYS[2], id, 'EX', ARGV[1])
return {1, id}
"""
_XADD_ONCE_SHA = hashlib.sha1(_XADD_ONCE.encode(), usedforsecurity=False).hexdigest()

_NOT_IDEMPOTENT = "a pick may enter the stream twice after a lost connection"
_NOT_VERIFIED = "what a restarted server has lost is not noticed, nor sent again"

_MARKER_LIFE_S = 3600
_TRIM_INTERVAL_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What became of a batch.

    `entries` are the ids of the picks on the stream, whether they were added now or, as
    `duplicates` of them, before. `intact` is false when the entry that came before them is gone.
    """

    entries: Sequence[str]
    duplicates: int = 0
    intact: bool = True

    @property
    def added(self) -> int:
        """How many picks entered the stream."""
        return len(self.entries) - self.duplicates


class Message(Protocol):
    """A pick, or anything else of which each state enters its stream once."""

    @property
    def name(self) -> str:
        """One name for one state, such as `<id>:<rev>`."""
        ...

    def to_fields(self) -> dict[str, str]:
        """Flat text fields."""
        ...


@dataclass(frozen=True, slots=True)
class _Message:
    """A message as Redis takes it: `flat` is field, value, field, value ..."""

    name: str
    flat: list[str]

    @classmethod
    def of(cls, message: Message) -> "_Message":
        return cls(message.name, [text for item in message.to_fields().items() for text in item])


class PickStream:
    """The Redis stream of picks, or of another kind of messages (`topic`). No I/O in constructing.

    `retention_s` and `max_entries` bound the stream; a message that is sent again within
    `marker_life_s` does not enter again; `clock` gives POSIX ns. Every method raises
    UnavailableError or AccessDeniedError on trouble with Redis, with one message that says what to
    do. After `connect`, `publish` may be repeated for ever: it opens lost connections again.
    """

    def __init__(
        self,
        server: RedisServer,
        *,
        prefix: str = "msnet",
        topic: str = "picks",
        retention_s: int = 7 * 86_400,
        max_entries: int = 2_000_000,
        marker_life_s: int = _MARKER_LIFE_S,
        reply_timeout_s: float = REPLY_TIMEOUT_S,
        clock: Callable[[], int],
    ) -> None:
        self.server = server
        self.key = f"{prefix}:{topic}"
        self._marker_life_s = marker_life_s
        self._marker_prefix = f"{prefix}:dd"
        self._retention_s = retention_s
        self._max_entries = max_entries
        self._clock = clock
        self._connection = open_connection(server, reply_timeout_s)
        self._client = self._connection.client
        self._checked = False  # since the last trouble: another server may answer after it
        self._idempotent = True
        self._readable = True
        self._trim_due_ns = 0

    async def connect(self) -> None:
        """Log in and prove that picks can be written, without writing any.

        Waits up to a minute for a server that is still reading its data. Raises UnavailableError
        (unreachable, not Redis, too old, replica, cluster, key of another type) or
        AccessDeniedError (password, permissions); the connection is closed then.
        """
        if self.server.password_from_url:
            log.warning("redis_password_in_url", url=self.server.shown)
        try:
            await once_loaded(self.server, self._check)
        except MsnetError:
            await self.close()
            raise
        log.info("redis_connected", url=self.server.shown, key=self.key)

    async def publish(self, picks: Sequence[Message], after: Row | None = None) -> PublishResult:
        """Add the picks in this order, each revision once; safe to repeat after an error.

        `after` is a row that was published before: the result tells whether it is still there,
        from the same server at the same moment. Where scripts are not allowed, a repetition adds
        the picks again (consumers ignore them).
        """
        messages = [_Message.of(pick) for pick in picks]
        async with self._usable():
            held, replies = await self._add(messages, after)
        entries = [entry for _, entry in replies]
        if entries and entries[-1] and self._clock() >= self._trim_due_ns:
            await self._trim(newest_entry_id=entries[-1])
        duplicates = sum(not added for added, _ in replies)
        intact = after is None or not self._readable or _is(after, held)
        return PublishResult(entries, duplicates, intact)

    async def missing(self, rows: Sequence[Row]) -> list[Row]:
        """Those of `rows` whose entry is not on the stream; none where reading is not allowed."""
        if not rows:
            return []
        async with self._usable():
            if not self._readable:
                return []
            async with self._client.pipeline(transaction=False) as pipeline:
                for row in rows:
                    pipeline.xrange(self.key, row.entry, row.entry)
                found = await pipeline.execute()
        return [row for row, held in zip(rows, found, strict=True) if not _is(row, held)]

    async def close(self) -> None:
        """Close the connections. `publish` after it opens new ones."""
        await self._connection.close()

    @asynccontextmanager
    async def _usable(self) -> AsyncIterator[None]:
        """A server that was checked since the last trouble; it is checked again after this one."""
        try:
            with explained(self.server):
                if not self._checked:
                    await self._check()
                yield
        except BaseException:
            self._checked = False
            raise

    async def _check(self) -> None:
        refuse_unusable(await self._client.execute_command("HELLO"), self.server)
        await self._prove_writable()
        self._idempotent = await self._scripts_allowed()
        self._readable = await self._reading_allowed()
        self._checked = True

    async def _prove_writable(self) -> None:
        """Write what changes nothing: the trim we do anyway, and an id Redis never takes."""
        await self._trim_to("MAXLEN", self._max_entries)
        try:
            await self._client.execute_command("XADD", self.key, "0-0", "v", "0")
        except ResponseError as error:
            if "greater than 0-0" not in str(error):
                raise

    async def _scripts_allowed(self) -> bool:
        """Run the script without fields: XADD refuses that, after every permission was asked."""
        try:
            await self._client.script_load(_XADD_ONCE)
            await self._xadd_once(self._client, f"{self._marker_prefix}:probe", [])
        except ResponseError as error:
            if "wrong number of arg" in str(error).lower():
                return True
            if self._idempotent:
                log.warning(
                    "redis_scripts_not_allowed",
                    url=self.server.shown,
                    error=str(error),
                    effect=_NOT_IDEMPOTENT,
                )
        return False

    async def _reading_allowed(self) -> bool:
        try:
            await self._client.xrange(self.key, count=1)
        except NoPermissionError as error:
            if self._readable:
                log.warning(
                    "redis_reads_not_allowed",
                    url=self.server.shown,
                    error=str(error),
                    effect=_NOT_VERIFIED,
                )
            return False
        return True

    async def _add(
        self, messages: Sequence["_Message"], after: Row | None
    ) -> tuple[Any, list[tuple[int, str]]]:
        """What is found at `after`; whether each message was added, and its entry id."""
        replies = await self._send(messages, after)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # A server that was restarted has forgotten the script.
            await self._client.script_load(_XADD_ONCE)
            replies = await self._send(messages, after)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        held, *added = replies
        return held, [(1, each) if isinstance(each, str) else (each[0], each[1]) for each in added]

    async def _send(self, messages: Sequence["_Message"], after: Row | None) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            if after is not None and self._readable:
                pipeline.xrange(self.key, after.entry, after.entry)
            else:
                pipeline.ping()
            for message in messages:
                if self._idempotent:
                    self._xadd_once(pipeline, f"{self._marker_prefix}:{message.name}", message.flat)
                else:
                    pipeline.execute_command("XADD", self.key, "*", *message.flat)
            return cast(list[Any], await pipeline.execute(raise_on_error=False))

    def _xadd_once(self, client: Any, marker: str, flat: Sequence[str]) -> Any:
        return client.evalsha(_XADD_ONCE_SHA, 2, self.key, marker, self._marker_life_s, *flat)

    async def _trim(self, newest_entry_id: str) -> None:
        """Forget old entries. Their age is by the server's clock, as the entry ids are.

        A failure here must not have the caller send again what is already in the stream.
        """
        self._trim_due_ns = self._clock() + _TRIM_INTERVAL_NS
        newest_ms = int(newest_entry_id.partition("-")[0])
        try:
            await self._trim_to("MINID", max(newest_ms - self._retention_s * 1000, 0))
            await self._trim_to("MAXLEN", self._max_entries)
        except RedisError as error:
            log.warning("redis_trim_failed", key=self.key, error=str(error))

    async def _trim_to(self, rule: str, limit: int) -> None:
        # Without LIMIT 0 one call drops at most 10 000 entries: a swarm may add more in a minute.
        await self._client.execute_command("XTRIM", self.key, rule, "~", limit, "LIMIT", 0)


def _is(row: Row, held: Any) -> bool:
    """Whether the reply to XRANGE at its entry is this pick."""
    pick = row.pick
    return any((each["id"], each["rev"]) == (pick.id, str(pick.rev)) for _, each in held)


def read_picks(server: RedisServer, prefix: str = "msnet") -> list[Pick]:
    """All picks on the stream in order of publication, unreadable entries left out and logged.

    Raises UnavailableError or AccessDeniedError.
    """
    return list(as_picks(read_entries(server, f"{prefix}:picks")))


def as_picks(entries: Iterable[Entry]) -> Iterator[Pick]:
    """Entries of the stream as picks, unreadable ones left out and logged."""
    for entry_id, message in entries:
        try:
            yield Pick.from_fields(message)
        except DataError as error:
            log.warning("pick_unreadable", entry=entry_id, error=str(error))
