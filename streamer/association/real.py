"""REAL: rapid earthquake association and location (Zhang, Ellsworth & Beroza, 2019).

The published algorithm as its program runs it, faster: each P pick in turn starts a search of a
grid around its station for the node that the most picks fit; the best nodes become candidates,
candidates compete for time and for picks. Same order, same ties, same windows.

    pick -> search -> candidate -> strongest_in_time -> collect -> without_far -> share out
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamer.association import real_kernels as kernels
from streamer.association.geodesy import KM_PER_DEG, Floats
from streamer.association.parameters import RealParameters
from streamer.association.pickfiles import P, PickTable, S
from streamer.association.stations import Station

Ints = NDArray[np.int64]

FLATTENING = 1 / 298.257  # of the ellipsoid on which REAL measures distances
# The grid is moved by this part of a step, so that no node coincides with a station.
NODE_SHIFT = 0.01234
# An event of few picks, up to FEW times the least number, must lie near its stations: the mean of
# their weights, cos(60 deg x distance / greatest distance), must be NEAR_WEIGHT at least.
FEW, NEAR_WEIGHT = 2.0, 0.85
S_PER_P = 1.731  # travel time of S for that of P, to compare all picks by distance
FAR_FACTOR = 0.75  # of the outlier factor, for picks of far stations
SHARED_STD = 2.0  # a shared pick changes its event only if it fits the other within this many std
# Tables of travel-time offsets kept, by memory: one for each station that starts searches.
TABLES_BYTES = 112 * 2**20

# P and S travel times in s, [phase, path], of paths given by the index of the station, the distance
# from it (deg) and the depth of the source (km below sea level), each [path].
Times = Callable[[Ints, Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class Node:
    """What one node explains: origin, its spread by the picks, counts, weighted count, gap."""

    time_s: float
    lat: float
    lon: float
    depth_km: float
    std_s: float
    n_p: int
    n_s: int
    n_both: int
    weight: float
    gap_deg: float

    def passes(self, rules: RealParameters) -> bool:
        """Whether it is an event by the least numbers and greatest errors of the parameters."""
        n_picks = self.n_p + self.n_s
        return (
            self.n_p >= rules.least_p
            and self.n_s >= rules.least_s
            and n_picks >= rules.least_picks
            and self.n_both >= rules.least_both
            and (n_picks > FEW * rules.least_picks or self.weight >= NEAR_WEIGHT * n_picks)
            and self.std_s <= rules.greatest_std_s
            and self.gap_deg <= rules.greatest_gap_deg
        )


@dataclass(slots=True)
class RealEvent:
    """An origin at a node, and its picks: rows of the pick table with residuals, by azimuth."""

    node: Node
    picks: Ints
    residual_s: Floats


class _Picks:
    """The picks of one phase station by station, of each crowd only the most probable."""

    def __init__(self, table: PickTable, phase: int, stations: Ints, crowd_s: float) -> None:
        rows = []
        for station in stations:
            row = np.flatnonzero((table.station == station) & (table.phase == phase))
            rows.append(row[_best_of_crowds(table.time_s[row], table.prob[row], crowd_s)])
        self.rows: Ints = np.concatenate([np.empty(0, np.int64), *rows])
        self.times: Floats = table.time_s[self.rows]
        self.starts: Ints = np.cumsum([0, *map(len, rows)])
        self._low = np.zeros(len(stations), np.int64)
        self._high = np.zeros(len(stations), np.int64)

    def between(self, early_s: float, late_s: float) -> Ints:
        """First and last index + 1 of the picks to look at, [station, 2]; times only advance.

        As in REAL the last pick before `early_s` belongs to them.
        """
        kernels.advance(self.times, self.starts, self._low, early_s)
        kernels.advance(self.times, self.starts, self._high, late_s)
        first = self.starts[:-1] + np.maximum(self._low - 1, 0)
        return np.stack([first, self.starts[:-1] + self._high], axis=1)


def _best_of_crowds(time_s: Floats, prob: Floats, crowd_s: float) -> NDArray[np.bool_]:
    """Which picks to keep: of two neighbours closer than `crowd_s` the more probable one."""
    close = np.diff(time_s) < crowd_s
    later_wins = prob[1:] > prob[:-1]
    keep = np.ones(len(time_s), np.bool_)
    keep[1:] &= ~(close & ~later_wins)
    keep[:-1] &= ~(close & later_wins)
    return keep


class Real:
    """The associator for one network. `farthest_deg` is the range of the travel times, if any."""

    def __init__(
        self,
        stations: Sequence[Station],
        times: Times,
        rules: RealParameters,
        farthest_deg: float = math.inf,
    ) -> None:
        self.rules = rules
        self._stations = stations
        self._times = times
        self._farthest_deg = farthest_deg
        cell_km = math.sqrt(2 * (rules.grid_step_deg * KM_PER_DEG) ** 2 + rules.grid_step_km**2)
        self.p_window_s = cell_km / rules.window_vp_km_s
        self.s_window_s = cell_km / rules.window_vs_km_s
        self._half_p_s = rules.window_factor * self.p_window_s / 2
        self._half_s_s = rules.window_factor * self.s_window_s / 2
        self._last: tuple[Ints, _Network] | None = None

    def associate(
        self,
        table: PickTable,
        on_progress: Callable[[float], None] = lambda time_s: None,
        stations: Ints | None = None,
    ) -> list[RealEvent]:
        """All events in the picks by time; `on_progress` hears the time reached.

        `stations`: indices, ascending, of those that make up the network; by default those that
        have picks, as in REAL.
        """
        used = np.unique(table.station).astype(np.int64) if stations is None else stations
        if not len(table):
            return []
        network = self._network(used)
        p_picks = _Picks(table, P, used, self.p_window_s)
        s_picks = _Picks(table, S, used, self.s_window_s)
        candidates = list(self._candidates(network, p_picks, s_picks, on_progress))
        candidates.sort(key=lambda node: node.time_s)
        kept = kernels.strongest_in_time(
            np.array([node.time_s for node in candidates]),
            np.array([node.weight for node in candidates]),
            np.array([node.std_s for node in candidates]),
            max(self.rules.event_separation_s, 2 * self._half_s_s),
        )
        nodes = [node for node, keep in zip(candidates, kept, strict=True) if keep]
        events = [self._collect(network, node, p_picks, s_picks) for node in nodes]
        events = [self._without_far(event, table, network) for event in events]
        _share_out(events, table)
        final = [_recounted(event, table, network) for event in events]
        return [event for event in final if event.node.passes(self.rules)]

    def _network(self, used: Ints) -> "_Network":
        """The network of some stations; that of the last call is kept with its grids."""
        if self._last is None or not np.array_equal(self._last[0], used):
            stations = [self._stations[i] for i in used]
            network = _Network(stations, used, self._times, self.rules, self._farthest_deg)
            self._last = used, network
        return self._last[1]

    def _candidates(
        self,
        network: "_Network",
        p_picks: _Picks,
        s_picks: _Picks,
        on_progress: Callable[[float], None],
    ) -> Iterator[Node]:
        """The best node for each P pick in order of time that no earlier candidate explains."""
        pool = p_picks.times.copy()
        heads, ends = p_picks.starts[:-1].copy(), p_picks.starts[1:]
        latest_s = p_picks.times.max(initial=-math.inf)
        while True:
            first = np.where(heads < ends, pool[np.minimum(heads, len(pool) - 1)], math.inf)
            station = int(np.argmin(first))
            t_s = float(first[station])
            if t_s >= latest_s:  # as in REAL the last pick starts no search
                return
            on_progress(t_s)
            node = self._search(network, station, t_s, p_picks, s_picks)
            removed = 0
            if node is not None:
                yield node
                if self.rules.removal_factor > 0:
                    removed = kernels.remove_explained(
                        pool,
                        heads,
                        ends,
                        node.time_s + network.to(node)[1][P],
                        self.rules.removal_factor * self.p_window_s / 2,
                        self._reach_s(network, t_s, self.rules.window_vp_km_s)[1],
                    )
            if not removed:
                kernels.remove_pick(pool, heads, station, int(heads[station]))

    def _reach_s(self, network: "_Network", t_s: float, v_km_s: float) -> tuple[float, float]:
        """When picks of an event may lie whose P wave reached one station at `t_s`."""
        across_s = network.greatest_distance_deg * KM_PER_DEG / v_km_s
        half = self._half_p_s if v_km_s == self.rules.window_vp_km_s else self._half_s_s
        return t_s - 0.5 * across_s - 2 * half, t_s + across_s + 2 * half

    def _search(
        self, network: "_Network", station: int, t_s: float, p_picks: _Picks, s_picks: _Picks
    ) -> Node | None:
        """The node with the most picks, of several the one with the least spread."""
        rules = self.rules
        p_range = p_picks.between(*self._reach_s(network, t_s, rules.window_vp_km_s))
        s_range = s_picks.between(*self._reach_s(network, t_s, rules.window_vs_km_s))
        has_p, has_s = p_range[:, 1] > p_range[:, 0], s_range[:, 1] > s_range[:, 0]
        if has_p.sum() + has_s.sum() < rules.least_picks:
            return None
        grid = network.grid(station)
        windows = (self._half_p_s, self._half_s_s, rules.least_s_minus_p_s)
        most = kernels.count_picks(
            t_s, grid.offsets, p_picks.times, p_range, s_picks.times, s_range, *windows,
            *network.scratch,
        )  # fmt: skip
        if most < rules.least_picks:
            return None
        best: Node | None = None
        estimates, owners = np.empty(2 * len(p_range)), np.empty(2 * len(p_range), np.int64)
        for i in np.flatnonzero(network.scratch[0] == most).tolist():
            n_p, n_s, n_both, weight = kernels.origin_times(
                t_s, i, grid.offsets, grid.p_travel_s, grid.weights, p_picks.times, p_range,
                s_picks.times, s_range, *windows, estimates, owners,
            )  # fmt: skip
            time_s, std_s = kernels.median_and_std(estimates[: n_p + n_s])
            node = Node(time_s, *grid.place(i), std_s, n_p, n_s, n_both, weight, gap_deg=0.0)
            if node.passes(rules) and (best is None or std_s < best.std_s):
                best, picked = node, owners[: n_p + n_s].copy()
        if best is None:
            return None
        _, _, azimuth = network.to(best)
        gap_deg = _gap_deg(np.sort(azimuth[picked]))
        return best if gap_deg <= rules.greatest_gap_deg else None

    def _collect(
        self, network: "_Network", node: Node, p_picks: _Picks, s_picks: _Picks
    ) -> RealEvent:
        """The picks that fit a node, without outliers, in order of stations."""
        rules = self.rules
        distance, travel_s, _ = network.to(node)
        half_p = min(self._half_p_s, rules.outlier_factor * node.std_s)
        half_s = min(self._half_s_s, rules.outlier_factor * node.std_s)
        picks, residual_s = [], []
        weight = 0.0
        for i in np.flatnonzero(distance < network.greatest_distance_deg):
            p_s, s_s = node.time_s + travel_s[:, i]
            first, last = p_picks.starts[i : i + 2]
            p = kernels.first_inside(p_picks.times, first, last, p_s, half_p, node.time_s)
            after_s = node.time_s
            if p >= 0:
                picks.append(p_picks.rows[p])
                residual_s.append(p_picks.times[p] - p_s)
                weight += network.weight(distance[i])
                after_s = max(after_s, p_picks.times[p] + rules.least_s_minus_p_s)
            if s_s - p_s <= rules.least_s_minus_p_s:
                continue
            first, last = s_picks.starts[i : i + 2]
            s = kernels.first_inside(s_picks.times, first, last, s_s, half_s, after_s)
            if s >= 0:
                picks.append(s_picks.rows[s])
                residual_s.append(s_picks.times[s] - s_s)
                weight += network.weight(distance[i])
        node = Node(*_origin(node), node.std_s, 0, 0, 0, weight, 360.0)
        return RealEvent(node, np.array(picks, np.int64), np.array(residual_s))

    def _without_far(self, event: RealEvent, table: PickTable, network: "_Network") -> RealEvent:
        """Without picks of stations much farther than the others; empty if the nearest is far."""
        rules = self.rules
        for repeat in range(2):
            phase = table.phase[event.picks]
            travel_s = table.time_s[event.picks] - event.node.time_s
            as_s = np.where(phase == P, S_PER_P * travel_s, travel_s)
            nearest_km = as_s.min(initial=math.inf) * rules.window_vs_km_s
            limit_km = rules.nearest_share * network.greatest_distance_deg * KM_PER_DEG
            if repeat == 0 and nearest_km > limit_km:
                return RealEvent(event.node, event.picks[:0], event.residual_s[:0])
            kept = kernels.without_far(as_s, FAR_FACTOR * rules.outlier_factor)
            event = RealEvent(event.node, event.picks[kept], event.residual_s[kept])
        order = np.arange(len(event.picks))
        _, _, azimuth = network.to(event.node)
        kernels.by_azimuth(order, azimuth[network.position(table.station[event.picks])])
        return RealEvent(event.node, event.picks[order], event.residual_s[order])


def _origin(node: Node) -> tuple[float, float, float, float]:
    return node.time_s, node.lat, node.lon, node.depth_km


def _gap_deg(azimuth_deg: Floats) -> float:
    """Largest step of azimuths in the given order, REAL's gap; they ascend for it to be one."""
    if not len(azimuth_deg):
        return 360.0
    return float(np.max(np.diff(azimuth_deg, append=azimuth_deg[0] + 360.0)))


def _share_out(events: list[RealEvent], table: PickTable) -> None:
    """Leave each pick that two events claim to one of them."""
    if not events:
        return
    counts = np.array([len(event.picks) for event in events])
    picks = np.full((len(events), counts.max()), -1)
    residual_s = np.zeros(picks.shape)
    for row, event in enumerate(events):
        picks[row, : counts[row]] = event.picks
        residual_s[row, : counts[row]] = event.residual_s
    kernels.share_out(
        picks,
        residual_s,
        counts,
        np.array([event.node.time_s for event in events]),
        np.array([event.node.weight for event in events]),
        np.array([SHARED_STD * event.node.std_s for event in events]),
        table.time_s,
    )
    for row, event in enumerate(events):
        event.picks = picks[row, : max(counts[row], 0)]
        event.residual_s = residual_s[row, : max(counts[row], 0)]


def _recounted(event: RealEvent, table: PickTable, network: "_Network") -> RealEvent:
    """The event with counts, spread and gap of the picks it has kept."""
    distance, _, azimuth = network.to(event.node)
    station = network.position(table.station[event.picks])
    phase = table.phase[event.picks]
    n_p, n_s = int(np.sum(phase == P)), int(np.sum(phase == S))
    n_both = len(station) - len(np.unique(station))
    weight = float(sum(network.weight(distance[i]) for i in station))
    std_s = kernels.median_and_std(event.residual_s)[1] if len(station) else math.inf
    node = Node(*_origin(event.node), std_s, n_p, n_s, n_both, weight, _gap_deg(azimuth[station]))
    return RealEvent(node, event.picks, event.residual_s)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Nodes around a station: [station, phase, node] offsets, [node] P time to the station."""

    lat: Floats
    lon: Floats
    depth_km: Floats
    offsets: Floats
    p_travel_s: Floats
    weights: NDArray[np.float32]

    def place(self, node: int) -> tuple[float, float, float]:
        """Latitude, longitude, depth of a node."""
        return float(self.lat[node]), float(self.lon[node]), float(self.depth_km[node])


class _Network:
    """The stations that have picks, and the grids around them."""

    def __init__(
        self,
        stations: list[Station],
        indices: Ints,
        times: Times,
        rules: RealParameters,
        farthest_deg: float,
    ) -> None:
        self._indices = indices
        self._times = times
        self._rules = rules
        self._lat = np.array([station.lat for station in stations])
        self._lon = np.array([station.lon for station in stations])
        diagonal_deg, _ = distance_azimuth_deg(
            self._lat.min(), self._lon.min(), self._lat.max(), self._lon.max()
        )
        self.greatest_distance_deg = min(
            rules.greatest_distance_deg, farthest_deg, float(diagonal_deg)
        )
        self._steps = _grid_steps(rules, self._lat)
        nodes = math.prod(len(steps) for steps in self._steps)
        self.scratch = np.empty(nodes, np.int64), np.empty(nodes), np.empty(nodes, np.int64)
        table_bytes = (2 * 8 + 4) * nodes * len(stations)
        self.grid = lru_cache(maxsize=max(1, TABLES_BYTES // table_bytes))(self._make_grid)

    def position(self, station: NDArray[np.int32]) -> Ints:
        """Where the stations with these indices are among those that have picks."""
        return np.searchsorted(self._indices, station)

    def weight(self, distance_deg: float) -> float:
        """What a pick counts: 1 near the source, 1/2 at the greatest distance."""
        return math.cos(distance_deg * math.pi / 3 / self.greatest_distance_deg)

    def to(self, node: Node) -> tuple[Floats, Floats, Floats]:
        """Distances (deg), travel times [phase, station] (s), back azimuths (deg) of a node."""
        distance, azimuth = distance_azimuth_deg(self._lat, self._lon, node.lat, node.lon)
        depth = np.full(len(distance), node.depth_km)
        return distance, self._times(self._indices, distance, depth), azimuth

    def _make_grid(self, station: int) -> _Grid:
        rules = self._rules
        centre_lat, centre_lon = rules.centre_lat, rules.centre_lon
        if centre_lat is None or centre_lon is None:
            centre_lat, centre_lon = float(self._lat[station]), float(self._lon[station])
        north, east, depth = self._steps
        lat, lon, depth = (
            axis.ravel()
            for axis in np.meshgrid(centre_lat + north, centre_lon + east, depth, indexing="ij")
        )
        distance, _ = distance_azimuth_deg(self._lat[:, None], self._lon[:, None], lat, lon)
        travel = np.empty((len(self._lat), 2, len(lat)))
        for i, index in enumerate(self._indices):
            travel[i] = self._times(np.full(len(lat), index), distance[i], depth)
        p_travel = travel[station, P].copy()
        travel -= p_travel
        travel.swapaxes(0, 1)[:, distance >= self.greatest_distance_deg] = np.nan
        weights = np.cos(distance * math.pi / 3 / self.greatest_distance_deg).astype(np.float32)
        return _Grid(lat, lon, depth, travel, p_travel, weights)


def _grid_steps(rules: RealParameters, station_lat: Floats) -> tuple[Floats, Floats, Floats]:
    """Offsets of the nodes from the centre: north (deg), east (deg), depth (km).

    The numbers of nodes are cut off like in REAL, where rounding sometimes costs one.
    """
    lat = float(station_lat.mean()) if rules.map_lat is None else rules.map_lat
    shrink = math.cos(math.radians(lat))
    half, step = rules.search_half_width_deg, rules.grid_step_deg
    n_depths = int(rules.deepest_km / rules.grid_step_km + 1)
    depth = np.arange(n_depths, dtype=np.float64) * rules.grid_step_km
    return _axis(half, step), _axis(half / shrink, step / shrink), depth


def _axis(half: float, step: float) -> Floats:
    n_nodes = int(2 * half / step + 1)
    return np.arange(n_nodes, dtype=np.float64) * step - half + NODE_SHIFT * step


def distance_azimuth_deg(
    lat: Floats | float, lon: Floats | float, source_lat: Floats | float, source_lon: Floats | float
) -> tuple[Floats, Floats]:
    """Arc from source to station and azimuth of the source at the station, deg, as REAL has them.

    On the unit sphere of geocentric latitudes (Bullen & Bolt, An Introduction to the Theory of
    Seismology, 1985, section 7.1).
    """
    shrink = (1 - FLATTENING) ** 2
    phi = np.arctan(shrink * np.tan(np.radians(lat)))
    source_phi = np.arctan(shrink * np.tan(np.radians(source_lat)))
    east = np.radians(np.asarray(lon) - np.asarray(source_lon))
    cosine = np.sin(phi) * np.sin(source_phi) + np.cos(phi) * np.cos(source_phi) * np.cos(east)
    azimuth = np.arctan2(
        -np.sin(east) * np.cos(source_phi),
        np.cos(phi) * np.sin(source_phi) - np.sin(phi) * np.cos(source_phi) * np.cos(east),
    )
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))), np.degrees(azimuth) % 360.0
