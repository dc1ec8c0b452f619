"""Commands of events: associate, events relocate."""

from pathlib import Path
from typing import Literal

import click

from streamer.cli.options import ExistingPath, config_option, configured, load
from streamer.cli.viewing import events


@click.command()
@config_option
@click.option("--picks", type=ExistingPath,
              help="Do only this file and end: msnet.pick/1 JSON lines, or csv: net, sta, phase, "
                   "time, prob, amp[, pick_id].")  # fmt: skip
@click.option("--stations", type=ExistingPath,
              help="csv (net, sta, lat, lon, elev_km) or StationXML.")  # fmt: skip
@click.option("--velocity-model", type=ExistingPath,
              help="csv or YAML of layers: top_km, vp_km_s, vs_km_s; or a grid (npz).")  # fmt: skip
@click.option("--profile", type=click.Choice(["best", "real"]),
              help="How: by likelihood (default), or REAL as published.")  # fmt: skip
@click.option("--engine", type=click.Choice(["native", "real-program"]),
              help="real-program: REAL on PATH finds the events (profile real).")  # fmt: skip
@click.option("--redis", metavar="URL", help="Where picks come from and events go.")
@click.option("--state-dir", type=ExistingPath, help="Folder for what the worker remembers.")
@click.option("-o", "--output", type=ExistingPath, help="File for the events of --picks.")
def associate(
    config_path: Path | None,
    log_level: str | None,
    picks: Path | None,
    stations: Path | None,
    velocity_model: Path | None,
    profile: Literal["best", "real"] | None,
    engine: Literal["native", "real-program"] | None,
    redis: str | None,
    state_dir: Path | None,
    output: Path | None,
) -> None:
    """Turn picks into located events (msnet.event/1).

    Of the Redis stream msnet:picks, as they come, to the stream msnet:events, until stopped; or of
    a file, to JSON lines. All parameters are in the section `association` of the configuration,
    which SIGHUP has read again, with stations and velocity model, while it works.
    """
    overrides: dict[str, object] = {
        "association.stations": stations,
        "association.velocity_model": velocity_model,
        "association.profile": profile or ("real" if engine == "real-program" else None),
        "association.engine": engine,
        "redis.url": redis,
        "state_dir": state_dir,
    }
    if picks is None:
        import asyncio

        from streamer.association.worker import work

        overrides["log.level"] = log_level
        config = configured(config_path, log_level, overrides)
        asyncio.run(work(config, lambda: load(config_path, overrides)))
        return
    import sys

    from streamer.association.offline import associate_files
    from streamer.output import open_output

    config = configured(config_path, log_level or "warning", overrides)
    found = associate_files(picks, config.association)
    with open_output(output, sys.stdout) as file:
        file.writelines(event.to_json() + "\n" for event in found)


@events.command("relocate")
@config_option
@click.option("--from", "file", type=ExistingPath, required=True,
              help="File of the events: msnet.event/1 JSON lines.")  # fmt: skip
@click.option("--stations", type=ExistingPath,
              help="csv (net, sta, lat, lon, elev_km) or StationXML.")  # fmt: skip
@click.option("--velocity-model", type=ExistingPath,
              help="csv or YAML of layers: top_km, vp_km_s, vs_km_s; or a grid (npz).")  # fmt: skip
@click.option(
    "--reference",
    type=ExistingPath,
    help="Relocated events (JSON lines) that stay; each event by itself joins them.",
)
@click.option("--method", type=click.Choice(["dd", "hypodd"]), default="dd", show_default=True,
              help="Ours, or the program hypoDD on PATH.")  # fmt: skip
@click.option(
    "--keep",
    type=ExistingPath,
    help="Folder for hypoDD's files; without the program they are only written.",
)
@click.option("-o", "--output", type=ExistingPath, help="File to write instead of standard output.")
def relocate(
    config_path: Path | None,
    log_level: str | None,
    file: Path,
    stations: Path | None,
    velocity_model: Path | None,
    reference: Path | None,
    method: Literal["dd", "hypodd"],
    keep: Path | None,
    output: Path | None,
) -> None:
    """Place events among each other by double differences.

    Relocated ones say so (relocated_by) and have relative errors; others stay as they are. Without
    --reference all events move together.
    """
    import sys

    from streamer.association.relocate_files import relocate_files
    from streamer.output import open_output

    overrides: dict[str, object] = {
        "association.stations": stations,
        "association.velocity_model": velocity_model,
    }
    config = configured(config_path, log_level or "warning", overrides)
    moved = relocate_files(file, config.association, reference, method, keep)
    with open_output(output, sys.stdout) as text:
        text.writelines(event.to_json() + "\n" for event in moved)
