"""Commands for the upkeep of the Redis streams: streams init, trim, dead."""

from typing import Any

import click

from streamer.cli.options import viewed, viewer_options


@click.group()
def streams() -> None:
    """Consumer groups, trimming and dead letters; needs the rights of the default user."""


@streams.command("init")
@click.option("--group", "groups", multiple=True, default=("assoc",), show_default=True,
              help="Consumer group to make, from the first pick on. Repeatable.")  # fmt: skip
@viewer_options
def streams_init(groups: tuple[str, ...], **options: Any) -> None:
    """Make the stream of picks and the consumer groups that are not there yet."""
    from streamer.bus.address import server_address
    from streamer.bus.connect import open_client
    from streamer.bus.upkeep import create_group

    config = viewed(**options)
    with open_client(server_address(config)) as client:
        for group in groups:
            made = create_group(client, config.redis.prefix, group)
            click.echo(f"group {group}: {'made' if made else 'is there already'}")


@streams.command("trim")
@click.option(
    "--stream",
    type=click.Choice(["picks", "events", "dead"]),
    default="picks",
    show_default=True,
    help="What is trimmed.",
)
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep the newest N.")
@click.option(
    "--before",
    metavar="TIME",
    help="Remove what was published before: a span (10m, 2h, 7d) or an ISO 8601 time.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many would go.")
@viewer_options  # fmt: skip
def streams_trim(
    stream: str, keep: int | None, before: str | None, dry_run: bool, **options: Any
) -> None:
    """Remove old messages for good, beyond what the daemon trims by itself."""
    import time

    from streamer.bus.address import server_address
    from streamer.bus.connect import open_client
    from streamer.bus.reading import id_since
    from streamer.bus.upkeep import entries_to_trim, trim

    if (keep is None) == (before is None):
        raise click.UsageError("give either --keep or --before")
    if before in ("now", "earliest"):
        raise click.UsageError("--before takes a span such as 7d, or an ISO 8601 time")
    config = viewed(**options)
    key = f"{config.redis.prefix}:{stream}"
    first = None if before is None else id_since(before, time.time_ns())
    work = entries_to_trim if dry_run else trim
    with open_client(server_address(config)) as client:
        count = work(client, key, keep=keep, first=first)
    click.echo(f"{key}: {count} entries {'would be removed' if dry_run else 'removed'}")


@streams.command("dead")
@click.option(
    "--requeue",
    metavar="ENTRY",
    multiple=True,
    help="Put this one on its stream again, or all. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one object a line.")
@viewer_options  # fmt: skip
def streams_dead(requeue: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """List the messages that a worker could not use, and have them tried again."""
    import json
    from dataclasses import asdict

    from streamer.bus.address import server_address
    from streamer.bus.connect import open_client
    from streamer.bus.upkeep import dead_letters
    from streamer.bus.upkeep import requeue as put_back
    from streamer.errors import NoInputError

    config = viewed(**options)
    prefix = config.redis.prefix
    with open_client(server_address(config)) as client:
        letters = list(dead_letters(client, prefix))
        if unknown := set(requeue) - {letter.entry for letter in letters} - {"all"}:
            raise NoInputError(f"no dead letter {', '.join(sorted(unknown))} on {prefix}:dead")
        for letter in letters:
            again = "all" in requeue or letter.entry in requeue
            entry = put_back(client, prefix, letter) if again else None
            if as_json:
                click.echo(json.dumps({**asdict(letter), "requeued": entry}))
            else:
                told = f" -> {letter.stream} {entry}" if entry else ""
                click.echo(f"{letter.entry}  {letter.reason}  {letter.fields.get('id', '?')}{told}")
