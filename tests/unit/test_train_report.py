"""The report: what stands in it, what the card quotes, and the command that writes both."""

import json
from pathlib import Path

import numpy as np
import obspy
import pytest
import torch
from click.testing import CliRunner

from model import artifact
from model.msnet import MSNet, MSNetConfig
from model.preprocess import PreprocessConfig
from streamer.errors import CannotCreateError, ConfigError, NoInputError
from train.cli import main
from train.datasets import Arrival, Record
from train.evaluate import NamedPicker, artifact_path, named_artifacts
from train.report import described, markdown, write
from train.scores import BY_LABELS, BY_PICKS, UNCONFIRMED, Recordings, judge_all, uses

START = "2020-01-01T00:00:00.000000Z"
FIGURES = ["classes", "cut", "false", "precision", "residuals"]


def record(dataset: str, kind: str = "event", *arrivals: Arrival) -> Record:
    samples = np.random.default_rng(1).normal(size=(3, 20_000)).astype(np.float32)
    return Record(dataset, "a", samples, arrivals, kind=kind, station="ONE")


@pytest.fixture
def recordings() -> Recordings:
    return Recordings(
        on={"near": [record("near", "event", Arrival(0, 1000.0), Arrival(1, 1500.0))]},
        quiet={"calm": [record("calm", "continuous")]},
        noise={"rocks": [record("rocks", "noise")]},
    )


def ours(asked: Record) -> list[tuple[int, float, float]]:
    if asked.dataset == "near":
        return [(0, asked.arrivals[0].index + 10, 0.9), (0, 1700.0, 0.2)]
    return [(0, 9000.0, 0.3), (1, 9500.0, 0.3)]


PICKERS = [
    NamedPicker("ours", ours, (0.25, 0.25), frozenset({"rocks"}), frozenset({"near"}), "here"),
    NamedPicker("theirs", lambda _: [(0, 9040.0, 0.9)], (0.3, 0.3), family="there"),
]


def test_every_table_has_its_rows(recordings):
    scores = judge_all(PICKERS, recordings)
    text = markdown(scores, "scores")
    recall, precision = "1.00 / 1.00 / 1.00", "1.00 / 1.00 / 1.00"
    assert (
        f"| near | P | ours | 0.25 | 1 | {recall} | {precision} | {recall} | 100 | 0 | 100 | - |"
        in text
    )
    assert "| near | S | theirs | 0.30 | 1 | 0.00 / 0.00 / 0.00 | - / - / - |" in text
    assert "| by labels | **rocks** | 0.06 | 18.0 / 18.0 | 18.0 / 0.0 |" in text
    assert "| unconfirmed | **rocks** | 0.06 | 0.0 / 18.0 | 0.0 / 0.0 |" in text
    assert "| by picks | 1 | ours | 0.30 / 0.30 | 1.00 / 0.00 | 0.500 |" in text
    assert "| P | 2 | 1 | 1.00 (100) | 0.00 (-) |" in text
    assert all(f"](scores-{figure}.png)" in text for figure in FIGURES)


def test_the_report_says_what_each_data_set_was_to_a_picker(recordings):
    text = described(recordings, PICKERS)
    assert "| near | recall | 1 | 0.1 | 1 | 1 | watched | ? |" in text
    assert "| calm | quiet by picks | 1 | 0.1 | 0 | 0 | left out | ? |" in text
    assert "| rocks | quiet by labels | 1 | 0.1 | 0 | 0 | in-sample | ? |" in text


def test_pickers_of_one_family_do_not_confirm_each_other(recordings):
    scores = judge_all([PICKERS[0], PICKERS[0]], recordings)
    assert [list(entry.quiet) for entry in scores] == [[BY_PICKS, BY_LABELS]] * 2
    assert "| by labels | 1 | ours |" in markdown(scores, "scores")


def test_a_record_that_serves_for_several_things_is_picked_once(recordings):
    asked, advanced = [], []

    def listening(one: Record) -> list[tuple[int, float, float]]:
        asked.append(one)
        return []

    both = Recordings(on=recordings.on, quiet=recordings.on, noise=recordings.on)
    picker = NamedPicker("ours", listening, (0.3, 0.3))
    judge_all([picker, PICKERS[1]], both, lambda: advanced.append(1))
    assert sum(one is recordings.on["near"][0] for one in asked) == 1
    assert len(asked) == both.work
    assert len(advanced) == 2 * both.work


def test_the_numbers_for_the_card_are_json(recordings):
    scores = judge_all(PICKERS, recordings)
    facts = json.loads(json.dumps(scores[0].as_dict(), allow_nan=False))
    assert facts["near"]["data"] == "watched"
    assert facts["near"]["P"]["recall"] == [1, 1, 1]
    assert facts["near"]["S"]["residual_ms"]["median"] is None
    assert facts[f"false {UNCONFIRMED}"]["false_picks_per_hour"] == {"P": 0, "S": 18}
    equal = facts["false by labels"]["recall_at_equal_false_picks"]["5 per hour"]
    assert equal["near"] == [1, 0]


def test_a_report_that_cannot_be_written_is_named(recordings, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CannotCreateError, match="taken"):
        write(PICKERS, recordings, tmp_path / "taken", "scores")


def save(path: Path, thresholds: tuple[float, float], **training: object) -> Path:
    torch.manual_seed(1)
    card = artifact.Card(
        name="msnet",
        version="1",
        network=MSNetConfig(channels=(4, 4, 8, 8)),
        preprocess=PreprocessConfig(memory_blocks=5),
        thresholds=thresholds,
        training={"config": {"data": {"train": ["a"], "noise": [], "validation": ["near"]}}}
        | training,
    )
    artifact.save(path, MSNet(card.network), card)
    return path


def test_artifacts_of_one_version_are_told_apart(tmp_path):
    first = str(save(tmp_path / "a", (0.2, 0.2)))
    second = str(save(tmp_path / "b", (0.3, 0.3)))
    assert [p.name for p in named_artifacts([first])] == ["msnet 1"]
    names = {p.name for p in named_artifacts([first, second])}
    assert len(names) == 2
    assert {p.role("near") for p in named_artifacts([first])} == {"watched"}
    with pytest.raises(NoInputError, match="absent"):
        named_artifacts([str(tmp_path / "absent")])


def test_an_artifact_can_be_given_a_name_beside_the_bundled_one(tmp_path):
    tuned = save(tmp_path / "a", (0.2, 0.2))
    names = [p.name for p in named_artifacts(["before=bundled", f"after={tuned}", str(tuned)])]
    assert names[:2] == ["before", "after"]
    assert artifact_path(f"after={tuned}") == tuned
    assert artifact_path("bundled") == artifact.BUNDLED


@pytest.mark.parametrize("how", ["started_from", "distilled_from"])
def test_what_was_learnt_before_is_in_sample_for_weights_made_from_others(tmp_path, how):
    earlier = {"data": {"hills": {}}, how: {"data": {"coast": {}}}}
    tuned = save(tmp_path / "a", (0.2, 0.2), **{how: earlier})
    (picker,) = named_artifacts([str(tuned)])
    roles = {name: picker.role(name) for name in ("a", "hills", "coast", "near", "far")}
    assert roles == dict.fromkeys(("a", "hills", "coast"), "in-sample") | {
        "near": "watched",
        "far": "left out",
    }


def test_without_names_the_usual_data_sets_of_a_folder_are_judged(tmp_path):
    (tmp_path / "traces.csv").write_text("dataset\nmartinique\nvolcano_test\n")
    nothing = {"quiet": (), "native": ()}
    assert uses(tmp_path, on=(), noise=(), **nothing) == nothing | {
        "on": ("martinique",),
        "noise": ("martinique",),
    }
    given = uses(tmp_path, on=("volcano_test",), noise=(), **nothing)
    assert given["on"] == ("volcano_test",)
    (tmp_path / "traces.csv").write_text("dataset\nvolcano_test\n")
    with pytest.raises(ConfigError, match="there: volcano_test"):
        uses(tmp_path, on=(), noise=(), **nothing)


def test_one_command_writes_the_report_and_the_card_quotes_it(tmp_path):
    traces = "dataset,record_id,file,sampling_rate,start,kind,station\n"
    for name, kind in (("near", "event"), ("calm", "continuous"), ("rocks", "noise")):
        obspy.Stream(
            obspy.Trace(
                (1000 * row).astype(np.int32),
                {"sampling_rate": 100.0, "starttime": obspy.UTCDateTime(START), "channel": channel},
            )
            for row, channel in zip(record(name).samples, ("HHZ", "HHN", "HHE"), strict=True)
        ).write(str(tmp_path / f"{name}.mseed"), format="MSEED")
        traces += f"{name},a,{name}.mseed,100.0,{START},{kind},ONE\n"
    (tmp_path / "traces.csv").write_text(traces)
    (tmp_path / "picks.csv").write_text(
        "dataset,record_id,phase,time,evaluation\n"
        "near,a,P,2020-01-01T00:00:30Z,manual\nnear,a,S,2020-01-01T00:00:36Z,manual\n"
    )
    model, out = save(tmp_path / "model", (0.4, 0.4)), tmp_path / "report"
    done = CliRunner().invoke(
        main,
        [
            *("evaluate", str(model), "--card", "--baselines", "--name", "scores"),
            *("--data", str(tmp_path), "--out", str(out), "--cache", str(tmp_path / "cache")),
            *("--on", "near", "--quiet", "calm", "--noise", "rocks"),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    written = {path.name for path in out.iterdir()}
    assert written == {"scores.md", *(f"scores-{figure}.png" for figure in FIGURES)}
    assert (
        "| near | recall | 1 | 0.1 | 1 | 1 | watched | left out |"
        in (out / "scores.md").read_text()
    )
    metrics = artifact.load(model).card.metrics
    assert set(metrics) == {"msnet 1", "STA/LTA + AIC"}
    assert metrics["msnet 1"]["near"]["P"]["manual"] == 1


def test_the_bundled_card_is_not_overwritten_by_accident(tmp_path):
    done = CliRunner().invoke(main, ["evaluate", "--data", str(tmp_path), "--card"])
    assert done.exit_code == 2
    assert "--card needs an ARTIFACT" in done.output
