"""From posed frames to a scene map."""

from dsac.mapping.head_training import MappingSettings
from dsac.mapping.mapper import MappingProgress, build_map
from dsac.mapping.network_training import NetworkSettings

__all__ = ["MappingProgress", "MappingSettings", "NetworkSettings", "build_map"]
