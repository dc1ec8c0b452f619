"""Where picks and events are read from: a file of JSON lines, or the Redis streams."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from streamer.association.message import Event, latest_events
from streamer.association.tables import Rejections, read_text
from streamer.bus.address import server_address
from streamer.bus.reading import Entry, read_entries
from streamer.bus.redis_streams import read_picks
from streamer.config import Config
from streamer.errors import DataError
from streamer.picks import Pick, latest

log = structlog.get_logger()


class Timed(Protocol):
    """A pick or an event."""

    @property
    def t_ns(self) -> int:
        """POSIX ns of onset or origin."""


Thing = TypeVar("Thing", bound=Timed)


def picks_of(file: Path | None, config: Config) -> list[Pick]:
    """The newest state of each pick that stands, by time: of a file, else of the Redis stream.

    Raises NoInputError, DataError (no line is a message), UnavailableError, AccessDeniedError.
    """
    if file is not None:
        return latest(_messages(file, _pick))
    return latest(read_picks(server_address(config), config.redis.prefix))


def events_of(file: Path | None, config: Config) -> list[Event]:
    """The newest version of each event that stands, by time. Raises as `picks_of`."""
    if file is not None:
        return latest_events(_messages(file, Event.from_json))
    entries = read_entries(server_address(config), f"{config.redis.prefix}:events")
    return latest_events(as_events(entries))


def as_events(entries: Iterable[Entry]) -> Iterator[Event]:
    """Entries of the stream of events; those that are none are left out with a warning."""
    for entry_id, message in entries:
        try:
            yield Event.from_fields(message)
        except DataError as error:
            log.warning("event_unreadable", entry=entry_id, error=str(error))


def between(things: Iterable[Thing], start_ns: int | None, end_ns: int | None) -> list[Thing]:
    """Those from `start_ns` on and before `end_ns`, by their own times; None = no limit."""
    return [
        each
        for each in things
        if (start_ns is None or each.t_ns >= start_ns) and (end_ns is None or each.t_ns < end_ns)
    ]


def _messages(path: Path, read: Callable[[str], Thing]) -> list[Thing]:
    """What the lines of a file say; lines that are no message are counted by reason."""
    rejections = Rejections(path)
    found = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        try:
            found.append(read(text))
        except DataError as error:
            rejections.add(str(error), line)
    rejections.report()
    if not found and rejections.counts:
        raise DataError(f"{path}: no line is a message ({rejections.summary()})")
    return found


def _pick(text: str) -> Pick:
    try:
        message = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise DataError("not a message")
    return Pick.from_fields({name: str(value) for name, value in message.items()})
