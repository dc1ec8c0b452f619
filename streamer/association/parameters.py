"""What can be set of association; it is part of the configuration like everything else."""

from streamer.config_association import AssociationConfig, BestParameters, RealParameters

__all__ = ["AssociationConfig", "BestParameters", "RealParameters"]
