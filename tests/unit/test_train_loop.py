"""Sampling and the training loop on tiny synthetic data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.msnet import MSNet, MSNetConfig
from model.phasenet import PhaseNetConfig
from model.preprocess import BLOCK, PreprocessConfig
from streamer.errors import DataError
from train.config import AugmentConfig, TrainConfig
from train.datasets import Arrival, Record
from train.loop import CHECKPOINT, Trainer, computes_bfloat16
from train.loop import losses as losses_of
from train.sampler import Sampler

PLAIN = replace(AugmentConfig().plain(), quiet_share=0, teacher_share=0, synthetic_share=0)
CONFIG = TrainConfig(
    steps=6,
    batch=4,
    window_blocks=10,
    warmup_steps=2,
    validate_every=3,
    validation_windows=4,
    bfloat16=False,
    network=MSNetConfig(channels=(4, 4, 8, 8)),
    preprocess=PreprocessConfig(memory_blocks=5),
)


def record(name: str = "a", kind: str = "event", seed: int = 1) -> Record:
    """A minute of noise with a burst at 30 s (P) and a larger one at 33 s (S)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 6000))
    for at, size in ((3000, 20), (3300, 60)):
        x[:, at:] += size * rng.normal(size=(3, 6000 - at)) * np.exp(-np.arange(6000 - at) / 80)
    arrivals = (Arrival(0, 3000, event=0), Arrival(1, 3300, event=0))
    pseudo = arrivals if kind == "continuous" else ()
    return Record(
        "set", name, x.astype(np.float32), arrivals if kind == "event" else (), pseudo, kind
    )


def sampler(config: TrainConfig = CONFIG) -> Sampler:
    return Sampler([record(), record("b", "continuous", 2)], [record("c", "noise", 3)], config)


# Sums in another order would change the last digits of the losses.
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("time_scale", [0.0, 1.0])
def test_labels_move_with_the_samples_when_a_window_is_shifted_and_scaled(time_scale):
    config = replace(CONFIG, augment=replace(PLAIN, time_scale=time_scale))
    impulse = np.zeros((3, 6000), np.float32)
    impulse[:, 3000] = 1
    one = Record("set", "i", impulse, (Arrival(0, 3000, event=0),))
    draw, places = Sampler([one], [], config), set()
    for seed in range(20):
        window = draw.cut(np.random.default_rng(seed), one, 3000, manual=True)
        index = window.arrivals[0].index
        assert np.nanargmax(np.abs(window.samples[0])) == pytest.approx(index, abs=4)
        assert draw.history <= index <= draw.length
        places.add(round(index))
    assert len(places) > 10


def test_a_batch_is_normalised_input_with_targets_of_the_same_length():
    batch = sampler().batch(0)
    assert batch.samples.shape == (4, 3, 10 * BLOCK)
    assert batch.samples.dtype == np.float32
    assert np.isfinite(batch.samples).all()
    assert batch.targets.arrivals.shape == (4, 2, 10 * BLOCK)
    assert batch.targets.event.shape == (4, 1, 10 * BLOCK)


def test_quiet_windows_hold_no_label():
    config = replace(CONFIG, augment=replace(PLAIN, quiet_share=1.0))
    made = sampler(config).batch(0).targets
    assert not made.arrivals.any()
    assert not made.event.any()
    assert made.arrivals_weight.all()


def test_a_batch_depends_on_seed_and_step_alone():
    assert (sampler().batch(5).samples == sampler().batch(5).samples).all()
    assert not np.array_equal(sampler().batch(5).samples, sampler().batch(6).samples)
    other = replace(CONFIG, seed=2)
    assert not np.array_equal(sampler().batch(5).samples, sampler(other).batch(5).samples)


def test_hard_negatives_are_drawn_only_from_quiet_stretches_of_the_sets_meant_for_it(tmp_path):
    data = replace(CONFIG.data, hard=("set",))
    config = replace(CONFIG, data=data, augment=replace(PLAIN, quiet_share=1.0, hard_share=1.0))
    other = replace(record("d", "noise", 4), dataset="other")
    draw = Sampler([record(), record("b", "continuous", 2)], [other], config)
    draw.mine(lambda _: [1500.0, 3000.0])  # 15 s is quiet in record b, 30 s is its P
    assert [(draw.quiet[number][0].record_id, i) for number, i in draw.hard] == [("b", 1500)]
    mined = draw.quiet[draw.hard[0][0]][0]
    for seed in range(10):
        window = draw.quiet_window(np.random.default_rng(seed))
        start = int(np.flatnonzero(mined.samples[0] == window.samples[0, draw.history])[0])
        assert start <= 1500 < start + 10 * BLOCK
    trainer = Trainer(config, draw)
    trainer.save(tmp_path / CHECKPOINT)
    fresh = Trainer(config, Sampler([record(), record("b", "continuous", 2)], [other], config))
    fresh.resume(tmp_path / CHECKPOINT)
    assert fresh.sampler.hard == draw.hard


def test_nothing_to_learn_from_is_said_at_once():
    with pytest.raises(DataError, match="no sure picks"):
        Sampler([], [], CONFIG)


def losses(trainer: Trainer, steps: int) -> list[float]:
    return [trainer.step() for _ in range(steps)]


@pytest.mark.parametrize(
    ("network", "golden"),
    [
        (CONFIG.network, [0.22767, 0.31605, 0.19783, 0.19111]),
        (PhaseNetConfig(channels=(4, 4, 6, 6, 8)), [0.13909, 0.22813, 0.10982, 0.10661]),
    ],
    ids=["msnet", "phasenet"],
)
def test_a_tiny_run_has_its_golden_losses(network, golden):
    """Of windows without random changes, so that the recipe can be tuned without new numbers."""
    plain = replace(PLAIN, quiet_share=0.3, teacher_share=0.3)
    config = replace(CONFIG, network=network, augment=plain)
    assert losses(Trainer(config, sampler(config)), len(golden)) == pytest.approx(golden, abs=1e-4)


def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(tmp_path):
    whole = losses(Trainer(CONFIG, sampler()), 6)
    first = Trainer(CONFIG, sampler(), {"set": sampler()})
    first.run(tmp_path, stop_at=3)
    second = Trainer(CONFIG, sampler(), {"set": sampler()})
    second.resume(tmp_path / CHECKPOINT)
    assert second.progress.step == 3
    assert losses(second, 3) == whole[3:]


def test_training_lowers_the_loss_and_keeps_the_best_validated_weights():
    config = replace(CONFIG, steps=60, augment=PLAIN, ema_decay=0.9, validate_every=20)
    trainer = Trainer(config, sampler(config), {"set": sampler(config)})
    progress = trainer.run()
    values = dict(progress.validation)
    assert values[60] < values[20]
    assert progress.best == min(values.values())
    assert values[progress.best_step] == progress.best
    kept = trainer.best_model()
    assert not kept.training


def test_the_learning_rate_warms_up_and_ends_at_zero():
    trainer = Trainer(CONFIG, sampler())
    assert trainer.learning_rate() == pytest.approx(CONFIG.learning_rate / 2)
    trainer.progress.step = CONFIG.steps
    assert trainer.learning_rate() == pytest.approx(0)


def test_minutes_end_a_run_by_the_clock():
    trainer = Trainer(replace(CONFIG, minutes=1.0), sampler())
    trainer.progress.elapsed_s = 30.0
    assert trainer.share_done() == pytest.approx(0.5)
    trainer.progress.elapsed_s = 61.0
    assert trainer.run().step == 0


def spoiling(steps: int, *, begun: bool = True, **changes) -> Trainer:
    """A run from given weights at a rate that makes them worse and worse."""
    config = replace(CONFIG, steps=steps, validate_every=2, patience=3, ema_decay=0, **changes)
    torch.manual_seed(5)
    start = MSNet(config.network, pruned=True).eval() if begun else None
    config = replace(config, learning_rate=0.5)
    watched = {"a": sampler(config), "b": sampler(replace(config, seed=2))}
    return Trainer(config, sampler(config), watched, start)


def test_a_run_ends_when_the_watched_loss_falls_no_more():
    """Best at 0; patience ends with the third validation in vain, at 6; a third more to cool."""
    progress = spoiling(100, cooldown=1 / 3).run()
    assert (progress.best_step, progress.cooling_from, progress.step) == (0, 6, 8)
    a, b = (dict(progress.watched[name]) for name in "ab")
    assert list(a) == [0, 2, 4, 6, 8]
    assert dict(progress.validation) == pytest.approx({step: (a[step] + b[step]) / 2 for step in a})
    assert spoiling(4).run().step == 4


def test_without_patience_a_run_has_all_its_steps():
    trainer = spoiling(14)
    trainer.config = replace(trainer.config, patience=None)
    assert trainer.run().step == 14


def test_the_rate_of_a_run_ended_early_is_led_to_zero():
    trainer = Trainer(replace(CONFIG, steps=100_000, cooldown=0.5), sampler())
    trainer.progress.step, trainer.progress.cooling_from = 100, 100
    before = trainer.learning_rate()
    assert before == pytest.approx(CONFIG.learning_rate, rel=1e-4)
    trainer.progress.step = 125
    assert trainer.learning_rate() == pytest.approx(before / 2, rel=1e-4)
    trainer.progress.step = 150
    assert trainer.learning_rate() == 0


def test_a_run_killed_while_it_cools_goes_on_cooling(tmp_path):
    whole = spoiling(100, cooldown=1.0)
    undisturbed = whole.run()
    spoiling(100, cooldown=1.0).run(tmp_path, stop_at=8)
    second = spoiling(100, cooldown=1.0, begun=False)
    second.resume(tmp_path / CHECKPOINT)
    assert second.progress.cooling_from == 6
    again = second.run()
    assert again.step == undisturbed.step == 12
    assert again.watched == undisturbed.watched
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name])


def test_a_network_without_decoder_b_has_no_event_loss():
    config = replace(CONFIG, network=PhaseNetConfig(channels=(4, 4, 6, 6, 8)))
    arrivals, event = losses_of(Trainer(config, sampler(config)).model, sampler().batch(0), config)
    assert arrivals > 0
    assert event == 0


def test_weights_that_fine_tuning_only_spoils_are_given_back_as_they_were():
    torch.manual_seed(5)
    start = MSNet(CONFIG.network, pruned=True)
    trainer = spoiling(4)
    progress = trainer.run()
    seen = dict(progress.validation)
    assert min(seen[2], seen[4]) > seen[0] == progress.best
    kept = trainer.best_model().state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in start.state_dict().items())


def _slope(elder: MSNet, config: TrainConfig) -> float:
    """How steep the loss of `elder` itself is when it is learnt from."""
    arrivals, _ = losses_of(elder, sampler().batch(0), config, elder)
    arrivals.backward()
    slopes = [w.grad.abs().max() for w in elder.parameters() if w.grad is not None]
    return float(max(slopes))


def test_a_network_that_says_what_the_elder_says_has_nothing_to_learn_from_it():
    torch.manual_seed(3)
    alike = _slope(MSNet(CONFIG.network).eval(), replace(CONFIG, distil_share=1.0))
    labels = _slope(MSNet(CONFIG.network).eval(), replace(CONFIG, distil_share=0.5))
    assert alike < 1e-6 < 1e-3 < labels


def test_the_elder_is_learnt_from_where_labels_are_masked():
    batch = sampler().batch(0)
    masked = replace(batch.targets, arrivals_weight=np.zeros_like(batch.targets.arrivals_weight))
    batch = replace(batch, targets=masked)
    model, elder = MSNet(CONFIG.network).eval(), MSNet(CONFIG.network).eval()
    assert float(losses_of(model, batch, CONFIG)[0].detach()) == 0
    assert float(losses_of(model, batch, CONFIG, elder)[0].detach()) > 0.1


@pytest.mark.parametrize(
    ("capabilities", "can"),
    [
        ({"avx2": True, "avx512_bf16": False, "cpu_name": "bf16"}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({}, False),
    ],
)
def test_bfloat16_is_for_processors_that_compute_with_it(monkeypatch, capabilities, can):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities, raising=False)
    computes_bfloat16.cache_clear()
    assert computes_bfloat16() is can
    computes_bfloat16.cache_clear()
