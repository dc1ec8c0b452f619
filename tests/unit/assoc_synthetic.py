"""A small network, events in it, and their picks: what the tests of association have in common."""

from dataclasses import dataclass

import numpy as np

from streamer.association.geodesy import distances_km, moved
from streamer.association.pickfiles import PHASES, PickRow, pick_table
from streamer.association.stations import Station
from streamer.association.traveltimes import first_arrival_s
from streamer.association.velocity import LayeredModel

EPOCH_NS = 1_700_000_000 * 10**9
CRUST = LayeredModel.from_layers([(0.0, 5.5, 3.1), (6.0, 6.2, 3.55), (20.0, 7.0, 4.0)])


def square_network(side=4, spacing_km=10.0, elev_km=0.0, seed=0):
    """side x side stations, each up to a fifth of the spacing beside its place on the square."""
    rng = np.random.default_rng(seed)
    axis = (np.arange(side) - (side - 1) / 2) * spacing_km
    east, north = (grid.ravel() for grid in np.meshgrid(axis, axis))
    east, north = (way + rng.uniform(-0.2, 0.2, side**2) * spacing_km for way in (east, north))
    elevations = np.broadcast_to(elev_km, side**2)
    return [
        Station("XX", f"S{i:02d}", *map(float, moved(46.0, 7.5, e, n)), float(z))
        for i, (e, n, z) in enumerate(zip(east, north, elevations, strict=True))
    ]


@dataclass(frozen=True)
class Source:
    time_s: float
    lat: float
    lon: float
    depth_km: float


def source(time_s, east_km, north_km, depth_km):
    lat, lon = moved(46.0, 7.5, east_km, north_km)
    return Source(time_s, float(lat), float(lon), depth_km)


def arrivals(stations, event, name, model=CRUST, sigma_s=0.0, rng=None):
    """P and S picks of one event at all stations, called NAME-STATION-PHASE."""
    rows = []
    for station in stations:
        km = distances_km(
            *(np.array([x]) for x in (event.lat, event.lon, station.lat, station.lon))
        )
        for phase, velocity in zip(PHASES, (model.vp_km_s, model.vs_km_s), strict=True):
            travel = first_arrival_s(
                km[0], event.depth_km, station.depth_km, model.top_km, velocity
            )
            error = 0.0 if rng is None else rng.normal(0, sigma_s * (1 + (phase == "S")))
            t_ns = EPOCH_NS + round((event.time_s + float(travel[0]) + error) * 1e9)
            rows.append(
                PickRow(station.code, phase, t_ns, 0.8, 1.0, f"{name}-{station.sta}-{phase}")
            )
    return rows


def noise(stations, seconds, per_second, rng):
    """Picks of nothing."""
    return [
        PickRow(
            stations[rng.integers(len(stations))].code,
            PHASES[rng.integers(2)],
            EPOCH_NS + round(rng.uniform(0, seconds) * 1e9),
            0.4,
            1.0,
            f"noise-{i}",
        )
        for i in range(round(seconds * per_second))
    ]


def sequence(stations, seed, *, events, first_s, every_s, scatter_s, reach_km, noise_s, per_second):
    """Picks of one event after the other within `reach_km` of the middle, some missing, and noise.

    Event i is `first_s` + i x `every_s` after the beginning, or up to `scatter_s` later.
    """
    rng = np.random.default_rng(seed)
    found = []
    for i in range(events):
        at_s = first_s + every_s * i + rng.uniform(0, scatter_s)
        where = source(at_s, *rng.uniform(-reach_km, reach_km, 2), 8.0)
        found += arrivals(stations, where, f"e{i}", sigma_s=0.04, rng=rng)
    kept = [row for row in found if rng.random() < 0.85]
    return kept + noise(stations, noise_s, per_second, rng)


def table(rows, stations):
    return pick_table(rows, stations)


def seconds(picks, time_s):
    """Seconds after EPOCH_NS of a time of the pick table."""
    return time_s + (picks.epoch_ns - EPOCH_NS) / 1e9
