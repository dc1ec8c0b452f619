"""Association of picks in files, with the code of the worker."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamer.association.blocks import AHEAD, Chunk, most_picks
from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.parameters import AssociationConfig
from streamer.association.pickfiles import PickRow, read_picks
from streamer.association.relocator import relocator
from streamer.association.settle import Catalogue, make_settler
from streamer.association.stations import read_stations
from streamer.association.velocity import read_velocity_model
from streamer.association.velocity_grid import read_velocity_grid
from streamer.errors import ConfigError

log = structlog.get_logger()

# How many unknown stations a warning names.
NAMED_STATIONS = 10
FORGET_BLOCKS = 100


def associate_files(picks: Path, settings: AssociationConfig) -> list[Event]:
    """Events in the picks of one file, located, by time; with a progress bar on a terminal.

    What cannot be used is counted in a warning. Raises NoInputError, DataError, ConfigError.
    """
    network = read_network(settings)
    rows, _ = read_picks(picks)
    unknown = Counter(".".join(row.code) for row in rows if row.code not in network.index)
    if unknown:
        log.warning(
            "picks_of_unknown_stations",
            picks=unknown.total(),
            stations=sorted(unknown)[:NAMED_STATIONS],
        )
    rows = [row for row in rows if row.code in network.index]
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"associating {len(rows)} picks", total=1.0)

        def show(share: float) -> None:
            progress.update(task, completed=share)

        return settled_events(network, rows, settings, show)


def read_network(settings: AssociationConfig) -> Network:
    """Stations and velocity model of the settings. Raises NoInputError, DataError, ConfigError."""
    if settings.stations is None or settings.velocity_model is None:
        raise ConfigError(
            "association needs to know where the stations are and how fast waves travel: give "
            "--stations and --velocity-model, or association.stations and .velocity_model"
        )
    stations = read_stations(settings.stations)
    path = settings.velocity_model
    is_grid = path.suffix.lower() == ".npz"
    if is_grid and settings.profile == "real":
        raise ConfigError("profile real needs a velocity model of flat layers: use profile best")
    model = read_velocity_grid(path) if is_grid else read_velocity_model(path)
    rules = settings.best if settings.profile == "best" else settings.real
    return Network.build(stations, model, rules.deepest_km or None)


def settled_events(
    network: Network,
    rows: Iterable[PickRow],
    settings: AssociationConfig = AssociationConfig(),  # noqa: B008 - frozen
    on_progress: Callable[[float], None] = lambda share: None,
) -> list[Event]:
    """Events in picks, in any order, of known stations, located, by time: what the worker settles.

    `on_progress` hears the share that is done.
    """
    settler = make_settler(network, settings)
    relocated = relocator(network, settings.relocation)
    grid = settler.grid
    by_block: dict[int, list[PickRow]] = defaultdict(list)
    for row in rows:
        by_block[grid.block(row.t_ns)].append(row)
    most = most_picks(grid, settings.most_picks_per_s)
    empty = Chunk.of((), network.index, most)
    chunks = {b: Chunk.of(of_block, network.index, most) for b, of_block in by_block.items()}
    catalogue = Catalogue(
        settler,
        lambda block: chunks.get(block, empty),
        lambda block: chunks.get(block, empty).stations,
    )
    blocks = sorted({b - back for b in chunks for back in range(AHEAD + 1)})
    events = []
    for done, block in enumerate(blocks):
        on_progress(done / len(blocks))
        run = catalogue.settle(block)
        events += [relocated(settled.event) for settled in run.events] if run is not None else []
        if done % FORGET_BLOCKS == 0:
            catalogue.forget(block - grid.behind)
    on_progress(1.0)
    return sorted(events, key=lambda event: (event.t_ns, event.id))
