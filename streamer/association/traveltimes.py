"""First-arrival travel times in flat layers: exact rays, and tables to look them up quickly.

The direct ray is found by its angle; head waves run along every faster layer below both ends (and
above both, under a fast lid). Sources and stations may lie at any depth, above sea level too.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streamer.association.geodesy import Floats
from streamer.association.jit import compiled
from streamer.association.velocity import LayeredModel

# Halvings of the ray's angle: the last one moves it by 90 deg / 2^50.
ANGLE_STEPS = 50
# Two ends closer in depth than this (km, a micrometre) are at one depth.
SAME_DEPTH_KM = 1e-9
# Cells of a table along distance and depth: a cell of 0.4 % of the range is interpolated to
# better than 1 ms in 100 km.
DISTANCE_CELLS = 240
DEPTH_CELLS = 80


@compiled
def _path_in_layer_km(top_km: Floats, layer: int, upper_km: float, lower_km: float) -> float:
    """Thickness of one layer between two depths; the first reaches up, the last down for ever."""
    top = upper_km if layer == 0 else max(upper_km, top_km[layer])
    bottom = lower_km if layer == len(top_km) - 1 else min(lower_km, top_km[layer + 1])
    return max(0.0, bottom - top)


@compiled
def _fastest(top_km: Floats, v_km_s: Floats, upper_km: float, lower_km: float) -> float:
    """Largest velocity between two depths."""
    fastest = 0.0
    for layer in range(len(top_km)):
        if _path_in_layer_km(top_km, layer, upper_km, lower_km) > 0:
            fastest = max(fastest, v_km_s[layer])
    return fastest


@compiled
def _velocity_at(top_km: Floats, v_km_s: Floats, depth_km: float) -> float:
    """Velocity at a depth; on an interface that of the faster side, where the ray runs."""
    fastest = 0.0
    for layer in range(len(top_km)):
        below_top = layer == 0 or top_km[layer] <= depth_km
        above_bottom = layer == len(top_km) - 1 or depth_km <= top_km[layer + 1]
        if below_top and above_bottom:
            fastest = max(fastest, v_km_s[layer])
    return fastest


@compiled
def _direct_s(
    distance_km: float, upper_km: float, lower_km: float, top_km: Floats, v_km_s: Floats
) -> float:
    """Time of the ray that leaves one depth and reaches the other without turning."""
    if lower_km - upper_km < SAME_DEPTH_KM:
        return distance_km / _velocity_at(top_km, v_km_s, upper_km)
    fastest = _fastest(top_km, v_km_s, upper_km, lower_km)
    low, high = 0.0, 0.5 * math.pi
    time = 0.0
    for _ in range(ANGLE_STEPS):
        angle = 0.5 * (low + high)
        slowness = math.sin(angle) / fastest
        reach = 0.0
        time = 0.0
        for layer in range(len(top_km)):
            path = _path_in_layer_km(top_km, layer, upper_km, lower_km)
            if path > 0:
                sine = slowness * v_km_s[layer]
                cosine = math.sqrt(max(1e-30, 1 - sine * sine))
                reach += path * sine / cosine
                time += path * cosine / v_km_s[layer]
        # The intercept form p x + sum(h cos / v) is stationary at the ray: errors of p cancel.
        time += slowness * distance_km
        if reach < distance_km:
            low = angle
        else:
            high = angle
    return time


@compiled
def _head_wave_s(
    distance_km: float, upper_km: float, lower_km: float, top_km: Floats, v_km_s: Floats
) -> float:
    """Earliest of the waves refracted along the tops of layers below both ends; inf if none."""
    earliest = np.inf
    for refractor in range(1, len(top_km)):
        interface = top_km[refractor]
        if (
            interface < lower_km
            or _fastest(top_km, v_km_s, upper_km, interface) >= (v_km_s[refractor])
        ):
            continue
        slowness = 1 / v_km_s[refractor]
        critical_km = 0.0
        time = slowness * distance_km
        for layer in range(refractor):
            path = _path_in_layer_km(top_km, layer, upper_km, interface) + _path_in_layer_km(
                top_km, layer, lower_km, interface
            )
            vertical = math.sqrt(1 / v_km_s[layer] ** 2 - slowness * slowness) if path > 0 else 1.0
            critical_km += path * slowness / vertical
            time += path * vertical
        if distance_km >= critical_km:
            earliest = min(earliest, time)
    return earliest


@compiled
def _first_arrivals_s(
    distance_km: Floats, depth_km: Floats, station_depth_km: float, top_km: Floats, v_km_s: Floats
) -> Floats:
    # The same layers seen from below: head waves under a fast lid are head waves upside down.
    lid_top_km = np.empty(len(top_km))
    lid_top_km[0] = -np.inf
    for layer in range(1, len(top_km)):
        lid_top_km[layer] = -top_km[len(top_km) - layer]
    lid_v_km_s = v_km_s[::-1].copy()
    times = np.empty(len(distance_km))
    for i in range(len(distance_km)):
        upper = min(depth_km[i], station_depth_km)
        lower = max(depth_km[i], station_depth_km)
        times[i] = min(
            _direct_s(distance_km[i], upper, lower, top_km, v_km_s),
            _head_wave_s(distance_km[i], upper, lower, top_km, v_km_s),
            _head_wave_s(distance_km[i], -lower, -upper, lid_top_km, lid_v_km_s),
        )
    return times


def first_arrival_s(
    distance_km: Floats | float,
    depth_km: Floats | float,
    station_depth_km: float,
    top_km: Floats,
    v_km_s: Floats,
) -> Floats:
    """Travel time of the first arrival of one phase, s; distance and depth broadcast.

    `distance_km` along the surface, `depth_km` of the source and `station_depth_km` below sea
    level (negative above), `top_km` and `v_km_s` [layer] as in LayeredModel.
    """
    distance, depth = np.broadcast_arrays(distance_km, depth_km)
    times = _first_arrivals_s(
        np.array(distance, np.float64).ravel(),
        np.array(depth, np.float64).ravel(),
        float(station_depth_km),
        top_km,
        v_km_s,
    )
    return times.reshape(distance.shape)


@dataclass(frozen=True)
class TravelTimes:
    """Travel times to stations of all elevations, looked up by distance and source depth.

    `times_s` float32 [level, phase, depth, distance], where a level is one elevation that stations
    have; `level` int32 [station]. Depths start at `shallowest_km` below sea level.
    """

    times_s: NDArray[np.float32]
    level: NDArray[np.int32]
    shallowest_km: float
    depth_step_km: float
    distance_step_km: float

    @classmethod
    def build(
        cls,
        model: LayeredModel,
        station_depths_km: Floats,
        farthest_km: float,
        shallowest_km: float,
        deepest_km: float,
    ) -> "TravelTimes":
        """Tables for sources between two depths and stations up to `farthest_km` away."""
        levels_km, level = np.unique(np.round(station_depths_km, 3), return_inverse=True)
        distance = np.linspace(0, farthest_km, DISTANCE_CELLS + 1)
        depth = np.linspace(shallowest_km, deepest_km, DEPTH_CELLS + 1)
        times = np.empty((len(levels_km), 2, len(depth), len(distance)), np.float32)
        for i, station_depth_km in enumerate(levels_km):
            for phase, velocity in enumerate((model.vp_km_s, model.vs_km_s)):
                times[i, phase] = first_arrival_s(
                    distance, depth[:, None], station_depth_km, model.top_km, velocity
                )
        return cls(
            times,
            level.astype(np.int32),
            shallowest_km,
            float(depth[1] - depth[0]),
            float(distance[1]),
        )

    @cached_property
    def steps(self) -> tuple[float, float, float]:
        """Shallowest depth, depth step and distance step, km: what `interpolate` needs."""
        return self.shallowest_km, self.depth_step_km, self.distance_step_km

    def times(self, station: NDArray[np.int64], distance_km: Floats, depth_km: Floats) -> Floats:
        """P and S times in s, [phase, path], of paths [path] to stations given by index."""
        return _interpolate_all(
            self.times_s, self.level[station], self.steps, distance_km, depth_km
        )

    def lookup(self, station: int, phase: int, distance_km: float, depth_km: float) -> float:
        """Travel time in s."""
        table = self.times_s[self.level[station], phase]
        return interpolate(table, self.steps, distance_km, depth_km)[0]


@compiled
def interpolate(
    table: NDArray[np.float32],
    steps: tuple[float, float, float],
    distance_km: float,
    depth_km: float,
) -> tuple[float, float, float]:
    """Time (s) and its derivatives by distance and by depth (s/km), bilinear in one table.

    Outside the table the nearest cell continues.
    """
    return in_cell(table, steps, cell(table.shape, steps, distance_km, depth_km))


@compiled
def cell(
    shape: tuple[int, int], steps: tuple[float, float, float], distance_km: float, depth_km: float
) -> tuple[int, int, float, float]:
    """Row and column of the cell of a table, and the shares of it along depth and distance."""
    shallowest_km, depth_step_km, distance_step_km = steps
    row = (depth_km - shallowest_km) / depth_step_km
    column = distance_km / distance_step_km
    i = min(max(int(row), 0), shape[0] - 2)
    j = min(max(int(column), 0), shape[1] - 2)
    return i, j, row - i, column - j


@compiled
def in_cell(
    table: NDArray[np.float32],
    steps: tuple[float, float, float],
    where: tuple[int, int, float, float],
) -> tuple[float, float, float]:
    """What `interpolate` gives, where the cell is known."""
    _, depth_step_km, distance_step_km = steps
    i, j, v, u = where
    near, far = table[i, j], table[i, j + 1]
    deep_near, deep_far = table[i + 1, j], table[i + 1, j + 1]
    time = (1 - v) * ((1 - u) * near + u * far) + v * ((1 - u) * deep_near + u * deep_far)
    by_distance = ((1 - v) * (far - near) + v * (deep_far - deep_near)) / distance_step_km
    by_depth = ((1 - u) * (deep_near - near) + u * (deep_far - far)) / depth_step_km
    return time, by_distance, by_depth


@compiled
def _interpolate_all(
    tables: NDArray[np.float32],
    level: NDArray[np.int32],
    steps: tuple[float, float, float],
    distance_km: Floats,
    depth_km: Floats,
) -> Floats:
    times = np.empty((2, len(level)))
    for i in range(len(level)):
        for phase in range(2):
            table = tables[level[i], phase]
            times[phase, i] = interpolate(table, steps, distance_km[i], depth_km[i])[0]
    return times
