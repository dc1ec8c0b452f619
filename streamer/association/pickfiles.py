"""Picks as the associators take them: columns of numbers, read from files or messages."""

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.association.geodesy import Floats
from streamer.association.magnitude import wood_anderson_mm
from streamer.association.stations import Station
from streamer.association.tables import Rejections, csv_rows, read_text
from streamer.errors import DataError
from streamer.picks import Pick, latest
from streamer.timebase import NS_PER_S

COLUMNS = ("net", "sta", "phase", "time", "prob", "amp")
PHASES = ("P", "S")
P, S = 0, 1
_QUOTED = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class PickTable:
    """Picks in order of time: columns [pick].

    `station` int32 index into the stations; `phase` int8 (0 P, 1 S); `time_s` float64 after
    `epoch_ns` (POSIX ns UTC, whole seconds); `prob` float64 0-1; `amp` float64, in mm of a
    Wood-Anderson seismograph, NaN if unknown; `ids` what to call each pick in an event.
    `unknown_stations` counts picks left out because no coordinates are known for their station,
    by NET.STA.
    """

    station: NDArray[np.int32]
    phase: NDArray[np.int8]
    time_s: Floats
    prob: Floats
    amp: Floats
    ids: list[str]
    epoch_ns: int
    unknown_stations: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def times_ns(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """POSIX ns UTC of some picks."""
        after_ns: NDArray[np.int64] = np.rint(self.time_s[rows] * NS_PER_S).astype(np.int64)
        return self.epoch_ns + after_ns


class PickRow(NamedTuple):
    """One pick as read: codes, time (POSIX ns UTC), probability 0-1, amplitude or NaN, name."""

    code: tuple[str, str]
    phase: str
    t_ns: int
    prob: float
    amp: float
    id: str


def pick_table(rows: Iterable[PickRow], stations: Iterable[Station]) -> PickTable:
    """Columns of the picks whose station is known, the others counted by station.

    The order, and with it every result, depends on the picks only and not on the order of `rows`.
    """
    index = {station.code: i for i, station in enumerate(stations)}
    unknown: dict[str, int] = {}
    known = []
    for row in rows:
        if row.code in index:
            known.append(row)
        else:
            name = ".".join(row.code)
            unknown[name] = unknown.get(name, 0) + 1
    known.sort(key=lambda row: (row.t_ns, index[row.code], row.phase, row.id))
    epoch_ns = known[0].t_ns // NS_PER_S * NS_PER_S if known else 0
    return PickTable(
        station=np.array([index[row.code] for row in known], np.int32),
        phase=np.array([PHASES.index(row.phase) for row in known], np.int8),
        time_s=np.array([(row.t_ns - epoch_ns) / NS_PER_S for row in known], np.float64),
        prob=np.array([row.prob for row in known], np.float64),
        amp=np.array([row.amp for row in known], np.float64),
        ids=[row.id for row in known],
        epoch_ns=epoch_ns,
        unknown_stations=unknown,
    )


def read_picks(path: Path) -> tuple[list[PickRow], Rejections]:
    """Picks of `msnet.pick/1` JSON lines, or of a csv table with the columns above.

    A column pick_id (else id, else NET.STA.PHASE and the time) names the picks. Of several
    messages with one id the last revision counts, and none if it was retracted. Rows that cannot
    be used are counted by reason. Raises NoInputError, and DataError if the header is wrong or
    every row is.
    """
    text = read_text(path)
    rejections = Rejections(path)
    read = _message_rows if text.lstrip().startswith("{") else _csv_rows
    rows = list(read(path, text, rejections))
    rejections.report()
    if not rows and rejections.counts:
        raise DataError(f"{path}: no row is a pick ({rejections.summary()})")
    return rows, rejections


def _csv_rows(path: Path, text: str, rejections: Rejections) -> Iterator[PickRow]:
    seen: set[str] = set()
    try:
        for line, cells in csv_rows(path, text, COLUMNS):
            try:
                row = _csv_pick(cells)
            except ValueError as error:
                rejections.add(str(error), line)
                continue
            if row.id in seen:
                rejections.add("an earlier row has the same pick_id", line)
                continue
            seen.add(row.id)
            yield row
    except csv.Error as error:
        raise DataError(f"{path} is no csv table: {error}") from error


def _csv_pick(cells: Mapping[str, str]) -> PickRow:
    if not (cells["net"] and cells["sta"]):
        raise ValueError("network or station code is empty")
    if cells["phase"] not in PHASES:
        raise ValueError("phase is neither P nor S")
    time_s = _number(cells, "time")
    prob = _number(cells, "prob")
    if not 0 <= prob <= 1:
        raise ValueError("prob is not in 0..1")
    t_ns = round(time_s * 1e6) * 1000  # a float keeps microseconds of epoch seconds
    name = cells.get("pick_id") or f"{cells['net']}.{cells['sta']}.{cells['phase']}.{t_ns}"
    amp = _number(cells, "amp") if cells["amp"] else math.nan
    return PickRow((cells["net"], cells["sta"]), cells["phase"], t_ns, prob, amp, name)


def _number(cells: Mapping[str, str], name: str) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} is not a finite number")
    return value


def _message_rows(path: Path, text: str, rejections: Rejections) -> Iterator[PickRow]:
    picks = []
    for line, message in enumerate(text.splitlines(), 1):
        if not message.strip():
            continue
        try:
            picks.append(_message(message))
        except (DataError, ValueError) as error:
            rejections.add(_reason(error), line)
    return map(from_message, latest(picks))


def _message(text: str) -> Pick:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise DataError("not a message")
    return Pick.from_fields({name: str(value) for name, value in fields.items()})


def _reason(error: Exception) -> str:
    """The error without what is different in each row, so that rows can be counted by it."""
    if isinstance(error, json.JSONDecodeError):
        return "not JSON"
    message = str(error)
    if message.startswith("pick message ") and ": " in message:
        _, message = message.split(": ", 1)
    return _QUOTED.sub("'...'", message)


def from_message(pick: Pick) -> PickRow:
    """The row of a pick message; amplitude NaN if it has none that tells the magnitude."""
    amp = math.nan if pick.amp is None else wood_anderson_mm(pick.amp, pick.amp_unit, pick.amp_per)
    return PickRow((pick.net, pick.sta), pick.phase, pick.t_ns, pick.prob, amp, pick.id)
