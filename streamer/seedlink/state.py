"""How far each station has been taken from each server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """The last packet taken of a station of one server.

    `sequence` is its number, `time_ns` the start of its record (UTC ns), None if it has none.
    """

    sequence: int
    time_ns: int | None
