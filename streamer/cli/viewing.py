"""Commands that read picks and events and change nothing: picks and events, tail and export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from streamer.cli.options import ExistingPath, viewed, viewer_options

FROM_HELP = "File of JSON lines to read instead of Redis."
SINCE_HELP = "now, earliest, a span (90s, 10m, 2h, 7d) or an ISO 8601 time: of publication."


PICK_LINES = ("table", "jsonl", "csv", "anss")
PICK_FILES = ("quakeml", "seiscomp", "nonlinloc", "gamma", "pyocto", "real")
EVENT_LINES = ("table", "jsonl", "csv", "geojson")
EVENT_FILES = ("quakeml", "seiscomp", "nonlinloc", "hypodd", "real", "png")


class LineFormat(click.Choice[str]):
    """A format with a line for each message; of what only `export` writes it says why."""

    def __init__(self, lines: tuple[str, ...], files: tuple[str, ...]) -> None:
        super().__init__(lines)
        self._files = files

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The name of the format."""
        if value in self._files:
            self.fail(
                f"{value} is a file with a beginning and an end, of what stands in the end; lines "
                f"for messages as they come are {', '.join(self.choices)}. Such a file is written "
                f"by `export --format {value}`.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


def tail_options(lines: tuple[str, ...], files: tuple[str, ...]) -> Callable[[Any], Any]:
    """The options of `tail`."""

    def decorate(command: Any) -> Any:
        command = click.option("--since", default="now", show_default=True, metavar="TIME",
                               help=SINCE_HELP)(command)  # fmt: skip
        command = click.option("--format", "kind", type=LineFormat(lines, files), default="table",
                               show_default=True,
                               help="How they are printed.")(command)  # fmt: skip
        return viewer_options(command)

    return decorate


def export_options(*formats: str) -> Callable[[Any], Any]:
    """The options of `export`."""

    def decorate(command: Any) -> Any:
        for option in reversed((
            click.option("--from", "file", type=ExistingPath, help=FROM_HELP),
            click.option("--format", "kind", type=click.Choice(formats), required=True,
                         help="What is written."),
            click.option("-o", "--output", type=ExistingPath,
                         help="File (real: folder) to write; standard output by default."),
            click.option("--start", metavar="TIME", help="Leave out what is before (UTC)."),
            click.option("--end", metavar="TIME", help="Leave out what is not before (UTC)."),
            click.option("--agency", metavar="CODE", help="Agency in ids of QuakeML."),
        )):  # fmt: skip
            command = option(command)
        return viewer_options(command)

    return decorate


@click.group()
def picks() -> None:
    """Picks as they are published, or as other programs want them."""


@picks.command("tail")
@tail_options((*PICK_LINES, "latency"), PICK_FILES)
def picks_tail(since: str, kind: Any, **options: Any) -> None:
    """Print picks as they are published, until Ctrl-C; from any host that reaches Redis.

    Every message is shown: updates and retractions too. latency tells where the time between the
    onset and the message went.
    """
    import sys

    from streamer.export.following import follow_picks

    follow_picks(viewed(**options), since, kind, sys.stdout)


@picks.command("export")
@export_options(*PICK_LINES, *PICK_FILES)
def picks_export(
    file: Path | None,
    kind: Any,
    output: Path | None,
    start: str | None,
    end: str | None,
    agency: str | None,
    **options: Any,
) -> None:
    """Write the picks that stand, each in its newest state, by time.

    anss is USGS detection JSON, seiscomp SeisComP XML, nonlinloc a phase file; gamma, pyocto and
    real are the inputs of those associators (real: a folder of files for each day).
    """
    from streamer.export.commands import export_pick_files

    config = viewed(**options, agency=agency)
    export_pick_files(config, file, kind, output, (start, end))


@click.group()
def events() -> None:
    """Events as they are published, or as other programs want them; their map."""


@events.command("tail")
@tail_options(EVENT_LINES, EVENT_FILES)
def events_tail(since: str, kind: Any, **options: Any) -> None:
    """Print events as they are published, until Ctrl-C; from any host that reaches Redis.

    Every version is shown: updates and retractions too.
    """
    import sys

    from streamer.export.following import follow_events

    follow_events(viewed(**options), since, kind, sys.stdout)


@events.command("export")
@export_options(*EVENT_LINES, *EVENT_FILES)
@click.option("--picks", "picks_file", type=ExistingPath,
              help="File with the picks, for their channels in QuakeML.")  # fmt: skip
@click.option("--stations", type=ExistingPath, help="csv or StationXML, for the map (png).")
def events_export(
    file: Path | None,
    kind: Any,
    output: Path | None,
    start: str | None,
    end: str | None,
    agency: str | None,
    picks_file: Path | None,
    stations: Path | None,
    **options: Any,
) -> None:
    """Write the events that stand, each in its newest version, by time.

    seiscomp is SeisComP XML, nonlinloc a phase file, hypodd the phase file of hypoDD; real writes
    the four files of REAL into a folder, png a map with two depth sections.
    """
    from streamer.export.commands import export_event_files

    config = viewed(**options, agency=agency)
    export_event_files(config, file, kind, output, (start, end), picks_file, stations)


@events.command("plot")
@viewer_options
@click.option("--from", "file", type=ExistingPath, help=FROM_HELP)
@click.option("--stations", type=ExistingPath, help="csv or StationXML.")
@click.option("-o", "--output", type=ExistingPath, default="events.png", show_default=True,
              help="Picture to write.")  # fmt: skip
@click.option("--start", metavar="TIME", help="Leave out what is before (UTC).")
@click.option("--end", metavar="TIME", help="Leave out what is not before (UTC).")
@click.option("--title", help="Text above the map.")
@click.option("--errors", is_flag=True, help="Draw one standard error.")
def events_plot(
    file: Path | None,
    stations: Path | None,
    output: Path,
    start: str | None,
    end: str | None,
    title: str | None,
    errors: bool,
    **options: Any,
) -> None:
    """Draw a map of the events with two depth sections (PNG)."""
    from streamer.export.commands import plot_events

    config = viewed(**options)
    plot_events(config, file, stations, output, (start, end), title, errors=errors)


def limit_options(command: Any) -> Any:
    """From when on a station is late or silent."""
    for option in (
        click.option("--silent-s", type=click.FloatRange(min=0), default=300.0, show_default=True,
                     help="Data latency of a silent station (critical if of half of them)."),
        click.option("--late-s", type=click.FloatRange(min=0), default=60.0, show_default=True,
                     help="Data latency of a late station (warning)."),
    ):  # fmt: skip
        command = option(command)
    return viewer_options(command)


@click.command()
@click.option("--format", "kind", type=click.Choice(["table", "json", "nagios"]), default="table",
              show_default=True, help="How it is printed.")  # fmt: skip
@limit_options
def status(kind: Any, late_s: float, silent_s: float, **options: Any) -> None:
    """Tell how pickers, stations and consumers do; from any host that reaches Redis.

    Exits as a Nagios plugin: 0 all is well, 1 warning, 2 critical (no picker, half of the stations
    silent, no Redis).
    """
    import sys

    from streamer.status.command import tell_status
    from streamer.status.model import Limits

    limits = Limits(late_s=late_s, silent_s=silent_s)
    sys.exit(tell_status(viewed(**options), kind, limits, sys.stdout))


@click.command()
@limit_options
def top(late_s: float, silent_s: float, **options: Any) -> None:
    """Watch stations, worst first, and events; q quits."""
    from streamer.status.model import Limits
    from streamer.status.top import show_top

    show_top(viewed(**options), Limits(late_s=late_s, silent_s=silent_s))
