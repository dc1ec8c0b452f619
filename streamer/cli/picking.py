"""Commands of waveforms and picks: run, pick, stations, replay, broker, check-config."""

from pathlib import Path
from typing import Any, Literal

import click

from streamer.cli.options import ExistingPath, config_option, configured, load, model_option


@click.command()
@config_option
@click.option(
    "--stations",
    multiple=True,
    metavar="SPEC",
    help="What to pick: NET.STA.LOC.CHA with * ? [..] and ! to exclude, NET_STA:SEL, "
    "or a file. Repeatable, or separated by commas.",
)
@click.option("--server", multiple=True, metavar="HOST:PORT", help="SeedLink server(s).")
@click.option("--redis", metavar="URL", help="Where picks go; embedded: by default.")
@click.option("--state-dir", type=ExistingPath, help="Folder for the broker and checkpoints.")
@model_option
@click.option("--threshold-p", type=float, help="Least probability of a P pick.")
@click.option("--threshold-s", type=float, help="Least probability of an S pick.")
def run(config_path: Path | None, log_level: str | None, **options: Any) -> None:
    """Pick a SeedLink feed until stopped; picks go to the Redis stream msnet:picks.

    SIGHUP reads the configuration again: stations and logging change at once.
    """
    import asyncio

    from streamer.daemon import serve

    overrides = {
        "stations": options["stations"],
        "seedlink.servers": options["server"],
        "redis.url": options["redis"],
        "state_dir": options["state_dir"],
        "picking.model": options["model"],
        "picking.threshold_p": options["threshold_p"],
        "picking.threshold_s": options["threshold_s"],
        "log.level": log_level,
    }
    config = configured(config_path, log_level, overrides)
    asyncio.run(serve(config, lambda: load(config_path, overrides)))


@click.command()
@config_option
@click.argument("paths", nargs=-1, required=True, type=ExistingPath)
@click.option("--stations", multiple=True, metavar="SPEC", help="Pick only these channels.")
@click.option("--format", "pick_format", type=click.Choice(["jsonl", "csv", "table"]),
              help="Default: table on a terminal, jsonl elsewhere.")  # fmt: skip
@click.option("-o", "--output", type=ExistingPath, help="File to write instead of standard output.")
@click.option("--weights", type=ExistingPath, help="Network to use instead of the bundled one.")
@model_option
@click.option("--threshold-p", type=float, help="Least probability of a P pick.")
@click.option("--threshold-s", type=float, help="Least probability of an S pick.")
def pick(
    config_path: Path | None,
    log_level: str | None,
    paths: tuple[Path, ...],
    pick_format: Literal["jsonl", "csv", "table"] | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Pick files, folders or SDS archives of waveforms with the code of the daemon."""
    import sys

    from streamer.offline import pick_files
    from streamer.output import open_output, write_picks

    config = configured(
        config_path,
        log_level or "warning",
        {
            "stations": options["stations"],
            "picking.weights": options["weights"],
            "picking.model": options["model"],
            "picking.threshold_p": options["threshold_p"],
            "picking.threshold_s": options["threshold_s"],
        },
    )
    to_terminal = output is None and sys.stdout.isatty()
    with open_output(output, sys.stdout) as file:
        picks = pick_files(paths, config)
        write_picks(picks, pick_format or ("table" if to_terminal else "jsonl"), file)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=ExistingPath)
@click.option("--port", type=click.IntRange(0, 65535), default=18000, show_default=True,
              help="Port to listen on; 0 takes a free one.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--speed", default="1", show_default=True, help="Times real time, or max.")
@click.option("--from-start", "mode", flag_value="from-start", default="from-start",
              help="Begin with the first client, record times as they are (default).")  # fmt: skip
@click.option("--shift-to-now", "mode", flag_value="shift-to-now",
              help="Begin at once, record times shifted towards now, never beyond.")  # fmt: skip
@click.option("--record-seconds", type=click.FloatRange(min=0, min_open=True),
              help="Re-pack to records of this length.")  # fmt: skip
def replay(
    paths: tuple[Path, ...],
    port: int,
    host: str,
    speed: str,
    mode: Literal["from-start", "shift-to-now"],
    record_seconds: float | None,
) -> None:
    """Serve waveform files as a live SeedLink server (versions 3 and 4).

    The address is printed as HOST:PORT once it listens.
    """
    import asyncio

    from streamer.log import configure_logging
    from streamer.replay import parse_speed, serve_archive

    configure_logging()
    asyncio.run(serve_archive(paths, host, port, parse_speed(speed), mode, record_seconds))


@click.command()
@config_option
@click.option("--state-dir", type=ExistingPath, help="Folder that holds the broker's data.")
@click.option("--port", type=click.IntRange(1, 65535), help="Loopback TCP port for consumers.")
def broker(config_path: Path | None, log_level: str | None, **options: Any) -> None:
    """Run the embedded Redis broker in the foreground."""
    from streamer.bus.address import broker_config
    from streamer.bus.broker import run_broker

    overrides = {"state_dir": options["state_dir"], "redis.embedded.port": options["port"]}
    run_broker(broker_config(configured(config_path, log_level, overrides)))


@click.command()
@config_option
@click.option("--stations", multiple=True, metavar="SPEC", help="What to look for; default: all.")
@click.option("--server", multiple=True, metavar="HOST:PORT", help="SeedLink server(s).")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table",
              show_default=True, help="json and csv have a line per channel.")  # fmt: skip
def stations(
    config_path: Path | None,
    log_level: str | None,
    form: Literal["table", "json", "csv"],
    **options: Any,
) -> None:
    """Show what would be asked of which SeedLink server."""
    import asyncio
    import sys

    from streamer.listing import wanted_channels, write_listing
    from streamer.seedlink.client import feed_config

    overrides = {"stations": options["stations"], "seedlink.servers": options["server"]}
    config = configured(config_path, log_level or "warning", overrides)
    config = config.model_copy(update={"stations": config.stations or ("*",)})
    channels, problems = asyncio.run(wanted_channels(feed_config(config)))
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    write_listing(channels, form, sys.stdout)


@click.command("check-config")
@click.argument("path", type=ExistingPath)
def check_config(path: Path) -> None:
    """Check a YAML configuration; all errors are reported at once."""
    import os

    from streamer.check import check

    check(path, os.environ)
    click.echo(f"{path}: ok")
