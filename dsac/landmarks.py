"""Landmarks: scene points that the map remembers the looks of, and the pose that lets an image show them best.

    alignment = align(landmarks, grey, camera, cam_from_world)     # from the pose that scene coordinates gave

A landmark is a well-localised scene point with the small patch of a mapping image around it. Given a pose that
is right to some centimetres, each one that should be visible is warped as the image should show it and searched
for near where it should be; the pose is then solved again from the places found. This is how PTAM (Klein &
Murray, ISMAR 2007) tracks. It is as exact as matching keypoints, without a detector or descriptors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from dsac.geometry import Camera, Pose
from dsac.ransac import Correspondences, PoseEstimate, PoseSolver

PATCH_RADIUS = 7  # pixels: 9×9 are compared, from half as near to any nearer, and turned
_WIDE_RADIUS, _NEAR_RADIUS = 16, 5  # pixels around the predicted place: first, and from the better pose again
_NUM_SEARCHED = 400
_LEAST_CORRELATION = 0.7
_THRESHOLD_PX = 3.0
_MAX_VIEW_ANGLE_DEG = 40.0  # between the rays that show a point now and then
_MAX_ZOOM = 1.8
_TILES = (8, 6)  # the landmarks to search for are spread over these


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
        return _Arrays(points, centers, axes)


@dataclass(frozen=True)
class _Arrays:
    points: Float[np.ndarray, "L 3"]
    centers: Float[np.ndarray, "L 3"]  # of the cameras that saw them
    axes: Float[np.ndarray, "L 2 3"]  # metres per pixel of the patch in x and y, world frame


@dataclass(frozen=True)
class Prediction:
    """Where landmarks should appear, and how."""

    rows: Int[np.ndarray, " M"]
    pixels: Float[np.ndarray, "M 2"]
    image_from_patch: Float[np.ndarray, "M 2 2"]  # pixels per pixel of the patch


@dataclass(frozen=True)
class Alignment:
    """The pose from the landmarks that were found in one image."""

    estimate: PoseEstimate  # B = 1; its confidence is that of the wide search, which chance can less agree with
    correspondences: Correspondences  # B = 1


def align(
    landmarks: Landmarks,
    grey: UInt8[np.ndarray, "H W"],
    camera: Camera,  # pinhole, of the image
    cam_from_world: Pose,  # batch (): right to about 16 pixels
) -> Alignment | None:
    """The pose in which the landmarks appear where they are found; None when hardly any is found."""
    wide = _search(landmarks, grey, camera, cam_from_world, _WIDE_RADIUS)
    if not wide.estimate.success.item():
        return None
    near = _search(landmarks, grey, camera, wide.estimate.cam_from_world[0], _NEAR_RADIUS)
    estimate = replace(near.estimate, confidence=wide.estimate.confidence, success=wide.estimate.success)
    return Alignment(estimate, near.correspondences)


def _search(
    landmarks: Landmarks, grey: UInt8[np.ndarray, "H W"], camera: Camera, cam_from_world: Pose, radius: int
) -> Alignment:
    """Search within `radius` pixels, and solve."""
    from dsac.kernels.cpu_patches import find_patches  # Numba, which takes a second to load

    expected = predict(landmarks, camera, cam_from_world, _NUM_SEARCHED)
    found, correlation = find_patches(
        grey,
        landmarks.patches.numpy(),
        expected.rows,
        expected.pixels,
        expected.image_from_patch,
        radius=radius,
    )
    good = correlation > _LEAST_CORRELATION
    correspondences = Correspondences(
        torch.from_numpy(found[good])[None],
        landmarks.points[expected.rows[good]][None],
        camera[None].to("cpu", torch.float32),
        weights=torch.from_numpy(correlation[good] - _LEAST_CORRELATION)[None],
    )
    solver = PoseSolver.rgb(threshold_px=_THRESHOLD_PX, window_px=2 * radius + 1)
    return Alignment(solver(correspondences), correspondences)


def grey_view(image: Float[Tensor, "3 H W"], camera: Camera, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """The photo in grey at a working `size`, without distortion: as `camera.rescale(size).pinhole` sees it."""
    pixels = (image.permute(1, 2, 0) * 255 + 0.5).to("cpu", torch.uint8).numpy()
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
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


def predict(landmarks: Landmarks, camera: Camera, cam_from_world: Pose, most: int) -> Prediction:
    """At most `most` landmarks that the camera should see much as they were seen, spread over the image."""
    arrays = landmarks._arrays
    rotation = cam_from_world.rotation.double().numpy()
    points_cam = arrays.points @ rotation.T + cam_from_world.translation.double().numpy()
    focal, middle = camera.focal_px.double().numpy(), camera.center_px.double().numpy()
    size = np.array(camera.size)
    depth = np.maximum(points_cam[:, 2], 1e-9)
    plane = points_cam[:, :2] / depth[:, None]
    pixels = plane * focal + middle
    ray_now, ray_then = arrays.points - cam_from_world.center.double().numpy(), arrays.points - arrays.centers
    length_now, length_then = np.linalg.norm(ray_now, axis=1), np.linalg.norm(ray_then, axis=1)
    cosine = (ray_now * ray_then).sum(1) / np.maximum(length_now * length_then, 1e-12)
    pixel_then, pixel_now = np.linalg.norm(arrays.axes[:, 0], axis=1), depth / focal[0]
    zoom = np.abs(np.log(np.maximum(pixel_then, 1e-12) / pixel_now))
    visible = (points_cam[:, 2] > 0) & ((pixels > PATCH_RADIUS) & (pixels < size - PATCH_RADIUS)).all(1)
    visible &= (cosine > np.cos(np.deg2rad(_MAX_VIEW_ANGLE_DEG))) & (zoom < np.log(_MAX_ZOOM))
    rows = np.flatnonzero(visible)
    unlike = np.arccos(cosine[rows].clip(-1, 1)) / np.deg2rad(_MAX_VIEW_ANGLE_DEG) + zoom[rows] / np.log(
        _MAX_ZOOM
    )
    rows = rows[_spread(pixels[rows] / size, unlike, most)]

    axes_cam = arrays.axes[rows] @ rotation.T  # (M, 2 axes, 3)
    slope = focal / depth[rows, None]
    image_from_patch = slope[:, None] * (axes_cam[..., :2] - plane[rows, None] * axes_cam[..., 2:])
    return Prediction(rows, pixels[rows], np.swapaxes(image_from_patch, 1, 2))


def _spread(
    places: Float[np.ndarray, "M 2"], costs: Float[np.ndarray, " M"], most: int
) -> Int[np.ndarray, " K"]:
    """The cheapest of each tile of the unit square, then the second cheapest, and so on."""
    column, row = (places * _TILES).astype(int).clip(0, np.array(_TILES) - 1).T
    tile = row * _TILES[0] + column
    order = np.lexsort((costs, tile))
    first = np.searchsorted(tile[order], tile[order])
    rank = np.arange(len(order)) - first
    return order[np.lexsort((costs[order], rank))][:most]
