"""The command `msnet-stream`: parse, call, map errors to exit codes.

No logic here; what is slow to import is imported inside the commands.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from streamer import __version__
from streamer.errors import MsnetError

if TYPE_CHECKING:
    from streamer.config import Config

ExistingPath = click.Path(path_type=Path)


class Commands(click.Group):
    """Turns the errors of this project into one line and their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a MsnetError ends it with its message and exit code."""
        try:
            return super().invoke(ctx)
        except MsnetError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:  # the reader of our output went away
            ctx.exit(0)


@click.group(cls=Commands, context_settings={"auto_envvar_prefix": None})
@click.version_option(__version__)
def main() -> None:
    """Pick P and S arrivals of seismic networks in real time.

    SeedLink in, picks on a Redis stream out. Try `msnet-stream demo` first.
    """


def config_option(command: Any) -> Any:
    """The options every command with a configuration has."""
    command = click.option(
        "-c",
        "--config",
        "config_path",
        type=ExistingPath,
        envvar="MSNET_STREAM_CONFIG",
        help="YAML configuration; see deploy/msnet-stream.example.yaml.",
    )(command)
    return click.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
        help="Least level logged to standard error.",
    )(command)  # fmt: skip


def model_option(command: Any) -> Any:
    """`--model`, where a network picks."""
    return click.option(
        "--model", metavar="seisbench:CLASS/WEIGHTS",
        help="Pick with a network of SeisBench, as seisbench:PhaseNet/original.",
    )(command)  # fmt: skip


@main.command()
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
    """Pick a SeedLink feed until stopped; picks go to the Redis stream msnet:picks."""
    import asyncio

    from streamer.daemon import serve

    config = _config(
        config_path,
        log_level,
        {
            "stations": options["stations"],
            "seedlink.servers": options["server"],
            "redis.url": options["redis"],
            "state_dir": options["state_dir"],
            "picking.model": options["model"],
            "picking.threshold_p": options["threshold_p"],
            "picking.threshold_s": options["threshold_s"],
        },
    )
    asyncio.run(serve(config))


@main.command()
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

    config = _config(
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


@main.command()
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


@main.command()
@config_option
@click.option("--state-dir", type=ExistingPath, help="Folder that holds the broker's data.")
@click.option("--port", type=click.IntRange(1, 65535), help="Loopback TCP port for consumers.")
def broker(config_path: Path | None, log_level: str | None, **options: Any) -> None:
    """Run the embedded Redis broker in the foreground."""
    from streamer.bus.broker import run_broker
    from streamer.daemon import broker_config

    overrides = {"state_dir": options["state_dir"], "redis.embedded.port": options["port"]}
    run_broker(broker_config(_config(config_path, log_level, overrides)))


@main.command()
@click.option("--output", type=ExistingPath, help="Folder for picks.jsonl and record-section.png.")
@click.option("--quick", is_flag=True, help="Replay faster: a check rather than a show.")
@click.option("--keep-running", is_flag=True, help="Leave broker, server and daemon running.")
def demo(output: Path | None, quick: bool, keep_running: bool) -> None:
    """See P and S picks of real microearthquakes come out of a Redis stream.

    Starts a broker, a SeedLink server with recordings that come with obspy, and the daemon.
    """
    from streamer.demo import run_demo

    run_demo(output, quick=quick, keep_running=keep_running)


@main.command()
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


@main.command()
@click.option("--picks", type=ExistingPath, required=True,
              help="msnet.pick/1 JSON lines, or csv: net, sta, phase, time, prob, amp[, "
                   "pick_id].")  # fmt: skip
@click.option("--stations", type=ExistingPath, required=True,
              help="csv (net, sta, lat, lon, elev_km) or StationXML.")  # fmt: skip
@click.option("--velocity-model", type=ExistingPath, required=True,
              help="csv or YAML of layers: top_km, vp_km_s, vs_km_s.")  # fmt: skip
@click.option("--profile", type=click.Choice(["best", "real"]), default="best", show_default=True,
              help="How: by likelihood, or REAL as published.")  # fmt: skip
@click.option("-o", "--output", type=ExistingPath, help="File to write instead of standard output.")
def associate(
    picks: Path,
    stations: Path,
    velocity_model: Path,
    profile: Literal["best", "real"],
    output: Path | None,
) -> None:
    """Turn the picks of a network into located events (msnet.event/1 JSON lines)."""
    import sys

    from streamer.association.offline import associate_files
    from streamer.log import configure_logging
    from streamer.output import open_output

    configure_logging("warning")
    events = associate_files(picks, stations, velocity_model, profile)
    with open_output(output, sys.stdout) as file:
        file.writelines(event.to_json() + "\n" for event in events)


@main.command("check-config")
@click.argument("path", type=ExistingPath)
def check_config(path: Path) -> None:
    """Check a YAML configuration; all errors are reported at once."""
    _load(path, {})
    click.echo(f"{path}: ok")


def _load(path: Path | None, overrides: dict[str, object]) -> "Config":
    import os

    from streamer.config import load_config

    return load_config(path, overrides, os.environ)


def _config(path: Path | None, log_level: str | None, overrides: dict[str, object]) -> "Config":
    from streamer.log import configure_logging

    config = _load(path, {**overrides, "log.level": log_level})
    configure_logging(config.log.level, config.log.format)
    return config


if __name__ == "__main__":
    main()
