"""Rsv/Pick: shares over an hour and a day, and stations whose share collapses are told of."""

import asyncio
import json
from collections import Counter
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from streamer.association.share import Shares
from streamer.association.worker import Worker

BLOCK_S = 60
HOUR = 60  # blocks
SICK, WELL = ("XX.SICK", "P"), [(f"XX.W{n}", "P") for n in range(4)]


def put(shares, first, last, sick_kept, well_kept, picks=2):
    """Blocks in each of which each station has `picks` P picks, and so many of them an event."""
    for block in range(first, last):
        made = [SICK] * picks + [path for path in WELL for _ in range(picks)]
        kept = [SICK] * sick_kept + [path for path in WELL for _ in range(well_kept)]
        shares.put(block, made, kept)


def told(shares):
    return [(path, collapsed) for path, _, collapsed in shares.changes(shares.shares())]


def test_shares_are_of_the_last_hour_and_the_last_day():
    shares = Shares(BLOCK_S)
    put(shares, 0, 30 * HOUR, 2, 1)
    put(shares, 30 * HOUR, 31 * HOUR, 0, 1)
    share = shares.shares()[SICK]
    assert (share.picks_1h, share.kept_1h) == (120, 0)
    assert (share.picks_24h, share.kept_24h) == (24 * 120, 23 * 120)
    assert share.fields()["share_24h"] == round(23 / 24, 4)
    again = Shares(BLOCK_S)
    for block in range(7 * HOUR, 31 * HOUR):
        again.load(block, shares.dump(block))
    assert again.shares() == shares.shares()


def test_a_station_whose_share_collapses_is_told_once_and_again_when_it_recovers():
    shares = Shares(BLOCK_S)
    put(shares, 0, 12 * HOUR, 1, 1)
    assert told(shares) == []
    put(shares, 12 * HOUR, 13 * HOUR, 0, 1)
    assert told(shares) == [(SICK, True)]
    assert shares.collapsed == {SICK}
    assert told(shares) == []
    put(shares, 13 * HOUR, 14 * HOUR, 1, 1)
    assert told(shares) == [(SICK, False)]
    assert (shares.collapsed, told(shares)) == (frozenset(), [])


@pytest.mark.parametrize(
    ("hour", "why"),
    [
        ({"sick_kept": 1, "well_kept": 2, "picks": 4}, "half of what it was is no collapse"),
        ({"sick_kept": 0, "well_kept": 0}, "nothing happened at all"),
        ({"sick_kept": 1, "well_kept": 1, "picks": 8}, "noise came to all stations alike"),
    ],
)
def test_what_is_no_collapse_of_one_station_is_not_told(hour, why):
    shares = Shares(BLOCK_S)
    put(shares, 0, 12 * HOUR, 1, 1)
    put(shares, 12 * HOUR, 13 * HOUR, **hour)
    assert told(shares) == [], why


def test_a_station_with_few_picks_is_not_judged():
    shares = Shares(BLOCK_S)
    put(shares, 0, 12 * HOUR, 1, 1)
    for block in range(12 * HOUR, 13 * HOUR):
        few = [SICK] if block % 4 == 0 else []
        shares.put(block, [*few, *WELL, *WELL], WELL)
    assert shares.shares()[SICK].picks_1h < 20
    assert told(shares) == []


def test_an_hour_with_few_events_judges_no_station():
    shares = Shares(BLOCK_S)
    put(shares, 0, 12 * HOUR, 1, 1)
    for block in range(12 * HOUR, 13 * HOUR):
        put(shares, block, block + 1, 0, int(block % 10 == 0))
    assert sum(share.kept_1h for share in shares.shares().values()) == 24
    assert told(shares) == []


class Redis:
    """Takes what the worker says of shares."""

    def __init__(self):
        self.texts = {}

    async def lag(self):
        return 0

    async def put_shares(self, texts, gone):
        self.texts = texts


def test_the_worker_logs_counts_publishes_and_exports_a_collapse():
    shares, consumer = Shares(BLOCK_S), Redis()
    worker = object.__new__(Worker)
    worker.counts, worker._shown = Counter(), set()
    worker._window, worker._consumer = SimpleNamespace(shares=shares), consumer
    put(shares, 0, 12 * HOUR, 1, 1)
    put(shares, 12 * HOUR, 13 * HOUR, 0, 1)
    with capture_logs() as logs:
        asyncio.run(worker._publish_shares())
        put(shares, 13 * HOUR, 14 * HOUR, 1, 1)
        asyncio.run(worker._publish_shares())
    assert [(line["event"], line["log_level"], line["station"]) for line in logs] == [
        ("station_share_collapsed", "warning", "XX.SICK"),
        ("station_share_recovered", "info", "XX.SICK"),
    ]
    assert (logs[0]["phase"], logs[0]["share_1h"]) == ("P", 0.0)
    assert worker.counts == {"station_share_collapsed": 1, "station_share_recovered": 1}
    assert json.loads(consumer.texts["XX.SICK.P"])["share_1h"] == 0.5
