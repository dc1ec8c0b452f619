"""Steps through the network give the probabilities of the whole recording put through at once."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from model.artifact import Artifact, Card
from model.msnet import MSNet, MSNetConfig
from model.onsets import OnsetDetector
from model.preprocess import BLOCK, PreprocessConfig, normalise
from streamer.picking.inference import Inference
from streamer.picking.track import Sampling, Step, Track
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record
from streamer.waveforms.stations import Station

T0_S = 1_600_000_000
NOW_NS = (T0_S + 500) * NS_PER_S
LENGTH_S = 40
NETWORK = MSNetConfig(channels=(4, 8, 8, 8))
PREPROCESS = PreprocessConfig(memory_blocks=5)
EDGE_S = NETWORK.context_blocks


@pytest.fixture(scope="module")
def inference() -> Inference:
    torch.manual_seed(3)
    card = Card(
        name="untrained",
        version="0",
        network=NETWORK,
        preprocess=PREPROCESS,
        thresholds=(0.5, 0.5),
    )
    return Inference(Artifact(MSNet(NETWORK, pruned=True).fold(), card, "00000000"))


def waveform() -> np.ndarray:
    return (np.random.default_rng(1).normal(size=(3, LENGTH_S * 100)) * 100).astype(np.int32)


def new_track(inference: Inference, spans: list[tuple[int, int]], name: str = "A") -> Track:
    """A station of three components that recorded `spans`, in s."""
    station = Station(Nslc("XX", name, "", "HHZ").instrument, 300, 30)
    station.declared = True
    for slot, component in enumerate("ZNE"):
        for start_s, stop_s in spans:
            start_ns = sample_time_ns((T0_S + start_s) * 100, Fraction(100))
            samples = waveform()[slot, start_s * 100 : stop_s * 100]
            nslc = Nslc("XX", name, "", f"HH{component}")
            station.accept(Record(nslc, start_ns, Fraction(100), samples), NOW_NS)
    return Track(station, Sampling.RESAMPLE, inference.context, OnsetDetector((0.5, 0.5)))


def steps_of(track: Track, size: int) -> list[Step]:
    steps = []
    while ready := track.ready_blocks(NOW_NS):
        steps.append(track.advance(min(size, ready)))
    last = track.finish()
    return [*steps, last] if last else steps


def assembled(inference: Inference, steps: list[Step]) -> np.ndarray:
    """The probabilities (2, LENGTH_S x 100) that the steps give out."""
    trace = np.full((2, LENGTH_S * 100), np.nan, dtype=np.float32)
    for step in steps:
        probability = inference.probabilities([step])[0][:, step.known_blocks * BLOCK :]
        first = (step.first_block + step.known_blocks - T0_S) * BLOCK
        trace[:, first : first + probability.shape[1]] = probability
    return trace


def at_once(inference: Inference, valid: np.ndarray) -> np.ndarray:
    """The same by the shortest way; nothing was recorded before and after."""
    edge = ((0, 0), (EDGE_S * BLOCK, EDGE_S * BLOCK))
    prepared = np.pad(normalise(waveform(), valid, PREPROCESS), edge)
    with torch.inference_mode():
        logits, _ = inference.artifact.model(torch.from_numpy(prepared[None]))
    return torch.sigmoid(logits)[0, :, EDGE_S * BLOCK : -EDGE_S * BLOCK].numpy()


@pytest.mark.parametrize("size", [1, 4, 30])
def test_steps_give_the_probabilities_of_the_whole_recording(inference, size):
    steps = steps_of(new_track(inference, [(0, LENGTH_S)]), size)
    expected = at_once(inference, np.ones((3, LENGTH_S), dtype=bool))
    np.testing.assert_allclose(assembled(inference, steps), expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 30])
def test_where_nothing_was_recorded_the_probability_is_zero(inference, size):
    """And beside the gap it is what the network makes of it, the same for any steps."""
    gap = slice(20, 23)
    steps = steps_of(new_track(inference, [(0, 20), (23, LENGTH_S)]), size)
    valid = np.ones((3, LENGTH_S), dtype=bool)
    valid[:, gap] = False
    expected = at_once(inference, valid)
    assert expected[:, 2000:2300].all()
    expected[:, 2000:2300] = 0
    np.testing.assert_allclose(assembled(inference, steps), expected, atol=1e-5)


def test_stations_in_one_batch_do_not_touch_each_other(inference):
    tracks = [
        new_track(inference, [(0, LENGTH_S)], "A"),
        new_track(inference, [(5, 12), (14, LENGTH_S)], "B"),
    ]
    batch = [track.advance(10) for track in tracks if track.ready_blocks(NOW_NS)]
    together = inference.probabilities(batch)
    assert together.shape == (2, 2, 10 * BLOCK)
    assert together.dtype == np.float32
    for step, probability in zip(batch, together, strict=True):
        np.testing.assert_allclose(inference.probabilities([step])[0], probability, atol=1e-6)
