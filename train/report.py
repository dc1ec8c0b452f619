"""What people read about a run: table of scores in Markdown, residual histograms, loss curve."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from model import artifact
from model.msnet import PHASES
from train.config import DataConfig, Paths
from train.datasets import load_records
from train.evaluate import (
    TOLERANCES_S,
    PhaseScore,
    Picker,
    QuietPicks,
    artifact_picker,
    peer_picker,
    quiet_picks,
    score,
)
from train.loop import Progress

_HISTOGRAM_MS = 500
_BIN_MS = 25


@dataclass(frozen=True)
class Scores:
    """Of one picker: per data set and phase, and its false picks on quiet data."""

    name: str
    recall: dict[str, dict[str, PhaseScore]]
    quiet: QuietPicks | None = None

    def as_dict(self) -> dict[str, Any]:
        """Rounded numbers for the card."""
        table: dict[str, Any] = {
            dataset: {phase: _numbers(score) for phase, score in phases.items()}
            for dataset, phases in self.recall.items()
        }
        if self.quiet is not None:
            table["false_picks_per_station_hour"] = {
                **{p: round(self.quiet.phase_rate(i), 2) for i, p in enumerate(PHASES)},
                "both": round(self.quiet.rate(), 2),
                "station_hours": round(self.quiet.hours, 2),
            }
        return table


def write(
    model: Path | None,
    peers: Sequence[str],
    paths: Paths,
    *,
    baselines: Mapping[str, Picker] | None = None,
    in_card: bool = False,
) -> list[Scores]:
    """Score an artifact (None: the bundled one) and others on the test data; report in `paths.out`.

    `in_card` also writes the scores into the artifact's card.
    """
    deployed = artifact.load(model)
    pickers = {f"{deployed.card.name} {deployed.card.version}": artifact_picker(deployed)}
    for spec in peers:
        pickers[spec.split(":")[1]] = peer_picker(spec)
    pickers |= baselines or {}
    scores = [judge(name, pick, paths) for name, pick in pickers.items()]
    paths.out.mkdir(parents=True, exist_ok=True)
    (paths.out / "report.md").write_text(markdown(scores), encoding="utf-8")
    residual_histogram(scores, paths.out / "residuals.png")
    if in_card and model is not None:
        _, card = artifact.files(model)
        facts = json.loads(card.read_text(encoding="utf-8"))
        facts["metrics"] = {entry.name: entry.as_dict() for entry in scores}
        card.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return scores


def judge(name: str, pick: Picker, paths: Paths) -> Scores:
    """One picker on the test sets and on the quiet stretches."""
    d = DataConfig()
    recall = {
        dataset: score(pick, load_records(paths.data, (dataset,), paths.cache))
        for dataset in d.test
    }
    quiet = load_records(paths.data, d.quiet, paths.cache)
    return Scores(name, recall, quiet_picks(pick, quiet, d.quiet_s))


def _numbers(score: PhaseScore) -> dict[str, float]:
    row: dict[str, float] = {"manual": score.known}
    for tolerance in TOLERANCES_S:
        row[f"recall_{tolerance}s"] = round(score.recall(tolerance), 3)
    row["residual_median_ms"] = round(score.median_ms(), 1)
    row["residual_mad_ms"] = round(score.mad_ms(), 1)
    row["absolute_residual_median_ms"] = round(score.median_absolute_ms(), 1)
    return row


def markdown(scores: Sequence[Scores]) -> str:
    """One row per picker, data set and phase; then false picks."""
    columns = [f"recall {t} s" for t in TOLERANCES_S]
    head = ["picker", "data", "phase", "manual", *columns, "median ms", "MAD ms", "median abs ms"]
    lines = [_line(head), _line(["---"] * len(head))]
    for entry in scores:
        for dataset, phases in entry.recall.items():
            for phase, got in phases.items():
                recall = [f"{got.recall(t):.2f}" for t in TOLERANCES_S]
                residual = [got.median_ms(), got.mad_ms(), got.median_absolute_ms()]
                numbers = ["-" if isnan(r) else f"{r:.0f}" for r in residual]
                lines.append(_line([entry.name, dataset, phase, str(got.known), *recall, *numbers]))
    quiet = [(s.name, s.quiet) for s in scores if s.quiet is not None]
    if quiet:
        head = ["picker", "quiet station-hours", "false P / h", "false S / h", "both / h"]
        lines += ["", _line(head), _line(["---"] * len(head))]
    for name, picks in quiet:
        rates = [picks.phase_rate(0), picks.phase_rate(1), picks.rate()]
        lines.append(_line([name, f"{picks.hours:.1f}", *(f"{r:.1f}" for r in rates)]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def residual_histogram(scores: Sequence[Scores], path: Path) -> None:
    """One panel per phase, one line per picker, over all data sets."""
    figure, axes = _figure(len(PHASES))
    bins = np.arange(-_HISTOGRAM_MS, _HISTOGRAM_MS + _BIN_MS, _BIN_MS)
    for axis, phase in zip(axes, PHASES, strict=True):
        for entry in scores:
            residuals = [1000 * r for by in entry.recall.values() for r in by[phase].residual_s]
            axis.hist(residuals, bins, histtype="step", label=entry.name)
        axis.set(title=f"{phase}: picked minus manual", xlabel="ms", ylabel="picks")
        axis.legend()
    figure.savefig(path)


def loss_curve(progress: Progress, path: Path) -> None:
    """Training and validation loss against the step, and which weights were kept."""
    figure, (axis,) = _figure(1)
    axis.plot(*_columns(progress.train), label="training (both decoders)")
    axis.plot(*_columns(progress.validation), label="validation (arrivals)")
    axis.axvline(progress.best_step, color="grey", linestyle=":", label="kept")
    axis.set(xlabel="step", ylabel="binary cross-entropy", yscale="log")
    axis.legend()
    figure.savefig(path)


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _figure(panels: int) -> tuple[Any, Sequence[Any]]:
    """A figure that no display is needed for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(5 * panels, 3.4), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, panels, squeeze=False)
    return figure, list(axes[0])
