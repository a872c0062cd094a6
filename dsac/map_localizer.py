"""One map's answer to a photo, in the map's own frame.

encode ▸ predict ▸ solve ▸ hold against what the map remembers of its images

A `Localizer` asks one of these for each region that a photo may be of.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets import Frame
from dsac.datasets.photos import usual_camera
from dsac.errors import DsacError
from dsac.geometry import Camera, Pose
from dsac.landmarks import GreyView, Matcher, align, align_focal, sightings
from dsac.landmarks.answering import (
    LEAST_CONFIDENCE,
    MATCHING,
    SURE,
    answer_by_modes,
    is_doubtful,
    quick_answer,
    thorough_answer,
    trusted,
)
from dsac.landmarks.look_alikes import support
from dsac.networks.encoder import Encoder
from dsac.query_depth import solve_with_depth, with_camera_points
from dsac.ransac import Correspondences, DenseSolver, FocalFit, PoseEstimate, Solver, fit_focal, refocused
from dsac.regressor import CorrespondenceSource, Regressor
from dsac.scene_map import SceneMap


@dataclass
class Clock:
    """How long the stages of a query took; `lap` ends one that began where the last ended."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.last = now


class Estimated(NamedTuple):
    """Poses of photos in the map's frame."""

    estimate: PoseEstimate
    rows: Correspondences  # what they were searched in
    others: Sequence[Sequence[tuple[PoseEstimate, float]]]  # of each photo: where else it may have been taken


class Focused(NamedTuple):
    """The answer where the focal length was solved, too."""

    estimated: Estimated
    camera: Camera  # with the focal length of the answer
    log_sigma: float  # of its logarithm


def known_depth(depth: Float[Tensor, "B H W"] | None) -> Float[Tensor, "B H W"] | None:
    """None where nothing is known."""
    return depth if depth is not None and (depth > 0).any() else None


def encoded_by(regressor: Regressor, camera: Camera) -> object:
    """See `MapLocalizer.encodes`."""
    encoder = regressor.encoder
    assert encoder is not None
    return encoder.id, encoder.digest, regressor.working_size(camera)


class MapLocalizer:
    """Localizes photos in one map. Its modules are its own: the map stays as it is."""

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
        """See `Localizer`. Raises: `MapFormatError` when the encoder is not the map's."""
        self.scene_map = scene_map
        self.device = torch.device(device)
        self.regressor = regressor or scene_map.regressor(encoder, self.device)
        self.solver = solver or scene_map.solver(self.device)
        self.depth_solver = depth_solver or DenseSolver.rgbd()

    def encode(
        self, images: Float[Tensor, "B 3 H W"], camera: Camera, depth: Float[Tensor, "B H W"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """`depth`: metres. Raises: `DsacError` for depth where the map's unit of length is not the metre."""
        of_depth = {} if depth is None else {"depth": self._in_unit(depth)}
        with torch.inference_mode():
            return self.regressor.encode(images, camera, **of_depth)

    def first(
        self,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        features: Float[Tensor, "B C h w"],  # of `encode`
        depth: Float[Tensor, "B H W"] | None,
        clock: Clock,
    ) -> FirstLook:
        """What scene coordinates and the landmarks that they show say; nothing is searched for."""
        with torch.no_grad():
            rows = self.regressor.predict(features, camera)
        if depth is not None:
            rows = with_camera_points(rows, camera, self._in_unit(depth))
        clock.lap("head")
        if rows.has_depth:
            coarse, rows = solve_with_depth(rows, self.depth_solver, self.solver)
        else:
            coarse = trusted(self.solver(rows))
        clock.lap("solve")
        photos, memory, views = range(len(images)), self.scene_map.memory, []
        found = [coarse[i : i + 1] for i in photos]
        if memory is not None:
            views = [self.view(image, camera) for image in images]
            found = [quick_answer(memory, views[i], rows[i : i + 1], found[i]) for i in photos]
        clock.lap("align")
        return FirstLook(rows, coarse, found, views)

    def finish(self, look: FirstLook, clock: Clock) -> Estimated:
        """The answer: doubts are searched for, places that look alike told apart."""
        memory = self.scene_map.memory
        rows, coarse, found, views = look
        if memory is None and rows.modes == 1:
            return Estimated(coarse, rows, [()] * len(rows))
        answers, others = [], []
        for i in range(len(rows)):
            one = slice(i, i + 1)
            solver = self.depth_solver if rows[one].has_depth else self.solver
            if memory is None:
                answer = answer_by_modes(solver, rows[one], coarse[one])
            else:
                answer = thorough_answer(memory, views[i], rows[one], coarse[one], found[i])
            inliers = solver.inliers(answer.estimate.cam_from_world, rows[one])
            answers.append(replace(answer.estimate, inliers=inliers))
            others.append(answer.others)
        clock.lap("align")
        return Estimated(PoseEstimate.cat(answers), rows, others)

    def from_prior(
        self, images: Float[Tensor, "1 3 H W"], camera: Camera, prior: Pose, clock: Clock
    ) -> Estimated | None:
        """The pose of one photo by the landmarks that are seen from about there; None for a map without any.

        `prior`: batch (), in the map's frame. Nothing else is asked: the confidence says how far that goes.
        """
        landmarks = self.scene_map.landmarks
        if landmarks is None:
            return None
        estimate, rows = align(landmarks, self.view(images[0], camera), prior)
        clock.lap("align")
        return Estimated(trusted(estimate), rows, [()])

    def view(self, image: Float[Tensor, "3 H W"], camera: Camera) -> GreyView:
        """The photo as landmarks are searched for in it."""
        memory = self.scene_map.memory
        colored = memory is not None and bool(memory.look_alikes)
        return GreyView.of(image, camera, self.regressor.zoom(camera), colored=colored)

    def support(self, look: FirstLook, estimate: PoseEstimate) -> float:
        """How well one photo shows what it should from its pose: a logarithm, at most 0."""
        landmarks = self.scene_map.landmarks
        if landmarks is None:
            return math.log(max(estimate.confidence.item(), 1e-3))
        pose = estimate.cam_from_world[0].to("cpu", torch.float64)
        return support(sightings(landmarks, look.views[0], pose), look.views[0].camera.size)

    def encodes(self, camera: Camera) -> object:
        """What the features of a camera's photos are made by: equal to another's, theirs are the same."""
        if not isinstance(self.regressor, Regressor):
            return self
        return encoded_by(self.regressor, camera)

    def _in_unit(self, depth: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
        """Metres in the map's unit."""
        info = self.scene_map.info
        if info.metric is False:
            raise DsacError("depth: it is in metres, the map is not (it is of photos alone); localize without")
        return depth / info.scale

    # ---- where the focal length is not known exactly ----------------------------------------------

    def focused(self, frame: Frame, clock: Clock) -> Focused:
        """Pose and focal length of one photo: a rough one of a ladder, then both by the landmarks."""
        images, camera, how = frame.image[None], frame.camera, frame.focal
        if how != "assumed":
            camera = self._rough_focal(images, camera, math.inf if how == "unknown" else _EXIF_RANGE) or camera
        depth = None if how != "assumed" or frame.depth is None else known_depth(frame.depth[None])
        estimate, rows, others = self.estimate(images, camera, depth, clock)
        if how != "unknown" and estimate.confidence.item() <= SURE:
            other = self._rough_focal(images, camera, math.inf)
            if other is not None:
                again = self.estimate(images, other, None, clock)
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
        clock.lap("align")
        return Focused(Estimated(estimate, rows, others), camera, sigma)

    def estimate(
        self,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        depth: Float[Tensor, "B H W"] | None,
        clock: Clock,
    ) -> Estimated:
        """All stages. Depth of which nothing is known is none: `known_depth`."""
        features = self.encode(images, camera, depth)
        clock.lap("encode")
        return self.finish(self.first(images, camera, features, depth, clock), clock)

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


class FirstLook(NamedTuple):
    """What `MapLocalizer.first` found for photos."""

    rows: Correspondences
    coarse: PoseEstimate  # what the rows agree on
    found: Sequence[PoseEstimate]  # of each photo: that, aligned by landmarks
    views: Sequence[GreyView]  # as landmarks were searched for in them; none where the map has none

    def of(self, index: int) -> FirstLook:
        """Of one photo, still a batch."""
        one = slice(index, index + 1)
        return FirstLook(self.rows[one], self.coarse[one], self.found[one], self.views[one])

    @property
    def is_clear(self) -> bool:
        """Whether one photo's answer needs no search."""
        (found,) = self.found
        return bool(found.success) and not is_doubtful(found, self.rows)


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
