"""Where was this photo taken? Small learned maps, a camera pose in milliseconds, and how far to trust it.

scene = dsac.load_scene("7scenes/chess")
scene_map = dsac.build_map(scene.mapping).recorded_in(scene)
scene_map.save("chess.dsac")
localizer = dsac.Localizer.load("chess.dsac")
estimate = localizer.localize(image, camera)

Names are loaded when first used, so that `import dsac` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dsac.datasets import Frames, Scene, load_photos, load_scene
    from dsac.errors import BackendError, DatasetError, DsacError, MapFormatError
    from dsac.evaluation import Evaluation, evaluate, evaluate_poses
    from dsac.geometry import Camera, Pose
    from dsac.localizer import Localizer
    from dsac.mapping import MappingSettings, build_map
    from dsac.ransac import Correspondences, PoseEstimate, PoseSolver
    from dsac.scene_map import SceneMap

_HOME = {
    "Frames": "datasets",
    "Scene": "datasets",
    "load_photos": "datasets",
    "load_scene": "datasets",
    "BackendError": "errors",
    "DatasetError": "errors",
    "DsacError": "errors",
    "MapFormatError": "errors",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "evaluate_poses": "evaluation",
    "Camera": "geometry",
    "Pose": "geometry",
    "Localizer": "localizer",
    "MappingSettings": "mapping",
    "build_map": "mapping",
    "Correspondences": "ransac",
    "PoseEstimate": "ransac",
    "PoseSolver": "ransac",
    "SceneMap": "scene_map",
}

__all__ = [*_HOME, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'dsac' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dsac.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
