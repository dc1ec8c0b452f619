"""`status` and `top` as processes, on a real server with the heartbeats of a picker."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from bus_picks import make_pick
from bus_servers import running
from daemon_parts import COMMAND, msnet_stream

from streamer.bus.connect import open_client
from streamer.bus.heartbeat import HeartbeatKeys
from streamer.bus.survey import survey
from streamer.errors import AccessDeniedError


@pytest.fixture
def server(redis_server_binary, tmp_path):
    with running(redis_server_binary, tmp_path) as process:
        yield process


def beat(server, data_latency_s=1.5, **health):
    """One heartbeat of a picker with one station."""

    async def once():
        keys = HeartbeatKeys(server.server, "msnet", "picker-1")
        now_ns = time.time_ns()
        members = {
            "instance": "picker-1", "time_ns": now_ns, "data_latency_s": data_latency_s,
            "feed_latency_s": 0.5, "components": 3, "gaps": 0,
        }  # fmt: skip
        fields = {"time_ns": str(now_ns), "connected": "1", "stations": "1"} | health
        await keys.beat(fields, {"CI.PASC.00.HH": json.dumps(members)})
        await keys.close()

    asyncio.run(once())


def status(server, *arguments):
    return msnet_stream("status", "--redis", f"unix://{server.socket}", *arguments)


def test_the_exit_code_is_that_of_a_nagios_plugin(server, tmp_path):
    empty = status(server, "--format", "nagios")
    assert (empty.returncode, "no picker is alive" in empty.stdout) == (2, True)
    beat(server)
    with server.plain() as client:
        client.xadd("msnet:picks", make_pick(1).to_fields())
        client.xgroup_create("msnet:picks", "assoc", id="0")
        client.hset("msnet:rsv", "CI.PASC.P", json.dumps({"share_1h": 0.75}))
    well = status(server, "--format", "nagios")
    assert (well.returncode, well.stderr) == (0, "")
    assert well.stdout.startswith("MSNET OK - 1 stations, 1 pickers | stations=1 silent=0")
    assert "p_per_min=0.1" in well.stdout
    beat(server, data_latency_s=100.0)
    late = status(server, "--format", "json")
    assert (late.returncode, json.loads(late.stdout)["level"]) == (1, "WARNING")
    assert json.loads(late.stdout)["stations"][0]["share_p"] == 0.75
    assert json.loads(late.stdout)["consumers"][0]["lag"] == 1
    assert status(server, "--format", "nagios", "--silent-s", "90").returncode == 2


def test_a_redis_that_is_away_is_critical_and_named(tmp_path):
    result = msnet_stream("status", "--redis", f"unix://{tmp_path}/r.sock", "--format", "nagios")
    assert result.returncode == 2
    assert result.stdout.startswith("MSNET CRITICAL - ")
    assert "r.sock" in result.stdout


def test_a_reader_that_may_not_see_heartbeats_is_told_and_one_that_may_not_see_more_is_served(
    server,
):
    beat(server)
    rules = "resetkeys %R~msnet:* -@all +ping +hello +auth +hgetall +xrevrange +xrange"
    with server.plain() as client:
        client.execute_command("ACL", "SETUSER", "viewer", "on", ">pw", *rules.split())
        client.execute_command("ACL", "SETUSER", "blind", "on", ">pw", "+ping", "+hello", "~x")
    viewer = as_user(server, "viewer")
    with open_client(viewer) as client:
        found = survey(client, "msnet")
    assert list(found.health) == ["picker-1"]
    assert found.lengths["picks"] is None
    with pytest.raises(AccessDeniedError), open_client(as_user(server, "blind")) as client:
        survey(client, "msnet")


def as_user(server, name):
    from streamer.bus.redis_url import parse_redis_url

    return parse_redis_url(f"unix://{name}:pw@{server.socket}", environ={})


def test_top_needs_a_terminal():
    result = msnet_stream("top")
    assert (result.returncode, "needs a terminal" in result.stderr) == (78, True)


def test_top_shows_stations_and_events_and_q_ends_it(server):
    beat(server)
    master, terminal = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 160, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "top", "--redis", f"unix://{server.socket}"],
        stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    try:
        text = read_until(master, b"CI.PASC.00.HH")
        assert b"picker-1" in text
        os.write(master, b"xq")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        for descriptor in (master, terminal):
            os.close(descriptor)


def read_until(descriptor, wanted, timeout_s=60.0):
    """What a terminal shows up to some text."""
    text, deadline_s = b"", time.monotonic() + timeout_s
    while wanted not in text:
        assert time.monotonic() < deadline_s, text[-2000:]
        ready, _, _ = select.select([descriptor], [], [], 1.0)
        if ready:
            with contextlib.suppress(OSError):
                text += os.read(descriptor, 65_536)
    return text


def test_status_starts_without_torch_and_numba():
    script = "import sys, streamer.status.command, streamer.status.top; print('torch' in sys.modules, 'numba' in sys.modules)"  # noqa: E501
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "False False"
