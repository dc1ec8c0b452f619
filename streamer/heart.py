"""The daemon's signs of life on Redis, every few seconds."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import structlog

from streamer.bus.heartbeat import INTERVAL_S, HeartbeatKeys
from streamer.bus.publisher import Publisher
from streamer.clock import Clock
from streamer.errors import MsnetError
from streamer.observer import Observer
from streamer.picking.report import StationReport

log = structlog.get_logger()

# A station that sends nothing holds nobody up: what it has was given out after this
# (`waveforms.silence_flush_s`), and what it sends later is late.
SILENT_S = 120.0
# Picks are on their way for milliseconds; a Redis that is away is not waited for.
_SETTLE_POLLS = 20
_POLL_S = 0.05


class Heart:
    """Tells of one daemon. Trouble with Redis only means that nobody hears of it."""

    def __init__(
        self, keys: HeartbeatKeys, observer: Observer, publisher: Publisher, clock: Clock
    ) -> None:
        self._keys = keys
        self._observer = observer
        self._publisher = publisher
        self._clock = clock
        self._failing = False

    async def run(self) -> None:
        """Beat until cancelled."""
        try:
            while True:
                await self.beat()
                await asyncio.sleep(INTERVAL_S)
        finally:
            await self._keys.close()

    async def beat(self) -> None:
        """One sign of life."""
        reports, now_ns = self._observer.stations(), self._clock()
        settled = await self._settled()
        health = {
            "time_ns": str(now_ns),
            **{name: str(value) for name, value in self._observer.health().items()},
        }
        through_ns = through(reports)
        if settled and through_ns is not None:
            health["through_ns"] = str(through_ns)
        stations = await asyncio.to_thread(_texts, reports, self._keys.instance, now_ns, settled)
        try:
            await self._keys.beat(health, stations)
        except MsnetError as error:
            if not self._failing:
                log.warning("heartbeat_failed", error=str(error))
            self._failing = True
        else:
            self._failing = False

    async def _settled(self) -> bool:
        """Wait until Redis has all picks that were made; whether it has."""
        for _ in range(_SETTLE_POLLS):
            if not self._publisher.pending:
                return True
            await asyncio.sleep(_POLL_S)
        return False


def through(reports: list[StationReport]) -> int | None:
    """The time (UTC ns) before which no live station still owes a pick; None without one."""
    return min(
        (r.through_ns for r in reports if r.through_ns and r.data_latency_s < SILENT_S),
        default=None,
    )


def _texts(
    reports: list[StationReport], instance: str, now_ns: int, settled: bool
) -> Mapping[str, str]:
    return {
        str(report.instrument): json.dumps(_members(report, instance, now_ns, settled))
        for report in reports
    }


def _members(report: StationReport, instance: str, now_ns: int, settled: bool) -> dict[str, Any]:
    members = {k: v for k, v in asdict(report).items() if v is not None and k != "instrument"}
    for phase, count in members.pop("picks").items():
        members[f"picks_{phase.lower()}"] = count
    if not settled:
        members.pop("through_ns", None)
    return {"instance": instance, "time_ns": now_ns, **members}
