"""A network as the searches see it: positions, its own length scales, travel times."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamer.association.best_kernels import NO_BOX, Box, Ground
from streamer.association.geodesy import Floats, all_half_angles, distances_km
from streamer.association.stations import Station
from streamer.association.traveltimes import TravelTimes
from streamer.association.velocity import LayeredModel
from streamer.association.velocity_grid import VelocityGrid
from streamer.errors import ConfigError

LEAST_STATIONS = 3
# Sensors nearer than this share of the aperture are one place when station spacing is measured.
SAME_PLACE = 1e-3
# Greatest source depth by default: this share of the aperture, and no deeper than crustal events
# lie.
DEEPEST_SHARE, DEEPEST_KM = 0.5, 60.0
# An event starts a search at one of the stations near it: as far as the tenth nearest neighbour
# and a fifth more, for sources outside the network.
NEIGHBOURS, NEIGHBOUR_REACH = 10, 1.2


@dataclass(frozen=True)
class Network:
    """Stations with arrays [station] of position, scales in km, and travel times between depths.

    `spacing_km` is the median distance to the nearest station, `aperture_km` the side of a square
    as wide as the network, `search_radius_km` [station] how far from a station a search looks.
    """

    stations: tuple[Station, ...]
    lat: Floats
    lon: Floats
    spacing_km: float
    aperture_km: float
    search_radius_km: Floats
    shallowest_km: float
    deepest_km: float
    travel: TravelTimes
    p_km_s: float
    s_km_s: float
    model: LayeredModel
    box: Box = NO_BOX

    @cached_property
    def index(self) -> dict[tuple[str, str], int]:
        """Place of each station in the arrays, by network and station code."""
        return {station.code: i for i, station in enumerate(self.stations)}

    @cached_property
    def ground(self) -> Ground:
        """What the compiled loops need of it."""
        travel, angles = self.travel, all_half_angles(self.lat, self.lon)
        return Ground(
            angles, travel.level, travel.times_s, travel.steps, self.shallowest_km,
            self.deepest_km, self.box,
        )  # fmt: skip

    @classmethod
    def build(
        cls,
        stations: Sequence[Station],
        model: LayeredModel | VelocityGrid,
        deepest_km: float | None = None,
    ) -> "Network":
        """Raises ConfigError for too few stations or a model that does not cover them.

        With a grid, `model` has the mean of each depth: scales and tables are its, times the box's.
        """
        lat = np.array([station.lat for station in stations])
        lon = np.array([station.lon for station in stations])
        distance = distances_km(lat, lon, lat, lon) if len(stations) else np.zeros((0, 0))
        widest_km = float(distance.max(initial=0.0))
        if len(stations) < LEAST_STATIONS or widest_km == 0:
            raise ConfigError(
                f"{len(stations)} stations: association needs at least {LEAST_STATIONS} at "
                "different places; check the stations file"
            )
        ordered = np.sort(distance, axis=1)
        apart = np.where(ordered > SAME_PLACE * widest_km, ordered, np.inf)
        aperture_km = widest_km / np.sqrt(2)
        deepest_km = deepest_km or min(DEEPEST_KM, DEEPEST_SHARE * aperture_km)
        shallowest_km = min(0.0, *(station.depth_km for station in stations))
        radius = NEIGHBOUR_REACH * ordered[:, min(NEIGHBOURS, len(stations) - 1)]
        box, layers = _covering(model, stations, deepest_km)
        depths_km = np.array([station.depth_km for station in stations])
        farthest_km = widest_km + float(radius.max())
        travel = TravelTimes.build(layers, depths_km, farthest_km, shallowest_km, deepest_km)
        halfway = np.array([aperture_km / 2]), np.array([deepest_km / 3])
        p_s, s_s = travel.times(np.zeros(1, np.int64), *halfway)[:, 0]
        return cls(
            stations=tuple(stations),
            lat=lat,
            lon=lon,
            spacing_km=float(np.median(apart.min(axis=1))),
            aperture_km=aperture_km,
            search_radius_km=radius,
            shallowest_km=shallowest_km,
            deepest_km=deepest_km,
            travel=travel,
            p_km_s=aperture_km / 2 / p_s,
            s_km_s=aperture_km / 2 / s_s,
            model=layers,
            box=box,
        )


def _covering(
    model: LayeredModel | VelocityGrid, stations: Sequence[Station], deepest_km: float
) -> tuple[Box, LayeredModel]:
    """Times through a grid, if it is one, and its layers. Raises ConfigError if it is too small."""
    if isinstance(model, LayeredModel):
        model.require_cover(stations)
        return NO_BOX, model
    model.require_cover(stations, deepest_km)
    return model.travel_times(stations), model.layers
