"""Connections to Redis and Valkey servers, and what their errors mean. The only importer of redis.

Every client of this program is made here, with the defaults of redis-py overridden: it would send
a command again by itself, up to ten times, and a repeated XADD adds a second entry.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from redis import exceptions as refusals
from redis.asyncio import sentinel as async_sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel

from streamer.bus.redis_url import RedisServer
from streamer.errors import AccessDeniedError, MsnetError, UnavailableError

# What callers tell apart.
RedisError = refusals.RedisError
ResponseError = refusals.ResponseError
NoScriptError = refusals.NoScriptError
NoPermissionError = refusals.NoPermissionError

# A reply that takes longer is that of a stalled server; a blocking read adds the time it blocks.
REPLY_TIMEOUT_S = 10.0

_CONNECT_TIMEOUT_S = 5.0
_HEALTH_CHECK_S = 15
# A server that reads a full append-only file back needs about 15 s per million picks.
_LOADING_TIMEOUT_S = 60.0
_LOADING_POLL_S = 0.2
_OLDEST_VERSION = (6, 2)  # XTRIM MINID


class _LoadingError(UnavailableError):
    """The server answers, but it is still reading its data."""


@dataclass(frozen=True, slots=True)
class Connection:
    """`client` is redis-py's asyncio client of a server; half of redis-py has no types.

    It opens lost connections again, and asks the sentinels anew for their primary when it does.
    """

    client: Any
    sentinels: Sequence[Any] = ()

    async def close(self) -> None:
        """Close the connections. A command after it opens new ones."""
        await self.client.aclose()
        for sentinel in self.sentinels:
            await sentinel.aclose()


def open_connection(server: RedisServer, reply_timeout_s: float = REPLY_TIMEOUT_S) -> Connection:
    """A connection for asyncio. Does no I/O: the first command connects."""
    retry = AsyncRetry(NoBackoff(), 0)
    options = {**_options(server, reply_timeout_s), "retry": retry}
    if server.service is None:
        return Connection(redis.asyncio.Redis(**options))
    sentinels = async_sentinel.Sentinel(  # type: ignore[no-untyped-call]
        server.hosts, sentinel_kwargs={**_sentinel_options(), "retry": retry}, **options
    )
    return Connection(sentinels.master_for(server.service), sentinels.sentinels)


@contextmanager
def open_client(server: RedisServer, reply_timeout_s: float = REPLY_TIMEOUT_S) -> Iterator[Any]:
    """A client that waits for each reply; for tools outside an event loop, and for threads.

    What goes wrong inside is raised as UnavailableError or AccessDeniedError.
    """
    retry = Retry(NoBackoff(), 0)
    options = {**_options(server, reply_timeout_s), "retry": retry}
    if server.service is None:
        client: Any = redis.Redis(**options)
    else:
        sentinels = Sentinel(  # type: ignore[no-untyped-call]
            server.hosts, sentinel_kwargs={**_sentinel_options(), "retry": retry}, **options
        )
        client = sentinels.master_for(server.service)  # type: ignore[no-untyped-call]
    with explained(server), client:
        yield client


def server_process_id(server: RedisServer, timeout_s: float) -> int | None:
    """Process id of the server that answers here, even while it is loading; None without one."""
    options = _options(server, timeout_s)
    # The health check is a PING, which a server refuses while it is loading; INFO it answers.
    options["health_check_interval"] = 0
    client = redis.Redis(**options, retry=Retry(NoBackoff(), 0))
    try:
        return int(client.info("server")["process_id"])
    except (RedisError, OSError):
        return None
    finally:
        client.close()


async def once_loaded(server: RedisServer, check: Callable[[], Awaitable[None]]) -> None:
    """Run `check`, again and again for up to a minute while the server reads its data.

    Raises what `check` raises, explained.
    """
    deadline_s = time.monotonic() + _LOADING_TIMEOUT_S
    while True:
        try:
            with explained(server):
                return await check()
        except _LoadingError:
            if time.monotonic() > deadline_s:
                raise
        await asyncio.sleep(_LOADING_POLL_S)


def refuse_unusable(hello: object, server: RedisServer) -> None:
    """Raise UnavailableError unless this reply to HELLO is that of a server we can write to."""
    if not isinstance(hello, Mapping):
        raise UnavailableError(_NOT_REDIS.format(server=server))
    version = str(hello.get("version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST_VERSION:
        raise UnavailableError(
            f"Redis at {server} is version {version}: 6.2 or later is needed; update it, or use "
            "the embedded one (--redis embedded:)"
        )
    if hello.get("mode") == "cluster":
        raise UnavailableError(
            f"Redis at {server} is part of a Redis Cluster, which is not supported: "
            "name a server outside a cluster"
        )
    if hello.get("role") in ("replica", "slave"):
        raise UnavailableError(_REPLICA.format(server=server))


_REPLICA = (
    "Redis at {server} is a read-only replica: name its primary, or its sentinels "
    "(redis+sentinel://host:26379/service)"
)


def _options(server: RedisServer, reply_timeout_s: float) -> dict[str, Any]:
    """Where redis-py's defaults are overridden, once for every client.

    The retry of zero comes on top: asyncio has its own class of it. Repetition is ours and sits
    above the idempotent script.
    """
    options: dict[str, Any] = {
        **_timeouts(reply_timeout_s),
        "health_check_interval": _HEALTH_CHECK_S,
        "decode_responses": True,
        # A code that is no text must not stop the picks behind it.
        "encoding_errors": "replace",
        "protocol": 3,
        # It would be refused where permissions are few, and each refusal logged by the server.
        "driver_info": None,
        "db": server.db,
        "credential_provider": _Login(server),
    }
    if server.kind == "unix":
        options["unix_socket_path"] = server.path
    elif server.kind != "redis+sentinel":
        (options["host"], options["port"]), *_ = server.hosts
    if server.kind == "rediss":
        options.update(ssl=True, **server.tls)
    return options


class _Login(CredentialProvider):
    """Asked at each connection: a password that was changed in its file needs no restart."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def get_credentials(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._server.login()

    async def get_credentials_async(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._server.login()


def _timeouts(reply_timeout_s: float) -> dict[str, Any]:
    return {"socket_connect_timeout": _CONNECT_TIMEOUT_S, "socket_timeout": reply_timeout_s}


def _sentinel_options() -> dict[str, Any]:
    """The login is that of the servers; the sentinels are asked without one."""
    return _timeouts(_CONNECT_TIMEOUT_S)


@contextmanager
def explained(server: RedisServer) -> Iterator[None]:
    """Turn what redis-py raises into our two errors."""
    try:
        yield
    except (refusals.RedisError, OSError, ValueError) as error:
        raise _explain(error, server) from error


def _explain(error: Exception, server: RedisServer) -> MsnetError:
    """The error to show for one of redis-py or of the sockets below it."""
    # A failed login comes wrapped in a ConnectionError, for one.
    while isinstance(error.__cause__, refusals.RedisError):
        error = error.__cause__
    reason = str(error) or type(error).__name__
    if isinstance(error, refusals.ConnectionError) and "ssl" in reason.lower():
        return UnavailableError(_NO_TLS.format(server=server, reason=reason))
    if isinstance(error, ResponseError) and reason.startswith(("MISCONF", "NOREPLICAS")):
        return UnavailableError(_NOT_SAFE.format(server=server, reason=reason))
    kind, template = next(row[1:] for row in _REASONS if isinstance(error, row[0]))
    return kind(template.format(server=server, reason=reason))


_NO_TLS = (
    "Redis at {server}: no TLS connection ({reason}): check ssl_ca_certs, or use redis:// if the "
    "server has no TLS"
)
_NOT_SAFE = (
    "Redis at {server} cannot save its data and takes no more ({reason}): look at its disk, its "
    "log and its replicas"
)
_NOT_REDIS = (
    "the server at {server} does not speak the Redis protocol: check host and port, and redis:// "
    "against rediss:// (TLS)"
)
# First match wins: the classes of redis-py derive from each other.
_REASONS: tuple[
    tuple[type[Exception] | tuple[type[Exception], ...], type[MsnetError], str], ...
] = (
    (
        (refusals.AuthenticationError, refusals.AuthenticationWrongNumberOfArgsError),
        AccessDeniedError,
        "Redis at {server} refused the login ({reason}): give the password in a file "
        "(redis.password_file) or in MSNET_STREAM_REDIS_PASSWORD, and the user in the URL",
    ),
    (
        refusals.NoPermissionError,
        AccessDeniedError,
        "Redis at {server} refused permission ({reason}): name another user in the URL, or give "
        "this one the rules of deploy/redis/msnet.acl",
    ),
    (
        refusals.BusyLoadingError,
        _LoadingError,
        "Redis at {server} is still reading its data: try again in a minute",
    ),
    (refusals.ReadOnlyError, UnavailableError, _REPLICA),
    (
        refusals.OutOfMemoryError,
        UnavailableError,
        "Redis at {server} is at its memory limit: raise its maxmemory or keep fewer entries",
    ),
    (
        refusals.ResponseError,
        UnavailableError,
        "Redis at {server} refused a command ({reason}): Redis 6.2 or later with its usual "
        "commands is needed, and the key must hold a stream",
    ),
    ((refusals.InvalidResponse, ValueError), UnavailableError, _NOT_REDIS),
    (
        (refusals.TimeoutError, TimeoutError),
        UnavailableError,
        "Redis at {server} does not answer: check host, port and firewall, and that this is a "
        "Redis server",
    ),
    (
        (refusals.RedisError, OSError),
        UnavailableError,
        "Redis at {server} cannot be reached ({reason}): start it, correct the URL, or use the "
        "embedded one (--redis embedded:)",
    ),
)
