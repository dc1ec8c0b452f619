"""The association worker as a process beside a real Redis: kills, bad messages, outages."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bus_servers import ServerProcess, running

from streamer.association.message import Event, latest_events
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.parameters import AssociationConfig, RelocationParameters
from streamer.association.relocate import DoubleDifference
from streamer.errors import StolenError

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from assoc_replay import anonymous, delayed, message
from assoc_synthetic import CRUST, sequence, square_network

STATIONS = square_network()
NETWORK = Network.build(STATIONS, CRUST)
WAIT_S = 100.0


@pytest.fixture(scope="module")
def rows():
    """Events some ten seconds apart for three minutes, and noise."""
    return sequence(
        STATIONS, 31, events=14, first_s=15, every_s=11, scatter_s=6, reach_km=14,
        noise_s=180.0, per_second=2.0,
    )  # fmt: skip


class Peers:
    """A Redis server, a configuration, and workers on them."""

    def __init__(self, redis: ServerProcess, folder: Path) -> None:
        self.redis = redis
        self.folder = folder
        self.stations = folder / "stations.csv"
        self.write_stations(STATIONS)
        self.model = folder / "model.csv"
        layers = zip(CRUST.top_km, CRUST.vp_km_s, CRUST.vs_km_s, strict=True)
        text = "".join(f"{top},{vp},{vs}\n" for top, vp, vs in layers)
        self.model.write_text("top_km,vp_km_s,vs_km_s\n" + text)
        self.arguments = [
            "--stations", str(self.stations), "--velocity-model", str(self.model),
            "--redis", f"unix://{redis.socket}",
        ]  # fmt: skip
        self.logs = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def write_stations(self, stations) -> None:
        lines = [f"{s.net},{s.sta},{s.lat!r},{s.lon!r},{s.elev_km}" for s in stations]
        self.stations.write_text("\n".join(["net,sta,lat,lon,elev_km", *lines]) + "\n")

    def start(self, state: str, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        self.logs += 1
        self.log = self.folder / f"log{self.logs}"
        command = [sys.executable, "-m", "streamer.cli", "associate", *self.arguments,
                   "--state-dir", str(self.folder / state), *more]  # fmt: skip
        environ = os.environ | {"MSNET_STREAM_ASSOCIATION__LATENESS_S": "2",
                                "MSNET_STREAM_ASSOCIATION__UNHEARD_LATENESS_S": "12",
                                **environment}  # fmt: skip
        with self.log.open("ab") as output:
            process = subprocess.Popen(command, stderr=output, stdout=output, env=environ)
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def send(self, picks) -> None:
        with self.redis.plain() as client, client.pipeline(transaction=False) as pipeline:
            for pick in picks:
                pipeline.xadd("msnet:picks", pick.to_fields())
            pipeline.execute()

    def beat(self, through_ns: int) -> None:
        """As a picker would that has picked all stations up to a time."""
        now_ns = time.time_ns()
        state = json.dumps({"through_ns": through_ns, "time_ns": now_ns, "instance": "test"})
        with self.redis.plain() as client:
            client.hset("msnet:stations", mapping={f"{s.net}.{s.sta}..HH": state for s in STATIONS})

    def settle(self, rows) -> None:
        """Have all events settled, and wait for it."""
        self.beat(end_of(rows))
        self.wait_for(self.all_settled)

    def reload(self, process: subprocess.Popen[bytes]) -> None:
        """Have the configuration read again, for the first time, and wait for it."""
        process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: '"reloaded"' in self.log.read_text())

    def events(self) -> list[Event]:
        with self.redis.plain() as client:
            return [Event.from_fields(fields) for _, fields in client.xrange("msnet:events")]

    def wait_for(self, condition) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline_s, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def all_read(self) -> bool:
        """Nothing unread or unacknowledged."""
        with self.redis.plain() as client:
            if not client.exists("msnet:picks"):
                return False
            newest = client.xinfo_stream("msnet:picks")["last-generated-id"]
            groups = client.xinfo_groups("msnet:picks")
        return [(g["pending"], g["last-delivered-id"]) for g in groups] == [(0, newest)]

    def all_settled(self) -> bool:
        """All is read, and every event has its last word."""
        last = {event.id: event.status for event in self.events()}
        return (
            bool(last) and self.all_read() and not {"preliminary", "updated"} & set(last.values())
        )


@contextmanager
def peers_in(binary: str, folder: Path, *options: str):
    with running(binary, folder, *options) as redis:
        peers = Peers(redis, folder)
        try:
            yield peers
        finally:
            peers.end()


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=30)


def end_of(rows) -> int:
    return max(row.t_ns for row in rows) + 600 * 10**9


def test_a_worker_killed_at_random_instants_publishes_the_same_versions_none_twice(
    redis_server_binary, folder, rows
):
    picks = delayed(rows, np.random.default_rng(1))
    told = []
    for kills in (0, 8):
        with peers_in(redis_server_binary, folder) as peers:
            rng = random.Random(kills)
            process = peers.start(f"state{kills}")
            for start in range(0, len(picks), 60):
                peers.send(picks[start : start + 60])
                if kills and rng.random() < 0.6 and peers.logs <= kills:
                    time.sleep(rng.uniform(0, 1.5))
                    process.kill()
                    process.wait()
                    process = peers.start(f"state{kills}")
            peers.wait_for(peers.all_read)
            peers.beat(end_of(rows))
            peers.wait_for(peers.all_settled)
            assert stop(process) == 0
            assert kills == 0 or peers.logs > 4
            told.append(peers.events())
    undisturbed, killed = told
    assert len({event.name for event in killed}) == len(killed), "none twice"
    assert killed == undisturbed
    assert anonymous(latest_events(killed)) == anonymous(settled_events(NETWORK, rows))


def test_what_cannot_be_used_goes_to_the_dead_with_its_reason_and_the_rest_goes_on(
    redis_server_binary, folder, rows
):
    with peers_in(redis_server_binary, folder) as peers:
        good = delayed(rows, np.random.default_rng(4))
        with peers.redis.plain() as client:
            client.xadd("msnet:picks", {"v": "1", "id": "half"})
            client.xadd("msnet:picks", good[0].to_fields() | {"v": "7"})
            client.xadd("msnet:picks", good[1].to_fields() | {"t_ns": "soon"})
        stranger = message(rows[0], net="ZZ", sta="NEW", id="stranger")
        peers.send([*good, stranger])
        peers.beat(end_of(rows))
        process = peers.start("state")
        peers.wait_for(peers.all_settled)
        with peers.redis.plain() as client:
            dead = [fields for _, fields in client.xrange("msnet:dead")]
        assert [letter["group"] for letter in dead] == ["assoc"] * 3
        assert "missing" in dead[0]["reason"]
        assert "version '7'" in dead[1]["reason"]
        assert json.loads(dead[2]["fields"])["t_ns"] == "soon"
        assert stop(process) == 0
        with peers.redis.plain() as client:
            shares = client.hgetall("msnet:rsv")
        log = peers.log.read_text()
        assert '"station": "ZZ.NEW"' in log
        share = json.loads(shares["XX.S05.P"])
        assert 0.2 < share["share_1h"] <= 1
        assert share["picks_24h"] >= share["kept_24h"] > 5
        batch = settled_events(NETWORK, rows)
        assert anonymous(latest_events(peers.events())) == anonymous(batch)


def test_redis_may_go_away_and_come_back(redis_server_binary, folder, rows):
    with peers_in(redis_server_binary, folder, "--appendonly", "yes") as peers:
        process = peers.start("state")
        picks = delayed(rows, np.random.default_rng(2))
        peers.send(picks[:300])
        peers.wait_for(peers.events)
        peers.redis.kill()
        peers.wait_for(lambda: "redis_down" in peers.log.read_text())
        peers.redis.start()
        peers.send(picks[300:])
        peers.settle(rows)
        assert "redis_up" in peers.log.read_text()
        assert stop(process) == 0
        batch = settled_events(NETWORK, rows)
        assert anonymous(latest_events(peers.events())) == anonymous(batch)


def test_a_second_worker_stands_by_and_takes_over(redis_server_binary, folder, rows):
    with peers_in(redis_server_binary, folder) as peers:
        first = peers.start("state")
        picks = delayed(rows, np.random.default_rng(3))
        peers.send(picks[:200])
        peers.wait_for(peers.events)
        second = peers.start("state")
        peers.wait_for(lambda: "association_standby" in peers.log.read_text())
        assert stop(first) == 0
        peers.send(picks[200:])
        peers.settle(rows)
        assert stop(second) == 0
        batch = settled_events(NETWORK, rows)
        assert anonymous(latest_events(peers.events())) == anonymous(batch)
        names = [event.name for event in peers.events()]
        assert len(names) == len(set(names))


def test_a_reload_takes_up_new_stations_and_survives_a_wrong_file(
    redis_server_binary, folder, rows
):
    """SIGHUP: the events are those of the whole network, of picks before it, too."""
    with peers_in(redis_server_binary, folder) as peers:
        peers.write_stations(STATIONS[:-3])
        process = peers.start("state")
        picks = delayed(rows, np.random.default_rng(5))
        peers.send(picks[:300])
        peers.wait_for(peers.all_read)
        peers.write_stations(STATIONS)
        peers.reload(process)
        peers.model.write_text("top_km,vp_km_s,vs_km_s\n3,6,3.5\n")
        process.send_signal(signal.SIGHUP)
        peers.wait_for(lambda: '"reload_failed"' in peers.log.read_text())
        assert "begins 3 km below sea level" in peers.log.read_text()
        peers.send(picks[300:])
        peers.settle(rows)
        assert stop(process) == 0
        batch = settled_events(NETWORK, rows)
        assert anonymous(latest_events(peers.events())) == anonymous(batch)


def test_a_reload_takes_up_a_relocated_catalogue(redis_server_binary, folder, rows):
    """SIGHUP with that setting alone: events that are settled later have their place in it."""
    absolute = settled_events(NETWORK, rows)
    relocation = RelocationParameters(greatest_separation_km=40.0)
    catalogue = folder / "relocated.jsonl"
    moved = DoubleDifference(NETWORK, relocation).relocate_all(absolute)
    catalogue.write_text("".join(event.to_json() + "\n" for event in moved))
    config = folder / "config.yaml"
    config.write_text("association: {relocation: {greatest_separation_km: 40}}\n")
    with peers_in(redis_server_binary, folder) as peers:
        process = peers.start("state", "--config", str(config))
        picks = delayed(rows, np.random.default_rng(6))
        peers.send(picks[:300])
        peers.wait_for(peers.all_read)
        before = peers.events()
        config.write_text(
            "association: {relocation: "
            f"{{greatest_separation_km: 40, catalogue: {json.dumps(str(catalogue))}}}}}\n"
        )
        peers.reload(process)
        assert '"changed": ["association.relocation.catalogue"]' in peers.log.read_text()
        peers.send(picks[300:])
        peers.settle(rows)
        assert stop(process) == 0
        told = latest_events(peers.events())
    assert before
    assert all(event.relocation is None for event in before)
    relocation = relocation.model_copy(update={"catalogue": catalogue})
    rules = AssociationConfig(relocation=relocation)
    batch = settled_events(NETWORK, rows, rules)
    assert [event.relocation for event in told][-3:] == [event.relocation for event in batch][-3:]
    assert None not in [event.relocation for event in told][-3:]
    alone = [replace(event, relocation=None) for event in told]
    assert anonymous(alone) == anonymous(absolute)


def test_a_worker_without_redis_tells_systemd_that_it_is_alive_and_reloads(
    redis_server_binary, folder
):
    """A worker that stands by, or waits for Redis, is not one that hangs."""
    with (
        peers_in(redis_server_binary, folder) as peers,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        peers.redis.kill()
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(WAIT_S)
        process = peers.start("state", NOTIFY_SOCKET=str(folder / "notify"), WATCHDOG_USEC="300000")
        assert systemd.recv(100) == b"READY=1"
        assert [systemd.recv(100) for _ in range(4)] == [b"WATCHDOG=1"] * 4
        assert "redis_down" in peers.log.read_text()
        peers.reload(process)
        assert stop(process) == 0


def test_a_worker_that_was_overtaken_ends_with_its_own_exit_code(redis_server_binary, folder):
    """It stood still until its lease was another's; systemd then starts it as the standby."""
    with peers_in(redis_server_binary, folder) as peers, peers.redis.plain() as client:
        process = peers.start("state")
        peers.wait_for(lambda: client.keys("msnet:own:*"))
        (lease,) = client.keys("msnet:own:*")
        process.send_signal(signal.SIGSTOP)
        client.set(lease, "another", ex=600)
        process.send_signal(signal.SIGCONT)
        peers.wait_for(lambda: process.poll() is not None)
        assert process.returncode == StolenError.exit_code == 75
        assert "association_lease_lost" in peers.log.read_text()
        assert client.get(lease) == "another"


def test_a_velocity_model_that_does_not_reach_the_stations_is_refused(redis_server_binary, folder):
    with peers_in(redis_server_binary, folder) as peers:
        peers.model.write_text("top_km,vp_km_s,vs_km_s\n3,6,3.5\n")
        process = peers.start("state")
        assert process.wait(timeout=60) == 78
        assert "begins 3 km below sea level" in peers.log.read_text()


def test_the_worker_needs_neither_torch_nor_the_wings_of_the_daemon():
    code = (
        "import sys, streamer.association.worker;"
        "print([n for n in ('torch', 'streamer.seedlink', 'streamer.waveforms',"
        " 'streamer.picking', 'model', 'obspy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
