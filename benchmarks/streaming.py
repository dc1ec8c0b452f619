"""What one core carries: our streaming picker beside SeisBench and the limit of the core.

    python benchmarks/streaming.py --stations 200 --json FILE

Each contender has a process of its own, with one torch thread, as its users run it. They take turns
round by round: in each round every one of them gets one more second of all stations while the
others wait. The figure is the CPU time of the process, so that neighbours on the machine disturb
little, and what disturbs hits all alike.

    streaming     the engine of the daemon: records -> rings -> steps -> network -> picks; with
                  stations at 100 Hz and, resampled, at 500 Hz
    full window   the same network on the newest 60 s: normalise, forward pass, threshold
    SeisBench     classify() on the newest window of its network, from ready ObsPy traces: making
                  these is not counted. Its weights are random, which changes no cost, and their
                  probabilities stay below the threshold, so that picks cost SeisBench nothing
    limit         the multiply-adds of our network at the speed of this core's matrix product
"""

import json
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import click
import seisbench
import torch
from apart import measure_apart
from contenders import (
    HIGH_RATE,
    Classify,
    Contender,
    FullWindow,
    MatrixProduct,
    Streaming,
    Turns,
    multiply_adds_per_s,
    waves,
)
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from streaming_studies import curves, latencies, offline, save_curves

from model.artifact import load
from streamer import __version__

PEER = "SeisBench PhaseNet classify, stations merged"
AT_HIGH_RATE = f"msnet-stream, streaming, {HIGH_RATE} Hz"
LATENCY_SECONDS = 20
FILE_WIDTH = 110  # of the table where no terminal has another

Row = dict[str, Any]


def compare(data: Path | None, stations: int, rounds: int, progress: Progress) -> dict[str, Any]:
    """The comparison itself: a row for each contender, and the limit of the core."""
    task = progress.add_task("starting", total=None)
    at_100_hz = waves(data)
    builds: list[Callable[[], Contender]] = [
        partial(Streaming, at_100_hz, stations),
        partial(Streaming, waves(data, HIGH_RATE), stations, AT_HIGH_RATE),
        partial(FullWindow, at_100_hz, stations),
        partial(Classify, at_100_hz, stations, "PhaseNet", merged=True),
        partial(Classify, at_100_hz, stations, "PhaseNet", merged=False),
        partial(Classify, at_100_hz, stations, "EQTransformer", merged=True),
        MatrixProduct,
    ]
    progress.update(task, total=len(builds) * (rounds + 1))

    def tell(name: str) -> None:
        progress.update(task, description=name, advance=1)

    *rows, products = [row(*each) for each in measure_apart(builds, rounds, tell)]
    return {"contenders": with_ratios(rows), "limit": limit(products["rounds_ms"])}


def row(name: str, stations: int, turns: Turns) -> Row:
    """Figures of one contender. Provisional picks and their updates count as picks."""
    ms = [1000 * spent_s / stations for spent_s in turns.cpu_s]
    return {
        "name": name,
        "ms_per_station_s": statistics.median(ms),
        "min_ms": min(ms),
        "stations_per_core": 1000 / statistics.median(ms),
        "picks": turns.picks,
        "rounds_ms": ms,
    }


def with_ratios(rows: list[Row]) -> list[Row]:
    """The rows with how many times more stations than SeisBench PhaseNet they carry."""
    peer = next(row for row in rows if row["name"] == PEER)
    return [{**row, "ratio": peer["ms_per_station_s"] / row["ms_per_station_s"]} for row in rows]


def limit(times_ms: Sequence[float]) -> dict[str, float]:
    """What the multiply-adds of our network would allow on this core."""
    gflop_s = MatrixProduct.flop / statistics.median(times_ms) / 1e6
    per_station_s = multiply_adds_per_s(load().model)
    return {
        "sgemm_gflop_s": gflop_s,
        "sgemm_best_gflop_s": MatrixProduct.flop / min(times_ms) / 1e6,
        "mega_multiply_adds_per_station_s": per_station_s / 1e6,
        "stations_per_core": gflop_s * 1e9 / (2 * per_station_s),
    }


def machine() -> dict[str, str]:
    """Where and with what it was measured."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "seisbench": seisbench.__version__,
        "msnet_stream": __version__,
    }


def table(report: dict[str, Any]) -> Table:
    """The comparison for people."""
    shown = Table(title=f"CPU time per station-second, {report['stations']} stations, 1 thread")
    for column in ("", "ms", "min", "stations/core", "ratio", "picks"):
        shown.add_column(column, justify="left" if not column else "right")
    for each in report["contenders"]:
        shown.add_row(
            each["name"],
            f"{each['ms_per_station_s']:.3f}",
            f"{each['min_ms']:.3f}",
            f"{each['stations_per_core']:.0f}",
            f"{each['ratio']:.2f}",
            str(each["picks"]),
        )
    bound = report["limit"]
    name = f"limit of the core: sgemm {bound['sgemm_gflop_s']:.0f} GFLOP/s"
    shown.add_row(name, "", "", f"{bound['stations_per_core']:.0f}")
    return shown


def ratio_line(report: dict[str, Any]) -> str:
    """One line: how many times more stations than SeisBench PhaseNet, merged, each carries."""
    peer = next(row for row in report["contenders"] if row["name"] == PEER)
    others = [
        f"{row['name']} {row['ratio']:.2f}x" for row in report["contenders"] if row is not peer
    ]
    bound = report["limit"]["stations_per_core"] / peer["stations_per_core"]
    return (
        f"{PEER}: 1 ({peer['stations_per_core']:.0f} stations/core); {'; '.join(others)}; "
        f"limit of the core {bound:.0f}x"
    )


@click.command()
@click.option("--stations", type=click.IntRange(1), default=200, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True,
              help="Seconds of data that are measured.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path, exists=True),
              help="File or folder of recordings to copy; default: synthetic ones.")  # fmt: skip
@click.option("--json", "json_file", type=click.File("w", encoding="utf-8", lazy=False),
              help="File for all figures.")  # fmt: skip
@click.option("--curve", type=click.File("wb", lazy=False),
              help="PNG of the cost by number of stations and by window.")  # fmt: skip
@click.option("--latency", type=click.IntRange(1), metavar="STATIONS",
              help="Processing latency of the picker with this many stations.")  # fmt: skip
@click.option("--offline", "hours", type=click.FloatRange(min=0, min_open=True), metavar="HOURS",
              help="Also pick this much of one station from a file.")  # fmt: skip
@click.option("--recording", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="File of one station that --offline repeats; default: as --data.")  # fmt: skip
def main(
    stations: int,
    rounds: int,
    data: Path | None,
    json_file: TextIO | None,
    curve: BinaryIO | None,
    latency: int | None,
    hours: float | None,
    recording: Path | None,
) -> None:
    """Compare our streaming picker with SeisBench; the last line gives the ratios."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    columns = ("{task.description}", BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    shown = [TextColumn(column) if isinstance(column, str) else column for column in columns]
    report: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "stations": stations,
        "rounds": rounds,
    }
    with Progress(*shown, console=console) as progress:
        report |= compare(data, stations, rounds, progress)
        task = progress.add_task("", total=None, visible=bool(curve or latency or hours))

        def tell(name: str) -> None:
            progress.update(task, description=name)

        if curve:
            report["curves"] = curves(waves(data), rounds, tell)
            save_curves(report["curves"], curve)
        if latency:
            report["latency"] = latencies(waves(data), latency, LATENCY_SECONDS, tell)
        if hours:
            report["offline"] = offline(waves(data), hours, tell, recording)
    if json_file:
        json_file.write(json.dumps(report, indent=2) + "\n")
    console.print(table(report))
    for study in ("latency", "offline"):
        if study in report:
            click.echo(f"{study}: {json.dumps(report[study])}")
    click.echo(ratio_line(report))


if __name__ == "__main__":
    main()
