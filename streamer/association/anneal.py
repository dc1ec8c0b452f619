"""Simulated annealing: a global start for location where steps downhill may end in a wrong valley.

Position, depth and origin time wander together. Steps follow Cauchy's distribution, short mostly
and long now and then; both they and the readiness to accept a worse place (Metropolis et al., 1953)
shrink as the temperature falls (Szu & Hartley, 1987). The draws come from a seed: equal picks give
equal places.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.association.best_kernels import NU, Ground, inside_box
from streamer.association.geodesy import KM_PER_DEG, Floats, east_north_km, half_angles, way_km
from streamer.association.jit import compiled
from streamer.association.traveltimes import interpolate

Ints = NDArray[np.int64]
Axes = tuple[bool, bool, bool, bool]
ALL_AXES: Axes = (True, True, True, True)

TRIALS = 3000
# Temperature: that of the first trial, in units of the misfit per pick, and of the last.
FIRST, LAST = 2.0, 1e-3
# Steps at the temperature of the last trial, as a share of those at the first.
LAST_STEP_SHARE = 2e-3


class Observations(NamedTuple):
    """Picks of one event, [pick]: path, time less the path's delay (s), sigma (s), weight."""

    station: Ints
    phase: Ints
    time_s: Floats
    sigma_s: Floats
    weight: Floats


class Bounds(NamedTuple):
    """How far from the start places are tried: half widths (km, s), and depths (km)."""

    horizontal_km: float
    time_s: float
    shallowest_km: float
    deepest_km: float


def annealed(
    start: Floats,
    picks: Observations,
    ground: Ground,
    bounds: Bounds,
    seed: int = 0,
    trials: int = TRIALS,
    robust: bool = True,
    free: Axes = ALL_AXES,
) -> tuple[Floats, float]:
    """The best origin (time_s, lat, lon, depth_km) met from `start` on, and its misfit.

    The misfit is the negative log likelihood, by Student's distribution if `robust`, else normal.
    Axes that are not `free` (time, lat, lon, depth) stay.
    """
    rng = np.random.default_rng(seed)
    draws = rng.standard_cauchy((trials, 4))
    chances = rng.uniform(size=trials)
    origin = np.array(start, np.float64)
    draws[:, ~np.array(free)] = 0.0
    misfit = _anneal(origin, picks, ground, bounds, draws, chances, robust)
    return origin, float(misfit)


@compiled
def misfit_of(origin: Floats, picks: Observations, ground: Ground, robust: bool) -> float:
    """Negative log likelihood of the picks, up to a constant."""
    total = 0.0
    box = ground.box
    in_box = box.times_s.shape[0] > 0
    here_east, here_north = east_north_km(box.lat, box.lon, origin[1], origin[2])
    here = half_angles(origin[1], origin[2])
    for n in range(len(picks.station)):
        i = picks.station[n]
        if in_box:
            travel = inside_box(box, i, picks.phase[n], here_east, here_north, origin[3])[0]
        else:
            east, north = way_km(here, ground.angles[i])
            table = ground.tables[ground.level[i], picks.phase[n]]
            distance = math.sqrt(east * east + north * north)
            travel = interpolate(table, ground.steps, distance, origin[3])[0]
        scaled = (picks.time_s[n] - origin[0] - travel) / picks.sigma_s[n]
        if robust:
            part = 0.5 * (NU + 1) * math.log(1 + scaled * scaled / NU)
        else:
            part = 0.5 * scaled * scaled
        total += picks.weight[n] * part
    return total


@compiled
def _anneal(
    origin: Floats,
    picks: Observations,
    ground: Ground,
    bounds: Bounds,
    draws: Floats,
    chances: Floats,
    robust: bool,
) -> float:
    """Leaves the best origin met in `origin`; returns its misfit."""
    start = origin.copy()
    here = origin.copy()
    there = origin.copy()
    misfit_here = misfit_of(here, picks, ground, robust)
    least = misfit_here
    n_trials = len(chances)
    half_depth = 0.5 * (bounds.deepest_km - bounds.shallowest_km)
    per_pick = max(1.0, np.sum(picks.weight) / 4)
    wide_lat = bounds.horizontal_km / KM_PER_DEG
    wide_lon = wide_lat / math.cos(math.radians(start[1]))
    for trial in range(n_trials):
        share = trial / max(n_trials - 1, 1)
        temperature = FIRST * per_pick * (LAST / FIRST) ** share
        step = 0.2 * LAST_STEP_SHARE**share
        # All four at once, or one of them: valleys may run along an axis.
        only = trial % 5
        for axis in range(4):
            there[axis] = here[axis]
            if only in (4, axis):
                width = bounds.time_s
                if axis == 1:
                    width = wide_lat
                elif axis == 2:
                    width = wide_lon
                elif axis == 3:
                    width = half_depth
                there[axis] += step * width * draws[trial, axis]
        if (
            abs(there[0] - start[0]) > bounds.time_s
            or abs(there[1] - start[1]) > wide_lat
            or abs(there[2] - start[2]) > wide_lon
            or there[3] < bounds.shallowest_km
            or there[3] > bounds.deepest_km
        ):
            continue
        misfit = misfit_of(there, picks, ground, robust)
        worse = misfit - misfit_here
        if worse <= 0 or chances[trial] < math.exp(-worse / temperature):
            here[:] = there
            misfit_here = misfit
            if misfit < least:
                least = misfit
                origin[:] = there
    return least
