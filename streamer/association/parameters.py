"""What can be set of the association profiles; they are settings like all others."""

from streamer.config_association import BestParameters, RealParameters

__all__ = ["BestParameters", "RealParameters"]
