"""Commands of events: associate."""

from pathlib import Path
from typing import Literal

import click

from streamer.cli.options import ExistingPath


@click.command()
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
