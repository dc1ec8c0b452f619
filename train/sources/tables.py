"""A folder of tables with miniSEED, as `train.datasets` reads it and `msnet-train data` writes it.

An event belongs to a record if it has the record's id. Records of every kind pass, and the picks of
a teacher with them.
"""

from collections.abc import Iterator
from pathlib import Path

from train.datasets import Row, Tables, rows
from train.sources import waveforms
from train.sources.recording import (
    TEACHER,
    UNKNOWN,
    Origin,
    Pick,
    Recording,
    Station,
    UnreadableError,
    distance_km,
    number,
    rate_of,
    text,
    time_or_none,
)

Key = tuple[str, str]


class TablesSource:
    """Iterates over the rows of traces.csv."""

    kind = "tables"

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._tables = Tables.read(folder)
        self._origins: dict[Key, Origin] = {}
        for row in self._optional("events.csv"):
            self._origins[row["dataset"], row["event_id"]] = _origin(row)
        self._places = {
            (row["dataset"], row["network"], row["station"]): row
            for row in self._optional("stations.csv")
        }

    def _optional(self, name: str) -> Iterator[Row]:
        path = self.folder / name
        return rows(path) if path.exists() else iter(())

    def total(self) -> int:
        """Rows of traces.csv."""
        return len(self._tables.traces)

    def loose_origins(self) -> Iterator[tuple[str, Origin]]:
        """Events whose id is that of no record."""
        records = {(row["dataset"], row["record_id"]) for row in self._tables.traces}
        for key, origin in self._origins.items():
            if key not in records:
                yield key[0], origin

    def __iter__(self) -> Iterator[Recording | UnreadableError]:
        for row in self._tables.traces:
            item: Recording | UnreadableError
            try:
                item = self._recording(row)
            except UnreadableError as error:
                item = error
            yield item

    def _recording(self, row: Row) -> Recording:
        key = row["dataset"], row["record_id"]
        what = "/".join(key)
        rate = rate_of(row["sampling_rate"], what)
        start_ns = time_or_none(row["start"])
        if start_ns is None:
            raise UnreadableError("no_start", f"{what}: no start time: {row['start']!r}")
        picks = [
            _pick(p, text(p["evaluation"]) or UNKNOWN) for p in self._tables.picks.get(key, [])
        ]
        picks += [_pick(p, TEACHER) for p in self._tables.teacher.get(key, [])]
        origin, station = self._origins.get(key), self._station(row)
        return Recording(
            *key,
            station,
            start_ns,
            rate,
            waveforms.segments(waveforms.read(self.folder / row["file"]), start_ns, rate, what),
            tuple(picks),
            origin,
            distance_km(station, origin),
            text(row["kind"]) or "event",
            text(row.get("time_base")) or "true",
            text(row.get("scale_counts_per_unit")) or "1",
        )

    def _station(self, row: Row) -> Station:
        codes = row["network"], row["station"]
        place = row if text(row.get("latitude")) else self._places.get((row["dataset"], *codes), {})
        return Station(
            *codes,
            text(row.get("location")),
            text(row.get("channel_prefix")),
            number(place.get("latitude")),
            number(place.get("longitude")),
            number(place.get("elevation_m")),
        )


def _pick(row: Row, status: str) -> Pick:
    time_ns = time_or_none(row["time"])
    if time_ns is None:
        raise UnreadableError("no_pick_time", f"{row['record_id']}: a pick without a time")
    return Pick(
        row["phase"],
        time_ns,
        status,
        "",
        number(row.get("uncertainty_s")),
        text(row.get("quality")),
        text(row.get("source")),
        number(row.get("probability")),
    )


def _origin(row: Row) -> Origin:
    return Origin(
        row["event_id"],
        time_or_none(row["time"]),
        number(row["latitude"]),
        number(row["longitude"]),
        number(row["depth_km"]),
        number(row["magnitude"]),
        text(row.get("source")),
    )
