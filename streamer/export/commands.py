"""What the commands of picks and events do: read, choose, write."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

from streamer.association.stations import Station, read_stations
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.export.event_formats import TextEventFormat, export_events
from streamer.export.pick_formats import FilePickFormat, export_picks, write_real_picks
from streamer.export.sources import between, events_of, picks_of
from streamer.output import PickFormat, open_output
from streamer.picks import Pick
from streamer.timebase import parse_iso

Span = tuple[str | None, str | None]
# Formats that tell more of a pick than an arrival does.
WITH_PICKS = ("quakeml", "seiscomp", "nonlinloc", "real")


def export_pick_files(
    config: Config,
    file: Path | None,
    kind: PickFormat | FilePickFormat | Literal["real"],
    output: Path | None,
    span: Span,
) -> None:
    """Write the picks of a file, or of Redis, in one format. Raises MsnetError."""
    picks = between(picks_of(file, config), *_limits(span))
    if kind == "real":
        write_real_picks(picks, _folder(output, kind))
        return
    with _opened(output) as text:
        export_picks(picks, kind, config.agency, text)


def export_event_files(
    config: Config,
    file: Path | None,
    kind: TextEventFormat | Literal["real", "png"],
    output: Path | None,
    span: Span,
    picks_file: Path | None = None,
    stations: Path | None = None,
) -> None:
    """Write the events of a file, or of Redis, in one format. Raises MsnetError.

    The channels of their picks come from `picks_file`, or from Redis where the events do too.
    """
    if kind == "png":
        plot_events(config, file, stations, _folder(output, kind), span)
        return
    events = between(events_of(file, config), *_limits(span))
    picks: dict[str, Pick] = {}
    if kind in WITH_PICKS and (picks_file is not None or file is None):
        picks = {pick.id: pick for pick in picks_of(picks_file, config)}
    if kind == "real":
        from streamer.export.real_catalogue import write_real_catalogue  # loads numba

        write_real_catalogue(events, _folder(output, kind), picks)
        return
    with _opened(output) as text:
        export_events(events, kind, config.agency, text, picks)


def plot_events(
    config: Config,
    file: Path | None,
    stations: Path | None,
    output: Path,
    span: Span,
    title: str | None = None,
    *,
    errors: bool = False,
) -> None:
    """Draw the map of the events of a file, or of Redis. Raises MsnetError."""
    from streamer.export.event_map import EventMap, save_map

    events = between(events_of(file, config), *_limits(span))
    places: list[Station] = read_stations(stations) if stations else []
    if not events and not places:
        raise ConfigError("there is no event to draw: name another --start, --end or source")
    if title is None:
        when = f", {events[0].time[:10]} to {events[-1].time[:10]}" if events else ""
        title = f"{len(events)} events{when}"
    save_map(EventMap(events=events, stations=places, title=title, errors=errors), output)


def _limits(span: Span) -> tuple[int | None, int | None]:
    """POSIX ns of both ends. Raises ConfigError."""
    try:
        start, end = (None if text is None else parse_iso(text) for text in span)
    except ValueError as error:
        raise ConfigError(f"--start and --end are ISO 8601 times (UTC): {error}") from error
    return start, end


def _folder(output: Path | None, kind: str) -> Path:
    if output is None:
        raise ConfigError(f"--format {kind} needs a place to write to: name it with -o")
    return output


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    import sys

    with open_output(output, sys.stdout) as text:
        yield text
