"""The files of the REAL program: station list, pick folder, travel-time table, catalogue."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.association.geodesy import Floats
from streamer.association.parameters import RealParameters
from streamer.association.pickfiles import PHASES, PickRow
from streamer.association.stations import Station
from streamer.association.tables import read_text
from streamer.errors import DataError
from streamer.timebase import NS_PER_S

# The parts of a parameter of the program, in its order, under our names.
_LETTERS = {
    "R": (
        "search_half_width_deg", "deepest_km", "grid_step_deg", "grid_step_km",
        "event_separation_s",
    ),
    "V": ("window_vp_km_s", "window_vs_km_s"),
    "S": (
        "least_p", "least_s", "least_picks", "least_both", "greatest_std_s", "least_s_minus_p_s",
        "window_factor", "removal_factor", "nearest_share", "outlier_factor",
    ),
}  # fmt: skip


def real_parameters(texts: Mapping[str, str], map_lat: float) -> RealParameters:
    """The parameters given to the program as `-R a/b/...`, `-V` and `-S`: its letters and texts.

    Parts that are left out at the end have their defaults. Raises ValueError as `RealParameters`.
    """
    values: dict[str, Any] = {"map_lat": map_lat}
    for letter, names in _LETTERS.items():
        values |= dict(zip(names, texts[letter].split("/"), strict=False))
    return RealParameters(**values)


def program_arguments(
    rules: RealParameters,
    day: datetime,
    map_lat: float,
    surface_km_s: tuple[float, float] | None,
    table: tuple[float, float, float, float],
    reach_deg: float,
) -> list[str]:
    """The program's five options: the inverse of `real_parameters`, with what depends on the run.

    `surface_km_s` are P and S velocities for station elevations, None for stations at one level;
    `table` the ranges and steps of the travel-time table; `reach_deg` the greatest distance.
    """

    def values(letter: str) -> list[object]:
        return [getattr(rules, name) for name in _LETTERS[letter]]

    search: list[object] = [*values("R"), rules.greatest_gap_deg, reach_deg]
    if rules.centre_lat is not None and rules.centre_lon is not None:
        search += [rules.centre_lat, rules.centre_lon]
    speeds = values("V") if surface_km_s is None else [*values("V"), *surface_km_s, 1]
    parts: dict[str, list[object]] = {
        "D": [day.year, day.month, day.day, f"{map_lat:.4f}"],
        "R": search,
        "G": list(table),
        "V": speeds,
        "S": [*values("S"), 0],
    }
    return [f"-{letter}{'/'.join(map(_text, part))}" for letter, part in parts.items()]


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_real_stations(path: Path) -> list[Station]:
    """Stations of `lon lat net sta channel elevation_km` lines. Raises NoInputError, DataError."""
    stations = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            lon, lat, net, sta, _, elev_km = line.split()
            stations.append(Station(net, sta, float(lat), float(lon), float(elev_km)))
        except ValueError as error:
            raise DataError(f"{path} line {number} is no station of REAL: {error}") from error
    return stations


def read_real_picks(folder: Path, stations: Sequence[Station], day_ns: int) -> list[PickRow]:
    """Picks of NET.STA.P.txt and NET.STA.S.txt, lines of `time_s weight amplitude`.

    Times count from `day_ns`. The weight becomes the probability as it is: REAL only compares
    them. Raises DataError for a line that is no pick.
    """
    rows = []
    for station in stations:
        for phase in PHASES:
            path = folder / f"{station.net}.{station.sta}.{phase}.txt"
            if path.exists():
                rows += list(_pick_lines(path, station, phase, day_ns))
    return rows


def _pick_lines(path: Path, station: Station, phase: str, day_ns: int) -> Iterator[PickRow]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            time_s, weight, amplitude = map(float, line.split())
        except ValueError as error:
            raise DataError(f"{path} line {number} is no pick of REAL: {error}") from error
        t_ns = day_ns + round(time_s * NS_PER_S)
        yield PickRow(station.code, phase, t_ns, weight, amplitude, f"{path.stem}:{number}")


@dataclass(frozen=True)
class RealTable:
    """A travel-time table of REAL (ttdb.txt), looked up as REAL does.

    The nearest node's time is continued by its slowness (s/deg). Rows start at one step of
    distance, not at 0, so that the node taken is the next one: kept for equal results.
    """

    distance_deg: Floats
    times_s: Floats
    slowness_s_deg: Floats
    step_deg: float
    step_km: float
    per_depth: int

    @classmethod
    def read(cls, path: Path) -> "RealTable":
        """From ttdb.txt. Raises NoInputError, or DataError if its rows form no regular grid."""
        lines = [line.split()[:8] for line in read_text(path).splitlines()]
        try:
            columns = np.array(lines, np.float64).T
        except ValueError as error:
            raise DataError(f"{path} is no travel-time table of REAL: {error}") from error
        per_depth = int(np.count_nonzero(columns[1] == columns[1, 0]))
        if len(lines) % per_depth or len(lines) < 2 * per_depth:
            raise DataError(f"{path} has not as many distances at each depth, or only one depth")
        return cls(
            distance_deg=columns[0],
            times_s=columns[2:4],
            slowness_s_deg=columns[4:6],
            step_deg=float(columns[0, 1] - columns[0, 0]),
            step_km=float(columns[1, per_depth] - columns[1, 0]),
            per_depth=per_depth,
        )

    @property
    def farthest_deg(self) -> float:
        """Greatest distance that REAL uses with this table."""
        return self.per_depth * self.step_deg - 0.05

    def times(self, station: NDArray[np.int64], distance_deg: Floats, depth_km: Floats) -> Floats:
        """P and S travel times in s, [phase, path]; depths at nodes, all stations alike."""
        row = np.rint(depth_km / self.step_km).astype(int) * self.per_depth
        column = np.rint(distance_deg / self.step_deg).astype(int)
        index = np.minimum(row + column, len(self.distance_deg) - 1)
        beyond_deg = distance_deg - self.distance_deg[index]
        times: Floats = self.times_s[:, index] + beyond_deg * self.slowness_s_deg[:, index]
        return times


@dataclass(frozen=True)
class CatalogueEvent:
    """An event of phase_sel.txt: origin (s of the day, deg, km), spread, counts, gap, picks.

    `picks` holds (NET, STA, phase, s of the day), `residuals_s` what the origin leaves of each.
    """

    time_s: float
    std_s: float
    lat: float
    lon: float
    depth_km: float
    counts: tuple[int, int, int, int]
    gap_deg: float
    picks: list[tuple[str, str, str, float]]
    residuals_s: list[float]


def read_real_catalogue(path: Path) -> list[CatalogueEvent]:
    """Events of REAL's phase_sel.txt with their picks. Raises NoInputError, DataError."""
    events: list[CatalogueEvent] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        cells = line.split()
        try:
            if cells[2] in PHASES:
                events[-1].picks.append((cells[0], cells[1], cells[2], float(cells[3])))
                events[-1].residuals_s.append(float(cells[6]))
                continue
            time_s, std_s, lat, lon, depth_km = map(float, cells[5:10])
            n_p, n_s, n_picks, n_both = map(int, cells[12:16])
        except (IndexError, ValueError) as error:
            raise DataError(f"{path} line {number} is not REAL's: {error}") from error
        events.append(
            CatalogueEvent(
                time_s,
                std_s,
                lat,
                lon,
                depth_km,
                (n_p, n_s, n_picks, n_both),
                float(cells[16]),
                [],
                [],
            )
        )
    return events
