"""From posed frames to a scene map."""

from dsac.mapping.mapper import MappingProgress, build_map
from dsac.mapping.settings import FineTuningSettings, MappingSettings, NetworkSettings

__all__ = ["FineTuningSettings", "MappingProgress", "MappingSettings", "NetworkSettings", "build_map"]
