"""Distances and directions between points some hundred kilometres apart, at metre precision.

A chord is measured on the ellipsoid's two radii of curvature at the mean latitude and bent onto a
sphere of their geometric mean: within 1e-5 of Vincenty's distance up to 300 km.
"""

import math

import numpy as np
from numpy.typing import NDArray

from streamer.association.jit import compiled

Floats = NDArray[np.float64]
HalfAngles = tuple[float, float, float, float]

# Length of a degree of a great circle, as REAL has it: for steps and search ranges.
KM_PER_DEG = 111.19

# WGS 84: semi-major axis (km) and the square of the eccentricity.
SEMI_MAJOR_KM = 6378.137
ECCENTRICITY_2 = 0.00669437999014


@compiled
def half_angles(lat: float, lon: float) -> HalfAngles:
    """Sine and cosine of half the latitude, and of half the longitude, of a point (deg)."""
    half_phi, half_lambda = 0.5 * math.radians(lat), 0.5 * math.radians(lon)
    return math.sin(half_phi), math.cos(half_phi), math.sin(half_lambda), math.cos(half_lambda)


@compiled
def way_km(here: HalfAngles, there: HalfAngles | Floats) -> tuple[float, float]:
    """Way from one point to another in km along east and north at the mean latitude.

    By their half angles, with which sums and differences of angles need no sines.
    """
    sin_phi, cos_phi, sin_lambda, cos_lambda = here
    to_sin_phi, to_cos_phi, to_sin_lambda, to_cos_lambda = there[0], there[1], there[2], there[3]
    sine = sin_phi * to_cos_phi + cos_phi * to_sin_phi
    curvature = 1 - ECCENTRICITY_2 * sine * sine
    across_km = SEMI_MAJOR_KM / math.sqrt(curvature)
    along_km = across_km * (1 - ECCENTRICITY_2) / curvature
    half_lon = to_sin_lambda * cos_lambda - to_cos_lambda * sin_lambda
    if to_cos_lambda * cos_lambda + to_sin_lambda * sin_lambda < 0:  # the other way is shorter
        half_lon = -half_lon
    parallels = (1 - 2 * sin_phi * sin_phi) * (1 - 2 * to_sin_phi * to_sin_phi)
    north = 2 * along_km * (to_sin_phi * cos_phi - to_cos_phi * sin_phi)
    east = 2 * across_km * math.sqrt(max(parallels, 0.0)) * half_lon
    # Arc from chord: s = 2R asin(c / 2R), first term of its series.
    stretch = 1 + (north * north + east * east) / (24 * across_km * along_km)
    return east * stretch, north * stretch


@compiled
def east_north_km(lat: float, lon: float, to_lat: float, to_lon: float) -> tuple[float, float]:
    """Way from one point (deg) to another in km along east and north at the mean latitude."""
    return way_km(half_angles(lat, lon), half_angles(to_lat, to_lon))


@compiled
def all_half_angles(lat: Floats, lon: Floats) -> Floats:
    """The half angles of points (deg), [point, 4]."""
    angles = np.empty((len(lat), 4))
    for i in range(len(lat)):
        angles[i] = half_angles(lat[i], lon[i])
    return angles


@compiled
def distance_km(lat: float, lon: float, to_lat: float, to_lon: float) -> float:
    """Distance along the surface in km between points given in deg."""
    east, north = east_north_km(lat, lon, to_lat, to_lon)
    return math.sqrt(east * east + north * north)


@compiled
def distances_km(lat: Floats, lon: Floats, to_lat: Floats, to_lon: Floats) -> Floats:
    """Distances [point, other point] in km between points given in deg."""
    distances = np.empty((len(lat), len(to_lat)))
    for i in range(len(lat)):
        for j in range(len(to_lat)):
            distances[i, j] = distance_km(lat[i], lon[i], to_lat[j], to_lon[j])
    return distances


@compiled
def azimuths_deg(lat: float, lon: float, to_lat: Floats, to_lon: Floats) -> Floats:
    """Directions [point] of points seen from one, deg clockwise from north in [0, 360)."""
    azimuths = np.empty(len(to_lat))
    phi = math.radians(lat)
    for i in range(len(to_lat)):
        to_phi, to_east = math.radians(to_lat[i]), math.radians(to_lon[i] - lon)
        y = math.sin(to_east) * math.cos(to_phi)
        x = math.cos(phi) * math.sin(to_phi) - math.sin(phi) * math.cos(to_phi) * math.cos(to_east)
        azimuths[i] = math.degrees(math.atan2(y, x)) % 360.0
    return azimuths


def moved(lat: float, lon: float, east_km: Floats, north_km: Floats) -> tuple[Floats, Floats]:
    """The points (deg) that lie `east_km`, `north_km` [point] from one, within some 100 km."""
    curvature = 1 - ECCENTRICITY_2 * math.sin(math.radians(lat)) ** 2
    across_km = SEMI_MAJOR_KM / math.sqrt(curvature)
    along_km = across_km * (1 - ECCENTRICITY_2) / curvature
    to_lat = lat + np.degrees(north_km / along_km)
    parallel_km = across_km * np.cos(np.radians(0.5 * (lat + to_lat)))
    return to_lat, (lon + np.degrees(east_km / parallel_km) + 180.0) % 360.0 - 180.0


@compiled
def azimuthal_gap_deg(azimuths_deg: Floats) -> float:
    """Largest angle between neighbouring azimuths, 360 for fewer than two."""
    if len(azimuths_deg) < 2:
        return 360.0
    ordered = np.sort(azimuths_deg)
    widest = ordered[0] + 360.0 - ordered[-1]
    for i in range(1, len(ordered)):
        widest = max(widest, ordered[i] - ordered[i - 1])
    return float(widest)
