"""The study of provisional picks replays what the daemon does, and counts it right."""

import sys
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model.artifact import Card, load, save
from model.look_ahead import RISE, RISE_BLOCKS, liveliness, rises
from model.msnet import MSNet, MSNetConfig
from model.onsets import Onset
from model.preprocess import BLOCK, PreprocessConfig, normalise
from model.streaming import StreamingNetwork
from streamer.clock import DataClock
from streamer.config import Config, PickingConfig
from streamer.picking.engine import build_engine
from streamer.seedid import Nslc
from streamer.timebase import NS_PER_S, sample_time_ns
from streamer.waveforms.records import Record as WaveformRecord
from train.datasets import Arrival, Record, blocks
from train.evaluate import artifact_picker

ROOT = Path(__file__).parents[2]
BLOCKS, REACH = 60, 50
WARM_SAMPLES = 3500  # before it, a P suppressed where data begin may let an S pass in the daemon


@pytest.fixture(scope="module")
def scripts():
    """Both scripts as modules; they are forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import look_ahead
        import provisional

        yield look_ahead, provisional
    for name in ("look_ahead", "provisional"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def study(scripts):
    return scripts[1]


@pytest.fixture(scope="module")
def recorded():
    """A minute of noise in which something begins at 30.35 s."""
    samples = np.random.default_rng(7).normal(size=(3, BLOCKS * BLOCK)).astype(np.float32)
    decay = np.exp(-np.arange(BLOCKS * BLOCK - 3035) / 300)
    samples[:, 3035:] += 30 * decay * np.sin(0.6 * np.arange(len(decay)))
    return Record("made", "one", samples, (Arrival(0, 3035.0),))


def recording(study, previews, final=(), *, seen=False, rise=2.0, **others):
    """One with these peaks (end, phase, index, probability) and final onsets (phase, index)."""
    steady = np.ones(BLOCKS, dtype=np.float32)
    given = {
        "group": "made",
        "seen": seen,
        "separation_samples": REACH,
        "rises": rise * steady,
        "loud": steady,
        "quiet": steady == 0,
        "recorded": steady == 1,
        "final": [Onset(phase, index, 0.9) for phase, index in final],
        "previews": [study.Peak(end, Onset(*onset)) for end, *onset in previews],
    }
    return study.Recording(**given | others)


def rule(study, **changes):
    given = study.Rule(thresholds=(0.8, 0.8), trust_samples=50, rise=1.5, s_after_p_samples=3000)
    return replace(given, **changes)


def test_a_preview_equals_the_final_probability_as_far_back_as_the_network_looks_ahead(study):
    torch.manual_seed(3)
    model = MSNet(MSNetConfig(channels=(4, 6, 8, 10)), pruned=True).fold()
    x = np.random.default_rng(1).normal(size=(3, 20 * BLOCK)).astype(np.float32)
    silence = np.zeros((3, 6 * BLOCK), dtype=np.float32)
    with torch.inference_mode():
        around = torch.from_numpy(np.concatenate([silence, x, silence], axis=1))[None]
        final = torch.sigmoid(model(around)[0])[0, :, 6 * BLOCK : -6 * BLOCK].numpy()
        made = list(study.previews(model, x))
    assert StreamingNetwork(model).lag_samples == study.LAG_SAMPLES
    assert [end for end, _ in made] == list(range(BLOCK, 21 * BLOCK, BLOCK))
    for end, preview in made[6:]:
        start = end - preview.shape[1]
        known = preview[:, : end - study.LAG_SAMPLES - start]
        np.testing.assert_allclose(known, final[:, start : end - study.LAG_SAMPLES], atol=1e-5)
        assert np.abs(preview[:, -REACH:] - final[:, end - REACH : end]).max() > 1e-4


def test_what_is_read_are_the_picks_of_the_evaluation_and_the_gate_of_the_daemon(study, recorded):
    artifact = load()
    read = study.read(recorded, 25, artifact)
    later = replace(recorded, samples=recorded.samples[:, 25:-75])
    picks = artifact_picker(artifact)(later)
    assert picks
    assert [(o.phase, o.index, o.probability) for o in read.final] == picks

    x = normalise(later.samples, blocks(later.samples), artifact.card.preprocess)
    silence = np.zeros((3, RISE_BLOCKS * BLOCK), dtype=np.float32)
    opened = rises(liveliness(np.concatenate([silence, x], axis=1)))
    np.testing.assert_array_equal(read.gate(study.Rule()), opened)
    assert study.Rule().rise == RISE
    assert opened[30]
    assert opened.mean() < 0.2
    assert read.manual == [(0, 3010.0)]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """Weights of an untrained network that finds onsets everywhere and is often mistaken."""
    torch.manual_seed(5)
    model = MSNet(MSNetConfig(channels=(4, 8, 8, 8))).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.kaiming_normal_(module.weight)
    path = tmp_path_factory.mktemp("weights") / "untrained"
    facts = {"name": "untrained", "version": "0", "thresholds": (0.75, 0.75)}
    save(path, model, Card(network=model.config, preprocess=PreprocessConfig(), **facts))
    return path


def daemon_picks(weights, samples):
    """Life cycles of the picks of counts (3, n), fed by the second: [(sample, phase, message)]."""
    clock, begin, rate = DataClock(), 1_600_000_000 * BLOCK, Fraction(BLOCK)
    engine = build_engine(Config(picking=PickingConfig(weights=weights)), clock)
    channels = [Nslc("XX", "AAA", "", f"HH{component}") for component in "ZNE"]
    for nslc in channels:
        engine.bank.declare(nslc)
    lives = defaultdict(list)
    for first in range(0, samples.shape[1], BLOCK):
        for nslc, counts in zip(channels, samples[:, first : first + BLOCK], strict=True):
            record = WaveformRecord(nslc, sample_time_ns(begin + first, rate), rate, counts)
            clock.advance(record.end_ns)
            engine.bank.accept(record)
        for batch in engine.scheduler.collect(1):
            for pick in engine.picks(batch, engine.inference.probabilities(batch)):
                at = (pick.t_ns - sample_time_ns(begin, rate)) * BLOCK / NS_PER_S
                lives[pick.id].append((first + BLOCK, at, pick))
    return list(lives.values())


def test_the_study_publishes_confirms_and_retracts_what_the_daemon_does(study, hasty):
    rng = np.random.default_rng(11)
    restless = rng.lognormal(sigma=1.0, size=400).repeat(BLOCK // 2)
    counts = np.round(300 * restless * rng.normal(size=(3, len(restless)))).astype(np.int32)
    read = study.read(Record("made", "restless", counts.astype(np.float32)), 0, load(hasty))
    lives = [
        messages
        for messages in daemon_picks(hasty, counts)
        if not messages[0][2].final and WARM_SAMPLES < messages[0][1] < read.decided
    ]
    retracted = []
    for phase, letter in enumerate("PS"):
        expected = study.follow(read, study.Rule(), phase)
        expected = [pick for pick in expected if pick.first > WARM_SAMPLES]
        told = [messages for messages in lives if messages[0][2].phase == letter]
        assert [messages[0][0] for messages in told] == [pick.end for pick in expected]
        firsts = [messages[0][1] for messages in told]
        assert firsts == pytest.approx([pick.first for pick in expected], abs=0.1)
        retracted += [messages[-1][2].status == "retract" for messages in told]
        assert retracted[-len(told) :] == [pick.final is None for pick in expected]
    assert 0 < sum(retracted) < len(retracted)


def test_the_preview_knows_an_onset_once_some_data_follow_it(study, recorded):
    read = study.read(recorded, 0, load())
    onset = min(read.final, key=lambda onset: abs(onset.index - 3035))
    course = {after: p for phase, after, p in read.course if phase == onset.phase}
    waits = [after for after in course if after > 0]
    assert len(waits) >= 5
    assert course[max(waits)] == pytest.approx(onset.probability, abs=0.05)
    assert min(waits) <= BLOCK


def test_a_peak_is_published_with_the_first_preview_that_has_enough_data_and_probability(study):
    peaks = [(3000, 0, 2960.0, 0.9), (3100, 0, 2961.0, 0.7), (3200, 0, 2962.0, 0.85)]
    follow = study.follow
    made = recording(study, peaks, [(0, 2965.0)])
    (pick,) = follow(made, rule(study), 0)
    assert (pick.end, pick.first, pick.final.index) == (3200, 2962.0, 2965.0)
    (pick,) = follow(made, rule(study, thresholds=(0.6, 0.8)), 0)
    assert pick.end == 3100
    (pick,) = follow(made, rule(study, trust_samples=40), 0)
    assert pick.end == 3000
    assert follow(made, rule(study), 1) == []


def test_no_preview_is_made_where_nothing_begins_or_nothing_was_recorded(study):
    peaks = [(3000, 0, 2900.0, 0.9)]
    assert study.follow(recording(study, peaks, rise=1.4), rule(study), 0) == []
    assert study.follow(recording(study, peaks), rule(study, loud=1.1), 0) == []
    nothing = np.zeros(BLOCKS, dtype=bool)
    assert study.follow(recording(study, peaks, recorded=nothing), rule(study), 0) == []


def test_a_provisional_pick_without_a_final_onset_of_its_phase_nearby_is_retracted(study):
    peaks = [(3000, 0, 2900.0, 0.9)]
    for final in ([], [(1, 2900.0)], [(0, 2951.0)]):
        (pick,) = study.follow(recording(study, peaks, final), rule(study), 0)
        assert pick.final is None


def test_a_pick_that_wanders_is_confirmed_where_it_was_last_and_counts_as_moved(study):
    peaks = [(3000, 0, 2900.0, 0.9), (3100, 0, 2940.0, 0.9), (3100, 0, 2945.0, 0.9)]
    made = recording(study, peaks, [(0, 2985.0)])
    (pick,) = study.follow(made, rule(study), 0)
    assert (pick.first, pick.last, pick.final.index) == (2900.0, 2940.0, 2985.0)
    assert study.tally([made], rule(study), 0).moved == 1


def test_a_final_onset_confirms_one_pick_and_the_nearest(study):
    peaks = [(3000, 0, 2860.0, 0.9), (3100, 0, 2920.0, 0.9)]
    first, second = study.follow(recording(study, peaks, [(0, 2900.0)]), rule(study), 0)
    assert first.final is None
    assert second.final.index == 2900.0


def test_an_s_is_published_early_only_soon_after_a_p_that_has_been_published(study):
    s = (4200, 1, 4100.0, 0.9)
    early = [(3000, 0, 2900.0, 0.9), s]
    (pick,) = study.follow(recording(study, early, [(0, 2900.0), (1, 4100.0)]), rule(study), 1)
    assert (pick.end, pick.first) == (4200, 4100.0)

    def picked(peaks, final=(), **changes):
        return len(study.follow(recording(study, peaks, final), rule(study, **changes), 1))

    assert picked([s]) == 0
    assert picked([s], s_after_p_samples=0) == 1
    assert picked([s], [(0, 2900.0)]) == 1  # final without a provisional one
    assert picked([s], [(0, 3700.0)]) == 0  # not final yet
    assert picked([(4200, 0, 4000.0, 0.9), s]) == 1  # of the same preview
    assert picked([(4300, 0, 4060.0, 0.9), s]) == 0  # only later
    assert picked([(4200, 0, 4140.0, 0.9), s]) == 0  # behind it
    assert picked(early) == 0  # retracted meanwhile
    assert picked(early, [(0, 2900.0)], s_after_p_samples=1200) == 0  # too long ago


def test_what_the_recording_ends_too_early_for_is_left_out(study):
    end = BLOCKS * BLOCK
    last = end - study.LAG_SAMPLES - REACH
    peaks = [(last + 75, 0, last - 1.0, 0.9), (last + 175, 0, last + 60.0, 0.9)]
    made = recording(study, peaks, [(0, last - 1.0), (0, last + 60.0)])
    assert [pick.first for pick in study.follow(made, rule(study), 0)] == [last - 1.0]
    assert study.tally([made], rule(study), 0).finals == 1


def test_a_peak_so_far_back_that_the_preview_lacks_what_lies_before_it_is_left_out(study):
    made = recording(study, [(3000, 0, 2749.0, 0.9)])
    assert study.follow(made, rule(study), 0) == []
    assert len(study.follow(made, rule(study, preview_blocks=4), 0)) == 1


def test_the_tally_counts_waits_in_seconds_after_the_final_onset(study):
    quiet = np.zeros(BLOCKS, dtype=bool)
    quiet[40:] = True
    peaks = [(1500, 0, 1402.0, 0.9), (3000, 0, 2800.0, 0.9), (4300, 0, 4200.0, 0.9)]
    made = recording(study, peaks, [(0, 1400.0), (0, 2800.0), (0, 3500.0)], quiet=quiet)
    found = study.tally([made, made], rule(study), 0)
    assert sorted(found.waits_s) == [1.0, 1.0, 2.0, 2.0]
    assert (found.finals, found.provisional, found.retracted, found.moved) == (6, 6, 2, 0)
    assert found.retracted_share == pytest.approx(1 / 3)
    assert found.within(1.5) == pytest.approx(1 / 3)
    assert (found.quiet_blocks, found.quiet_provisional, found.quiet_finals) == (40, 2, 0)
    assert found.preview_share == 1.0


def test_the_report_separates_what_was_chosen_on_from_what_was_checked_on(scripts, tmp_path):
    script, study = scripts
    peaks = [(3000, 0, 2900.0, 0.99), (4000, 0, 3900.0, 0.99)]
    course = [(0, 100.0, 0.9), (0, 200.0, 0.95)]
    members = [
        recording(study, peaks, [(0, 2900.0), (0, 3900.0)], seen=True, course=course),
        recording(study, peaks, [(0, 2910.0)], group="martinique", manual=[(0, 2890.0)]),
    ]
    made = script.Study(members, members[1:], 1.0, REACH)
    text = "\n".join(script.report(made))
    assert (
        "| made, in-sample | P | 2 | 100.0 % | 100.0 % | 1.00 | 1.00 | 1.00 | 2 | 0.0 % (0) | 0 |"
        in text
    )
    assert (
        "| **all others** | P | 1 | 100.0 % | 100.0 % | 0.90 | 0.90 | 0.90 | 2 | 50.0 % (1) | 0 |"
        in text
    )
    assert "| martinique | P | 1 | 1 | 1 | 1.10 | 1.10 | 100 | 200 |" in text
    script.draw(made.sides, tmp_path / "made.png")
    assert (tmp_path / "made.png").stat().st_size > 10_000
