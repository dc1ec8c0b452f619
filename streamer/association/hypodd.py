"""Files of hypoDD: phases, stations and differential times after ph2dt's rules; running it.

hypoDD and ph2dt (Waldhauser, 2001) are programs of others, run where they are installed; without
ph2dt the differential times are ours, paired by its rules.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from streamer.association.external import find_program, run_program
from streamer.association.geodesy import Floats, distances_km
from streamer.association.message import Arrival, Event
from streamer.association.parameters import HypoddParameters
from streamer.association.stations import Station
from streamer.association.tables import read_text
from streamer.association.velocity import LayeredModel
from streamer.errors import DataError
from streamer.timebase import NS_PER_MS, NS_PER_S, iso, parse_iso

# Station codes have seven characters at most; models so many layers.
CODE_LENGTH, MOST_LAYERS = 7, 12
NO_MAGNITUDE = -9.0
KM_PER_DEG = 111.1949266  # as ph2dt has it
# Travel times of two events may differ by separation / speed and this much; else one is an outlier.
OUTLIER_KM_S, OUTLIER_S = {"P": 4.0, "S": 2.3}, 0.5
PHASES, STATIONS, TIMES, EVENTS = "phase.dat", "station.dat", "dt.ct", "event.sel"
DEFAULT_TIMEOUT_S = 3600.0

Labels = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two events, by number from 1, and links: label, both travel times (s), weight, phase."""

    first: int
    second: int
    links: tuple[tuple[str, float, float, float, str], ...]


def station_labels(codes: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A label of seven characters for each network and station code, the station code if it can be.

    Codes that do not fit, or that two networks have, get a number at the end.
    """
    labels: dict[tuple[str, str], str] = {}
    taken = {sta for _, sta in codes if len(sta) <= CODE_LENGTH}
    seen: set[str] = set()
    for net, sta in codes:
        label = sta
        if label in seen or len(label) > CODE_LENGTH:
            number = 1
            while (label := f"{sta[: CODE_LENGTH - 3]}_{number:02d}") in seen | taken:
                number += 1
        seen.add(label)
        labels[net, sta] = label
    return labels


def phase_lines(events: Sequence[Event], labels: Labels, deeper_km: float = 0.0) -> Iterator[str]:
    """Lines of hypoDD's phase file; events are numbered from 1, `deeper_km` is added to depths."""
    for number, event in enumerate(events, 1):
        t_ns = rounded_ns(event)
        time = datetime.fromtimestamp(t_ns // NS_PER_S, UTC)
        magnitude = NO_MAGNITUDE if event.mag is None else event.mag
        yield (
            f"# {time:%Y %m %d %H %M} {t_ns % (60 * NS_PER_S) / NS_PER_S:6.3f} {event.lat:9.5f} "
            f"{event.lon:10.5f} {event.depth_km + deeper_km:7.3f} {magnitude:5.2f} "
            f"{event.major_error_km:.3f} {event.depth_error_km:.3f} {event.rms_s:.3f} {number:9d}"
        )
        for arrival in event.arrivals:
            label, time_s = labels[arrival.net, arrival.sta], travel_s(event, arrival)
            yield f"{label:<7s} {time_s:8.3f} {arrival.weight:5.3f} {arrival.phase}"


def rounded_ns(event: Event) -> int:
    """The origin time at the millisecond that is written, so that none is at 60 s."""
    return (event.t_ns + NS_PER_MS // 2) // NS_PER_MS * NS_PER_MS


def travel_s(event: Event, arrival: Arrival) -> float:
    """From the origin time as written to the pick."""
    return (parse_iso(arrival.time) - rounded_ns(event)) / NS_PER_S


def pairs(
    events: Sequence[Event], stations: Sequence[Station], rules: HypoddParameters
) -> Iterator[Pair]:
    """Pairs of events with their links, as ph2dt chooses them.

    Each event in turn looks at others from the nearest on, up to the greatest separation, until it
    has enough neighbours: events with which it has the least number of links.
    """
    labels = station_labels([station.code for station in stations])
    places = {labels[station.code]: (station.lat, station.lon) for station in stations}
    numbers = [n for n, event in enumerate(events) if len(event.arrivals) >= rules.least_links]
    observed = [_observed(event, labels, rules.least_weight) for event in events]
    lat, lon, depth_km = (
        np.array([getattr(events[n], name) for n in numbers]) for name in ("lat", "lon", "depth_km")
    )
    strong: dict[tuple[int, int], bool] = {}
    for i, number in enumerate(numbers):
        apart_km = _separation_km(i, lat, lon, depth_km)
        neighbours = 0
        for k in np.argsort(apart_km, kind="stable")[:-1].tolist():
            if neighbours >= rules.most_neighbours:
                break
            known = strong.get((k, i))
            if known is not None:
                neighbours += known
                continue
            if apart_km[k] > rules.greatest_separation_km:
                break
            links = _links(
                observed[number], observed[numbers[k]], float(apart_km[k]), places,
                (0.5 * (lat[i] + lat[k]), 0.5 * (lon[i] + lon[k])), rules,
            )  # fmt: skip
            if len(links) >= rules.least_links:
                yield Pair(number + 1, numbers[k] + 1, tuple(links[: rules.most_links]))
            strong[i, k] = len(links) >= rules.neighbour_links
            neighbours += strong[i, k]


_Observed = dict[tuple[str, str], tuple[float, float]]


def _observed(event: Event, labels: Labels, least_weight: float) -> _Observed:
    """Travel time and weight by label and phase."""
    return {
        (labels[arrival.net, arrival.sta], arrival.phase): (
            travel_s(event, arrival),
            arrival.weight,
        )
        for arrival in event.arrivals
        if arrival.weight >= least_weight and (arrival.net, arrival.sta) in labels
    }


def _separation_km(i: int, lat: Floats, lon: Floats, depth_km: Floats) -> Floats:
    """Distances [event] of the hypocentres from that of event i, of itself inf."""
    north = (lat[i] - lat) * KM_PER_DEG
    east = (lon[i] - lon) * KM_PER_DEG * np.cos(np.radians(lat[i]))
    apart: Floats = np.sqrt(north**2 + east**2 + (depth_km[i] - depth_km) ** 2)
    apart[i] = np.inf
    return apart


def _links(
    first: _Observed,
    second: _Observed,
    apart_km: float,
    places: Mapping[str, tuple[float, float]],
    between: tuple[float, float],
    rules: HypoddParameters,
) -> list[tuple[str, float, float, float, str]]:
    """What both events have observed, stations near the point between them first."""
    common = [path for path in first if path in second]
    if not common:
        return []
    lat, lon = (np.array([places[label][axis] for label, _ in common]) for axis in (0, 1))
    away_km = distances_km(np.array([between[0]]), np.array([between[1]]), lat, lon)[0]
    links = []
    for n in np.argsort(away_km, kind="stable"):
        label, phase = common[n]
        (time_s, weight), (other_s, other_weight) = first[common[n]], second[common[n]]
        outlier = abs(time_s - other_s) > apart_km / OUTLIER_KM_S[phase] + OUTLIER_S
        if away_km[n] <= rules.greatest_distance_km and not outlier:
            links.append((label, time_s, other_s, 0.5 * (weight + other_weight), phase))
    return links


def write_files(
    folder: Path,
    events: Sequence[Event],
    stations: Sequence[Station],
    model: LayeredModel,
    rules: HypoddParameters,
) -> float:
    """All that ph2dt and hypoDD read: phases, stations, differential times, events, control files.

    hypoDD has no depths above its zero: returns how far below the highest source or station (km
    above sea level) ours is, which `read_relocated` takes off again.
    """
    heights = [-event.depth_km for event in events]
    deeper_km: float = max(0.0, *heights, *(-top for top in model.top_km[:1].tolist()))
    labels = station_labels([station.code for station in stations])
    _write(folder / PHASES, phase_lines(events, labels, deeper_km))
    _write(
        folder / STATIONS,
        (f"{labels[one.code]:<7s} {one.lat:.6f} {one.lon:.6f}" for one in stations),
    )
    _write(folder / TIMES, _time_lines(pairs(events, stations, rules)))
    _write(folder / EVENTS, _event_lines(events, deeper_km))
    limits = (
        f"{rules.least_weight:g} {rules.greatest_distance_km:g} {rules.greatest_separation_km:g} "
        f"{rules.most_neighbours} {rules.neighbour_links} {rules.least_links} {rules.most_links}"
    )
    _write(folder / "ph2dt.inp", [STATIONS, PHASES, limits])
    _write(folder / "hypoDD.inp", _control_lines(model, rules, deeper_km))
    return deeper_km


def _write(path: Path, lines: Iterator[str] | Sequence[str]) -> None:
    with path.open("w", encoding="ascii") as file:
        file.writelines(f"{line}\n" for line in lines)


def _time_lines(paired: Iterator[Pair]) -> Iterator[str]:
    for pair in paired:
        yield f"# {pair.first:9d} {pair.second:9d}"
        for label, time_s, other_s, weight, phase in pair.links:
            yield f"{label:<7s} {time_s:7.3f} {other_s:7.3f} {weight:6.4f} {phase}"


def _event_lines(events: Sequence[Event], deeper_km: float) -> Iterator[str]:
    for number, event in enumerate(events, 1):
        t_ns = rounded_ns(event)
        time = datetime.fromtimestamp(t_ns // NS_PER_S, UTC)
        hundredths = t_ns % (60 * NS_PER_S) // (10 * NS_PER_MS)
        magnitude = NO_MAGNITUDE if event.mag is None else event.mag
        yield (
            f"{time:%Y%m%d}  {time:%H%M}{hundredths:04d}  {event.lat:8.4f}  {event.lon:9.4f}  "
            f"{event.depth_km + deeper_km:9.3f}  {magnitude:5.2f}  {event.major_error_km:6.2f}  "
            f"{event.depth_error_km:6.2f}  {event.rms_s:5.2f} {number:10d}"
        )


def _control_lines(model: LayeredModel, rules: HypoddParameters, deeper_km: float) -> list[str]:
    """hypoDD.inp (form of versions 1 and 2): catalogue times of P and S, least squares by LSQR."""
    tops = np.maximum(model.top_km[:MOST_LAYERS] + deeper_km, 0.0)
    tops[0] = 0.0
    ratio = float(np.mean(model.vp_km_s / model.vs_km_s))
    far_km = rules.greatest_separation_km
    weights = [(-9.0, 8.0), (far_km, 6.0), (far_km / 2, 4.0), (far_km / 2, 3.0)]
    return [
        "* cross-correlation times, catalogue times, events, stations:",
        "", TIMES, EVENTS, STATIONS,
        "* output: locations before, after, stations, residuals, sources:",
        "hypoDD.loc", "hypoDD.reloc", "hypoDD.sta", "hypoDD.res", "hypoDD.src",
        "* IDAT IPHA DIST", f"2 3 {rules.greatest_distance_km:g}",
        "* OBSCC OBSCT", f"0 {rules.least_links}",
        "* ISTART ISOLV NSET", f"2 2 {len(weights)}",
        "* NITER WTCCP WTCCS WRCC WDCC WTCTP WTCTS WRCT WDCT DAMP",
        *(
            f"4 -9 -9 -9 -9 1 {0.8 if n > 1 else 1:g} {outlier:g} {apart_km:g} {rules.damping:g}"
            for n, (apart_km, outlier) in enumerate(weights)
        ),
        "* NLAY RATIO", f"{len(tops)} {ratio:.3f}",
        "* TOP", " ".join(f"{top:.3f}" for top in tops),
        "* VEL", " ".join(f"{speed:.3f}" for speed in model.vp_km_s[:MOST_LAYERS]),
        "* CID", "0",
        "* ID",
    ]  # fmt: skip


def run_hypodd(folder: Path, deeper_km: float, timeout_s: float = DEFAULT_TIMEOUT_S) -> Floats:
    """Run hypoDD on the files in a folder; what `read_relocated` returns.

    ph2dt pairs the events if it is installed, else the pairs are those of `write_files`. Raises
    ConfigError without hypoDD, MsnetError with the program's output if one fails.
    """
    program = find_program("hypoDD", "use the method dd, which needs no other program")
    run_program([program, "hypoDD.inp"], folder, timeout_s)
    return read_relocated(folder / "hypoDD.reloc", deeper_km)


def run_ph2dt(folder: Path, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """Let ph2dt pair the events of a folder instead. Raises as `run_hypodd`."""
    program = find_program("ph2dt", "leave the pairing to msnet-stream")
    run_program([program, "ph2dt.inp"], folder, timeout_s)


RELOCATED_COLUMNS = 24


def read_relocated(path: Path, deeper_km: float = 0.0) -> Floats:
    """Relocated events, [event, column]: number, lat, lon (deg), depth (km), POSIX s, errors (km).

    The three errors are along east, north and down; NaN where hypoDD has none. Raises NoInputError,
    DataError.
    """
    rows = []
    for line_number, line in enumerate(read_text(path).splitlines(), 1):
        cells = line.split()
        try:
            if len(cells) != RELOCATED_COLUMNS:
                raise ValueError(f"{len(cells)} columns instead of {RELOCATED_COLUMNS}")
            lat, lon, depth_km = map(float, cells[1:4])
            errors_km = [_metres(cell) / 1000 for cell in cells[7:10]]
            year, month, day = map(int, cells[10:13])
            midnight = datetime(year, month, day, tzinfo=UTC)
            hour, minute, second = map(float, cells[13:16])
            time_s = midnight.timestamp() + 3600 * hour + 60 * minute + second
            rows.append([int(cells[0]), lat, lon, depth_km - deeper_km, time_s, *errors_km])
        except ValueError as error:
            raise DataError(f"{path} line {line_number} is not hypoDD's: {error}") from error
    return np.array(rows, np.float64).reshape(-1, 8)


def _metres(cell: str) -> float:
    """An error; hypoDD writes asterisks where it does not fit."""
    return float("nan") if "*" in cell else float(cell)


def with_relocations(events: Sequence[Event], relocated: Floats) -> list[Event]:
    """The events that hypoDD relocated, at their new places and times, with its errors if any."""
    moved = []
    for number, lat, lon, depth_km, time_s, *errors_km in relocated.tolist():
        event = events[int(number) - 1]
        t_ns = round(time_s * 1000) * NS_PER_MS
        names = ("lon_error_km", "lat_error_km", "depth_error_km")
        known = {
            name: error
            for name, error in zip(names, errors_km, strict=True)
            if not math.isnan(error)
        }
        moved.append(
            replace(
                event, lat=lat, lon=lon, depth_km=depth_km, t_ns=t_ns, time=iso(t_ns),
                relocated_by="hypodd", **known,
            )
        )  # fmt: skip
    return moved
