"""The same over IPv6: addresses are given, and told, in brackets."""

import asyncio
import json
import socket
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from daemon_parts import replaying
from replay_clients import build_archive

from streamer.cli import main
from streamer.config import Config, split_server
from streamer.http_health import HealthServer
from streamer.seedlink.client import Packet, SeedLinkFeed, feed_config


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


def test_what_the_replay_server_tells_is_what_the_others_take(tmp_path: Path) -> None:
    """In the list of stations, and in the feed: every record arrives."""
    records = build_archive(tmp_path)
    with replaying("--host", "::1", "--speed", "max", tmp_path) as address:
        assert address.startswith("[::1]:")
        assert str(split_server(address)) == address
        arguments = ["stations", "--server", address, "--format", "json"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        listed = json.loads(result.stdout)
        assert {row["station"] for row in listed} == {record.nslc.station for record in records}
        packets = asyncio.run(received(address, len(records)))
    assert sorted(packet.data for packet in packets) == sorted(record.data for record in records)
    assert {packet.server for packet in packets} == {address}


async def received(address: str, count: int) -> list[Packet]:
    config = Config.model_validate(
        {"stations": ["*"], "seedlink": {"servers": [address], "start": "earliest"}}
    )
    packets: list[Packet] = []
    enough = asyncio.Event()

    async def deliver(packet: Packet) -> None:
        packets.append(packet)
        if len(packets) == count:
            enough.set()

    feed = SeedLinkFeed(feed_config(config), deliver, lambda channels: None, lambda: 0)
    running = asyncio.create_task(feed.run())
    try:
        async with asyncio.timeout(60):
            await enough.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return packets


def test_metrics_can_be_asked_for() -> None:
    config = Config.model_validate({"metrics": {"listen": "[::1]:0"}})
    server = HealthServer.at(config.metrics.address, lambda: b"up 1\n", lambda: None)
    assert server is not None
    try:
        with urllib.request.urlopen(f"http://[::1]:{server.port}/metrics", timeout=60) as answer:
            assert answer.read() == b"up 1\n"
    finally:
        server.close()
