"""The command `msnet-stream`: parse, call, map errors to exit codes.

No logic here; what is slow to import is imported inside the commands, one file per group of them.
"""

from typing import Any

import click

from streamer import __version__
from streamer.cli import association, picking, service, show, streams, viewing, web
from streamer.errors import MsnetError


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


for command in (
    picking.run,
    picking.pick,
    picking.stations,
    association.associate,
    viewing.picks,
    viewing.events,
    viewing.status,
    viewing.top,
    web.web,
    streams.streams,
    picking.replay,
    picking.broker,
    show.demo,
    show.bench,
    picking.check_config,
    service.show_config,
    service.doctor,
    service.systemd,
    service.completion,
    service.version,
):
    main.add_command(command)
