"""`msnet-train fit` and `export`: from a folder of recordings to files that can be used."""

import json
import shutil
from pathlib import Path

import numpy as np
import obspy
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from model import artifact
from train.baselines import load_phasenet
from train.cli import main
from train.fit import read_config

START = "2020-01-01T00:00:00"
P_S, S_S, LENGTH_S = 30, 33, 60
CONFIG = {
    "steps": 4,
    "batch": 2,
    "window_blocks": 10,
    "warmup_steps": 2,
    "validate_every": 2,
    "validation_windows": 2,
    "network": {"channels": [4, 4, 8, 8]},
    "preprocess": {"memory_blocks": 5},
    "data": {
        "train": ["hills"],
        "noise": ["wind"],
        "validation": ["volcano"],
        "native": [],
        "threshold": [],
        "quiet": [],
        "hard": [],
    },
}
RECORDS = [("hills", "event"), ("hills", "event"), ("wind", "noise")]
RECORDS += [("volcano", "event"), ("volcano", "noise")]


def samples(seed: int, kind: str) -> np.ndarray:
    """Noise; louder from P and from S on if an earthquake is in it."""
    x = np.random.default_rng(seed).normal(size=(3, 100 * LENGTH_S))
    if kind == "event":
        x[:, 100 * P_S :] *= 10
        x[:, 100 * S_S :] *= 3
    return (1000 * x).astype(np.int32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five records of a minute; the analyst of the volcano picked no S."""
    folder = tmp_path_factory.mktemp("data")
    traces = "dataset,record_id,file,sampling_rate,start,kind\n"
    picks = "dataset,record_id,phase,time,evaluation\n"
    for number, (dataset, kind) in enumerate(RECORDS):
        name = f"r{number}"
        obspy.Stream(
            obspy.Trace(row, {"sampling_rate": 100.0, "channel": channel, "starttime": START})
            for row, channel in zip(samples(number, kind), ("HHZ", "HHN", "HHE"), strict=True)
        ).write(str(folder / f"{name}.mseed"), format="MSEED")
        traces += f"{dataset},{name},{name}.mseed,100.0,{START}Z,{kind}\n"
        phases = {"event": [("P", P_S), ("S", S_S)], "noise": []}[kind]
        for phase, second in phases[:1] if dataset == "volcano" else phases:
            picks += f"{dataset},{name},{phase},2020-01-01T00:00:{second}Z,manual\n"
    (folder / "traces.csv").write_text(traces)
    (folder / "picks.csv").write_text(picks)
    (folder / "run.json").write_text(json.dumps(CONFIG))
    return folder


def run(*arguments: object, exit_code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == exit_code, done.output
    return done.output


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    """The folder of an MSNet trained for four steps."""
    run("fit", "--data", data, "--out", data / "msnet", "--config", data / "run.json")
    return data / "msnet"


@pytest.fixture(scope="module")
def phasenet(data: Path) -> Path:
    """The folder of a PhaseNet trained for four steps."""
    options = ["--config", data / "run.json", "--network", "phasenet", "--steps", 4]
    run("fit", "--data", data, "--out", data / "phasenet", *options)
    return data / "phasenet"


def test_fit_leaves_an_artifact_its_configuration_and_the_loss_curve(trained):
    loaded = artifact.load(trained / "msnet")
    config = read_config(trained / "config.json")
    assert loaded.card.network == config.network
    assert loaded.card.preprocess == config.preprocess
    assert all(0.1 <= t <= 0.7 for t in loaded.card.thresholds)
    facts = loaded.card.training
    assert facts["data"]["hills"]["manual_S"] == 2
    assert facts["steps_run"] == 4
    assert set(facts["terms"]) == {"hills", "wind", "volcano"}
    assert "started_from" not in facts
    assert (trained / "losses.png").stat().st_size > 0


def test_a_finished_run_is_not_trained_further(data, trained):
    before = (trained / "msnet.safetensors").read_bytes()
    run("fit", "--data", data, "--out", trained, "--resume")
    assert (trained / "msnet.safetensors").read_bytes() == before


def test_phasenet_is_trained_with_the_same_data_and_thresholds_chosen_alike(phasenet):
    model, preprocess, thresholds = load_phasenet(phasenet / "phasenet.safetensors")
    config = read_config(phasenet / "config.json")
    assert model.config == config.network
    assert preprocess == config.preprocess
    assert all(0.1 <= t <= 0.7 for t in thresholds)
    state = torch.load(phasenet / "checkpoint.pt", weights_only=True)
    assert [step for step, _ in state["progress"]["watched"]["volcano"]] == [2, 4]
    for name, value in model.state_dict().items():
        assert torch.equal(value, state["best"][name])


def test_fine_tuning_says_what_it_started_from_and_is_never_worse_than_that(data, trained):
    out = data / "tuned"
    run(
        "fit",
        "--data",
        data,
        "--out",
        out,
        "--init",
        trained / "msnet",
        "--config",
        data / "run.json",
    )
    card = artifact.load(out / "msnet").card
    before = artifact.load(trained / "msnet").card
    assert card.network == before.network
    assert card.training["started_from"]["data"] == before.training["data"]
    progress = torch.load(out / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["validation"][0][0] == 0
    assert progress["best"] == min(loss for _, loss in progress["validation"])
    run("fit", "--data", data, "--out", out, "--resume")


def test_a_distilled_network_says_what_it_learnt_from(data, trained):
    small = json.loads((data / "run.json").read_bytes())
    small["network"] = small["network"] | {"channels": [2, 2, 4, 4]}
    (data / "small.json").write_text(json.dumps(small))
    options = ["--config", data / "small.json", "--distil", trained / "msnet"]
    run("fit", "--data", data, "--out", data / "small", *options)
    card, elder = (
        artifact.load(data / "small" / "msnet").card,
        artifact.load(trained / "msnet").card,
    )
    assert card.network.channels == (2, 2, 4, 4)
    assert card.training["config"]["distil"] == "msnet"  # no path of the machine
    assert card.training["distilled_from"]["version"] == elder.version
    assert card.training["distilled_from"]["data"] == elder.training["data"]
    run("fit", "--data", data, "--out", data / "small", "--resume")


def test_a_network_with_other_input_cannot_be_learnt_from(data, trained):
    other = json.loads((data / "run.json").read_bytes())
    other["preprocess"] = {"gain": 1.0}
    (data / "other.json").write_text(json.dumps(other))
    options = ["--config", data / "other.json", "--distil", trained / "msnet"]
    said = run("fit", "--data", data, "--out", data / "none", *options, exit_code=78)
    assert "cannot be learnt from" in said
    assert not (data / "none").exists()


def test_without_quiet_data_fine_tuned_weights_keep_the_thresholds_they_came_with(data, trained):
    facts = json.loads((trained / "msnet.json").read_bytes()) | {"thresholds": [0.15, 0.45]}
    (data / "start.json").write_text(json.dumps(facts))
    shutil.copy(trained / "msnet.safetensors", data / "start.safetensors")
    options = ["--init", data / "start", "--config", data / "run.json", "--steps", 1]
    run("fit", "--data", data, "--out", data / "kept", *options)
    card = artifact.load(data / "kept" / "msnet").card
    assert card.thresholds == (0.15, 0.45)
    assert "started from" in card.training["thresholds"]


def test_a_network_of_other_sizes_cannot_be_fine_tuned(data, trained):
    options = ["--init", "bundled", "--config", data / "run.json"]
    said = run("fit", "--data", data, "--out", data / "none", *options, exit_code=78)
    assert "bundled cannot be fine-tuned" in said
    assert not (data / "none").exists()


def parity(file: Path, loaded: artifact.Artifact) -> float:
    """Largest difference of the probabilities, in two lengths and batch sizes."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed, shape in enumerate([(1, 3, 3000), (5, 3, 700)]):
        x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        (ours,) = session.run(["probability"], {"samples": x})
        theirs = torch.sigmoid(loaded.model(torch.from_numpy(x))[0]).numpy()
        assert ours.shape == theirs.shape == (shape[0], 2, shape[2])
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst


def test_onnx_gives_the_same_probabilities_and_carries_the_card(data, trained, tmp_path):
    run("export", trained, tmp_path / "net-0.1", "--data", data, "--onnx")
    loaded = artifact.load(tmp_path / "net-0.1")
    assert parity(tmp_path / "net-0.1.onnx", loaded) <= 1e-5
    metadata = onnxruntime.InferenceSession(tmp_path / "net-0.1.onnx").get_modelmeta()
    told = {name: json.loads(text) for name, text in metadata.custom_metadata_map.items()}
    assert told == json.loads((tmp_path / "net-0.1.json").read_bytes())
    assert told["thresholds"] == list(loaded.card.thresholds)
    assert told["preprocess"]["memory_blocks"] == 5


def test_an_artifact_can_be_written_as_onnx_without_its_run(tmp_path):
    run("export", artifact.BUNDLED, tmp_path / "bundled", "--onnx")
    assert parity(tmp_path / "bundled.onnx", artifact.load()) <= 1e-5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bundled.onnx"]


def test_what_export_cannot_do_is_said(data, trained, phasenet, tmp_path):
    assert "--data" in run("export", trained, tmp_path / "x", exit_code=2)
    assert "--onnx" in run("export", artifact.BUNDLED, tmp_path / "x", exit_code=2)
    only = run("export", phasenet, tmp_path / "x", "--data", data, "--onnx", exit_code=65)
    assert "only an MSNet" in only
    nowhere = tmp_path / "no folder" / "x"
    assert "cannot write" in run("export", trained, nowhere, "--data", data, exit_code=73)
