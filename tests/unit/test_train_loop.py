"""Sampling and the training loop on tiny synthetic data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.msnet import MSNetConfig
from model.preprocess import BLOCK, PreprocessConfig
from streamer.errors import DataError
from train.config import AugmentConfig, TrainConfig
from train.datasets import Arrival, Record
from train.loop import CHECKPOINT, Trainer
from train.sampler import Sampler

PLAIN = AugmentConfig(
    quiet_share=0, teacher_share=0, time_scale=0, extend=0, superpose=0, mix_noise=0, colour=0,
    vertical_only=0, drop_component=0, rotate=0, component_gain=0, spike=0, step=0, gap=0, begin=0,
    fill=0,
)  # fmt: skip
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


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums in another order would change the last digits of the losses."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    with pytest.raises(DataError, match="no manual picks"):
        Sampler([], [], CONFIG)


def losses(trainer: Trainer, steps: int) -> list[float]:
    return [trainer.step() for _ in range(steps)]


def test_a_tiny_run_has_its_golden_losses():
    golden = [0.33926, 0.40929, 0.34428, 0.10002]
    assert losses(Trainer(CONFIG, sampler()), len(golden)) == pytest.approx(golden, abs=1e-4)


def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(tmp_path):
    whole = losses(Trainer(CONFIG, sampler()), 6)
    first = Trainer(CONFIG, sampler(), sampler())
    first.run(tmp_path, stop_at=3)
    second = Trainer(CONFIG, sampler(), sampler())
    second.resume(tmp_path / CHECKPOINT)
    assert second.progress.step == 3
    assert losses(second, 3) == whole[3:]


def test_training_lowers_the_loss_and_keeps_the_best_validated_weights():
    config = replace(CONFIG, steps=60, augment=PLAIN, ema_decay=0.9, validate_every=20)
    trainer = Trainer(config, sampler(config), sampler(config))
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
