"""Association of picks in files, with the code of the worker."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamer.association.best import Best
from streamer.association.events import located_event
from streamer.association.geodesy import KM_PER_DEG, Floats
from streamer.association.locate import locate
from streamer.association.message import Event, Profile
from streamer.association.network import Network
from streamer.association.parameters import BestParameters, RealParameters
from streamer.association.pick_errors import initial_errors, learnt_errors
from streamer.association.pickfiles import PickTable, pick_table, read_picks
from streamer.association.real import Ints, Real, RealEvent
from streamer.association.stations import read_stations
from streamer.association.velocity import read_velocity_model

log = structlog.get_logger()

# How many unknown stations a warning names.
NAMED_STATIONS = 10


def associate_files(
    picks: Path,
    stations: Path,
    velocity_model: Path,
    profile: Profile = "best",
    best: BestParameters | None = None,
    real: RealParameters | None = None,
) -> list[Event]:
    """Events in the picks of one file, located, by time; with a progress bar on a terminal.

    `best` and `real` are the parameters of the profiles. What cannot be used is counted in a
    warning. Raises NoInputError, DataError, ConfigError.
    """
    network_stations = read_stations(stations)
    model = read_velocity_model(velocity_model)
    rows, _ = read_picks(picks)
    table = pick_table(rows, network_stations)
    if table.unknown_stations:
        log.warning(
            "picks_of_unknown_stations",
            picks=sum(table.unknown_stations.values()),
            stations=sorted(table.unknown_stations)[:NAMED_STATIONS],
        )
    best, real = best or BestParameters(), real or RealParameters()
    deepest_km = best.deepest_km if profile == "best" else real.deepest_km
    network = Network.build(network_stations, model, deepest_km or None)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"associating {len(table)} picks", total=1.0)

        def show(share: float) -> None:
            progress.update(task, completed=share)

        if profile == "best":
            events = best_events(network, table, best, show)
        else:
            events = real_events(network, table, real, show)
    return events


def best_events(
    network: Network,
    table: PickTable,
    rules: BestParameters,
    on_progress: Callable[[float], None] = lambda share: None,
) -> list[Event]:
    """Events of the profile `best`."""
    associator = Best(network, rules)
    found = associator.associate(table, on_progress=on_progress)
    return [
        located_event(
            network,
            associator.errors,
            table,
            event.picks,
            event.origin,
            "best",
            event.gain,
        )
        for event in found
    ]


def real_events(
    network: Network,
    table: PickTable,
    rules: RealParameters,
    on_progress: Callable[[float], None] = lambda share: None,
) -> list[Event]:
    """Events of the profile `real`, each located from its node on."""
    travel = network.travel

    def times(station: Ints, distance_deg: Floats, depth_km: Floats) -> Floats:
        return travel.times(station, distance_deg * KM_PER_DEG, depth_km)

    last_s = float(table.time_s[-1]) if len(table) else 1.0

    def show(time_s: float) -> None:
        on_progress(time_s / max(last_s, 1.0))

    found = Real(network.stations, times, rules).associate(table, show)
    rough = initial_errors(network, BestParameters())
    residual_s = np.full((len(found), 2, len(network.stations)), np.nan)
    for residual, event in zip(residual_s, found, strict=True):
        location = locate(network, rough, table, event.picks, _origin(event))
        residual[table.phase[event.picks], table.station[event.picks]] = location.residual_s
    errors = learnt_errors(rough, residual_s, BestParameters())
    on_progress(1.0)
    return [
        located_event(network, errors, table, event.picks, _origin(event), "real")
        for event in found
    ]


def _origin(event: RealEvent) -> tuple[float, float, float, float]:
    node = event.node
    return node.time_s, node.lat, node.lon, node.depth_km
