"""Up to which time picks are known, and what becomes of deliveries, without a server."""

import asyncio
from types import SimpleNamespace

import pytest
from assoc_replay import RULES, anonymous, catalogue, make_window, message
from assoc_synthetic import CRUST, EPOCH_NS, arrivals, source, square_network

from streamer.association.network import Network
from streamer.association.offline import settled_events
from streamer.association.watermark import Watermark
from streamer.association.window import NEVER_NS
from streamer.association.worker import Worker
from streamer.bus.consumer import Delivery
from streamer.config import Config

STATIONS = square_network()
NETWORK = Network.build(STATIONS, CRUST)
S_NS = 10**9
DAY_NS = 86_400 * S_NS


def beat(through_s, said_s):
    return {"through_ns": through_s * S_NS, "time_ns": said_s * S_NS}


def test_a_station_that_is_silent_or_far_behind_holds_nothing_up():
    watermark = Watermark({("XX", "A"), ("XX", "B"), ("XX", "C")}, 30.0, 10.0)
    states = {"XX.A..HH": beat(990, 1000), "XX.B..HH": beat(980, 1000), "YY.Z..HH": beat(1, 1000)}
    assert watermark.heard(1000 * S_NS, states) == 980 * S_NS
    states["XX.C..HH"] = beat(500, 1000)
    assert watermark.heard(1000 * S_NS, states) == 980 * S_NS
    assert watermark.held_back == 1
    assert watermark.heard(1100 * S_NS, states) is None, "nothing has been said for long"


class Peers:
    """Consumer, stream of events and lease of a worker, without sockets."""

    drained = True
    held = True

    def __init__(self):
        self.acknowledged, self.buried, self.sent = [], [], []

    async def acknowledge(self, entries):
        self.acknowledged += entries

    async def bury(self, delivery, reason):
        self.buried.append((delivery.entry, reason))

    async def publish(self, rows):
        self.sent += rows


@pytest.fixture
def worker():
    peers = Peers()
    window = make_window(NETWORK, rules=RULES)
    config = Config(association={"lateness_s": 2.0, "unheard_lateness_s": 12.0})
    made = Worker(config, window, window._store, peers, peers, peers, None, lambda: 0)
    return SimpleNamespace(worker=made, window=window, peers=peers)


def deliver(worker, picks, now_ns, steady_ns, times=1):
    ms = [pick.made_ns // 10**6 for pick in picks]
    deliveries = [
        Delivery(f"{at}-{n}", pick.to_fields(), times)
        for n, (at, pick) in enumerate(zip(ms, picks, strict=True))
    ]
    asyncio.run(worker.worker._take(deliveries, now_ns, steady_ns))
    return deliveries


def test_a_clock_that_is_set_settles_nothing_and_drops_nothing(worker):
    """The host's clock jumps a day ahead between two halves of an event's picks, and back."""
    rows = sorted(arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a"), key=lambda row: row.t_ns)
    picks = [message(row) for row in rows]
    now_ns = EPOCH_NS + 40 * S_NS
    deliver(worker, picks[:6], now_ns, 1000 * S_NS)
    before_ns = worker.window.watermark_ns
    deliver(worker, [], now_ns + DAY_NS, 1001 * S_NS)
    assert worker.window.watermark_ns == before_ns + S_NS
    deliver(worker, picks[6:], now_ns - DAY_NS, 1002 * S_NS)
    assert worker.window.counts["picks_too_old"] == 0
    deliver(worker, [], now_ns, 1900 * S_NS)
    assert worker.window.watermark_ns > rows[-1].t_ns + 600 * S_NS, "time went on"
    assert len(worker.peers.sent) >= 2
    last = worker.window._ledger
    assert anonymous([known.event for known in last.standing()]) == anonymous(
        settled_events(NETWORK, rows)
    )


def test_a_pick_dated_in_the_future_by_its_maker_does_not_move_the_watermark(worker):
    row = arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a")[0]
    pick = message(row, made_ns=row.t_ns + DAY_NS)
    entered = f"{(row.t_ns + S_NS) // 10**6}-0"
    asyncio.run(
        worker.worker._take([Delivery(entered, pick.to_fields(), 1)], row.t_ns + S_NS, S_NS)
    )
    assert NEVER_NS < worker.window.watermark_ns < row.t_ns


def test_what_cannot_be_done_with_is_buried_with_its_reason(worker):
    pick = message(arrivals(STATIONS, source(30.0, 1.0, 2.0, 8.0), "a")[0])
    (again,) = deliver(worker, [pick], pick.made_ns, S_NS, times=6)
    asyncio.run(worker.worker._take([Delivery("9-9", None, 1)], pick.made_ns, S_NS))
    assert worker.peers.buried == [
        (again.entry, "delivered 6 times and never done with"),
        ("9-9", "the entry was trimmed before it was read"),
    ]
    assert worker.peers.acknowledged == [again.entry, "9-9"]
    assert worker.worker.counts["dead_letters"] == 2
    assert worker.window.counts["picks"] == 0
    assert catalogue(worker.window) == []
