"""Double differences: events placed by how their picks differ from those of their neighbours.

What the paths of neighbouring events have in common, a station's delay or rock that the model does
not know, cancels in the difference of their residuals at a station (Waldhauser & Ellsworth, 2000).
How much neighbours have in common, and how far it reaches, is estimated from the catalogue: from
the variance of such differences by the distance of the two events (the variogram). Given that, the
residuals of its neighbours tell what to expect of an event's own on each path, and how surely
(kriging), and it is located by its picks less that. This is least squares by double differences
with all their covariances: neighbours that share nothing leave the station's delay and with it the
absolute location, close ones that share much count by their difference.

A whole catalogue is relocated together, each event by the others in turn until none moves; a new
event against a relocated catalogue that stays as it is (Waldhauser, 2009), once it is located.

    catalogue -> errors of paths, own and shared -> neighbours -> delays expected -> place -> again
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from streamer.association import best_kernels as kernels
from streamer.association.best_kernels import NU
from streamer.association.geodesy import Floats, azimuths_deg, east_north_km
from streamer.association.locate import GREATEST_ERROR_KM, error_ellipse
from streamer.association.message import Event, Relocation
from streamer.association.network import Network
from streamer.association.parameters import BestParameters, RelocationParameters
from streamer.association.pick_errors import initial_errors
from streamer.association.pickfiles import PHASES
from streamer.timebase import NS_PER_S, iso, parse_iso

Ints = NDArray[np.int64]

MAD_TO_SIGMA = 1.4826
# The variogram: bins of distance up to so many reaches, narrower for near ones, pairs used of each,
# and least for one to count; of larger catalogues so many events are used.
BINS, FARTHEST_REACHES, BIN_PAIRS, LEAST_PAIRS, VARIOGRAM_EVENTS = 10, 4.0, 2000, 20, 1000
# Standard error of a robust variance of n values, times sqrt(n) and in parts of it. Neighbours
# share something if that fits the variogram so much better than that they do not (chi squared).
VARIANCE_ERROR, LEAST_BETTER = 2.33, 12.0
# Ranges tried, in reaches.
RANGES = 2.0 ** np.arange(-3, 4)
# A pick's own error is at least so much, and at least this part of what neighbours share.
LEAST_SIGMA, LEAST_OWN_SHARE = 1e-3, 0.1
# Variances: of a median of n values, times n; of a delay that no event tells; of no pick.
MEDIAN_ERROR, UNKNOWN_DELAY, NO_PICK = math.pi / 2, 1e3, 1e6
LEAST_WEIGHT = 0.05
SAME_PICK_S = 1e-5
# Rounds of a new event, whose neighbours hardly change, and of a whole catalogue: at most so many,
# until the median step is shorter than this share of the reach. Steps are shortened so that
# neighbours do not swing against each other; errors are estimated anew in the first rounds.
ROUNDS, CATALOGUE_ROUNDS, LAST_SHARE, STEP_SHARE, LEARNING_ROUNDS = 2, 10, 2e-3, 0.7, 5
# Gauss-Newton steps within each round, and the longest and the last one in reaches.
STEPS, LONGEST_STEP, LAST_STEP = 40, 0.5, 1e-4


class PathErrors(NamedTuple):
    """Errors of residuals by phase, 1 sigma, in parts of what picks are expected to be off by.

    `own` [phase] is what each pick has for itself, `shared` [phase] what neighbours have in common:
    its covariance falls with the distance of their sources, to half within 1.7 `range_km`.
    """

    own: Floats
    shared: Floats
    range_km: float


class _Expected(NamedTuple):
    """Residuals expected of an event by those of its neighbours, and variances (s^2), [path]."""

    delay_s: Floats
    variance_s2: Floats


@dataclass(frozen=True)
class Catalogue:
    """Events with what they observe: travel time (s, from the origin) and weight, [event, path].

    A path is phase x stations + station; times are NaN where an event has no pick. `t_s`
    [event] are origin times (POSIX s), `origins` [event, 4] s to add to them, lat, lon (deg), depth
    (km).
    """

    events: tuple[Event, ...]
    t_s: Floats
    origins: Floats
    travel_s: Floats
    weight: Floats

    @classmethod
    def of(cls, events: Sequence[Event], network: Network) -> "Catalogue":
        """The events as they are; picks of stations that the network lacks are left out."""
        index = network.index
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
        origins = np.array(
            [(0.0, event.lat, event.lon, event.depth_km) for event in events], np.float64
        ).reshape(-1, 4)
        t_s = np.array([event.t_ns for event in events], np.float64) / NS_PER_S
        return cls(tuple(events), t_s, origins, travel_s, weight)


class _Neighbourhood:
    """Events at given places with their residuals: what they tell of others.

    `scale_s` [event, path] is what picks are expected to be off by: more on longer ways.
    """

    def __init__(
        self, network: Network, catalogue: Catalogue, origins: Floats, weight: Floats
    ) -> None:
        self.places_km = _places_km(network, origins)
        self.residual_s = catalogue.travel_s - _predicted(network, origins) - origins[:, :1]
        self.scale_s = _scale_s(network, catalogue.travel_s)
        self.weight = weight
        known = np.isfinite(self.residual_s)
        self._n_picks = known.sum(axis=0)
        self._delay_s = np.array([
            np.median(of_path[those]) if those.any() else 0.0
            for of_path, those in zip(self.residual_s.T, known.T, strict=True)
        ])  # fmt: skip

    def errors(self, n_stations: int, reach_km: float) -> PathErrors:
        """Of their residuals, by the variogram."""
        scaled = (self.residual_s - self._delay_s) / self.scale_s
        return path_errors(scaled, self.places_km, n_stations, reach_km)

    def expected(
        self, place_km: Floats, scale_s: Floats, near: Ints, paths: Ints, errors: PathErrors,
        phase: Ints,
    ) -> _Expected:  # fmt: skip
        """Of an event at a place by its neighbours, on some paths (of phases [path]): kriging.

        `scale_s` [path] is as above, for the event.
        """
        own, shared = errors.own[phase] ** 2, errors.shared[phase] ** 2
        # Of the station's delay: the median of all events, off by what they share.
        n_picks = self._n_picks[paths]
        uncertain = np.where(n_picks > 0, MEDIAN_ERROR / np.maximum(n_picks, 1), UNKNOWN_DELAY)
        delay = scale_s**2 * (shared + own * uncertain)
        there = self.places_km[near]
        among = np.linalg.norm(there[:, None] - there[None], axis=2)
        to = np.linalg.norm(there - place_km, axis=1)
        among, to = (_correlation(apart_km / errors.range_km) for apart_km in (among, to))
        residual = self.residual_s[np.ix_(near, paths)].T - self._delay_s[paths, None]
        known = np.isfinite(residual)
        scales = np.where(known, self.scale_s[np.ix_(near, paths)].T, scale_s[:, None])
        covariance = shared[:, None, None] * scales[:, :, None] * scales[:, None] * among
        covariance += delay[:, None, None]
        with_it = (shared * scale_s)[:, None] * scales * to + delay[:, None]
        weight = np.maximum(self.weight[np.ix_(near, paths)].T, LEAST_WEIGHT)
        # One that has no pick tells nothing: its error is as good as infinite.
        error = np.where(known, own[:, None] * scales**2 / weight, NO_PICK * scales**2)
        diagonal = np.arange(len(near))
        covariance[:, diagonal, diagonal] += error
        right = np.stack([np.where(known, residual, 0.0), with_it], axis=2)
        solved = np.linalg.solve(covariance, right)
        delay_s, explained = np.einsum("pk,pkn->np", with_it, solved)
        variance = shared * scale_s**2 + delay - explained
        return _Expected(self._delay_s[paths] + delay_s, np.maximum(variance, 0.0))


def _scale_s(network: Network, travel_s: Floats) -> Floats:
    """What picks are expected to be off by at first, [event, path]: as in absolute locations."""
    errors = initial_errors(network, BestParameters())
    sigma_s = np.repeat(errors.sigma_s, len(network.stations))
    scale_s: Floats = np.hypot(sigma_s, errors.relative * travel_s)
    return scale_s


def path_errors(
    residual: Floats, places_km: Floats, n_stations: int, reach_km: float
) -> PathErrors:
    """Own and shared errors of scaled residuals [event, path] of events at places [event, 3].

    Half the variance of differences at a station, by the distance of the two events, is fitted by
    own^2 + shared^2 (1 - correlation(distance / range)), with robust variances (of medians).
    """
    step = -(-len(places_km) // VARIOGRAM_EVENTS)
    residual, places_km = residual[::step], places_km[::step]
    # Four unknowns of each location have taken their part of what its picks are off by.
    n_picks = np.isfinite(residual).sum(axis=1, keepdims=True)
    residual = residual * np.sqrt(n_picks / np.maximum(n_picks - 4.0, 1.0))
    first, second = np.triu_indices(len(places_km), 1)
    apart_km = np.linalg.norm(places_km[first] - places_km[second], axis=1)
    order = np.argsort(apart_km, kind="stable")
    edges_km = FARTHEST_REACHES * reach_km * np.linspace(0, 1, BINS + 1) ** 2
    bounds = np.searchsorted(apart_km[order], edges_km)
    bins = [order[a:b] for a, b in pairwise(bounds)]
    bins = [pairs[:: -(-len(pairs) // BIN_PAIRS)] for pairs in bins if len(pairs) >= LEAST_PAIRS]
    if not bins:
        bins = [order]
    differences = [residual[first[pairs]] - residual[second[pairs]] for pairs in bins]
    half = np.array([_half_variances(difference, n_stations) for difference in differences])
    # The values of a bin are no more independent than the events in it.
    counts = np.array([
        np.isfinite(difference).sum() * min(1.0, len(np.union1d(first[pairs], second[pairs])) / n)
        for pairs, difference, n in zip(bins, differences, map(len, bins), strict=True) if n
    ])  # fmt: skip
    distance_km = np.array([np.mean(apart_km[pairs]) for pairs in bins if len(pairs)])
    own, shared = half[-1], np.zeros(len(PHASES))
    range_km, least = reach_km, math.inf
    if len(counts) > 1:
        weight = np.sqrt(0.5 * counts)[:, None] / (VARIANCE_ERROR * half)  # of either phase
        own = np.sum(weight**2 * half, axis=0) / np.sum(weight**2, axis=0)
        least = float(np.sum((weight * (half - own)) ** 2)) - LEAST_BETTER
        for tried_km in reach_km * RANGES:
            rise = 1 - _correlation(distance_km / tried_km)
            fits = [
                nnls(np.column_stack([w, w * rise]), w * of_phase)
                for w, of_phase in zip(weight.T, half.T, strict=True)
            ]
            misfit = sum(miss**2 for _, miss in fits)
            if misfit < least:
                least, range_km = misfit, float(tried_km)
                own, shared = np.array([squares for squares, _ in fits]).T
    own, shared = np.sqrt(own), np.sqrt(shared)
    return PathErrors(np.maximum(own, LEAST_OWN_SHARE * shared), shared, range_km)


def _correlation(apart: Floats) -> Floats:
    """Of what events share, by their distance in ranges: Matern's with a slope (3/2)."""
    correlation: Floats = (1 + apart) * np.exp(-apart)
    return correlation


def _half_variances(difference: Floats, n_stations: int) -> Floats:
    """Of differences [pair, path], by phase."""
    halves = []
    for phase in range(len(PHASES)):
        known = difference[:, phase * n_stations : (phase + 1) * n_stations]
        known = np.abs(known[np.isfinite(known)])
        sigma = MAD_TO_SIGMA * float(np.median(known)) if len(known) else 0.0
        halves.append(0.5 * max(sigma, LEAST_SIGMA) ** 2)
    return np.array(halves)


@dataclass(frozen=True)
class Reference:
    """Relocated events that stay, and the errors of paths that they tell."""

    catalogue: Catalogue
    neighbourhood: _Neighbourhood
    errors: PathErrors


class DoubleDifference:
    """Relocation for one network; nothing is kept between calls, so that threads may share it."""

    def __init__(self, network: Network, rules: RelocationParameters) -> None:
        self._network = network
        self._rules = rules
        self._reach_km = rules.greatest_separation_km or network.spacing_km
        self._phase = np.repeat(np.arange(len(PHASES)), len(network.stations))

    def reference(self, events: Sequence[Event]) -> Reference:
        """A catalogue that stays."""
        catalogue = Catalogue.of(events, self._network)
        around = _Neighbourhood(self._network, catalogue, catalogue.origins, catalogue.weight)
        errors = around.errors(len(self._network.stations), self._network.spacing_km)
        return Reference(catalogue, around, errors)

    def relocate(self, event: Event, reference: Reference) -> Event | None:
        """The event relative to relocated ones, which stay; None if too few are near.

        Its errors are those of the place relative to its neighbours.
        """
        return self.relocate_in(Catalogue.of([event], self._network), reference)

    def relocate_in(self, own: Catalogue, reference: Reference) -> Event | None:
        """The same for an event in a catalogue of its own."""
        moved = self._joined(own, reference)
        return None if moved is None else self._relocated(own, 0, moved)

    def relocation(self, event: Event, reference: Reference) -> Relocation | None:
        """The same as a part of the event's message, which keeps its absolute location."""
        moved = self._joined(Catalogue.of([event], self._network), reference)
        if moved is None:
            return None
        return Relocation(
            **_place(moved.t_ns(event), moved), neighbours=moved.n_near, gain=round(moved.gain, 2)
        )

    def _joined(self, own: Catalogue, reference: Reference) -> "_Moved | None":
        around = reference.neighbourhood
        origin, moved = own.origins[0], None
        for _ in range(ROUNDS):
            near = self._neighbours(own, 0, origin, reference.catalogue, around)
            if near is None:
                return None
            moved = self._moved(own, 0, origin, around, near, reference.errors)
            origin = moved.origin
        return moved

    def relocate_all(self, events: Sequence[Event]) -> list[Event]:
        """All events by each other; those with too few neighbours stay as they are."""
        network = self._network
        catalogue = Catalogue.of(events, network)
        origins, weight = catalogue.origins.copy(), catalogue.weight.copy()
        moved: dict[int, _Moved] = {}
        for number in range(CATALOGUE_ROUNDS):
            around = _Neighbourhood(network, catalogue, origins.copy(), weight.copy())
            if number < LEARNING_ROUNDS:
                errors = around.errors(len(network.stations), network.spacing_km)
            moved = {}
            for i, origin in enumerate(origins):
                near = self._neighbours(catalogue, i, origin, catalogue, around)
                if near is not None:
                    moved[i] = self._moved(catalogue, i, origin, around, near, errors)
            if not moved:
                break
            rows = list(moved)
            before_km = around.places_km[rows]
            changed = np.array([one.origin for one in moved.values()])
            # Without what moves all as a whole, of which differences tell nothing.
            changed -= np.mean(changed - origins[rows], axis=0)
            changed[:, 3] = np.clip(changed[:, 3], network.shallowest_km, network.deepest_km)
            step_km = np.linalg.norm(_places_km(network, changed) - before_km, axis=1)
            origins[rows] += STEP_SHARE * (changed - origins[rows])
            for (i, one), origin in zip(moved.items(), changed, strict=True):
                weight[i, one.paths] = one.weight
                moved[i] = one._replace(origin=origin)
            if float(np.median(step_km)) < LAST_SHARE * network.spacing_km:
                break
        return [
            self._relocated(catalogue, i, moved[i]) if i in moved else event
            for i, event in enumerate(events)
        ]

    def _neighbours(
        self, own: Catalogue, i: int, origin: Floats, others: Catalogue, around: _Neighbourhood
    ) -> "_Near | None":
        """The nearest events with enough common phases; None if too few of them are near enough.

        Farther ones come along: they know the delays of stations as well. One that has a pick of
        the event is the event itself.
        """
        place_km = _places_km(self._network, origin[None])[0]
        apart_km = np.linalg.norm(around.places_km - place_km, axis=1)
        links = (np.isfinite(own.travel_s[i]) & np.isfinite(others.travel_s)).sum(axis=1)
        earlier_s = others.t_s[:, None] + others.travel_s - (own.t_s[i] + own.travel_s[i])
        itself = np.any(np.abs(earlier_s) < SAME_PICK_S, axis=1)
        fit = (links >= self._rules.least_links) & ~itself
        if np.sum(fit & (apart_km <= self._reach_km)) < self._rules.least_neighbours:
            return None
        chosen = np.flatnonzero(fit)
        chosen = chosen[np.argsort(apart_km[chosen], kind="stable")[: self._rules.most_neighbours]]
        return _Near(chosen, int(np.sum(apart_km[chosen] <= self._reach_km)))

    def _moved(
        self, own: Catalogue, i: int, origin: Floats, around: _Neighbourhood, near: "_Near",
        errors: PathErrors,
    ) -> "_Moved":  # fmt: skip
        """Where the event's picks, less what its neighbours let expect, place it."""
        network = self._network
        paths = np.flatnonzero(np.isfinite(own.travel_s[i]))
        phase = self._phase[paths]
        place_km = _places_km(network, origin[None])[0]
        scale_s = _scale_s(network, own.travel_s[[i]])[0, paths]
        expected = around.expected(place_km, scale_s, near.events, paths, errors, phase)
        own_s2 = (errors.own[phase] * scale_s) ** 2
        fit = kernels.new_fit(len(network.stations))
        station = paths - phase * len(network.stations)
        at = phase.astype(np.int8), station.astype(np.int32)
        fit.used[at] = True
        fit.sigma_s[at] = np.sqrt(own_s2 + expected.variance_s2)
        corrected_s = own.travel_s[i, paths] - expected.delay_s
        origin = origin.copy()
        reach_km = network.spacing_km
        for _ in range(STEPS):
            kernels.predict(origin, network.ground, fit)
            fit.residual_s[at] = corrected_s - fit.travel_s[at] - origin[0]
            step_km = kernels.move(origin, network.ground, fit, LONGEST_STEP * reach_km, reach_km)
            if step_km < LAST_STEP * reach_km:
                break
        kernels.predict(origin, network.ground, fit)
        scaled = (corrected_s - fit.travel_s[at] - origin[0]) / fit.sigma_s[at]
        covariance = kernels.covariance(fit, GREATEST_ERROR_KM)
        # Were nothing known of the errors that neighbours share, they would add to a pick's own.
        fit.sigma_s[at] = np.sqrt(own_s2 + (errors.shared[phase] * scale_s) ** 2)
        without = kernels.covariance(fit, GREATEST_ERROR_KM)
        return _Moved(
            origin, near.n_near, covariance,
            math.sqrt(np.trace(without[1:, 1:]) / np.trace(covariance[1:, 1:])),
            paths, NU / (NU + scaled**2), fit,
        )  # fmt: skip

    def _relocated(self, own: Catalogue, i: int, moved: "_Moved") -> Event:
        """The event at its new place, with residuals, distances and azimuths from there."""
        event, network = own.events[i], self._network
        kernels.predict(moved.origin, network.ground, moved.fit)
        _, lat, lon, _ = map(float, moved.origin)
        t_ns = moved.t_ns(event)
        major, minor, azimuth = error_ellipse(moved.covariance[1:3, 1:3])
        arrivals = []
        for arrival in event.arrivals:
            station = network.index.get((arrival.net, arrival.sta))
            if station is None:
                arrivals.append(arrival)
                continue
            way = east_north_km(lat, lon, network.lat[station], network.lon[station])
            there = network.lat[[station]], network.lon[[station]]
            observed_s = (parse_iso(arrival.time) - t_ns) / NS_PER_S
            predicted_s = moved.fit.travel_s[PHASES.index(arrival.phase), station]
            arrivals.append(
                replace(
                    arrival, residual_s=round(float(observed_s - predicted_s), 4),
                    distance_km=round(math.hypot(*way), 3),
                    azimuth_deg=round(float(azimuths_deg(lat, lon, *there)[0]), 1),
                )
            )  # fmt: skip
        return replace(
            event, t_ns=t_ns, **_place(t_ns, moved), major_error_km=round(major, 4),
            minor_error_km=round(minor, 4), major_azimuth_deg=round(azimuth, 1),
            relocated_by="dd", arrivals=tuple(arrivals),
        )  # fmt: skip


class _Near(NamedTuple):
    """Neighbours by index, and how many of them are within the greatest separation."""

    events: Ints
    n_near: int


class _Moved(NamedTuple):
    """A new origin with its covariance (s, km), and what it makes of the picks, [path].

    `gain` is how many times smaller its errors are than without neighbours.
    """

    origin: Floats
    n_near: int
    covariance: Floats
    gain: float
    paths: Ints
    weight: Floats
    fit: kernels.Fit

    def t_ns(self, event: Event) -> int:
        """The new origin time of the event, POSIX ns."""
        return event.t_ns + round(float(self.origin[0]) * NS_PER_S)


def _place(t_ns: int, moved: _Moved) -> dict[str, Any]:
    """What `Event` and `Relocation` both say of where and when an event was, and of the errors."""
    _, lat, lon, depth_km = moved.origin.tolist()
    deviations = np.minimum(np.sqrt(np.diag(moved.covariance)), GREATEST_ERROR_KM)
    time_error_s, east, north, down = deviations.tolist()
    return {
        "time": iso(t_ns),
        "lat": round(lat, 6),
        "lon": round(lon, 6),
        "depth_km": round(depth_km, 4),
        "time_error_s": round(time_error_s, 4),
        "lat_error_km": round(north, 4),
        "lon_error_km": round(east, 4),
        "depth_error_km": round(down, 4),
    }


def _places_km(network: Network, origins: Floats) -> Floats:
    """East and north of the middle of the network, and depth, [event, 3] in km."""
    lat, lon = float(network.lat.mean()), float(network.lon.mean())
    ways = [east_north_km(lat, lon, *place) for place in origins[:, 1:3].tolist()]
    return np.column_stack([np.array(ways, np.float64).reshape(-1, 2), origins[:, 3]])


def _predicted(network: Network, origins: Floats) -> Floats:
    """Travel times in s, [event, path]."""
    fit = kernels.new_fit(len(network.stations))
    times_s = np.empty((len(origins), fit.travel_s.size))
    for row, origin in zip(times_s, origins, strict=True):
        kernels.predict(origin, network.ground, fit)
        row[:] = fit.travel_s.ravel()
    return times_s
