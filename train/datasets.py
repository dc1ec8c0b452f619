"""A folder of tables (traces.csv, picks.csv, teacher_picks.csv) with miniSEED: records at 100 Hz.

    Record.samples   float32 (3, n), components Z, N, E; NaN where nothing was recorded
    Arrival.index    float, samples from the start of the record

NaN for "not recorded" goes through the whole of training: filters spread it exactly as far as they
reach, and `blocks` turns it into the `valid` of `model.preprocess`.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import obspy
import structlog

from model.preprocess import BLOCK, MODEL_RATE, Resampler
from streamer.errors import DataError, NoInputError

Samples = npt.NDArray[np.float32]
Row = dict[str, str]

PHASE_INDEX = {"P": 0, "S": 1}
_COMPONENT_INDEX = {"Z": 0, "N": 1, "1": 1, "E": 2, "2": 2}
_MAX_S_MINUS_P_S = 60.0  # a teacher S later than this after a P belongs to something else
_SAME_ARRIVAL_S = 1.0  # an automatic pick nearer than this to a sure teacher pick is the same
_COUNTED_MANUAL = "manual"

log = structlog.get_logger()


@dataclass(frozen=True)
class Arrival:
    """`phase` 0 P, 1 S; `sure` arrivals are labels, others are masked; `event` pairs P with S."""

    phase: int
    index: float
    sure: bool = True
    event: int = -1


@dataclass(frozen=True)
class Record:
    """One station's recording; `arrivals` by an analyst, `pseudo` by programs."""

    dataset: str
    record_id: str
    samples: Samples
    arrivals: tuple[Arrival, ...] = ()
    pseudo: tuple[Arrival, ...] = ()
    kind: str = "event"

    @property
    def length(self) -> int:
        """Samples per component."""
        return int(self.samples.shape[1])


@dataclass
class Tables:
    """The rows of a data folder, by record where they belong to one."""

    folder: Path
    traces: list[Row]
    picks: dict[tuple[str, str], list[Row]] = field(default_factory=dict)
    teacher: dict[tuple[str, str], list[Row]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Tables":
        """Raises NoInputError if a table is missing."""
        teacher = folder / "teacher_picks.csv"
        return cls(
            folder,
            list(rows(folder / "traces.csv")),
            _by_record(rows(folder / "picks.csv")),
            _by_record(rows(teacher) if teacher.exists() else []),
        )

    def of(self, datasets: Iterable[str]) -> list[Row]:
        """Rows of `traces.csv` of these data sets; DataError names a set that has none."""
        wanted = set(datasets)
        missing = wanted - {row["dataset"] for row in self.traces}
        if missing:
            raise DataError(f"{self.folder}: no records of {', '.join(sorted(missing))}")
        return [row for row in self.traces if row["dataset"] in wanted]


def rows(path: Path) -> Iterator[Row]:
    """Rows of a CSV file; raises NoInputError or DataError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise NoInputError(f"cannot read the table {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable CSV table: {error}") from error


def _by_record(table: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in table:
        groups[row["dataset"], row["record_id"]].append(row)
    return dict(groups)


def blocks(samples: Samples) -> npt.NDArray[np.bool_]:
    """Which blocks of (..., C, n x 100) samples were recorded in full: bool (..., C, n)."""
    finite = np.isfinite(samples).reshape(*samples.shape[:-1], -1, BLOCK)
    whole: npt.NDArray[np.bool_] = np.all(finite, axis=-1)
    return whole


def load_record(
    tables: Tables, row: Row, cache: Path, *, native: bool = False, sure: float = 0.6
) -> Record:
    """One record with its arrivals; `native` takes the samples one for one as if at 100 Hz.

    The samples at 100 Hz are kept as .npy under `cache`. Raises DataError naming a bad file.
    """
    rate = Fraction(row["sampling_rate"]).limit_denominator(1000)
    per_second = float(rate) if native else float(MODEL_RATE)
    name = f"{row['record_id']}-{'native' if native else int(MODEL_RATE)}.npy"
    stored, source = cache / row["dataset"] / name, tables.folder / row["file"]
    if stored.exists() and stored.stat().st_mtime >= source.stat().st_mtime:
        samples = np.load(stored)
    else:
        samples = _read(source, row, rate)
        samples = samples if native else _resample(samples, rate)
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.save(stored, samples)
    key = row["dataset"], row["record_id"]
    start = datetime.fromisoformat(row["start"])
    manual: list[Arrival] = []
    automatic: list[Arrival] = []
    for pick in tables.picks.get(key, []):
        arrival = _arrival(pick, start, per_second)
        (manual if pick["evaluation"] == _COUNTED_MANUAL else automatic).append(arrival)
    teacher = [
        _arrival(pick, start, per_second, sure=float(pick["probability"]) >= sure)
        for pick in tables.teacher.get(key, [])
    ]
    return Record(
        row["dataset"],
        row["record_id"],
        samples,
        tuple(pair(manual, per_second)),
        tuple(pair(_merge(teacher, automatic, per_second), per_second)),
        row["kind"],
    )


def load_records(
    folder: Path,
    datasets: Iterable[str],
    cache: Path,
    *,
    native: Iterable[str] = (),
    sure: float = 0.6,
) -> list[Record]:
    """All records of these data sets as they will be fed to the network."""
    tables, one_for_one = Tables.read(folder), set(native)
    return [
        load_record(tables, row, cache, native=row["dataset"] in one_for_one, sure=sure)
        for row in tables.of(datasets)
    ]


def _read(path: Path, row: Row, rate: Fraction) -> Samples:
    """Samples at the recorded rate on one grid that begins at the row's start."""
    try:
        traces = obspy.read(path)
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot read the waveforms: {error}") from error
    start = obspy.UTCDateTime(row["start"])
    ends = [round((t.stats.starttime - start) * float(rate)) + t.stats.npts for t in traces]
    samples = np.full((3, max(ends)), np.nan, dtype=np.float32)
    for trace, end in zip(traces, ends, strict=True):
        component = _COMPONENT_INDEX.get(trace.stats.channel[-1:])
        if component is None:
            log.warning("component_skipped", file=str(path), channel=trace.stats.channel)
            continue
        first = end - trace.stats.npts
        samples[component, max(first, 0) : end] = trace.data[max(-first, 0) :]
    return samples


def _resample(samples: Samples, rate: Fraction) -> Samples:
    resampler = Resampler(rate)
    stop = samples.shape[1] * resampler.up // resampler.down
    return resample_range(samples, resampler, 0, stop)


def resample_range(samples: Samples, resampler: Resampler, start: int, stop: int) -> Samples:
    """Samples `start` to `stop` at 100 Hz; beyond the ends of `samples` nothing was recorded."""
    return resampler(take(samples, *resampler.input_range(start, stop)), start, stop).astype(
        np.float32
    )


def take(samples: Samples, start: int, stop: int) -> Samples:
    """samples[:, start:stop] where the range may reach beyond both ends; NaN there."""
    out = np.full((samples.shape[0], stop - start), np.nan, dtype=np.float32)
    first, last = max(start, 0), min(stop, samples.shape[1])
    if last > first:
        out[:, first - start : last - start] = samples[:, first:last]
    return out


def _arrival(pick: Row, start: datetime, per_second: float, *, sure: bool = True) -> Arrival:
    seconds = (datetime.fromisoformat(pick["time"]) - start).total_seconds()
    return Arrival(PHASE_INDEX[pick["phase"]], seconds * per_second, sure)


def _merge(teacher: list[Arrival], automatic: list[Arrival], per_second: float) -> list[Arrival]:
    """Teacher picks, and as doubtful what other programs picked where no sure teacher pick is."""
    near = _SAME_ARRIVAL_S * per_second
    sure = np.array([[a.phase, a.index] for a in teacher if a.sure]).reshape(-1, 2)
    extra = []
    for arrival in automatic:
        same = sure[sure[:, 0] == arrival.phase, 1]
        if not (np.abs(same - arrival.index) < near).any():
            extra.append(replace(arrival, sure=False))
    return teacher + extra


def pair(arrivals: Iterable[Arrival], per_second: float) -> list[Arrival]:
    """In order of time, with the same `event` number for a P and the first S before the next P."""
    ordered = sorted(arrivals, key=lambda arrival: arrival.index)
    paired: list[Arrival] = []
    for event, arrival in enumerate(ordered):
        number = event
        if arrival.phase == PHASE_INDEX["S"] and arrival.sure:
            before = [a for a in paired if a.sure]
            last = before[-1] if before else None
            soon = last and arrival.index - last.index <= _MAX_S_MINUS_P_S * per_second
            if last and soon and last.phase == PHASE_INDEX["P"]:
                number = last.event
        paired.append(replace(arrival, event=number))
    return paired


def quiet_stretches(record: Record, margin_samples: float) -> list[tuple[int, int]]:
    """Half-open sample ranges farther than the margin from every pick of the record."""
    known = sorted(a.index for a in (*record.arrivals, *record.pseudo))
    edges = [-margin_samples, *known, record.length + margin_samples]
    ranges = [
        (max(int(left + margin_samples), 0), min(int(right - margin_samples), record.length))
        for left, right in pairwise(edges)
    ]
    return [(first, last) for first, last in ranges if last > first]


def summary(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Per data set: records, station-hours, manual and sure pseudo arrivals of each phase."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        row = table[record.dataset]
        row["records"] += 1
        row["seconds"] += record.length // int(MODEL_RATE)
        for arrival in record.arrivals:
            row[f"manual_{'PS'[arrival.phase]}"] += 1
        for arrival in record.pseudo:
            if arrival.sure:
                row[f"pseudo_{'PS'[arrival.phase]}"] += 1
    return {name: dict(sorted(row.items())) for name, row in table.items()}
