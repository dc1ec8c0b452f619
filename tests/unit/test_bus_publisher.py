"""The queue of the publisher at its bound, and the checks of a server's greeting."""

import asyncio
from pathlib import Path

import pytest
from bus_picks import make_pick
from structlog.testing import capture_logs

from streamer.bus import publisher as publisher_module
from streamer.bus.connect import refuse_unusable
from streamer.bus.publisher import Publisher
from streamer.bus.redis_streams import PickStream
from streamer.bus.redis_url import parse_redis_url
from streamer.bus.spool import Spool
from streamer.errors import UnavailableError

SERVER = parse_redis_url("unix:///nowhere.sock", environ={})
GREETING = {"server": "redis", "version": "7.0.15", "mode": "standalone", "role": "master"}


def test_full_queue_drops_the_oldest_counts_all_and_logs_once_a_minute() -> None:
    """At the bound the oldest pick goes; the log gets one line a minute with the running total."""
    now_ns = [0]
    stream = PickStream(SERVER, clock=lambda: now_ns[0])
    publisher = Publisher(
        stream, Spool(None, 1, lambda: now_ns[0]), capacity=3, clock=lambda: now_ns[0]
    )
    with capture_logs() as logs:
        for number in range(7):
            publisher.submit(make_pick(number))
        now_ns[0] = 60_000_000_000
        publisher.submit(make_pick(7))
    assert (publisher.pending, publisher.dropped, publisher.published) == (3, 5, 0)
    drops = [
        (entry["total"], entry["oldest"]) for entry in logs if entry["event"] == "picks_dropped"
    ]
    assert drops == [(1, make_pick(0).name), (5, make_pick(4).name)]


def test_a_state_gets_into_the_spool_with_all_messages_of_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one transaction, however many may be stored at a time; and numbers go on."""
    monkeypatch.setattr(publisher_module, "_STORE_PICKS", 2)
    spool = Spool(None, 1, lambda: 0)

    def begin() -> Publisher:
        return Publisher(PickStream(SERVER, clock=lambda: 0), spool, clock=lambda: 0)

    async def scene() -> None:
        first = begin()
        assert first.resume(0) == {}
        first.submit(make_pick(0), source="A", state=10)
        first.submit(make_pick(1), make_pick(2), make_pick(3), source="B", state=20)
        first.submit(make_pick(4), source="A", state=11)
        assert first.told == 3
        await first._store()
        assert spool.waiting == 4
        assert begin().resume(0) == {"A": 10, "B": 20}
        await first._store()
        assert begin().resume(2) == {"A": 11}
        second = begin()
        assert (second.resume(3), second.told) == ({}, 3)
        assert (second.resume(8), second.told) == ({}, 8), "the spool was lost, the checkpoint not"

    asyncio.run(scene())


def test_usable_servers_are_accepted() -> None:
    """Redis 6.2 and later and Valkey, as primaries outside a cluster, pass."""
    for version in ("6.2.0", "7.0.15", "9.1.2", "10.0.0"):
        refuse_unusable({**GREETING, "version": version}, SERVER)


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({"version": "6.0.16"}, "6.2 or later is needed"),
        ({"version": ""}, "6.2 or later is needed"),
        ({"mode": "cluster"}, "Redis Cluster"),
        ({"role": "replica"}, "read-only replica"),
        ({"role": "slave"}, "read-only replica"),
    ],
)
def test_unusable_server_is_refused_with_a_remedy(difference: dict[str, str], reason: str) -> None:
    """A server we cannot write to is named at connection, not at the first pick."""
    with pytest.raises(UnavailableError, match=reason) as caught:
        refuse_unusable({**GREETING, **difference}, SERVER)
    assert str(Path("/nowhere.sock")) in str(caught.value)
