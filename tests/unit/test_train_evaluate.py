"""Scores, thresholds, peers and the road from a run to an artifact."""

import json
from pathlib import Path

import numpy as np
import obspy
import pytest
import torch
from click.testing import CliRunner

from model import artifact
from model.msnet import MSNet, MSNetConfig
from model.preprocess import PreprocessConfig, normalise
from streamer.errors import ConfigError
from train.cli import main
from train.datasets import Arrival, Record, blocks
from train.evaluate import (
    QuietPicks,
    choose_thresholds,
    msnet_picker,
    peer_picker,
    probability,
    quiet_picks,
    score,
)
from train.report import Scores, markdown

PREPROCESS = PreprocessConfig(memory_blocks=5)
TINY = MSNetConfig(channels=(4, 4, 8, 8))


def record(length: int = 6000, **changes: object) -> Record:
    samples = np.random.default_rng(1).normal(size=(3, length)).astype(np.float32)
    return Record("set", "a", samples, (Arrival(0, 1000), Arrival(1, 2000)), **changes)


def test_a_long_record_in_chunks_has_the_probabilities_of_the_whole():
    torch.manual_seed(1)
    model = MSNet(TINY).fold()
    samples = record(30_050).samples.copy()
    samples[:, 12_300:12_900] = np.nan
    got = probability(model, samples, PREPROCESS)
    around = 10 * 100
    whole = np.full((3, 30_100 + 2 * around), np.nan, np.float32)
    whole[:, around : around + 30_050] = samples
    x = torch.from_numpy(normalise(whole, blocks(whole), PREPROCESS))[None]
    with torch.inference_mode():
        want = torch.sigmoid(model(x)[0])[0, :, around : around + 30_050].numpy()
    assert got.shape == (2, 30_050)
    assert got == pytest.approx(want, abs=1e-5)


def test_the_nearest_pick_of_the_same_phase_counts_and_only_within_the_tolerance():
    found = [(0, 1015.0, 0.9), (0, 1300.0, 0.8), (1, 1000.0, 0.9), (1, 2070.0, 0.5)]
    by = score(lambda _: found, [record()])
    assert by["P"].residual_s == pytest.approx((0.15,))
    assert [by["P"].recall(t) for t in (0.1, 0.2, 0.5)] == [0, 1, 1]
    assert by["S"].recall(0.5) == 0
    assert np.isnan(by["S"].median_ms())
    assert by["P"].median_ms() == pytest.approx(150)


def test_a_phase_that_was_never_picked_counts_as_missed():
    by = score(lambda _: [(1, 2000.0, 0.9)], [record(), record()])
    assert by["P"].recall(0.5) == 0
    assert by["P"].known == 2
    assert by["S"].recall(0.1) == 1


def test_false_picks_are_those_far_from_everything_known():
    found = [(0, 1050.0, 0.9), (0, 4000.0, 0.3), (1, 5000.0, 0.6)]
    false = quiet_picks(lambda _: found, [record(36_000)], quiet_s=5.0)
    assert false.probabilities == ((0.3,), (0.6,))
    assert false.hours == pytest.approx((36_000 - 2000) / 360_000)
    assert false.rate((0.5, 0.5)) == pytest.approx(1 / false.hours)


def test_thresholds_are_the_lowest_that_keep_the_false_picks_few():
    false = QuietPicks(1.0, ((0.15, 0.25, 0.35), (0.95, 0.96)))
    assert choose_thresholds(false, 1.0, 0.1, 0.7) == (0.26, 0.7)


@pytest.mark.parametrize("spec", ["nothing", "none.py:Peer:weights", "{file}:Absent:weights"])
def test_a_peer_that_cannot_be_loaded_is_named(spec, tmp_path):
    (tmp_path / "peer.py").write_text("class Peer:\n    pass\n")
    with pytest.raises(ConfigError, match="FILE"):
        peer_picker(spec.format(file=tmp_path / "peer.py"))


def test_a_peer_sees_samples_as_e_n_z_and_its_phases_are_understood(tmp_path):
    (tmp_path / "peer.py").write_text(
        "class Peer:\n"
        "    def __init__(self, path): self.path = path\n"
        "    def probability(self, samples): return samples\n"
        "    def picks(self, samples, threshold):\n"
        "        return [('S', 7, samples[0, 2]), ('P', 5, threshold)]\n"
    )
    pick = peer_picker(f"{tmp_path / 'peer.py'}:Peer:weights", threshold=0.4)
    one = record()
    assert pick(one) == [(1, 7.0, one.samples[0, 0]), (0, 5.0, 0.4)]


def test_the_report_has_a_line_per_picker_data_set_and_phase():
    by = score(lambda _: [(0, 1010.0, 0.9)], [record()])
    text = markdown([Scores("ours", {"set": by}, QuietPicks(2.0, ((0.5,), ())))])
    assert "| ours | set | P | 1 | 1.00 | 1.00 | 1.00 | 100 | 0 | 100 |" in text
    assert "| ours | set | S | 1 | 0.00 | 0.00 | 0.00 | - | - | - |" in text
    assert "| ours | 2.0 | 0.5 | 0.0 | 0.5 |" in text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two data sets of one record each: bursts for P and S at 20 s and 25 s, and noise."""
    rows = "dataset,record_id,file,sampling_rate,start,kind\n"
    picks = "dataset,record_id,phase,time,evaluation\n"
    start = "2020-01-01T00:00:00.000000Z"
    for number, (name, kind) in enumerate([("learn", "event"), ("hush", "continuous")]):
        rng = np.random.default_rng(number)
        x = rng.normal(size=(3, 6000)) * 100
        if kind == "event":
            x[:, 2000:2200] *= 20
            x[:, 2500:2900] *= 50
            picks += f"{name},{name},P,2020-01-01T00:00:20Z,manual\n"
            picks += f"{name},{name},S,2020-01-01T00:00:25Z,manual\n"
        header = {"sampling_rate": 100.0, "starttime": obspy.UTCDateTime(start)}
        obspy.Stream(
            obspy.Trace(c.astype(np.int32), {**header, "channel": f"HH{letter}"})
            for letter, c in zip("ZNE", x, strict=True)
        ).write(str(tmp_path / f"{name}.mseed"), format="MSEED")
        rows += f"{name},{name},{name}.mseed,100.0,{start},{kind}\n"
    (tmp_path / "traces.csv").write_text(rows)
    (tmp_path / "picks.csv").write_text(picks)
    config = {
        "steps": 4,
        "batch": 2,
        "window_blocks": 10,
        "validation_windows": 2,
        "network": {"channels": [4, 4, 8, 8]},
        "data": {
            "train": ["learn", "hush"],
            "noise": [],
            "validation": [],
            "native": [],
            "threshold": ["hush"],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_fit_leaves_an_artifact_whose_card_tells_what_it_was_made_of(folder):
    out = folder / "run"
    arguments = ["fit", "--data", folder, "--out", out, "--config", folder / "config.json"]
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    made = artifact.load(out / "msnet")
    assert made.card.network.channels == (4, 4, 8, 8)
    assert made.card.training["data"]["learn"]["manual_P"] == 1
    assert made.card.training["steps_run"] == 4
    assert (out / "losses.png").stat().st_size > 0
    picker = msnet_picker(made.model, made.card.preprocess, (0.0, 0.0))
    assert picker(record())


def test_resuming_with_another_configuration_is_refused(folder):
    out = folder / "run"
    begin = ["fit", "--data", str(folder), "--out", str(out), "--config"]
    CliRunner().invoke(main, [*begin, str(folder / "config.json")], catch_exceptions=False)
    again = ["fit", "--data", str(folder), "--out", str(out), "--resume", "--seed", "9"]
    done = CliRunner().invoke(main, again)
    assert done.exit_code == ConfigError.exit_code
    assert "another configuration" in done.output.replace("\n", " ")
