"""The loops of REAL as machine code. Arrays are [station], [node] or [candidate]; times in s.

Picks of one phase are stored station by station: those of station i are
`times[starts[i]:starts[i + 1]]`, ascending.
"""

import math

import numpy as np
from numpy.typing import NDArray

from streamer.association.geodesy import Floats
from streamer.association.jit import compiled

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NO_PICK = -100.0  # stands for the P pick of a station that has none


@compiled
def advance(times: Floats, starts: Ints, counts: Ints, before_s: float) -> None:
    """Raise `counts` to the number of each station's picks before `before_s`."""
    for i in range(len(counts)):
        while starts[i] + counts[i] < starts[i + 1] and times[starts[i] + counts[i]] < before_s:
            counts[i] += 1


@compiled
def count_picks(
    t_s: float,
    offsets: Floats,
    p_times: Floats,
    p_range: Ints,
    s_times: Floats,
    s_range: Ints,
    half_p_s: float,
    half_s_s: float,
    least_s_minus_p_s: float,
    counts: Ints,
    p_found: Floats,
    s_found: Ints,
) -> int:
    """Picks that fit each node if the P wave reached the initiating station at `t_s`.

    `offsets` [station, phase, node]: travel time less that of P to the initiating station, NaN out
    of range. `p_range`, `s_range` [station, 2] bound the picks to look at. Fills `counts` [node]
    and returns its maximum; `p_found`, `s_found` [node] are scratch.
    """
    nodes = len(counts)
    counts[:] = 0
    for i in range(len(p_range)):
        first_p, last_p = p_range[i]
        first_s, last_s = s_range[i]
        if first_p >= last_p and first_s >= last_s:
            continue
        # Without branches: the loops over nodes become vector instructions.
        p_found[:] = NO_PICK
        for j in range(first_p, last_p):
            time = p_times[j]
            for node in range(nodes):
                residual = time - (t_s + offsets[i, 0, node])
                fits = (abs(residual) < half_p_s) & (p_found[node] == NO_PICK)
                p_found[node] = time if fits else p_found[node]
                counts[node] += fits
        s_found[:] = 0
        for j in range(first_s, last_s):
            time = s_times[j]
            for node in range(nodes):
                residual = time - (t_s + offsets[i, 1, node])
                fits = (
                    (abs(residual) < half_s_s)
                    & (s_found[node] == 0)
                    & (time - p_found[node] > least_s_minus_p_s)
                    & (offsets[i, 1, node] - offsets[i, 0, node] > least_s_minus_p_s)
                )
                s_found[node] += fits
                counts[node] += fits
    return int(counts.max())


@compiled
def first_inside(
    times: Floats, first: int, last: int, centre_s: float, half_s: float, after_s: float
) -> int:
    """Index of the first pick in the window and later than `after_s`; -1 if there is none."""
    for j in range(first, last):
        if times[j] - centre_s >= half_s:
            break
        if times[j] - centre_s > -half_s and times[j] > after_s:
            return j
    return -1


@compiled
def origin_times(
    t_s: float,
    node: int,
    offsets: Floats,
    p_travel_s: Floats,
    weights: NDArray[np.float32],
    p_times: Floats,
    p_range: Ints,
    s_times: Floats,
    s_range: Ints,
    half_p_s: float,
    half_s_s: float,
    least_s_minus_p_s: float,
    estimates: Floats,
    owners: Ints,
) -> tuple[int, int, int, float]:
    """Origin time by each pick that fits one node: numbers of P, S, both, and sum of weights.

    `p_travel_s` [node] from the nodes to the initiating station, `weights` [station, node].
    Fills `estimates` and `owners` (station) of P + S picks.
    """
    n_p = n_s = n_both = 0
    weight = 0.0
    for i in range(len(p_range)):
        p_offset, s_offset = offsets[i, 0, node], offsets[i, 1, node]
        if math.isnan(p_offset):
            continue
        p = first_inside(p_times, p_range[i, 0], p_range[i, 1], t_s + p_offset, half_p_s, -np.inf)
        earliest_s = NO_PICK
        if p >= 0:
            estimates[n_p + n_s] = p_times[p] - p_offset - p_travel_s[node]
            owners[n_p + n_s] = i
            earliest_s = p_times[p] + least_s_minus_p_s
            weight += weights[i, node]
            n_p += 1
        if s_offset - p_offset <= least_s_minus_p_s:
            continue
        s = first_inside(
            s_times,
            s_range[i, 0],
            s_range[i, 1],
            t_s + s_offset,
            half_s_s,
            earliest_s,
        )
        if s >= 0:
            estimates[n_p + n_s] = s_times[s] - s_offset - p_travel_s[node]
            owners[n_p + n_s] = i
            weight += weights[i, node]
            n_s += 1
            n_both += p >= 0
    return n_p, n_s, n_both, weight


@compiled
def median_and_std(values: Floats) -> tuple[float, float]:
    """Median, and standard deviation about it with one degree of freedom lost."""
    median = float(np.median(values))
    if len(values) < 2:
        return median, np.inf
    return median, math.sqrt(np.sum((values - median) ** 2) / (len(values) - 1))


@compiled
def remove_pick(times: Floats, heads: Ints, station: int, index: int) -> None:
    """Take one pick out of a station's remaining picks, which then begin one later."""
    for j in range(index, heads[station], -1):
        times[j] = times[j - 1]
    heads[station] += 1


@compiled
def remove_explained(
    times: Floats,
    heads: Ints,
    ends: Ints,
    predicted_s: Floats,
    half_s: float,
    before_s: float,
) -> int:
    """Remove the first remaining P pick of each station near its predicted time; how many were.

    As in REAL only as many picks of a station are looked at as the busiest one has before
    `before_s`, and one more.
    """
    deepest = 0
    for i in range(len(heads)):
        j = heads[i]
        while j < ends[i] and times[j] < before_s:
            j += 1
        deepest = max(deepest, j - heads[i])
    removed = 0
    for i in range(len(heads)):
        last = min(ends[i], heads[i] + deepest + 1)
        j = first_inside(times, heads[i], last, predicted_s[i], half_s, -np.inf)
        if j >= 0:
            remove_pick(times, heads, i, j)
            removed += 1
    return removed


@compiled
def strongest_in_time(time_s: Floats, weight: Floats, std_s: Floats, separation_s: float) -> Flags:
    """Which candidates, ascending in time, survive those within `separation_s` of them."""
    kept = np.ones(len(time_s), np.bool_)
    for i in range(1, len(time_s)):
        first = np.searchsorted(time_s, time_s[i] - separation_s)
        for k in range(first, len(time_s)):
            if not kept[i] or time_s[k] - time_s[i] >= separation_s:
                break
            if k == i or not kept[k] or time_s[i] - time_s[k] >= separation_s:
                continue
            close = abs(weight[i] - weight[k]) < 1
            if weight[i] > weight[k] or (close and std_s[i] < std_s[k]):
                kept[k] = False
            else:
                kept[i] = False
    return kept


@compiled
def share_out(
    picks: Ints,
    residual_s: Floats,
    counts: Ints,
    time_s: Floats,
    weight: Floats,
    limit_s: Floats,
    pick_time_s: Floats,
) -> None:
    """Leave each pick that two events claim to one of them.

    `picks`, `residual_s` [event, slot], of which the first `counts` [event] are valid; events
    ascend in time. The heavier one has it, if it fits that within `limit_s`. As in REAL a pick that
    moves into the slot of a dropped one is not compared with what the latter has been, and a slot
    that has become invalid is compared to the end.
    """
    for i in range(len(counts)):
        j = 0
        while j < counts[i]:
            latest_s = pick_time_s[picks[i, : counts[i]]].max()
            for other in range(i + 1, len(counts)):
                if time_s[other] >= latest_s:
                    break
                m = 0
                while m < counts[other]:
                    if picks[i, j] == picks[other, m]:
                        if weight[i] < weight[other] and residual_s[other, m] < limit_s[other]:
                            _drop(picks[i], residual_s[i], j, counts[i])
                            counts[i] -= 1
                        else:
                            _drop(picks[other], residual_s[other], m, counts[other])
                            counts[other] -= 1
                    m += 1
            j += 1


@compiled
def _drop(picks: Ints, residual_s: Floats, slot: int, count: int) -> None:
    for k in range(slot, count - 1):
        picks[k] = picks[k + 1]
        residual_s[k] = residual_s[k + 1]


@compiled
def by_azimuth(picks: Ints, azimuth_deg: Floats) -> None:
    """Order picks by azimuth the way REAL does: among equals the order is that of its exchanges."""
    for j in range(len(picks)):
        for k in range(j, len(picks)):
            if azimuth_deg[j] > azimuth_deg[k]:
                picks[j], picks[k] = picks[k], picks[j]
                azimuth_deg[j], azimuth_deg[k] = azimuth_deg[k], azimuth_deg[j]


@compiled
def without_far(travel_s: Floats, factor: float) -> Ints:
    """Indices of the picks that are not much later than the median.

    `travel_s`: travel times as of S waves. The limit is the median plus `factor` standard
    deviations, found with the latest pick at the median. As in REAL a pick that follows a dropped
    one is not looked at.
    """
    if len(travel_s) < 2:
        return np.arange(len(travel_s))
    spread = travel_s.copy()
    median = float(np.median(travel_s))
    spread[np.argmax(travel_s)] = median
    # The median of `spread` may be another, but REAL takes the deviation from this one.
    std = math.sqrt(np.sum((spread - median) ** 2) / (len(spread) - 1))
    kept = np.empty(len(travel_s), np.int64)
    n = j = 0
    while j < len(travel_s):
        if travel_s[j] > median + factor * std:
            j += 1
            if j == len(travel_s):
                break
        kept[n] = j
        n += 1
        j += 1
    return kept[:n]
