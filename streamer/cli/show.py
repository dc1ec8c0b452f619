"""Commands that show what the program does and how much of it a machine carries."""

from pathlib import Path
from typing import Any

import click

from streamer.cli.options import ExistingPath


@click.command()
@click.option("--output", type=ExistingPath, help="Folder for picks.jsonl and record-section.png.")
@click.option("--quick", is_flag=True, help="Replay faster: a check rather than a show.")
@click.option("--keep-running", is_flag=True, help="Leave broker, server and daemon running.")
@click.option("--association", is_flag=True, help="Events in the picks of a generated network.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True,
              help="Which network to generate.")  # fmt: skip
def demo(
    output: Path | None, quick: bool, keep_running: bool, association: bool, seed: int
) -> None:
    """See P and S picks of real microearthquakes come out of a Redis stream.

    Starts a broker, a SeedLink server with recordings that come with obspy, and the daemon. With
    --association: a broker, the worker, and picks of earthquakes whose places are known.
    """
    if association:
        from streamer.association.synthetic import Scenario
        from streamer.demo.association import run_association_demo

        run_association_demo(output, quick=quick, scenario=Scenario(seed=seed))
        return
    from streamer.demo.picking import run_demo

    run_demo(output, quick=quick, keep_running=keep_running)


@click.command()
@click.option("--stations", type=click.IntRange(1, 4096), help="Only this many, not ever more.")
@click.option("--seconds", type=click.IntRange(6), default=20, show_default=True,
              help="Length of each level, after some to warm up.")  # fmt: skip
@click.option("--data", "paths", multiple=True, type=ExistingPath,
              help="Recordings to copy; default: those of the demo. Repeatable.")  # fmt: skip
@click.option("--record-seconds", type=click.FloatRange(min=0, min_open=True), default=1.0,
              show_default=True, help="Length of the records.")  # fmt: skip
@click.option("--burst", is_flag=True, help="All packets of a second within 20 ms of its end.")
@click.option("--limit-ms", type=click.FloatRange(min=0, min_open=True), default=200.0,
              show_default=True, help="Largest p95 of the processing latency.")  # fmt: skip
@click.option("--one-core", is_flag=True, help="The daemon on one core, the load on the others.")
@click.option("--redis", metavar="URL", help="Redis to publish to (keys msnet-bench:*).")
@click.option("-c", "--config", type=ExistingPath, help="Configuration for the daemon.")
@click.option("--json", "json_path", type=ExistingPath, help="File for all that was measured.")
@click.option("--plot", "plot_path", type=ExistingPath, help="PNG of latency against stations.")
def bench(
    stations: int | None,
    paths: tuple[Path, ...],
    json_path: Path | None,
    plot_path: Path | None,
    **options: Any,
) -> None:
    """Find out how many stations this machine carries.

    Copies of real recordings go through SeedLink, the daemon and Redis, each a process: of 50,
    100, 200 ... stations, up to the first level that is too much.
    """
    from streamer.bench.level import Plan
    from streamer.bench.run import recordings, run_bench
    from streamer.log import configure_logging

    configure_logging("warning")
    plan = Plan(
        loops=recordings(paths),
        seconds=options["seconds"],
        record_s=options["record_seconds"],
        burst=options["burst"],
        limit_ms=options["limit_ms"],
        one_core=options["one_core"],
        config=options["config"],
        redis_url=options["redis"],
    )
    run_bench(plan, stations, json_path, plot_path)
