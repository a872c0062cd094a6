"""From posed frames to a scene map."""

from dsac.mapping.fine_tuning import FineTuningProgress, fine_tune
from dsac.mapping.mapper import MappingProgress, build_map
from dsac.mapping.settings import FineTuningSettings, ForestSettings, MappingSettings, NetworkSettings

__all__ = [
    "FineTuningProgress",
    "FineTuningSettings",
    "ForestSettings",
    "MappingProgress",
    "MappingSettings",
    "NetworkSettings",
    "build_map",
    "fine_tune",
]
