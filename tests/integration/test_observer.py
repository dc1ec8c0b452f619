"""What can be asked of a daemon that runs: metrics, health, waveforms with probabilities."""

import asyncio
import base64
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bus_servers import running
from daemon_parts import Daemon, picks_of, replaying, write_archive
from prometheus_client.parser import text_string_to_metric_families

from streamer.bus.asks import Ask, ask
from streamer.bus.connect import open_client, open_connection
from streamer.bus.heartbeat import read_stations
from streamer.bus.redis_url import parse_redis_url
from streamer.metrics import SERIES
from streamer.seedid import Instrument

# Shortly before the second event of the recordings; the rings hold the two minutes up to their end.
LAST_EVENT_NS = 1_274_977_650_000_000_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, redis_server_binary: str
) -> Iterator[tuple[Daemon, str, str]]:
    """A daemon that has picked the demo recordings, its Redis, and where it can be asked."""
    folder = tmp_path_factory.mktemp("observer")
    archive = write_archive(folder / "archive", {})
    url = f"unix://{folder / 'r.sock'}"
    listen = f"127.0.0.1:{free_port()}"
    with (
        running(redis_server_binary, folder),
        replaying(archive, "--speed", "max") as server,
        Daemon(
            folder,
            "--server",
            server,
            "--stations",
            "*",
            "--redis",
            url,
            "--state-dir",
            folder / "state",
            MSNET_STREAM_METRICS__LISTEN=listen,
        ) as daemon,
    ):
        daemon.wait_for(lambda: any(p.t_ns > LAST_EVENT_NS and p.final for p in picks_of(url)))
        yield daemon, url, f"http://{listen}"


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_every_declared_series_is_exported_and_no_other(
    daemon: tuple[Daemon, str, str],
) -> None:
    families = list(text_string_to_metric_families(get(f"{daemon[2]}/metrics")))
    exported = {family.name + "_total" * (family.type == "counter") for family in families}
    assert exported == {series.name for series in SERIES}
    values = {f.name: sum(s.value for s in f.samples) for f in families if f.type != "histogram"}
    assert values["msnet_seedlink_connected"] == 1
    assert values["msnet_station_samples"] > 10_000
    assert values["msnet_station_picks"] >= 8


def test_a_feed_of_old_data_is_alive_but_not_ready(daemon: tuple[Daemon, str, str]) -> None:
    """The recordings are years old: nothing that flows now."""
    assert json.loads(get(f"{daemon[2]}/healthz")) == {"alive": True}
    with pytest.raises(urllib.error.HTTPError, match="503") as refusal:
        get(f"{daemon[2]}/readyz")
    with refusal.value:
        assert "no station has data younger" in json.loads(refusal.value.read())["reason"]


def test_signs_of_life_say_how_far_the_picks_are_complete(
    daemon: tuple[Daemon, str, str],
) -> None:
    """Every instrument is there; behind the time that is told, all picks are on the stream."""
    with open_client(parse_redis_url(daemon[1], environ={})) as client:

        def told() -> dict[str, dict[str, Any]]:
            return read_stations(client.hgetall("msnet:stations"))

        daemon[0].wait_for(lambda: [s["samples"] > 11_000 for s in told().values()] == [True] * 4)
        stations = told()
        newest = client.xrevrange("msnet:health", count=1)[0][1]
        assert client.exists(f"msnet:instance:{newest['instance']}")
    assert set(stations) == {"BW.UH1..SH", "BW.UH2..SH", "BW.UH3..SH", "BW.UH4..EH"}
    assert newest["connected"] == "1"
    daemon[0].wait_for(lambda: len(picks_of(daemon[1])) >= 12)
    for pick in picks_of(daemon[1]):
        station = stations[f"{pick.net}.{pick.sta}.{pick.loc}.{pick.cha[:-1]}"]
        assert pick.final or pick.t_ns >= station["through_ns"]


def test_viewers_get_the_waveforms_around_a_pick(daemon: tuple[Daemon, str, str]) -> None:
    """The samples as they were recorded, 100 to the second; nobody answers for other stations."""
    pick = max(picks_of(daemon[1]), key=lambda p: p.t_ns)
    instrument = Instrument(pick.net, pick.sta, pick.loc, pick.cha[:-1])
    second = 1_000_000_000

    async def questions() -> tuple[dict[str, object] | None, dict[str, object] | None]:
        connection = open_connection(parse_redis_url(daemon[1], environ={}))
        wanted = Ask("a1", instrument, pick.t_ns - 2 * second, pick.t_ns + 2 * second)
        unknown = Ask("a2", Instrument("XX", "NONE", "", "HH"), 0, second)
        try:
            return (
                await ask(connection, "msnet", wanted, timeout_s=10),
                await ask(connection, "msnet", unknown, timeout_s=1),
            )
        finally:
            await connection.close()

    began_s = time.monotonic()
    found, nothing = asyncio.run(questions())
    assert nothing is None, time.monotonic() - began_s
    assert found is not None
    assert found["instrument"] == str(instrument)
    components = found["components"]
    assert isinstance(components, dict)
    trace = components[pick.cha]
    samples = np.frombuffer(base64.b64decode(trace["samples"]), "<f4")
    assert len(samples) == round(4 * trace["rate_hz"])
    assert np.isfinite(samples).all()
    assert np.ptp(samples) > 0
