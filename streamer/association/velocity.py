"""Velocity models of flat homogeneous layers: a csv table or YAML."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from streamer.association.geodesy import Floats
from streamer.association.stations import Station
from streamer.association.tables import csv_rows, read_text
from streamer.errors import ConfigError, DataError

COLUMNS = ("top_km", "vp_km_s", "vs_km_s")

# Wider than any rock or soil; a value outside is a mistake of units.
SLOWEST_KM_S, FASTEST_KM_S = 0.05, 15.0


@dataclass(frozen=True, slots=True)
class LayeredModel:
    """Layers from top to bottom: depth of the top below sea level (km), P and S velocity (km/s).

    Arrays [layer] float64. The last layer has no bottom; the first one reaches up to stations
    and sources above its top.
    """

    top_km: Floats
    vp_km_s: Floats
    vs_km_s: Floats

    def __post_init__(self) -> None:
        if not len(self.top_km):
            raise ValueError("there is no layer")
        if np.any(np.diff(self.top_km) <= 0):
            raise ValueError("top_km must increase from layer to layer")
        for name in COLUMNS[1:]:
            values = getattr(self, name)
            if not np.all((values >= SLOWEST_KM_S) & (values <= FASTEST_KM_S)):
                raise ValueError(f"{name} must be {SLOWEST_KM_S:g}..{FASTEST_KM_S:g} km/s")
        if np.any(self.vs_km_s >= self.vp_km_s):
            raise ValueError("vs_km_s must be less than vp_km_s in every layer")

    @classmethod
    def from_layers(cls, layers: Iterable[tuple[float, float, float]]) -> "LayeredModel":
        """From (top_km, vp_km_s, vs_km_s) per layer. Raises ValueError."""
        table = np.array(list(layers), np.float64).reshape(-1, 3)
        if not np.all(np.isfinite(table)):
            raise ValueError("a value is not a finite number")
        return cls(*(np.ascontiguousarray(column) for column in table.T))

    def require_cover(self, stations: Iterable[Station]) -> None:
        """Raise ConfigError if the first layer begins below sea level and below a station."""
        highest = max(stations, key=lambda station: station.elev_km)
        if self.top_km[0] > max(0.0, highest.depth_km):
            raise ConfigError(
                f"the velocity model begins {self.top_km[0]:g} km below sea level, but station "
                f"{highest.net}.{highest.sta} is at {highest.depth_km:g} km: add the layers above"
            )


def read_velocity_model(path: Path) -> LayeredModel:
    """Layers of a csv table or YAML list (`layers:`) of top_km, vp_km_s, vs_km_s.

    A model with a wrong layer is another model, so nothing is left out: raises NoInputError, or
    DataError naming what is wrong.
    """
    text = read_text(path)
    try:
        if path.suffix.lower() in {".yaml", ".yml"}:
            rows = _yaml_rows(path, text)
        else:
            rows = [row for _, row in csv_rows(path, text, COLUMNS)]
        return LayeredModel.from_layers(
            (float(row["top_km"]), float(row["vp_km_s"]), float(row["vs_km_s"])) for row in rows
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"velocity model {path}: {error}") from error
    except KeyError as error:
        raise DataError(f"velocity model {path}: a layer lacks {error.args[0]}") from error


def _yaml_rows(path: Path, text: str) -> list[Mapping[str, str]]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"velocity model {path} is not YAML: {error}") from error
    layers = document.get("layers") if isinstance(document, dict) else document
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise DataError(
            f"velocity model {path}: expected a list of layers, each with {', '.join(COLUMNS)}"
        )
    return layers
