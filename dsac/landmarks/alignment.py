"""Alignment: the pose in which a photo shows the map's landmarks where they should be.

    estimate, rows = align(landmarks, GreyView.of(image, camera), guess)  # by scene coordinates, or a prior

Given a pose that is right to some centimetres, each landmark that should be visible is warped as the image
should show it and searched for near where it should be; the pose is then solved again from the places found.
This is how PTAM (Klein & Murray, ISMAR 2007) tracks. It is as exact as matching keypoints, without a detector
or descriptors.

This is the one place of a query that leaves the device: all here is on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from dsac.geometry import Camera, Pose
from dsac.kernels import is_at_once
from dsac.landmarks.landmarks import PATCH_RADIUS, Landmarks
from dsac.landmarks.matcher import Matcher
from dsac.landmarks.patches import PinholeView, Visibility
from dsac.landmarks.view import GreyView
from dsac.ransac import Correspondences, DenseSolver, FocalFit, PoseEstimate, fit_focal, refocused

_WIDE_RADIUS, _NEAR_RADIUS = 16, 5  # pixels around the predicted place: first, and from the better pose again
_WIDE_COUNT, _NEAR_COUNT, _FOCAL_COUNT = 200, 400, 1200  # landmarks searched for
_MORE_WIDE, _SURE = 3, 0.8  # wide searches more, until the confidence is that or rises no longer
LEAST_CORRELATION = 0.7
_THRESHOLD_PX = 3.0
_VISIBLE = Visibility(margin_px=PATCH_RADIUS, max_angle=math.radians(40.0), max_zoom=1.8)
_KEYPOINT_WEIGHT = 0.6  # beside up to 0.3 of patches: they see more of what is far to the side, if less exactly


@dataclass(frozen=True)
class Sightings:
    """The M landmarks that were found in an image, of A that were searched for."""

    rows: Int[np.ndarray, " M"]  # of the landmarks
    expected: Float[np.ndarray, "M 2"]  # pixels, by the pose that was searched from
    pixels: Float32[np.ndarray, "M 2"]
    correlation: Float32[np.ndarray, " M"]
    searched: Float[np.ndarray, "A 2"]  # pixels at which all of them were expected


class Aligned(NamedTuple):
    """A pose by landmarks, and what it was solved from."""

    estimate: PoseEstimate  # B = 1, on the CPU; its inliers are rows
    rows: Correspondences  # where landmarks, and described points, were found in the end


def align(
    landmarks: Landmarks,
    view: GreyView,  # of the photo
    cam_from_world: Pose,  # batch (), on any device: right to about 16 pixels
    matcher: Matcher | None = None,  # of the photo's keypoints with the map's described points
) -> Aligned:
    """The pose in which the landmarks appear where they are found; no success when hardly any is found.

    With a `matcher` described points count, too: they are known from farther to the side and in another light,
    though not as exactly.

    The confidence is that of the wide search: in the small windows of the near one chance finds too much.
    """

    def search(pose: Pose, radius: int, count: int) -> Aligned:
        rows = _found(landmarks, view, pose, matcher, radius, count)
        return Aligned(_SOLVERS[radius](rows), rows)

    wide = search(cam_from_world.to("cpu"), _WIDE_RADIUS, _WIDE_COUNT)
    for _ in range(_MORE_WIDE):  # from far off, the better pose finds more
        if wide.estimate.confidence > _SURE:
            break
        again = search(wide.estimate.cam_from_world[0], _WIDE_RADIUS, _WIDE_COUNT)
        if again.estimate.confidence <= wide.estimate.confidence:
            break
        wide = again
    if not wide.estimate.success.item():
        return wide
    near, rows = search(wide.estimate.cam_from_world[0], _NEAR_RADIUS, _NEAR_COUNT)
    known = torch.isfinite(near.covariance).flatten(1).all(-1)
    return Aligned(replace(near, confidence=wide.estimate.confidence, success=known), rows)


def align_focal(
    landmarks: Landmarks,
    view: GreyView,
    fit: FocalFit,  # from where to begin
) -> FocalFit:
    """Pose and focal length in which the landmarks appear where they are found.

    More of them are asked than for a pose alone: a zoom and a step look much alike.
    """
    for radius, count in ((_WIDE_RADIUS, _NEAR_COUNT), (_NEAR_RADIUS, _FOCAL_COUNT)):
        seen = replace(view, camera=refocused(view.camera, fit.factor))
        rows = _found(landmarks, seen, fit.cam_from_world, None, radius, count)
        rows = replace(rows, camera=view.camera[None].to(torch.float32))
        fit = fit_focal(
            rows, fit.cam_from_world,
            threshold_px=_THRESHOLD_PX, log_factor=fit.log_factor,
        )  # fmt: skip
        if not fit.success:
            break
    return fit


def _found(
    landmarks: Landmarks, view: GreyView, pose: Pose, matcher: Matcher | None, radius: int, count: int
) -> Correspondences:
    """Where landmarks, `count` at most, and described points are found within `radius` pixels."""
    found = sightings(landmarks, view, pose, count=count, radius=radius)
    pixels, points = torch.from_numpy(found.pixels), landmarks.points[found.rows]
    weights = torch.from_numpy(found.correlation - LEAST_CORRELATION)
    if matcher is not None:
        pairs = matcher.near(view.camera, pose, radius)
        pixels, points = torch.cat([pixels, pairs.pixels]), torch.cat([points, pairs.points])
        weights = torch.cat([weights, _KEYPOINT_WEIGHT * pairs.similarity])
    return Correspondences(
        pixels[None], points[None], view.camera[None].to(torch.float32), weights=weights[None]
    )


_SOLVERS = {
    radius: DenseSolver.rgb(threshold_px=_THRESHOLD_PX, window_px=2 * radius + 1)
    for radius in (_WIDE_RADIUS, _NEAR_RADIUS)
}


def sightings(
    landmarks: Landmarks,
    view: GreyView,
    cam_from_world: Pose,  # batch (), on the CPU
    *,
    count: int = _NEAR_COUNT,
    radius: int = _NEAR_RADIUS,
    least_correlation: float = LEAST_CORRELATION,
) -> Sightings:
    """Where at most `count` landmarks appear within `radius` pixels of where this pose would show them.

    As they are: what a pose from `align` shows.
    """
    rows = visible(landmarks, view.camera, cam_from_world, count)
    expected, pixels, correlation = search(landmarks, rows, view, cam_from_world, radius)
    alike = correlation > least_correlation
    return Sightings(rows[alike], expected[alike], pixels[alike], correlation[alike], expected)


def search(
    landmarks: Landmarks, rows: Int[np.ndarray, " M"], view: GreyView, cam_from_world: Pose, radius: int
) -> tuple[Float[np.ndarray, "M 2"], Float32[np.ndarray, "M 2"], Float32[np.ndarray, " M"]]:
    """Where landmarks should be seen from a pose (batch ()), where they are, and the correlations there."""
    expected, image_from_patch = predict(landmarks, rows, view.camera, cam_from_world)
    pixels, correlation = _search().find_patches(
        view.pixels, landmarks.patches.numpy(), rows, expected, image_from_patch, radius=radius
    )
    return expected, pixels, correlation


def visible(landmarks: Landmarks, camera: Camera, cam_from_world: Pose, most: int) -> Int[np.ndarray, " M"]:
    """At most `most` landmarks that the camera should see much as they were seen, spread over the image."""
    view = PinholeView.of(camera, cam_from_world)
    return _search().visible_patches(landmarks.seen, view, _VISIBLE, most)


def predict(
    landmarks: Landmarks, rows: Int[np.ndarray, " M"], camera: Camera, cam_from_world: Pose
) -> tuple[Float[np.ndarray, "M 2"], Float[np.ndarray, "M 2 2"]]:
    """Where the camera should see some landmarks, and how: pixels of the image per pixel of the patch."""
    seen = landmarks.seen
    rotation = cam_from_world.rotation.double().numpy()
    points_cam = seen.points[rows] @ rotation.T + cam_from_world.translation.double().numpy()
    depth = points_cam[:, 2]
    axes_cam = seen.axes[rows] @ rotation.T  # (M, 2 axes, 3)
    plane = points_cam[:, None, :2] / depth[:, None, None]
    focal = camera.focal_px.double().numpy()
    image_from_patch = (focal / depth[:, None])[:, None] * (axes_cam[..., :2] - plane * axes_cam[..., 2:])
    pixels = plane[:, 0] * focal + camera.center_px.double().numpy()
    return pixels, np.swapaxes(image_from_patch, 1, 2)


def _search() -> ModuleType:
    """What searches for patches: the compiled one, which takes a second to load, or that written out."""
    if is_at_once():
        from dsac.landmarks import patches

        return patches
    from dsac.landmarks import patches_numba

    return patches_numba
