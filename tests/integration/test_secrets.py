"""No password in anything this program says or writes, however it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bus_servers import free_ports, running

from streamer.bus.broker import BrokerConfig, start_broker
from streamer.bus.connect import open_connection
from streamer.bus.redis_streams import PickStream
from streamer.bus.redis_url import parse_redis_url
from streamer.cli import main
from streamer.config import Config, RedisConfig

SECRET = "hunter2-is-the-secret"
SCRIPT = Path(__file__).with_name("fail_with_secret.py")


def open_to_others(folder: Path) -> list[str]:
    """Files, folders and sockets, this one among them, that other users may touch."""
    everything = [folder, *folder.rglob("*")]
    assert len(everything) > 1
    return [
        f"{oct(each.stat().st_mode)} {each}" for each in everything if each.stat().st_mode & 0o077
    ]


def test_files_of_the_broker_are_private_under_any_umask(folder: Path) -> None:
    """State folder, socket, settings, password, log and data, with a port and without."""
    before = os.umask(0)
    try:
        for state in (folder / "a", folder / "b"):
            (port,) = free_ports(1)
            broker = start_broker(
                BrokerConfig(state_dir=state, port=port if state.name == "b" else None)
            )
            broker.stop()
            assert open_to_others(state) == []
    finally:
        os.umask(before)


def test_no_failure_shows_the_password(folder: Path, redis_server_binary: str) -> None:
    """Log lines of each format and level, errors, tracebacks, and the files that are left."""
    with running(redis_server_binary, folder, "--requirepass", "another") as server:
        done = subprocess.run(
            [sys.executable, SCRIPT, SECRET, server.socket, folder],
            capture_output=True, text=True, timeout=120, check=True, umask=0,
        )  # fmt: skip
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes == {
        **dict.fromkeys(("url", "json", "logfmt", "environment", "file", "settings"), 77),
        **dict.fromkeys(("unreachable", "no tls", "sentinels", "no user"), 69),
        **dict.fromkeys(("bad port", "bad database", "bad option", "unquoted", "check-config"), 78),
        "tail": 77, "doctor": 1, "show-config": 0, "broken": "traceback",
    }, done.stderr  # fmt: skip
    assert "a fault while" in done.stderr, "the traceback was there to be looked at"
    assert "redis_password_in_url" in done.stderr
    shown = [line for line in (done.stdout + done.stderr).splitlines() if SECRET in line]
    assert shown == []
    for path in (folder / "state").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert open_to_others(folder / "state") == []


def test_no_object_shows_the_password_when_it_is_printed() -> None:
    """Settings, addresses, streams and clients end up in messages and debuggers."""
    server = parse_redis_url(f"redis://picker:{SECRET}@localhost:1/0", environ={})
    stream = PickStream(server, clock=lambda: 0)
    config = Config(redis=RedisConfig(url=f"redis://picker:{SECRET}@localhost:1/0"))
    connection = open_connection(server)
    for each in (server, stream, config, config.redis, connection, connection.client):
        assert SECRET not in f"{each!r} {each!s}"


def test_everything_that_listens_listens_on_loopback_by_default() -> None:
    """Metrics, web page and replay server: others reach them only if somebody says so."""
    addresses = {
        name: parameter.default
        for name, command in main.commands.items()
        for parameter in command.params
        if parameter.name == "host"
    }
    assert addresses == dict.fromkeys(("replay", "web"), "127.0.0.1")
    assert Config().metrics.listen == "127.0.0.1:9108"
    assert Config().redis.embedded.port is None
