"""From posed frames to a scene map."""

from dsac.mapping.division import divide
from dsac.mapping.fine_tuning import FineTuningProgress, fine_tune
from dsac.mapping.mapper import MappingProgress, build_map
from dsac.mapping.ray_workers import on_ray
from dsac.mapping.region_task import RegionTask, map_region
from dsac.mapping.region_tuning import TunedRegions, fine_tune_regions
from dsac.mapping.regions import Mapped, build_regions, gathered, region_tasks
from dsac.mapping.settings import FineTuningSettings, ForestSettings, MappingSettings, NetworkSettings
from dsac.mapping.workers import Outcome, Running, Start, map_all

__all__ = [
    "FineTuningProgress",
    "FineTuningSettings",
    "ForestSettings",
    "Mapped",
    "MappingProgress",
    "MappingSettings",
    "NetworkSettings",
    "Outcome",
    "RegionTask",
    "Running",
    "Start",
    "TunedRegions",
    "build_map",
    "build_regions",
    "divide",
    "fine_tune",
    "fine_tune_regions",
    "gathered",
    "map_all",
    "map_region",
    "on_ray",
    "region_tasks",
]
