"""The gate lets every onset through that the network alone would give, and little else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pick_scene import untrained

from model.artifact import Artifact, ArtifactError, load, save
from model.gate import Gate, GateConfig
from streamer.config import Config, PickingConfig
from streamer.offline import pick_files
from streamer.picking.inference import Inference
from train.gates import MARGIN, TRUSTED_FROM, Sample, check, checks, fit, scores

CHANNELS = 8
CELL = 20


def gate(floor: float = 0.0) -> Gate:
    torch.manual_seed(0)
    return Gate(CHANNELS, GateConfig(floors=((0.1, floor), (0.2, floor + 1))))


def told(seed: int, cells: int = 3000) -> Sample:
    """A network whose map tells in one channel, in noise, how high the probability of a cell is.

    The cell before the first is noise.
    """
    rng = np.random.default_rng(seed)
    peaks = rng.choice(np.arange(10, cells - 10), 40, replace=False)
    probability = np.zeros((2, cells * CELL), dtype=np.float32)
    for number, cell in enumerate(peaks):
        at = cell * CELL + rng.integers(CELL)
        shape = rng.uniform(0.05, 1) * np.exp(-0.5 * (np.arange(-30, 31) / 6) ** 2)
        place = probability[number % 2, at - 30 : at + 31]
        np.maximum(place, shape, out=place)
    features = rng.normal(size=(1 + cells, CHANNELS)).astype(np.float32)
    highest = probability.reshape(2, cells, CELL).max(axis=(0, 2))
    features[1:, 3] = 2 * np.log(highest + 1e-3) + rng.normal(size=cells)
    return Sample("told", torch.from_numpy(features).half(), probability)


def test_a_fitted_gate_leaves_every_onset_as_it_is_and_closes_most_of_the_rest():
    """On recordings that it has not seen; the floor is lower than it had to be."""
    fitted = fit([told(seed) for seed in range(4)])
    found = checks(fitted, [told(9), told(10)])
    assert [each.threshold for each in found] == list(TRUSTED_FROM)
    assert all(each.onsets > 40 for each in found)
    assert [each.changed for each in found] == [0, 0]
    assert found[1].passed < found[0].passed < 0.7
    seen = [told(seed) for seed in range(4)]
    for threshold, floor in fitted.config.floors:
        assert check(fitted, seen, threshold, floor + MARGIN).changed == 0
        assert check(fitted, seen, threshold, floor + MARGIN + 0.5).changed > 0


def test_a_floor_that_is_too_high_is_seen_by_the_onsets_it_loses():
    sample = told(1)
    fitted = fit([sample])
    high = float(scores(fitted, sample.cells).max()) + 1
    found = check(fitted, [sample], TRUSTED_FROM[0], high)
    assert (found.changed, found.passed) == (found.onsets, 0)


def test_the_gate_is_kept_beside_the_network(tmp_path):
    artifact = untrained()
    network = load(fold=False)
    made = Gate(network.card.network.channels[-2], GateConfig(floors=((0.1, -3.5), (0.3, 1))))
    save(tmp_path / "net", network.model, replace(network.card, gate=None), made)
    read = load(tmp_path / "net")
    assert read.gate is not None
    assert read.card.gate == read.gate.config == made.config
    for name, tensor in made.state_dict().items():
        assert torch.equal(read.gate.state_dict()[name], tensor)
    assert artifact.gate is None


def test_an_artifact_without_a_gate_is_what_it_was(tmp_path):
    network = load(fold=False)
    save(tmp_path / "net", network.model, replace(network.card, gate=None))
    assert json.loads((tmp_path / "net.json").read_text())["format"] == "msnet-artifact/1"
    assert "gate" not in json.loads((tmp_path / "net.json").read_text())
    assert load(tmp_path / "net").gate is None


def test_a_gate_that_the_card_does_not_describe_is_refused(tmp_path):
    network = load(fold=False)
    made = Gate(network.card.network.channels[-2], GateConfig(floors=((0.1, 0),)))
    save(tmp_path / "net", network.model, replace(network.card, gate=None), made)
    card = json.loads((tmp_path / "net.json").read_text())
    (tmp_path / "net.json").write_text(json.dumps(card | {"gate": card["gate"] | {"hidden": 3}}))
    with pytest.raises(ArtifactError, match=r"net\.safetensors"):
        load(tmp_path / "net")
    (tmp_path / "net.json").write_text(json.dumps(card | {"format": "msnet-artifact/1"}))
    with pytest.raises(ArtifactError, match=r"net\.safetensors"):
        load(tmp_path / "net")


def test_the_shipped_gate_may_be_used_at_the_shipped_thresholds():
    artifact = load()
    assert artifact.gate is not None
    at = artifact.gate.at(min(artifact.card.thresholds))
    assert at is not None
    assert at.floor == artifact.gate.config.floors[-1][1] > artifact.gate.floor


@pytest.mark.parametrize(
    ("least", "floor"), [(0.05, None), (0.1, 0.0), (0.15, 0.0), (0.2, 1.0), (0.3, 1.0)]
)
def test_the_gate_is_used_with_the_highest_floor_that_the_thresholds_allow_if_any(
    monkeypatch, least, floor
):
    artifact = Artifact(untrained().model, untrained().card, "0", gate())
    given: list[Gate | None] = []
    monkeypatch.setattr(
        "streamer.picking.inference.StreamingNetwork",
        lambda network, gate, blocks: given.append(gate),
    )
    Inference(artifact, least=least)
    assert [each and each.floor for each in given] == [floor]


@pytest.mark.parametrize("floors", [(), ((0.2, 0), (0.1, 1)), ((0.1, 1), (0.2, 0))])
def test_floors_that_do_not_ascend_are_refused(floors):
    with pytest.raises(ValueError, match="ascend"):
        GateConfig(floors=floors)


@pytest.mark.parametrize("threshold", [0.1, 0.2])
def test_picks_of_real_recordings_are_those_without_the_gate(
    shared_data: Path, tmp_path, threshold
):
    """Also at the lowest threshold that each of its floors may be used for."""
    network = load(fold=False)
    save(tmp_path / "plain", network.model, replace(network.card, gate=None))
    files = sorted((shared_data / "waveforms" / "mine_hamm").iterdir())[:12]
    picks = [
        {
            (pick.net, pick.sta, pick.phase, pick.t_ns): pick.prob
            for pick in pick_files(
                files,
                Config(
                    picking=PickingConfig(
                        weights=weights, threshold_p=threshold, threshold_s=threshold
                    )
                ),
            )
        }
        for weights in (None, tmp_path / "plain.safetensors")
    ]
    assert len(picks[0]) > 20
    assert picks[0].keys() == picks[1].keys()
    for key, probability in picks[0].items():
        assert probability == pytest.approx(picks[1][key], abs=1e-5)
