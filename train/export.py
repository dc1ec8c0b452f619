"""From the best weights of a run to files that can be used: thresholds, card, artifact."""

import json
import subprocess
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from model import artifact
from model.phasenet import PhaseNet
from model.preprocess import MODEL_RATE
from streamer.errors import CannotCreateError
from train.baselines import save_phasenet
from train.config import DataConfig, Paths, TrainConfig
from train.datasets import Record, quiet_stretches, summary
from train.evaluate import choose_thresholds, msnet_picker, quiet_picks
from train.fit import CONFIG, ELDER, START, Data, prepare, read_best, read_config
from train.loop import Progress
from train.networks import Network

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
    "stead_sample": "STEAD CC-BY-4.0, carrier MIT",
    "martinique": "OVSM-IPGP CC-BY",
    "chile_cx_2014": "IPOC CC-BY, carrier GPL-3",
}

UNCHOSEN = (0.3, 0.3)  # as PhaseNet (Zhu and Beroza 2019) is mostly used
_ENOUGH_HOURS = 1.0  # of quiet data; in less, a handful of false picks an hour may not show at all

log = structlog.get_logger()


def thresholds(
    model: Network, config: TrainConfig, data: Data, otherwise: tuple[float, float] = UNCHOSEN
) -> tuple[float, float]:
    """The lowest thresholds that keep the false picks on the threshold data under the aim.

    Without enough quiet stretches to choose them by they are `otherwise`.
    """
    d = config.data
    lowest, highest = d.threshold_range
    if not _enough(config, data):
        log.warning("thresholds_not_chosen", needed_quiet_hours=_ENOUGH_HOURS, used=otherwise)
        return otherwise
    false = quiet_picks(
        msnet_picker(model, config.preprocess, (lowest, lowest)), data.threshold, d.quiet_s
    )
    return choose_thresholds(false, d.false_per_hour, lowest, highest)


def _enough(config: TrainConfig, data: Data) -> bool:
    """Whether there are quiet stretches enough to choose thresholds by."""
    margin = config.data.quiet_s * float(MODEL_RATE)
    quiet = (b - a for record in data.threshold for a, b in quiet_stretches(record, margin))
    return sum(quiet) >= _ENOUGH_HOURS * 3600 * float(MODEL_RATE)


def export(
    run: Path, paths: Paths, machine: str, false_per_hour: float | None = None, note: str = ""
) -> tuple[float, float]:
    """Weights of a run as `paths.out`.safetensors; returns the thresholds of P and S.

    An MSNet gets its card (.json) beside it, without test scores yet; that of a PhaseNet, shorter,
    is in the file (`train.baselines`). `false_per_hour` replaces the run's own aim for the
    thresholds; `note` is for the card. Raises CannotCreateError if a file cannot be written.
    """
    config = read_config(run / CONFIG)
    if false_per_hour is not None:
        config = replace(config, data=replace(config.data, false_per_hour=false_per_hour))
    model, progress = read_best(run, config)
    data = prepare(config, paths)
    chosen = thresholds(model, config, data, _thresholds_before(run) if config.init else UNCHOSEN)
    try:
        if isinstance(model, PhaseNet):
            weights, _ = artifact.files(paths.out)
            save_phasenet(weights, model, config.preprocess, chosen)
        else:
            card = artifact.Card(
                name="msnet",
                version=f"{datetime.now(UTC):%Y.%m.%d}",
                network=model.config,
                preprocess=config.preprocess,
                thresholds=chosen,
                training=_facts(config, progress, data, machine)
                | ({"started_from": _known(run / START)} if config.init else {})
                | ({"distilled_from": _known(run / ELDER)} if config.distil else {})
                | {"note": note},
            )
            artifact.save(paths.out, model, card)
    except OSError as error:
        raise not_written(paths.out, error) from error
    return chosen


def not_written(weights: Path, error: OSError) -> CannotCreateError:
    """What to raise if an artifact cannot be written."""
    return CannotCreateError(f"cannot write the weights {weights}: {error.strerror}")


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
        "thresholds": _chosen_by(config, data),
        "config": asdict(config) | _origins(config),
    }


def _origins(config: TrainConfig) -> dict[str, str]:
    """Other artifacts by name: where they lay is nobody's business but the machine's."""
    paths = {"init": config.init, "distil": config.distil}
    return {key: Path(path).name for key, path in paths.items() if path is not None}


def _chosen_by(config: TrainConfig, data: Data) -> str:
    d = config.data
    if not _enough(config, data):
        before = "those of the weights it started from" if config.init else "usual ones"
        return f"{before}, for want of quiet data"
    records = sorted({_source(record, d) for record in data.threshold})
    return (
        f"lowest of {d.threshold_range} with at most {d.false_per_hour} false picks per "
        f"station-hour and phase on the quiet stretches of {', '.join(records)}"
    )


def _thresholds_before(run: Path) -> tuple[float, float]:
    """Of the weights that a fine-tuned network started from: they still fit better than others."""
    p, s = json.loads((run / START).read_bytes())["thresholds"]
    return p, s


def _source(record: Record, d: DataConfig) -> str:
    """A record held out by name, or the data set that serves whole."""
    named = record.record_id in d.threshold
    return f"{record.dataset}/{record.record_id}" if named else record.dataset


def _known(file: Path) -> dict[str, Any]:
    """What the network in a card had learnt from."""
    card = json.loads(file.read_bytes())
    before = card["training"]
    kept = ("data", "terms", "started_from", "distilled_from")
    return {
        "name": card["name"],
        "version": card["version"],
        "network": card["network"],
        **{key: before[key] for key in kept if key in before},
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
