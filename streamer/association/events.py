"""Events as messages: picks located, and what each pick has to do with the place found."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from streamer.association.best_kernels import Errors
from streamer.association.geodesy import azimuthal_gap_deg
from streamer.association.locate import Location, locate
from streamer.association.magnitude import local_magnitude
from streamer.association.message import Arrival, Event, Profile, event_id
from streamer.association.network import Network
from streamer.association.parameters import Attenuation
from streamer.association.pickfiles import PHASES, P, PickTable
from streamer.timebase import NS_PER_S, iso


class MagnitudeFields(TypedDict, total=False):
    """What the message says of the magnitude."""

    mag: float
    mag_type: str
    mag_spread: float | None
    mag_stations: int


def located_event(
    network: Network,
    errors: Errors,
    table: PickTable,
    picks: NDArray[np.int64],
    start: tuple[float, float, float, float],
    profile: Profile,
    law: Attenuation,
    gain: float | None = None,
) -> Event:
    """The event of some picks (rows of the table), located; `start` as in `locate`.

    `law` gives its magnitude.
    """
    location = locate(network, errors, table, picks, start)
    t_ns = table.epoch_ns + round(location.time_s * NS_PER_S)
    n_p = int(np.count_nonzero(table.phase[picks] == P))
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
        n_p=n_p,
        n_s=len(picks) - n_p,
        n_both=len(picks) - len(set(table.station[picks].tolist())),
        gain=None if gain is None else round(gain, 1),
        **_magnitude(network, table, picks, location, law),
        arrivals=_arrivals(network, table, picks, location),
    )


def _magnitude(
    network: Network,
    table: PickTable,
    picks: NDArray[np.int64],
    location: Location,
    law: Attenuation,
) -> MagnitudeFields:
    """The members of the message about it; none without amplitudes."""
    station = table.station[picks]
    depths_km = np.array([network.stations[i].depth_km for i in station.tolist()])
    hypocentral_km = np.hypot(location.distance_km, location.depth_km - depths_km)
    found = local_magnitude(table.amp[picks], station, hypocentral_km, law)
    if found is None:
        return {}
    return {
        "mag": round(found.ml, 2),
        "mag_type": "ML",
        "mag_spread": None if found.spread is None else round(found.spread, 2),
        "mag_stations": found.stations,
    }


def _arrivals(
    network: Network, table: PickTable, picks: NDArray[np.int64], location: Location
) -> tuple[Arrival, ...]:
    """The picks in order of time."""
    order = np.argsort(table.time_s[picks], kind="stable")
    rows = picks[order]
    columns = (
        rows, table.station[rows], table.phase[rows], table.times_ns(rows),
        np.round(location.residual_s[order], 4), np.round(location.distance_km[order], 3),
        np.round(location.azimuth_deg[order], 1), np.round(location.weight[order], 3),
        np.round(table.prob[rows], 4),
    )  # fmt: skip
    arrivals = []
    # Columns at once: one by one their numbers take most of the time that an event takes.
    for row, station, phase, t_ns, residual_s, distance_km, azimuth_deg, weight, prob in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        net, sta = network.stations[station].code
        arrivals.append(
            Arrival(
                pick_id=table.ids[row],
                net=net,
                sta=sta,
                phase=PHASES[phase],
                time=iso(t_ns),
                residual_s=residual_s,
                distance_km=distance_km,
                azimuth_deg=azimuth_deg,
                weight=weight,
                prob=prob,
            )
        )
    return tuple(arrivals)
