"""A data set in the format of SeisBench (Woollam et al. 2022), read without SeisBench.

    metadata<chunk>.csv     a row per trace; trace_name says where its samples are
    waveforms<chunk>.hdf5   data/<name>, or data/<bucket> for names like bucket0$17,:3,:6000;
                            data_format: dimension_order (CW), component_order, sampling_rate

A data set that has no column of the status of a pick counts as picked by analysts, as in SeisBench;
where the column is there and the cell is empty, the status is unknown. The published split into
train, dev and test becomes part of the name of the data set.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from streamer.errors import DataError, NoInputError
from train.datasets import Row, rows
from train.sources import hdf5
from train.sources.recording import (
    MANUAL,
    UNKNOWN,
    Origin,
    Pick,
    Recording,
    Station,
    UnreadableError,
    distance_km,
    number,
    rate_of,
    split_name,
    start_of,
    text,
    time_of,
    time_or_none,
)

PREFIX = "seisbench:"
_ARRIVAL = re.compile(r"trace_(.+)_arrival_sample$")
_MAGNITUDE = ("source_magnitude", "preferred_source_magnitude")
_DISTANCE = ("path_ep_distance_km", "source_distance_km")
_DEFAULT_ORDER = "ZNE"  # what SeisBench assumes
_DEFAULT_DIMENSIONS = "CW"


def cache_folder(name: str) -> Path:
    """Where SeisBench keeps the data set of this name; raises NoInputError, downloads nothing."""
    root = Path(os.environ.get("SEISBENCH_CACHE_ROOT", Path.home() / ".seisbench")) / "datasets"
    folder = root / name.lower()
    if folder.is_dir():
        return folder
    there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    raise NoInputError(
        f"SeisBench has no data set {name!r} in {root} (there: {', '.join(there) or 'none'}); "
        "nothing is downloaded here: let SeisBench fetch it (pip install seisbench; "
        f"python -c 'import seisbench.data as d; d.{name}()'), or set SEISBENCH_CACHE_ROOT"
    )


def chunks(folder: Path) -> list[str]:
    """What stands between `metadata` and `.csv`, of the tables that have their waveforms."""
    names = (path.name.removeprefix("metadata") for path in folder.glob("metadata*.csv"))
    found = (name.removesuffix(".csv") for name in names)
    return sorted(chunk for chunk in found if (folder / f"waveforms{chunk}.hdf5").is_file())


@dataclass(frozen=True)
class _Format:
    dimensions: str
    components: str
    rate: object

    @classmethod
    def read(cls, file: Any) -> "_Format":
        group = file.get("data_format", {})
        found = {key: _plain(group[key][()]) for key in group}
        return cls(
            found.get("dimension_order") or _DEFAULT_DIMENSIONS,
            found.get("component_order", ""),
            found.get("sampling_rate"),
        )


def _plain(value: Any) -> Any:
    """Text of HDF5 bytes, also when it is kept letter by letter."""
    if isinstance(value, np.ndarray):
        return "".join(_plain(v) for v in value.tolist())
    return value.decode() if isinstance(value, bytes) else value


class SeisBenchSource:
    """Iterates over the traces of a data set in the order of its tables."""

    kind = "seisbench"

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._chunks = chunks(folder)
        if not self._chunks:
            raise DataError(f"{folder}: no metadata*.csv with its waveforms*.hdf5 beside it")

    def total(self) -> int:
        """Rows of all tables."""
        return sum(hdf5.count_rows(self.folder / f"metadata{c}.csv") for c in self._chunks)

    def loose_origins(self) -> Iterator[tuple[str, Origin]]:
        """None: every row tells its origin."""
        return iter(())

    def __iter__(self) -> Iterator[Recording | UnreadableError]:
        for chunk in self._chunks:
            table = self.folder / f"metadata{chunk}.csv"
            phases = _phase_columns(hdf5.columns(table))
            with hdf5.open_hdf5(self.folder / f"waveforms{chunk}.hdf5") as file:
                form = _Format.read(file)
                data = file.get("data", {})
                for row in rows(table):
                    item: Recording | UnreadableError
                    try:
                        item = self._recording(row, chunk, data, form, phases)
                    except UnreadableError as error:
                        item = error
                    yield item

    def _recording(
        self, row: Row, chunk: str, data: Any, form: _Format, phases: dict[str, str]
    ) -> Recording:
        place = text(row.get("trace_name"))
        what = f"{self.folder.name}/metadata{chunk}.csv: {place}"
        if not place:
            raise UnreadableError("no_name", f"{what}: a row without trace_name")
        bucket, _, where = place.partition("$")
        samples = hdf5.read_dataset(data, bucket, _location(where, what), what)
        if form.dimensions.replace("N", "") == "WC":
            samples = samples.T
        order = text(row.get("trace_component_order")) or form.components or _DEFAULT_ORDER
        rate = rate_of(_rate_cell(row, form), what)
        start_ns, time_base = start_of(row.get("trace_start_time"))
        name = quote(text(row.get("trace_name_original")) or place, safe="$,:+=@")
        origin, station = _origin(row, name), _station(row)
        told_km = _first_number(row, _DISTANCE)
        noise = "noise" in (
            text(row.get("trace_category")).lower(),
            text(row.get("source_type")).lower(),
        )
        return Recording(
            split_name(self.name, text(row.get("split")), noise=noise),
            name + chunk,
            station,
            start_ns,
            rate,
            hdf5.segments(samples, order, what),
            tuple(
                Pick(
                    phase,
                    time_of(start_ns, rate, index),
                    (text(row.get(status)).lower() or UNKNOWN) if status else MANUAL,
                    origin.event_id,
                    number(row.get(f"trace_{phase}_uncertainty_s")),
                    source=self.name,
                )
                for phase, status in phases.items()
                if (index := number(row.get(f"trace_{phase}_arrival_sample"))) is not None
            ),
            origin,
            told_km if told_km is not None else distance_km(station, origin),
            "noise" if noise else "event",
            time_base,
        )


def _phase_columns(names: list[str]) -> dict[str, str]:
    """Name of the status column of each phase with an arrival column; "" if it has none."""
    found = (match[1] for match in map(_ARRIVAL.match, names) if match)
    status = {phase: f"trace_{phase}_status" for phase in found}
    return {phase: column if column in names else "" for phase, column in status.items()}


def _location(where: str, what: str) -> tuple[int | slice, ...]:
    """Index of a trace in its bucket from `17,:3,:6000`; everything for ""."""
    if not where:
        return ()
    try:
        parts = [part.split(":") for part in where.replace(" ", "").split(",")]
        return tuple(
            int(part[0]) if len(part) == 1 else slice(*(int(v) if v else None for v in part))
            for part in parts
        )
    except (ValueError, TypeError) as error:
        raise UnreadableError("no_waveform", f"{what}: not a place in a bucket") from error


def _rate_cell(row: Row, form: _Format) -> object:
    """Sampling rate from the row, its interval, or the whole file."""
    interval_s = number(row.get("trace_dt_s"))
    return text(row.get("trace_sampling_rate_hz")) or (1 / interval_s if interval_s else form.rate)


def _first_number(row: Row, names: tuple[str, ...]) -> float | None:
    values = (number(row.get(name)) for name in names)
    return next((value for value in values if value is not None), None)


def _origin(row: Row, name: str) -> Origin:
    return Origin(
        text(row.get("source_id")) or name,
        time_or_none(row.get("source_origin_time")),
        number(row.get("source_latitude_deg")),
        number(row.get("source_longitude_deg")),
        number(row.get("source_depth_km")),
        _first_number(row, _MAGNITUDE),
    )


def _station(row: Row) -> Station:
    return Station(
        text(row.get("station_network_code")),
        text(row.get("station_code")),
        text(row.get("station_location_code")),
        text(row.get("trace_channel"))[:2],
        number(row.get("station_latitude_deg")),
        number(row.get("station_longitude_deg")),
        number(row.get("station_elevation_m")),
    )
