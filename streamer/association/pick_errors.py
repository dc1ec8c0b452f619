"""How far picks are from predicted arrivals: station delays and pick errors, given or learnt."""

import numpy as np

from streamer.association.best_kernels import Errors
from streamer.association.geodesy import Floats
from streamer.association.jit import compiled
from streamer.association.network import Network
from streamer.association.parameters import BestParameters

# Before anything is learnt P picks are this share of the time P takes across the network off, and
# S picks S_FACTOR times that.
INITIAL_SHARE, S_FACTOR = 0.005, 2.0
# A delay of n residuals is trusted as n / (n + DELAY_PRIOR) of their median.
DELAY_PRIOR = 5
# Least residuals from which an error is learnt, and how far one may move from what it was.
LEAST_RESIDUALS, GREATEST_FACTOR = 100, 3.0
MAD_TO_SIGMA = 1.4826


def initial_errors(network: Network, rules: BestParameters) -> Errors:
    """The given errors, or those that go with the size of the network."""
    p_s = rules.p_error_s or INITIAL_SHARE * network.aperture_km / network.p_km_s
    s_s = rules.s_error_s or S_FACTOR * p_s
    n = len(network.stations)
    return Errors(np.zeros((2, n)), np.array([p_s, s_s]), rules.relative_error)


def learnt_errors(initial: Errors, spread_s: Floats, rules: BestParameters) -> Errors:
    """Errors by the spread [event, phase, station] of events: residuals with the station delays.

    It is NaN where there is no pick. What is too little to learn from leaves the initial errors.
    """
    static_s, sigma_s = initial.static_s, initial.sigma_s.copy()
    if rules.learn_statics and len(spread_s):
        static_s = _delays(spread_s)
    for phase, given in enumerate((rules.p_error_s, rules.s_error_s)):
        if given is None:
            middle_s, n = _scatter(spread_s[:, phase], static_s[phase])
            if n >= LEAST_RESIDUALS:
                bounds = sigma_s[phase] / GREATEST_FACTOR, sigma_s[phase] * GREATEST_FACTOR
                sigma_s[phase] = np.clip(MAD_TO_SIGMA * middle_s, *bounds)
    return Errors(static_s, sigma_s, initial.relative)


@compiled
def _delays(spread_s: Floats) -> Floats:
    """Median of the residuals of each [phase, station], drawn to 0 where there are few."""
    delays_s = np.zeros(spread_s.shape[1:])
    for phase in range(spread_s.shape[1]):
        for station in range(spread_s.shape[2]):
            residuals_s = spread_s[:, phase, station]
            known_s = residuals_s[np.isfinite(residuals_s)]
            if len(known_s):
                trust = len(known_s) / (len(known_s) + DELAY_PRIOR)
                delays_s[phase, station] = trust * np.median(known_s)
    return delays_s


@compiled
def _scatter(spread_s: Floats, static_s: Floats) -> tuple[float, int]:
    """Median of how far residuals [event, station] are from the delays, and their number."""
    rest_s = np.abs(spread_s - static_s).ravel()
    known_s = rest_s[np.isfinite(rest_s)]
    return (np.median(known_s) if len(known_s) else np.nan), len(known_s)
