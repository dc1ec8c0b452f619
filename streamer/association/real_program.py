"""The REAL program as an engine: windows of picks go through its files, its events come back.

The program keeps arrays of fixed sizes and times from midnight; what does not fit is refused here.

    windows -> station.dat, picks/, ttdb.txt -> REAL -> phase_sel.txt -> rows of the pick table
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.association.external import find_program, run_program
from streamer.association.geodesy import KM_PER_DEG, Floats, distances_km
from streamer.association.parameters import RealParameters
from streamer.association.pickfiles import PHASES, PickTable
from streamer.association.real import Node, RealEvent
from streamer.association.real_files import program_arguments, read_real_catalogue
from streamer.association.stations import Station
from streamer.association.traveltimes import first_arrival_s
from streamer.association.velocity import LayeredModel
from streamer.errors import ConfigError, DataError
from streamer.timebase import NS_PER_S

Ints = NDArray[np.int64]

# Sizes of the program's arrays.
MOST_STATIONS, MOST_PICKS, MOST_TABLE_LINES = 500, 20_000, 20_000
# Windows overlap by this many times the time S takes across the network: more than twice, so that
# every event is whole in the window that owns its origin.
OVERLAP_CROSSINGS = 2.5
# Lengths in overlaps, and in s at least: the program's memory grows with the picks of a window.
WINDOW_OVERLAPS, SHORTEST_WINDOW_S = 4.0, 3600.0
# The program clips times below 0: its day begins at least this long before the window.
BEFORE_S = 600.0
# Steps of the travel-time table, as shares of those of the search grid.
DISTANCE_STEP_SHARE, DEPTH_STEP_SHARE = 0.2, 0.5
# Range of the table beyond the farthest station: the program stops 0.05 deg before its end.
BEYOND_DEG = 0.06
SLOPE_KM = 1e-4  # half the step of the differences that give slowness
TIME_STEPS_PER_S = 10_000  # picks are known by their time to 0.1 ms
DEFAULT_TIMEOUT_S = 600.0


class RealProgram:
    """The program for one network. Raises ConfigError for what it cannot express."""

    def __init__(
        self,
        stations: Sequence[Station],
        model: LayeredModel,
        rules: RealParameters,
        program: Path | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._program = program or find_program("REAL", "use the engine native, which repeats it")
        self._stations = stations
        self._model = model
        self._rules = rules
        self._timeout_s = timeout_s
        if len(stations) > MOST_STATIONS:
            raise ConfigError(
                f"{len(stations)} stations: the program REAL takes {MOST_STATIONS} at most"
            )
        if low := [station for station in stations if station.elev_km < 0]:
            raise ConfigError(
                f"the program REAL knows no sensors below sea level, such as {low[0].net}."
                f"{low[0].sta} at {low[0].elev_km:g} km: use the engine native"
            )
        lat, lon = (np.array([getattr(s, name) for s in stations]) for name in ("lat", "lon"))
        self._widest_deg = float(distances_km(lat, lon, lat, lon).max()) / KM_PER_DEG
        reach_km = (self._widest_deg + rules.search_half_width_deg) * KM_PER_DEG
        slowest_s = first_arrival_s(
            reach_km, np.array([0.0, rules.deepest_km]), 0.0, model.top_km, model.vs_km_s
        )
        self._overlap_s = OVERLAP_CROSSINGS * float(slowest_s.max())
        self._window_s = max(SHORTEST_WINDOW_S, WINDOW_OVERLAPS * self._overlap_s)

    def associate(
        self, table: PickTable, on_progress: Callable[[float], None] = lambda time_s: None
    ) -> list[RealEvent]:
        """All events in the picks by time; `on_progress` hears the time reached.

        Raises MsnetError with the program's output if it fails, DataError for too many picks.
        """
        found: list[RealEvent] = []
        for rows, owned_s in self._windows(table):
            events = self._run(table, rows)
            margin_s = self._rules.event_separation_s
            found += [
                event
                for event in events
                if owned_s[0] - margin_s <= event.node.time_s < owned_s[1] + margin_s
            ]
            on_progress(float(table.time_s[rows[-1]]))
        return _once(found, self._rules)

    def _windows(self, table: PickTable) -> Iterator[tuple[Ints, tuple[float, float]]]:
        """Rows of each window, and between which origin times its events count."""
        first, owned_from_s = 0, -math.inf
        while first < len(table):
            end = self._end(table, first)
            end_s = math.inf if end == len(table) else float(table.time_s[end])
            owned_to_s = end_s - self._overlap_s / 2
            yield np.arange(first, end), (owned_from_s, owned_to_s)
            if end == len(table):
                return
            owned_from_s = owned_to_s
            first = int(np.searchsorted(table.time_s, end_s - self._overlap_s))

    def _end(self, table: PickTable, first: int) -> int:
        """Where a window ends: in time, or before a station has more picks than fit."""
        start_s = float(table.time_s[first])
        end = int(np.searchsorted(table.time_s, start_s + self._window_s))
        path = table.station[first:end].astype(np.int64) * len(PHASES) + table.phase[first:end]
        if end - first > MOST_PICKS:
            for one in np.flatnonzero(np.bincount(path) > MOST_PICKS):
                end = min(end, first + int(np.flatnonzero(path == one)[MOST_PICKS]))
        if end < len(table) and table.time_s[end] - start_s <= self._overlap_s:
            station = self._stations[table.station[end]]
            raise DataError(
                f"the program REAL takes {MOST_PICKS} picks of a station and phase, and "
                f"{station.net}.{station.sta} has more within {self._overlap_s:.0f} s"
            )
        return end

    def _run(self, table: PickTable, rows: Ints) -> list[RealEvent]:
        """The program's events in some rows of the table."""
        start_ns = table.epoch_ns + math.floor((table.time_s[rows[0]] - BEFORE_S) * NS_PER_S)
        day = datetime.fromtimestamp(start_ns // NS_PER_S, UTC).replace(hour=0, minute=0, second=0)
        day_s = int(day.timestamp()) - table.epoch_ns // NS_PER_S
        used = np.unique(table.station[rows]).astype(np.int64)
        with tempfile.TemporaryDirectory(prefix="msnet-real-") as scratch:
            folder = Path(scratch)
            names = {int(station): f"S{n:04d}" for n, station in enumerate(used)}
            self._write_stations(folder / "station.dat", names)
            known = _write_picks(folder / "picks", table, rows, names, day_s)
            ranges = self._write_table(folder / "ttdb.txt")
            arguments = program_arguments(
                self._rules, day, self._map_lat(used), self._surface(), ranges, self._reach_deg()
            )
            files = ("station.dat", "picks", "ttdb.txt")
            run_program([self._program, *arguments, *files], folder, self._timeout_s)
            return list(_read_back(folder, known, day_s))

    def _map_lat(self, used: Ints) -> float:
        lat = self._rules.map_lat
        return float(np.mean([self._stations[i].lat for i in used])) if lat is None else lat

    def _surface(self) -> tuple[float, float] | None:
        """P and S velocities below stations, if any of them stands above sea level."""
        if all(station.elev_km == 0 for station in self._stations):
            return None
        return float(self._model.vp_km_s[0]), float(self._model.vs_km_s[0])

    def _reach_deg(self) -> float:
        """Greatest distance of a station from a source."""
        return min(self._rules.greatest_distance_deg, self._widest_deg)

    def _write_stations(self, path: Path, names: dict[int, str]) -> None:
        """Stations under short names: the program's codes are short, and it does not check them."""
        lines = []
        for i, name in names.items():
            station = self._stations[i]
            lines.append(
                f"{station.lon:.6f} {station.lat:.6f} XX {name} HHZ {station.elev_km:.4f}\n"
            )
        path.write_text("".join(lines))

    def _write_table(self, path: Path) -> tuple[float, float, float, float]:
        """Travel times; returns their ranges and steps (deg, km, deg, km) as -G has them."""
        rules = self._rules
        step_km = DEPTH_STEP_SHARE * rules.grid_step_km
        depths: Floats = step_km * np.arange(math.ceil(rules.deepest_km / step_km) + 2.0)
        range_deg = self._reach_deg() + rules.search_half_width_deg + BEYOND_DEG
        most = MOST_TABLE_LINES // len(depths)
        step_deg = max(DISTANCE_STEP_SHARE * rules.grid_step_deg, range_deg / (most - 1))
        distances: Floats = step_deg * np.arange(1.0, math.ceil(range_deg / step_deg) + 1)
        columns = _table_columns(self._model, distances, depths)
        lines = [
            " ".join(f"{value:.6f}" for value in line) + " P S\n"
            for depth in columns
            for line in depth.T.tolist()
        ]
        path.write_text("".join(lines))
        return float(distances[-1]), float(depths[-1]), step_deg, step_km


def _table_columns(model: LayeredModel, distances_deg: Floats, depths_km: Floats) -> Floats:
    """Lines of ttdb.txt, [depth, column, distance]: distance, depth, times, slownesses."""
    km, depth = np.meshgrid(distances_deg * KM_PER_DEG, depths_km)
    columns: list[Floats] = []
    for speed in (model.vp_km_s, model.vs_km_s):
        time, far, near, deep, shallow = (
            first_arrival_s(km + by_km, depth + by_depth_km, 0.0, model.top_km, speed)
            for by_km, by_depth_km in (
                (0, 0), (SLOPE_KM, 0), (-SLOPE_KM, 0), (0, SLOPE_KM), (0, -SLOPE_KM),
            )
        )  # fmt: skip
        slope = 0.5 / SLOPE_KM
        columns += [time, (far - near) * slope * KM_PER_DEG, (deep - shallow) * slope]
    p_s, p_deg, p_km, s_s, s_deg, s_km = columns
    place = [np.broadcast_to(distances_deg, km.shape), depth]
    return np.stack([*place, p_s, s_s, p_deg, s_deg, p_km, s_km], axis=1)


_Known = dict[tuple[str, str, int], int]


def _write_picks(
    folder: Path, table: PickTable, rows: Ints, names: dict[int, str], day_s: int
) -> _Known:
    """A file for each station and phase, empty if it has no picks: the program opens them all.

    Returns the row of each pick by name, phase and time in steps of 0.1 ms.
    """
    folder.mkdir()
    known: _Known = {}
    lines: dict[tuple[str, str], list[str]] = {
        (name, phase): [] for name in names.values() for phase in PHASES
    }
    for row in rows.tolist():
        name, phase = names[int(table.station[row])], PHASES[table.phase[row]]
        step = round((float(table.time_s[row]) - day_s) * TIME_STEPS_PER_S)
        twin = known.get((name, phase, step))
        if twin is not None and table.prob[twin] >= table.prob[row]:
            continue  # the program keeps one of such a pair too
        known[name, phase, step] = row
        amp = float(np.nan_to_num(table.amp[row]))
        lines[name, phase].append(
            f"{step / TIME_STEPS_PER_S:.4f} {table.prob[row]:.4f} {amp:.6e}\n"
        )
    for (name, phase), text in lines.items():
        (folder / f"XX.{name}.{phase}.txt").write_text("".join(text))
    return known


def _read_back(folder: Path, known: _Known, day_s: int) -> Iterator[RealEvent]:
    """Events of phase_sel.txt. Raises DataError for a pick that was never given."""
    path = folder / "phase_sel.txt"
    if not path.exists():
        raise DataError(f"the program REAL wrote no {path.name}")
    for event in read_real_catalogue(path):
        try:
            rows = [
                known[sta, phase, round(time_s * TIME_STEPS_PER_S)]
                for _, sta, phase, time_s in event.picks
            ]
        except KeyError as error:
            raise DataError(f"the program REAL names a pick it was not given: {error}") from error
        n_p, n_s, _, n_both = event.counts
        node = Node(
            event.time_s + day_s, event.lat, event.lon, event.depth_km, event.std_s, n_p, n_s,
            n_both, math.nan, event.gap_deg,
        )  # fmt: skip
        yield RealEvent(node, np.array(rows, np.int64), np.array(event.residuals_s))


def _once(events: list[RealEvent], rules: RealParameters) -> list[RealEvent]:
    """Events by time, each pick in one of them: that with more picks, of two with less spread.

    Where two windows saw one event, the other copy loses most of its picks and is dropped.
    """
    taken: set[int] = set()
    kept = []
    for event in sorted(events, key=lambda event: (-len(event.picks), event.node.std_s)):
        free = np.array([row not in taken for row in event.picks.tolist()])
        if 2 * free.sum() > len(free) and free.sum() >= rules.least_picks:
            taken.update(event.picks[free].tolist())
            kept.append(replace(event, picks=event.picks[free], residual_s=event.residual_s[free]))
    return sorted(kept, key=lambda event: event.node.time_s)
