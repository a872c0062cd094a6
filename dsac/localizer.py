"""The localizer: a map and a photo to a pose, and how far to trust it.

    localizer = Localizer.load("chess.dsac")
    estimate = localizer.localize(image, camera)

Resize to the map's working size, encode, predict scene coordinates, solve, align by the map's landmarks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dsac.datasets import Frames
from dsac.errors import MapFormatError
from dsac.geometry import Camera
from dsac.landmarks import align, grey_view, working_camera
from dsac.networks.encoder import Encoder, cell_centers, fast_autocast, fast_dtype, working_size
from dsac.networks.heads import SceneCoordinates
from dsac.networks.score_network import ScoreNetwork
from dsac.ransac.dense import DenseSolver
from dsac.ransac.scoring import LearnedScore
from dsac.ransac.solver import PoseSolver
from dsac.ransac.types import Correspondences, PoseEstimate, Solver
from dsac.scene_map import SceneMap


@dataclass(frozen=True)
class Timing:
    """Where the milliseconds of one image went."""

    decode_ms: float  # read and decode the file
    encode_ms: float  # resize and encode
    head_ms: float
    solve_ms: float
    align_ms: float

    @property
    def total_ms(self) -> float:
        return self.decode_ms + self.encode_ms + self.head_ms + self.solve_ms + self.align_ms


@dataclass(frozen=True)
class Localization:
    """One image's answer with what it rests on."""

    name: str
    camera: Camera  # ideal pinhole at the working size, to which the correspondences belong
    estimate: PoseEstimate  # B = 1
    correspondences: Correspondences  # B = 1
    timing: Timing


class Localizer:
    """Localizes photos in one mapped scene. Not localized is an answer: `estimate.success` is False."""

    def __init__(
        self,
        scene_map: SceneMap,
        *,
        encoder: Encoder | None = None,
        solver: Solver | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """`encoder`: the one that the map was made with, when it does not ship with the package.

        Raises: `MapFormatError` when the encoder is not the map's.
        """
        self.scene_map = scene_map
        self.device = torch.device(device)
        if encoder is None:
            encoder = scene_map.load_encoder(self.device)
        scene_map.check_encoder(encoder)
        self.encoder = encoder
        self.head = scene_map.head.to(self.device)
        network = scene_map.score_network
        self.solver = solver or query_solver(None if network is None else network.to(self.device))
        # once per camera: the cells' pixels without distortion
        self._cells = lru_cache(maxsize=16)(self._undistorted_cells)

    @staticmethod
    def load(path: str | Path, *, device: torch.device | str = "cpu") -> Localizer:
        """From a map file. Raises: `MapFormatError`."""
        scene_map = SceneMap.load(path)
        try:
            return Localizer(scene_map, device=device)
        except MapFormatError as error:
            raise MapFormatError(f"{path}: {error}") from None

    def localize(
        self, image: Float[Tensor, "*B 3 H W"] | UInt8[np.ndarray, "H W 3"], camera: Camera
    ) -> PoseEstimate:
        """The pose of one photo, or of B photos of one camera; the estimate's batch is B (1 for one photo).

        `image` is RGB: a float tensor in [0, 1], or an 8-bit array as image files are decoded to.
        Raises: `ValueError` for an image of another kind, for a batch of cameras, and when the camera is of
        another image size.
        """
        images = _as_batch(image)
        if camera.focal_px.dim() != 1:
            raise ValueError(f"camera: expected one, got a batch of shape {tuple(camera.focal_px.shape[:-1])}")
        if tuple(images.shape[-2:]) != (camera.size[1], camera.size[0]):
            raise ValueError(
                f"camera: expected {images.shape[-1]}×{images.shape[-2]} like the image, "
                f"got {camera.size[0]}×{camera.size[1]}"
            )
        features = self._encode(images, camera)
        correspondences = self._correspondences(self._predict(features), features.shape[-2:], camera)
        return self._align(images, camera, correspondences, self._solve(correspondences))

    def localize_frames(self, frames: Frames) -> Iterator[Localization]:
        """Localize frames one by one, with what each answer rests on and where the time went."""
        frames = frames.without_depth()
        for i in range(len(frames)):
            ticks = [time.perf_counter()]
            frame = frames[i]
            ticks.append(time.perf_counter())
            features = self._encode(frame.image[None], frame.camera)
            self._synchronize()
            ticks.append(time.perf_counter())
            coordinates = self._predict(features)
            self._synchronize()
            ticks.append(time.perf_counter())
            correspondences = self._correspondences(coordinates, features.shape[-2:], frame.camera)
            estimate = self._solve(correspondences)
            ticks.append(time.perf_counter())
            estimate = self._align(frame.image[None], frame.camera, correspondences, estimate)
            ticks.append(time.perf_counter())
            timing = Timing(*(1e3 * float(stage) for stage in np.diff(ticks)))
            camera = frame.camera.rescale(self._working_size(frame.camera)).pinhole
            yield Localization(frame.name, camera, estimate, correspondences, timing)

    # ---- stages ----------------------------------------------------------------------------------

    def _working_size(self, camera: Camera) -> tuple[int, int]:
        short_side_px = round(self.scene_map.info.short_side_px / self._zoom(camera))
        return working_size(camera.size, short_side_px, self.encoder.size_multiple)

    def _zoom(self, camera: Camera) -> float:
        """How much larger than the mapping cameras this one shows things: its photos are made so much smaller.

        Up to a quarter more or less, which mapping's views cover, is none.
        """
        if self.scene_map.info.focal_range is None:
            return 1.0
        low, high = self.scene_map.info.focal_range
        zoom = camera.relative_focal / min(max(camera.relative_focal, low), high)
        return 1.0 if 0.8 < zoom < 1.25 else min(max(zoom, 0.5), 3.0)

    @torch.inference_mode()
    def _encode(self, images: Float[Tensor, "B 3 H W"], camera: Camera) -> Float[Tensor, "B C h w"]:
        width, height = self._working_size(camera)
        images = images.to(self.device)
        if images.shape[-2:] != (height, width):
            images = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
        features = self.encoder(images)
        return features[..., :: _column_step(*features.shape[-2:])]

    @torch.inference_mode()
    def _predict(self, features: Float[Tensor, "B C h w"]) -> SceneCoordinates:
        dtype = fast_dtype(self.device)
        rows = features.flatten(2).mT
        with fast_autocast(self.device):
            return self.head(rows.float() if dtype == torch.float32 else rows)

    def _correspondences(
        self, coordinates: SceneCoordinates, grid: torch.Size, camera: Camera
    ) -> Correspondences:
        batch = len(coordinates.points)
        pixels, pinhole = self._cells(_key(camera))
        return Correspondences(
            pixels=pixels.expand(batch, -1, 2),
            scene_points=coordinates.points,
            camera=Camera(pinhole.focal_px.expand(batch, 2), pinhole.center_px.expand(batch, 2), pinhole.size),
            weights=cell_weights(coordinates.scale),
            grid=(grid[0], grid[1]),
        )

    def _solve(self, correspondences: Correspondences) -> PoseEstimate:
        return _trusted(self.solver(correspondences))

    def _align(
        self,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        correspondences: Correspondences,
        estimate: PoseEstimate,
    ) -> PoseEstimate:
        """The estimate, with the landmarks' pose where they are found and tell the place better."""
        if self.scene_map.landmarks is None:
            return estimate
        zoom = self._zoom(camera)
        working = working_camera(camera, zoom)
        answers = []
        for i in range(len(images)):
            coarse = estimate[i : i + 1]
            grey = grey_view(images[i], camera, zoom)
            fine = align(self.scene_map.landmarks, grey, working, coarse.cam_from_world[0])
            fine = _trusted(fine.to(coarse.covariance))
            if not fine.success or (coarse.success and _spread(coarse) < _spread(fine)):
                answers.append(coarse)
            else:
                inliers = self.solver.inliers(fine.cam_from_world, correspondences[i : i + 1])
                answers.append(replace(fine, inliers=inliers))
        return PoseEstimate.cat(answers)

    def _undistorted_cells(self, key: tuple) -> tuple[Float[Tensor, "N 2"], Camera]:
        """Pixels of the cells' centres in the ideal camera, and that camera, at the working size."""
        model, size, *params = key
        camera = Camera.from_params(model, params, size)
        working = camera.rescale(self._working_size(camera))
        cells = cell_centers(working.size, self.encoder.stride)
        pixels = cells[:, :: _column_step(*cells.shape[:2])].reshape(-1, 2)
        pinhole = working.pinhole.to(self.device, torch.float32)
        return working.undistort(pixels).to(self.device, torch.float32), pinhole

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _trusted(estimate: PoseEstimate) -> PoseEstimate:
    return replace(estimate, success=estimate.success & (estimate.confidence > _LEAST_CONFIDENCE))


def _spread(estimate: PoseEstimate) -> Tensor:
    """Variance of the camera's place, m²."""
    return estimate.covariance.diagonal(dim1=-2, dim2=-1)[..., 3:].sum(-1)


def _column_step(height: int, width: int) -> int:
    """Of a grid of cells every so-manieth column is used.

    Neighbouring cells see nearly the same and err alike: every second column is as accurate (2 cm on a real
    room: 86 % against 85 %, median 1.27 cm against 1.28) in half the head's time, unless there are few.
    """
    return 1 if height * width < 600 else 2


def _as_batch(image: Tensor | np.ndarray) -> Float[Tensor, "B 3 H W"]:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image: expected a uint8 array (H, W, 3), got {image.dtype} {image.shape}")
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    if not image.is_floating_point() or image.ndim not in (3, 4) or image.shape[-3] != 3:
        raise ValueError(
            "image: expected a float tensor (3, H, W) or (B, 3, H, W) in [0, 1], "
            f"got {image.dtype} {tuple(image.shape)}"
        )
    return image[None] if image.ndim == 3 else image


def query_solver(score_network: ScoreNetwork | None = None) -> Solver:
    """How photos are localized in a map: by the search, or with hypotheses scored by the map's score network."""
    return DenseSolver.rgb() if score_network is None else PoseSolver.rgb(scoring=LearnedScore(score_network))


# Photos of one colour, of noise and of other places reach 0.3; right poses of a quickly made map start at 0.8.
_LEAST_CONFIDENCE = 0.5


def cell_weights(scale: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Inverse of the predicted scale, relative to the image's median."""
    return (scale.median(dim=-1, keepdim=True).values / scale).clamp(max=10.0)


def _key(camera: Camera) -> tuple:
    return (camera.model, camera.size, *camera.params.tolist())
