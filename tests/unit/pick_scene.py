"""A station with 60 s of data whose probabilities are drawn by the test instead of a network."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from model.artifact import Artifact, Card
from model.look_ahead import PREVIEW_BLOCKS
from model.msnet import MSNet, MSNetConfig
from model.onsets import OnsetDetector
from model.preprocess import BLOCK, PreprocessConfig
from streamer.picking.inference import Inference
from streamer.picking.picker import Picker, Provenance
from streamer.picking.track import Response, Sampling, Step, Track
from streamer.picks import Pick
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record
from streamer.waveforms.stations import Station

T0_S = 1_600_000_000
NOW_NS = (T0_S + 500) * NS_PER_S
LEAD = 1000  # samples of probability before the data
PREVIEW = PREVIEW_BLOCKS * BLOCK  # samples
SEPARATION = 50

THREE = {"Z": [(0, 60)], "N": [(0, 60)], "E": [(0, 60)]}
Spans = dict[str, list[tuple[float, float]]]


def untrained(network: MSNetConfig | None = None, memory_blocks: int = 3) -> Artifact:
    """A small network that lets the signal through, with the steps of the shipped one."""
    network = network or MSNetConfig(channels=(4, 6, 8, 10))
    torch.manual_seed(3)
    card = Card(
        name="untrained",
        version="0",
        network=network,
        preprocess=PreprocessConfig(memory_blocks=memory_blocks),
        thresholds=(0.5, 0.5),
    )
    model = MSNet(network, pruned=True)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.kaiming_normal_(module.weight)
    return Artifact(model.fold(), card, "00000000")


INFERENCE = Inference(untrained(), previews=False)
CONTEXT = INFERENCE.context


def provenance(**changes: object) -> Provenance:
    facts = {
        "model": "net@1",
        "model_sha": "0123abcd",
        "thresholds": (0.3, 0.4),
        "separation_samples": SEPARATION,
        "sampling": (),
        "agency": "AG",
        "author": "me",
    }
    return Provenance(**facts | changes)


class Scene:
    """Validity and lag are those of a real network, only what it says is drawn."""

    def __init__(
        self,
        components: Spans = THREE,
        *,
        hz: Fraction = Fraction(100),
        sampling: Sampling = Sampling.RESAMPLE,
        offset_ns: int = 0,
        filled_s: float = 0.0,
        **facts: object,
    ) -> None:
        self.station = self.make_station()
        self.station.declared = True
        for component, spans in components.items():
            for span_s in spans:
                self.record(component, *span_s, hz=hz, offset_ns=offset_ns, filled_s=filled_s)
        self.picker = Picker(provenance(**facts))
        detector = OnsetDetector(self.picker.provenance.thresholds, SEPARATION)
        self.track = Track(self.station, sampling, CONTEXT, detector, INFERENCE.open())
        self.probability = np.zeros((2, 10**5), dtype=np.float32)
        self._previews: dict[int, np.ndarray] = {}  # by the sample index at which they end
        self._origin = int(T0_S * self.track.rate) - LEAD

    def make_station(self) -> Station:
        return Station(Nslc("XX", "A", "00", "HHZ").instrument, 300, 30)

    def record(
        self,
        component: str,
        start_s: float,
        stop_s: float,
        *,
        hz: Fraction = Fraction(100),
        offset_ns: int = 0,
        filled_s: float = 0.0,
    ) -> None:
        """Let a component record; it stands still for the first `filled_s`."""
        first = round((T0_S + start_s) * hz)
        number = first - round(T0_S * hz)  # the same ramp in all records: nothing jumps
        samples = np.arange(number, number + round((stop_s - start_s) * hz), dtype=np.int32)
        samples[: round(filled_s * hz)] = 0
        nslc = Nslc("XX", "A", "00", f"HH{component}")
        start_ns = sample_time_ns(first, hz) + offset_ns
        self.station.accept(Record(nslc, start_ns, hz, samples), NOW_NS)
        self.station.arrived_ns = NOW_NS  # the bank notes it

    def bump(self, phase: int, at_s: float, height: float = 0.9) -> None:
        """A final peak 10 samples wide, `at_s` after the beginning; the top is one sample."""
        _draw(self.probability[phase], LEAD + round(at_s * self.track.rate), height)

    def preview(self, known_s: int, phase: int, at_s: float, height: float = 0.9) -> None:
        """Such a peak in the preview that is made when the data up to `known_s` are there."""
        assert known_s - PREVIEW / BLOCK < at_s < known_s
        end = (T0_S + known_s) * BLOCK
        trace = self._previews.setdefault(end, np.zeros((2, PREVIEW), dtype=np.float32))
        _draw(trace[phase], PREVIEW - round((known_s - at_s) * BLOCK), height)

    def picks(self, size: int = 1) -> list[Pick]:
        """All messages, until the station falls silent."""
        found: list[Pick] = []
        while ready := self.track.ready_blocks(NOW_NS, patient=False):
            found += self.pick(self.track.advance(min(size, ready)))
        last = self.track.finish()
        return found + (self.pick(last) if last else [])

    def told(self, size: int = 1) -> list[tuple[str, int, int, float]]:
        """All messages as (status, rev, final, onset in s after the beginning)."""
        return [outline(pick) for pick in self.picks(size)]

    def told_when_known(self) -> list[tuple[int, str, int, int, float]]:
        """The same, with the seconds of data that were known then."""
        return [
            (known_s, *outline(pick))
            for known_s in range(1, self.track.ready_blocks(NOW_NS, patient=False) + 1)
            for pick in self.pick(self.track.advance(1))
        ]

    def pick(self, step: Step) -> list[Pick]:
        return self.picker.pick(step, self.response(step))

    def response(self, step: Step) -> Response:
        (real,) = INFERENCE.probabilities([step])
        ends = range(step.first_block * BLOCK + BLOCK, (step.first_block + step.blocks) * BLOCK + 1)
        probability = self.probability[:, real.start - self._origin : real.stop - self._origin]
        return replace(
            real,
            probability=probability,
            highest=float(probability.max(initial=0)),
            previews=tuple((end, self._previews[end]) for end in ends if end in self._previews),
        )


def outline(pick: Pick) -> tuple[str, int, int, float]:
    return pick.status, pick.rev, pick.final, (pick.t_ns - T0_S * NS_PER_S) / NS_PER_S


def _draw(trace: np.ndarray, centre: int, height: float) -> None:
    position = np.arange(centre - 10, centre + 11)
    shape = height * (1 - np.abs(position - centre) / 11)
    inside = (position >= 0) & (position < len(trace))
    trace[position[inside]] = np.maximum(trace[position[inside]], shape[inside])
