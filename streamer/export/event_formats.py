"""Events for people and programs: a table, JSON lines of `msnet.event/1`, CSV, GeoJSON and more."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Literal, TextIO

from rich.table import Table

from streamer.association.message import Event
from streamer.output import print_table
from streamer.picks import Pick
from streamer.timebase import NS_PER_MS

TextEventFormat = Literal["table", "jsonl", "csv", "geojson", "quakeml", "seiscomp", "nonlinloc",
                          "hypodd"]  # fmt: skip
CSV_COLUMNS = [field.name for field in fields(Event) if field.name != "arrivals"]
# ± are one standard error: along the longer axis of the ellipse, and in depth.
EVENT_HEADINGS = (
    "time (UTC)", "lat", "lon", "z km", "±km", "±z", "P/S", "gap", "rms", "mag", "state",
)  # fmt: skip
STATUS_STYLES = {"preliminary": "yellow", "updated": "yellow", "retracted": "red strike"}


def export_events(
    events: Sequence[Event],
    name: TextEventFormat,
    agency: str,
    output: TextIO,
    picks: Mapping[str, Pick] | None = None,
) -> None:
    """Write the events in one format; `picks` by id tell QuakeML and its kin more of the picks."""
    match name:
        case "table":
            print_table(event_table(events), output)
        case "jsonl":
            output.writelines(event.to_json() + "\n" for event in events)
        case "csv":
            write_event_csv(events, output)
        case "geojson":
            json.dump(geojson(events), output, indent=1)
            output.write("\n")
        case "hypodd":
            from streamer.export.real_catalogue import hypodd_phases  # loads numba

            output.writelines(f"{line}\n" for line in hypodd_phases(events))
        case _:
            from streamer.export.catalogue import as_text, event_catalogue

            output.write(as_text(event_catalogue(events, agency, picks), name))


def write_event_csv(events: Iterable[Event], output: TextIO, header: bool = True) -> None:
    """A catalogue: one row per event, columns as the message names them, no arrivals."""
    writer = csv.DictWriter(output, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(
        {name: getattr(event, name) for name in CSV_COLUMNS} for event in events
    )  # fmt: skip


def geojson(events: Sequence[Event]) -> dict[str, Any]:
    """A FeatureCollection of points: longitude, latitude, height in m (below sea level: < 0)."""
    return {"type": "FeatureCollection", "features": [feature(event) for event in events]}


def feature(event: Event) -> dict[str, Any]:
    """A GeoJSON point with the columns of the catalogue; `time_ms` POSIX ms as USGS has `time`.

    `relocation` is an object as in the message; the point is that of the absolute location.
    """
    properties = {
        name: value
        for name in CSV_COLUMNS
        if name not in ("lat", "lon") and (value := getattr(event, name)) is not None
    }
    if event.relocation is not None:
        properties["relocation"] = asdict(event.relocation)
    return {
        "type": "Feature",
        "id": event.id,
        "geometry": {
            "type": "Point",
            "coordinates": [event.lon, event.lat, round(-1000 * event.depth_km, 1)],
        },
        "properties": properties | {"time_ms": event.t_ns // NS_PER_MS},
    }


def event_table(
    events: Iterable[Event],
    title: str | None = None,
    headings: Sequence[str] = EVENT_HEADINGS,
) -> Table:
    """A table to look at: one row per event, with all columns or those that are named."""
    table = Table(title=title, header_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        is_text = heading in ("time (UTC)", "state")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    for event in events:
        cells = dict(zip(EVENT_HEADINGS, event_cells(event), strict=True))
        if style := STATUS_STYLES.get(event.status):
            cells["state"] = f"[{style}]{cells['state']}[/]"
        table.add_row(*(cells[heading] for heading in headings))
    return table


def event_cells(event: Event) -> tuple[str, ...]:
    """What a row of the table says of an event."""
    return (
        event.time[:19].replace("T", " "),
        f"{event.lat:.4f}",
        f"{event.lon:.4f}",
        f"{event.depth_km:.2f}",
        f"{event.major_error_km:.2f}",
        f"{event.depth_error_km:.2f}",
        f"{event.n_p}/{event.n_s}",
        f"{event.gap_deg:.0f}",
        f"{event.rms_s:.2f}",
        "" if event.mag is None else f"{event.mag:.1f}",
        event.status if event.version == 1 else f"{event.status} {event.version}",
    )
