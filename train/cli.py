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
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


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
@click.option(
    "--false-per-hour",
    type=click.FloatRange(min=0),
    help="Of each phase on the threshold data.  [default: the run's]",
)
@click.option("--note", default="", help="What readers of the card should know.")
def export(run_folder: Path, artifact: Path, data: Path, **options: Any) -> None:
    """Write the best weights so far of RUN_FOLDER as ARTIFACT.safetensors and ARTIFACT.json."""
    from train.config import Paths

    paths = Paths(data=data, cache=options["cache"] or run_folder / "cache", out=artifact)
    _export(run_folder, paths, false_per_hour=options["false_per_hour"], note=options["note"])


def _export(run_folder: Path, paths: "Paths", **options: Any) -> None:
    from train import fit as run

    exported = run.export(run_folder, paths, _machine(), **options)
    click.echo(f"{paths.out}.safetensors  thresholds P, S: {exported.card.thresholds}")


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path), required=False)
@_data
@_cache
@click.option("--peer", multiple=True, help="FILE.py:CLASS:WEIGHTS of another picker.")
@click.option("--baselines", is_flag=True, help="STA/LTA with AIC refinement, too.")
@click.option("--phasenet", type=_file, help="A PhaseNet trained with this recipe, too.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("report"))
@click.option("--card/--no-card", default=False, help="Write the scores into the card.")
def evaluate(artifact: Path | None, out: Path, data: Path, **options: Any) -> None:
    """Score ARTIFACT (the bundled one by default) on the recordings left out of training."""
    from train import report
    from train.baselines import baseline_pickers
    from train.config import Paths

    paths = Paths(data=data, cache=options["cache"] or out / "cache", out=out)
    asked = options["baselines"] or options["phasenet"]
    baselines = baseline_pickers(options["phasenet"]) if asked else None
    scores = report.write(
        artifact, options["peer"], paths, baselines=baselines, in_card=options["card"]
    )
    click.echo(report.markdown(scores))


@main.command("data")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option(
    "--kind",
    type=click.Choice(["seisbench", "stead", "catalogue", "tables"]),
    help="What the sources are.  [default: told by their content]",
)
@click.option("--name", multiple=True, help="Of each data set.  [default: the folder's or file's]")
@click.option("--catalog", type=_file, multiple=True, help="QuakeML with picks of the waveforms.")
@click.option("--inventory", type=_file, multiple=True, help="StationXML, for distances.")
@click.option("--magnitude", type=float, nargs=2, help="Lowest and highest.")
@click.option("--s-minus-p", "s_minus_p_s", type=float, nargs=2, help="Shortest and longest, s.")
@click.option("--depth-ratio", "depth_to_distance", type=float, nargs=2, help="Depth / distance.")
@click.option("--both-phases/--one-phase", default=None, help="Manual P and S, or one will do.")
@click.option("--unknown-passes/--known-only", default=None, help="If a fact is not told.")
@click.option("--assume-manual", is_flag=True, default=None, help="Picks without a status are.")
@click.option(
    "--noise", "no_pick_is_noise", is_flag=True, default=None, help="No pick means no earthquake."
)
def select_data(sources: tuple[str, ...], out: Path, kind: str | None, **options: Any) -> None:
    """Select recordings from any SOURCE and write them as a folder for `fit --data`.

    A SOURCE is a data set in SeisBench's format (or seisbench:NAME from its cache), STEAD's CSV
    and HDF5, waveforms or an SDS archive with a QuakeML catalogue, or a folder of tables. Limits
    and what they rejected stand in OUT/selection.md; OUT/fit.json is a configuration for `fit`.
    """
    from train import data
    from train.selection import Selection
    from train.sources.detect import open_source

    names = options.pop("name") or (None,) * len(sources)
    if len(names) != len(sources):
        raise click.UsageError("give --name once for each SOURCE")
    beside = {"catalogues": options.pop("catalog"), "inventories": options.pop("inventory")}
    rules = Selection(**{key: value for key, value in options.items() if value is not None})
    opened = [
        open_source(source, kind=kind, name=name, **beside)
        for source, name in zip(sources, names, strict=True)
    ]
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=_console, disable=not _console.is_terminal) as bar:
        tasks = {source.name: bar.add_task(source.name, total=None) for source in opened}
        selector = data.build(
            opened,
            out,
            rules,
            lambda name, n, all_: bar.update(tasks[name], completed=n, total=all_),
        )
    click.echo(data.markdown(selector))


def _machine() -> str:
    import os

    import torch

    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
