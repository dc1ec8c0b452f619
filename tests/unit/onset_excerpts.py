"""Recordings around one onset, made sample by sample."""

import numpy as np

from streamer.picking.excerpt import AFTER_S, BEFORE_S, Excerpt

RATE = 100
AT = round(BEFORE_S * RATE)
COUNT = AT + round(AFTER_S * RATE)


def noise(seed: int = 0, level: float = 20.0) -> np.ndarray:
    """Three components of noise that is louder at low frequencies."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(3, COUNT + 50)) * level
    return np.stack([np.convolve(row, np.ones(5) / 5, "same") for row in white])[:, :COUNT]


def event(size: float = 2000.0, hz: float = 8.0, decay_s: float = 1.0) -> np.ndarray:
    """An arrival on all components at the onset."""
    since_s = np.maximum(np.arange(COUNT) - AT, 0) / RATE
    wave = size * np.exp(-since_s / decay_s) * np.sin(2 * np.pi * hz * since_s)
    return wave * np.array([[1.0], [0.4], [0.3]])


def around(samples: np.ndarray, *, at: int = AT, missing: slice | None = None) -> Excerpt:
    valid = np.ones(samples.shape, dtype=bool)
    if missing is not None:
        valid[:, missing] = False
    samples = np.where(valid, np.round(samples), 0)
    return Excerpt(samples, valid, at, float(RATE), float(RATE))
