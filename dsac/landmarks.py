"""Landmarks: scene points that the map remembers the looks of, and the pose that lets an image show them best.

    estimate = align(landmarks, grey, camera, cam_from_world)     # from the pose that scene coordinates gave

A landmark is a well-localised scene point with the small patch of a mapping image around it. Given a pose that
is right to some centimetres, each one that should be visible is warped as the image should show it and searched
for near where it should be; the pose is then solved again from the places found. This is how PTAM (Klein &
Murray, ISMAR 2007) tracks. It is as exact as matching keypoints, without a detector or descriptors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from dsac.geometry import Camera, Pose
from dsac.ransac import Correspondences, DenseSolver, PoseEstimate

SHORT_SIDE_PX = 480  # of the images that patches are cut from and searched in
PATCH_RADIUS = 7  # pixels; more than the 9×9 that are compared, for views from farther off and turned ones
_WIDE_RADIUS, _NEAR_RADIUS = 16, 5  # pixels around the predicted place: first, and from the better pose again
_WIDE_COUNT, _NEAR_COUNT = 200, 400  # landmarks searched for
_MORE_WIDE, _SURE = 3, 0.8  # wide searches more, until the confidence is that or rises no longer
_LEAST_CORRELATION = 0.7
_THRESHOLD_PX = 3.0
_MAX_VIEW_ANGLE_DEG = 40.0  # between the rays that show a point now and then
_MAX_ZOOM = 1.8


@dataclass(frozen=True)
class Landmarks:
    """L scene points with the image patches that show them, cut from V views."""

    points: Float[Tensor, "L 3"]  # metres, world frame
    patches: UInt8[Tensor, "L P P"]  # grey; the point projects to the middle of the centre pixel
    view: Int[Tensor, " L"]  # which view the patch was cut from
    cam_from_world: Pose  # batch (V,), of the views
    focal_px: Float[Tensor, "V 2"]

    def __len__(self) -> int:
        return len(self.points)

    def tensors(self) -> dict[str, Tensor]:
        """What a map file holds of them; `from_tensors` reads it."""
        return {
            "points": self.points,
            "patches": self.patches,
            "view": self.view,
            "cam_from_world": self.cam_from_world.matrix[:, :3].contiguous(),
            "focal_px": self.focal_px,
        }

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Landmarks:
        """Raises: `KeyError` when one is missing."""
        poses = Pose.from_matrix(tensors["cam_from_world"])
        return Landmarks(tensors["points"], tensors["patches"], tensors["view"], poses, tensors["focal_px"])

    @cached_property
    def _arrays(self) -> _Arrays:
        rotation = self.cam_from_world.rotation.double().numpy()
        view = self.view.long().numpy()
        points = self.points.double().numpy()
        centers = self.cam_from_world.center.double().numpy()[view]
        depth = ((points - centers) * rotation[view, 2]).sum(-1)
        # the surface is taken to face the view: a step of a pixel there moves the point along the image axes
        axes = rotation[view, :2] * (depth[:, None] / self.focal_px.double().numpy()[view])[..., None]
        return _Arrays(points, points - centers, axes, np.linalg.norm(axes[:, 0], axis=1))


@dataclass(frozen=True)
class _Arrays:
    points: Float[np.ndarray, "L 3"]
    rays: Float[np.ndarray, "L 3"]  # from the cameras that saw them, metres
    axes: Float[np.ndarray, "L 2 3"]  # metres per pixel of the patch in x and y, world frame
    pixel_sizes: Float[np.ndarray, " L"]  # metres


@dataclass(frozen=True)
class Sightings:
    """The landmarks that were found in an image."""

    rows: Int[np.ndarray, " M"]  # of the landmarks
    expected: Float[np.ndarray, "M 2"]  # pixels, by the pose that was searched from
    pixels: Float32[np.ndarray, "M 2"]
    correlation: Float32[np.ndarray, " M"]


def align(
    landmarks: Landmarks,
    grey: UInt8[np.ndarray, "H W"],  # its `grey_view`
    camera: Camera,  # the photo's `working_camera`
    cam_from_world: Pose,  # batch (): right to about 16 pixels
) -> PoseEstimate:  # B = 1
    """The pose in which the landmarks appear where they are found; no success when hardly any is found.

    The confidence is that of the wide search: in the small windows of the near one chance finds too much.
    """
    wide = _search(landmarks, grey, camera, cam_from_world, _WIDE_RADIUS, _WIDE_COUNT)
    for _ in range(_MORE_WIDE):  # from far off, the better pose finds more
        if wide.confidence > _SURE:
            break
        again = _search(landmarks, grey, camera, wide.cam_from_world[0], _WIDE_RADIUS, _WIDE_COUNT)
        if again.confidence <= wide.confidence:
            break
        wide = again
    if not wide.success.item():
        return wide
    near = _search(landmarks, grey, camera, wide.cam_from_world[0], _NEAR_RADIUS, _NEAR_COUNT)
    known = torch.isfinite(near.covariance).flatten(1).all(-1)
    return replace(near, confidence=wide.confidence, success=known)


def _search(
    landmarks: Landmarks,
    grey: UInt8[np.ndarray, "H W"],
    camera: Camera,
    cam_from_world: Pose,
    radius: int,
    count: int,
) -> PoseEstimate:
    """Search for `count` landmarks within `radius` pixels, and solve."""
    found = sightings(
        landmarks, grey, camera, cam_from_world,
        count=count, radius=radius, least_correlation=_LEAST_CORRELATION,
    )  # fmt: skip
    correspondences = Correspondences(
        torch.from_numpy(found.pixels)[None],
        landmarks.points[found.rows][None],
        camera[None].to("cpu", torch.float32),
        weights=torch.from_numpy(found.correlation - _LEAST_CORRELATION)[None],
    )
    solver = DenseSolver.rgb(threshold_px=_THRESHOLD_PX, window_px=2 * radius + 1)
    return solver(correspondences)


def sightings(
    landmarks: Landmarks,
    grey: UInt8[np.ndarray, "H W"],
    camera: Camera,
    cam_from_world: Pose,
    *,
    count: int,
    radius: int,
    least_correlation: float,
) -> Sightings:
    """Where at most `count` landmarks appear within `radius` pixels of where this pose would show them."""
    from dsac.kernels.cpu_patches import find_patches  # Numba, which takes a second to load

    rows = visible(landmarks, camera, cam_from_world, count)
    expected, image_from_patch = predict(landmarks, rows, camera, cam_from_world)
    pixels, correlation = find_patches(
        grey, landmarks.patches.numpy(), rows, expected, image_from_patch, radius=radius
    )
    alike = correlation > least_correlation
    return Sightings(rows[alike], expected[alike], pixels[alike], correlation[alike])


def working_camera(camera: Camera, zoom: float = 1.0) -> Camera:
    """The pinhole camera at the size for the search, of a lens that shows all `zoom` times larger."""
    scale = SHORT_SIDE_PX / (zoom * min(camera.size))
    return camera.rescale((round(camera.size[0] * scale), round(camera.size[1] * scale))).pinhole


def grey_view(image: Float[Tensor, "3 H W"], camera: Camera, zoom: float = 1.0) -> UInt8[np.ndarray, "h w"]:
    """The photo in grey as `working_camera(camera, zoom)` sees it."""
    size = working_camera(camera, zoom).size
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).to("cpu", torch.float32).numpy())
    grey = cv2.convertScaleAbs(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), alpha=255)
    if camera.size != size:
        smaller = size[0] < camera.size[0]
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    if camera.distortion is None:
        return grey
    maps = _undistortion(camera.model, camera.size, tuple(camera.params.tolist()), size)
    return cv2.remap(grey, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore


@lru_cache(maxsize=16)
def _undistortion(
    model: str, size: tuple[int, int], params: tuple[float, ...], working: tuple[int, int]
) -> Float32[np.ndarray, "h w 2"]:
    """Where each pixel of the undistorted image lies in the distorted one, as OpenCV counts."""
    camera = Camera.from_params(model, params, size).rescale(working)
    columns, rows = torch.arange(working[0]) + 0.5, torch.arange(working[1]) + 0.5
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).double()
    rays = camera.pinhole.unproject(pixels.reshape(-1, 2))
    return camera.project(rays).reshape(*pixels.shape).float().numpy() - 0.5


def visible(landmarks: Landmarks, camera: Camera, cam_from_world: Pose, most: int) -> Int[np.ndarray, " M"]:
    """At most `most` landmarks that the camera should see much as they were seen, spread over the image."""
    from dsac.kernels.cpu_patches import visible_patches  # Numba, which takes a second to load

    arrays = landmarks._arrays
    return visible_patches(
        arrays.points,
        arrays.rays,
        arrays.pixel_sizes,
        cam_from_world.matrix[:3].double().numpy(),
        camera.focal_px.double().numpy(),
        camera.center_px.double().numpy(),
        camera.size,
        margin_px=PATCH_RADIUS,
        max_angle=math.radians(_MAX_VIEW_ANGLE_DEG),
        max_zoom=_MAX_ZOOM,
        most=most,
    )


def predict(
    landmarks: Landmarks, rows: Int[np.ndarray, " M"], camera: Camera, cam_from_world: Pose
) -> tuple[Float[np.ndarray, "M 2"], Float[np.ndarray, "M 2 2"]]:
    """Where the camera should see some landmarks, and how: pixels of the image per pixel of the patch."""
    arrays = landmarks._arrays
    rotation = cam_from_world.rotation.double().numpy()
    points_cam = arrays.points[rows] @ rotation.T + cam_from_world.translation.double().numpy()
    depth = points_cam[:, 2]
    axes_cam = arrays.axes[rows] @ rotation.T  # (M, 2 axes, 3)
    plane = points_cam[:, None, :2] / depth[:, None, None]
    focal = camera.focal_px.double().numpy()
    image_from_patch = (focal / depth[:, None])[:, None] * (axes_cam[..., :2] - plane * axes_cam[..., 2:])
    pixels = plane[:, 0] * focal + camera.center_px.double().numpy()
    return pixels, np.swapaxes(image_from_patch, 1, 2)
