"""Zeros in the place of missing samples, as some digitisers send, with the real weights."""

from fractions import Fraction

import numpy as np
import pytest

from streamer.clock import DataClock
from streamer.config import Config, WaveformsConfig
from streamer.picking.engine import build_engine
from streamer.picks import Pick
from streamer.seedid import Nslc
from streamer.timebase import sample_time_ns
from streamer.waveforms.records import Record

RATE = Fraction(100)
T0 = 1_600_000_000 * 100
LENGTH, FILL_AT = 4000, 2500
FILLS = (1, 2, 3, 4, 5, 7, 10, 15, 25, 40, 60, 80, 99, 100, 101, 130, 180, 200, 250, 300, 500, 900)
Z, NE, ALL = (0,), (1, 2), (0, 1, 2)


def noise(seed: int, offset: float) -> np.ndarray:
    """Three components, louder at low frequencies, as most ground noise."""
    rng = np.random.default_rng(seed)
    slow = np.cumsum(rng.normal(size=(3, LENGTH)), axis=1)
    slow -= np.linspace(slow[:, 0], slow[:, -1], LENGTH, axis=1)
    return 200 * rng.normal(size=(3, LENGTH)) + 30 * slow + offset


def picks_of(traces: list[np.ndarray]) -> list[Pick]:
    """Picks of one station for each of the traces (3, n)."""
    clock = DataClock()
    engine = build_engine(Config(waveforms=WaveformsConfig(buffer_s=120)), clock)
    for number, samples in enumerate(traces):
        for component, row in zip("ZNE", samples, strict=True):
            nslc = Nslc("XX", f"S{number:03}", "", f"HH{component}")
            engine.bank.declare(nslc)
            record = Record(nslc, sample_time_ns(T0, RATE), RATE, np.round(row).astype(np.int32))
            clock.advance(record.end_ns)
            engine.bank.accept(record)
    return [
        pick
        for batch in engine.scheduler.finish()
        for pick in engine.picks(batch, engine.inference.probabilities(batch))
    ]


@pytest.mark.parametrize("components", [Z, NE, ALL])
@pytest.mark.parametrize("offset", [0, 5000, -1_000_000])
def test_no_onset_of_a_filled_gap_becomes_a_pick(offset, components):
    """Whatever its length, the offset of the instrument, and the components it is on."""
    whole = [noise(number, offset) for number in range(len(FILLS))]
    assert picks_of(whole) == []
    for samples, length in zip(whole, FILLS, strict=True):
        samples[list(components), FILL_AT : FILL_AT + length] = 0
    assert picks_of(whole) == []
