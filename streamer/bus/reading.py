"""What is on the Redis streams, read without a consumer group: by any number of readers, changing
nothing. `XREAD` and `XRANGE` are all that a reader must be allowed.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from streamer.bus.connect import REPLY_TIMEOUT_S, open_client
from streamer.bus.redis_url import RedisServer
from streamer.errors import ConfigError, UnavailableError
from streamer.timebase import NS_PER_MS, NS_PER_S, parse_iso

log = structlog.get_logger()

Entry = tuple[str, dict[str, str]]

PAGE_ENTRIES = 1000
BLOCK_S = 2.0
RETRY_S = 2.0
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def read_entries(
    server: RedisServer, key: str, first: str = "-", last: str = "+"
) -> Iterator[Entry]:
    """Entries in order of publication, a page at a time. Raises as `open_client`."""
    with open_client(server) as client:
        while page := client.xrange(key, first, last, count=PAGE_ENTRIES):
            first = f"({page[-1][0]}"
            yield from page


def follow_entries(
    server: RedisServer, key: str, after: str, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Entry]:
    """Entries after an id (`$`: those to come), and then each one as it is published, for ever.

    A server that goes away is waited for and read from where it was left, with a warning; one that
    was never there raises UnavailableError.
    """
    reached = False
    while True:
        try:
            with open_client(server, REPLY_TIMEOUT_S + BLOCK_S) as client:
                if after == "$":
                    after = _newest_id(client, key)
                while True:
                    page = _next_page(client, key, after)
                    reached = True
                    for after, message in page:
                        yield after, message
        except UnavailableError as error:
            if not reached:
                raise
            log.warning("tail_interrupted", key=key, error=str(error), retry_s=RETRY_S)
            sleep(RETRY_S)


def _newest_id(client: Any, key: str) -> str:
    newest = client.xrevrange(key, count=1)
    return str(newest[0][0]) if newest else "0-0"


def _next_page(client: Any, key: str, after: str) -> list[Entry]:
    """The next entries, [] if none came for a while."""
    return entries_of(client.xread({key: after}, count=PAGE_ENTRIES, block=int(1000 * BLOCK_S)))


def entries_of(reply: Any) -> list[Entry]:
    """The entries in a reply about one stream. RESP 3 gives a mapping, RESP 2 pairs."""
    if not reply:
        return []
    if isinstance(reply, dict):
        (pages,) = reply.values()
        return [entry for page in pages for entry in page]
    return list(reply[0][1])


def id_since(text: str, now_ns: int) -> str:
    """The entry id that lies before all that is published from a moment on.

    `now`, `earliest`, a span such as `90s`, `10m`, `2h`, `7d`, or an ISO 8601 time (UTC). Raises
    ConfigError.
    """
    if text in ("now", "earliest"):
        return "$" if text == "now" else "0-0"
    if span := re.fullmatch(r"(\d+)([smhd])", text):
        since_ns = now_ns - int(span[1]) * _UNITS_S[span[2]] * NS_PER_S
    else:
        try:
            since_ns = parse_iso(text)
        except ValueError:
            raise ConfigError(
                f"--since {text!r} is neither now, earliest, a span such as 10m or 2h, nor an "
                "ISO 8601 time"
            ) from None
    return f"{max(since_ns // NS_PER_MS - 1, 0)}-{2**64 - 1}" if since_ns > 0 else "0-0"
