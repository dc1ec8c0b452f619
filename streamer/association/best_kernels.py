"""The loops of the profile `best` and of location, as machine code.

An origin is an array (time_s, lat, lon, depth_km). Arrays over paths are [phase, station].
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.association.geodesy import KM_PER_DEG, Floats, east_north_km, half_angles, way_km
from streamer.association.jit import compiled
from streamer.association.traveltimes import cell, in_cell

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Singles = NDArray[np.float32]

# Residuals follow Student's distribution with this many degrees of freedom, for which about one
# pick in ten is an outlier; NU_PEAK / sigma is its density at 0.
NU = 4.0
NU_PEAK = 0.375
INFORMATION = (NU + 1) / (NU + 3)  # on a location, per pick, against that of normal errors
# Picks farther from their prediction than this many sigma are no picks of the event.
WIDEST_SIGMA = 4.5
LEAST_TO_MOVE = 4  # picks that fix time and place
NO_PICK = -1
NO_NODE = -1
FREE = -1
TAKEN = -2  # by an event that is settled already


class Box(NamedTuple):
    """Times [station, phase, east, north, depth] from nodes of a grid; empty for flat layers.

    The first node lies `west_km`, `south_km` from the reference point (deg), `top_km` deep.
    """

    times_s: Singles
    lat: float
    lon: float
    west_km: float
    south_km: float
    top_km: float
    step_km: float


NO_BOX = Box(np.empty((0, 0, 0, 0, 0), np.float32), 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Ground(NamedTuple):
    """Stations and travel times: [station] position and table level, tables and their steps.

    Positions are half angles [station, 4] (see `geodesy`). The times are those of `box` if it has
    any.
    """

    angles: Floats
    level: NDArray[np.int32]
    tables: Singles
    steps: tuple[float, float, float]
    shallowest_km: float
    deepest_km: float
    box: Box = NO_BOX


class Errors(NamedTuple):
    """Delays [phase, station] and sigma [phase] of picks (s), error of travel times (a share)."""

    static_s: Floats
    sigma_s: Floats
    relative: float


class Picks(NamedTuple):
    """Picks by phase and station: those of phase p at station i are `starts[p, i]` to `[p, i+1]`.

    `times_s` ascends within them; `value` is the log of probability against its mean over rate;
    `owner` is the event that has the pick, FREE if none has, TAKEN if it is no longer to be had.
    `alive` [station]: sends picks.
    """

    times_s: Floats
    value: Floats
    owner: Ints
    starts: Ints
    alive: Flags


class Fit(NamedTuple):
    """What one origin predicts and takes, [phase, station], and distances [station].

    Residual, its sigma (s) and log density against chance of the chosen pick; derivatives of the
    travel time by east, north, depth (s/km); whether the pick is more likely the event's than not.
    """

    distance_km: Floats
    travel_s: Floats
    by_east: Floats
    by_north: Floats
    by_depth: Floats
    chosen: Ints
    residual_s: Floats
    sigma_s: Floats
    log_density: Floats
    used: Flags


def new_fit(n_stations: int) -> Fit:
    """Room for one origin at a time."""
    shape = 2, n_stations
    return Fit(
        distance_km=np.empty(n_stations),
        travel_s=np.empty(shape),
        by_east=np.empty(shape),
        by_north=np.empty(shape),
        by_depth=np.empty(shape),
        chosen=np.full(shape, NO_PICK, np.int64),
        residual_s=np.empty(shape),
        sigma_s=np.empty(shape),
        log_density=np.empty(shape),
        used=np.zeros(shape, np.bool_),
    )


@compiled
def _first_from(times_s: Floats, first: int, end: int, t_s: float) -> int:
    """The first of the ascending times `first` to `end` that is not before `t_s`."""
    while first < end:
        middle = (first + end) // 2
        if times_s[middle] < t_s:
            first = middle + 1
        else:
            end = middle
    return first


@compiled
def window(
    picks: Picks, t_s: float, early_s: float, late_s: Floats, peak: Floats, ranges: Ints
) -> float:
    """Bound, [phase, station, 2], the free picks of an event with a P pick at `t_s`.

    They lie from `early_s` before it to `late_s` [phase] after it. Returns the most that they can
    be worth together, each with the log density `peak` [phase] of residual 0.
    """
    most = 0.0
    for phase in range(ranges.shape[0]):
        for i in range(ranges.shape[1]):
            first, end = picks.starts[phase, i], picks.starts[phase, i + 1]
            low = _first_from(picks.times_s, first, end, t_s - early_s)
            high = _first_from(picks.times_s, low, end, t_s + late_s[phase])
            ranges[phase, i, 0], ranges[phase, i, 1] = low, high
            best = 0.0
            for j in range(low, high):
                if picks.owner[j] == FREE:
                    best = max(best, picks.value[j] + peak[phase])
            most += best
    return most


@compiled
def search(
    t_s: float,
    early_s: float,
    late_s: Floats,
    least: float,
    stations: Ints,
    offsets: Singles,
    spans: Singles,
    missing: Singles,
    near: Ints,
    picks: Picks,
    sharp_peak: Floats,
    sigma_s: Floats,
    peak: Floats,
    score: Singles,
    part: Singles,
) -> int:
    """The node that explains the picks best if the P wave was at the initiating station at `t_s`.

    NO_NODE if they are worth less than `least` at each, as they must be where the free picks of
    the window (`early_s`, `late_s`, `sharp_peak`: see `window`) are. `offsets` [slot, phase, node]
    are travel times to `stations` [slot] less that of P to the initiating one, `spans` [slot,
    phase] the least and greatest of them. A free pick with residual r is worth value + peak -
    r^2 / 2 sigma^2, if that is more than none: `missing` [slot, node], 0 but for nodes that the
    station is near, all of which lie from `near` [slot, 0] to `near` [slot, 1]. Fills `score`
    [node].
    """
    ranges = np.empty((2, len(picks.alive), 2), np.int64)
    if window(picks, t_s, early_s, late_s, sharp_peak, ranges) < least:
        return NO_NODE
    score[:] = 0
    for slot in range(len(stations)):
        i = stations[slot]
        if not picks.alive[i]:
            continue
        first, end = near[slot]
        silent, score_near = missing[slot, first:end], score[first:end]
        least_worth = silent[0] if first < end else np.float32(0)
        for phase in range(2):
            delays = offsets[slot, phase]
            sharp = np.float32(0.5 / sigma_s[phase] ** 2)
            worth, any_free = missing[slot], False
            for j in range(ranges[phase, i, 0], ranges[phase, i, 1]):
                if picks.owner[j] != FREE:
                    continue
                delay = np.float32(picks.times_s[j] - t_s)
                top = np.float32(picks.value[j] + peak[phase])
                early, late = spans[slot, phase, 0] - delay, delay - spans[slot, phase, 1]
                residual = max(early, late, np.float32(0))
                if top - sharp * residual * residual <= least_worth:
                    continue  # at no node is it worth more than none
                for node in range(len(part)):
                    residual = delay - delays[node]
                    part[node] = max(worth[node], top - sharp * residual * residual)
                worth, any_free = part, True
            if any_free:
                for node in range(len(part)):
                    score[node] += part[node]
            else:
                for node in range(len(silent)):
                    score_near[node] += silent[node]
    node = int(np.argmax(score))
    return node if score[node] >= least else NO_NODE


@compiled
def inside_box(
    box: Box, station: int, phase: int, east_km: float, north_km: float, depth_km: float
) -> tuple[float, float, float, float]:
    """Time (s) and its derivatives by east, north, depth (s/km) of a source, trilinear.

    `east_km`, `north_km` from the box's reference point. Outside, the nearest cell continues.
    """
    times = box.times_s[station, phase]
    x = (east_km - box.west_km) / box.step_km
    y = (north_km - box.south_km) / box.step_km
    z = (depth_km - box.top_km) / box.step_km
    i = min(max(int(x), 0), times.shape[0] - 2)
    j = min(max(int(y), 0), times.shape[1] - 2)
    k = min(max(int(z), 0), times.shape[2] - 2)
    u, v, w = x - i, y - j, z - k
    time, by_x, by_y, by_z = 0.0, 0.0, 0.0, 0.0
    for a in range(2):
        of_x = u if a else 1 - u
        for b in range(2):
            of_y = v if b else 1 - v
            for c in range(2):
                of_z = w if c else 1 - w
                node = times[i + a, j + b, k + c]
                time += of_x * of_y * of_z * node
                by_x += (2 * a - 1) * of_y * of_z * node
                by_y += of_x * (2 * b - 1) * of_z * node
                by_z += of_x * of_y * (2 * c - 1) * node
    return time, by_x / box.step_km, by_y / box.step_km, by_z / box.step_km


@compiled
def predict(origin: Floats, ground: Ground, fit: Fit) -> None:
    """Distances, travel times and their derivatives for one origin."""
    box = ground.box
    in_box = box.times_s.shape[0] > 0
    here_east, here_north = east_north_km(box.lat, box.lon, origin[1], origin[2])
    here = half_angles(origin[1], origin[2])
    for i in range(len(ground.angles)):
        east, north = way_km(here, ground.angles[i])
        distance = math.sqrt(east * east + north * north)
        fit.distance_km[i] = distance
        where = cell(ground.tables.shape[2:], ground.steps, distance, origin[3])
        for phase in range(2):
            if in_box:
                time, by_east, by_north, by_depth = inside_box(
                    box, i, phase, here_east, here_north, origin[3]
                )
                fit.travel_s[phase, i] = time
                fit.by_east[phase, i] = by_east
                fit.by_north[phase, i] = by_north
                fit.by_depth[phase, i] = by_depth
                continue
            table = ground.tables[ground.level[i], phase]
            time, by_distance, by_depth = in_cell(table, ground.steps, where)
            per_km = by_distance / max(distance, 1e-6)
            fit.travel_s[phase, i] = time
            fit.by_east[phase, i] = -per_km * east
            fit.by_north[phase, i] = -per_km * north
            fit.by_depth[phase, i] = by_depth


@compiled
def choose(time_s: float, smear_s: float, errors: Errors, picks: Picks, me: int, fit: Fit) -> int:
    """The most likely pick, free or owned by `me`, for each predicted arrival; their number.

    `smear_s` widens the windows, for S twice as much, while the origin is rough.
    """
    n_chosen = 0
    for phase in range(fit.chosen.shape[0]):
        for i in range(fit.chosen.shape[1]):
            travel = fit.travel_s[phase, i]
            smear = smear_s * (1 + phase)
            sigma = math.sqrt(
                errors.sigma_s[phase] ** 2 + (errors.relative * travel) ** 2 + smear * smear
            )
            predicted = time_s + travel + errors.static_s[phase, i]
            reach = WIDEST_SIGMA * sigma
            first, end = picks.starts[phase, i], picks.starts[phase, i + 1]
            j = _first_from(picks.times_s, first, end, predicted - reach)
            fit.chosen[phase, i] = NO_PICK
            fit.sigma_s[phase, i] = sigma
            while j < end and picks.times_s[j] < predicted + reach:
                if picks.owner[j] == FREE or picks.owner[j] == me:
                    residual = picks.times_s[j] - predicted
                    log_density = (
                        picks.value[j]
                        + math.log(NU_PEAK / sigma)
                        - 0.5 * (NU + 1) * math.log(1 + (residual / sigma) ** 2 / NU)
                    )
                    if fit.chosen[phase, i] == NO_PICK or log_density > fit.log_density[phase, i]:
                        fit.chosen[phase, i] = j
                        fit.residual_s[phase, i] = residual
                        fit.log_density[phase, i] = log_density
                j += 1
            n_chosen += fit.chosen[phase, i] != NO_PICK
    return n_chosen


@compiled
def _likelihoods(p_far: float, fit: Fit) -> tuple[Floats, Floats]:
    """Density of each chosen pick against chance, and the log of what it is worth far away.

    Both are needed twice or thrice; 0 where there is no pick.
    """
    density, far = np.zeros(fit.chosen.shape), np.zeros(fit.chosen.shape)
    for phase in range(fit.chosen.shape[0]):
        for i in range(fit.chosen.shape[1]):
            if fit.chosen[phase, i] != NO_PICK:
                density[phase, i] = math.exp(fit.log_density[phase, i])
                far[phase, i] = math.log(p_far * density[phase, i] + 1 - p_far)
    return density, far


@compiled
def weigh(p_near: float, p_far: float, alive: Flags, fit: Fit) -> float:
    """Log likelihood ratio of "this event and chance" against "chance alone".

    Stations within a radius detect a phase with probability `p_near`, the others with `p_far`; the
    radius is the one that makes the event most likely. Fills `fit.used`.
    """
    density, far = _likelihoods(p_far, fit)
    total = 0.0
    for i in range(len(alive)):
        if alive[i]:
            total += far[0, i]
            total += far[1, i]
    best, radius_km = total, -1.0
    # All radii are as likely beforehand: their likelihoods are averaged, as a sum that is kept
    # relative to the largest.
    sum_to_best, n_radii = 1.0, 1
    silent = math.log(1 - p_near)
    order = np.argsort(fit.distance_km)
    for rank in range(len(order)):
        station = order[rank]
        if not alive[station]:
            continue
        for phase in range(2):
            if fit.chosen[phase, station] == NO_PICK:
                total += silent
            else:
                total += math.log(p_near * density[phase, station] + 1 - p_near)
                total -= far[phase, station]
        n_radii += 1
        if total > best:
            sum_to_best = 1.0 + sum_to_best * math.exp(best - total)
            best, radius_km = total, fit.distance_km[station]
        else:
            sum_to_best += math.exp(total - best)
    for i in range(len(alive)):
        p = p_near if fit.distance_km[i] <= radius_km else p_far
        for phase in range(2):
            fit.used[phase, i] = fit.chosen[phase, i] != NO_PICK and p * density[phase, i] > 1 - p
    return best + math.log(sum_to_best / n_radii)


@compiled
def numbers(used: Flags) -> tuple[int, int, int]:
    """P picks, S picks, and stations with both, of those used [phase, station]."""
    n_p, n_s, n_both = 0, 0, 0
    for i in range(used.shape[1]):
        n_p += used[0, i]
        n_s += used[1, i]
        n_both += used[0, i] and used[1, i]
    return n_p, n_s, n_both


@compiled
def own(owner: Ints, me: int, fit: Fit) -> None:
    """Make `me` own the picks that the fit uses, and no others."""
    for j in range(len(owner)):
        if owner[j] == me:
            owner[j] = FREE
    for phase in range(fit.used.shape[0]):
        for i in range(fit.used.shape[1]):
            if fit.used[phase, i]:
                owner[fit.chosen[phase, i]] = me


@compiled
def insert(
    times_s: Floats, value: Floats, owner: Ints, starts: Ints, phase: int, station: int,
    t_s: float, worth: float,
) -> int:  # fmt: skip
    """Put a free pick among those of its phase and station; its place. Columns have room for it."""
    n = starts[-1, -1]
    at = _first_from(times_s, starts[phase, station], starts[phase, station + 1], t_s)
    for j in range(n, at, -1):
        times_s[j], value[j], owner[j] = times_s[j - 1], value[j - 1], owner[j - 1]
    times_s[at], value[at], owner[at] = t_s, worth, FREE
    starts[phase, station + 1 :] += 1
    starts[phase + 1 :] += 1
    return at


@compiled
def crowding(times_s: Floats, starts: Ints, span_s: float) -> Ints:
    """How many picks of its own path lie within `span_s` of each, itself too; `starts` [path]."""
    near = np.empty(len(times_s), np.int64)
    for path in range(len(starts) - 1):
        low, high = starts[path], starts[path]
        for j in range(starts[path], starts[path + 1]):
            while times_s[low] < times_s[j] - span_s:
                low += 1
            while high < starts[path + 1] and times_s[high] < times_s[j] + span_s:
                high += 1
            near[j] = high - low
    return near


@compiled
def eliminate(normal: Floats) -> None:
    """Gauss elimination, in place, of a positive definite matrix and what is right of it.

    Only what is on and above the diagonal is read and written: the diagonal has the pivots then,
    0 or below for unknowns of which nothing is known. For four of them the calls of LAPACK cost
    more than the arithmetic.
    """
    for a in range(normal.shape[0]):
        if normal[a, a] <= 0:
            continue
        for b in range(a + 1, normal.shape[0]):
            share = normal[a, b] / normal[a, a]
            for c in range(b, normal.shape[1]):
                normal[b, c] -= share * normal[a, c]


@compiled
def move(
    origin: Floats, ground: Ground, fit: Fit, longest_km: float, depth_scale_km: float
) -> float:
    """One reweighted Gauss-Newton step of the origin by the used picks; its length in km.

    Weights are those of Student's distribution. A step is at most `longest_km` long; the change of
    depth is damped as if the depth were known to `depth_scale_km`.
    """
    normal = np.zeros((4, 5))
    row = np.ones(5)
    n = 0
    for phase in range(fit.used.shape[0]):
        for i in range(fit.used.shape[1]):
            if not fit.used[phase, i]:
                continue
            n += 1
            sigma, residual = fit.sigma_s[phase, i], fit.residual_s[phase, i]
            weight = (NU + 1) / (NU + (residual / sigma) ** 2) / sigma**2
            row[1] = fit.by_east[phase, i]
            row[2] = fit.by_north[phase, i]
            row[3] = fit.by_depth[phase, i]
            row[4] = residual
            for a in range(4):
                for b in range(a, 5):
                    normal[a, b] += weight * row[a] * row[b]
    if n < LEAST_TO_MOVE:
        return 0.0
    for a in range(1, 4):
        normal[a, a] += 1 / depth_scale_km**2
    eliminate(normal)
    change = np.empty(4)
    for a in range(3, -1, -1):
        change[a] = normal[a, 4]
        for b in range(a + 1, 4):
            change[a] -= normal[a, b] * change[b]
        change[a] /= normal[a, a]
    length = math.sqrt(change[1] ** 2 + change[2] ** 2 + change[3] ** 2)
    part = min(1.0, longest_km / max(length, 1e-12))
    origin[0] += part * change[0]
    # Near enough in degrees: the next step corrects what is wrong with this one.
    origin[1] += part * change[2] / KM_PER_DEG
    origin[2] += part * change[1] / (KM_PER_DEG * math.cos(math.radians(origin[1])))
    origin[3] = min(max(origin[3] + part * change[3], ground.shallowest_km), ground.deepest_km)
    return part * length


@compiled
def downhill(
    origin: Floats,
    ground: Ground,
    errors: Errors,
    phase: NDArray[np.int8],
    station: NDArray[np.int32],
    time_s: Floats,
    longest_km: float,
    shortest_km: float,
    depth_scale_km: float,
    most_steps: int,
    fit: Fit,
) -> None:
    """Steps of the origin to the next place where the used picks [pick] fit best.

    The last one is shorter than `shortest_km`. Leaves in `fit` what the end makes of them.
    """
    length_km = math.inf
    for step in range(most_steps + 1):
        predict(origin, ground, fit)
        for n in range(len(time_s)):
            p, i = phase[n], station[n]
            travel_s = fit.travel_s[p, i]
            late_s = errors.relative * travel_s
            fit.residual_s[p, i] = time_s[n] - origin[0] - travel_s - errors.static_s[p, i]
            fit.sigma_s[p, i] = math.sqrt(errors.sigma_s[p] ** 2 + late_s * late_s)
        if step == most_steps or length_km < shortest_km:
            return
        length_km = move(origin, ground, fit, longest_km, depth_scale_km)


@compiled
def information(fit: Fit) -> Floats:
    """What the used picks say of time (s), east, north and depth (km), [4, 4]."""
    normal = np.zeros((4, 4))
    row = np.ones(4)
    for phase in range(fit.used.shape[0]):
        for i in range(fit.used.shape[1]):
            if fit.used[phase, i]:
                row[1] = fit.by_east[phase, i]
                row[2] = fit.by_north[phase, i]
                row[3] = fit.by_depth[phase, i]
                for a in range(4):
                    for b in range(4):
                        normal[a, b] += INFORMATION * row[a] * row[b] / fit.sigma_s[phase, i] ** 2
    return normal


@compiled
def covariance(fit: Fit, greatest: float) -> Floats:
    """Of time (s), east, north, depth (km), [4, 4]: inverse information of the used picks.

    What they do not fix gets the standard error `greatest` through a prior of that width.
    """
    inverse = np.empty((4, 4))
    inverse[:] = np.linalg.inv(information(fit) + np.eye(4) / greatest**2)
    return inverse


@compiled
def log_share(searched_km3: float, fit: Fit) -> float:
    """Log of the share of the searched volume in which the origin explains its picks as well.

    By the covariance of the used picks (Laplace's approximation): log((2 pi)^(3/2) |C|^(1/2) / V),
    at most 0. With it the gain says how likely an event is here, wherever one looks first.
    """
    pivots = information(fit)
    eliminate(pivots)
    # Information on the place, whatever the time: what is left of it once time is eliminated.
    place = max(pivots[1, 1] * pivots[2, 2] * pivots[3, 3], 1e-30)
    return min(0.0, 1.5 * math.log(2 * math.pi) - 0.5 * math.log(place) - math.log(searched_km3))


@compiled
def refine(
    origin: Floats,
    smears_s: Floats,
    ground: Ground,
    errors: Errors,
    picks: Picks,
    me: int,
    p_near: float,
    p_far: float,
    longest_km: float,
    depth_scale_km: float,
    searched_km3: float,
    fit: Fit,
) -> float:
    """Choose picks, with windows that narrow, and move the origin in between; the event's gain.

    Changes `origin`; `fit` is that of the final one.
    """
    moved_km, gain, too_few = math.inf, 0.0, False
    for n in range(len(smears_s)):
        # Most origins are of noise and stay where they are, for less than four picks want them:
        # then the narrowest windows, which hold no more picks, are all that matters.
        if too_few and smears_s[n] != smears_s[-1]:
            continue
        if n > 0:
            moved_km = move(origin, ground, fit, longest_km, depth_scale_km)
        if moved_km != 0:
            predict(origin, ground, fit)
        if moved_km != 0 or smears_s[n] != smears_s[n - 1]:
            n_chosen = choose(origin[0], smears_s[n], errors, picks, me, fit)
            too_few = n_chosen < LEAST_TO_MOVE
            if too_few and smears_s[n] != smears_s[-1]:
                fit.used[:] = False
            else:
                gain = weigh(p_near, p_far, picks.alive, fit)
    return gain + log_share(searched_km3, fit)


@compiled
def nearest(distance_km: Singles, n: int) -> Flags:
    """Which `n` of the slots are nearest to a node, [slot, node]."""
    near = np.zeros(distance_km.shape, np.bool_)
    slots = np.empty(n, np.int64)
    for node in range(distance_km.shape[1]):
        for slot in range(distance_km.shape[0]):
            # Those nearest so far in order of distance: the last one makes room.
            at = min(slot, n)
            while at > 0 and distance_km[slot, node] < distance_km[slots[at - 1], node]:
                if at < n:
                    slots[at] = slots[at - 1]
                at -= 1
            if at < n:
                slots[at] = slot
        for at in range(n):
            near[slots[at], node] = True
    return near


@compiled
def grid_paths(
    lat: Floats, lon: Floats, depth_km: Floats, stations: Ints, ground: Ground
) -> tuple[Singles, Singles]:
    """Travel times [slot, phase, node] and distances [slot, node] from nodes to some stations.

    Successive nodes that lie one below the other are equally far.
    """
    travel = np.empty((len(stations), 2, len(lat)), np.float32)
    distance = np.empty((len(stations), len(lat)), np.float32)
    box = ground.box
    for slot in range(len(stations)):
        i, km = stations[slot], 0.0
        for node in range(len(lat)):
            if node == 0 or lat[node] != lat[node - 1] or lon[node] != lon[node - 1]:
                east, north = way_km(half_angles(lat[node], lon[node]), ground.angles[i])
                km = math.sqrt(east * east + north * north)
            distance[slot, node] = km
            if box.times_s.shape[0] > 0:
                east, north = east_north_km(box.lat, box.lon, lat[node], lon[node])
                for phase in range(2):
                    travel[slot, phase, node] = inside_box(
                        box, i, phase, east, north, depth_km[node]
                    )[0]
                continue
            where = cell(ground.tables.shape[2:], ground.steps, km, depth_km[node])
            for phase in range(2):
                table = ground.tables[ground.level[i], phase]
                travel[slot, phase, node] = in_cell(table, ground.steps, where)[0]
    return travel, distance
