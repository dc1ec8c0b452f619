"""msnet-stream streams on real servers: groups, trimming, dead letters."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_picks import make_pick
from bus_servers import ServerProcess, running, stream_on
from click.testing import CliRunner, Result

from streamer.cli import main


@pytest.fixture
def server(folder: Path, redis_server_binary: str) -> Iterator[ServerProcess]:
    with running(redis_server_binary, folder) as process:
        yield process


def streams(server: ServerProcess, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["streams", *arguments, "--redis", f"unix://{server.socket}"])


def publish(server: ServerProcess, count: int) -> None:
    async def session() -> None:
        stream = stream_on(server.server)
        await stream.publish([make_pick(number) for number in range(count)])
        await stream.close()

    asyncio.run(session())


def bury(server: ServerProcess, number: int) -> str:
    letter = {
        "reason": "no such phase", "stream": "msnet:picks", "entry": "1-1", "group": "assoc",
        "deliveries": "6", "fields": json.dumps(make_pick(number).to_fields()),
    }  # fmt: skip
    with server.plain() as client:
        return str(client.xadd("msnet:dead", letter))


def test_init_makes_groups_once_from_the_first_pick_on(server: ServerProcess) -> None:
    """Also before there is any pick; a second call changes nothing."""
    assert streams(server, "init").output == "group assoc: made\n"
    publish(server, 3)
    second = streams(server, "init", "--group", "assoc", "--group", "mine")
    assert second.output == "group assoc: is there already\ngroup mine: made\n"
    with server.plain() as client:
        for group in ("assoc", "mine"):
            ((_, entries),) = client.xreadgroup(group, "me", {"msnet:picks": ">"})
            assert len(entries) == 3


def test_trim_removes_exactly_what_it_says(server: ServerProcess) -> None:
    """By number and by time of publication; a dry run removes nothing."""
    publish(server, 10)
    assert streams(server, "trim", "--keep", "8", "--dry-run").output == (
        "msnet:picks: 2 entries would be removed\n"
    )
    assert len(server.entries()) == 10
    assert streams(server, "trim", "--keep", "8").output == "msnet:picks: 2 entries removed\n"
    assert streams(server, "trim", "--before", "1h").output == "msnet:picks: 0 entries removed\n"
    assert [fields["id"] for _, fields in server.entries()] == [
        make_pick(number).id for number in range(2, 10)
    ]
    told = streams(server, "trim", "--before", "0s", "--dry-run").output
    assert told == "msnet:picks: 8 entries would be removed\n"
    assert streams(server, "trim", "--before", "0s").output == "msnet:picks: 8 entries removed\n"
    assert server.entries() == []


def test_trim_needs_one_rule(server: ServerProcess) -> None:
    """Neither none nor two: nothing is removed by mistake."""
    assert streams(server, "trim").exit_code == 2
    assert streams(server, "trim", "--keep", "1", "--before", "1h").exit_code == 2
    assert streams(server, "trim", "--before", "now").exit_code == 2


def test_dead_letters_are_listed_and_put_back(server: ServerProcess) -> None:
    """What a worker could not use goes to its stream again as it was, and leaves the dead."""
    first, second = bury(server, 1), bury(server, 2)
    listed = streams(server, "dead").output
    assert listed == "".join(
        f"{entry}  no such phase  {make_pick(number).id}\n"
        for number, entry in ((1, first), (2, second))
    )
    assert streams(server, "dead", "--requeue", "7-7").exit_code == 66
    lines = streams(server, "dead", "--requeue", second, "--json").output.splitlines()
    told = [json.loads(line)["requeued"] for line in lines]
    assert told == [None, server.entries()[0][0]]
    assert [fields for _, fields in server.entries()] == [make_pick(2).to_fields()]
    streams(server, "dead", "--requeue", "all")
    assert streams(server, "dead").output == ""
    assert len(server.entries()) == 2
