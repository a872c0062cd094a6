"""COLMAP through `pycolmap` (`pip install 'dsac[colmap]'`): what two photos share, and a model of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dsac.errors import DatasetError
from dsac.geometry import Camera
from dsac.sfm.features import Features, agreeing, match

_MODEL = "SIMPLE_RADIAL"  # a focal length and a coefficient: what a few photos can tell
_ERROR = 0.0015  # of the longer side: how far a match may be off its epipolar line
_LEAST_ERROR_PX = 1.0
_LEAST_PHOTOS = 3  # of a model
_NOISE_PX = 0.5  # of keypoints


@dataclass(frozen=True, eq=False)
class Photo:
    name: str
    camera: int  # which one
    longer_side_px: int
    features: Features


@contextmanager
def quiet_pycolmap(path: str) -> Iterator[Any]:
    """The module, which is silent meanwhile; `path` begins what errors say.

    Raises: `DatasetError` where it is not installed, and for what it fails at.
    """
    if find_spec("pycolmap") is None:
        raise DatasetError(f"{path}: COLMAP finds the poses of photos: pip install 'dsac[colmap]'")
    pycolmap = import_module("pycolmap")
    level = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    try:
        yield pycolmap
    except (RuntimeError, ValueError) as error:
        raise DatasetError(f"{path}: COLMAP failed: {str(error).strip() or 'it does not say why'}") from error
    finally:
        pycolmap.logging.minloglevel = level


def colmap_cameras(pycolmap: Any, cameras: Sequence[Camera], knows_focal: Sequence[bool]) -> list[Any]:
    """COLMAP's, numbered from 1."""
    made = []
    for row, (camera, known) in enumerate(zip(cameras, knows_focal, strict=True)):
        (width, height), (x, y) = camera.size, camera.center_px.tolist()
        params = [camera.focal_px[0].item(), x, y, 0.0]
        made.append(pycolmap.Camera(model=_MODEL, width=width, height=height, params=params, camera_id=row + 1))
        made[-1].has_prior_focal_length = known
    return made


def two_views(pycolmap: Any, first: Photo, second: Photo) -> Any | None:
    """What two photos share, COLMAP's `TwoViewGeometry`; None where that is nothing."""
    rows = match(first.features.descriptors, second.features.descriptors)
    here, there = first.features.pixels[rows[:, 0]], second.features.pixels[rows[:, 1]]
    error_px = _ERROR * max(first.longer_side_px, second.longer_side_px)
    found = agreeing(here, there, max(error_px, _LEAST_ERROR_PX))
    if found is None:
        return None
    F, agree = found
    geometry = pycolmap.TwoViewGeometry()
    geometry.config = pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
    geometry.F = F
    geometry.inlier_matches = rows[agree].astype(np.uint32)
    return geometry


def write_database(
    pycolmap: Any,
    path: Path,
    cameras: Sequence[Any],
    photos: Sequence[Photo],
    geometries: Mapping[tuple[int, int], Any],
) -> None:
    """What COLMAP's mapper reads: keypoints, and what pairs of photos (rows of `photos`) share."""
    is_old = pycolmap.__version__.startswith("3.")
    database = pycolmap.Database(str(path)) if is_old else pycolmap.Database.open(path)
    try:
        rigs = []
        for camera in cameras:
            rig = pycolmap.Rig()
            database.write_camera(camera, use_camera_id=True)
            rig.add_ref_sensor(camera.sensor_id)
            rigs.append(database.write_rig(rig))
        ids = []
        for photo in photos:
            image = pycolmap.Image(name=photo.name, camera_id=photo.camera + 1)
            image.image_id = database.write_image(image)
            frame = pycolmap.Frame()
            frame.rig_id = rigs[photo.camera]
            frame.add_data_id(image.data_id)
            database.write_frame(frame)
            database.write_keypoints(image.image_id, photo.features.pixels)
            ids.append(image.image_id)
        for (a, b), geometry in geometries.items():
            database.write_matches(ids[a], ids[b], geometry.inlier_matches)
            database.write_two_view_geometry(ids[a], ids[b], geometry)
    finally:
        database.close()


def models(
    pycolmap: Any, database: Path, folder: Path, seed: int, threads: int, on_photo: Callable[[], None]
) -> list[Any]:
    """COLMAP's reconstructions, largest first: pieces that share no world. Each photo calls `on_photo`.

    Its incremental mapper: the global one is as exact where photos overlap well, but slower, and where pieces
    share hardly anything it joins them wrongly.
    """
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = threads
    pycolmap.set_random_seed(seed)
    if hasattr(options, "random_seed"):  # not in COLMAP 3
        options.random_seed = seed
    options.extract_colors = False
    options.min_model_size = _LEAST_PHOTOS
    found = pycolmap.incremental_mapping(
        str(database),
        str(folder),
        str(folder),
        options,
        initial_image_pair_callback=on_photo,
        next_image_callback=on_photo,
    )
    return sorted(found.values(), key=lambda model: -model.num_reg_images())


def refine(pycolmap: Any, model: Any, threads: int) -> None:
    """Cameras, poses and points once more, in place, with a robust loss: COLMAP's mapper squares all errors.

    That halves the error of poses and mends some models that are bent.
    """
    options, config = pycolmap.BundleAdjustmentOptions(), pycolmap.BundleAdjustmentConfig()
    robust = getattr(options, "ceres", options)  # where COLMAP 4 keeps what belongs to its solver
    robust.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    robust.loss_function_scale = _NOISE_PX
    robust.solver_options.num_threads = threads
    options.print_summary = False
    for number in model.reg_image_ids():
        config.add_image(number)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
