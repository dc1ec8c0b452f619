"""Every way in which Redis can be away: picks wait, then arrive once, in order, as they were."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from bus_picks import make_pick
from bus_servers import ServerProcess, running
from outages import (
    PICKS,
    Disturbance,
    Time,
    assert_each_once_in_order,
    publishing,
    submit,
    through,
    until,
)

from streamer.bus import publisher as publisher_module
from streamer.bus.redis_url import parse_redis_url
from streamer.bus.spool import Spool
from streamer.config import Config, RedisConfig
from streamer.daemon import open_publisher
from streamer.errors import UnavailableError


def reasons(logs: list[Any]) -> str:
    return " ".join(entry["error"] for entry in logs if entry["event"] == "redis_down")


def test_picks_wait_while_the_server_is_paused(binary: str, folder: Path) -> None:
    """SIGSTOP: submitting and securing go on, nothing is lost or twice when the server goes on."""
    with running(binary, folder) as server:
        logs = through(
            server,
            lambda: server.signal(signal.SIGSTOP),
            lambda: server.signal(signal.SIGCONT),
        )
        assert_each_once_in_order(server, 3 * PICKS)
    assert "does not answer" in reasons(logs)


def test_server_restarted_empty_is_given_the_last_hour_again(binary: str, folder: Path) -> None:
    """A restart without a disk loses markers and entries: the new stream has each pick once."""

    with running(binary, folder) as server:
        logs = through(server, server.kill, server.start)
        assert_each_once_in_order(server, 3 * PICKS)
    assert [entry["count"] for entry in logs if entry["event"] == "picks_restored"] == [PICKS]


def test_server_restarted_from_a_snapshot_is_given_what_came_after_it(
    binary: str, folder: Path
) -> None:
    """Only the picks that the snapshot lacks are sent again."""

    async def session() -> int:
        async with publishing(server.server) as publisher:
            submit(publisher, 0, PICKS)
            await until(lambda: publisher.pending == 0)
            with server.plain() as client:
                client.save()
            submit(publisher, PICKS, PICKS)
            await until(lambda: publisher.pending == 0)
            server.kill()
            submit(publisher, 2 * PICKS, 1)
            await until(lambda: not publisher.is_up)
            server.start()
        return publisher.restored

    with running(binary, folder) as server:
        assert asyncio.run(session()) == PICKS
        assert_each_once_in_order(server, 2 * PICKS + 1)


def test_restart_that_nobody_noticed_is_found_while_no_picks_come(
    binary: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet network: the server is asked now and then whether it still has the last pick."""
    monkeypatch.setattr(publisher_module, "CHECK_S", 0.2)

    async def session() -> None:
        async with publishing(server.server) as publisher:
            submit(publisher, 0, 10)
            await until(lambda: publisher.pending == 0)
            server.kill()
            server.start()
            await until(lambda: publisher.restored == 10)

    with running(binary, folder) as server:
        asyncio.run(session())
        assert_each_once_in_order(server, 10)


def test_restart_that_nobody_noticed_is_found_with_the_next_pick(binary: str, folder: Path) -> None:
    """A new connection to an empty server: the pick that came first is there, the others follow."""

    async def session() -> None:
        async with publishing(server.server) as publisher:
            submit(publisher, 0, 10)
            await until(lambda: publisher.pending == 0)
            server.kill()
            server.start()
            submit(publisher, 10, 1)
            await until(lambda: publisher.restored == 10)

    with running(binary, folder) as server:
        asyncio.run(session())
        found = [fields["id"] for _, fields in server.entries()]
    assert sorted(found) == [make_pick(number).id for number in range(11)]


def test_daemon_that_was_away_too_restores_what_the_server_lost(binary: str, folder: Path) -> None:
    """Both restart: the spool remembers what was confirmed."""
    clock = Time()

    async def session(first: int) -> None:
        spool = Spool(folder / "spool.sqlite", 10, clock)
        async with publishing(server.server, spool) as publisher:
            submit(publisher, first, PICKS)

    with running(binary, folder) as server:
        asyncio.run(session(0))
        server.kill()
        server.start()
        asyncio.run(session(PICKS))
        assert_each_once_in_order(server, 2 * PICKS)


def test_trimmed_picks_are_not_sent_again(binary: str, folder: Path) -> None:
    """What the stream forgot on purpose is not taken for lost, or at most asked for once."""

    async def session() -> tuple[int, int]:
        async with publishing(server.server) as publisher:
            submit(publisher, 0, 10)
            await until(lambda: publisher.pending == 0)
            with server.plain() as client:
                client.xtrim("msnet:picks", maxlen=0, approximate=False)
            submit(publisher, 10, 1)
            await until(lambda: publisher.pending == 0 and publisher.published >= 21)
            submit(publisher, 11, 1)
        return publisher.published, publisher.restored

    with running(binary, folder) as server:
        assert asyncio.run(session()) == (10 + 1 + 10 + 1, 10)
        assert [fields["id"] for _, fields in server.entries()] == [
            make_pick(number).id for number in (10, 11)
        ]


def configured(server: ServerProcess, *settings: str) -> Disturbance:
    """Change settings of the running server, by a client of our own."""

    def change() -> None:
        with server.plain() as client:
            client.execute_command("CONFIG", "SET", *settings)

    return change


def test_picks_wait_while_the_server_is_out_of_memory(binary: str, folder: Path) -> None:
    """OOM: the server refuses, the picks wait, and arrive when there is room."""
    with running(binary, folder) as server:
        logs = through(
            server, configured(server, "maxmemory", "1"), configured(server, "maxmemory", "0")
        )
        assert_each_once_in_order(server, 3 * PICKS)
    assert "at its memory limit" in reasons(logs)


def test_picks_wait_while_the_disk_of_the_server_is_full(binary: str, folder: Path) -> None:
    """MISCONF: a server that cannot save refuses writes; the message says so."""
    blocked = folder / "dump.rdb"

    def saved() -> str:
        with server.plain() as client:
            client.bgsave()
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                time.sleep(0.01)
            return str(client.info("persistence")["rdb_last_bgsave_status"])

    def begin() -> None:
        (blocked / "in-the-way").mkdir(parents=True)
        configured(server, "save", "3600 1")()
        assert saved() == "err"

    def end() -> None:
        (blocked / "in-the-way").rmdir()
        blocked.rmdir()
        assert saved() == "ok"

    with running(binary, folder) as server:
        logs = through(server, begin, end)
        assert_each_once_in_order(server, 3 * PICKS)
    assert "cannot save its data" in reasons(logs)


def test_picks_wait_while_the_server_is_a_replica(binary: str, folder: Path) -> None:
    """READONLY: after a fail-over the old primary refuses writes until it is primary again."""

    def replica_of(*primary: str) -> Disturbance:
        def change() -> None:
            with server.plain() as client:
                client.execute_command("REPLICAOF", *primary)

        return change

    with running(binary, folder) as server:
        logs = through(server, replica_of("127.0.0.1", "1"), replica_of("NO", "ONE"))
        assert_each_once_in_order(server, 3 * PICKS)
    assert "read-only replica" in reasons(logs)


def test_picks_wait_while_permissions_are_missing(binary: str, folder: Path) -> None:
    """NOPERM: rules changed under a running daemon; the message names the remedy."""

    def rules(*words: str) -> Disturbance:
        def change() -> None:
            with server.plain() as client:
                client.execute_command("ACL", "SETUSER", "picker", *words)

        return change

    with running(binary, folder) as server:
        rules("on", ">secret", "~*", "+@all")()
        login = parse_redis_url(f"unix://picker:secret@{server.socket}", environ={})
        logs = through(server, rules("-@all", "+ping"), rules("+@all"), login)
        assert_each_once_in_order(server, 3 * PICKS)
    assert "refused permission" in reasons(logs)
    assert "secret" not in str(logs)


def test_new_password_is_read_from_its_file_by_the_running_daemon(
    binary: str, folder: Path
) -> None:
    """WRONGPASS: the password is changed on the server, later in the file; no restart is needed."""
    password = folder / "password"
    password.write_text("first-secret\n")

    def change() -> None:
        with server.plain(password="first-secret") as client:
            client.config_set("requirepass", "second-secret")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def tell() -> None:
        password.write_text("second-secret\n")

    with running(binary, folder) as server:
        configured(server, "requirepass", "first-secret")()
        login = parse_redis_url(f"unix://{server.socket}", password_file=password, environ={})
        logs = through(
            server, change, lambda: password.write_text("second-secret\n") and None, login
        )
        with server.plain(password="second-secret") as client:
            client.config_set("requirepass", "")
        assert_each_once_in_order(server, 3 * PICKS)
    assert "refused the login" in reasons(logs)
    assert "secret" not in str(logs)


def test_daemon_that_has_published_starts_without_redis(binary: str, folder: Path) -> None:
    """At the first start a wrong URL ends it at once; later ones pick, and publish in the end."""
    config = Config(
        state_dir=folder / "state", redis=RedisConfig(url=f"unix://{folder / 'r.sock'}")
    )

    async def session(first: int) -> int:
        async with open_publisher(config, Time()) as publisher:
            submit(publisher, first, PICKS)
            await publisher.secure()
            return await publisher.drain(3)

    with pytest.raises(UnavailableError, match="cannot be reached"):
        asyncio.run(session(0))
    with running(binary, folder) as server:
        assert asyncio.run(session(0)) == 0
        with server.plain() as client:
            client.save()
        server.kill()
        assert asyncio.run(session(PICKS)) == PICKS
        server.start()
        assert asyncio.run(session(2 * PICKS)) == 0
        found = [fields["id"] for _, fields in server.entries()]
    assert found == [make_pick(number).id for number in range(3 * PICKS)]
