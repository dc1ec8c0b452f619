"""`msnet-stream bench` in small: its load against the real client, a level with the real daemon."""

import asyncio
import time

import pytest

from streamer.bench.level import Plan, run_level
from streamer.bench.network import save_loops
from streamer.bench.processes import Part
from streamer.bench.run import recordings
from streamer.errors import UnavailableError
from streamer.seedlink.client import FeedConfig, Packet, SeedLinkFeed
from streamer.stationspec import parse_station_spec
from streamer.timebase import NS_PER_S
from streamer.waveforms.records import decode

TIMEOUT_S = 60.0
LOAD = "streamer.bench.server"


async def received(address: str, packets: int) -> list[tuple[float, Packet]]:
    """The first packets that our client gets from a server, each with when it came."""
    host, _, port = address.partition(":")
    got: list[tuple[float, Packet]] = []
    complete = asyncio.Event()

    async def deliver(packet: Packet) -> None:
        got.append((time.time(), packet))
        if len(got) == packets:
            complete.set()

    spec = parse_station_spec(["XX.*"])
    config = FeedConfig(servers=[(host, int(port))], spec=spec, protocol="3")
    feed = SeedLinkFeed(config, deliver, lambda channels: None, time.time_ns)
    running = asyncio.create_task(feed.run())
    async with asyncio.timeout(TIMEOUT_S):
        await complete.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return got


@pytest.fixture(scope="module")
def loops():
    """Those of the demo."""
    return recordings([])


@pytest.fixture
def loops_path(loops, tmp_path):
    """A file of them."""
    save_loops(loops, tmp_path / "loops.npz")
    return str(tmp_path / "loops.npz")


def test_a_client_gets_every_second_of_every_station_right_after_it_was_recorded(
    loops_path, tmp_path
):
    with Part(LOAD, [loops_path, "--stations", "3", "--seconds", "2"], tmp_path) as load:
        address = load.wait_for(lambda line: "address" in line, TIMEOUT_S)["address"]
        got = asyncio.run(received(address, packets=18))
        last = load.wait_for(lambda line: line.get("seconds") == 2, TIMEOUT_S)
    assert (last["packets"], last["station_s"]) == (18, 6.0)
    assert {decode(packet.data).nslc.station for _, packet in got} == {"S0000", "S0001", "S0002"}
    for came_s, packet in got:
        assert came_s >= decode(packet.data).end_ns / NS_PER_S


def test_in_a_burst_all_stations_come_within_milliseconds(loops_path, tmp_path):
    options = ["--stations", "40", "--seconds", "1", "--burst"]
    with Part(LOAD, [loops_path, *options], tmp_path) as load:
        address = load.wait_for(lambda line: "address" in line, TIMEOUT_S)["address"]
        got = asyncio.run(received(address, packets=120))
        load.wait_for(lambda line: line.get("seconds") == 1, TIMEOUT_S)
    times_s = [came_s for came_s, _ in got]
    assert times_s[-1] - times_s[0] < 0.5  # 20 ms, on a machine that may be busy


def test_a_part_that_ends_by_itself_is_told_with_its_log(tmp_path):
    options = [str(tmp_path / "none.npz"), "--stations", "1", "--seconds", "1"]
    with (
        Part(LOAD, options, tmp_path) as load,
        pytest.raises(UnavailableError, match=r"server ended with code 1: see .*server\.log"),
    ):
        load.wait_for(lambda line: "address" in line, TIMEOUT_S)


def test_a_level_takes_every_block_through_the_daemon_and_says_what_it_cost(loops):
    told = []
    plan = Plan(loops=loops, warm_s=2, seconds=5, limit_ms=10_000)  # of a machine that may be busy
    level = run_level(plan, 4, lambda what, done: told.append((what, done)))
    assert level.blocks_sent == level.blocks_inferred == 4 * 7
    assert level.problem(plan.limit_ms) == ""
    assert {"decode", "rings", "steps", "inference", "picks"} <= level.stages_ms.keys()
    assert min(level.stages_ms.values()) > 0
    assert 0 < level.processing_ms["p50"] <= level.processing_ms["p95"]
    assert level.peak_rss_mb > 50
    assert told[0] == ("starting", 0)
    assert told[-1] == ("measuring", 7)
