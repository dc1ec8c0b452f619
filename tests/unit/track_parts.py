"""Stations with samples that tell where they belong, and tracks over them."""

from fractions import Fraction

import numpy as np

from model.onsets import Onset, OnsetDetector
from streamer.picking.track import Step, Track
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record
from streamer.waveforms.stations import Station

NOW_NS = 1_600_000_000 * NS_PER_S
T0_BLOCK = 1_600_000_000  # block of 1 s at 100 Hz
BUFFER_S = 100


def wave(first: int, stop: int) -> np.ndarray:
    """A value for each sample index that tells where it belongs."""
    return (np.arange(first, stop) % 1_000_003).astype(np.int32)


def new_station(*channels: str) -> Station:
    station = Station(Nslc("XX", "A", "", "HHZ").instrument, BUFFER_S)
    for channel in channels or ("HHZ",):
        station.component(Nslc("XX", "A", "", channel))
    station.declared = True
    return station


def feed(station: Station, first: int, stop: int, channel: str = "HHZ", rate=Fraction(100)) -> None:
    """Samples of the absolute indices [first, stop), in one record."""
    nslc = Nslc("XX", "A", "", channel)
    samples = wave(first, stop)
    station.accept(Record(nslc, sample_time_ns(first, rate), rate, samples), NOW_NS)


def advance(track: Track, *sizes: int, now_ns: int = NOW_NS) -> list[Step]:
    """Steps of the given sizes, then of single blocks until nothing is ready; all are judged."""
    steps = []
    for size in sizes:
        assert track.ready_blocks(now_ns) >= size
        steps.append(track.advance(size))
        track.note_judged(steps[-1])
    while track.ready_blocks(now_ns):
        steps.append(track.advance(1))
        track.note_judged(steps[-1])
    return steps


def taken(steps: list[Step]) -> list[int]:
    """The blocks that steps take from the rings, in that order."""
    return [
        block for step in steps for block in range(step.first_block, step.first_block + step.blocks)
    ]


class Listener(OnsetDetector):
    """A detector that notes which samples it is given."""

    def __init__(self, thresholds: tuple[float, ...] = (0.3, 0.3)) -> None:
        super().__init__(thresholds)
        self.heard: list[int] = []

    def push(self, start: int, probability: np.ndarray) -> list[Onset]:
        self.heard += range(start, start + probability.shape[1])
        return super().push(start, probability)
