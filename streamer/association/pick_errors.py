"""How far picks are from predicted arrivals: station delays and pick errors, given or learnt."""

import numpy as np
from numpy.typing import NDArray

from streamer.association.best_kernels import Errors
from streamer.association.geodesy import Floats
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
    numbers = np.isfinite(spread_s).sum(axis=0)
    if rules.learn_statics and len(spread_s):
        static_s = _delays(spread_s, numbers)
    rest_s = np.abs(spread_s - static_s)
    for phase, given in enumerate((rules.p_error_s, rules.s_error_s)):
        n = int(numbers[phase].sum())
        if given is None and n >= LEAST_RESIDUALS:
            middle = (n - 1) // 2, n // 2  # NaN comes last
            learnt = (
                MAD_TO_SIGMA * np.partition(rest_s[:, phase], middle, axis=None)[[*middle]].mean()
            )
            bounds = sigma_s[phase] / GREATEST_FACTOR, sigma_s[phase] * GREATEST_FACTOR
            sigma_s[phase] = np.clip(learnt, *bounds)
    return Errors(static_s, sigma_s, initial.relative)


def _delays(spread: Floats, numbers: NDArray[np.int64]) -> Floats:
    """Median of the residuals of each phase and station, drawn to 0 where there are few."""
    ordered = np.sort(spread, axis=0)  # NaN comes last
    low, high = (np.maximum(numbers - 1, 0) // 2), numbers // 2
    high = np.minimum(high, np.maximum(numbers - 1, 0))
    middle = np.stack([low, high])
    medians = np.take_along_axis(ordered, middle, axis=0).mean(axis=0)
    trust = numbers / (numbers + DELAY_PRIOR)
    return np.where(numbers > 0, trust * medians, 0.0)
