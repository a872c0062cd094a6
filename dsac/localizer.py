"""The localizer: a map and a photo to a pose, and how far to trust it.

    localizer = Localizer.load("chess.dsac")
    answer = localizer.localize(image, camera)

A query is: encode, predict scene coordinates (the regressor), solve, and hold the pose against what the map
remembers of its images (`dsac.landmarks.answering`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets import Frame, Frames, load_photos
from dsac.datasets.given import batch_of
from dsac.datasets.given_cameras import one_camera
from dsac.datasets.given_depth import depth_of_batch
from dsac.datasets.photos import usual_camera
from dsac.errors import DsacError, MapFormatError
from dsac.geometry import Camera, Pose
from dsac.kernels import at_once, wait_until_compiled
from dsac.landmarks import GreyView, Matcher, align_focal
from dsac.landmarks.answering import LEAST_CONFIDENCE, MATCHING, SURE, answer, answer_by_modes, trusted
from dsac.localization import Alternative, Localization, Timing
from dsac.networks.encoder import Encoder
from dsac.query_depth import solve_with_depth, with_camera_points
from dsac.ransac import Correspondences, DenseSolver, FocalFit, PoseEstimate, Solver, fit_focal, refocused
from dsac.regressor import CorrespondenceSource
from dsac.scene_map import SceneMap


class Localizer:
    """Localizes photos in one mapped scene. Not localized is an answer: `success` is False."""

    def __init__(
        self,
        scene_map: SceneMap,
        *,
        encoder: Encoder | None = None,
        regressor: CorrespondenceSource | None = None,
        solver: Solver | None = None,
        depth_solver: Solver | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """`encoder`: the one that the map was made with, when it does not ship with the package.

        `regressor` takes the place of the map's own, `solver` that of its scoring rule's, and photos with
        depth are for `depth_solver`. The modules are this localizer's own: the map stays as it is.
        Raises: `MapFormatError` when the encoder is not the map's, `ValueError` for both encoder and regressor.
        """
        if encoder is not None and regressor is not None:
            raise ValueError("encoder: expected none beside a regressor, which has its own")
        self.scene_map = scene_map
        self.device = torch.device(device)
        self.regressor = regressor or scene_map.regressor(encoder, self.device)
        self.solver = solver or scene_map.solver(self.device)
        self.depth_solver = depth_solver or DenseSolver.rgbd()

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

    def warm_up(self) -> None:
        """Wait until all that a photo needs is compiled, which is done once after an install.

        Without it the first answers are not waited for: they take seconds, until a process that compiles beside
        this one is done, and differ from later ones by rounding and other draws.
        Raises: `DsacError` when compiling fails.
        """
        wait_until_compiled()

    def localize(
        self,
        image: Any,
        camera: Any = None,
        *,
        depth: Any = None,
        depth_scale: float | None = None,
        bgr: bool = False,
    ) -> Localization:
        """The pose of one photo; or of B photos of one camera, and the answer's fields have that dimension.

        `image` is a path, bytes, an open file, a PIL image, an array (H, W, 3), (H, W, 4) or (H, W), RGB or in
        OpenCV's order if `bgr`, or a tensor (3, H, W); or B photos as a tensor (B, 3, H, W). Values are 8 bits
        or floats in [0, 1]. What EXIF data tell viewers to turn is turned, see `load_photos`.
        `camera` is a `Camera` or OpenCV's matrix K of that image. Without it, it is found as by `load_photos`:
        the mapping images' where they have the photo's shape, else the focal length of the EXIF data. What is
        not known exactly is solved with the pose (`Localization.focal_px`).
        `depth` along the optical axis, registered to the photo, makes the answer surer: an array (H, W) in
        metres, for B photos (B, H, W), or a file, see `load_photos`; 0, NaN and what is below are unknown, and
        where too little is known, or it contradicts the map, the answer is that without it.
        Raises: `ValueError` for an image, a camera or depth of another kind, and where a tensor's camera is of
        another image size; `DatasetError` for a file that cannot be read, and a camera or depth of another
        shape than the photo; `DsacError` for depth where the map's unit of length is not the metre.
        """
        if isinstance(image, Tensor) and (camera is not None or image.ndim == 4):
            return self._localize_tensor(image, camera, bgr, depth, depth_scale)
        photos = load_photos(
            image,
            camera=camera,
            mapping_camera=self.scene_map.mapping_camera,
            as_stored=self.scene_map.info.as_stored,
            bgr=bgr,
            depth=depth,
            depth_scale=depth_scale,
        )
        if len(photos) > 1:
            raise ValueError(
                f"image: expected one, got {len(photos)}: localize_frames(load_photos(...)) takes them"
            )
        return next(self.localize_frames(photos, use_depth=True))

    def _localize_tensor(
        self, image: Tensor, camera: Any, bgr: bool, depth: Any, depth_scale: float | None
    ) -> Localization:
        images = batch_of(image)
        size = images.shape[-1], images.shape[-2]
        camera = one_camera(camera, size)
        if camera.size != size:
            raise ValueError(
                f"camera: expected {size[0]}×{size[1]} like the image, got {camera.size[0]}×{camera.size[1]}"
            )
        images = images.flip(-3) if bgr else images
        measured = None if depth is None else depth_of_batch(depth, depth_scale, len(images), camera)
        with at_once():
            answer = self._localize("photo", images, camera, [time.perf_counter()] * 2, measured)
        return answer if image.ndim == 4 else answer[0]

    def localize_frames(self, frames: Frames, *, use_depth: bool = False) -> Iterator[Localization]:
        """Localize frames one by one, reading each when it is asked for.

        Their depth is not looked at, unless `use_depth`; see `localize`. Photos whose focal length is not known
        to some percent are localized without.
        """
        frames = frames if use_depth else frames.without_depth()
        for i in range(len(frames)):
            started = time.perf_counter()
            frame = frames[i]
            ticks = [started, time.perf_counter()]
            with at_once():
                if frame.focal == "known":
                    depth = None if frame.depth is None else frame.depth[None]
                    answer = self._localize(frame.name, frame.image[None], frame.camera, ticks, depth)[0]
                else:
                    answer = self._localize_and_focus(frame, ticks)
            larger = frames.camera(i).size[0] / frame.camera.size[0]  # large photos are decoded smaller
            focal = larger * answer.focal_px, larger * answer.focal_sigma_px
            yield replace(answer, focal_px=focal[0], focal_sigma_px=focal[1])

    # ---- stages ----------------------------------------------------------------------------------

    def _localize(
        self,
        name: str,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        ticks: list[float],
        depth: Float[Tensor, "B H W"] | None,
    ) -> Localization:
        """`ticks`: when reading the photos began and ended, `time.perf_counter`."""
        return self._answer(name, camera, 0.0, self._estimate(images, camera, ticks, depth), ticks)

    def _estimate(
        self,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        ticks: list[float],
        depth: Float[Tensor, "B H W"] | None = None,
    ) -> _Estimated:
        """The pose in the map's frame, and what goes with it."""

        def done() -> None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            ticks.append(time.perf_counter())

        known = depth if depth is not None and (depth > 0).any() else None
        if known is not None and self.scene_map.info.metric is False:
            raise DsacError("depth: it is in metres, the map is not (it is of photos alone); localize without")
        with torch.inference_mode():
            if known is not None:
                known = known / self.scene_map.info.scale
            of_depth = {} if known is None else {"depth": known}
            features = self.regressor.encode(images, camera, **of_depth)
        done()
        with torch.no_grad():
            correspondences = self.regressor.predict(features, camera)
        if known is not None:
            correspondences = with_camera_points(correspondences, camera, known)
        done()
        if correspondences.has_depth:
            estimate, correspondences = solve_with_depth(correspondences, self.depth_solver, self.solver)
        else:
            estimate = trusted(self.solver(correspondences))
        done()
        estimated = self._align(images, camera, correspondences, estimate)
        done()
        return estimated

    def _answer(
        self,
        name: str,
        camera: Camera,
        focal_sigma: float,  # of the logarithm of the focal length
        estimated: _Estimated,
        ticks: list[float],
    ) -> Localization:
        focal_px = camera.focal_px[0].item()
        estimate, rows, others = estimated
        world = self.scene_map.info.world_from_map
        return Localization(
            name,
            world.pose(estimate.cam_from_world),
            world.covariance(estimate.covariance),
            estimate.confidence,
            estimate.success,
            estimate.inliers,
            rows,
            Timing(*(1e3 * float(stage) for stage in np.diff(ticks))),
            world,
            focal_px,
            focal_px * focal_sigma,
            self.scene_map.info.metric,
            tuple(
                tuple(
                    Alternative(
                        world.pose(pose.cam_from_world)[0], world.covariance(pose.covariance)[0], chance
                    )
                    for pose, chance in of_photo
                )
                for of_photo in others
            ),
        )

    # ---- where the focal length is not known exactly ----------------------------------------------

    def _localize_and_focus(self, frame: Frame, ticks: list[float]) -> Localization:
        """Pose and focal length of one photo: a rough one of a ladder, then both by the landmarks."""
        images, camera, how = frame.image[None], frame.camera, frame.focal
        if how != "assumed":
            camera = self._rough_focal(images, camera, math.inf if how == "unknown" else _EXIF_RANGE) or camera
        depth = None if how != "assumed" or frame.depth is None else frame.depth[None]
        estimate, rows, others = self._estimate(images, camera, ticks, depth)
        if how != "unknown" and estimate.confidence.item() <= SURE:
            other = self._rough_focal(images, camera, math.inf)
            if other is not None:
                again = self._estimate(images, other, [*ticks])
                if again.estimate.confidence.item() > max(SURE, estimate.confidence.item()):
                    (estimate, rows, others), camera, how = again, other, "unknown"
        sigma = 0.0 if how == "assumed" else math.inf
        if estimate.success.item():
            fit = self._focal_fit(images[0], camera, rows, estimate)
            if fit.success and not (how == "assumed" and _is_as_assumed(fit)):
                told = math.log(frame.camera.focal_px[0].item() / camera.focal_px[0].item())
                fit = fit.given(told, _EXIF_SIGMA if how == "rough" else math.inf, _SLACK)
                camera, sigma = refocused(camera, fit.factor), fit.log_sigma
                rows = replace(rows, camera=refocused(rows.camera, fit.factor), camera_points=None)
                estimate = self._focused(fit, rows, estimate)
            elif how == "rough":
                sigma = _EXIF_SIGMA
                estimate = replace(estimate, covariance=_moved_along(estimate, rows, sigma))
        if not math.isfinite(sigma):
            estimate = replace(estimate, success=torch.zeros_like(estimate.success))
            sigma = 0.0
        ticks[-1] = time.perf_counter()
        return self._answer(frame.name, camera, sigma, _Estimated(estimate, rows, others), ticks)[0]

    def _rough_focal(self, images: Float[Tensor, "1 3 H W"], camera: Camera, within: float) -> Camera | None:
        """The camera with that focal length of a ladder which explains most, None where none explains much.

        It is `within` that much of the camera's, as a logarithm.
        """
        with torch.inference_mode():
            cells = self.regressor.predict(self.regressor.encode(images, camera), camera)
        asked: list[tuple[Correspondences, Solver]] = [(cells, self.solver)]
        if self.scene_map.described is not None:
            view = GreyView.of(images[0], camera, self.regressor.zoom(camera))
            matches = Matcher.of(self.scene_map.described, view).anywhere().rows(view.camera)
            asked.insert(0, (matches, MATCHING))
        for rows, solver in asked:
            best, most = 1.0, 0.0
            factors = _LADDER * (usual_camera(camera.size).focal_px[0] / camera.focal_px[0]).item()
            for factor in factors[np.abs(np.log(factors)) < within]:
                found = solver(replace(rows, camera=refocused(rows.camera, factor)))
                enough = found.success.item() and found.confidence.item() > LEAST_CONFIDENCE
                if enough and found.num_inliers.item() > most:
                    best, most, start = factor, found.num_inliers.item(), found.cam_from_world[0]
            if most > 0:
                rows = replace(rows, camera=refocused(rows.camera, best))
                fit = fit_focal(rows, start, threshold_px=_FOCAL_THRESHOLD_PX)
                return refocused(camera, best * (fit.factor if fit.log_sigma < _VAGUE else 1.0))
        return None

    def _focal_fit(
        self, image: Tensor, camera: Camera, rows: Correspondences, estimate: PoseEstimate
    ) -> FocalFit:
        """By the cells, and from there by the landmarks."""
        pose, landmarks = estimate.cam_from_world[0].to("cpu", torch.float64), self.scene_map.landmarks
        fit = fit_focal(rows, pose, threshold_px=_FOCAL_THRESHOLD_PX)
        if landmarks is not None:
            start = fit if fit.success and fit.log_sigma < _VAGUE else FocalFit.none(pose)
            view = GreyView.of(image, camera, self.regressor.zoom(camera))
            fit = align_focal(landmarks, view, start)
        return replace(fit, success=fit.success and _SLACK * fit.log_sigma < _VAGUE)

    def _focused(self, fit: FocalFit, rows: Correspondences, estimate: PoseEstimate) -> PoseEstimate:
        """The pose of a fit in place of the estimate's."""
        pose = Pose.stack([fit.cam_from_world]).to(estimate.covariance)
        covariance = torch.from_numpy(fit.covariance[None, :6, :6]).to(estimate.covariance)
        inliers = self.solver.inliers(pose, rows)
        return replace(estimate, cam_from_world=pose, covariance=covariance, inliers=inliers)

    def _align(
        self,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        correspondences: Correspondences,
        estimate: PoseEstimate,
    ) -> _Estimated:
        """The estimate by what the map remembers, and the other places of each photo."""
        memory = self.scene_map.memory
        if memory is None and correspondences.modes == 1:
            return _Estimated(estimate, correspondences, [()] * len(images))
        answers, others = [], []
        for i in range(len(images)):
            rows, coarse = correspondences[i : i + 1], estimate[i : i + 1]
            solver = self.depth_solver if rows.has_depth else self.solver
            if memory is None:
                found = answer_by_modes(solver, rows, coarse)
            else:
                view = GreyView.of(
                    images[i], camera, self.regressor.zoom(camera), colored=bool(memory.look_alikes)
                )
                found = answer(memory, view, rows, coarse)
            inliers = solver.inliers(found.estimate.cam_from_world, rows)
            answers.append(replace(found.estimate, inliers=inliers))
            others.append(found.others)
        return _Estimated(PoseEstimate.cat(answers), correspondences, others)


class _Estimated(NamedTuple):
    """Poses of photos in the map's frame."""

    estimate: PoseEstimate
    rows: Correspondences  # what they were searched in
    others: Sequence[Sequence[tuple[PoseEstimate, float]]]  # of each photo: where else it may have been taken


def _is_as_assumed(fit: FocalFit) -> bool:
    """Whether a focal length that was assumed to be that of the mapping camera is not contradicted."""
    return abs(fit.log_factor) < max(_AS_ASSUMED, 4.0 * _SLACK * fit.log_sigma)


def _moved_along(estimate: PoseEstimate, rows: Correspondences, sigma: float) -> Tensor:
    """The covariance, with what the focal length's moves the camera along its axis."""
    covariance = estimate.covariance.clone()
    depth = (estimate.cam_from_world @ rows.scene_points)[..., 2].median()
    covariance[..., 5, 5] += (sigma * depth).square()
    return covariance


_LADDER = np.exp(0.11 * np.arange(-8, 13))  # times the usual one: fields of view of 112 to 19 degrees
_EXIF_RANGE = 0.25  # of the logarithm
_EXIF_SIGMA = 0.1  # of the logarithm: rounded to millimetres, of widths or diagonals, of another format
_AS_ASSUMED = 0.02
_SLACK = 3.0  # see `FocalFit.given`: the kitchen's queries are off 2.6 times as far as their points say
_VAGUE = 0.1  # of the logarithm: what is known to no better than that is not known
_FOCAL_THRESHOLD_PX = 10.0
