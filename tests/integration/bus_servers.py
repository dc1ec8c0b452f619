"""Real Redis and Valkey servers and picks for the tests of the bus."""

import os
import signal
import socketserver
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from bus_picks import NOW_NS
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamer.bus.redis_streams import PickStream
from streamer.bus.redis_url import RedisServer, parse_redis_url

START_TIMEOUT_S = 10.0


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on."""
    with ExitStack() as held:
        servers = [
            held.enter_context(
                socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
            )
            for _ in range(count)
        ]
        return [server.server_address[1] for server in servers]


class ServerProcess:
    """A server of its own on a unix socket in `folder`; `arguments` are command line options."""

    def __init__(
        self, binary: str, folder: Path, *arguments: str, config: Path | None = None
    ) -> None:
        self.socket = folder / "r.sock"
        self._command = [binary] if config is None else [binary, str(config)]
        self._command += ["--port", "0", "--unixsocket", str(self.socket)]
        self._command += ["--dir", str(folder), "--save", "", *arguments]
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def server(self) -> RedisServer:
        return parse_redis_url(f"unix://{self.socket}", environ={})

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        wait_until_up(self, self._process, self._log)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def plain(self, **login: str) -> "redis.Redis[str]":
        """A client that knows nothing of this project; the caller closes it."""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(
            unix_socket_path=str(self.socket), decode_responses=True, retry=once, **login
        )

    def answers(self) -> bool:
        with self.plain() as client:
            try:
                client.ping()
            except (redis.AuthenticationError, redis.BusyLoadingError):
                return True
            except redis.ConnectionError:
                return False
        return True

    def entries(self) -> list[tuple[str, dict[str, str]]]:
        """What a third party reads with XRANGE."""
        with self.plain() as client:
            return client.xrange("msnet:picks")


@contextmanager
def running(
    binary: str, folder: Path, *arguments: str, config: Path | None = None
) -> Iterator[ServerProcess]:
    process = ServerProcess(binary, folder, *arguments, config=config)
    try:
        yield process
    finally:
        process.kill()


def stream_on(server: RedisServer, **options: Any) -> PickStream:
    return PickStream(server, clock=lambda: NOW_NS, **options)


def wait_until_up(server: ServerProcess, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers, loading or not, to whoever it is."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not server.answers():
        if process.poll() is not None or time.monotonic() > deadline_s:
            process.kill()
            process.wait()
            raise AssertionError(log.read_text())
        time.sleep(0.01)


def wait_until_gone(pid: int) -> None:
    """Return when no process has this id, or it only waits to be collected by its parent."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} did not end")
