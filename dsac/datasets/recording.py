"""What formats share: pixels and depth from files, the images and depth that are there, cameras, truths."""

from __future__ import annotations

import logging
import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from dsac.datasets.frame import ImageFile
from dsac.datasets.image import (
    ENOUGH_PX,
    DepthUnits,
    check_depth,
    check_image,
    is_stored_turned,
    read_depth,
    read_depth_size,
    read_image,
    read_image_size,
)
from dsac.datasets.rigid import some
from dsac.datasets.storage import Storage, join, read_lines
from dsac.datasets.tables import AT_THE_END, as_number
from dsac.errors import DatasetError
from dsac.geometry import Camera

logger = logging.getLogger(__name__)

DEPTH_ENDINGS = (".png", ".npy", ".tiff", ".tif", ".exr", ".pfm")
_DEPTH_FOLDERS = ("depth", "depths")
_WRONG_DEPTH = "expected depth of the image's size {}x{}, got {}x{}"


@runtime_checkable
class DepthToMetres(Protocol):
    """From a depth image as stored to metres in the colour camera."""

    def __call__(self, units: DepthUnits, camera: Camera) -> Float32[np.ndarray, "H W"]:
        """Raises: `ValueError` for depth of a size that it cannot be registered from."""
        ...


@dataclass(frozen=True)
class ScaledDepth:
    """Depth that is registered to the colour camera already; what is not positive and finite is 0 (unknown).

    Where it is of another size but the image's shape, as of a phone's laser scanner, a pixel has its nearest.
    """

    metres_per_unit: float | None = None  # None: millimetres in whole numbers, metres in floating-point numbers
    world_per_metre: float = 1.0  # where the poses are in a scale of their own

    def __call__(self, units: DepthUnits, camera: Camera) -> Float32[np.ndarray, "H W"]:
        usual = 0.001 if units.dtype == np.uint16 else 1.0
        metres_per_unit = usual if self.metres_per_unit is None else self.metres_per_unit
        depth = units * np.float32(metres_per_unit * self.world_per_metre)
        if units.dtype != np.uint16:
            depth = np.where((depth > 0) & np.isfinite(depth), depth, np.float32(0))
        return _nearest(depth, camera.size)


@dataclass(frozen=True)
class ResampledDepth:
    """Depth of another resolution than the colour images, seen from the same place; 0 stays 0 (unknown).

    Each colour pixel takes the depth pixel that looks its way; lens distortion is neglected.
    """

    metres_per_unit: float | None = None  # as in `ScaledDepth`
    depth_camera: Camera | None = None  # None = the colour camera at the resolution of depth

    def __call__(self, units: DepthUnits, camera: Camera) -> Float32[np.ndarray, "H W"]:
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
        depth = ScaledDepth(self.metres_per_unit)(units[rows[:, None], columns], camera)
        depth[rows < 0] = 0
        depth[:, columns < 0] = 0
        return depth


@dataclass(frozen=True)
class FileReader:
    """Pixels from image files."""

    path: str  # the scene's folder
    image_folder: str = "."  # the subfolder from which image names count
    depth_names: Mapping[str, str] = field(default_factory=dict, repr=False)  # by image name, below `path`
    depth_to_metres: DepthToMetres = ScaledDepth()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    """(width, height) that the intrinsics are for, by image name; an image without an entry is read upright."""

    @property
    def has_depth(self) -> bool:
        return bool(self.depth_names)

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        enough_px = None if self.has_depth else ENOUGH_PX  # depth is a pixel's own
        path = join(self.path, self.image_folder, name)
        return read_image(path, self.sizes.get(name), enough_px=enough_px)

    def image_file(self, name: str) -> ImageFile:
        return ImageFile(join(self.path, self.image_folder, name), self.sizes.get(name))

    def check(self, name: str, with_depth: bool) -> None:
        """Raises: `DatasetError` for a damaged file."""
        check_image(join(self.path, self.image_folder, name))
        if with_depth and name in self.depth_names:
            check_depth(join(self.path, self.depth_names[name]))

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
        try:
            return self.depth_to_metres(read_depth(path), camera)
        except ValueError as error:
            raise DatasetError(f"{path}: {error}") from None


def expect_size_of_image(units: DepthUnits, camera: Camera) -> None:
    """Raises: `ValueError`."""
    height, width = units.shape
    if (width, height) != camera.size:
        raise ValueError(_WRONG_DEPTH.format(*camera.size, width, height))


def _nearest(depth: Float32[np.ndarray, "h w"], size: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
    """Each pixel's nearest. Raises: `ValueError` for another shape."""
    (height, width), (wide, high) = depth.shape, size
    if (width, height) == size:
        return depth
    if not _is_resized((width, height), size):
        raise ValueError(_WRONG_DEPTH.format(wide, high, width, height))
    rows, columns = (np.arange(high) + 0.5) * (height / high), (np.arange(wide) + 0.5) * (width / wide)
    return depth[rows.astype(int)[:, None], columns.astype(int)]


def _is_resized(size: tuple[int, int], of: tuple[int, int]) -> bool:
    """Whether one image may be the other in another size, each side rounded to whole pixels."""
    return abs(size[0] * of[1] - size[1] * of[0]) < max(*size, *of)


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
        places = [root for root in roots if storage.listing(root)] or roots
        raise DatasetError(
            f"{storage.path}: none of the {len(names)} images named in {source} (the first is {names[0]}) "
            f"is in {' or '.join(storage.join(root) for root in places)}"
        )
    if len(rows) < len(names):
        there = set(found[root])
        missing = [name for i, name in enumerate(names) if i not in there]
        logger.warning(
            "%s: %d of %d images named in %s are missing, left out: %s",
            storage.path, len(missing), len(names), source, some(missing),
        )  # fmt: skip
    return root, rows


def of_the_images(
    storage: Storage,
    image_folder: str,
    names: Sequence[str],
    cameras: list[Camera],
    camera_index: Int[np.ndarray, " N"],
) -> list[Camera]:
    """The cameras for the sizes in which their images are there, perhaps copies at a half or a quarter.

    The first image tells whether there is a difference; only then is one of each camera looked at.
    """
    camera = cameras[camera_index[0]]
    resized = _size_there(storage.join(image_folder, names[0]), camera)
    if resized is None:
        return cameras
    logger.warning(
        "%s: images are %dx%d, their cameras are for %dx%d: intrinsics are rescaled",
        storage.join(image_folder), *resized, *camera.size,
    )  # fmt: skip
    first = dict(zip(reversed(camera_index.tolist()), reversed(names), strict=True))
    sizes = {row: _size_there(storage.join(image_folder, name), cameras[row]) for row, name in first.items()}
    return [
        camera if (size := sizes.get(row)) is None else camera.rescale(size)
        for row, camera in enumerate(cameras)
    ]


def _size_there(path: str, camera: Camera) -> tuple[int, int] | None:
    """The size of an image if it is its camera's resized; as stored, else upright."""
    try:
        stored, upright = read_image_size(path, as_stored=True), read_image_size(path)
    except DatasetError:  # said when the image is read
        return None
    if any(size[0] == camera.size[0] or size[1] == camera.size[1] for size in (stored, upright)):
        return None  # its size, or cropped
    return next((size for size in (stored, upright) if _is_resized(size, camera.size)), None)


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


def find_registered_depth(storage: Storage, depth_name_of: Mapping[str, str], camera: Camera) -> dict[str, str]:
    """`find_depth`, for `ScaledDepth`: a word in the log where it is of another size than the camera's images.

    Raises: `DatasetError` where it is of another shape.
    """
    found = find_depth(storage, depth_name_of)
    for name in list(found.values())[:1]:
        path = storage.join(name)
        try:
            size = read_depth_size(path)
        except DatasetError:  # said when it is read
            break
        if not _is_resized(size, camera.size):
            raise DatasetError(f"{path}: {_WRONG_DEPTH.format(*camera.size, *size)}")
        if size != camera.size:
            logger.warning(
                "%s: depth is %dx%d, images are %dx%d: each pixel has its nearest depth",
                storage.path, *size, *camera.size,
            )  # fmt: skip
    return found


def depth_beside(storage: Storage, names: Sequence[str], camera: Camera) -> tuple[dict[str, str], ScaledDepth]:
    """Depth in `depth` or `depths` under the images' names, of whatever ending, and its unit; for `FileReader`.

    Raises: `DatasetError` like `find_registered_depth` and `metres_per_depth_unit`.
    """

    def table(names: Sequence[str], folder: str, ending: str) -> dict[str, str]:
        return {name: f"{folder}/{posixpath.splitext(name)[0]}{ending}" for name in names}

    places = [
        (folder, ending) for folder in _DEPTH_FOLDERS if storage.listing(folder) for ending in DEPTH_ENDINGS
    ]
    some_names = names[:: max(1, len(names) // 200)]
    counts = [sum(map(storage.has, table(some_names, *place).values())) for place in places]
    named = table(names, *places[counts.index(max(counts))]) if any(counts) else {}
    return find_registered_depth(storage, named, camera), ScaledDepth(metres_per_depth_unit(storage))


def metres_per_depth_unit(storage: Storage) -> float | None:
    """What `depth_scale.txt` says, for `ScaledDepth`. Raises: `DatasetError` when it is no positive number."""
    if not storage.has("depth_scale.txt"):
        return None
    path = storage.join("depth_scale.txt")
    text = " ".join(read_lines(path)).strip(AT_THE_END)
    try:
        scale = as_number(text)
    except ValueError:
        scale = math.nan
    if not 1e-30 < scale < 1e30:  # what 16 bits of it are must fit into 32 bits of metres
        raise DatasetError(
            f"{path}: expected one positive number, the metres per depth unit, got `{text[:80]}`"
        )
    return scale


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
