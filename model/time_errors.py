"""How far an onset time may be off: one standard deviation by phase and probability.

Calibrated for each network on the residuals of manual picks, and kept in its card.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PhaseErrors:
    """`sigma_s[n]` holds for probabilities from `prob_from[n]` on; the first one for all below."""

    prob_from: tuple[float, ...]
    sigma_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.sigma_s) != len(self.prob_from) or not self.sigma_s:
            raise ValueError("the table of time errors does not fit its classes")


@dataclass(frozen=True, slots=True)
class TimeErrors:
    """The table of each phase; `source` says what they were calibrated with, for people."""

    phases: Mapping[str, PhaseErrors] = field(default_factory=dict)
    source: str = ""

    def sigma_s(self, phase: str, probability: float) -> float | None:
        """Standard deviation of an onset, s; None if it is not known."""
        errors = self.phases.get(phase)
        if errors is None:
            return None
        return errors.sigma_s[max(bisect_right(errors.prob_from, probability) - 1, 0)]

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "TimeErrors":
        """From a card. Raises KeyError, TypeError or ValueError."""
        phases = {
            phase: PhaseErrors(
                tuple(map(float, table["prob_from"])), tuple(map(float, table["sigma_s"]))
            )
            for phase, table in facts["phases"].items()
        }
        return cls(phases, str(facts["source"]))


NO_TIME_ERRORS = TimeErrors()
