"""`msnet-stream bench`: more and more stations until they are too many, and what it cost."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streamer import __version__
from streamer.bench.level import Level, Plan, run_level
from streamer.bench.network import Loop, read_loops
from streamer.bench.processes import refuse_other_systems
from streamer.demo.recordings import load_recordings
from streamer.errors import CannotCreateError
from streamer.seedlink.handshake import MAX_STATIONS
from streamer.waveforms.archive import read_archive

FIRST_STATIONS = 50
FILE_WIDTH = 120  # of the table where no terminal has another

COLUMNS = (
    "stations", "cores", "us/sta-s", "sta/core", "p50 ms", "p95", "p99", "pick p95", "RSS MB", "",
)  # fmt: skip


def run_bench(
    plan: Plan, stations: int | None = None, json_path: Path | None = None,
    plot_path: Path | None = None,
) -> None:  # fmt: skip
    """Run one level, or levels of 50, 100, 200 ... stations up to the first that is too much.

    Prints what was found; writes it to `json_path` and a plot to `plot_path`. Raises MsnetError if
    a part of it fails, CannotCreateError for files that cannot be written.
    """
    refuse_other_systems()
    for path in (json_path, plot_path):
        _try_to_write(path)
    levels: list[Level] = []
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    task = progress.add_task("", total=plan.warm_s + plan.seconds)
    with Live(Group(progress), console=console, refresh_per_second=4) as live:
        for count in [stations] if stations else growing():

            def tell(what: str, done: int, count: int = count) -> None:
                progress.update(task, completed=done, description=f"{count} stations: {what}")

            levels.append(run_level(plan, count, tell))
            live.update(Group(table(levels, plan.limit_ms), progress))
            if levels[-1].problem(plan.limit_ms):
                break
        live.update(table(levels, plan.limit_ms))
    if json_path is not None:
        text = json.dumps(report(plan, levels), indent=2, default=str)
        json_path.write_text(text + "\n", encoding="utf-8")
    if plot_path is not None:
        save_plot(levels, plan.limit_ms, plot_path)
    print(summary(levels, plan.limit_ms))


def recordings(paths: Sequence[Path]) -> list[Loop]:
    """Loops of the recordings in files and folders, without any those of the demo.

    Raises NoInputError and DataError for what cannot be used.
    """
    records = (record for _, record in read_archive(paths)) if paths else load_recordings()
    return read_loops(records)


def growing(first: int = FIRST_STATIONS) -> Iterator[int]:
    """Twice as many each time, up to what one SeedLink connection can ask for."""
    while first < MAX_STATIONS:
        yield first
        first *= 2
    yield MAX_STATIONS


def _try_to_write(path: Path | None) -> None:
    """Find out before the minutes of measuring. Raises CannotCreateError."""
    if path is None:
        return
    try:
        path.touch()
    except OSError as error:
        raise CannotCreateError(f"cannot write {path}: {error.strerror}") from error


def table(levels: list[Level], limit_ms: float) -> Table:
    """All levels for people."""
    shown = Table(title=f"msnet-stream bench, p95 of the processing latency up to {limit_ms:g} ms")
    for column in COLUMNS:
        shown.add_column(column, justify="right" if column else "left", no_wrap=bool(column))
    for level in levels:
        milliseconds = [level.processing_ms.get(name) for name in ("p50", "p95", "p99")]
        milliseconds.append(level.picks_ms.get("p95"))
        shown.add_row(
            str(level.stations),
            f"{level.cores:.2f}",
            f"{1000 * level.cpu_ms:.0f}",
            f"{level.stations_per_core:.0f}",
            *("-" if ms is None else f"{ms:.0f}" for ms in milliseconds),
            f"{level.peak_rss_mb:.0f}",
            level.problem(limit_ms) or "[green]carried[/]",
        )
    return shown


def summary(levels: list[Level], limit_ms: float) -> str:
    """Where the CPU of the largest level that was carried goes, and how many stations that is."""
    carried = [level for level in levels if not level.problem(limit_ms)]
    best = (carried or levels)[-1]
    stages = ", ".join(f"{name} {1000 * ms:.0f}" for name, ms in best.stages_ms.items())
    line = f"CPU us per station-second: {stages}; {best.stations_per_core:.0f} stations per core"
    if not carried:
        return f"{line}\n{best.stations} stations are too many: {best.problem(limit_ms)}"
    p95 = best.processing_ms["p95"]
    return (
        f"{line}\n{best.stations} stations carried: processing latency p95 {p95:.0f} ms, nothing "
        f"lost, {best.peak_rss_mb:.0f} MB"
    )


def report(plan: Plan, levels: list[Level]) -> dict[str, Any]:
    """Everything that was measured, and where."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "plan": {key: value for key, value in vars(plan).items() if key != "loops"},
        "levels": [
            {
                **asdict(level),
                "stations_per_core": level.stations_per_core,
                "problem": level.problem(plan.limit_ms),
            }
            for level in levels
        ],
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def save_plot(levels: list[Level], limit_ms: float, path: Path) -> None:
    """A PNG of latency and of cores used by number of stations. Raises CannotCreateError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    known = [level for level in levels if level.processing_ms]
    stations = [level.stations for level in known]
    for name, style in (("p50", "o-"), ("p95", "s-"), ("p99", "^:")):
        latency_ms = [level.processing_ms[name] for level in known]
        left.plot(stations, latency_ms, style, label=name)
    left.axhline(limit_ms, color="0.6", linewidth=0.8)
    left.set(xlabel="stations", ylabel="processing latency (ms)", xscale="log", yscale="log")
    left.legend()
    cores = [level.cores for level in levels]
    right.plot([level.stations for level in levels], cores, "o-", color="#0072b2")
    right.set(xlabel="stations", ylabel="cores used by the daemon", xlim=(0, None), ylim=(0, None))
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise CannotCreateError(f"cannot write {path}: {error.strerror}") from error
