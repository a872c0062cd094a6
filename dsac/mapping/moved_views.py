"""Frames from where nobody stood: what a camera that walked around the things it sees would have seen.

With depth a frame can be warped to another place: each pixel's depth is carried there (`splat`), near ones
before far ones, and the colours are looked up from where it came. What was hidden has no depth there, and its
colour is that of its surroundings.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8

from dsac.datasets import Frame
from dsac.geometry import Camera, Pose

_SHORT_SIDE_PX = 320  # at which frames are warped: what is encoded is smaller
_LEAST_KNOWN = 0.4  # of the frame's depth: between triangulated points nothing is known
_EDGE = 0.05  # of the depth: a step that is no surface
_REACH_PX = 10  # holes of the depth up to so far from what is known are filled
_MAX_TILT_DEG = 15.0
_DISTANCE = 0.7, 1.4  # times as far from what it sees


def moved(frame: Frame, max_orbit_deg: float, rng: np.random.Generator) -> Frame | None:
    """The frame from a camera that went round the middle of what it sees, nearer or farther.

    Smaller than the frame, through a pinhole, depth 0 in what was hidden. None where too little depth is known.
    """
    assert frame.cam_from_world is not None
    if frame.depth is None or (frame.depth > 0).float().mean() < _LEAST_KNOWN:
        return None
    image, depth, camera = _small_pinhole(frame)
    known = depth[depth > 0]
    if len(known) < _LEAST_KNOWN * depth.size:
        return None
    middle = float(np.median(known)) * rng.uniform(0.75, 1.35)
    moved_from_cam = _orbit(middle, max_orbit_deg, rng)
    image, depth = warp(image, depth, camera, moved_from_cam)
    return replace(
        frame,
        image=torch.from_numpy(image).permute(2, 0, 1).float().div_(255),
        camera=camera,
        cam_from_world=moved_from_cam @ frame.cam_from_world,
        depth=torch.from_numpy(depth),
    )


def warp(
    image: UInt8[np.ndarray, "H W 3"],
    depth: Float32[np.ndarray, "H W"],
    camera: Camera,
    moved_from_cam: Pose,
) -> tuple[UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """Image and depth (metres, 0 = unknown) through the same pinhole camera after a motion, batch ()."""
    from dsac.mapping.splat_numba import splat  # Numba, which takes a second to load

    focal, center = camera.focal_px.numpy(), camera.center_px.numpy()
    rotation, translation = moved_from_cam.rotation.numpy(), moved_from_cam.translation.numpy()
    there = splat(_without_edges(_completed(depth)), focal, center, rotation, translation)
    there = _without_cracks(there)
    height, width = depth.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(x - center[0]) / focal[0], (y - center[1]) / focal[1], np.ones_like(x)], axis=-1)
    points = (rays * there[..., None] - translation) @ rotation  # back in the frame's camera
    in_front = np.where(points[..., 2] > 0, points[..., 2], np.inf)
    places = (points[..., :2] / in_front[..., None] * focal + center - 0.5).astype(np.float32)
    known = (there > 0) & (points[..., 2] > 0)
    known &= (places > -0.5).all(-1) & (places[..., 0] < width - 0.5) & (places[..., 1] < height - 0.5)
    warped = cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore
    return _painted(warped, known), np.where(known, there, 0).astype(np.float32)


def _small_pinhole(frame: Frame) -> tuple[np.ndarray, np.ndarray, Camera]:
    """Image, depth and camera at a short side of 320 pixels, without distortion."""
    assert frame.depth is not None
    scale = min(1.0, _SHORT_SIDE_PX / min(frame.camera.size))
    size = round(frame.camera.size[0] * scale), round(frame.camera.size[1] * scale)
    image = np.ascontiguousarray((frame.image * 255).byte().permute(1, 2, 0).numpy())
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    depth = cv2.resize(frame.depth.numpy(), size, interpolation=cv2.INTER_NEAREST)
    lens = frame.camera.rescale(size)
    if lens.is_pinhole:
        return image, depth, lens
    x, y = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="xy")
    rays = lens.pinhole.unproject(torch.stack([x, y], dim=-1).reshape(-1, 2).double())
    maps = lens.project(rays).reshape(size[1], size[0], 2).float().numpy() - 0.5
    image = cv2.remap(image, maps, None, cv2.INTER_LINEAR)  # type: ignore
    return image, cv2.remap(depth, maps, None, cv2.INTER_NEAREST), lens.pinhole  # type: ignore


def _orbit(middle: float, max_orbit_deg: float, rng: np.random.Generator) -> Pose:
    """About the point at that depth (metres) on the optical axis, which stays in the middle of the image."""
    turn = np.deg2rad(rng.uniform(-max_orbit_deg, max_orbit_deg))
    tilt = np.deg2rad(rng.uniform(-_MAX_TILT_DEG, _MAX_TILT_DEG))
    distance = middle * np.exp(rng.uniform(*np.log(_DISTANCE)))
    about_y = Pose.exp(torch.tensor([0.0, turn, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    about_x = Pose.exp(torch.tensor([tilt, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    rotation = about_x.rotation @ about_y.rotation
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return Pose(rotation, distance * axis - rotation @ (middle * axis))


def _completed(depth: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Small holes take the nearest depth."""
    known = depth > 0
    nearest, apart = _nearest(known)
    return np.where(apart <= _REACH_PX, depth.ravel()[nearest], 0).astype(np.float32)


def _without_edges(depth: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """0 where a surface ends: between it and what is behind it there is nothing."""
    square = np.ones((3, 3))
    near = cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), square)
    far = cv2.dilate(depth, square)
    return np.where(far - near <= _EDGE * depth, depth, 0).astype(np.float32)


def _without_cracks(depth: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Pixels between those that depth was carried to: empty ones, and ones through which the back is seen."""
    around = cv2.boxFilter((depth > 0).astype(np.float32), -1, (3, 3), normalize=False)
    near = cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), np.ones((3, 3)))
    depth = np.where((depth == 0) & (around >= 4), near, depth)
    middle = cv2.medianBlur(depth, 3)
    return np.where((middle > 0) & (depth > (1 + _EDGE) * middle), middle, depth)


def _painted(image: UInt8[np.ndarray, "H W 3"], known: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Unknown pixels in the colours around them, blurred: they have no corners."""
    if known.all() or not known.any():
        return image
    nearest, _ = _nearest(known)
    filled = cv2.blur(image.reshape(-1, 3)[nearest], (9, 9))
    return np.where(known[..., None], image, filled)


def _nearest(known: Bool[np.ndarray, "H W"]) -> tuple[np.ndarray, Float[np.ndarray, "H W"]]:
    """Of each pixel the number of the nearest known one, and how far it is."""
    if not known.any():
        return np.zeros(known.shape, int), np.full(known.shape, np.inf)
    apart, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = np.asarray(labels, np.int64)
    number = np.zeros(int(labels.max()) + 1, np.int64)
    number[labels[known]] = np.flatnonzero(known)
    return number[labels], np.asarray(apart, np.float64)
