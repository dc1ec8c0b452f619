"""One training run from a data folder to an artifact: what `msnet-train fit` and `export` do."""

import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
import torch
from pydantic import TypeAdapter, ValidationError

from model import artifact
from model.msnet import MSNet
from streamer.errors import ConfigError, NoInputError
from train.config import AugmentConfig, Paths, TrainConfig, as_text
from train.datasets import Record, load_records, summary
from train.evaluate import choose_thresholds, msnet_picker, quiet_picks
from train.loop import CHECKPOINT, Progress, Trainer
from train.report import loss_curve
from train.sampler import Sampler
from train.select import select

CONFIG = "config.json"
CURVE = "losses.png"
# What the owners of the recordings ask for; sets that are not listed carry their own terms.
TERMS = {
    "ncedc_phasenet": "NCEDC open data, carrier MIT",
    "ncedc_phasenet2": "NCEDC open data, carrier MIT",
    "coseismiq_hengill": "2C network CC-BY, carrier GPL-3",
    "colombia_mesetas": "SGC CM network open, carrier GPL-3",
    "colombia_vmm": "SGC CM network open, carrier GPL-3",
    "sechilienne_rockfall": "RESIF, carrier Apache-2.0",
    "guadeloupe_2010": "IPGP",
    "oklahoma_2013": "OGS",
    "icequake_iceland": "carrier GPL-3 / MIT",
}

log = structlog.get_logger()


@dataclass(frozen=True)
class Data:
    """The records by use, and what `select` turned away."""

    train: list[Record]
    noise: list[Record]
    validation: list[Record]
    threshold: list[Record]
    rejected: Counter[str]


def prepare(config: TrainConfig, paths: Paths) -> Data:
    """Read, select and part the recordings for a run."""
    d = config.data
    names = d.train + d.noise + d.validation
    kept, rejected = select(
        load_records(paths.data, names, paths.cache, native=d.native, sure=d.teacher_sure)
    )
    held_out = [r for r in kept if r.record_id in d.threshold]
    validation = [r for r in kept if r.dataset in d.validation]
    return Data(
        train=[r for r in kept if r.dataset in d.train and r.record_id not in d.threshold],
        noise=[r for r in kept if r.dataset in d.noise],
        validation=validation,
        threshold=held_out + [r for r in validation if r.dataset not in d.native],
        rejected=rejected,
    )


def validation_sampler(data: Data, config: TrainConfig) -> Sampler:
    """Windows as the stations recorded them, half around manual and half around teacher picks."""
    plain = AugmentConfig(
        quiet_share=0.2,
        teacher_share=0.3,
        time_scale=0,
        extend=0,
        superpose=0,
        mix_noise=0,
        vertical_only=0,
        drop_component=0,
        rotate=0,
        component_gain=0,
        colour=0,
        spike=0,
        step=0,
        gap=0,
        begin=0,
        fill=0,
    )
    return Sampler(data.validation, [], replace(config, augment=plain))


def fit(
    config: TrainConfig,
    paths: Paths,
    *,
    resume: bool = False,
    report: Callable[[Progress, float], None] | None = None,
) -> Trainer:
    """Train and leave a checkpoint, the configuration and the loss curve in `paths.out`."""
    data = prepare(config, paths)
    log.info("records_selected", train=summary(data.train), rejected=dict(data.rejected))
    validation = validation_sampler(data, config) if data.validation else None
    trainer = Trainer(config, Sampler(data.train, data.noise, config), validation)
    if resume:
        saved = read_config(paths.out / CONFIG)
        if saved != config:
            raise ConfigError(f"{paths.out} was begun with another configuration: {CONFIG} there")
        trainer.resume(paths.out / CHECKPOINT)
    paths.out.mkdir(parents=True, exist_ok=True)
    (paths.out / CONFIG).write_text(as_text(config) + "\n", encoding="utf-8")
    progress = trainer.run(paths.out, report)
    loss_curve(progress, paths.out / CURVE)
    return trainer


def read_config(file: Path | None) -> TrainConfig:
    """A configuration from JSON (None: the built-in one); raises NoInputError or ConfigError."""
    if file is None:
        return TrainConfig()
    try:
        return TypeAdapter(TrainConfig).validate_json(file.read_bytes())
    except OSError as error:
        raise NoInputError(f"cannot read the configuration {file}: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{file}: {error}") from error


def read_best(run: Path, config: TrainConfig) -> tuple[MSNet, Progress]:
    """The kept weights of a run and how far it came."""
    try:
        state = torch.load(run / CHECKPOINT, weights_only=True)
    except OSError as error:
        raise NoInputError(f"{run} has no checkpoint yet: {error.strerror}") from error
    model = MSNet(config.network)
    model.load_state_dict(state["best"])
    return model.eval(), Progress(**state["progress"])


def thresholds(model: MSNet, config: TrainConfig, data: Data) -> tuple[float, float]:
    """The lowest thresholds that keep the false picks on the threshold data under the aim."""
    d = config.data
    lowest, highest = d.threshold_range
    false = quiet_picks(
        msnet_picker(model, config.preprocess, (lowest, lowest)), data.threshold, d.quiet_s
    )
    return choose_thresholds(false, d.false_per_hour, lowest, highest)


def export(
    run: Path, paths: Paths, machine: str, false_per_hour: float | None = None, note: str = ""
) -> artifact.Artifact:
    """Weights and card of a run as `paths.out`.safetensors and .json, without test scores yet.

    `false_per_hour` replaces the run's own aim for the thresholds; `note` is for the card.
    """
    config = read_config(run / CONFIG)
    if false_per_hour is not None:
        config = replace(config, data=replace(config.data, false_per_hour=false_per_hour))
    model, progress = read_best(run, config)
    data = prepare(config, paths)
    card = artifact.Card(
        name="msnet",
        version=f"{datetime.now(UTC):%Y.%m.%d}",
        network=config.network,
        preprocess=config.preprocess,
        thresholds=thresholds(model, config, data),
        training=_facts(config, progress, data, machine) | {"note": note},
    )
    artifact.save(paths.out, model, card)
    return artifact.load(paths.out)


def _facts(config: TrainConfig, progress: Progress, data: Data, machine: str) -> dict[str, Any]:
    d = config.data
    used = {r.dataset for r in (*data.train, *data.noise, *data.validation)}
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "revision": revision(),
        "machine": machine,
        "data": summary(data.train + data.noise),
        "terms": {name: TERMS.get(name, "see the data folder") for name in sorted(used)},
        "labels": "manual picks of the analysts; picks of the published PhaseNet (Zhu & Beroza "
        f"2019) with probability >= {d.teacher_sure} on the continuous sets, weaker ones masked",
        "rejected": dict(data.rejected),
        "steps": progress.best_step,
        "steps_run": progress.step,
        "minutes": round(progress.elapsed_s / 60, 1),
        "validation_loss": round(progress.best, 5),
        "thresholds": f"lowest of {d.threshold_range} with at most {d.false_per_hour} false picks "
        "per station-hour and phase on the quiet stretches of "
        + ", ".join(sorted({f"{r.dataset}/{r.record_id}" for r in data.threshold})),
        "config": asdict(config),
    }


def revision() -> str:
    """Git revision of the source tree, or "unversioned"."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unversioned"
    return done.stdout.strip()
