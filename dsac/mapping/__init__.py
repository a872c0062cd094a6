"""From posed frames to a scene map."""

from dsac.mapping.division import divide
from dsac.mapping.fine_tuning import FineTuningProgress, fine_tune
from dsac.mapping.mapper import MappingProgress, build_map
from dsac.mapping.regions import Mapped, RegionTask, build_regions, map_region
from dsac.mapping.settings import FineTuningSettings, ForestSettings, MappingSettings, NetworkSettings

__all__ = [
    "FineTuningProgress",
    "FineTuningSettings",
    "ForestSettings",
    "Mapped",
    "MappingProgress",
    "MappingSettings",
    "NetworkSettings",
    "RegionTask",
    "build_map",
    "build_regions",
    "divide",
    "fine_tune",
    "map_region",
]
