"""The pickers that `streaming.py` runs side by side, and the waveforms they get."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import obspy
import torch
from seisbench import models
from torch import nn

from model.artifact import load
from model.preprocess import BLOCK, normalise
from streamer.bench.network import OFFSET_S, Loop, read_loops
from streamer.clock import DataClock
from streamer.config import Config
from streamer.picking.engine import build_engine
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S
from streamer.waveforms.archive import read_archive
from streamer.waveforms.records import Record

RATE, HIGH_RATE = Fraction(100), Fraction(500)
COMPONENTS = "ZNE"
BEGIN_S = 1_700_000_000  # a whole second of UTC
WINDOW_S = 60  # of the full-window form
WARM_S = 45  # longer than the memory of our preprocessing and the delay of the network
BATCH = 32  # the fastest here for all that work on windows; SeisBench's own default is 256
PEER_THRESHOLD = 0.9  # no probability of untrained weights reaches it
SGEMM = 2048  # rows and columns: large enough to be at the limit of the core
SYNTHETIC_S, SYNTHETIC_STATIONS = 60, 16

Hop = Callable[[], int]


class Contender(Protocol):
    """Something that picks one more second of its stations at a time."""

    name: str
    stations: int

    def prepare(self, second: int) -> Hop:
        """Everything that is not to be counted; the work to be counted returns how many picks."""


class Waves:
    """Samples of any number of stations at any second: a few loops that begin at other places."""

    def __init__(self, loops: Sequence[Loop], rate: Fraction = RATE) -> None:
        self.rate = rate
        self._loops = loops

    def between(self, station: int, first_s: int, stop_s: int) -> npt.NDArray[np.int32]:
        """Samples (3, n) of a station; seconds may be negative."""
        first, stop = (int((s + OFFSET_S * station) * self.rate) for s in (first_s, stop_s))
        loop = self._loops[station % len(self._loops)]
        return loop.take(np.arange(first, stop), axis=1, mode="wrap")

    def newest(self, stations: int, stop_s: int, window_samples: int) -> npt.NDArray[np.int32]:
        """The windows (stations, 3, window_samples) that end at a second."""
        first_s = stop_s - -(-window_samples // int(self.rate))
        windows = [self.between(n, first_s, stop_s) for n in range(stations)]
        return np.stack(windows)[..., -window_samples:]


def waves(data: Path | None, rate: Fraction = RATE) -> Waves:
    """Real recordings from a file or folder, or synthetic ones."""
    records = synthetic(rate) if data is None else (record for _, record in read_archive([data]))
    return Waves(read_loops(records, rate), rate)


def synthetic(rate: Fraction = RATE, seconds: int = SYNTHETIC_S + 2) -> Iterator[Record]:
    """Red noise, and in it on each station one P on the vertical with its S on the horizontals."""
    rng = np.random.default_rng(0)
    time_s = np.arange(int(seconds * rate)) / float(rate)
    for station in range(SYNTHETIC_STATIONS):
        p_s = rng.uniform(15, 40)
        s_s = p_s + rng.uniform(1.5, 6)
        trace = 100 * rng.normal(size=(3, len(time_s)))
        trace += 300 * np.sin(2 * np.pi * (0.2 * time_s + rng.uniform(size=(3, 1))))
        trace += np.outer([1, 0.3, 0.3], wavelet(time_s - p_s, amplitude=3000, frequency_hz=8))
        trace += np.outer([0.3, 1, 0.8], wavelet(time_s - s_s, amplitude=6000, frequency_hz=5))
        for component, samples in zip(COMPONENTS, np.rint(trace).astype(np.int32), strict=True):
            nslc = Nslc("XX", f"N{station:03d}", "", f"HH{component}")
            yield Record(nslc, BEGIN_S * NS_PER_S, rate, samples)


def wavelet(
    time_s: npt.NDArray[np.float64], amplitude: float, frequency_hz: float
) -> npt.NDArray[np.float64]:
    """An impulsive onset at 0 with a coda of a second."""
    after = np.maximum(time_s, 0)
    return amplitude * np.exp(-after) * np.sin(2 * np.pi * frequency_hz * after)


class Streaming:
    """The engine of the daemon, from decoded records to picks."""

    def __init__(self, waves: Waves, stations: int, name: str = "msnet-stream, streaming") -> None:
        self.name, self.stations = name, stations
        self._waves = waves
        self._clock = DataClock()
        self._engine = build_engine(Config(), self._clock)
        self._channels = [
            [Nslc("XX", f"S{n:04d}", "", f"HH{component}") for component in COMPONENTS]
            for n in range(stations)
        ]
        for second in range(WARM_S):
            self.prepare(second)()
        gc.collect()
        gc.freeze()  # as the daemon does

    def prepare(self, second: int) -> Hop:
        records = [record for n in range(self.stations) for record in self.records(n, second)]
        self.advance(second + 1)

        def hop() -> int:
            self.take(records)
            return self.pick()

        return hop

    def advance(self, time_s: float) -> None:
        """The clock of the engine to so many seconds after the beginning."""
        self._clock.advance(BEGIN_S * NS_PER_S + round(time_s * NS_PER_S))

    def records(self, station: int, second: int) -> list[Record]:
        """One second of one station as its digitiser sends it."""
        samples = self._waves.between(station, second, second + 1)
        start_ns = (BEGIN_S + second) * NS_PER_S
        return [
            Record(nslc, start_ns, self._waves.rate, trace)
            for nslc, trace in zip(self._channels[station], samples, strict=True)
        ]

    def take(self, records: list[Record]) -> None:
        """Records into the rings."""
        for record in records:
            self._engine.bank.accept(record)

    def pick(self) -> int:
        """All steps that are due; how many picks they gave."""
        engine, picks = self._engine, 0
        for batch in engine.scheduler.collect():
            picks += len(engine.picks(batch, engine.inference.probabilities(batch)))
        return picks


class FullWindow:
    """The same network as most run theirs: the newest window again and again."""

    def __init__(self, waves: Waves, stations: int, window_s: int = WINDOW_S) -> None:
        self.name, self.stations = f"msnet-stream, full {window_s} s window", stations
        self._waves, self._window_s = waves, window_s
        self._artifact = load()

    def prepare(self, second: int) -> Hop:
        windows = self._waves.newest(self.stations, second + 1, self._window_s * BLOCK)
        return lambda: sum(
            self._onsets(windows[first : first + BATCH]) for first in range(0, self.stations, BATCH)
        )

    @torch.inference_mode()
    def _onsets(self, windows: npt.NDArray[np.int32]) -> int:
        """Stations and phases whose probability reaches the threshold in the newest second."""
        card = self._artifact.card
        valid = np.ones((*windows.shape[:2], self._window_s), dtype=bool)
        prepared = normalise(windows, valid, card.preprocess)
        logits, _ = self._artifact.model(torch.from_numpy(prepared))
        newest = torch.sigmoid(logits)[..., -BLOCK:]
        reached = newest >= torch.tensor(card.thresholds)[:, None]
        return int(reached.any(dim=-1).sum())


class Classify:
    """`classify` of SeisBench on the newest window: all stations in one call, or one per call."""

    def __init__(self, waves: Waves, stations: int, kind: str, *, merged: bool) -> None:
        how = "stations merged" if merged else "one call per station"
        self.name, self.stations = f"SeisBench {kind} classify, {how}", stations
        self._waves, self._merged = waves, merged
        torch.manual_seed(0)
        self._network = getattr(models, kind)().eval()
        thresholds = (f"{what}_threshold" for what in ("P", "S", "detection"))
        self._options = dict.fromkeys(thresholds, PEER_THRESHOLD) | {"batch_size": BATCH}

    def prepare(self, second: int) -> Hop:
        length = self._network.in_samples
        windows = self._waves.newest(self.stations, second + 1, length).astype(np.float32)
        first = obspy.UTCDateTime(BEGIN_S + second + 1) - length / float(RATE)
        stations = [self._traces(n, windows[n], first) for n in range(self.stations)]
        if self._merged:
            stations = [[trace for traces in stations for trace in traces]]
        streams = [obspy.Stream(traces) for traces in stations]
        return lambda: sum(self.picks(stream) for stream in streams)

    def picks(self, stream: obspy.Stream) -> int:
        """How many picks SeisBench finds."""
        return len(self._network.classify(stream, **self._options).picks)

    def _traces(
        self, station: int, window: npt.NDArray[np.float32], first: obspy.UTCDateTime
    ) -> list[obspy.Trace]:
        header = {"network": "XX", "station": f"S{station:04d}", "starttime": first}
        return [
            obspy.Trace(row, {**header, "channel": f"HH{component}", "sampling_rate": float(RATE)})
            for component, row in zip(COMPONENTS, window, strict=True)
        ]


class MatrixProduct:
    """The limit of the core: a product of two large matrices in single precision."""

    name, stations = f"sgemm {SGEMM}", 1
    flop = 2 * SGEMM**3  # a multiplication and an addition each

    def __init__(self) -> None:
        self._left, self._right = torch.rand(2, SGEMM, SGEMM)

    def prepare(self, second: int) -> Hop:
        return lambda: int(torch.mm(self._left, self._right).shape[0] * 0)


@torch.inference_mode()
def multiply_adds_per_s(network: nn.Module) -> float:
    """Multiplications of all convolutions for one second of one station, each sample once."""
    count = 0

    def add(
        layer: nn.Conv1d | nn.ConvTranspose1d, inputs: tuple[torch.Tensor], output: torch.Tensor
    ) -> None:
        nonlocal count
        transposed = isinstance(layer, nn.ConvTranspose1d)
        count += layer.weight.numel() * (inputs[0] if transposed else output).shape[-1]

    hooks = [
        layer.register_forward_hook(add)
        for layer in network.modules()
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)
    ]
    network(torch.zeros(1, len(COMPONENTS), WINDOW_S * BLOCK))
    for hook in hooks:
        hook.remove()
    return count / WINDOW_S


@dataclass(frozen=True, slots=True)
class Turns:
    """What one contender did: CPU seconds of each round, and how many picks in all."""

    cpu_s: list[float]
    picks: int


def measure(
    contenders: Sequence[Contender], rounds: int, tell: Callable[[str], None] = lambda name: None
) -> list[Turns]:
    """The turns of each contender in `rounds` rounds, after one more to warm up.

    Each round is one second of all stations for everybody, and everybody has its turn in it.
    `tell` hears who had a turn.
    """
    takers = {contender.name: partial(turn, contender) for contender in contenders}
    return take_turns(takers, rounds, tell)


def turn(contender: Contender, second: int) -> tuple[int, float]:
    """One second of all stations: how many picks, and the CPU seconds of this process."""
    hop = contender.prepare(second)
    begun_s = time.process_time()
    picks = hop()
    return picks, time.process_time() - begun_s


def take_turns(
    takers: Mapping[str, Callable[[int], tuple[int, float]]],
    rounds: int,
    tell: Callable[[str], None],
) -> list[Turns]:
    """`measure` with what takes the turns, by name."""
    spent_s: dict[str, list[float]] = {name: [] for name in takers}
    picks = Counter[str]()
    for second in range(WARM_S, WARM_S + rounds + 1):
        for name, take in takers.items():
            found, cpu_s = take(second)
            picks[name] += found
            spent_s[name].append(cpu_s)
            tell(name)
    return [Turns(times[1:], picks[name]) for name, times in spent_s.items()]


def cpu_s(work: Callable[[], object]) -> float:
    """CPU time that some work takes this process."""
    begun_s = time.process_time()
    work()
    return time.process_time() - begun_s
