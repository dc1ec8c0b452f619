"""Signs of life of pickers on Redis: for the association worker, `status`, `top` and the web page.

Keys (`msnet` is the configurable prefix)
    msnet:health           stream, an entry of each picker every few seconds, the newest 20 000:
                           `v` 1, `instance`, `time_ns` (POSIX ns), `through_ns`, and counters. No
                           pick of data before `through_ns` is still to come from this picker, but
                           for late data; absent where not known.
    msnet:stations         hash, NET.STA.LOC.BI -> JSON: `instance`, `time_ns`, and the fields of
                           `streamer.picking.report.StationReport`; written every few seconds. A
                           picker removes what it had written in an earlier life.
    msnet:instance:<name>  when the picker of this name last wrote; gone a minute later.

Whoever reads `through_ns` has the picks that came before it on `msnet:picks`: a heartbeat is sent
when Redis has confirmed all that had been made when it was measured.
"""

import json
from collections.abc import Mapping
from typing import Any

from streamer.bus.connect import explained, open_connection
from streamer.bus.redis_url import RedisServer

HEALTH_VERSION = 1
INTERVAL_S = 5.0
_KEPT_ENTRIES = 20_000
_INSTANCE_LIFE_S = 60


class HeartbeatKeys:
    """Where one picker writes. The constructor does no I/O.

    Methods raise UnavailableError or AccessDeniedError on trouble with Redis.
    """

    def __init__(self, server: RedisServer, prefix: str, instance: str) -> None:
        self.instance = instance
        self._server = server
        self._prefix = prefix
        self._connection = open_connection(server)
        self._own: set[str] = set()
        self._swept = False

    async def beat(self, health: Mapping[str, str], stations: Mapping[str, str]) -> None:
        """Write an entry for the picker, and the JSON of each of its stations."""
        with explained(self._server):
            if not self._swept:
                await self._remove_earlier(stations)
            pipeline = self._connection.client.pipeline(transaction=False)
            fields = {"v": str(HEALTH_VERSION), "instance": self.instance, **health}
            pipeline.xadd(f"{self._prefix}:health", fields, maxlen=_KEPT_ENTRIES, approximate=True)
            if stations:
                pipeline.hset(f"{self._prefix}:stations", mapping=dict(stations))
            pipeline.set(
                f"{self._prefix}:instance:{self.instance}", fields["time_ns"], ex=_INSTANCE_LIFE_S
            )
            await pipeline.execute()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _remove_earlier(self, stations: Mapping[str, str]) -> None:
        key = f"{self._prefix}:stations"
        known = await self._connection.client.hgetall(key)
        mine = [
            name
            for name, text in known.items()
            if name not in stations and _instance_of(text) == self.instance
        ]
        if mine:
            await self._connection.client.hdel(key, *mine)
        self._swept = True


def read_stations(texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The hash `msnet:stations` decoded; entries that are no JSON object are left out."""
    stations = {}
    for name, text in texts.items():
        try:
            station = json.loads(text)
        except ValueError:
            continue
        if isinstance(station, dict):
            stations[name] = station
    return stations


def _instance_of(text: str) -> object:
    return read_stations({"": text}).get("", {}).get("instance")
