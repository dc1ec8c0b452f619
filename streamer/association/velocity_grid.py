"""Velocities on a grid in two or three dimensions, and travel times through it by eikonal solver.

The file is an npz (numpy.savez) of

    vp_km_s, vs_km_s   [east, north, depth], or [along, depth] for a section across which nothing
                       changes
    spacing_km         between nodes, the same along all axes
    west_km, south_km  of the first node from the reference point; `along_km` for a section
    top_km             depth of the first node below sea level
    lat, lon           of the reference point, deg
    azimuth_deg        direction of `along` clockwise from north, for a section

Times come from fteikpy (extra `tables`), whose finite differences are first order: each is
corrected by what the same solver makes of straight rays from the same station. With 15
nodes to a station and velocities that grow by 2 % per node 0.2 % are left in the median, 0.6 % at
most; half as much with nodes half as far apart.
"""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.association.best_kernels import Box
from streamer.association.geodesy import Floats, east_north_km
from streamer.association.stations import Station
from streamer.association.velocity import FASTEST_KM_S, SLOWEST_KM_S, LayeredModel
from streamer.errors import ConfigError, DataError, NoInputError

# How much of memory the tables of all stations may take.
MOST_BYTES = 2**30
SWEEPS = 2


@dataclass(frozen=True)
class VelocityGrid:
    """Velocities `vp_km_s`, `vs_km_s` [east, north, depth] at nodes `spacing_km` apart.

    The first node is `west_km` east and `south_km` north of (`lat`, `lon`), `top_km` deep.
    """

    vp_km_s: Floats
    vs_km_s: Floats
    spacing_km: float
    west_km: float
    south_km: float
    top_km: float
    lat: float
    lon: float

    def __post_init__(self) -> None:
        for name in ("vp_km_s", "vs_km_s"):
            values = getattr(self, name)
            if values.ndim != 3 or min(values.shape) < 2:
                raise ValueError(f"{name} must have at least two nodes along east, north and depth")
            if not np.all((values >= SLOWEST_KM_S) & (values <= FASTEST_KM_S)):
                raise ValueError(f"{name} must be {SLOWEST_KM_S:g}..{FASTEST_KM_S:g} km/s")
        if self.vp_km_s.shape != self.vs_km_s.shape:
            raise ValueError("vp_km_s and vs_km_s have different shapes")
        if np.any(self.vs_km_s >= self.vp_km_s):
            raise ValueError("vs_km_s must be less than vp_km_s at every node")
        if not self.spacing_km > 0:
            raise ValueError("spacing_km must be positive")

    @property
    def layers(self) -> LayeredModel:
        """The mean over each depth, for what only needs a rough idea."""
        tops = self.top_km + self.spacing_km * (np.arange(self.vp_km_s.shape[2]) - 0.5)
        mean = [1 / np.mean(1 / speed, axis=(0, 1)) for speed in (self.vp_km_s, self.vs_km_s)]
        return LayeredModel.from_layers(zip(tops, *mean, strict=True))

    @property
    def bottom_km(self) -> float:
        """Depth of the last node."""
        return self.top_km + self.spacing_km * (len(self.vp_km_s[0, 0]) - 1)

    def require_cover(self, stations: Sequence[Station], deepest_km: float) -> None:
        """Raise ConfigError for a station outside the grid, or if it is not deep enough."""
        far = self.spacing_km * (np.array(self.vp_km_s.shape[:2]) - 1)
        for station in stations:
            east, north = east_north_km(self.lat, self.lon, station.lat, station.lon)
            inside = 0 <= east - self.west_km <= far[0] and 0 <= north - self.south_km <= far[1]
            if not (inside and self.top_km <= station.depth_km <= self.bottom_km):
                raise ConfigError(
                    f"station {station.net}.{station.sta} lies outside the velocity grid, which "
                    f"reaches {self.west_km:g}..{self.west_km + far[0]:g} km east, "
                    f"{self.south_km:g}..{self.south_km + far[1]:g} km north of "
                    f"({self.lat:g}, {self.lon:g}) and {self.top_km:g}..{self.bottom_km:g} km deep"
                )
        if deepest_km > self.bottom_km:
            raise ConfigError(
                f"the velocity grid ends {self.bottom_km:g} km deep, but sources are looked for "
                f"down to {deepest_km:g} km: make it deeper or set deepest_km"
            )

    def _distances_km(self, depth_km: float, east_km: float, north_km: float) -> Floats:
        """From a place to all nodes."""
        offsets = [
            first + self.spacing_km * np.arange(n) - here
            for first, n, here in zip(
                (self.west_km, self.south_km, self.top_km), self.vp_km_s.shape,
                (east_km, north_km, depth_km), strict=True,
            )
        ]  # fmt: skip
        x, y, z = np.meshgrid(*offsets, indexing="ij", sparse=True)
        distances: Floats = np.sqrt(x**2 + y**2 + z**2)
        return distances

    def travel_times(self, stations: Sequence[Station]) -> Box:
        """Times from all nodes to all stations. Raises ConfigError without fteikpy or memory."""
        n_bytes = 8 * self.vp_km_s.size * len(stations)
        if n_bytes > MOST_BYTES:
            raise ConfigError(
                f"travel times through the velocity grid would take {n_bytes >> 20} MB: "
                "make its spacing wider"
            )
        try:
            from fteikpy import Eikonal3D
        except ImportError as error:
            raise ConfigError(
                "velocity grids need fteikpy: pip install 'msnet-stream[tables]'"
            ) from error
        origin = self.top_km, self.west_km, self.south_km
        solvers = []
        for speed in (np.ones_like(self.vp_km_s), self.vp_km_s, self.vs_km_s):
            cells = np.ascontiguousarray(np.moveaxis(_in_cells(speed), 2, 0))
            solvers.append(Eikonal3D(cells, (self.spacing_km,) * 3, origin))
        times = np.empty((len(stations), 2, *self.vp_km_s.shape), np.float32)
        for i, station in enumerate(stations):
            east, north = east_north_km(self.lat, self.lon, station.lat, station.lon)
            place = station.depth_km, east, north
            plain, *solved = (
                np.moveaxis(solver.solve(place, nsweep=SWEEPS).grid, 0, 2) for solver in solvers
            )
            straight_km = self._distances_km(*place)
            # What the solver makes of straight rays (1 s per km) tells how wrong it is there.
            right = straight_km / np.maximum(plain, 1e-9)
            for phase in range(2):
                times[i, phase] = solved[phase] * right
        return Box(
            times, self.lat, self.lon, self.west_km, self.south_km, self.top_km, self.spacing_km
        )


def _in_cells(speed: Floats) -> Floats:
    """Velocity in each cell between nodes: of the mean slowness of its eight corners."""
    slowness = 1 / speed
    for axis in range(3):
        upper = np.take(slowness, range(1, slowness.shape[axis]), axis)
        slowness = 0.5 * (upper + np.take(slowness, range(slowness.shape[axis] - 1), axis))
    cells: Floats = 1 / slowness
    return cells


def read_velocity_grid(path: Path) -> VelocityGrid:
    """A grid of an npz as above. Raises NoInputError, or DataError naming what is wrong."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: np.asarray(file[name], np.float64) for name in file.files}
        return _section(values) if values["vp_km_s"].ndim == 2 else _grid(values)
    except FileNotFoundError as error:
        raise NoInputError(f"cannot read {path}: {error.strerror}") from error
    except KeyError as error:
        raise DataError(f"velocity grid {path} lacks {error.args[0]}") from error
    except (ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"velocity grid {path}: {error}") from error


def _grid(values: Mapping[str, NDArray[np.float64]]) -> VelocityGrid:
    names = ("spacing_km", "west_km", "south_km", "top_km", "lat", "lon")
    return VelocityGrid(
        values["vp_km_s"], values["vs_km_s"], **{name: float(values[name]) for name in names}
    )


def _section(values: Mapping[str, NDArray[np.float64]]) -> VelocityGrid:
    """The section in three dimensions: as wide as long, the same across it."""
    spacing_km, along_km = float(values["spacing_km"]), float(values["along_km"])
    n_along = values["vp_km_s"].shape[0]
    azimuth = math.radians(float(values["azimuth_deg"]))
    middle_km = along_km + 0.5 * spacing_km * (n_along - 1)
    axis_km = spacing_km * (np.arange(n_along) - 0.5 * (n_along - 1))
    east, north = np.meshgrid(
        middle_km * math.sin(azimuth) + axis_km, middle_km * math.cos(azimuth) + axis_km,
        indexing="ij",
    )  # fmt: skip
    along = (east * math.sin(azimuth) + north * math.cos(azimuth) - along_km) / spacing_km
    place = np.clip(along, 0, n_along - 1)
    first = np.minimum(place.astype(int), n_along - 2)
    share = (place - first)[..., None]
    vp, vs = (
        (1 - share) * section[first] + share * section[first + 1]
        for section in (values["vp_km_s"], values["vs_km_s"])
    )
    corner = float(east[0, 0]), float(north[0, 0]), float(values["top_km"])
    return VelocityGrid(vp, vs, spacing_km, *corner, float(values["lat"]), float(values["lon"]))
