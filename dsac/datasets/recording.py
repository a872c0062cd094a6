"""What formats share: pixels and depth from files, the images and depth that are there, cameras, truths."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8, UInt16

from dsac.datasets.image import ENOUGH_PX, is_stored_turned, read_depth, read_image, read_image_size
from dsac.datasets.rigid import some
from dsac.datasets.storage import Storage, join
from dsac.errors import DatasetError
from dsac.geometry import Camera

logger = logging.getLogger(__name__)


@runtime_checkable
class DepthToMetres(Protocol):
    """From a depth image as stored to metres in the colour camera."""

    def __call__(self, units: UInt16[np.ndarray, "H W"], camera: Camera) -> Float32[np.ndarray, "H W"]: ...


@dataclass(frozen=True)
class ScaledDepth:
    """Depth that is registered to the colour camera already; 0 stays 0 (unknown)."""

    metres_per_unit: float

    def __call__(self, units: UInt16[np.ndarray, "H W"], camera: Camera) -> Float32[np.ndarray, "H W"]:
        return units * np.float32(self.metres_per_unit)


@dataclass(frozen=True)
class ResampledDepth:
    """Depth of another resolution than the colour images, seen from the same place; 0 stays 0 (unknown).

    Each colour pixel takes the depth pixel that looks its way; lens distortion is neglected.
    """

    metres_per_unit: float
    depth_camera: Camera | None = None  # None = the colour camera at the resolution of depth

    def __call__(self, units: UInt16[np.ndarray, "h w"], camera: Camera) -> Float32[np.ndarray, "H W"]:
        size = (units.shape[1], units.shape[0])
        seen = camera.rescale(size) if self.depth_camera is None else self.depth_camera
        taken = []
        for axis in (0, 1):
            focal, center = camera.focal_px[axis].item(), camera.center_px[axis].item()
            with np.errstate(over="ignore", invalid="ignore"):  # focal lengths of next to nothing
                plane = (np.arange(camera.size[axis]) + 0.5 - center) / focal
            pixel = np.floor(seen.focal_px[axis].item() * plane + seen.center_px[axis].item() + 1e-9)
            taken.append(np.where((pixel >= 0) & (pixel < size[axis]), pixel, -1).astype(np.int64))
        columns, rows = taken
        depth = units[rows[:, None], columns] * np.float32(self.metres_per_unit)
        depth[rows < 0] = 0
        depth[:, columns < 0] = 0
        return depth


@dataclass(frozen=True)
class FileReader:
    """Pixels from image files."""

    path: str  # the scene's folder
    image_folder: str = "."  # the subfolder from which image names count
    depth_names: Mapping[str, str] = field(default_factory=dict, repr=False)  # by image name, below `path`
    depth_to_metres: DepthToMetres = ScaledDepth(0.001)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    """(width, height) that the intrinsics are for, by image name; an image without an entry is read upright."""

    @property
    def has_depth(self) -> bool:
        return bool(self.depth_names)

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        enough_px = None if self.has_depth else ENOUGH_PX  # depth is a pixel's own
        path = join(self.path, self.image_folder, name)
        return read_image(path, self.sizes.get(name), enough_px=enough_px)

    def stores_turned(self, name: str) -> bool:
        """Whether this photo is read as stored, although viewers would rotate it, as its intrinsics demand."""
        return name in self.sizes and is_stored_turned(
            join(self.path, self.image_folder, name), self.sizes[name]
        )

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        width, height = camera.size
        if name not in self.depth_names:
            return np.zeros((height, width), np.float32)
        path = join(self.path, self.depth_names[name])
        units = read_depth(path)
        if units.shape != (height, width) and not isinstance(self.depth_to_metres, ResampledDepth):
            raise DatasetError(
                f"{path}: expected depth of the image's size {width}x{height}, "
                f"got {units.shape[1]}x{units.shape[0]}"
            )
        return self.depth_to_metres(units, camera)


def find_images(
    storage: Storage, names: Sequence[str], roots: Sequence[str], source: str
) -> tuple[str, Int[np.ndarray, " M"]]:
    """The subfolder that has most of the images, and the rows of the images in it; one warning names the rest.

    Raises: `DatasetError` when it has none.
    """
    if not names:
        raise DatasetError(f"{source}: expected images with poses, found none")
    found = {root: [i for i, name in enumerate(names) if storage.has(f"{root}/{name}")] for root in roots}
    root = max(roots, key=lambda root: len(found[root]))
    rows = np.array(found[root], dtype=np.int64)
    if not len(rows):
        raise DatasetError(
            f"{storage.path}: none of the {len(names)} images named in {source} (the first is {names[0]}) "
            f"is in {' or '.join(storage.join(root) for root in roots)}"
        )
    if len(rows) < len(names):
        there = set(found[root])
        missing = [name for i, name in enumerate(names) if i not in there]
        logger.warning(
            "%s: %d of %d images named in %s are missing, left out: %s",
            storage.path, len(missing), len(names), source, some(missing),
        )  # fmt: skip
    return root, rows


def cameras_from_focals(
    storage: Storage, image_folder: str, names: list[str], focal_px: Float[np.ndarray, " N"]
) -> tuple[list[Camera], Int[np.ndarray, " N"]]:
    """A pinhole camera for each different focal length, and which one each image has.

    The size is that of the first image with the focal length; `Frames` raises when another image differs.
    """
    focals, first, index = np.unique(focal_px, return_index=True, return_inverse=True)
    sizes = (read_image_size(storage.join(image_folder, names[i])) for i in first)
    return [Camera.simple(float(focal), size) for focal, size in zip(focals, sizes, strict=True)], index


def sizes_by_name(
    names: Sequence[str], cameras: Sequence[Camera], camera_index: Int[np.ndarray, " N"]
) -> dict[str, tuple[int, int]]:
    """For `FileReader.sizes`, of a recording whose cameras come with their image size."""
    return {name: cameras[row].size for name, row in zip(names, camera_index.tolist(), strict=True)}


def find_depth(storage: Storage, depth_name_of: Mapping[str, str]) -> dict[str, str]:
    """The part of an image -> depth name table whose depth files are there; one warning names the gaps."""
    found = {image: depth for image, depth in depth_name_of.items() if storage.has(depth)}
    if found and len(found) < len(depth_name_of):
        missing = [image for image in depth_name_of if image not in found]
        logger.warning(
            "%s: %d of %d images have no depth, it counts as unknown there: %s",
            storage.path, len(missing), len(depth_name_of), some(missing),
        )  # fmt: skip
    return found


def check_no_repeats(names: Sequence[str], source: str) -> None:
    """Raises: `DatasetError` for an image that has two poses."""
    if len(set(names)) < len(names):
        (name, count), *_ = Counter(names).most_common(1)
        raise DatasetError(f"{source}: {name} has {count} poses; keep one of them")


def pick_truth(path: str, truths: Iterable[str], truth: str | None) -> str:
    """The truth asked for, else the first. Raises: `DatasetError` when the scene does not have it."""
    names = list(truths)
    if truth is not None and truth not in names:
        raise DatasetError(f"{path}: expected a truth among {', '.join(names)}, got {truth}")
    return truth or names[0]
