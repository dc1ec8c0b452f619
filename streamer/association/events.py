"""The event message `msnet.event/1`: what association publishes.

One JSON object; times in UTC, `t_ns` POSIX ns; errors are standard errors (1 sigma).
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamer.association.best_kernels import Errors
from streamer.association.geodesy import azimuthal_gap_deg
from streamer.association.locate import Location, locate
from streamer.association.network import Network
from streamer.association.pickfiles import PHASES, P, PickTable
from streamer.timebase import NS_PER_S, iso

EVENT_VERSION = 1
Status = Literal["preliminary", "updated", "final", "amended", "retracted"]
Profile = Literal["real", "best"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A pick assigned to an event: distance and azimuth as seen from the epicentre."""

    pick_id: str
    net: str
    sta: str
    phase: str
    time: str
    residual_s: float
    distance_km: float
    azimuth_deg: float
    weight: float
    prob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event in one state of its life cycle; `version` counts from 1.

    Depth is below sea level. `lat_error_km`, `lon_error_km` lie along north and east; the
    horizontal error ellipse has half axes `major_error_km`, `minor_error_km`, the longer one at
    azimuth `major_azimuth_deg`. `gain` is the log likelihood ratio against chance (profile best).
    """

    id: str
    version: int
    status: Status
    profile: Profile
    time: str
    t_ns: int
    lat: float
    lon: float
    depth_km: float
    time_error_s: float
    lat_error_km: float
    lon_error_km: float
    depth_error_km: float
    major_error_km: float
    minor_error_km: float
    major_azimuth_deg: float
    gap_deg: float
    nearest_km: float
    rms_s: float
    n_p: int
    n_s: int
    n_both: int
    gain: float | None = None
    arrivals: tuple[Arrival, ...]

    def to_json(self) -> str:
        """One line of JSON, absent values omitted."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps({"v": EVENT_VERSION} | fields)


def event_id(t_ns: int, pick_ids: list[str]) -> str:
    """`ms` + UTC origin time to 0.1 s + four hash digits of the first pick id in ASCII order."""
    tenths = t_ns // (NS_PER_S // 10)
    stamp = f"{datetime.fromtimestamp(tenths // 10, UTC):%Y%m%dT%H%M%S}.{tenths % 10}"
    return f"ms{stamp}-{hashlib.sha256(min(pick_ids).encode()).hexdigest()[:4]}"


def located_event(
    network: Network,
    errors: Errors,
    table: PickTable,
    picks: NDArray[np.int64],
    start: tuple[float, float, float, float],
    profile: Profile,
    gain: float | None = None,
) -> Event:
    """The event of some picks (rows of the table), located; `start` as in `locate`."""
    location = locate(network, errors, table, picks, start)
    t_ns = table.epoch_ns + round(location.time_s * NS_PER_S)
    stations = table.station[picks]
    ids = [table.ids[i] for i in picks]
    major, minor, azimuth = location.ellipse
    return Event(
        id=event_id(t_ns, ids),
        version=1,
        status="final",
        profile=profile,
        time=iso(t_ns),
        t_ns=t_ns,
        lat=round(location.lat, 6),
        lon=round(location.lon, 6),
        depth_km=round(location.depth_km, 4),
        time_error_s=round(location.time_error_s, 4),
        lat_error_km=round(location.north_error_km, 4),
        lon_error_km=round(location.east_error_km, 4),
        depth_error_km=round(location.depth_error_km, 4),
        major_error_km=round(major, 4),
        minor_error_km=round(minor, 4),
        major_azimuth_deg=round(azimuth, 1),
        gap_deg=round(azimuthal_gap_deg(location.azimuth_deg), 1),
        nearest_km=round(float(location.distance_km.min()), 4),
        rms_s=round(location.rms_s, 4),
        n_p=int(np.sum(table.phase[picks] == P)),
        n_s=int(np.sum(table.phase[picks] != P)),
        n_both=len(stations) - len(np.unique(stations)),
        gain=None if gain is None else round(gain, 1),
        arrivals=_arrivals(network, table, picks, location),
    )


def _arrivals(
    network: Network, table: PickTable, picks: NDArray[np.int64], location: Location
) -> tuple[Arrival, ...]:
    """The picks in order of time."""
    arrivals = []
    for n in np.argsort(table.time_s[picks], kind="stable"):
        row = int(picks[n])
        station = network.stations[table.station[row]]
        arrivals.append(
            Arrival(
                pick_id=table.ids[row],
                net=station.net,
                sta=station.sta,
                phase=PHASES[table.phase[row]],
                time=iso(table.time_ns(row)),
                residual_s=round(float(location.residual_s[n]), 4),
                distance_km=round(float(location.distance_km[n]), 3),
                azimuth_deg=round(float(location.azimuth_deg[n]), 1),
                weight=round(float(location.weight[n]), 3),
                prob=round(float(table.prob[row]), 4),
            )
        )
    return tuple(arrivals)
