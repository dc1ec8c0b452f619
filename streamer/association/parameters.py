"""What can be set of association; it is part of the configuration like everything else."""

from streamer.config_association import (
    AssociationConfig,
    Attenuation,
    AttenuationName,
    BestParameters,
    HypoddParameters,
    RealParameters,
    RelocationParameters,
)

__all__ = [
    "AssociationConfig",
    "Attenuation",
    "AttenuationName",
    "BestParameters",
    "HypoddParameters",
    "RealParameters",
    "RelocationParameters",
]
