"""Where the sensors are and what a count means: StationXML, FDSN station text, or a csv table."""

import csv
import io
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import DataError, NoInputError
from streamer.seedid import Nslc
from streamer.timebase import parse_iso

# Input units of a response as StationXML writes them, and as a pick does.
_UNITS = {"M": "m", "M/S": "m/s", "M/S**2": "m/s^2", "M/(S**2)": "m/s^2", "M/S/S": "m/s^2"}
COUNTS = "counts"

# Columns of a csv table; the first name is ours, the others are common.
_COLUMNS = {
    "net": ("net", "network"),
    "sta": ("sta", "station"),
    "loc": ("loc", "location"),
    "cha": ("cha", "channel", "chan"),
    "lat": ("lat", "latitude"),
    "lon": ("lon", "longitude"),
    "elev_m": ("elev_m", "elevation_m", "elevation", "elev"),
    "elev_km": ("elev_km",),
    "gain": ("gain", "scale"),
    "unit": ("unit", "scaleunits"),
    "start": ("start", "starttime"),
    "end": ("end", "endtime"),
}
_ANY = "*"
_EVER_NS = (-(1 << 62), 1 << 62)


@dataclass(frozen=True, slots=True)
class Place:
    """A sensor: WGS 84 position in deg, elevation in m, and counts per `unit` if known."""

    lat: float | None = None
    lon: float | None = None
    elev_m: float | None = None
    gain: float | None = None
    ground_unit: str | None = None

    def __post_init__(self) -> None:
        for value, most in ((self.lat, 90), (self.lon, 360), (self.elev_m, 13_000)):
            if value is not None and not abs(value) <= most:
                raise ValueError(f"{value} is no place on Earth")

    @property
    def unit(self) -> str:
        """Unit of `ground`."""
        return COUNTS if self.gain is None or self.ground_unit is None else self.ground_unit

    def ground(self, counts: float | None) -> float | None:
        """An amplitude in `unit`."""
        if counts is None or self.gain is None or self.unit == COUNTS:
            return counts
        return counts / self.gain


_NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class _Epoch:
    start_ns: int
    end_ns: int
    place: Place


class Inventory:
    """Places of channels by time; of a station where its channels are not named."""

    def __init__(self, epochs: Iterable[tuple[Nslc, int, int, Place]] = ()) -> None:
        self._epochs: dict[Nslc, list[_Epoch]] = {}
        for nslc, start_ns, end_ns, place in epochs:
            self._epochs.setdefault(nslc, []).append(_Epoch(start_ns, end_ns, place))
        for own in self._epochs.values():
            own.sort(key=lambda epoch: epoch.start_ns)

    def __len__(self) -> int:
        return len(self._epochs)

    def find(self, nslc: Nslc, t_ns: int) -> Place:
        """The place of a channel at a time; empty if it is not known."""
        named = Nslc(nslc.network, nslc.station, _ANY, _ANY)
        return self._at(nslc, t_ns) or self._at(named, t_ns) or _NOWHERE

    def _at(self, nslc: Nslc, t_ns: int) -> Place | None:
        own = self._epochs.get(nslc, [])
        number = bisect_right(own, t_ns, key=lambda epoch: epoch.start_ns) - 1
        if number < 0 or t_ns >= own[number].end_ns:
            return None
        return own[number].place


NO_INVENTORY = Inventory()


def read_inventory(paths: Iterable[Path]) -> Inventory:
    """All files together. Raises NoInputError, and DataError for one that is no inventory."""
    return Inventory(epoch for path in paths for epoch in _read(path))


def _read(path: Path) -> Iterator[tuple[Nslc, int, int, Place]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NoInputError(f"cannot read inventory {path}: {error.strerror}") from error
    try:
        rows = list(_station_xml(data) if data.lstrip()[:1] == b"<" else _table(data.decode()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no StationXML, FDSN station text or csv: {error}") from error
    if not rows:
        raise DataError(f"inventory {path} names no station")
    return iter(rows)


def _station_xml(data: bytes) -> Iterator[tuple[Nslc, int, int, Place]]:
    import obspy  # takes a second: only with an inventory
    from obspy.core.inventory.inventory import Inventory as ObspyInventory

    try:
        inventory: ObspyInventory = obspy.read_inventory(io.BytesIO(data))
    except Exception as error:
        raise ValueError(error) from error
    for network in inventory:
        for station in network:
            if not station.channels:
                place = Place(station.latitude, station.longitude, station.elevation)
                nslc = Nslc(network.code, station.code, _ANY, _ANY)
                yield nslc, *_span(station), place
            for channel in station:
                sensitivity = channel.response and channel.response.instrument_sensitivity
                place = Place(
                    channel.latitude,
                    channel.longitude,
                    channel.elevation,
                    *_gain(
                        sensitivity and sensitivity.value, sensitivity and sensitivity.input_units
                    ),
                )
                nslc = Nslc(network.code, station.code, channel.location_code, channel.code)
                yield nslc, *_span(channel), place


def _span(epoch: object) -> tuple[int, int]:
    start, end = getattr(epoch, "start_date", None), getattr(epoch, "end_date", None)
    return (start.ns if start else _EVER_NS[0]), (end.ns if end else _EVER_NS[1])


def _gain(value: object, unit: object) -> tuple[float | None, str | None]:
    """Counts per unit of ground motion; nothing for units that are no ground motion."""
    ground_unit = _UNITS.get(str(unit or "").upper())
    gain = abs(float(str(value))) if value else 0.0
    return (gain, ground_unit) if ground_unit and gain > 0 and math.isfinite(gain) else (None, None)


def _table(text: str) -> Iterator[tuple[Nslc, int, int, Place]]:
    """Rows of FDSN station text (`#Network|...`) or of a csv table with a header."""
    lines = text.removeprefix("\ufeff").lstrip("# ").splitlines()
    separator = "|" if lines and "|" in lines[0] else ","
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True, restval="")
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    names = {
        ours: next((name for name in known if name in reader.fieldnames), None)
        for ours, known in _COLUMNS.items()
    }
    missing = [name for name in ("net", "sta", "lat", "lon") if names[name] is None]
    if missing:
        raise ValueError(f"the header lacks {', '.join(missing)}")
    for row in reader:
        cells = {ours: (row[name] or "").strip() if name else "" for ours, name in names.items()}
        try:
            yield _row(cells)
        except ValueError as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error


def _row(cells: dict[str, str]) -> tuple[Nslc, int, int, Place]:
    location, channel = cells["loc"].replace("-", ""), cells["cha"]
    if not (cells["net"] and cells["sta"]):
        raise ValueError("network or station code is empty")
    nslc = Nslc(cells["net"], cells["sta"], location if channel else _ANY, channel or _ANY)
    elev_m = float(cells["elev_m"]) if cells["elev_m"] else None
    if cells["elev_km"]:
        elev_m = 1000 * float(cells["elev_km"])
    start_ns = parse_iso(cells["start"]) if cells["start"] else _EVER_NS[0]
    end_ns = parse_iso(cells["end"]) if cells["end"] else _EVER_NS[1]
    gain = _gain(cells["gain"], cells["unit"])
    return nslc, start_ns, end_ns, Place(float(cells["lat"]), float(cells["lon"]), elev_m, *gain)
