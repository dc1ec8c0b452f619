"""What an operator does to the streams by hand: groups, trimming, dead letters.

Needs the rights of the `default` user. `client` is that of `connect.open_client`; the functions
raise what it raises.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from streamer.bus.connect import ResponseError
from streamer.bus.reading import PAGE_ENTRIES, Entry
from streamer.errors import DataError


@dataclass(frozen=True)
class DeadLetter:
    """A message that a worker of `group` could not use; `entry` is its id on `msnet:dead`.

    `stream` is where it came from, `deliveries` how often it was tried, `fields` what it said.
    """

    entry: str
    reason: str
    stream: str
    group: str
    deliveries: str
    fields: dict[str, str]

    @classmethod
    def of(cls, entry: Entry) -> "DeadLetter":
        """The letter in an entry of `msnet:dead`. Raises DataError if it is none."""
        name, message = entry
        try:
            fields = json.loads(message["fields"])
            if not isinstance(fields, dict):
                raise ValueError("the fields are no object")
            return cls(
                entry=name,
                reason=message["reason"],
                stream=message["stream"],
                group=message["group"],
                deliveries=message["deliveries"],
                fields={str(key): str(value) for key, value in fields.items()},
            )
        except (KeyError, ValueError) as error:
            raise DataError(f"entry {name} of the dead letters cannot be read: {error}") from error


def create_group(client: Any, prefix: str, group: str) -> bool:
    """Make a consumer group that begins with the first pick; False if it is there already."""
    try:
        client.xgroup_create(f"{prefix}:picks", group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
        return False
    return True


def entries_to_trim(client: Any, key: str, *, keep: int | None, first: str | None) -> int:
    """How many `trim` would remove; the stream is read through for `first`."""
    if keep is not None:
        return max(int(client.xlen(key)) - keep, 0)
    count, after = 0, "-"
    while page := client.xrange(key, after, f"({first}", count=PAGE_ENTRIES):
        count, after = count + len(page), f"({page[-1][0]}"
    return count


def trim(client: Any, key: str, *, keep: int | None, first: str | None) -> int:
    """Remove all but the newest `keep` entries, or those before the id `first`; returns how many.

    Exactly, not in whole nodes as the picker does it.
    """
    return int(client.xtrim(key, maxlen=keep, minid=first, approximate=False))


def dead_letters(client: Any, prefix: str) -> Iterator[DeadLetter]:
    """The dead letters, the oldest first. Raises DataError at one that cannot be read."""
    after = "-"
    while page := client.xrange(f"{prefix}:dead", after, count=PAGE_ENTRIES):
        after = f"({page[-1][0]}"
        yield from map(DeadLetter.of, page)


def requeue(client: Any, prefix: str, letter: DeadLetter) -> str:
    """Put a message on its stream again and take it from the dead, both or neither; its new id."""
    with client.pipeline(transaction=True) as pipeline:
        pipeline.xadd(letter.stream, letter.fields)
        pipeline.xdel(f"{prefix}:dead", letter.entry)
        return str(pipeline.execute()[0])
