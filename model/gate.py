"""Where the finer half of the decoder may be left out: where its coarsest map shows nothing.

The gate is fitted to the finished network (`train.gates`) and looks at one cell of that map, 0.2 s,
and the one before it: a network of one hidden layer. Wherever a probability of P or S reaches a
threshold, cells score above the floor of that threshold, with a wide margin; for thresholds below
all that have a floor it must not be used.
"""

from copy import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

# What a cell lets through: itself, and as many cells behind it.
BEHIND_CELLS = 2
HIDDEN = 16


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """`floors`: pairs of a threshold of onsets and the score below which nothing is let through.

    Both ascending: the higher the onsets that are asked for, the less has to be decoded. `hidden`
    units. Raises ValueError for floors that do not ascend, or none.
    """

    floors: tuple[tuple[float, float], ...]
    hidden: int = HIDDEN

    def __post_init__(self) -> None:
        ascending = zip(*self.floors, strict=True)
        if not self.floors or any(sorted(each) != list(each) for each in ascending):
            raise ValueError(f"the floors of the gate do not ascend: {self.floors}")


class Gate(nn.Module):
    """Scores of the cells of the coarsest map of the decoder; opens at those from `floor` on.

    The floor is that of the lowest threshold, which holds for all: see `at`.
    """

    def __init__(self, channels: int, config: GateConfig) -> None:
        super().__init__()
        self.config = config
        self.floor = config.floors[0][1]
        self.hidden = nn.Linear(2 * channels, config.hidden)
        self.score = nn.Linear(config.hidden, 1)

    def forward(self, cells: Tensor) -> Tensor:
        """(..., 1 + n, channels) -> scores (..., n) of all cells but the first."""
        pairs = torch.cat([cells[..., :-1, :], cells[..., 1:, :]], dim=-1)
        scores: Tensor = self.score(nn.functional.gelu(self.hidden(pairs)))[..., 0]
        return scores

    def at(self, threshold: float) -> Self | None:
        """The gate for onsets from `threshold` on; None if it cannot be trusted with them."""
        holding = [floor for least, floor in self.config.floors if least <= threshold]
        if not holding:
            return None
        gate = copy(self)
        gate.floor = holding[-1]
        return gate

    @torch.inference_mode()
    def open(self, cells: Tensor) -> Tensor:
        """(..., 1 + n, channels) -> whether something may be there, bool (..., n)."""
        opened: Tensor = self.forward(cells) >= self.floor
        return opened
