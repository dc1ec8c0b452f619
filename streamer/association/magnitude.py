"""Local magnitude (ML) from the amplitudes of an event's picks.

An amplitude is the maximum, zero to peak, in mm of a Wood-Anderson seismograph, horizontal if
possible. Each station counts once, by its largest amplitude; the event has the median of stations.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.association.geodesy import Floats
from streamer.association.parameters import Attenuation, AttenuationName

# Static magnification of a Wood-Anderson seismograph (Uhrhammer & Collins, 1990): mm per mm of
# ground.
MAGNIFICATION = 2080.0
MM_PER_M = 1000.0
NEAREST_KM = 0.05  # nearer than this, the laws of attenuation say nothing
MAD_TO_SIGMA = 1.4826


def magnitude_terms(law: Attenuation, distance_km: Floats) -> Floats:
    """What to add to log10 of the amplitude (mm) at hypocentral distances in km."""
    r = np.maximum(distance_km, NEAREST_KM)
    result: Floats = (
        law.geometric * np.log10(r / law.reference_km)
        + law.anelastic_per_km * (r - law.reference_km)
        + law.at_reference
        + law.near * np.exp(-r / law.near_km)
    )
    return result


# Hutton & Boore (1987), southern California; the same with the term for distances of some km of
# Luckett et al. (2019), United Kingdom, also for induced events.
ATTENUATIONS: Final[Mapping[AttenuationName, Attenuation]] = MappingProxyType(
    {
        "hutton-boore-1987": Attenuation(geometric=1.110, anelastic_per_km=0.00189),
        "luckett-2019": Attenuation(
            geometric=1.110, anelastic_per_km=0.00189, near=-1.16, near_km=5.0
        ),
    }
)


def attenuation(choice: AttenuationName | Attenuation) -> Attenuation:
    """The attenuation by its name, or the one given."""
    return choice if isinstance(choice, Attenuation) else ATTENUATIONS[choice]


@dataclass(frozen=True, slots=True)
class Magnitude:
    """Median over stations, how far they spread (1 sigma by MAD, None for one), how many."""

    ml: float
    spread: float | None
    stations: int


def wood_anderson_mm(amplitude: float, unit: str | None, period_s: float | None = None) -> float:
    """An amplitude in mm of a Wood-Anderson seismograph; NaN if its unit cannot tell.

    `unit`: mm (of the seismograph, as REAL has it), m or nm (of ground), or m/s with a period.
    """
    if not (math.isfinite(amplitude) and amplitude > 0):
        return math.nan
    if unit == "mm":
        return amplitude
    if unit == "m/s" and period_s:
        amplitude, unit = amplitude * period_s / (2 * math.pi), "m"
    metres = {"m": 1.0, "nm": 1e-9}.get(unit or "")
    return math.nan if metres is None else amplitude * metres * MM_PER_M * MAGNIFICATION


def local_magnitude(
    amplitude_mm: Floats, station: NDArray[np.int32], distance_km: Floats, law: Attenuation
) -> Magnitude | None:
    """ML by the picks of an event, arrays [pick]; None without any amplitude.

    `amplitude_mm` is NaN or not positive where there is none; `distance_km` is hypocentral.
    """
    known = np.isfinite(amplitude_mm) & (amplitude_mm > 0)
    if not known.any():
        return None
    magnitudes = np.log10(amplitude_mm[known]) + magnitude_terms(law, distance_km[known])
    of_station: dict[int, float] = {}
    for one, magnitude in zip(station[known].tolist(), magnitudes.tolist(), strict=True):
        of_station[one] = max(magnitude, of_station.get(one, magnitude))
    median = statistics.median(of_station.values())
    spread = MAD_TO_SIGMA * statistics.median(abs(each - median) for each in of_station.values())
    return Magnitude(median, spread if len(of_station) > 1 else None, len(of_station))
