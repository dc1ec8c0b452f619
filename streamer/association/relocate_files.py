"""Relocation of the events of a file: ours, or by hypoDD."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import structlog

from streamer.association.hypodd import run_hypodd, run_ph2dt, with_relocations, write_files
from streamer.association.message import Event
from streamer.association.network import Network
from streamer.association.offline import read_network
from streamer.association.parameters import AssociationConfig
from streamer.association.relocate import DoubleDifference
from streamer.association.relocator import read_events
from streamer.errors import CannotCreateError, ConfigError

log = structlog.get_logger()


def relocate_files(
    file: Path,
    settings: AssociationConfig,
    reference: Path | None = None,
    method: Literal["dd", "hypodd"] = "dd",
    keep: Path | None = None,
) -> list[Event]:
    """The events of a file by time, relocated where that is possible, else as they were.

    Raises NoInputError, DataError, ConfigError, and MsnetError if a program fails.
    """
    if method == "hypodd" and reference is not None:
        raise ConfigError("hypoDD moves all events together: leave out --reference, or use dd")
    network = read_network(settings)
    events = read_events(file)
    if method == "hypodd":
        return _by_hypodd(events, network, settings, keep)
    engine = DoubleDifference(network, settings.relocation)
    if reference is None:
        return engine.relocate_all(events)
    frozen = engine.reference(read_events(reference))
    return [engine.relocate(event, frozen) or event for event in events]


def _by_hypodd(
    events: Sequence[Event], network: Network, settings: AssociationConfig, keep: Path | None
) -> list[Event]:
    with tempfile.TemporaryDirectory(prefix="msnet-hypodd-") as scratch:
        folder = Path(scratch) if keep is None else keep
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotCreateError(f"cannot make the folder {folder}: {error.strerror}") from error
        deeper_km = write_files(folder, events, network.stations, network.model, settings.hypodd)
        if keep is not None and shutil.which("hypoDD") is None:
            log.warning("hypodd_missing", folder=folder)
            return list(events)
        if shutil.which("ph2dt") is not None:
            run_ph2dt(folder)
        moved = with_relocations(events, run_hypodd(folder, deeper_km))
    by_id = {event.id: event for event in moved}
    return [by_id.get(event.id, event) for event in events]
