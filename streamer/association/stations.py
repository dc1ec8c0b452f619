"""Where the stations are: a csv table or StationXML."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamer.association.tables import Rejections, csv_rows, read_text
from streamer.errors import DataError

COLUMNS = ("net", "sta", "lat", "lon", "elev_km")

# No sensor is deeper than the deepest mine and borehole or higher than the highest mountain.
LOWEST_KM, HIGHEST_KM = -13.0, 9.0


@dataclass(frozen=True, slots=True)
class Station:
    """A station: codes, geodetic position (deg) and elevation of the sensor above sea level (km).

    A sensor in a mine or borehole has the elevation of its place, negative below sea level.
    """

    net: str
    sta: str
    lat: float
    lon: float
    elev_km: float = 0.0

    def __post_init__(self) -> None:
        if not (self.net and self.sta):
            raise ValueError("network or station code is empty")
        if not (abs(self.lat) <= 90 and abs(self.lon) <= 360):
            raise ValueError("no such place (latitude, longitude in degrees)")
        if not LOWEST_KM <= self.elev_km <= HIGHEST_KM:
            raise ValueError(f"elevation not in {LOWEST_KM:g}..{HIGHEST_KM:g} km")

    @property
    def code(self) -> tuple[str, str]:
        """Network and station code: what a pick names."""
        return self.net, self.sta

    @property
    def depth_km(self) -> float:
        """Depth of the sensor below sea level in km."""
        return -self.elev_km


def read_stations(path: Path) -> list[Station]:
    """Stations of a csv table (net, sta, lat, lon, elev_km) or of StationXML, in file order.

    A row that cannot be used is left out with a warning; of several rows with one code the last
    counts. Raises NoInputError and DataError, the latter also if no station is left.
    """
    text = read_text(path)
    rejections = Rejections(path)
    is_xml = text.lstrip().startswith("<")
    rows = _station_xml(path, text) if is_xml else csv_rows(path, text, COLUMNS)
    stations: dict[tuple[str, str], Station] = {}
    for line, row in rows:
        try:
            station = _station(row)
        except ValueError as error:
            rejections.add(str(error), line)
            continue
        if stations.get(station.code, station) != station:
            rejections.add("an earlier row has the same code at another place", line)
        stations[station.code] = station
    rejections.report()
    if not stations:
        raise DataError(f"{path} has no station ({rejections.summary() or 'it is empty'})")
    return list(stations.values())


def _station(row: dict[str, str]) -> Station:
    try:
        lat, lon, elev_km = (float(row[name] or "nan") for name in COLUMNS[2:])
    except ValueError:
        raise ValueError("a coordinate is not a number") from None
    if math.isnan(lat + lon + elev_km):
        raise ValueError("a coordinate is missing")
    return Station(row["net"], row["sta"], lat, lon, elev_km)


def _station_xml(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of StationXML, numbered by station; the elevation of a channel is that of its sensor."""
    try:
        root = ET.fromstring(text.encode())
    except ET.ParseError as error:
        raise DataError(f"{path} is not StationXML: {error}") from error
    number = 0
    for network in root.iterfind("{*}Network"):
        for station in network.iterfind("{*}Station"):
            number += 1
            channel = station.find("{*}Channel")
            place = station if channel is None else channel
            row = {"net": network.get("code", ""), "sta": station.get("code", "")}
            row["lat"] = place.findtext("{*}Latitude", "")
            row["lon"] = place.findtext("{*}Longitude", "")
            row["elev_km"] = _km(place.findtext("{*}Elevation", ""))
            yield number, row


def _km(elevation_m: str) -> str:
    try:
        return str(float(elevation_m) / 1000)
    except ValueError:
        return elevation_m and "not a number"
