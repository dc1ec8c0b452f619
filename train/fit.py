"""One training run from a data folder to the checkpoint of its best weights."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog
import torch
from pydantic import TypeAdapter, ValidationError

from model import artifact
from model.msnet import MSNetConfig
from model.phasenet import PhaseNetConfig
from model.preprocess import MODEL_RATE
from streamer.errors import ConfigError, DataError, NoInputError
from train.config import (
    BUNDLED,
    LONGEST_S_MINUS_P_SAMPLES,
    Paths,
    TrainConfig,
    as_text,
    network_name,
)
from train.datasets import Record, load_records, pair, summary, with_doubtful
from train.figures import loss_curve
from train.loop import CHECKPOINT, Progress, Trainer
from train.networks import Network, build
from train.sampler import Sampler
from train.select import select

CONFIG = "config.json"
CURVE = "losses.png"
START = "start.json"  # the card of the weights that a run started from
ELDER = "elder.json"  # the card of the weights that it learns from
# What is usual for fine-tuning: fewer steps, looked at more often, a tenth of the usual learning
# rate. In 150 steps on 74 records of a volcano, the loss on its later events
# fell from 0.041 to 0.029 (0.028 with 6e-4 and with 2e-3), and on Californian earthquakes, which
# were not shown, it rose from 0.028 to 0.034 (0.035 and 0.053): the usual rate forgets.
FINE_TUNING: dict[str, Any] = {
    "learning_rate": 2e-4,
    "steps": 600,
    "warmup_steps": 50,
    "validate_every": 50,
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
    names = d.train + d.noise + d.validation + d.quiet
    kept, rejected = select(
        load_records(paths.data, names, paths.cache, native=d.native, sure=d.teacher_sure)
    )
    kept = [_with_doubtful(record) for record in kept]
    held_out = [r for r in kept if r.record_id in d.threshold]
    validation = [r for r in kept if r.dataset in d.validation]
    return Data(
        train=[r for r in kept if r.dataset in d.train and r.record_id not in d.threshold],
        noise=[r for r in kept if r.dataset in d.noise],
        validation=validation,
        threshold=held_out
        + [r for r in kept if r.dataset in d.quiet]
        + [r for r in validation if r.dataset not in d.native],
        rejected=rejected,
    )


def _with_doubtful(record: Record) -> Record:
    """What only programs picked joins an analyst's arrivals: masked in windows around these."""
    if not record.arrivals:
        return record
    rate_hz = float(MODEL_RATE)
    arrivals = pair(with_doubtful(record.arrivals, record.pseudo, rate_hz), rate_hz)
    return replace(record, arrivals=tuple(arrivals))


def watched_samplers(data: Data, config: TrainConfig) -> dict[str, Sampler]:
    """For each watched data set, windows as its stations recorded them; a fifth of them are quiet.

    Where an analyst picked one phase only the other one is unknown, and masked: picking it is no
    error. Raises DataError naming a set that gives no windows.
    """
    plain = replace(config.augment.plain(), quiet_share=0.2, teacher_share=0.3, synthetic_share=0.0)
    labels = replace(config.labels, mask_partner_samples=LONGEST_S_MINUS_P_SAMPLES)
    plainly = replace(config, augment=plain, labels=labels)
    samplers = {}
    for name in config.data.validation:
        records = [r for r in data.validation if r.dataset == name]
        events = [r for r in records if r.kind != "noise"]
        noise = [r for r in records if r.kind == "noise"]
        try:
            samplers[name] = Sampler(events, noise, plainly)
        except DataError as error:
            raise DataError(f"the watched data set {name}: {error}") from error
    return samplers


def repeated(records: list[Record], often: Mapping[str, int]) -> list[Record]:
    """The records, those of some data sets so many times over."""
    return [record for record in records for _ in range(often.get(record.dataset, 1))]


def fit(
    config: TrainConfig,
    paths: Paths,
    *,
    resume: bool = False,
    report: Callable[[Progress, float], None] | None = None,
) -> Trainer:
    """Train and leave a checkpoint, the configuration and the loss curve in `paths.out`.

    Raises ConfigError if `resume` finds another configuration there, if the weights to start from
    cannot be read or are of another size, or if those to learn from cannot or are prepared for
    other input.
    """
    elder = _elder(config)
    data = prepare(config, paths)
    log.info("records_selected", train=summary(data.train), rejected=dict(data.rejected))
    start = None if config.init is None or resume else _artifact(config.init)
    often = config.data.repeat
    windows = Sampler(repeated(data.train, often), repeated(data.noise, often), config)
    watched = watched_samplers(data, config)
    begun, known = (each.model if each else None for each in (start, elder))
    trainer = Trainer(config, windows, watched, begun, known)
    if resume:
        saved = read_config(paths.out / CONFIG)
        if saved != config:
            raise ConfigError(f"{paths.out} was begun with another configuration: {CONFIG} there")
        trainer.resume(paths.out / CHECKPOINT)
    paths.out.mkdir(parents=True, exist_ok=True)
    (paths.out / CONFIG).write_text(as_text(config) + "\n", encoding="utf-8")
    for name, used in ((START, start), (ELDER, None if resume else elder)):
        if used:
            (paths.out / name).write_text(json.dumps(asdict(used.card)) + "\n", encoding="utf-8")
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


def configure(
    file: Path | None, *, network: str | None = None, init: str | None = None, **given: Any
) -> TrainConfig:
    """The configuration in `file` (None: the built-in one) with what the command line changes.

    network: "msnet" or "phasenet", with its usual sizes unless `file` has others for it.
    init: what to fine-tune, an artifact or BUNDLED. Network and preprocessing are those of its
        card, and what `file` does not say is as in FINE_TUNING.
    given: values of other fields; None changes nothing.

    Raises NoInputError or ConfigError, the latter also if `init` cannot be read or is not what
    `file` or `network` ask for.
    """
    config = read_config(file)
    said: set[str] = set(json.loads(file.read_bytes())) if file else set()
    if network is not None and network != network_name(config.network):
        usual = PhaseNetConfig() if network == "phasenet" else MSNetConfig()
        config, said = replace(config, network=usual), said | {"network"}
    if init is not None:
        config = _fine_tuning(config, init, said)
    return replace(config, **{key: value for key, value in given.items() if value is not None})


def _fine_tuning(config: TrainConfig, init: str, said: set[str]) -> TrainConfig:
    card = _artifact(init).card
    for name in said & {"network", "preprocess"}:
        wanted, there = getattr(config, name), getattr(card, name)
        if wanted != there:
            raise ConfigError(f"{init} cannot be fine-tuned with {wanted}: it has {there}")
    usual = {name: value for name, value in FINE_TUNING.items() if name not in said}
    return replace(config, init=init, network=card.network, preprocess=card.preprocess, **usual)


def _elder(config: TrainConfig) -> artifact.Artifact | None:
    """What to learn from beside the labels. Raises ConfigError."""
    if config.distil is None:
        return None
    elder = _artifact(config.distil, fold=True)
    if elder.card.preprocess != config.preprocess:
        raise ConfigError(f"{config.distil} cannot be learnt from: its input is prepared otherwise")
    return elder


def _artifact(source: str, *, fold: bool = False) -> artifact.Artifact:
    """With the norms as they are trained, unless folded. Raises ConfigError."""
    try:
        return artifact.load(None if source == BUNDLED else Path(source), fold=fold)
    except artifact.ArtifactError as error:
        raise ConfigError(f"cannot start from {source}: {error}") from error


def read_best(run: Path, config: TrainConfig) -> tuple[Network, Progress]:
    """The kept weights of a run and how far it came."""
    try:
        state = torch.load(run / CHECKPOINT, weights_only=True)
    except OSError as error:
        raise NoInputError(f"{run} has no checkpoint yet: {error.strerror}") from error
    model = build(config.network)
    model.load_state_dict(state["best"])
    return model.eval(), Progress(**state["progress"])
