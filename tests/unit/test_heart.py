"""Signs of life: what they promise about picks, and that a Redis which is away stops nothing."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from streamer.errors import UnavailableError
from streamer.heart import SILENT_S, Heart, through
from streamer.picking.report import StationReport
from streamer.seedid import Instrument

NOW_NS = 1_700_000_000_000_000_000


def report(name: str, **changes: Any) -> StationReport:
    values = {
        "instrument": Instrument("XX", name, "", "HH"), "components": 3, "end_ns": NOW_NS,
        "data_latency_s": 3.0, "feed_latency_s": 1.0, "gaps": 0, "overlaps": 0, "samples": 100,
        "missing_samples": 0, "timing_quality": None, "picks": {"P": 2, "S": 1},
        "last_pick_ns": None, "through_ns": NOW_NS - 6,
    }  # fmt: skip
    return StationReport(**(values | changes))


class Keys:
    instance = "here"

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.beats: list[tuple[Mapping[str, str], Mapping[str, str]]] = []

    async def beat(self, health: Mapping[str, str], stations: Mapping[str, str]) -> None:
        if self.away:
            raise UnavailableError("gone")
        self.beats.append((health, stations))


class Daemon:
    """An observer and a publisher in one."""

    pending = 0

    def __init__(self, *reports: StationReport) -> None:
        self._reports = list(reports)

    def stations(self) -> list[StationReport]:
        return self._reports

    def health(self) -> dict[str, int]:
        return {"published": 3}


def beat(keys: Keys, daemon: Daemon) -> None:
    heart = Heart(keys, daemon, daemon, lambda: NOW_NS)  # type: ignore[arg-type]
    asyncio.run(heart.beat())


def test_the_slowest_live_station_says_how_far_all_are() -> None:
    slow, silent = (
        report("B", through_ns=NOW_NS - 60),
        report("C", through_ns=5, data_latency_s=1e4),
    )
    assert through([report("A"), slow, silent]) == NOW_NS - 60
    assert through([report("A", through_ns=None)]) is None
    assert silent.data_latency_s > SILENT_S


def test_a_beat_tells_of_the_picker_and_of_each_station() -> None:
    keys = Keys()
    beat(keys, Daemon(report("A", lat=1.5)))
    ((health, stations),) = keys.beats
    assert health == {
        "time_ns": str(NOW_NS), "published": "3", "through_ns": str(NOW_NS - 6),
    }  # fmt: skip
    told = json.loads(stations["XX.A..HH"])
    assert (told["instance"], told["picks_p"], told["picks_s"], told["lat"]) == ("here", 2, 1, 1.5)
    assert "timing_quality" not in told


def test_nothing_is_promised_while_picks_wait_for_redis() -> None:
    """Whoever reads `through_ns` must have the picks before it."""
    keys, daemon = Keys(), Daemon(report("A"))
    daemon.pending = 1
    beat(keys, daemon)
    ((health, stations),) = keys.beats
    assert "through_ns" not in health
    assert "through_ns" not in json.loads(stations["XX.A..HH"])


def test_a_redis_that_is_away_stops_nothing() -> None:
    beat(Keys(away=True), Daemon(report("A")))


@pytest.mark.parametrize("count", [0, 3])
def test_every_station_is_told(count: int) -> None:
    keys = Keys()
    beat(keys, Daemon(*(report(str(n)) for n in range(count))))
    assert len(keys.beats[0][1]) == count
