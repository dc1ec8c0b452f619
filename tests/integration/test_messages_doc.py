"""docs/messages.md and docs/reference_consumer.py are run as they stand, on a real server."""

import json
import re
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from bus_picks import make_pick
from bus_servers import running

from streamer.picks import latest

DOCS = Path(__file__).parents[2] / "docs"
CONSUMER = DOCS / "reference_consumer.py"
PICKS = [make_pick(number) for number in range(5)]
LATER = [
    make_pick(1, rev=1),
    replace(make_pick(2, rev=1), status="retract"),
    replace(make_pick(6), sta="USC", phase="S"),
]


def commands():
    text = (DOCS / "messages.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def publish(server, picks):
    with server.plain() as client:
        for pick in picks:
            client.xadd("msnet:picks", pick.to_fields())


@pytest.fixture
def server(redis_server_binary, tmp_path):
    with running(redis_server_binary, tmp_path) as process:
        yield process


def shell(server, line):
    result = subprocess.run(
        ["bash", "-c", line.replace("redis-cli", f"redis-cli -s {server.socket}")],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "ERR" not in result.stdout, result.stdout
    return result.stdout


def test_every_command_of_the_document_does_what_it_is_said_to_do(server):
    publish(server, [*PICKS, LATER[2]])
    with server.plain() as client:
        client.xadd("msnet:events", {"v": "1", "id": "ms1"})
    answers = {}
    for line in commands():
        if "BLOCK 0" in line:
            stop = threading.Event()
            thread = threading.Thread(target=publish_until, args=(server, stop))
            thread.start()
        answers[line.removeprefix("redis-cli ").split(" | ")[0]] = shell(server, line)
        if "BLOCK 0" in line:
            stop.set()
            thread.join()
    assert len(answers) == 9
    newest, event, awaited, count, recent, by_station, created, delivered, groups = answers.values()
    assert "\nUSC\n" in newest
    assert "ms1" in event
    assert PICKS[0].id in awaited
    assert int(count) >= 7
    assert recent.count("\nsta\n") >= 7
    assert by_station.split()[1] == "PASC"
    assert by_station.split()[2:] == ["1", "USC"]
    assert created.strip() == "OK"
    assert delivered.count("\nsta\n") >= 7
    assert "mine" in groups


def publish_until(server, stop):
    while not stop.wait(0.05):
        publish(server, PICKS[:1])


def consume(server, folder, *arguments):
    return subprocess.run(
        [sys.executable, "-I", CONSUMER, folder / "picks.sqlite", "--unix", server.socket,
         *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


def stored(folder, table="picks"):
    with sqlite3.connect(folder / "picks.sqlite") as store:
        rows = store.execute(f"select id, rev, message from {table} order by t_ns, id, rev")
        found = rows.fetchall()
    store.close()
    return found


def test_the_reference_consumer_has_every_message_once_however_often_it_comes(server, tmp_path):
    publish(server, PICKS)
    assert len(consume(server, tmp_path, "--once").splitlines()) == 5
    assert consume(server, tmp_path, "--once") == ""
    publish(server, [*PICKS[2:], *LATER])  # sent again, and then what is new
    assert len(consume(server, tmp_path, "--once").splitlines()) == 3
    assert len(stored(tmp_path)) == 8
    standing = stored(tmp_path, "standing")
    assert [(name, rev) for name, rev, _ in standing] == [
        (pick.id, pick.rev) for pick in latest([*PICKS, *LATER])
    ]
    assert json.loads(standing[0][2]) == PICKS[0].to_fields()


def test_the_reference_consumer_goes_on_after_the_server_was_away(server, tmp_path):
    command = [sys.executable, "-I", CONSUMER, tmp_path / "picks.sqlite", "--unix", server.socket]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as consumer:
        try:
            publish(server, PICKS[:2])
            assert consumer.stdout.readline().startswith("new ")
            assert consumer.stdout.readline().startswith("new ")
            server.kill()
            server.start()
            publish(server, PICKS[2:])
            lines = [consumer.stdout.readline() for _ in range(3)]
            assert all(line.startswith("new ") for line in lines)
        finally:
            consumer.kill()
    assert len(stored(tmp_path)) == 5


def test_the_reference_consumer_refuses_a_version_it_does_not_know(server, tmp_path):
    with server.plain() as client:
        client.xadd("msnet:picks", PICKS[0].to_fields() | {"v": "2"})
    with pytest.raises(subprocess.CalledProcessError) as failure:
        consume(server, tmp_path, "--once")
    assert "message version 2" in failure.value.stderr
