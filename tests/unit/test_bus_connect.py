"""Every client of this program has the defaults of redis-py overridden that would hurt."""

from typing import Any

import pytest

from streamer.bus.connect import REPLY_TIMEOUT_S, open_client, open_connection
from streamer.bus.redis_url import parse_redis_url

URLS = (
    "redis://host:6379/0",
    "rediss://host:6379/0",
    "unix:///nowhere.sock",
    "redis+sentinel://host:26379,other:26379/service/0",
)


def assert_safe(client: Any, reply_timeout_s: float) -> None:
    """No command is sent again by itself, none is waited for for ever, nor is connecting."""
    options = client.connection_pool.connection_kwargs
    connection = client.connection_pool.connection_class(**options)
    assert connection.retry.get_retries() == 0
    assert connection.socket_timeout == reply_timeout_s
    assert 0 < connection.socket_connect_timeout <= 5
    assert (connection.health_check_interval, connection.protocol) == (15, 3)
    assert connection.encoder.decode_responses
    assert connection.driver_info is None


@pytest.mark.parametrize("url", URLS)
def test_clients_for_asyncio_repeat_nothing_and_never_wait_for_ever(url: str) -> None:
    """A retried XADD would add a second entry; the sentinels' own clients are no exception."""
    connection = open_connection(parse_redis_url(url, environ={}), 12)
    assert_safe(connection.client, 12)
    assert len(connection.sentinels) == (2 if "sentinel" in url else 0)
    for sentinel in connection.sentinels:
        made = sentinel.connection_pool.connection_class(
            **sentinel.connection_pool.connection_kwargs
        )
        assert (made.retry.get_retries(), made.socket_timeout) == (0, 5)


@pytest.mark.parametrize("url", URLS)
def test_clients_that_block_repeat_nothing_and_never_wait_for_ever(url: str) -> None:
    """The same for threads and tools."""
    with open_client(parse_redis_url(url, environ={})) as client:
        assert_safe(client, REPLY_TIMEOUT_S)
