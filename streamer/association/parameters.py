"""What can be set of association; it is part of the configuration like everything else."""

from streamer.config_association import (
    AssociationConfig,
    BestParameters,
    HypoddParameters,
    RealParameters,
    RelocationParameters,
)

__all__ = [
    "AssociationConfig",
    "BestParameters",
    "HypoddParameters",
    "RealParameters",
    "RelocationParameters",
]
