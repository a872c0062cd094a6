"""From posed frames to a scene map."""

from dsac.mapping.mapper import MappingProgress, MappingSettings, build_map

__all__ = ["MappingProgress", "MappingSettings", "build_map"]
