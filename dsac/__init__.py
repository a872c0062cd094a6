"""Where was this photo taken? Small learned maps, a camera pose in milliseconds, and how far to trust it.

scene = dsac.load_scene("7scenes/chess")
scene_map = dsac.build_map(scene)
scene_map.save("chess.dsac")
localizer = dsac.Localizer.load("chess.dsac")
answer = localizer.localize(image, camera)

What stands here is meant to stay; so are the parts of the solver in `dsac.ransac`. What lies deeper, above all
`dsac.kernels`, may change from one version to the next. Names and packages are loaded when first used, so that
`import dsac` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dsac.datasets import (
        Frame,
        Frames,
        NamedPoses,
        Scene,
        load_photos,
        load_scene,
        read_image,
        read_poses,
        save_scene,
        write_poses,
    )
    from dsac.errors import DatasetError, DsacError, MapFormatError
    from dsac.evaluation import Evaluation, evaluate, evaluate_poses
    from dsac.geometry import Camera, Pose
    from dsac.localization import Localization, Timing
    from dsac.localizer import Localizer
    from dsac.mapping import (
        FineTuningSettings,
        ForestSettings,
        MappingSettings,
        NetworkSettings,
        build_map,
        fine_tune,
    )
    from dsac.ransac import Correspondences, DenseSolver, PoseEstimate, PoseSolver
    from dsac.regressor import Regressor
    from dsac.scene_map import SceneMap
    from dsac.tracker import Motion, Tracker

_NAMES = {
    "datasets": (
        "Frame", "Frames", "NamedPoses", "Scene", "load_photos", "load_scene", "read_image", "read_poses",
        "save_scene", "write_poses",
    ),
    "errors": ("DatasetError", "DsacError", "MapFormatError"),
    "evaluation": ("Evaluation", "evaluate", "evaluate_poses"),
    "geometry": ("Camera", "Pose"),
    "localization": ("Localization", "Timing"),
    "localizer": ("Localizer",),
    "mapping": (
        "FineTuningSettings",
        "ForestSettings",
        "MappingSettings",
        "NetworkSettings",
        "build_map",
        "fine_tune",
    ),
    "ransac": ("Correspondences", "DenseSolver", "PoseEstimate", "PoseSolver"),
    "regressor": ("Regressor",),
    "scene_map": ("SceneMap",),
    "tracker": ("Motion", "Tracker"),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = {*_NAMES, "kernels", "landmarks", "networks", "rooms", "sfm"}

__all__ = [*_HOME, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"dsac.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'dsac' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dsac.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
