"""Double differences: events placed by how their picks differ from those of their neighbours.

What the paths of two neighbouring events have in common, a station's delay or rock that the model
does not know, cancels in the difference of their residuals at a station (Waldhauser & Ellsworth,
2000). A whole catalogue is relocated at once; a single new event against a relocated catalogue that
stays as it is (Waldhauser, 2009), as soon as it is located.

    events -> neighbours -> rows (pair, path) -> robust least squares -> places -> again
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import lsqr

from streamer.association import best_kernels as kernels
from streamer.association.geodesy import Floats, azimuths_deg, east_north_km, moved
from streamer.association.locate import GREATEST_ERROR_KM, error_ellipse
from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.parameters import RelocationParameters
from streamer.association.pickfiles import PHASES
from streamer.timebase import NS_PER_S, iso, parse_iso

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

MOST_ROUNDS = 15
# Rounds before outliers lose weight: the first places may be far off.
ROUNDS_OF_ALL = 2
# A row weighs (1 - u^2)^2 by its residual in so many sigma, and by the distance of its pair.
OUTLIER_SIGMA = 5.0
LEAST_SIGMA_S = 1e-5
MAD_TO_SIGMA = 1.4826
# A round's change of place is damped as if it were known to this share of the separation, and the
# last one is shorter than that share of it.
DAMPING_SHARE, LAST_SHARE = 1.0, 1e-4
LSQR_ROUNDS = 200


class _Rows(NamedTuple):
    """Differences of two events on one path: [row] indices of both and of the path, and weight."""

    first: Ints
    second: Ints
    path: Ints
    weight: Floats


class _Places(NamedTuple):
    """Of events: latitude, longitude (deg), depth (km), s to add to their origin times, [event]."""

    lat: Floats
    lon: Floats
    depth_km: Floats
    later_s: Floats


@dataclass(frozen=True)
class Catalogue:
    """Events with what they observe: travel time (s, from the origin) and weight, [event, path].

    A path is phase x stations + station; times are NaN where an event has no pick.
    """

    events: tuple[Event, ...]
    places: _Places
    travel_s: Floats
    weight: Floats

    @classmethod
    def of(cls, events: Sequence[Event], network: Network) -> "Catalogue":
        """The events as they are; picks of stations that the network lacks are left out."""
        index = {station.code: i for i, station in enumerate(network.stations)}
        shape = len(events), len(PHASES) * len(network.stations)
        travel_s, weight = np.full(shape, np.nan), np.zeros(shape)
        for row, event in enumerate(events):
            for arrival in event.arrivals:
                station = index.get((arrival.net, arrival.sta))
                if station is None:
                    continue
                path = PHASES.index(arrival.phase) * len(network.stations) + station
                travel_s[row, path] = (parse_iso(arrival.time) - event.t_ns) / NS_PER_S
                weight[row, path] = arrival.weight
        lat, lon, depth_km = (
            np.array([getattr(event, name) for event in events], np.float64)
            for name in ("lat", "lon", "depth_km")
        )
        places = _Places(lat, lon, depth_km, np.zeros(len(events)))
        return cls(tuple(events), places, travel_s, weight)


class DoubleDifference:
    """Relocation for one network; nothing is kept between calls, so that threads may share it."""

    def __init__(self, network: Network, rules: RelocationParameters) -> None:
        self._network = network
        self._rules = rules
        self._reach_km = rules.greatest_separation_km or network.spacing_km

    def relocate(self, event: Event, reference: Catalogue) -> Event | None:
        """The event relative to relocated ones, which stay; None if too few are near.

        Its errors are those of the place relative to its neighbours.
        """
        return self.relocate_in(Catalogue.of([event], self._network), reference)

    def relocate_in(self, own: Catalogue, reference: Catalogue) -> Event | None:
        """The same for an event in a catalogue of its own."""
        near = self._neighbours(own, 0, reference)
        if len(near) < self._rules.least_neighbours:
            return None
        both = _joined(own, reference, near)
        pairs = np.stack([np.zeros(len(near), np.int64), np.arange(1, len(near) + 1)], axis=1)
        moves = np.arange(len(near) + 1) == 0
        rows = self._rows(both, pairs)
        places, sigma_s = self._solve(both, rows, moves)
        return self._relocated(both, places, rows, sigma_s, 0)

    def relocate_all(self, events: Sequence[Event]) -> list[Event]:
        """All events at once; those with too few neighbours stay as they are."""
        all_of = Catalogue.of(events, self._network)
        near = [self._neighbours(all_of, i, all_of) for i in range(len(events))]
        pairs = sorted({(min(i, k), max(i, k)) for i, own in enumerate(near) for k in own.tolist()})
        counts = np.bincount(np.array(pairs, np.int64).ravel(), minlength=len(events))
        moves = counts >= self._rules.least_neighbours
        if not moves.any():
            return list(events)
        linked = np.array([pair for pair in pairs if moves[pair[0]] and moves[pair[1]]], np.int64)
        rows = self._rows(all_of, linked)
        clusters = _clusters(linked, len(events))[moves]
        places, sigma_s = self._solve(all_of, rows, moves, clusters)
        return [
            self._relocated(all_of, places, rows, sigma_s, i) if moves[i] else event
            for i, event in enumerate(events)
        ]

    def _neighbours(self, own: Catalogue, i: int, others: Catalogue) -> Ints:
        """Events near enough with enough common phases, the nearest of each octant in turn."""
        lat, lon, depth_km, _ = own.places
        east, north = _offsets_km(lat[i], lon[i], others.places)
        down = others.places.depth_km - depth_km[i]
        apart_km = np.sqrt(east**2 + north**2 + down**2)
        links = (np.isfinite(own.travel_s[i]) & np.isfinite(others.travel_s)).sum(axis=1)
        fit = (apart_km <= self._reach_km) & (links >= self._rules.least_links)
        if others is own:
            fit[i] = False
        chosen = np.flatnonzero(fit)
        chosen = chosen[np.argsort(apart_km[chosen], kind="stable")]
        octant = 4 * (east[chosen] > 0) + 2 * (north[chosen] > 0) + (down[chosen] > 0)
        rank = np.empty(len(chosen), np.int64)
        for one in range(8):
            rank[octant == one] = np.arange(np.sum(octant == one))
        order = np.argsort(rank, kind="stable")
        return chosen[order[: self._rules.most_neighbours]]

    def _rows(self, events: Catalogue, pairs: Ints) -> _Rows:
        """A row for each path that both events of a pair have, lighter the farther they are."""
        first, second = pairs.T
        common = np.isfinite(events.travel_s[first]) & np.isfinite(events.travel_s[second])
        pair, path = np.nonzero(common)
        a, b = first[pair], second[pair]
        apart_km = np.array([self._apart_km(events.places, i, k) for i, k in pairs.tolist()])
        near = 1 - np.minimum(apart_km / self._reach_km, 0.99) ** 2
        weight = near[pair] ** 2 * np.sqrt(events.weight[a, path] * events.weight[b, path])
        return _Rows(a, b, path, weight)

    def _apart_km(self, places: _Places, i: int, k: int) -> float:
        east, north = east_north_km(places.lat[i], places.lon[i], places.lat[k], places.lon[k])
        return math.sqrt(east**2 + north**2 + (places.depth_km[i] - places.depth_km[k]) ** 2)

    def _solve(
        self, events: Catalogue, rows: _Rows, moves: Flags, clusters: Ints | None = None
    ) -> tuple[_Places, Floats]:
        """Places once they fit the differences best, and sigma of a difference by phase, s.

        `clusters` numbers those of the moving events that have no fixed ones among them.
        """
        network = self._network
        places = events.places
        column = np.full(len(moves), -1)
        column[moves] = np.arange(moves.sum())
        sigma_s = np.full(len(PHASES), np.inf)
        for number in range(MOST_ROUNDS):
            predicted_s, slopes = _predicted(network, places)
            residual_s = _residuals(events, rows, places, predicted_s)
            weight, sigma_s = self._weights(rows, residual_s, number >= ROUNDS_OF_ALL)
            change = self._step(rows, residual_s, slopes, weight, column)
            if clusters is not None:
                change = _without_shift(change, clusters)
            places = self._moved(places, change, moves)
            longest_km = np.linalg.norm(change[:, :3], axis=1).max()
            if number > ROUNDS_OF_ALL and longest_km < LAST_SHARE * self._reach_km:
                break
        return places, sigma_s

    def _weights(self, rows: _Rows, residual_s: Floats, robust: bool) -> tuple[Floats, Floats]:
        """Weight of each row in 1/s, and sigma by phase."""
        phase = rows.path // len(self._network.stations)
        sigma_s = np.array([_spread(residual_s[phase == one]) for one in range(len(PHASES))])
        scaled = residual_s / (OUTLIER_SIGMA * sigma_s[phase])
        biweight = np.maximum(0, 1 - scaled**2) ** 2 if robust else 1.0
        return rows.weight * biweight / sigma_s[phase], sigma_s

    def _step(
        self, rows: _Rows, residual_s: Floats, slopes: Floats, weight: Floats, column: Ints
    ) -> Floats:
        """Change of each moving event: east, north, down (km), later (s), [event, 4]."""
        speed = self._network.p_km_s  # in which a time is as long as a way
        entries, at_row, at_column = [], [], []
        number = np.arange(len(weight))
        for events, sign in ((rows.first, 1.0), (rows.second, -1.0)):
            mine = column[events] >= 0
            slope = slopes[events[mine], rows.path[mine]]
            values = np.concatenate([slope, np.full((len(slope), 1), 1 / speed)], axis=1)
            entries.append((sign * weight[mine, None] * values).ravel())
            at_row.append(np.repeat(number[mine], 4))
            at_column.append((4 * column[events[mine], None] + np.arange(4)).ravel())
        n_columns = 4 * (int(column.max()) + 1)
        matrix = csr_array(
            (np.concatenate(entries), (np.concatenate(at_row), np.concatenate(at_column))),
            shape=(len(weight), n_columns),
        )
        damping = 1 / (DAMPING_SHARE * self._reach_km)
        solution = lsqr(matrix, weight * residual_s, damp=damping, iter_lim=LSQR_ROUNDS)[0]
        change: Floats = solution.reshape(-1, 4)
        change[:, 3] /= speed
        length_km = np.linalg.norm(change[:, :3], axis=1)
        change *= np.minimum(1, self._reach_km / np.maximum(length_km, 1e-12))[:, None]
        return change

    def _moved(self, places: _Places, change: Floats, moves: Flags) -> _Places:
        lat, lon, depth_km, later_s = (values.copy() for values in places)
        for i, (east, north, down, later) in zip(np.flatnonzero(moves), change, strict=True):
            lat[[i]], lon[[i]] = moved(lat[i], lon[i], np.array([east]), np.array([north]))
            depth_km[i] += down
            later_s[i] += later
        network = self._network
        depth_km = np.clip(depth_km, network.shallowest_km, network.deepest_km)
        return _Places(lat, lon, depth_km, later_s)

    def _relocated(
        self, events: Catalogue, places: _Places, rows: _Rows, sigma_s: Floats, i: int
    ) -> Event:
        """The event at its new place, with the errors that its own picks leave it."""
        event, network = events.events[i], self._network
        one = _Places(*(values[[i]] for values in places))
        predicted_s, slopes = _predicted(network, one)
        links = np.bincount(
            np.concatenate([rows.path[rows.first == i], rows.path[rows.second == i]]),
            minlength=events.travel_s.shape[1],
        )
        paths = np.flatnonzero(links)
        # A difference has the errors of two picks. Those of the neighbours average out over them.
        phase = paths // len(network.stations)
        error_s = sigma_s[phase] * np.sqrt(0.5 * (1 + 1 / links[paths]))
        design = np.column_stack([slopes[0, paths], np.ones(len(paths))]) / error_s[:, None]
        prior = np.eye(4) / GREATEST_ERROR_KM**2
        covariance: Floats = np.asarray(np.linalg.inv(design.T @ design + prior), np.float64)
        east, north, down, later = np.minimum(np.sqrt(np.diag(covariance)), GREATEST_ERROR_KM)
        major, minor, azimuth = error_ellipse(covariance[:2, :2])
        t_ns = event.t_ns + round(float(one.later_s[0]) * NS_PER_S)
        moved_event = replace(
            event, t_ns=t_ns, time=iso(t_ns), lat=round(float(one.lat[0]), 6),
            lon=round(float(one.lon[0]), 6), depth_km=round(float(one.depth_km[0]), 4),
            time_error_s=round(float(later), 4), lat_error_km=round(float(north), 4),
            lon_error_km=round(float(east), 4), depth_error_km=round(float(down), 4),
            major_error_km=round(major, 4), minor_error_km=round(minor, 4),
            major_azimuth_deg=round(azimuth, 1), relocated_by="dd",
        )  # fmt: skip
        return self._with_arrivals(moved_event, one, predicted_s[0])

    def _with_arrivals(self, event: Event, place: _Places, predicted_s: Floats) -> Event:
        """Residuals, distances and azimuths from the new place."""
        network = self._network
        index = {station.code: i for i, station in enumerate(network.stations)}
        arrivals = []
        for arrival in event.arrivals:
            i = index.get((arrival.net, arrival.sta))
            if i is None:
                arrivals.append(arrival)
            else:
                path = PHASES.index(arrival.phase) * len(network.stations) + i
                lat, lon = float(place.lat[0]), float(place.lon[0])
                east, north = east_north_km(lat, lon, network.lat[i], network.lon[i])
                azimuth = azimuths_deg(lat, lon, network.lat[[i]], network.lon[[i]])[0]
                late_s = (parse_iso(arrival.time) - event.t_ns) / NS_PER_S - predicted_s[path]
                arrivals.append(
                    replace(
                        arrival, residual_s=round(float(late_s), 4),
                        distance_km=round(math.hypot(east, north), 3),
                        azimuth_deg=round(float(azimuth), 1),
                    )
                )  # fmt: skip
        return replace(event, arrivals=tuple(arrivals))


def _clusters(pairs: Ints, n_events: int) -> Ints:
    """A number for each event, equal for those that chains of pairs link."""
    links = np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])
    graph = csr_array(links, shape=(n_events, n_events))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _without_shift(change: Floats, clusters: Ints) -> Floats:
    """The change without what moves a cluster as a whole, of which differences tell little."""
    _, number = np.unique(clusters, return_inverse=True)
    counts = np.bincount(number)
    means = np.stack([np.bincount(number, weights) / counts for weights in change.T], axis=1)
    result: Floats = change - means[number]
    return result


def _spread(residual_s: Floats) -> float:
    """Sigma of residuals by their median absolute value."""
    if not len(residual_s):
        return math.inf
    return max(MAD_TO_SIGMA * float(np.median(np.abs(residual_s))), LEAST_SIGMA_S)


def _residuals(events: Catalogue, rows: _Rows, places: _Places, predicted_s: Floats) -> Floats:
    """Double differences in s, [row]."""
    delay_s = events.travel_s - predicted_s - places.later_s[:, None]
    residual: Floats = delay_s[rows.first, rows.path] - delay_s[rows.second, rows.path]
    return residual


def _joined(own: Catalogue, reference: Catalogue, near: Ints) -> Catalogue:
    """The event first, then its neighbours."""
    return Catalogue(
        (*own.events, *(reference.events[i] for i in near)),
        _Places(*(
            np.concatenate([mine, theirs[near]])
            for mine, theirs in zip(own.places, reference.places, strict=True)
        )),
        *(
            np.concatenate([getattr(own, name), getattr(reference, name)[near]])
            for name in ("travel_s", "weight")
        ),
    )  # fmt: skip


def _offsets_km(lat: float, lon: float, places: _Places) -> tuple[Floats, Floats]:
    """Ways east and north to the events, [event]."""
    ways = [east_north_km(lat, lon, *there) for there in zip(places.lat, places.lon, strict=True)]
    east, north = np.array(ways, np.float64).reshape(-1, 2).T
    return east, north


def _predicted(network: Network, places: _Places) -> tuple[Floats, Floats]:
    """Travel times [event, path] in s and slopes [event, path, 3] by east, north, down in s/km."""
    fit = kernels.new_fit(len(network.stations))
    n_paths = len(PHASES) * len(network.stations)
    times, slopes = np.empty((len(places.lat), n_paths)), np.empty((len(places.lat), n_paths, 3))
    ground = network.ground
    for i, (lat, lon, depth_km) in enumerate(
        zip(places.lat, places.lon, places.depth_km, strict=True)
    ):
        kernels.predict(np.array([0.0, lat, lon, depth_km]), ground, fit)
        times[i] = fit.travel_s.ravel()
        for axis, slope in enumerate((fit.by_east, fit.by_north, fit.by_depth)):
            slopes[i, :, axis] = slope.ravel()
    return times, slopes
