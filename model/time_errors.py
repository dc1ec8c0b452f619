"""How far an onset time may be off: one standard deviation by phase, probability and SNR.

Calibrated for each network on the residuals of manual picks; kept in its card.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class PhaseErrors:
    """`sigma_s[i][j]` holds for probabilities in class i and signal-to-noise ratios in class j.

    A class begins at its limit in `prob_from` or `snr_from`; below the first one the first holds.
    """

    prob_from: tuple[float, ...]
    snr_from: tuple[float, ...]
    sigma_s: Table

    def __post_init__(self) -> None:
        shape = {len(row) for row in self.sigma_s}
        if len(self.sigma_s) != len(self.prob_from) or shape != {len(self.snr_from)}:
            raise ValueError("the table of time errors does not fit its classes")

    def at(self, probability: float, snr: float) -> float:
        """Standard deviation, s."""
        row = self.sigma_s[max(bisect_right(self.prob_from, probability) - 1, 0)]
        return row[max(bisect_right(self.snr_from, snr) - 1, 0)]


@dataclass(frozen=True, slots=True)
class TimeErrors:
    """The tables of a network; `source` says what they were calibrated with, for people."""

    phases: Mapping[str, PhaseErrors] = field(default_factory=dict)
    source: str = ""

    def sigma_s(self, phase: str, probability: float, snr: float | None) -> float | None:
        """Standard deviation of an onset, s; None if it is not known."""
        errors = self.phases.get(phase)
        return None if errors is None or snr is None else errors.at(probability, snr)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "TimeErrors":
        """From a card. Raises KeyError, TypeError or ValueError."""
        phases = {
            phase: PhaseErrors(
                prob_from=tuple(map(float, table["prob_from"])),
                snr_from=tuple(map(float, table["snr_from"])),
                sigma_s=tuple(tuple(map(float, row)) for row in table["sigma_s"]),
            )
            for phase, table in facts["phases"].items()
        }
        return cls(phases, str(facts["source"]))


NO_TIME_ERRORS = TimeErrors()
