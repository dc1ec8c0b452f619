"""Where an event was: robust Gauss-Newton location of its picks, with its uncertainties."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.association import best_kernels as kernels
from streamer.association.anneal import Bounds, Observations, annealed, misfit_of
from streamer.association.best_kernels import NU, Errors
from streamer.association.geodesy import Floats, azimuthal_gap_deg, azimuths_deg
from streamer.association.network import Network
from streamer.association.pickfiles import PickTable

# Steps: at most this many, none longer than half the station spacing, until one is shorter than
# this share of the spacing. Depth is damped within each step, not in the result.
MOST_STEPS, LONGEST_SHARE, SHORTEST_SHARE = 40, 0.5, 1e-4
DEPTH_DAMPING_SHARE = 1.0
LEAST_PICKS = 4
# With a gap wider than this, or at a limit of depth, other valleys are looked for by annealing; one
# counts if its misfit (negative log likelihood) is less by so much.
DOUBTFUL_GAP_DEG, TRIALS, LEAST_BETTER = 180.0, 1500, 0.5
# Standard errors beyond this are no information: a direction in which the picks fix nothing.
GREATEST_ERROR_KM = 999.0

Paths = tuple[NDArray[np.int8], NDArray[np.int32]]  # phase and station, [pick]


@dataclass(frozen=True, slots=True)
class Location:
    """An origin with standard errors (1 sigma), and what it makes of each pick, arrays [pick].

    `ellipse` is the horizontal error ellipse: half axes (km), azimuth of the longer one (deg).
    `rms_s` is over the residuals as they are; `weight` is 0-1, small for an outlier.
    """

    time_s: float
    lat: float
    lon: float
    depth_km: float
    time_error_s: float
    east_error_km: float
    north_error_km: float
    depth_error_km: float
    ellipse: tuple[float, float, float]
    rms_s: float
    residual_s: Floats
    distance_km: Floats
    azimuth_deg: Floats
    weight: Floats


def locate(
    network: Network,
    errors: Errors,
    table: PickTable,
    picks: NDArray[np.int64],
    start: tuple[float, float, float, float],
) -> Location:
    """Location by the given rows of the table, at most one for each station and phase.

    `start` is time (s), lat, lon (deg), depth (km). Fewer than four picks leave it where it is.
    """
    fit = kernels.new_fit(len(network.stations))
    paths, time_s = (table.phase[picks], table.station[picks]), table.time_s[picks]
    fit.used[paths] = True
    origin = np.array(start)
    _downhill(origin, network, errors, time_s, paths, fit)
    azimuth_deg = _azimuths_deg(origin, network, paths)
    if len(picks) >= LEAST_PICKS and _is_doubtful(origin, network, azimuth_deg):
        observed = _observations(errors, time_s, paths, fit)
        bounds = _bounds(network)
        elsewhere, misfit = annealed(origin, observed, network.ground, bounds, trials=TRIALS)
        if misfit < misfit_of(origin, observed, network.ground, True) - LEAST_BETTER:
            origin = elsewhere
            _downhill(origin, network, errors, time_s, paths, fit)
            azimuth_deg = _azimuths_deg(origin, network, paths)
    residual_s, sigma_s = fit.residual_s[paths], fit.sigma_s[paths]
    covariance = kernels.covariance(fit, GREATEST_ERROR_KM)
    deviations = np.minimum(np.sqrt(np.diag(covariance)), GREATEST_ERROR_KM)
    origin_s, lat, lon, depth_km = map(float, origin)
    return Location(
        time_s=origin_s,
        lat=lat,
        lon=lon,
        depth_km=depth_km,
        time_error_s=float(deviations[0]),
        east_error_km=float(deviations[1]),
        north_error_km=float(deviations[2]),
        depth_error_km=float(deviations[3]),
        ellipse=error_ellipse(covariance[1:3, 1:3]),
        rms_s=math.sqrt(float(np.mean(residual_s**2))),
        residual_s=residual_s,
        distance_km=fit.distance_km[paths[1]],
        azimuth_deg=azimuth_deg,
        weight=NU / (NU + (residual_s / sigma_s) ** 2),
    )


def _downhill(
    origin: Floats,
    network: Network,
    errors: Errors,
    time_s: Floats,
    paths: Paths,
    fit: kernels.Fit,
) -> None:
    """Gauss-Newton steps of the origin to the next place where its picks fit best.

    Leaves in `fit` what the end makes of them.
    """
    kernels.downhill(
        origin, network.ground, errors, *paths, time_s, LONGEST_SHARE * network.spacing_km,
        SHORTEST_SHARE * network.spacing_km, DEPTH_DAMPING_SHARE * network.spacing_km, MOST_STEPS,
        fit,
    )  # fmt: skip


def _azimuths_deg(origin: Floats, network: Network, paths: Paths) -> Floats:
    """Directions of the stations [pick] from the origin."""
    stations = paths[1]
    return azimuths_deg(origin[1], origin[2], network.lat[stations], network.lon[stations])


def _is_doubtful(origin: Floats, network: Network, azimuth_deg: Floats) -> bool:
    """Whether there may be a better place elsewhere: outside its stations, at a limit of depth."""
    at_limit = origin[3] in (network.shallowest_km, network.deepest_km)
    return bool(at_limit) or azimuthal_gap_deg(azimuth_deg) > DOUBTFUL_GAP_DEG


def _observations(errors: Errors, time_s: Floats, paths: Paths, fit: kernels.Fit) -> Observations:
    phase, station = (part.astype(np.int64) for part in paths)
    return Observations(
        station, phase, time_s - errors.static_s[paths], fit.sigma_s[paths], np.ones(len(station))
    )


def _bounds(network: Network) -> Bounds:
    """As far as a search for events looks, and the time S takes to there."""
    reach_km = float(network.search_radius_km.max())
    return Bounds(reach_km, reach_km / network.s_km_s, network.shallowest_km, network.deepest_km)


def error_ellipse(covariance: Floats) -> tuple[float, float, float]:
    """Longer and shorter half axis (km) and azimuth of the longer one (deg) by (east, north)."""
    (east, both), (_, north) = covariance.tolist()
    middle, apart = 0.5 * (north + east), math.hypot(0.5 * (north - east), both)
    longer, shorter = (
        min(math.sqrt(max(variance, 0.0)), GREATEST_ERROR_KM)
        for variance in (middle + apart, middle - apart)
    )
    return longer, shorter, 0.5 * math.degrees(math.atan2(2 * both, north - east)) % 180.0
