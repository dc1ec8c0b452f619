"""`msnet-train`: parse, call, report; no logic. Errors end with the exit code of their class."""

import dataclasses
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streamer.errors import MsnetError
from train.terminal import console as _console

if TYPE_CHECKING:
    from train.config import Paths
    from train.loop import Progress as Seen
    from train.study import Report

_folder = click.Path(path_type=Path, exists=True, file_okay=False)
_new_folder = click.Path(path_type=Path, file_okay=False)
_data = click.option(
    "--data",
    type=_folder,
    required=True,
    help="Folder with traces.csv, picks.csv, teacher_picks.csv and the waveforms.",
)
_cache = click.option(
    "--cache",
    type=_new_folder,
    default=None,
    help="Where the recordings at 100 Hz are kept.  [default: OUT/cache]",
)
_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_time = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


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
@click.option("--out", type=_new_folder, required=True, help="Folder of the run.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON of a TrainConfig, as every run prints it.  [default: the built-in one]",
)
@click.option(
    "--network",
    type=click.Choice(["msnet", "phasenet"]),
    help="Which network, with its usual sizes.  [default: the configuration's]",
)
@click.option("--init", help='Start from this artifact, or from the "bundled" one: fine-tuning.')
@click.option("--distil", help='Learn from the probabilities of this artifact, or "bundled", too.')
@click.option("--minutes", type=click.FloatRange(min=0.1), help="End by the clock.")
@click.option("--steps", type=click.IntRange(min=1), help="End after so many steps.")
@click.option("--seed", type=int, help="Of weights, windows and changes.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="That torch may use.")
@click.option("--resume", is_flag=True, help="Continue the run in OUT as it was begun.")
def fit(out: Path, data: Path, cache: Path | None, **options: Any) -> None:
    """Train a network; write OUT/msnet.safetensors and its card, or OUT/phasenet.safetensors."""
    import torch

    from train import fit as run
    from train.config import Paths, as_text, network_name

    torch.set_num_threads(options["threads"])
    given = {key: options[key] for key in ("distil", "minutes", "steps", "seed")}
    if options["resume"]:
        config = run.configure(out / run.CONFIG, **given)
    else:
        chosen = {key: options[key] for key in ("network", "init")}
        config = run.configure(options["config"], **chosen, **given)
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
    _export(out, dataclasses.replace(paths, out=out / network_name(config.network)))


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--data", type=_folder, help="The folder that the run was given.")
@_cache
@click.option(
    "--false-per-hour",
    type=click.FloatRange(min=0),
    help="Of each phase on the threshold data.  [default: the run's]",
)
@click.option("--note", default="", help="What readers of the card should know.")
@click.option("--onnx", is_flag=True, help="Write ARTIFACT.onnx, too (MSNet only).")
def export(source: Path, artifact: Path, data: Path | None, **options: Any) -> None:
    """Write the best weights so far of a run as ARTIFACT.safetensors and ARTIFACT.json.

    SOURCE is the folder of the run. With --onnx it may also be an artifact, which needs no data.
    """
    from train.config import Paths

    if source.is_dir():
        if data is None:
            raise click.UsageError("the thresholds of a run are chosen on its recordings: --data")
        paths = Paths(data=data, cache=options["cache"] or source / "cache", out=artifact)
        _export(source, paths, false_per_hour=options["false_per_hour"], note=options["note"])
    elif not options["onnx"]:
        raise click.UsageError(f"{source} is no folder of a run: an artifact needs --onnx")
    if options["onnx"]:
        from train import onnx_file

        click.echo(onnx_file.write(artifact if source.is_dir() else source, artifact))


def _export(run_folder: Path, paths: "Paths", **options: Any) -> None:
    from train.export import export as write

    chosen = write(run_folder, paths, _machine(), **options)
    click.echo(f"{paths.out}.safetensors  thresholds P, S: {chosen}")


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@_data
@_cache
@click.option("--native", multiple=True, help="Data sets fed sample for sample: 100 are a second.")
@click.option("--leave-out", multiple=True, help="Data sets only to check it on.")
def gate(artifact: Path, target: Path, data: Path, **options: Any) -> None:
    """Write ARTIFACT with a gate as TARGET.safetensors and TARGET.json.

    The gate leaves out the finer half of the network where it can find nothing. It is fitted to
    what the network makes of all recordings but those left out, which are checked, too.
    """
    from train import gates
    from train.config import Paths

    paths = Paths(data=data, cache=options["cache"] or target.parent / "cache", out=target)
    for line in gates.write(artifact, paths, options["native"], options["leave_out"]):
        click.echo(line)


@main.command()
@click.argument("artifacts", nargs=-1, metavar="[[NAME=]ARTIFACT]...")
@_data
@_cache
@click.option(
    "--on",
    multiple=True,
    help="Data sets with manual picks, for recall and precision.  [default: the development data]",
)
@click.option(
    "--quiet",
    multiple=True,
    help="Data sets for false picks, far from every pick of anybody.  [default: likewise]",
)
@click.option(
    "--noise",
    multiple=True,
    help="Data sets for false picks, in noise recordings and before P.  [default: likewise]",
)
@click.option("--native", multiple=True, help="Data sets fed sample for sample: 100 are a second.")
@click.option("--peer", multiple=True, help="[NAME=]FILE.py:CLASS:WEIGHTS of another picker.")
@click.option("--baselines", is_flag=True, help="STA/LTA with AIC refinement, too.")
@click.option("--phasenet", type=_file, help="A PhaseNet trained with this recipe, too.")
@click.option("--out", type=_new_folder, default=Path("report"), help="Folder of the report.")
@click.option("--name", default="evaluation", help="Of the report and its figures in OUT.")
@click.option("--card/--no-card", default=False, help="Write the scores into the cards.")
def evaluate(artifacts: tuple[str, ...], out: Path, data: Path, **options: Any) -> None:
    """Score each ARTIFACT ("bundled" or none: that of the program); write OUT/NAME.md with figures.

    Nothing but the data sets decides whether a score is honest: the report says which of them an
    artifact was trained on.
    """
    from train import report
    from train.baselines import baseline_pickers
    from train.config import Paths
    from train.evaluate import artifact_path, named_artifacts, named_peer
    from train.scores import load as load_recordings
    from train.scores import uses

    if options["card"] and not artifacts:
        raise click.UsageError("--card needs an ARTIFACT to write to")
    pickers = named_artifacts(artifacts)
    pickers += map(named_peer, options["peer"])
    if options["baselines"] or options["phasenet"]:
        pickers += baseline_pickers(options["phasenet"])
    paths = Paths(data=data, cache=options["cache"] or out / "cache", out=out)
    chosen = uses(data, **{use: options[use] for use in ("on", "quiet", "noise", "native")})
    recordings = load_recordings(paths, **chosen)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=_console, disable=not _console.is_terminal) as bar:
        task = bar.add_task("picking", total=recordings.work * len(pickers))
        scores = report.write(
            pickers,
            recordings,
            out,
            options["name"],
            heading=report.title(_command(), _machine()),
            advance=lambda: bar.advance(task),
        )
    for spec in artifacts if options["card"] else ():
        report.quote(artifact_path(spec), scores)
    click.echo(out / f"{options['name']}.md")


def _command() -> str:
    """The command line as given, without the folders of this machine."""
    return shlex.join(["msnet-train", *(re.sub("[^:=]*/", "", word) for word in sys.argv[1:])])


@main.command()
@_data
@_cache
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="PNG to write."
)
@click.option("--config", type=_file, help="JSON of a TrainConfig.  [default: the built-in one]")
@click.option("--seed", type=int, default=0, help="Another one, other windows.")
def examples(out: Path, data: Path, cache: Path | None, **options: Any) -> None:
    """Draw a sheet of training windows, one change each, as the PNG OUT."""
    from train import fit as run
    from train import sheet
    from train.config import Paths

    config = run.read_config(options["config"])
    folder = out.resolve().parent
    paths = Paths(data=data, cache=cache or folder / "cache", out=folder)
    prepared = run.prepare(config, paths)
    sheet.write(prepared.train, prepared.noise, config, out, options["seed"])
    click.echo(out)


@main.command("data")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", type=_new_folder, required=True, help="Folder to write, for `fit --data`.")
@click.option(
    "--kind",
    type=click.Choice(["seisbench", "stead", "catalogue", "tables"]),
    help="What the sources are.  [default: told by their content]",
)
@click.option("--name", multiple=True, help="Of each data set.  [default: the folder's or file's]")
@click.option("--catalog", type=_file, multiple=True, help="QuakeML with picks of the waveforms.")
@click.option("--inventory", type=_file, multiple=True, help="StationXML, for distances.")
@click.option(
    "--quiet-hours",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Station-hours of noise from what a catalogue leaves of its waveforms: NAME_noise.",
)
@click.option("--magnitude", type=float, nargs=2, help="Lowest and highest.")
@click.option("--s-minus-p", "s_minus_p_s", type=float, nargs=2, help="Shortest and longest, s.")
@click.option("--depth-ratio", "depth_to_distance", type=float, nargs=2, help="Depth / distance.")
@click.option("--both-phases/--one-phase", default=None, help="Manual P and S, or one will do.")
@click.option("--unknown-passes/--known-only", default=None, help="If a fact is not told.")
@click.option("--watch-from", type=_time, help="`fit` watches what is later: NAME_dev, UTC.")
@click.option("--test-from", type=_time, help="`fit` does not touch what is later: NAME_test.")
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
    from train.split import split_at

    names = options.pop("name") or (None,) * len(sources)
    if len(names) != len(sources):
        raise click.UsageError("give --name once for each SOURCE")
    beside = {"catalogues": options.pop("catalog"), "inventories": options.pop("inventory")}
    beside["quiet_hours"] = options.pop("quiet_hours")
    split = split_at(options.pop("watch_from"), options.pop("test_from"))
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
            split,
        )
    click.echo(data.markdown(selector))


@main.group()
def study() -> None:
    """Compare whole trainings. A study that is begun again repeats no finished run."""


_study_out = click.option("--out", type=_new_folder, required=True, help="Folder of the study.")
_recipe = click.option("--config", type=_file, help="JSON of the TrainConfig that is studied.")
_jobs = click.option(
    "--jobs", type=click.IntRange(min=1), default=2, help="Runs at once, of one thread each."
)


@study.command()
@_data
@_cache
@_study_out
@_recipe
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Runs of each variant.")
@click.option("--steps", type=click.IntRange(min=1), default=1000, help="Of each run.")
@_jobs
def ablations(data: Path, cache: Path | None, out: Path, **options: Any) -> None:
    """What each part of the recipe is worth: a small training without it, with several seeds."""
    from train import ablations as what
    from train.config import Paths
    from train.fit import read_config

    config = read_config(options.pop("config"))
    paths = Paths(data=data, cache=cache or out / "cache", out=out)
    with _runs_bar() as report:
        text = what.ablations(config, paths, **options, report=report)
    click.echo(text)


@study.command("leave-one-out")
@_data
@_cache
@_study_out
@_recipe
@click.option("--network", default="msnet,phasenet", help="Any of these.")
@click.option("--steps", type=click.IntRange(min=1), default=1500, help="Of each run.")
@click.option("--minutes", type=click.FloatRange(min=0.1), help="Of each run, instead of --steps.")
@click.option("--peer", help="FILE.py:CLASS:WEIGHTS of the published PhaseNet.")
@_jobs
def leave_one_out(data: Path, cache: Path | None, out: Path, network: str, **options: Any) -> None:
    """Train without each region in turn, and score it there; thresholds to ship with."""
    from train import leave_out as what
    from train.config import Paths
    from train.fit import read_config

    networks = network.split(",")
    if not set(networks) <= set(what.NETWORKS):
        raise click.BadParameter(f"any of {','.join(what.NETWORKS)}", param_hint="--network")
    config = read_config(options.pop("config"))
    paths = Paths(data=data, cache=cache or out / "cache", out=out)
    with _runs_bar() as report:
        text = what.leave_one_out(config, paths, networks=networks, **options, report=report)
    click.echo(text)


@contextmanager
def _runs_bar() -> "Iterator[Report]":
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=_console) as bar:
        task = bar.add_task("runs", total=None)

        def report(name: str, done: int, runs: int) -> None:
            bar.update(task, completed=done, total=runs, description=f"done: {name}")
            if not _console.is_terminal:
                click.echo(f"{done}/{runs} {name}")

        yield report


def _machine() -> str:
    import os

    import torch

    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
