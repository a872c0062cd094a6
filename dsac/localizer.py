"""The localizer: a map and a photo to a pose, and how far to trust it.

    localizer = Localizer.load("chess.dsac")
    answer = localizer.localize(image, camera)

A query is: encode, predict scene coordinates (the regressor), solve, align by the map's landmarks. Where that
leaves doubts, the photo's keypoints are matched to the map's described points, solved and aligned; if that
fails, too, those of the photo turned by a quarter, three quarters, a half.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dsac.datasets import Frames, load_photos
from dsac.datasets.given import batch_of
from dsac.datasets.given_cameras import one_camera
from dsac.errors import MapFormatError
from dsac.geometry import Camera, Pose
from dsac.landmarks import GreyView, Landmarks, Matcher, align
from dsac.landmarks.patches import TILES
from dsac.networks.encoder import Encoder
from dsac.ransac import Correspondences, DenseSolver, PoseEstimate, Solver
from dsac.regressor import CorrespondenceSource
from dsac.scene_map import SceneMap


@dataclass(frozen=True)
class Timing:
    """Where the milliseconds of a query went."""

    decode_ms: float  # read and decode the file
    encode_ms: float  # resize and encode
    head_ms: float
    solve_ms: float
    align_ms: float

    @property
    def total_ms(self) -> float:
        return self.decode_ms + self.encode_ms + self.head_ms + self.solve_ms + self.align_ms


@dataclass(frozen=True, eq=False, repr=False)
class Localization:
    """The answer for one photo; for B photos at once every field has that batch dimension.

    Not localized is an answer: `success` is False, and pose and covariance mean nothing.
    """

    name: str  # of the frame; `photo` for an image without one
    cam_from_world: Pose  # batch (*B,), float64
    covariance: Float[
        Tensor, "*B 6 6"
    ]  # of the increment Pose.exp(d) @ cam_from_world: rad², m²; inf = unknown
    confidence: Float[Tensor, "*B"]  # in [0, 1]
    success: Bool[Tensor, "*B"]
    inliers: Bool[Tensor, "*B N"]  # which correspondences agree with the pose
    # What the pose was searched in: always a batch, 1 for one photo. Scene points are in the map's own frame,
    # which stands at `origin`; pixels are those of an ideal camera at the working size.
    correspondences: Correspondences
    timing: Timing
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of the map's own frame in the world, metres

    @property
    def pose(self) -> Pose:
        """`cam_from_world`, for those who look for that word."""
        return self.cam_from_world

    @property
    def world_from_cam(self) -> Pose:
        """Where the camera stands and how it is turned; its translation is the camera's centre."""
        return self.cam_from_world.inverse()

    @property
    def center_covariance(self) -> Float[Tensor, "*B 3 3"]:
        """Covariance of the camera's centre along the world's axes, m².

        An increment (w, v) moves the centre by -Rᵀv, R the rotation of `cam_from_world`.
        """
        rotation = self.cam_from_world.rotation
        return rotation.mT @ self.covariance[..., 3:, 3:].to(rotation) @ rotation

    @property
    def position_sigma_m(self) -> Float[Tensor, "*B"]:
        """Standard deviation of the centre's distance from the truth, metres: √ of the summed variances."""
        return self._variances[..., 3:].sum(-1).sqrt()

    @property
    def rotation_sigma_deg(self) -> Float[Tensor, "*B"]:
        """Standard deviation of the rotation's angle from the truth, degrees."""
        return torch.rad2deg(self._variances[..., :3].sum(-1).sqrt())

    @property
    def scene_points(self) -> Float[Tensor, "B N 3"]:
        """Those of the correspondences, in the world's frame, float64."""
        points = self.correspondences.scene_points.double()
        return points + points.new_tensor(self.origin)

    @property
    def num_inliers(self) -> Int[Tensor, "*B"]:
        return self.inliers.sum(-1)

    @property
    def camera(self) -> Camera:
        """The ideal pinhole at the working size to which the correspondences belong."""
        return self.correspondences.camera[0]

    @property
    def _variances(self) -> Float[Tensor, "*B 6"]:
        return self.covariance.diagonal(dim1=-2, dim2=-1).double()

    def __len__(self) -> int:
        """Number of photos in the batch. Raises: `TypeError` for one photo."""
        return len(self.success)

    def __getitem__(self, index: int) -> Localization:
        """The answer for one photo of a batch."""
        if self.success.ndim == 0:
            raise TypeError("this is the answer for one photo, not for a batch")
        index = range(len(self))[index]
        return replace(
            self,
            cam_from_world=self.cam_from_world[index],
            covariance=self.covariance[index],
            confidence=self.confidence[index],
            success=self.success[index],
            inliers=self.inliers[index],
            correspondences=self.correspondences[index : index + 1],
        )

    def __repr__(self) -> str:
        if self.success.ndim > 0:
            return f"Localization of {len(self)} photos, {int(self.success.sum())} localized"
        lines = [f"Localization of {self.name}: not localized, confidence {self.confidence.item():.2f}"]
        if self.success.item():
            x, y, z = self.cam_from_world.center.tolist()
            lines = [
                f"Localization of {self.name}: confidence {self.confidence.item():.2f}",
                f"center ({x:.3f}, {y:.3f}, {z:.3f}) ± {self.position_sigma_m.item():.3f}, "
                f"rotation ± {self.rotation_sigma_deg.item():.2f}°",
            ]
        count = self.inliers.shape[-1]
        lines.append(f"{int(self.num_inliers)} of {count} correspondences agree, {self.timing.total_ms:.0f} ms")
        return "\n    ".join(lines)


class Localizer:
    """Localizes photos in one mapped scene. Not localized is an answer: `success` is False."""

    def __init__(
        self,
        scene_map: SceneMap,
        *,
        encoder: Encoder | None = None,
        regressor: CorrespondenceSource | None = None,
        solver: Solver | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """`encoder`: the one that the map was made with, when it does not ship with the package.

        `regressor` takes the place of the map's own, `solver` that of its scoring rule's. The modules are this
        localizer's own: the map stays as it is.
        Raises: `MapFormatError` when the encoder is not the map's, `ValueError` for both encoder and regressor.
        """
        if encoder is not None and regressor is not None:
            raise ValueError("encoder: expected none beside a regressor, which has its own")
        self.scene_map = scene_map
        self.device = torch.device(device)
        self.regressor = regressor or scene_map.regressor(encoder, self.device)
        self.solver = solver or scene_map.solver(self.device)

    @staticmethod
    def load(
        path: str | Path,
        *,
        encoder: Encoder | None = None,
        solver: Solver | None = None,
        device: torch.device | str = "cpu",
    ) -> Localizer:
        """From a map file. Raises: `MapFormatError`."""
        scene_map = SceneMap.load(path)
        try:
            return Localizer(scene_map, encoder=encoder, solver=solver, device=device)
        except MapFormatError as error:
            raise MapFormatError(f"{path}: {error}") from None

    def localize(self, image: Any, camera: Any = None, *, bgr: bool = False) -> Localization:
        """The pose of one photo; or of B photos of one camera, and the answer's fields have that dimension.

        `image` is a path, bytes, an open file, a PIL image, an array (H, W, 3), (H, W, 4) or (H, W), RGB or in
        OpenCV's order if `bgr`, or a tensor (3, H, W); or B photos as a tensor (B, 3, H, W). Values are 8 bits
        or floats in [0, 1]. What EXIF data tell viewers to turn is turned, see `load_photos`.
        `camera` is a `Camera` or OpenCV's matrix K of that image. Without it, it is found as by `load_photos`:
        the mapping images' where they have the photo's shape, else the focal length of the EXIF data.
        Raises: `ValueError` for an image or a camera of another kind, and where a tensor's camera is of another
        image size; `DatasetError` for a file that cannot be read, a camera of another shape than the photo, and
        a photo of which no focal length is known.
        """
        if isinstance(image, Tensor) and (camera is not None or image.ndim == 4):
            return self._localize_tensor(image, camera, bgr)
        photos = load_photos(
            image,
            camera=camera,
            mapping_camera=self.scene_map.mapping_camera,
            as_stored=self.scene_map.info.as_stored,
            bgr=bgr,
        )
        if len(photos) > 1:
            raise ValueError(
                f"image: expected one, got {len(photos)}: localize_frames(load_photos(...)) takes them"
            )
        return next(self.localize_frames(photos))

    def _localize_tensor(self, image: Tensor, camera: Any, bgr: bool) -> Localization:
        images = batch_of(image)
        size = images.shape[-1], images.shape[-2]
        camera = one_camera(camera, size)
        if camera.size != size:
            raise ValueError(
                f"camera: expected {size[0]}×{size[1]} like the image, got {camera.size[0]}×{camera.size[1]}"
            )
        images = images.flip(-3) if bgr else images
        answer = self._localize("photo", images, camera, [time.perf_counter()] * 2)
        return answer if image.ndim == 4 else answer[0]

    def localize_frames(self, frames: Frames) -> Iterator[Localization]:
        """Localize frames one by one, reading each when it is asked for."""
        frames = frames.without_depth()
        for i in range(len(frames)):
            started = time.perf_counter()
            frame = frames[i]
            ticks = [started, time.perf_counter()]
            yield self._localize(frame.name, frame.image[None], frame.camera, ticks)[0]

    # ---- stages ----------------------------------------------------------------------------------

    def _localize(
        self, name: str, images: Float[Tensor, "B 3 H W"], camera: Camera, ticks: list[float]
    ) -> Localization:
        """`ticks`: when reading the photos began and ended, `time.perf_counter`."""

        def done() -> None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            ticks.append(time.perf_counter())

        with torch.inference_mode():
            features = self.regressor.encode(images, camera)
        done()
        with torch.no_grad():
            correspondences = self.regressor.predict(features, camera)
        done()
        estimate = _trusted(self.solver(correspondences))
        done()
        estimate = self._align(images, camera, correspondences, estimate)
        done()
        return Localization(
            name,
            self.scene_map.in_world(estimate.cam_from_world),
            estimate.covariance,
            estimate.confidence,
            estimate.success,
            estimate.inliers,
            correspondences,
            Timing(*(1e3 * float(stage) for stage in np.diff(ticks))),
            self.scene_map.info.origin,
        )

    def _align(
        self,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        correspondences: Correspondences,
        estimate: PoseEstimate,
    ) -> PoseEstimate:
        """The estimate, with the landmarks' pose where they are found and tell the place better.

        Where that leaves doubts, the photo is asked again by its keypoints.
        """
        landmarks, described = self.scene_map.landmarks, self.scene_map.described
        if landmarks is None:
            return estimate
        zoom = self.regressor.zoom(camera)
        answers = []
        for i in range(len(images)):
            view, rows = GreyView.of(images[i], camera, zoom), correspondences[i : i + 1]
            answer = _polished(landmarks, view, estimate[i : i + 1])
            if described is not None and _is_doubtful(answer, rows):
                turns = _TURNS[:1] if answer.success else _TURNS
                matched = (_matched(landmarks, Matcher.of(described, view, turn), view) for turn in turns)
                again = next((found for found in matched if found.success), None)
                if again is None:
                    answer = replace(answer, success=answer.success & (answer.confidence > _SURE))
                else:
                    answer = again.to(answer.covariance)
            answers.append(replace(answer, inliers=self.solver.inliers(answer.cam_from_world, rows)))
        return PoseEstimate.cat(answers)


def _polished(landmarks: Landmarks, view: GreyView, coarse: PoseEstimate) -> PoseEstimate:
    """The pose of one photo, by the landmarks where they are found and tell it better."""
    fine = _trusted(align(landmarks, view, coarse.cam_from_world[0]).to(coarse.covariance))
    return fine if fine.success and not (coarse.success and _spread(coarse) < _spread(fine)) else coarse


def _matched(landmarks: Landmarks, matcher: Matcher, view: GreyView) -> PoseEstimate:
    """The pose of one photo by its keypoints; no success where they do not tell it."""
    rows = matcher.anywhere().rows(view.camera)
    found = _MATCHING(rows)
    if not found.success:
        return found
    aligned = align(landmarks, view, found.cam_from_world[0], matcher)
    return _trusted(aligned if aligned.confidence > _LEAST_CONFIDENCE else _confirmed(found, aligned, rows))


def _confirmed(found: PoseEstimate, aligned: PoseEstimate, rows: Correspondences) -> PoseEstimate:
    """The pose by matches alone, or its alignment where that keeps their inliers.

    These must lie in enough tiles of the image: some fifty matches on one small thing fit a wrong pose well.
    """
    pixels = rows.pixels[found.inliers]
    tiles = (pixels / torch.tensor(rows.camera.size) * torch.tensor(TILES)).long().unique(dim=0)
    success = found.success & (len(tiles) >= _LEAST_TILES)
    kept = _MATCHING.inliers(aligned.cam_from_world, rows) & found.inliers
    if aligned.success and kept.sum() >= 0.8 * found.inliers.sum():
        found = replace(aligned, confidence=found.confidence)
    return replace(found, success=success)


def _is_doubtful(answer: PoseEstimate, rows: Correspondences) -> bool:
    """Whether the answer for one photo is unsure, or exact to less than a part of the depth."""
    depths = (answer.cam_from_world @ rows.scene_points)[..., 2]
    unsure = answer.confidence.item() <= _SURE
    return unsure or _spread(answer).sqrt().item() > _EXACT * depths.median().item()


# Landmarks alone reach a confidence of 0.54 by chance, on one of 233 photos of other places.
_SURE = 0.7  # what is not asked again, unless its place is known to no better than ...
_EXACT = 0.004  # ... that part of the depth
_TURNS = 0, 1, 3, 2  # quarter turns: photos upside down are the rarest
_MATCHING = DenseSolver.rgb(threshold_px=8.0)
_LEAST_TILES = 8  # of an image, with inliers: wrong poses had them in seven at most


def _trusted(estimate: PoseEstimate) -> PoseEstimate:
    return replace(estimate, success=estimate.success & (estimate.confidence > _LEAST_CONFIDENCE))


# Photos of one colour, of noise and of other places reach 0.3; right poses of a quickly made map start at 0.8.
_LEAST_CONFIDENCE = 0.5


def _spread(estimate: PoseEstimate) -> Tensor:
    """Variance of the camera's place, m²."""
    return estimate.covariance.diagonal(dim1=-2, dim2=-1)[..., 3:].sum(-1)
