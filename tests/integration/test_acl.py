"""deploy/redis/msnet.acl on real servers: each role does its work, and nothing else."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from bus_picks import NOW_NS, make_pick
from bus_servers import ServerProcess, running, stream_on
from structlog.testing import capture_logs

from streamer.bus.asks import Ask, answer_asks, ask
from streamer.bus.broker import render_users
from streamer.bus.connect import open_connection
from streamer.bus.consumer import PickConsumer
from streamer.bus.heartbeat import HeartbeatKeys
from streamer.bus.reading import read_entries
from streamer.bus.redis_streams import PickStream
from streamer.bus.redis_url import RedisServer, parse_redis_url
from streamer.bus.survey import survey
from streamer.seedid import Instrument

ACL_FILE = Path(__file__).parents[2] / "deploy" / "redis" / "msnet.acl"
GUIDE = Path(__file__).parents[2] / "docs" / "security.md"

NOBODY_BUT_DEFAULT = (
    "DEL msnet:picks", "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "CONFIG SET maxmemory 1",
    "ACL LIST", "SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "MODULE LIST", "SAVE",
    "SET other 1", "GET other", "XADD other * a 1", "XRANGE other - +", "XDEL msnet:picks 1-1",
    "XGROUP DESTROY msnet:picks associator", "SUBSCRIBE msnet:picks", "CLIENT LIST", "MONITOR",
    "EVAL return 0", "SCRIPT FLUSH", "RENAME msnet:picks other", "EXPIRE msnet:picks 1",
)  # fmt: skip
REFUSED = {
    "picker": (
        "XADD msnet:events * a 1", "XADD msnet:dead * a 1", "XTRIM msnet:events MAXLEN 0",
        "XGROUP CREATE msnet:picks g 0", "XREADGROUP GROUP associator c STREAMS msnet:picks >",
        "XACK msnet:picks associator 1-1", "SET msnet:picks x", "XRANGE msnet:events - +",
        "XADD msnet:asks * a 1", "SET msnet:health x", "GET msnet:answer:x", "HSET msnet:other a 1",
        "GET msnet:picks",
    ),
    "associator": (
        "XADD msnet:picks * a 1", "XTRIM msnet:picks MAXLEN 0", "XGROUP CREATE msnet:events g 0",
        "SET msnet:picks x", "SET msnet:events x", "HSET msnet:stations a 1",
    ),
    "viewer": (
        "XADD msnet:picks * a 1", "XADD msnet:events * a 1", "XTRIM msnet:picks MAXLEN 0",
        "XREADGROUP GROUP associator c STREAMS msnet:picks >", "XACK msnet:picks associator 1-1",
        "XGROUP CREATE msnet:picks g 0", "SET msnet:dd:x 1", "EVALSHA 0 0", "GET other",
        "XADD msnet:health * a 1", "SET msnet:answer:x 1", "HSET msnet:stations a 1",
    ),
}  # fmt: skip


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A folder with users.acl and the passwords, made as docs/security.md tells."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "deploy").symlink_to(ACL_FILE.parents[1])
    subprocess.run(["sh", "-e", "-c", block], cwd=tmp_path, check=True)
    assert {each.stat().st_mode & 0o777 for each in tmp_path.glob("*.*")} == {0o600}
    return tmp_path


@pytest.fixture
def server(binary: str, folder: Path, users: Path) -> Iterator[ServerProcess]:
    """A server of our own users; its folder has their passwords."""
    for file in users.glob("*.password"):
        shutil.copy(file, folder)
    with running(binary, folder, "--aclfile", str(users / "users.acl")) as process:
        yield process


def secret(server: ServerProcess, role: str) -> str:
    return (server.socket.parent / f"{role}.password").read_text().strip()


def login(server: ServerProcess, role: str) -> RedisServer:
    password_file = server.socket.parent / f"{role}.password"
    return parse_redis_url(f"unix://{role}@{server.socket}", password_file=password_file)


def publish(server: ServerProcess, count: int) -> list[Any]:
    """What a picker does: check, publish, repeat, look for what was lost; returns the log."""

    async def session() -> None:
        stream = stream_on(login(server, "picker"), max_entries=50)
        await stream.connect()
        picks = [make_pick(number) for number in range(count)]
        assert (await stream.publish(picks)).duplicates == 0
        assert (await stream.publish(picks)).duplicates == count
        await stream.close()

    with capture_logs() as logs:
        asyncio.run(session())
    return logs


def answer(client: Any, command: str) -> str:
    try:
        return str(client.execute_command(*command.split()))
    except redis.exceptions.ResponseError as error:
        return type(error).__name__


def refusals(server: ServerProcess) -> list[Any]:
    """What the server has noted of commands that it refused."""
    with server.plain(username="default", password=secret(server, "default")) as client:
        return [(each["username"], each["object"]) for each in client.acl_log()]


def test_picker_publishes_without_any_refusal(server: ServerProcess) -> None:
    """Nothing is missing: no warning of ours, and the server has refused nothing."""
    logs = publish(server, 20)
    assert [entry["event"] for entry in logs] == ["redis_connected"]
    assert refusals(server) == []


def test_picker_gives_signs_of_life_and_answers_viewers(server: ServerProcess) -> None:
    """Heartbeats of two lives, and a question of the web page, by the code that does it."""
    question = Ask("q1", Instrument("CI", "PASC", "00", "HH"), NOW_NS, NOW_NS + 1)

    async def session() -> object:
        for stations in ({"CI.PASC.00.HH": '{"instance": "i"}'}, {}):
            keys = HeartbeatKeys(login(server, "picker"), "msnet", "i")
            await keys.beat({"time_ns": "1"}, stations)
            await keys.close()
        answering = asyncio.create_task(
            answer_asks(login(server, "picker"), "msnet", lambda ask: {"id": ask.id})
        )
        viewer = open_connection(login(server, "viewer"))
        answer = None
        while answer is None:  # a question that comes before the picker listens is lost
            answer = await ask(viewer, "msnet", question, timeout_s=0.2)
        assert await viewer.client.hgetall("msnet:stations") == {}
        assert await viewer.client.get("msnet:instance:i") == "1"
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        await viewer.close()
        return answer

    assert asyncio.run(session()) == {"id": "q1"}
    assert refusals(server) == []


def test_associator_reads_acknowledges_and_publishes_events(server: ServerProcess) -> None:
    """The commands of a consumer group on the picks, and the stream of events."""
    publish(server, 3)
    with server.plain(username="associator", password=secret(server, "associator")) as client:
        client.xgroup_create("msnet:picks", "associator", id="0")
        ((_, entries),) = client.xreadgroup("associator", "a", {"msnet:picks": ">"}, count=10)
        assert len(entries) == 3
        client.xautoclaim("msnet:picks", "associator", "b", 0)
        assert client.xpending("msnet:picks", "associator")["pending"] == 3
        with client.pipeline(transaction=True) as pipeline:
            pipeline.xadd("msnet:dead", {"id": "p"}, maxlen=10)
            pipeline.xack("msnet:picks", "associator", *[entry for entry, _ in entries])
            assert pipeline.execute()[1] == 3
        assert client.xinfo_groups("msnet:picks")[0]["pending"] == 0
        client.xadd("msnet:events", {"id": "e"}, minid="0")
        client.hset("msnet:rsv", "CI.PASC.P", "{}")
        client.hdel("msnet:rsv", "CI.PASC.P")
        client.hmget("msnet:stations", "CI.PASC")
        client.set("msnet:dd:e:1", "1", nx=True, ex=60)
    assert [each for each in refusals(server) if each[1] != "client|setinfo"] == []


def test_worker_of_the_association_is_refused_nothing(server: ServerProcess) -> None:
    """The consumer and the stream of events as the worker uses them."""
    publish(server, 4)

    async def session() -> None:
        worker = login(server, "associator")
        consumer = PickConsumer(worker, block_s=0.1)
        events = PickStream(worker, topic="events", clock=lambda: NOW_NS)
        await consumer.connect()
        await events.connect()
        assert await consumer.own("me", 5)
        first, *others = await consumer.read() or await consumer.read()
        await consumer.claim()
        await consumer.bury(first, "a reason")
        await consumer.acknowledge([each.entry for each in others])
        assert len((await events.publish([make_pick(1)])).entries) == 1
        await consumer.stations()
        await consumer.put_shares({"CI.PASC.P": "{}"}, ["CI.OLD.P"])
        await consumer.release("me")
        await consumer.close()
        await events.close()

    with capture_logs() as logs:
        asyncio.run(session())
    assert {entry["event"] for entry in logs} <= {"redis_connected"}
    assert refusals(server) == []


def test_viewer_reads_without_any_refusal(server: ServerProcess) -> None:
    """What `picks tail` and a reader of one's own need."""
    publish(server, 3)
    assert len(list(read_entries(login(server, "viewer"), "msnet:picks"))) == 3
    assert refusals(server) == []
    with server.plain(username="viewer", password=secret(server, "viewer")) as client:
        assert client.xlen("msnet:picks") == 3
        assert client.xinfo_stream("msnet:picks")["length"] == 3
        assert client.info("server")
        assert survey(client, "msnet").lengths["picks"] == 3


@pytest.mark.parametrize("role", REFUSED)
def test_role_is_refused_what_it_must_not_do(server: ServerProcess, role: str) -> None:
    """A stolen password of one role harms no more than the role needs."""
    publish(server, 1)
    with server.plain(username=role, password=secret(server, role)) as client:
        for command in (*NOBODY_BUT_DEFAULT, *REFUSED[role]):
            assert answer(client, command) == "NoPermissionError", f"{role}: {command}"


def test_nobody_enters_without_a_password(server: ServerProcess) -> None:
    """The default user has a password, and unknown ones are refused."""
    with server.plain() as client, pytest.raises(redis.exceptions.AuthenticationError):
        client.ping()
    with (
        server.plain(username="picker", password="wrong") as client,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        client.ping()


def test_file_is_refused_until_the_passwords_are_put_in(folder: Path, binary: str) -> None:
    """A server does not start with the file as it is shipped: no password is ever a known one."""
    with (
        pytest.raises(AssertionError, match="password hash must be exactly 64 characters"),
        running(binary, folder, "--aclfile", str(ACL_FILE)),
    ):
        pytest.fail("it started")


def test_viewer_of_the_embedded_broker_has_the_same_rules() -> None:
    """The two lists of what a viewer may do are one."""

    def rules(text: str) -> set[str]:
        (line,) = re.findall(r"^user viewer on \S+ (.*)$", text, re.MULTILINE)
        return set(line.split())

    assert rules(ACL_FILE.read_text()) == rules(render_users("msnet", "x"))
