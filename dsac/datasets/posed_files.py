"""Images, poses and intrinsics as a format lists them become a `Recording` of the files that are there."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from dsac.datasets.format import Recording, Split
from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.image import read_image_size
from dsac.datasets.image_names import names_found
from dsac.datasets.recording import (
    DepthToMetres,
    FileReader,
    ScaledDepth,
    check_no_repeats,
    find_depth,
    find_images,
    pick_truth,
)
from dsac.datasets.rigid import finite_rows, rigid_from_matrices
from dsac.datasets.storage import Storage
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose

logger = logging.getLogger(__name__)

OPENGL_AXES = (1.0, -1.0, -1.0)  # x right, y up, z backward, as ours: OpenGL, ARKit, Blender


@dataclass(frozen=True)
class Lens:
    """Intrinsics of images. With one parameter, the focal length, the principal point is the middle."""

    model: str
    params: tuple[float, ...]  # COLMAP's
    size: tuple[int, int] | None = None  # (width, height) they are for; None = that of the images
    source: str = field(default="", compare=False)  # for messages

    @staticmethod
    def from_matrix(K: Sequence[float], source: str, size: tuple[int, int] | None = None) -> Lens:
        """From 9 numbers of a 3x3 or 16 of a 4x4 camera matrix, row by row, in pixels from the image's corner.

        Raises: `DatasetError` for another count, skew, or a bottom row other than 0 0 1.
        """
        if len(K) == 16:
            K = [*K[0:3], *K[4:7], *K[8:11]]
        if len(K) != 9 or K[1] or K[3] or list(K[6:]) != [0, 0, 1]:
            raise DatasetError(
                f"{source}: expected a camera matrix `fx 0 cx 0 fy cy 0 0 1`, got {list(K)[:16]}"
            )
        return Lens("PINHOLE", (K[0], K[4], K[2], K[5]), size, source)

    @staticmethod
    def from_opencv(
        K: Float64[np.ndarray, "3 3"],
        distortion: Sequence[float] | None,
        source: str,
        size: tuple[int, int] | None = None,
    ) -> Lens:
        """See `Camera.from_opencv`. Raises: `DatasetError`."""
        try:
            camera = Camera.from_opencv(K, distortion or None, size or (1, 1))  # the size changes nothing
        except ValueError as error:
            raise DatasetError(f"{source}: {error}") from None
        return replace(Lens.of(camera, source), size=size)

    @staticmethod
    def of(camera: Camera, source: str) -> Lens:
        return Lens(camera.model, tuple(camera.params.tolist()), camera.size, source)

    def camera(self, size: tuple[int, int]) -> Camera:
        """Raises: `DatasetError` for parameters that make no camera."""
        params = self.params if len(self.params) > 1 else (*self.params, size[0] / 2, size[1] / 2)
        try:
            return Camera.from_params(self.model, params, size)
        except ValueError as error:
            raise DatasetError(f"{self.source}: {error}") from None


@dataclass(frozen=True, eq=False)
class PosedImages:
    """Images that a recording names, in any spelling of `image_names`, whether their files are there or not."""

    names: list[str]
    cam_from_world: Pose  # batch (N,), float64
    lenses: list[Lens]
    source: str  # for messages: the file or folder that names them
    depth_names: Mapping[str, str] = field(default_factory=dict)  # by image name, below the recording's folder
    depth_to_metres: DepthToMetres = ScaledDepth(0.001)

    def recording(
        self,
        storage: Storage,
        label: str,
        truth_name: str,
        truth: str | None,
        *,
        roots: Sequence[str] = (".",),
        split: Split | None = None,
        metric: bool = True,
    ) -> Recording:
        """Frames of the images that are there, in the given order.

        Raises: `DatasetError` for an image that is named twice, when no image is there, for another truth than
        `truth_name`, and for impossible intrinsics.
        """
        pick_truth(storage.path, [truth_name], truth)
        listed = names_found(storage, self.names, roots)
        found = dict(zip(self.names, listed, strict=True))
        check_no_repeats(listed, self.source)
        self._check_size_of_numbers()
        folder, present = find_images(storage, listed, roots, self.source)
        names = [listed[i] for i in present]
        lenses = [self.lenses[i] for i in present]
        cameras, index = _cameras(storage, folder, names, lenses)
        sizes = {name: lens.size for name, lens in zip(names, lenses, strict=True) if lens.size is not None}
        here = set(names)
        depth_names = {found[name]: path for name, path in self.depth_names.items() if found.get(name) in here}
        depth = find_depth(storage, depth_names)
        reader = FileReader(storage.path, folder, depth, self.depth_to_metres, sizes)
        truths = {truth_name: NamedPoses(listed, self.cam_from_world)}
        frames = Frames(names, cameras, index, self.cam_from_world[torch.from_numpy(present)], reader)
        if split is not None:
            split = Split(*([found.get(name, name) for name in part] for part in (split.mapping, split.query)))
        return Recording(label, frames, truths, split, metric)

    def _check_size_of_numbers(self) -> None:
        """Raises: `DatasetError` for poses of numbers so large that products of them are none."""
        for vectors in (self.cam_from_world.translation, self.cam_from_world.center):
            for i in torch.nonzero(~torch.isfinite(vectors).all(-1))[:1, 0].tolist():
                raise DatasetError(f"{self.source}, {self.names[i]}: the numbers of its pose are too large")


def poses_from_matrices(
    names: Sequence[str],
    world_from_cam: Sequence[Float[Tensor, "3 4"]],
    source: str,
    axes: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> tuple[Int[np.ndarray, " M"], Pose]:
    """Rows of the poses without NaN or infinity, the others are named in a warning; and their `cam_from_world`.

    `axes` are signs that turn the camera's axes into x right, y down, z forward: `OPENGL_AXES`.
    Raises: `DatasetError` when a matrix is not a rigid motion.
    """
    if not names:
        raise DatasetError(f"{source}: expected images with poses, found none")
    matrices = torch.stack(list(world_from_cam))
    rows = finite_rows(matrices, names, source)
    poses = rigid_from_matrices(matrices[torch.from_numpy(rows)], lambda i: f"{source}, {names[rows[i]]}")
    return rows, Pose(poses.rotation * poses.rotation.new_tensor(axes), poses.translation).inverse()


def image_size(width: float, height: float, where: str) -> tuple[int, int]:
    """Raises: `DatasetError` for anything but whole pixels."""
    if not all(1 <= side < 2**31 and float(side).is_integer() for side in (width, height)):
        raise DatasetError(f"{where}: expected a width and height in pixels, got {width:g}, {height:g}")
    return int(width), int(height)


def pick(values: Sequence, rows: Int[np.ndarray, " M"]) -> list:
    """Some of the values, by row."""
    return [values[i] for i in rows]


def _cameras(
    storage: Storage, folder: str, names: Sequence[str], lenses: Sequence[Lens]
) -> tuple[list[Camera], Int[np.ndarray, " N"]]:
    """The distinct cameras, and the index of each image's; a size that is not known is the first image's."""
    row_of: dict[Lens, int] = {}
    cameras: list[Camera] = []
    index = np.empty(len(names), np.int64)
    for i, (name, lens) in enumerate(zip(names, lenses, strict=True)):
        if lens not in row_of:
            row_of[lens] = len(cameras)
            camera = lens.camera(lens.size or read_image_size(storage.join(folder, name)))
            _warn_of_other_size(camera, lens.source)
            cameras.append(camera)
        index[i] = row_of[lens]
    return cameras, index


def _warn_of_other_size(camera: Camera, source: str) -> None:
    x, y = (camera.center_px / camera.center_px.new_tensor(camera.size)).tolist()
    if not (0.25 < x < 0.75 and 0.25 < y < 0.75):
        logger.warning(
            "%s: the principal point is far from the middle of the images of %dx%d pixels; are these the "
            "intrinsics of images of another size?", source, *camera.size,
        )  # fmt: skip
