"""A folder of tables and miniSEED being written: what `train.datasets` reads.

    traces.csv picks.csv events.csv stations.csv teacher_picks.csv    one row per thing kept
    waveforms/<data set>/<NET.STA>.mseed    miniSEED 2, the records of a station one after the other

`offset_bytes` and `length_bytes` in traces.csv say where in its file a record is. A file for each
of a hundred thousand records would be slow to copy, and to look at at every start.

An event that belongs to one recording carries the recording's id, so the link survives; its own id
is then in the column `source`. The tables get their names when all is done, so that an interrupted
run leaves no folder that looks whole.
"""

import csv
import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from streamer.errors import CannotCreateError
from streamer.seedid import Nslc
from streamer.timebase import iso
from streamer.waveforms.archive import UNKNOWN_NETWORK
from streamer.waveforms.records import Record as WaveformRecord
from streamer.waveforms.records import encode
from train.sources.recording import (
    AUTOMATIC,
    MANUAL,
    TEACHER,
    Origin,
    Recording,
    Segment,
    Station,
)

TABLES = {
    "traces.csv": "dataset record_id file offset_bytes length_bytes network station location "
    "channel_prefix channels sampling_rate start npts time_base latitude longitude elevation_m "
    "scale_counts_per_unit kind",
    "picks.csv": "dataset record_id network station location channel_prefix phase time "
    "uncertainty_s quality evaluation source",
    "teacher_picks.csv": "dataset record_id network station phase time probability",
    "events.csv": "dataset event_id time latitude longitude depth_km magnitude source",
    "stations.csv": "dataset network station latitude longitude elevation_m",
}
_RECORD_BYTES = 4096  # a tenth of the headers of 512-byte records
_UNKNOWN_STATION = "XXXX"
_UNKNOWN_PREFIX = "XX"


class Folder:
    """The folder being written; as a context manager it gives the tables their names at the end.

    Raises CannotCreateError if the folder is not empty or cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._stack = ExitStack()
        self._tables: dict[str, Any] = {}
        self._stations: set[tuple[str, str, str]] = set()

    def __enter__(self) -> "Folder":
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            if any(self.out.iterdir()):
                raise CannotCreateError(f"{self.out} is not empty: name a new folder")
            for name, columns in TABLES.items():
                file = self._stack.enter_context(self._open(name))
                self._tables[name] = csv.DictWriter(file, columns.split(), lineterminator="\n")
                self._tables[name].writeheader()
        except OSError as error:
            raise CannotCreateError(f"cannot write to {self.out}: {error.strerror}") from error
        return self

    def _open(self, name: str) -> IO[str]:
        return (self.out / f"{name}.part").open("w", encoding="utf-8", newline="")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        if kind is None:
            for name in TABLES:
                (self.out / f"{name}.part").replace(self.out / name)

    def add(self, recording: Recording) -> None:
        """Write the waveforms of a recording and its rows."""
        names = {"dataset": recording.dataset, "record_id": recording.record_id}
        station = recording.station
        codes = {"network": station.network, "station": station.station}
        instrument = {"location": station.location, "channel_prefix": station.channel_prefix}
        place = _place(station)
        self._tables["traces.csv"].writerow(
            names
            | codes
            | instrument
            | place
            | self._write_waveforms(recording)
            | {
                "channels": "+".join(sorted({s.component for s in recording.segments})),
                "sampling_rate": float(recording.rate),
                "start": iso(recording.start_ns),
                "npts": recording.npts,
                "time_base": recording.time_base,
                "scale_counts_per_unit": recording.scale,
                "kind": recording.kind,
            }
        )
        for pick in recording.picks:
            row = names | codes | {"phase": pick.phase, "time": iso(pick.time_ns)}
            if pick.status == TEACHER:
                self._tables["teacher_picks.csv"].writerow(row | {"probability": pick.probability})
                continue
            more = {"uncertainty_s": _cell(pick.uncertainty_s), "quality": pick.quality}
            status = MANUAL if pick.status == MANUAL else AUTOMATIC
            self._tables["picks.csv"].writerow(
                row | instrument | more | {"evaluation": status, "source": pick.source}
            )
        if recording.origin is not None:
            self.add_origin(recording.dataset, recording.record_id, recording.origin)
        key = recording.dataset, station.network, station.station
        if station.latitude is not None and key not in self._stations:
            self._stations.add(key)
            self._tables["stations.csv"].writerow({"dataset": recording.dataset} | codes | place)

    def add_origin(self, dataset: str, event_id: str, origin: Origin) -> None:
        """A row of events.csv; an id that is not the event's own goes into `source` with it."""
        own = origin.event_id if origin.event_id != event_id else ""
        self._tables["events.csv"].writerow(
            {
                "dataset": dataset,
                "event_id": event_id,
                "time": iso(origin.time_ns) if origin.time_ns is not None else "",
                "latitude": _cell(origin.latitude),
                "longitude": _cell(origin.longitude),
                "depth_km": _cell(origin.depth_km),
                "magnitude": _cell(origin.magnitude),
                "source": " ".join(part for part in (origin.source, own) if part),
            }
        )

    def _write_waveforms(self, recording: Recording) -> dict[str, object]:
        """Where in the folder the miniSEED records are: the columns of traces.csv."""
        codes = _codes(recording.station)
        where = Path("waveforms", _safe(recording.dataset))
        path = where / f"{codes.network}.{codes.station}.mseed"
        try:
            (self.out / where).mkdir(parents=True, exist_ok=True)
            with (self.out / path).open("ab") as file:
                offset_bytes = file.tell()
                for segment in recording.segments:
                    file.writelines(encode(_waveform(recording, segment, codes), _RECORD_BYTES))
                length_bytes = file.tell() - offset_bytes
        except OSError as error:
            raise CannotCreateError(f"cannot write {path}: {error.strerror}") from error
        return {
            "file": path.as_posix(),
            "offset_bytes": offset_bytes,
            "length_bytes": length_bytes,
        }


def _codes(station: Station) -> Nslc:
    """Codes as a miniSEED 2 header can hold them; the tables have them in full."""
    limits = (
        (station.network or UNKNOWN_NETWORK, 2),
        (station.station or _UNKNOWN_STATION, 5),
        (station.location, 2),
        (station.channel_prefix or _UNKNOWN_PREFIX, 2),
    )
    return Nslc(*(re.sub("[^A-Za-z0-9]", "", code)[:longest] for code, longest in limits))


def _safe(name: str) -> str:
    """A name as one part of a path."""
    return name.replace("/", "%2F")


def _waveform(recording: Recording, segment: Segment, codes: Nslc) -> WaveformRecord:
    channel = codes._replace(channel=codes.channel + segment.component)
    return WaveformRecord(
        channel, recording.time_of(segment.first), recording.rate, segment.samples
    )


def _place(station: Station) -> dict[str, object]:
    return {
        "latitude": _cell(station.latitude),
        "longitude": _cell(station.longitude),
        "elevation_m": _cell(station.elevation_m),
    }


def _cell(value: float | None) -> object:
    return "" if value is None else value
