"""Picks for people and programs: a table, JSON lines of `msnet.pick/1`, or CSV."""

import csv
import io
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Literal, TextIO

from rich.console import Console
from rich.table import Table

from streamer.errors import CannotCreateError
from streamer.picks import Pick

PickFormat = Literal["jsonl", "csv", "table"]

FILE_WIDTH = 200

CSV_COLUMNS = [
    "v",
    "time",
    *(field.name for field in fields(Pick)),
]


def open_output(path: Path | None, standard: TextIO) -> AbstractContextManager[TextIO]:
    """The file to write, or standard output. Raises CannotCreateError naming the file."""
    if path is None:
        return nullcontext(standard)
    try:
        return path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise CannotCreateError(
            f"cannot write {path}: {error.strerror}; choose another file with -o"
        ) from error


def write_picks(picks: Iterable[Pick], pick_format: PickFormat, output: TextIO) -> None:
    """All picks in one format; JSON lines are messages exactly as on the Redis stream."""
    if pick_format == "jsonl":
        output.writelines(json.dumps(pick.to_fields()) + "\n" for pick in picks)
    elif pick_format == "csv":
        writer = csv.DictWriter(output, CSV_COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(pick.to_fields() for pick in picks)
    else:
        print_table(pick_table(picks), output)


def print_table(table: Table, output: TextIO) -> None:
    """A table as wide as the terminal, or as it needs to be in a file."""
    width = None if output.isatty() else FILE_WIDTH
    Console(file=output, width=width, soft_wrap=True).print(table)


PICK_HEADINGS = ("time (UTC)", "channel", "phase", "prob", "state", "quality")


def pick_table(picks: Iterable[Pick], title: str | None = None) -> Table:
    """A table to look at: one row per pick."""
    table = Table(title=title, header_style="bold")
    for heading in PICK_HEADINGS:
        table.add_column(heading, justify="right" if heading == "prob" else "left")
    for pick in picks:
        time, channel, phase, *others = pick_cells(pick)
        style = {"P": "cyan", "S": "magenta"}[phase]
        table.add_row(time, channel, f"[{style}]{phase}[/]", *others)
    return table


def pick_cells(pick: Pick) -> tuple[str, ...]:
    """What a row of the table says of a pick."""
    state = "final" if pick.final else "provisional"
    return (
        pick.to_fields()["time"][:-4].replace("T", " "),
        pick.nslc,
        pick.phase,
        f"{pick.prob:.2f}",
        "retracted" if pick.status == "retract" else state,
        pick.qual or "",
    )


def csv_line(values: Iterable[object]) -> str:
    """One line of CSV, without its end."""
    output = io.StringIO()
    csv.writer(output, lineterminator="").writerow(values)
    return output.getvalue()
