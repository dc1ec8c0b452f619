"""`msnet-train`: parse, call, report; no logic. Errors end with the exit code of their class."""

import dataclasses
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamer.errors import MsnetError

if TYPE_CHECKING:
    from train.config import Paths
    from train.loop import Progress as Seen

_console = Console(stderr=True)

_data = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder with traces.csv, picks.csv, teacher_picks.csv and the waveforms.",
)
_cache = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where the recordings at 100 Hz are kept.  [default: OUT/cache]",
)


class _Group(click.Group):
    """Turns our errors into one line and an exit code."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except MsnetError as error:
            _console.print(f"msnet-train: {error}", style="red", highlight=False, soft_wrap=True)
            context.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"show_default": True})
@click.version_option(package_name="msnet-stream")
def main() -> None:
    """Train, judge and export the network that picks P and S."""


@main.command()
@_data
@_cache
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON of a TrainConfig, as every run prints it.  [default: the built-in one]",
)
@click.option("--minutes", type=click.FloatRange(min=0.1), help="End by the clock.")
@click.option("--steps", type=click.IntRange(min=1), help="End after so many steps.")
@click.option("--seed", type=int, help="Of weights, windows and changes.")
@click.option("--threads", type=click.IntRange(min=1), default=1)
@click.option("--resume", is_flag=True, help="Continue the run in OUT.")
def fit(out: Path, data: Path, cache: Path | None, **options: Any) -> None:
    """Train the network and write its artifact OUT/msnet.safetensors with its card."""
    import torch

    from train import fit as run
    from train.config import Paths, as_text

    torch.set_num_threads(options["threads"])
    given = {key: options[key] for key in ("minutes", "steps", "seed") if options[key] is not None}
    begun = out / run.CONFIG if options["resume"] else options["config"]
    config = dataclasses.replace(run.read_config(begun), **given)
    click.echo(as_text(config))
    paths = Paths(data=data, cache=cache or out / "cache", out=out)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=_console) as bar:
        task = bar.add_task("training", total=1.0)

        def report(progress: "Seen", share: float) -> None:
            line = f"step {progress.step}  loss {progress.train[-1][1]:.4f}"
            if progress.validation:
                line += f"  validation {progress.validation[-1][1]:.4f}"
            bar.update(task, completed=share, description=line)
            if not _console.is_terminal:
                click.echo(line)

        run.fit(config, paths, resume=options["resume"], report=report)
    _export(out, dataclasses.replace(paths, out=out / "msnet"))


@main.command()
@click.argument("run_folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("artifact", type=click.Path(path_type=Path))
@_data
@_cache
def export(run_folder: Path, artifact: Path, data: Path, cache: Path | None) -> None:
    """Write the best weights so far of RUN_FOLDER as ARTIFACT.safetensors and ARTIFACT.json."""
    from train.config import Paths

    _export(run_folder, Paths(data=data, cache=cache or run_folder / "cache", out=artifact))


def _export(run_folder: Path, paths: "Paths") -> None:
    from train import fit as run

    exported = run.export(run_folder, paths, _machine())
    click.echo(f"{paths.out}.safetensors  thresholds P, S: {exported.card.thresholds}")


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path), required=False)
@_data
@_cache
@click.option("--peer", multiple=True, help="FILE.py:CLASS:WEIGHTS of another picker.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("report"))
@click.option("--card/--no-card", default=False, help="Write the scores into the card.")
def evaluate(artifact: Path | None, out: Path, data: Path, **options: Any) -> None:
    """Score ARTIFACT (the bundled one by default) on the recordings left out of training."""
    from train import report
    from train.config import Paths

    paths = Paths(data=data, cache=options["cache"] or out / "cache", out=out)
    scores = report.write(artifact, options["peer"], paths, in_card=options["card"])
    click.echo(report.markdown(scores))


def _machine() -> str:
    import os

    import torch

    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
