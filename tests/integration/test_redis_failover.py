"""Fail-over by real sentinels, and TLS, with servers that go away while picks are published."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from bus_picks import make_pick
from bus_servers import ServerProcess, free_ports, running
from outages import PICKS, assert_each_once_in_order, publishing, submit, through, until
from structlog.testing import capture_logs

from streamer.bus.reading import read_entries
from streamer.bus.redis_url import parse_redis_url
from streamer.errors import UnavailableError

QUORUM = 2
DOWN_AFTER_MS = 1000


@dataclass
class Cluster:
    """One primary, two replicas and three sentinels, all on loopback."""

    servers: dict[int, ServerProcess]
    sentinel_ports: list[int]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{hosts}/quakes"

    def primary(self) -> ServerProcess:
        """The server that a majority of the sentinels takes for the primary."""
        named = [self._ask(port)["port"] for port in self.sentinel_ports]
        return self.servers[int(max(named, key=named.count))]

    def is_complete(self) -> bool:
        """Whether all know each other and all replicas have what the primary has."""
        states = [self._ask(port) for port in self.sentinel_ports]
        with self.primary().plain() as client:
            replicas = int(client.info("replication")["connected_slaves"])
        return replicas == 2 and all(
            (int(each["num-slaves"]), int(each["num-other-sentinels"])) == (2, 2) for each in states
        )

    def _ask(self, port: int) -> dict[str, Any]:
        with redis.Redis(port=port, decode_responses=True) as client:
            return dict(client.sentinel_master("quakes"))


@pytest.fixture
def cluster(folder: Path, redis_server_binary: str) -> Iterator[Cluster]:
    ports = free_ports(6)
    first, *others = ports[:3]
    with ExitStack() as started:

        def start(port: int, *arguments: str, config: Path | None = None) -> ServerProcess:
            own = folder / str(port)
            own.mkdir(exist_ok=True)
            return started.enter_context(
                running(redis_server_binary, own, "--port", str(port), *arguments, config=config)
            )

        servers = {first: start(first, "--repl-diskless-sync-delay", "0")}
        for port in others:
            servers[port] = start(port, "--replicaof", "127.0.0.1", str(first))
        for port in ports[3:]:
            config = folder / str(port) / "sentinel.conf"
            config.parent.mkdir()
            config.write_text(
                f"sentinel monitor quakes 127.0.0.1 {first} {QUORUM}\n"
                f"sentinel down-after-milliseconds quakes {DOWN_AFTER_MS}\n"
                "sentinel failover-timeout quakes 3000\n"
            )
            start(port, "--sentinel", config=config)
        cluster = Cluster(servers, ports[3:])
        wait_for(cluster.is_complete)
        yield cluster


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_fail_over_loses_and_doubles_nothing(cluster: Cluster) -> None:
    """kill -9 of the primary under load: the promoted replica gets every pick once, in order."""

    async def session() -> None:
        async with publishing(parse_redis_url(cluster.url, environ={})) as publisher:
            for number in range(400):
                publisher.submit(make_pick(number))
                if number == 200:
                    cluster.primary().kill()
                await asyncio.sleep(0.005)
            await until(lambda: publisher.pending == 0)
        assert publisher.dropped == 0

    killed = cluster.primary()
    asyncio.run(session())
    assert cluster.primary() is not killed
    assert_each_once_in_order(cluster.primary(), 400)
    readers_url = parse_redis_url(cluster.url, environ={})
    assert len(list(read_entries(readers_url, "msnet:picks"))) == 400


def test_promoted_replica_is_given_what_it_had_not_received(cluster: Cluster) -> None:
    """Replication is asynchronous: picks confirmed by the dead primary alone are sent again."""

    async def session() -> int:
        async with publishing(parse_redis_url(cluster.url, environ={})) as publisher:
            submit(publisher, 0, PICKS)
            await until(lambda: publisher.pending == 0)
            with cluster.primary().plain() as client:
                client.wait(2, 5000)
                # Replicas that must log in again and cannot: they stay as they are.
                client.config_set("requirepass", "unknown-to-replicas")
                client.execute_command("CLIENT", "KILL", "TYPE", "replica")
            submit(publisher, PICKS, PICKS)
            await until(lambda: publisher.pending == 0)
            cluster.primary().kill()
            submit(publisher, 2 * PICKS, PICKS)
            await until(lambda: publisher.pending == 0)
        return publisher.restored

    assert asyncio.run(session()) == PICKS
    assert_each_once_in_order(cluster.primary(), 3 * PICKS)


@pytest.fixture
def authority(folder: Path) -> Path:
    """A folder with an authority, and certificates of a server and a client that it signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH: install it to make the certificates of this test")
    own = folder / "tls"
    own.mkdir()

    def run(arguments: str) -> None:
        subprocess.run([openssl, *arguments.split()], check=True, capture_output=True, cwd=own)

    key = "-newkey rsa:2048 -nodes -days 2"
    run(f"req -x509 {key} -subj /CN=authority -keyout ca.key -out ca.crt")
    for name in ("server", "client"):
        names = f"-addext subjectAltName=DNS:{name}.test,DNS:localhost"
        run(
            f"req -x509 {key} -subj /CN={name} {names} -CA ca.crt -CAkey ca.key"
            f" -keyout {name}.key -out {name}.crt"
        )
    return own


def test_tls_with_client_certificates_survives_a_restart(
    authority: Path, folder: Path, redis_server_binary: str
) -> None:
    """rediss:// with an authority of one's own: refused without, and an outage loses nothing."""
    (port,) = free_ports(1)
    tls = (
        f"--tls-port {port} --tls-ca-cert-file {authority}/ca.crt"
        f" --tls-cert-file {authority}/server.crt --tls-key-file {authority}/server.key"
    )
    own = f"ssl_certfile={authority}/client.crt&ssl_keyfile={authority}/client.key"
    known = f"?ssl_ca_certs={authority}/ca.crt"
    with running(redis_server_binary, folder, *tls.split()) as server:
        for query in ("", known, f"?{own}"):
            with pytest.raises(UnavailableError, match=r"TLS|cannot be reached"):
                asyncio.run(connect_only(f"rediss://localhost:{port}{query}"))
        login = parse_redis_url(f"rediss://localhost:{port}{known}&{own}", environ={})
        with capture_logs():
            through(server, server.kill, server.start, login)
        assert_each_once_in_order(server, 3 * PICKS)


async def connect_only(url: str) -> None:
    async with publishing(parse_redis_url(url, environ={})):
        pass
