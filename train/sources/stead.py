"""STEAD in its own form (Mousavi et al. 2019): a CSV table beside an HDF5 file of the same name.

data/<trace_name> is (6000, 3) at 100 Hz, components E, N, Z; the rows are earthquakes
(`trace_category` earthquake_local) or noise.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

from streamer.errors import NoInputError
from train.datasets import Row, rows
from train.sources import hdf5
from train.sources.recording import (
    UNKNOWN,
    Origin,
    Pick,
    Recording,
    Station,
    UnreadableError,
    distance_km,
    number,
    split_name,
    start_of,
    text,
    time_of,
    time_or_none,
)

NEEDED = frozenset({"trace_name", "p_arrival_sample", "s_arrival_sample", "trace_category"})
_RATE = Fraction(100)
_ORDER = "ENZ"


def tables(path: Path) -> list[Path]:
    """STEAD tables behind a CSV file, an HDF5 file or a folder; [] if there are none."""
    found = sorted(path.glob("*.csv")) if path.is_dir() else [path.with_suffix(".csv")]
    return [table for table in found if set(hdf5.columns(table)) >= NEEDED]


class SteadSource:
    """Iterates over the rows of each table."""

    kind = "stead"

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._tables = tables(path)
        if not self._tables:
            raise NoInputError(
                f"{path}: no STEAD table there (columns {', '.join(sorted(NEEDED))})"
            )

    def total(self) -> int:
        """Rows of all tables."""
        return sum(map(hdf5.count_rows, self._tables))

    def loose_origins(self) -> Iterator[tuple[str, Origin]]:
        """None: every row tells its origin."""
        return iter(())

    def __iter__(self) -> Iterator[Recording | UnreadableError]:
        for table in self._tables:
            with hdf5.open_hdf5(table.with_suffix(".hdf5")) as file:
                data = file.get("data", {})
                for row in rows(table):
                    item: Recording | UnreadableError
                    try:
                        item = self._recording(row, data, table)
                    except UnreadableError as error:
                        item = error
                    yield item

    def _recording(self, row: Row, data: Any, table: Path) -> Recording:
        place = text(row.get("trace_name"))
        what = f"{table.name}: {place}"
        if not place:
            raise UnreadableError("no_name", f"{what}: a row without trace_name")
        samples = hdf5.read_dataset(data, place, (), what)
        start_ns, time_base = start_of(row.get("trace_start_time"))
        origin, station = _origin(row), _station(row)
        noise = text(row.get("trace_category")).lower() == "noise"
        told_km = number(row.get("source_distance_km"))
        return Recording(
            split_name(self.name, "", noise=noise),
            quote(place, safe=""),
            station,
            start_ns,
            _RATE,
            hdf5.segments(samples.T, _ORDER, what),
            tuple(
                Pick(
                    phase.upper(),
                    time_of(start_ns, _RATE, index),
                    text(row.get(f"{phase}_status")).lower() or UNKNOWN,
                    origin.event_id,
                    quality=f"w{weight:.2f}" if weight is not None else "",
                    source=self.name,
                )
                for phase in "ps"
                if (index := number(row.get(f"{phase}_arrival_sample"))) is not None
                for weight in [number(row.get(f"{phase}_weight"))]
            ),
            origin,
            told_km if told_km is not None else distance_km(station, origin),
            "noise" if noise else "event",
            time_base,
        )


def _origin(row: Row) -> Origin:
    return Origin(
        text(row.get("source_id")) or text(row.get("trace_name")),
        time_or_none(row.get("source_origin_time")),
        number(row.get("source_latitude")),
        number(row.get("source_longitude")),
        number(row.get("source_depth_km")),
        number(row.get("source_magnitude")),
    )


def _station(row: Row) -> Station:
    return Station(
        text(row.get("network_code")),
        text(row.get("receiver_code")),
        "",
        text(row.get("receiver_type"))[:2],
        number(row.get("receiver_latitude")),
        number(row.get("receiver_longitude")),
        number(row.get("receiver_elevation_m")),
    )
