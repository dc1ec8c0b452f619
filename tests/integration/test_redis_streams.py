"""Picks on real Redis and Valkey servers: the message, idempotence, order, refusals and outages."""

import asyncio
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pytest
from bus_picks import NOW_NS, make_pick
from bus_servers import ServerProcess, running, stream_on
from structlog.testing import capture_logs

from streamer.bus.redis_streams import PickStream
from streamer.bus.redis_url import RedisServer, parse_redis_url
from streamer.config import Config
from streamer.errors import AccessDeniedError, MsnetError, UnavailableError
from streamer.latency import INSTANTS
from streamer.picks import Pick

T = TypeVar("T")


def with_stream(stream: PickStream, work: Callable[[PickStream], Awaitable[T]]) -> T:
    """Run `work` on a connected stream and close it."""

    async def session() -> T:
        await stream.connect()
        try:
            return await work(stream)
        finally:
            await stream.close()

    return asyncio.run(session())


async def published(stream: PickStream, picks: Sequence[Pick]) -> tuple[int, int]:
    """How many picks were added, and how many were there already."""
    result = await stream.publish(picks)
    return result.added, result.duplicates


def refusal(server: RedisServer, **options: Any) -> MsnetError:
    """The error of a connection that must fail."""
    with pytest.raises(MsnetError) as caught:
        asyncio.run(stream_on(server, **options).connect())
    return caught.value


def test_message_is_readable_by_anybody_and_a_repetition_adds_nothing(
    binary: str, folder: Path
) -> None:
    """XRANGE shows the documented fields in order; each (id, rev) enters once."""
    picks = [make_pick(number) for number in range(20)]

    async def work(stream: PickStream) -> list[tuple[int, int]]:
        return [
            await published(stream, picks),
            await published(stream, picks),
            await published(stream, [make_pick(3), make_pick(3, rev=1), make_pick(20)]),
            await published(stream, []),
        ]

    with running(binary, folder) as server:
        results = with_stream(stream_on(server.server), work)
        entries = server.entries()
        with server.plain() as client:
            marker_life_s = client.ttl(f"msnet:dd:{picks[0].id}:0")
    assert results == [
        (20, 0),
        (0, 20),
        (2, 1),
        (0, 0),
    ]
    expected = [*picks, make_pick(3, rev=1), make_pick(20)]
    assert [fields for _, fields in entries] == [pick.to_fields() for pick in expected]
    assert [Pick.from_fields(fields).id for _, fields in entries] == [pick.id for pick in expected]
    assert 3500 < marker_life_s <= 3600


def test_connect_writes_nothing(binary: str, folder: Path) -> None:
    """The check at connection leaves nothing but a marker that dies within a millisecond."""

    async def nothing(stream: PickStream) -> None:
        return None

    with running(binary, folder) as server:
        with_stream(stream_on(server.server), nothing)
        with server.plain() as client:
            assert client.exists("msnet:picks") == 0
            assert client.pttl("msnet:dd:probe") <= 1


def test_prefix_names_every_key(binary: str, folder: Path) -> None:
    """Two networks share a server under two prefixes without seeing each other."""
    with running(binary, folder) as server:
        for prefix in ("north", "south"):
            result = with_stream(
                stream_on(server.server, prefix=prefix),
                lambda stream: published(stream, [make_pick(1)]),
            )
            assert result == (1, 0)
        with server.plain() as client:
            assert {key.partition(":")[0] for key in client.scan_iter()} == {"north", "south"}


def test_script_forgotten_by_the_server_is_loaded_again(binary: str, folder: Path) -> None:
    """A restarted server knows no scripts (NOSCRIPT): the batch is sent again, once."""

    async def work(stream: PickStream) -> tuple[int, int]:
        with server.plain() as client:
            client.script_flush()
        return await published(stream, [make_pick(1), make_pick(2)])

    with running(binary, folder) as server:
        assert with_stream(stream_on(server.server), work) == (2, 0)


def test_old_entries_are_trimmed_by_number_and_by_age(binary: str, folder: Path) -> None:
    """At most once a minute the stream is cut to max_entries and the retention, in nodes of 100."""
    now_ns = [NOW_NS]

    async def work(stream: PickStream) -> list[int]:
        lengths = []
        for batch in range(2):
            await published(stream, [make_pick(batch * 1000 + number) for number in range(1000)])
            lengths.append(len(server.entries()))
            now_ns[0] += 61_000_000_000
        return lengths

    with running(binary, folder) as server:
        clock = {"clock": lambda: now_ns[0]}
        by_number = PickStream(server.server, max_entries=300, **clock)
        assert with_stream(by_number, work) == [300, 300]
        with server.plain() as client:
            client.flushall()
        by_age = PickStream(server.server, retention_s=0, **clock)
        first, second = with_stream(by_age, work)
        assert first < 1000
        assert second < 1000
        assert len(server.entries()) >= 1


def test_as_many_picks_as_are_kept_fit_into_the_memory_of_the_broker(
    binary: str, folder: Path
) -> None:
    """Of picks with every field; events, stations and what else there is have the other quarter."""
    count, redis = 2000, Config().redis
    picks = [full_pick(number) for number in range(count)]
    assert set(picks[0].to_fields()) == {"v", "time", *(field.name for field in fields(Pick))}

    async def work(stream: PickStream) -> tuple[int, int]:
        return await published(stream, picks)

    with running(binary, folder) as server:
        assert with_stream(stream_on(server.server), work) == (count, 0)
        with server.plain() as client:
            bytes_each = client.memory_usage("msnet:picks", samples=0) / count
    assert bytes_each * redis.max_entries < 0.75 * redis.embedded.maxmemory_mb * 2**20


def full_pick(number: int) -> Pick:
    instants = {
        name: 1_700_000_000_000_000_000 + number * 10**9 + place * 123_456_789
        for place, name in enumerate(INSTANTS)
    }
    return make_pick(
        number, **instants, author="msnet-stream/0.1.0@acquisition.example.org", n_comp=3,
        qual="gap,timing", lat=34.01234, lon=-118.12345, elev=341.0, t_unc=0.0812, snr=12.34,
        amp=1.234e-6 + number * 1e-9, amp_unit="m/s", amp_per=0.1234, pol="up", pol_prob=0.9123,
    )  # fmt: skip


def test_refused_pick_can_be_sent_again(binary: str, folder: Path) -> None:
    """A pick that Redis refused is not taken for one that it has."""

    async def work(stream: PickStream) -> tuple[int, int]:
        with server.plain() as client:
            client.set("msnet:picks", "not a stream")
            with pytest.raises(UnavailableError, match="must hold a stream"):
                await published(stream, [make_pick(1)])
            client.delete("msnet:picks")
            # The refused pick leaves a marker for a millisecond, which the server must see expire.
            assert client.pttl(f"msnet:dd:{make_pick(1).id}:0") <= 1
            await asyncio.sleep(0.01)
        return await published(stream, [make_pick(1)])

    with running(binary, folder) as server:
        assert with_stream(stream_on(server.server), work) == (1, 0)


def test_full_server_is_named_and_recovers(binary: str, folder: Path) -> None:
    """At its memory limit the server refuses; once there is room the same picks enter."""

    async def work(stream: PickStream) -> tuple[int, int]:
        with server.plain() as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(UnavailableError, match="memory limit"):
                await published(stream, [make_pick(1)])
            client.config_set("maxmemory", 0)
        return await published(stream, [make_pick(1)])

    with running(binary, folder) as server:
        assert with_stream(stream_on(server.server), work) == (1, 0)


def login(server: ServerProcess, user: str, password: str | None) -> RedisServer:
    secret = "" if password is None else f":{password}"
    return parse_redis_url(f"unix://{user}{secret}@{server.socket}", environ={})


def test_user_without_scripts_still_publishes(binary: str, folder: Path) -> None:
    """Without EVALSHA every pick enters by plain XADD, and one warning says what is lost."""
    rules = "on >pw resetkeys %RW~msnet:picks -@all +ping +hello +auth +xadd +xtrim"

    async def work(stream: PickStream) -> tuple[int, int]:
        await published(stream, [make_pick(0)])
        return await published(stream, [make_pick(1), make_pick(2)])

    with running(binary, folder) as server:
        with server.plain() as client:
            client.execute_command("ACL", "SETUSER", "plain", *rules.split())
        with capture_logs() as logs:
            result = with_stream(stream_on(login(server, "plain", "pw")), work)
        assert result == (2, 0)
        assert [fields["id"] for _, fields in server.entries()] == [
            make_pick(number).id for number in range(3)
        ]
    assert [entry["event"] for entry in logs].count("redis_scripts_not_allowed") == 1


def test_wrong_and_missing_passwords_are_access_errors(binary: str, folder: Path) -> None:
    """NOAUTH, WRONGPASS and NOPERM each give exit code 77, the URL and no password."""
    with running(binary, folder) as server:
        rules = "on >pw ~* -@all +ping +hello +xread"
        with server.plain() as client:
            client.execute_command("ACL", "SETUSER", "reader", *rules.split())
            client.config_set("requirepass", "right-word")
        missing = refusal(server.server)
        wrong = refusal(login(server, "", "wrong-word"))
        forbidden = refusal(login(server, "reader", "pw"))
        with_stream(
            stream_on(login(server, "", "right-word")),
            lambda stream: published(stream, [make_pick(1)]),
        )
    for error in (missing, wrong, forbidden):
        assert isinstance(error, AccessDeniedError)
        assert str(server.socket) in str(error)
        assert "wrong-word" not in str(error)
    assert "MSNET_STREAM_REDIS_PASSWORD" in str(missing)
    assert "permission" in str(forbidden)


def test_replica_is_refused_at_connection(binary: str, folder: Path) -> None:
    """A read-only replica is named as such, with the remedy."""
    with running(binary, folder, "--replicaof", "127.0.0.1", "1") as server:
        error = refusal(server.server)
    assert isinstance(error, UnavailableError)
    assert "read-only replica" in str(error)


def test_key_of_another_type_is_refused_at_connection(binary: str, folder: Path) -> None:
    """Somebody else's msnet:picks is found at connection, not at the first pick."""
    with running(binary, folder) as server:
        with server.plain() as client:
            client.set("msnet:picks", "something else")
        assert "must hold a stream" in str(refusal(server.server))


def test_connect_waits_for_a_server_that_reads_its_data(binary: str, folder: Path) -> None:
    """A restarted server with much data refuses commands for a while: that is no error."""
    with running(binary, folder, "--rdbcompression", "no") as server, server.plain() as client:
        client.mset({f"key{number}": "x" * 2000 for number in range(200)})
        client.save()
    # 200 keys x 3 ms; the server looks at its clients after each kilobyte it has read.
    slow = "--key-load-delay 3000 --loading-process-events-interval-bytes 1024"
    with running(binary, folder, *slow.split()) as server:
        with server.plain() as client:
            assert client.info("persistence")["loading"] == 1
        result = with_stream(
            stream_on(server.server), lambda stream: published(stream, [make_pick(1)])
        )
    assert result == (1, 0)


def test_unreachable_server_names_url_and_remedy(folder: Path) -> None:
    """A refused connection and a missing socket say what to do, and exit code 69."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as unused:
        port = unused.server_address[1]
    for url in (f"redis://u:pw@127.0.0.1:{port}/0", f"unix://{folder}/none.sock"):
        error = refusal(parse_redis_url(url, environ={}))
        assert isinstance(error, UnavailableError)
        assert "cannot be reached" in str(error)
        assert "embedded:" in str(error)
        assert "pw" not in str(error)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the Redis protocol"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak the Redis protocol"),
        (b":not a number\r\n", "does not speak the Redis protocol"),
        (b"+\xff\xfe\r\n", "PING"),
        (b"+PONG\r\n", "does not speak the Redis protocol"),
        (b"", "cannot be reached"),
        (None, "does not answer"),
    ],
)
def test_peer_that_is_no_redis_is_one_clear_error(answer: bytes | None, reason: str) -> None:
    """Whatever another program on that port says or omits, the message names the address."""
    release = threading.Event()

    class Peer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while request := self.request.recv(1000):
                if answer is None:
                    release.wait(5)
                elif not answer:
                    return
                else:
                    self.request.sendall(answer * request.count(b"*"))  # one per command

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Peer) as peer:
        threading.Thread(target=peer.serve_forever, args=(0.01,)).start()
        port = peer.server_address[1]
        server = parse_redis_url(f"redis://127.0.0.1:{port}", environ={})
        error = refusal(server, reply_timeout_s=0.2)
        release.set()
        peer.shutdown()
    assert isinstance(error, UnavailableError)
    assert reason in str(error)
    assert f"127.0.0.1:{port}" in str(error)


def test_tls_server_with_and_without_its_authority(folder: Path, redis_server_binary: str) -> None:
    """rediss:// verifies the server: unknown authorities are refused with the option that helps."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH: install it to make the certificate of this test")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as unused:
        port = unused.server_address[1]
    tls = f"--tls-port {port} --tls-cert-file {certificate} --tls-key-file {key}"
    with running(redis_server_binary, folder, *f"{tls} --tls-auth-clients no".split()):
        url = f"rediss://localhost:{port}"
        known = parse_redis_url(f"{url}?ssl_ca_certs={certificate}", environ={})
        result = with_stream(stream_on(known), lambda stream: published(stream, [make_pick(1)]))
        unknown = refusal(parse_redis_url(url, environ={}))
        plain = refusal(parse_redis_url(f"redis://localhost:{port}", environ={}))
    assert result == (1, 0)
    assert "ssl_ca_certs" in str(unknown)
    assert isinstance(plain, UnavailableError)


def test_primary_is_found_through_its_sentinels(binary: str, folder: Path) -> None:
    """redis+sentinel:// asks the sentinels, skips a dead one, and writes to their primary."""
    ports = []
    for _ in range(3):
        with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as unused:
            ports.append(unused.server_address[1])
    primary_port, sentinel_port, dead_port = ports
    sentinel = folder / "sentinel"
    sentinel.mkdir()
    config = sentinel / "sentinel.conf"
    config.write_text(f"sentinel monitor quakes 127.0.0.1 {primary_port} 1\n")
    with (
        running(binary, folder, "--port", str(primary_port)) as primary,
        running(binary, sentinel, "--sentinel", "--port", str(sentinel_port), config=config),
    ):
        hosts = f"127.0.0.1:{dead_port},127.0.0.1:{sentinel_port}"
        found = parse_redis_url(f"redis+sentinel://{hosts}/quakes", environ={})
        result = with_stream(stream_on(found), lambda stream: published(stream, [make_pick(1)]))
        unknown = refusal(parse_redis_url(f"redis+sentinel://{hosts}/other", environ={}))
        assert len(primary.entries()) == 1
    assert result == (1, 0)
    assert "No master found for 'other'" in str(unknown)


def test_consumer_group_needs_nothing_of_ours(binary: str, folder: Path) -> None:
    """A consumer group of plain redis-py reads each pick once and acknowledges it."""
    with running(binary, folder) as server:
        with_stream(
            stream_on(server.server),
            lambda stream: published(stream, [make_pick(number) for number in range(3)]),
        )
        with server.plain() as client:
            client.xgroup_create("msnet:picks", "associator", id="0")
            for name in ("a", "b"):
                reply = client.xreadgroup("associator", name, {"msnet:picks": ">"}, count=10)
                for entry_id, _ in reply[0][1] if reply else []:
                    client.xack("msnet:picks", "associator", entry_id)
            (group,) = client.xinfo_groups("msnet:picks")
    assert (group["pending"], group["entries-read"]) == (0, 3)
