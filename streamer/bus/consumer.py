"""Picks read from their Redis stream as the one active member of a consumer group.

Keys (`msnet` is the configurable prefix)
    msnet:picks       the stream read, by group `assoc`
    msnet:dead        stream of messages that cannot be used: reason, stream, entry, group,
                      deliveries, and the fields of the message as JSON; at most 10 000 or so
    msnet:own:assoc   who works: a token that expires unless it is renewed
    msnet:stations    hash: up to where each station is picked (bus/heartbeat.py)
    msnet:rsv         hash NET.STA.PHASE -> JSON: share of picks that have an event

A message is acknowledged when what it changes is on disk. One that was delivered but not
acknowledged comes again first thing after a restart; what another member left unacknowledged is
claimed. Works on Redis >= 6.2 and Valkey; what a user must be allowed is that of `associator` in
deploy/redis/msnet.acl.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamer.bus.connect import (
    REPLY_TIMEOUT_S,
    NoScriptError,
    ResponseError,
    explained,
    once_loaded,
    open_connection,
    refuse_unusable,
)
from streamer.bus.heartbeat import read_stations
from streamer.bus.reading import Entry, entries_of
from streamer.bus.redis_url import RedisServer

GROUP = "assoc"
# There is one active worker; with one name, its successor finds what it left.
CONSUMER = "worker"
READ_ENTRIES = 200
CLAIM_IDLE_MS = 60_000
DEAD_ENTRIES = 10_000

_RENEW = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], '', 'PX', 1) end
return 1
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry as delivered for the `times`-th time; no fields if it was trimmed meanwhile."""

    entry: str
    fields: Mapping[str, str] | None
    times: int = 1

    @property
    def entered_ns(self) -> int:
        """When it entered the stream by the server's clock, POSIX ns."""
        return int(self.entry.partition("-")[0]) * 1_000_000


class PickConsumer:
    """The reading side of `msnet:picks`. The constructor does no I/O.

    Methods raise UnavailableError or AccessDeniedError and may be repeated: lost connections are
    opened again.
    """

    def __init__(self, server: RedisServer, *, prefix: str = "msnet", block_s: float) -> None:
        self.server = server
        self.key = f"{prefix}:picks"
        self._prefix = prefix
        self._block_ms = max(1, round(block_s * 1000))
        self._connection = open_connection(server, REPLY_TIMEOUT_S + block_s)
        self._client = self._connection.client
        self._own: str | None = "0"  # after which of its own pending entries to go on
        self._claim_from = "0-0"
        self.drained = False  # the last read got all that the stream had

    async def connect(self) -> None:
        """Log in and see that the group is there, from the beginning of the stream if it is new."""
        await once_loaded(self.server, self._check)
        self._own = "0"

    async def _check(self) -> None:
        refuse_unusable(await self._client.execute_command("HELLO"), self.server)
        try:
            await self._client.xgroup_create(self.key, GROUP, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def read(self) -> list[Delivery]:
        """The next entries: first what was delivered before, then new ones; [] after a wait."""
        self.drained = False
        if self._own is not None:
            with explained(self.server):
                page = await self._page(self._own, None)
                times = await self._times(page)
            self._own = page[-1][0] if page else None
            if page:
                return [Delivery(entry, fields, times.get(entry, 1)) for entry, fields in page]
        with explained(self.server):
            page = await self._page(">", self._block_ms)
        self.drained = len(page) < READ_ENTRIES
        return [Delivery(*each) for each in page]

    async def claim(self) -> list[Delivery]:
        """Entries that another member of the group has left unacknowledged for a minute."""
        with explained(self.server):
            reply = await self._client.xautoclaim(
                self.key, GROUP, CONSUMER, CLAIM_IDLE_MS, self._claim_from, count=READ_ENTRIES
            )
            self._claim_from, page = reply[0], reply[1]
            # 6.2 gives trimmed entries as (None, None), and keeps them pending for ever.
            page = [(entry, fields) for entry, fields in page if entry is not None]
            times = await self._times(page)
        return [Delivery(entry, fields, times.get(entry, 1)) for entry, fields in page]

    async def acknowledge(self, entries: Sequence[str]) -> None:
        """These are done with."""
        if entries:
            with explained(self.server):
                await self._client.xack(self.key, GROUP, *entries)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Put a message that cannot be used among the dead, and be done with it."""
        message = {
            "reason": reason,
            "stream": self.key,
            "entry": delivery.entry,
            "group": GROUP,
            "deliveries": str(delivery.times),
            "fields": json.dumps(delivery.fields),
        }
        with explained(self.server):
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.xadd(
                    f"{self._prefix}:dead", message, maxlen=DEAD_ENTRIES, approximate=True
                )
                pipeline.xack(self.key, GROUP, delivery.entry)
                await pipeline.execute()

    async def own(self, token: str, life_s: float) -> bool:
        """Be, or stay, the one that works for `life_s`; False if another one is."""
        return bool(await self._run(_RENEW, token, round(life_s * 1000)))

    async def release(self, token: str) -> None:
        """Let another one work."""
        await self._run(_RELEASE, token)

    async def stations(self) -> dict[str, dict[str, Any]]:
        """What pickers last said of stations, by NET.STA.LOC.BI."""
        with explained(self.server):
            return read_stations(await self._client.hgetall(f"{self._prefix}:stations"))

    async def lag(self) -> int | None:
        """Picks on the stream that have not been read; None where the server cannot tell."""
        with explained(self.server):
            groups = await self._client.xinfo_groups(self.key)
        own = next((group for group in groups if group["name"] == GROUP), None)
        return None if own is None else own.get("lag")

    async def put_shares(self, shares: Mapping[str, str], gone: Sequence[str]) -> None:
        """Set the shares of picks that have an event; drop those of stations that are gone."""
        with explained(self.server):
            if shares:
                await self._client.hset(f"{self._prefix}:rsv", mapping=dict(shares))
            if gone:
                await self._client.hdel(f"{self._prefix}:rsv", *gone)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _page(self, after: str, block_ms: int | None) -> list[Entry]:
        return entries_of(
            await self._client.xreadgroup(
                GROUP, CONSUMER, {self.key: after}, count=READ_ENTRIES, block=block_ms
            )
        )

    async def _times(self, page: Sequence[Entry]) -> dict[str, int]:
        if not page:
            return {}
        pending = await self._client.xpending_range(
            self.key, GROUP, page[0][0], page[-1][0], count=len(page), consumername=CONSUMER
        )
        return {each["message_id"]: int(each["times_delivered"]) for each in pending}

    async def _run(self, script: str, *arguments: object) -> Any:
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        key = f"{self._prefix}:own:{GROUP}"
        with explained(self.server):
            try:
                return await self._client.evalsha(digest, 1, key, *arguments)
            except NoScriptError:
                await self._client.script_load(script)
                return await self._client.evalsha(digest, 1, key, *arguments)
