"""Profile `best`: an event is a set of picks that an origin explains far better than chance.

Every P pick that no event explains starts a search for the origin that makes the picks around it
most likely, against the rate at which picks come anyway. The most likely event gets its picks, the
next one is judged by what is left; then contested picks go where they fit best, delays and errors
are learnt, and what is left is searched again.

    pick -> search -> refine -> candidate -> award (best first) -> settle -> learn -> again
"""

import bisect
import heapq
import math
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamer.association import best_kernels as kernels
from streamer.association.best_kernels import FREE, NO_NODE, TAKEN, Errors, Picks
from streamer.association.geodesy import (
    Floats,
    azimuthal_gap_deg,
    azimuths_deg,
    distances_km,
    moved,
)
from streamer.association.network import Network
from streamer.association.parameters import BestParameters
from streamer.association.pick_errors import initial_errors, learnt_errors
from streamer.association.pickfiles import P, PickTable, S

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# The search grid: steps as a share of station spacing and of the horizontal step; nodes lie a part
# of a step beside the station, so that none coincides with it.
STEP_SHARE, DEPTH_STEP_SHARE, NODE_SHIFT = 0.4, 1.5, 0.3
# How far a source is from its node, as a share of the step: what search windows must allow for.
CELL_SHARE = 0.6
# Nearest stations used in a search, and those among them whose silence speaks against a node.
SEARCHED, NEAR = 16, 6
NEAR_SILENT = math.log(0.5)
# Windows in which picks are chosen, as shares of the time across half a cell; the origin moves
# between one and the next.
FROM_NODE = np.array([1.0, 0.5, 0.2, 0.0, 0.0, 0.0, 0.0])
FROM_CANDIDATE = np.array([0.2, 0.0, 0.0, 0.0])
FROM_EVENT = np.zeros(4)
UNMOVED = np.zeros(1)
# An awarded event that lost more of its gain than this to earlier ones waits for its turn again.
GAIN_LOST = 0.5
# A P pick whose best origin gains less, or has less than this share of the picks that an event must
# have, is noise, and stays so.
HOPELESS_GAIN, HOPELESS_SHARE = -2.0, 0.5
# P picks within this many sigma of what a sure candidate predicts need no search of their own; if
# it fails they get one in the next pass.
SURE_SIGMA = 2.0
# Rates of a station's picks, and of events, are counted over this many times the time S takes to
# cross the network, to both sides. Events are rare: few would be counted in less.
RATE_CROSSINGS, ODDS_CROSSINGS = 5.0, 40.0
LEAST_PROBABILITY = 0.05
# Rounds in which contested picks change hands.
SETTLING_ROUNDS = 2
TABLES_BYTES = 96 * 2**20


# Time (s after the epoch of the picks), latitude, longitude (deg), depth (km).
Place = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class BestEvent:
    """An origin with its gain and picks: rows of the pick table.

    The gain is the log of how much likelier the picks are with an event somewhere around than by
    chance alone.
    """

    origin: Place
    gain: float
    picks: Ints


@dataclass(frozen=True, slots=True)
class Before:
    """What is settled already when picks are searched: nothing by default.

    `taken`: ids of picks that have an event; `origins_s`: times of earlier events after the epoch
    of the picks; `spread_s` [event, phase, station]: residuals with station delays of such events,
    NaN without a pick; `errors`: what they taught. P picks in `search_s` start searches; stations
    `alive` [station] are those whose silence means something, by default those that have picks.
    """

    taken: Set[str] = frozenset()
    origins_s: Sequence[float] = ()
    spread_s: Floats | None = None
    errors: Errors | None = None
    search_s: tuple[float, float] = (-math.inf, math.inf)
    alive: Flags | None = None


@dataclass(slots=True)
class _Event:
    origin: Floats
    gain: float
    residual_s: Floats  # [phase, station], NaN where no pick is used


class Best:
    """The associator for one network; `errors` are those at the end of the last call."""

    def __init__(self, network: Network, rules: BestParameters, like: "Best | None" = None) -> None:
        """The grids of `like`, of the same network, are used with it: they are large."""
        self.network = network
        self.rules = rules
        self._ground = network.ground
        self._step_km = STEP_SHARE * network.spacing_km
        speed = np.array([network.p_km_s, network.s_km_s])
        self._cell_s = CELL_SHARE * self._step_km / speed
        self.errors = initial_errors(network, rules)
        self._smear_s = 0.5 * self._step_km / network.p_km_s
        widest_km = math.sqrt(2) * network.aperture_km
        self._late_s = widest_km / speed + network.search_radius_km.max() / speed
        self._early_s = network.search_radius_km.max() / network.p_km_s
        crossing_s = network.aperture_km / network.s_km_s
        self.rate_span_s = RATE_CROSSINGS * crossing_s
        self.odds_span_s = ODDS_CROSSINGS * crossing_s
        # Longest time between an origin and the last pick of its event.
        self.reach_s = float(self._late_s[S])
        self._searched_km3 = (
            math.pi
            * float(np.median(network.search_radius_km)) ** 2
            * (network.deepest_km - network.shallowest_km)
        )
        self.fit = kernels.new_fit(len(network.stations))
        slots = min(SEARCHED, len(network.stations))
        nodes = len(self._make_grid(int(np.argmax(network.search_radius_km))).lat)
        capacity = max(1, TABLES_BYTES // (slots * nodes * 12))
        self._grid: Callable[[int], _Grid] = (
            lru_cache(maxsize=capacity)(self._make_grid) if like is None else like._grid
        )
        self._score = np.empty(nodes, np.float32), np.empty(nodes, np.float32)

    def associate(
        self,
        table: PickTable,
        before: Before | None = None,
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> list[BestEvent]:
        """All events in the picks, by time; `on_progress` hears the share that is done."""
        before = before or Before()
        self.errors = before.errors or initial_errors(self.network, self.rules)
        if not len(table):
            return []
        picks, rows = self._sorted_picks(table, before)
        events: dict[int, _Event] = {}
        p_times_s = table.time_s[table.phase == P]
        odds = Odds(self.rules.least_gain, self.odds_span_s, p_times_s.tolist())
        for origin_s in before.origins_s:
            odds.add(origin_s)
        hopeless: set[int] = set()
        for number in range(self.rules.passes):

            def show(share: float, number: int = number) -> None:
                on_progress((number + share) / self.rules.passes)

            candidates = list(self._candidates(picks, before.search_s, odds, hopeless, show))
            if not candidates:
                break
            self._award(candidates, picks, odds, events)
            self._settle(picks, odds, events)
            if number == 0:
                self.errors = self._learnt(before, events, self.errors)
                self._settle(picks, odds, events)
        on_progress(1.0)
        found = [
            BestEvent(_place(event.origin), event.gain, np.sort(rows[picks.owner == me]))
            for me, event in events.items()
        ]
        return sorted(found, key=lambda event: event.origin)

    def _learnt(self, before: Before, events: dict[int, _Event], used: Errors) -> Errors:
        """Errors by what was known before and by events found with the errors `used`."""
        if not events:
            return used
        spread_s = np.array([event.residual_s + used.static_s for event in events.values()])
        if before.spread_s is not None:
            spread_s = np.concatenate([before.spread_s, spread_s])
        initial = initial_errors(self.network, self.rules)
        return learnt_errors(initial, spread_s, self.rules)

    def _sorted_picks(self, table: PickTable, before: Before) -> tuple[Picks, Ints]:
        """The picks by phase, station and time, and the rows of the table they come from.

        Without those so long before the search that they only count in odds and means.
        """
        n = len(self.network.stations)
        group = table.phase.astype(np.int64) * n + table.station
        oldest_s = before.search_s[0] - self.rate_span_s - self.reach_s
        recent = np.flatnonzero(table.time_s >= oldest_s)
        rows = recent[np.lexsort((table.time_s[recent], group[recent]))]
        times_s = table.time_s[rows]
        starts = np.searchsorted(group[rows], np.arange(2 * n + 1))
        probability = np.clip(table.prob, LEAST_PROBABILITY, 1)
        number = np.bincount(table.phase, minlength=2)
        mean = np.bincount(table.phase, probability, minlength=2) / np.maximum(number, 1)
        span_s = self.rate_span_s
        value = np.log(probability[rows] / mean[table.phase[rows]])
        value -= np.log(kernels.crowding(times_s, starts, span_s) / (2 * span_s))
        alive = before.alive
        if alive is None:
            alive = np.bincount(table.station, minlength=n) > 0
        by_phase = np.stack([starts[: n + 1], starts[n:]])
        owner = np.full(len(rows), FREE)
        if before.taken:
            owner[[table.ids[row] in before.taken for row in rows.tolist()]] = TAKEN
        return Picks(times_s, value, owner, by_phase, alive), rows

    def _candidates(
        self,
        picks: Picks,
        search_s: tuple[float, float],
        odds: "Odds",
        hopeless: set[int],
        on_progress: Callable[[float], None],
    ) -> Iterator[tuple[float, Place]]:
        """Negative gain and origin of what the free P picks, in order of time, may belong to.

        `hopeless` are those that need not be searched again: others only take picks away.
        """
        n_p = picks.starts[P, -1]
        station = np.searchsorted(picks.starts[P], np.arange(n_p), side="right") - 1
        times_s = picks.times_s[:n_p]
        explained = picks.owner[:n_p] != FREE
        order = np.argsort(times_s, kind="stable")
        first, end = np.searchsorted(times_s[order], search_s)
        for done, j in enumerate(order[first:end], first):
            on_progress(done / n_p)
            t_s = float(times_s[j])
            if explained[j] or int(j) in hopeless:
                continue
            origin = self.search(picks, int(station[j]), t_s)
            gain = -math.inf
            if origin is not None:
                gain = self.refine(origin, FROM_NODE, picks, FREE)
            if origin is None or self._is_hopeless(gain):
                hopeless.add(int(j))
                continue
            if gain >= self.rules.least_gain and self.has_enough(origin):
                yield -gain, _place(origin)
                if gain >= odds.least_gain(t_s):
                    fit = self.fit
                    near = np.abs(fit.residual_s[P]) < SURE_SIGMA * fit.sigma_s[P]
                    explained[fit.chosen[P][fit.used[P] & near]] = True

    def _is_hopeless(self, gain: float) -> bool:
        """Whether nothing can come of what was just refined."""
        n_p, n_s, _ = kernels.numbers(self.fit.used)
        return gain < HOPELESS_GAIN or n_p + n_s < HOPELESS_SHARE * self.rules.least_picks

    @property
    def errors(self) -> Errors:
        """Delays and errors of picks in use."""
        return self._errors

    @errors.setter
    def errors(self, errors: Errors) -> None:
        self._errors = errors
        sigma_s = np.hypot(errors.sigma_s, self._cell_s)
        scale = self.rules.near_detection * kernels.NU_PEAK
        # Of a search: log density of residual 0 without the cell, sigma and log density with it.
        self._sharpness = np.log(scale / errors.sigma_s), sigma_s, np.log(scale / sigma_s)

    def search(self, picks: Picks, station: int, t_s: float) -> Floats | None:
        """The node that explains the free picks best if the P wave was at a station at a time.

        None if no event can come of it.
        """
        peak, sigma_s, rough_peak = self._sharpness
        grid = self._grid(station)
        score, part = self._score
        nodes = len(grid.lat)
        node = kernels.search(
            t_s, self._early_s, self._late_s, self.rules.least_gain, grid.stations, grid.offsets,
            grid.spans, grid.missing, grid.near, picks, peak, sigma_s, rough_peak, score[:nodes],
            part[:nodes],
        )  # fmt: skip
        if node == NO_NODE:
            return None
        return np.array(
            [t_s - grid.p_travel_s[node], grid.lat[node], grid.lon[node], grid.depth_km[node]]
        )

    def refine(self, origin: Floats, smears: Floats, picks: Picks, me: int) -> float:
        """Gain of the origin once it is where its picks, free or of event `me`, want it."""
        return kernels.refine(
            origin,
            smears * self._smear_s,
            self._ground,
            self._errors,
            picks,
            me,
            self.rules.near_detection,
            self.rules.far_detection,
            2 * self._step_km,
            self.network.spacing_km,
            self._searched_km3,
            self.fit,
        )

    def has_enough(self, origin: Floats) -> bool:
        """Whether what was just refined passes the least numbers of the parameters."""
        rules, used = self.rules, self.fit.used
        n_p, n_s, n_both = kernels.numbers(used)
        if (
            n_p < rules.least_p
            or n_s < rules.least_s
            or n_p + n_s < rules.least_picks
            or n_both < rules.least_both
        ):
            return False
        if rules.greatest_gap_deg == 360:
            return True
        stations = used.any(axis=0)
        azimuths = azimuths_deg(
            origin[1], origin[2], self.network.lat[stations], self.network.lon[stations]
        )
        return azimuthal_gap_deg(azimuths) <= rules.greatest_gap_deg

    def _award(
        self,
        candidates: list[tuple[float, Place]],
        picks: Picks,
        odds: "Odds",
        events: dict[int, _Event],
    ) -> None:
        """Give picks to the candidates, those with the highest gain first."""
        heapq.heapify(candidates)
        while candidates:
            loss, place = heapq.heappop(candidates)
            origin = np.array(place)
            gain = self.refine(origin, FROM_CANDIDATE, picks, FREE)
            if gain < odds.least_gain(origin[0]) or not self.has_enough(origin):
                continue
            if gain < -loss - GAIN_LOST and candidates and gain < -candidates[0][0]:
                heapq.heappush(candidates, (-gain, _place(origin)))
            else:
                self._own(max(events, default=FREE) + 1, origin, gain, picks, events)
                odds.add(origin[0])

    def _own(
        self, me: int, origin: Floats, gain: float, picks: Picks, events: dict[int, _Event]
    ) -> None:
        """Make the origin just refined an event with the picks it uses."""
        fit = self.fit
        picks.owner[fit.chosen[fit.used]] = me
        events[me] = _Event(origin, gain, np.where(fit.used, fit.residual_s, np.nan))

    def _settle(self, picks: Picks, odds: "Odds", events: dict[int, _Event]) -> None:
        """Let each pick go to the event it fits best, and drop events that do not survive it."""
        for _ in range(SETTLING_ROUNDS):
            self._claim(picks, events)
            for me in sorted(events, key=lambda me: (events[me].gain, me)):
                event = events[me]
                odds.remove(event.origin[0])
                gain = self.refine(event.origin, FROM_EVENT, picks, me)
                picks.owner[picks.owner == me] = FREE
                if gain >= odds.least_gain(event.origin[0]) and self.has_enough(event.origin):
                    self._own(me, event.origin, gain, picks, events)
                    odds.add(event.origin[0])
                else:
                    del events[me]

    def _claim(self, picks: Picks, events: dict[int, _Event]) -> None:
        """Own each pick by the event under which it is most likely."""
        picks.owner[picks.owner != TAKEN] = FREE
        owner = picks.owner.copy()
        likeliest = np.full(len(owner), -math.inf)
        fit = self.fit
        for me, event in events.items():
            self.refine(event.origin.copy(), UNMOVED, picks, FREE)
            chosen, log_density = fit.chosen[fit.used], fit.log_density[fit.used]
            wins = log_density > likeliest[chosen]
            likeliest[chosen[wins]] = log_density[wins]
            owner[chosen[wins]] = me
        picks.owner[:] = owner

    def _make_grid(self, station: int) -> "_Grid":
        """Nodes around a station down to the greatest depth."""
        network, step_km = self.network, self._step_km
        radius_km = network.search_radius_km[station]
        steps = np.arange(-math.ceil(radius_km / step_km), math.ceil(radius_km / step_km) + 1)
        axis_km = (steps + NODE_SHIFT) * step_km
        depth_step_km = DEPTH_STEP_SHARE * step_km
        depth_axis_km = np.arange(
            network.shallowest_km + NODE_SHIFT * depth_step_km, network.deepest_km, depth_step_km
        )
        east, north, depth_km = (
            axis.ravel() for axis in np.meshgrid(axis_km, axis_km, depth_axis_km, indexing="ij")
        )
        inside = np.hypot(east, north) <= radius_km
        lat, lon = moved(network.lat[station], network.lon[station], east[inside], north[inside])
        here = distances_km(
            network.lat[[station]], network.lon[[station]], network.lat, network.lon
        )
        stations = np.sort(np.argsort(here[0], kind="stable")[:SEARCHED])
        travel_s, distance = kernels.grid_paths(lat, lon, depth_km[inside], stations, self._ground)
        p_travel_s = travel_s[np.searchsorted(stations, station), P].copy()
        is_near = kernels.nearest(distance, min(NEAR, len(stations)))
        missing = is_near * np.float32(NEAR_SILENT)
        near = np.stack(
            [is_near.argmax(axis=1), is_near.shape[1] - is_near[:, ::-1].argmax(axis=1)], axis=1
        )
        near[~is_near.any(axis=1)] = 0
        offsets = travel_s - p_travel_s
        spans = np.stack([offsets.min(axis=2), offsets.max(axis=2)], axis=2)
        return _Grid(
            lat, lon, depth_km[inside], stations, offsets, spans, missing, near, p_travel_s
        )


class Odds:
    """What an event must gain where events are as frequent as found, by log odds of `least`.

    Before anything is known of an origin, the odds that a P pick starts a search that finds an
    event are those of events to P picks within `span_s` of it.
    """

    def __init__(self, least: float, span_s: float, p_times_s: list[float]) -> None:
        self._least = least
        self._span_s = span_s
        self._p_times_s = sorted(p_times_s)
        self._events_s: list[float] = []

    def least_gain(self, time_s: float) -> float:
        """Of an event with an origin at a time."""
        early_s, late_s = time_s - self._span_s, time_s + self._span_s
        n_p, n_events = (
            bisect.bisect(times, late_s) - bisect.bisect(times, early_s)
            for times in (self._p_times_s, self._events_s)
        )
        return self._least + math.log((1 + n_p) / (1 + n_events))

    def add(self, time_s: float) -> None:
        """Count an event."""
        bisect.insort(self._events_s, float(time_s))

    def remove(self, time_s: float) -> None:
        """Count an event no longer."""
        at = bisect.bisect_left(self._events_s, time_s)
        if self._events_s[at] != time_s:
            raise ValueError(f"no event at {time_s} s")
        del self._events_s[at]

    def forget(self, before_s: float) -> None:
        """Drop the events of before a time."""
        del self._events_s[: bisect.bisect_left(self._events_s, before_s)]


def _place(origin: Floats) -> Place:
    time_s, lat, lon, depth_km = map(float, origin)
    return time_s, lat, lon, depth_km


@dataclass(frozen=True, slots=True)
class _Grid:
    """Nodes around a station: position [node], stations used [slot], P time from it [node].

    Travel times less that, their limits, what a missing pick is worth, and where: as `search` takes
    them.
    """

    lat: Floats
    lon: Floats
    depth_km: Floats
    stations: Ints
    offsets: kernels.Singles
    spans: kernels.Singles
    missing: kernels.Singles
    near: Ints
    p_travel_s: kernels.Singles
