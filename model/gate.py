"""Where the finer half of the decoder may be left out: where its coarsest map shows nothing.

The gate is fitted to the finished network (`train.gates`) and looks at one cell of that map, 0.2 s,
and the one before it: a network of one hidden layer. Cells score above its floor wherever a
probability of P or S reaches `trusted_from`, with a wide margin; for lower thresholds it must not
be used.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# What a cell lets through: itself, and as many cells behind it.
BEHIND_CELLS = 2
HIDDEN = 16


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """`floor`: scores below let nothing through. `trusted_from`: the lowest threshold for onsets.

    `hidden` units.
    """

    floor: float
    trusted_from: float
    hidden: int = HIDDEN


class Gate(nn.Module):
    """Scores of the cells of the coarsest map of the decoder."""

    def __init__(self, channels: int, config: GateConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(2 * channels, config.hidden)
        self.score = nn.Linear(config.hidden, 1)

    def forward(self, cells: Tensor) -> Tensor:
        """(..., 1 + n, channels) -> scores (..., n) of all cells but the first."""
        pairs = torch.cat([cells[..., :-1, :], cells[..., 1:, :]], dim=-1)
        scores: Tensor = self.score(nn.functional.gelu(self.hidden(pairs)))[..., 0]
        return scores

    @torch.inference_mode()
    def open(self, cells: Tensor) -> Tensor:
        """(..., 1 + n, channels) -> whether something may be there, bool (..., n)."""
        opened: Tensor = self.forward(cells) >= self.config.floor
        return opened
