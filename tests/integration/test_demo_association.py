"""The picks of a generated network on their way through Redis, as the demo sends them."""

import asyncio
import json

import pytest
from bus_servers import running

from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.pickfiles import from_message, read_picks
from streamer.association.stations import read_stations
from streamer.association.synthetic import Scenario, Synthetic
from streamer.association.velocity import read_velocity_model
from streamer.bus.reading import read_entries
from streamer.demo.association import Feed, run_association_demo, write_network
from streamer.errors import UnavailableError

SMALL = Scenario(stations=12, aperture_km=40.0, events=6, duration_s=120.0, noise_mm=2e-3, seed=2)


@pytest.fixture(scope="module")
def made():
    return Synthetic.make(SMALL)


@pytest.fixture
def server(redis_server_binary, tmp_path):
    with running(redis_server_binary, tmp_path) as process:
        yield process


async def until(is_so):
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_the_feed_publishes_all_picks_in_order_and_never_says_more_than_it_has_sent(server, made):
    feed = Feed(server.server, made, speed=400.0)

    async def run():
        await feed.connect()
        feeding = asyncio.create_task(feed.run())
        await until(lambda: feed.published)
        before = feed.published
        await asyncio.sleep(0.6)
        assert feed.published == before, "it waits for the first event"
        feed.events = [_event("preliminary")]
        await until(lambda: feed.published == len(made.picks))
        assert not feeding.done()
        feed.events = [_event("final")]
        await feeding
        await feed.close()

    asyncio.run(run())
    picks = list(read_entries(server.server, "msnet:picks"))
    assert [fields["id"] for _, fields in picks] == [pick.id for pick in made.picks]
    sent_ms = {fields["id"]: int(entry.split("-")[0]) for entry, fields in picks}
    for entry, fields in read_entries(server.server, "msnet:health"):
        at_ms, through_ns = int(entry.split("-")[0]), int(fields["through_ns"])
        late = [p.id for p in made.picks if p.t_ns < through_ns and sent_ms[p.id] > at_ms]
        assert not late
    with server.plain() as client:
        stations = client.hgetall("msnet:stations")
    assert set(stations) == {pick.nslc[:-1] for pick in made.picks}
    assert {"instance", "time_ns", "through_ns"} <= set(json.loads(stations["SY.N000..HH"]))


def _event(status):
    return Event(
        id="ms1", version=1, status=status, profile="best", time="", t_ns=0, lat=0.0, lon=0.0,
        depth_km=0.0, time_error_s=0.0, lat_error_km=0.0, lon_error_km=0.0, depth_error_km=0.0,
        major_error_km=0.0, minor_error_km=0.0, major_azimuth_deg=0.0, gap_deg=0.0, nearest_km=0.0,
        rms_s=0.0, n_p=0, n_s=0, n_both=0, arrivals=(),
    )  # fmt: skip


def test_a_worker_that_says_nothing_is_not_waited_for_forever(server, made, monkeypatch):
    monkeypatch.setattr("streamer.demo.association.WARM_UP_S", 0.5)
    monkeypatch.setattr("streamer.demo.association.SETTLE_S", 0.5)
    feed = Feed(server.server, made, speed=4000.0)

    async def run():
        await feed.connect()
        try:
            await feed.run()
        finally:
            await feed.close()

    with pytest.raises(UnavailableError, match="not settled"):
        asyncio.run(run())


def test_the_files_of_the_demo_are_those_the_command_reads(made, tmp_path):
    write_network(made, tmp_path)
    stations = read_stations(tmp_path / "stations.csv")
    assert stations == list(made.stations)
    model = read_velocity_model(tmp_path / "velocity.csv")
    assert model.vp_km_s.tolist() == made.model.vp_km_s.tolist()
    rows, rejections = read_picks(tmp_path / "picks.jsonl")
    assert len(rows) == len(made.picks)
    assert not rejections.counts
    network = Network.build(stations, model)
    assert settled_events(network, rows) == settled_events(network, map(from_message, made.picks))


def test_the_demo_finds_the_events_of_a_generated_network(tmp_path, capsys):
    """The whole of it: broker, the real command as a process, the map and the score."""
    run_association_demo(tmp_path, quick=True, scenario=SMALL)
    text = capsys.readouterr().out
    assert "found 6 of 6" in text, text
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    events = list(map(Event.from_json, lines))
    assert len(events) == 6
    assert all(event.status == "final" for event in events)
    assert (tmp_path / "events.png").stat().st_size > 50_000
