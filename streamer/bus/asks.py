"""Waveforms on request: a viewer asks, whichever picker has the station answers.

Keys (`msnet` is the configurable prefix)
    msnet:asks         stream of questions: `id`, `instrument` (NET.STA.LOC.BI), `start_ns`,
                       `stop_ns` (UTC); the newest few hundred are kept. Written by viewers.
    msnet:answer:<id>  JSON of `streamer.picking.snippets`, gone after half a minute. Written by
                       pickers.

Nothing is sent unless somebody looks, and what is asked is bounded: at most `MOST_SECONDS` at a
time and `MOST_PER_SECOND` answers; questions beyond are left unanswered and asked again.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from streamer.bus.connect import Connection, explained, open_connection
from streamer.bus.redis_url import RedisServer
from streamer.errors import MsnetError
from streamer.seedid import Instrument
from streamer.timebase import NS_PER_S

log = structlog.get_logger()

MOST_SECONDS = 180
MOST_PER_SECOND = 40
_KEPT_QUESTIONS = 500
_ANSWER_LIFE_S = 30
_BLOCK_MS = 1000
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A question: the waveforms of one instrument from `start_ns` to `stop_ns` (UTC)."""

    id: str
    instrument: Instrument
    start_ns: int
    stop_ns: int

    def fields(self) -> dict[str, str]:
        """As it is on the stream."""
        return {
            "id": self.id,
            "instrument": str(self.instrument),
            "start_ns": str(self.start_ns),
            "stop_ns": str(self.stop_ns),
        }

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Ask | None":
        """The question in these fields; None if they make none that is answered."""
        try:
            instrument = Instrument(*fields["instrument"].split("."))
            ask = cls(fields["id"], instrument, int(fields["start_ns"]), int(fields["stop_ns"]))
        except (KeyError, ValueError, TypeError):
            return None
        proper = 0 < ask.stop_ns - ask.start_ns <= MOST_SECONDS * NS_PER_S
        return ask if proper and ask.id.isalnum() and len(ask.id) <= 64 else None


Answer = Mapping[str, Any]


async def answer_asks(
    server: RedisServer, prefix: str, answer: Callable[[Ask], Answer | None]
) -> None:
    """Answer questions until cancelled; `answer` gives None for stations that are not here.

    Trouble with Redis only means that nobody gets answers for a while.
    """
    connection = open_connection(server, _BLOCK_MS / 1000 + 10)
    after = "$"
    try:
        while True:
            try:
                after = await _answer_some(connection, server, prefix, after, answer)
            except MsnetError as error:
                log.debug("asks_unanswered", error=str(error))
                after = "$"
                await asyncio.sleep(_RETRY_S)
    finally:
        await connection.close()


async def _answer_some(
    connection: Connection,
    server: RedisServer,
    prefix: str,
    after: str,
    answer: Callable[[Ask], Answer | None],
) -> str:
    """Answer what has been asked since `after`; the id of the last question."""
    with explained(server):
        reply = await connection.client.xread(
            {f"{prefix}:asks": after}, count=MOST_PER_SECOND, block=_BLOCK_MS
        )
        entries = [entry for page in reply[f"{prefix}:asks"] for entry in page] if reply else []
        for _, fields in entries:
            ask = Ask.of(fields)
            found = answer(ask) if ask else None
            if ask and found is not None:
                key = f"{prefix}:answer:{ask.id}"
                await connection.client.set(key, json.dumps(found), ex=_ANSWER_LIFE_S)
    if len(entries) == MOST_PER_SECOND:
        await asyncio.sleep(1)
    return str(entries[-1][0]) if entries else after


async def ask(
    connection: Connection, prefix: str, question: Ask, timeout_s: float = 3.0
) -> dict[str, Any] | None:
    """The answer to a question; None if no picker has the station, or none is there."""
    client, key = connection.client, f"{prefix}:answer:{question.id}"
    await client.xadd(f"{prefix}:asks", question.fields(), maxlen=_KEPT_QUESTIONS, approximate=True)
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while loop.time() < deadline_s:
        found = await client.get(key)
        if found is not None:
            return dict(json.loads(found))
        await asyncio.sleep(0.05)
    return None
