"""From where and when depth was measured: as of its frame, or of another time or camera.

What poses triangulate in a frame is held against the frame's depth image as if that were taken some frames
later, or by a camera with another focal length that stands aside. Where one such view fits clearly more points,
depth is not of the moment or not registered to the colour camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from dsac.checking.finding import Finding
from dsac.datasets import Frames
from dsac.geometry import Camera, Pose
from dsac.landmarks import SHORT_SIDE_PX

NEAR = 0.05  # relative: so near a measured depth fits
_LATER = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 3.0)  # frames
_COARSE_FOCAL, _COARSE_SHIFT_PX = (-0.2, -0.1, 0.0, 0.1, 0.2), (-24.0, -12.0, 0.0, 12.0, 24.0)
_SHIFT_STEPS_PX, _FOCAL_STEPS = (6.0, 3.0, 1.5), (0.04, 0.02, 0.01)  # from there on
_AROUND = (0, -1, 1, -2, 2)
# a view fits so many times as well, and by so much more; depth of a moment beside its frame's is common
_BESIDE_BETTER, _LATER_BETTER, _CAMERA_BETTER = (1.25, 0.06), (1.06, 0.03), (1.12, 0.04)
_SURE = 3.0  # ... of which so many standard errors are left
_WRONG = 1.3  # times as well
_PINHOLE = ("focal_px", "center_px")
_FOCAL_OFF, _SHIFT_OFF_PX = 0.05, 12.0  # nearer to the colour camera nothing is said


@dataclass(frozen=True)
class DepthView:
    """Where a frame's depth was taken, relative to the frame."""

    later: float = 0.0  # frames
    focal_scale: float = 1.0  # times the colour camera's
    shift_px: tuple[float, float] = (0.0, 0.0)  # of a point in the middle distance, at a short side of 480


@dataclass(frozen=True, eq=False)
class _Image:
    """Depth of a frame, by its camera."""

    depth: Float32[np.ndarray, "H W"]
    camera: Camera


@dataclass(frozen=True, eq=False)
class _Images:
    """Depth images of one size by cameras of one model, and the points that they show."""

    rows: Int[np.ndarray, " n"]  # of all points
    camera: Camera  # batch (n,): each point's
    image: Int[np.ndarray, " n"]  # of `depth`
    depth: Float32[np.ndarray, "F H W"]

    @staticmethod
    def of(rows: Int[np.ndarray, " n"], frame: Int[np.ndarray, " n"], read: dict[int, _Image]) -> _Images:
        """Of points in those frames."""
        of_frame, image = np.unique(frame, return_inverse=True)
        depth, cameras = [], []
        for index in of_frame.tolist():
            every = max(1, min(read[index].camera.size) // SHORT_SIDE_PX)
            depth.append(read[index].depth[every // 2 :: every, every // 2 :: every])
            cameras.append(read[index].camera)
        distortion = cameras[0].distortion
        if distortion is not None:
            distortion = torch.stack([c.distortion for c in cameras if c.distortion is not None])[image]
        focal_px, center_px = (torch.stack([getattr(c, name) for c in cameras])[image] for name in _PINHOLE)
        camera = replace(cameras[0], focal_px=focal_px, center_px=center_px, distortion=distortion)
        return _Images(rows, camera, image, np.stack(depth))

    def seen(self, points_cam: Float[Tensor, "n 3"]) -> Float[np.ndarray, " n"]:
        """Depth where the cameras see these points; NaN where they do not, or it is unknown."""
        pixels = self.camera.project(points_cam[:, None])[:, 0].numpy()
        inside = (points_cam[:, 2].numpy() > 0) & ((pixels >= 0) & (pixels < self.camera.size)).all(1)
        height, width = self.depth.shape[1:]
        column, row = (pixels[inside] * [width, height] / self.camera.size).astype(int).T
        values = np.full(len(self.rows), np.nan)
        values[inside] = self.depth[self.image[inside], row, column]
        return np.where(values > 0, values, np.nan)


@dataclass(frozen=True, eq=False)
class DepthPoints:
    """N points that poses triangulate, each in a frame that shows it, and these frames' depth images."""

    frame: Int[np.ndarray, " N"]  # among all of the recording
    points_cam: Float[Tensor, "N 3"]
    images: list[_Images]
    cam_from_world: Pose  # of all frames of the recording

    def __len__(self) -> int:
        return len(self.frame)

    @staticmethod
    def of(frames: Frames, frame: Int[np.ndarray, " N"], points_cam: Float[np.ndarray, "N 3"]) -> DepthPoints:
        """Of points in frames, without those whose frame has no depth."""
        assert frames.cam_from_world is not None
        read = {}
        for index in np.unique(frame).tolist():
            camera = frames.camera(index)
            depth = frames.reader.read_depth(frames.names[index], camera)
            if depth.any():
                read[index] = _Image(depth, camera)
        kept = np.isin(frame, list(read))
        frame, points_cam = frame[kept], points_cam[kept]
        kinds = {index: (image.camera.model, image.camera.size) for index, image in read.items()}
        images = []
        for kind in sorted(set(kinds.values())):
            rows = np.flatnonzero(np.isin(frame, [index for index in kinds if kinds[index] == kind]))
            images.append(_Images.of(rows, frame[rows], read))
        return DepthPoints(frame, torch.from_numpy(points_cam), images, frames.cam_from_world)

    def log_ratios(self, view: DepthView) -> Float[np.ndarray, " N"]:
        """Of each point's distance to the depth that the view has there; NaN where it has none."""
        points = self.points_cam
        if view.later:
            moved = self._moved(view.later)
            points = (moved.rotation @ points[..., None])[..., 0] + moved.translation
        middle = float(points[:, 2].median())
        ratios = np.full(len(self), np.nan)
        for images in self.images:
            focal_px = images.camera.focal_px.mean(1) * SHORT_SIDE_PX / min(images.camera.size)
            aside = points.new_tensor(view.shift_px) * middle / focal_px[:, None]
            of_images = points[images.rows]
            # scaled here, a longer focal length is no other lens
            plane = (of_images[:, :2] + aside) * view.focal_scale
            values = images.seen(torch.cat([plane, of_images[:, 2:]], dim=1))
            with np.errstate(invalid="ignore", divide="ignore"):
                ratios[images.rows] = np.log(of_images[:, 2].numpy() / values)
        return ratios

    def _moved(self, later: float) -> Pose:
        """A camera so many frames later, from that of each point's frame; between frames it moves evenly."""
        last = len(self.cam_from_world) - 1
        rows, point = np.unique(self.frame, return_inverse=True)
        steps = (0.0, np.floor(later), np.ceil(later))
        own, before, after = (
            self.cam_from_world[torch.from_numpy((rows + int(step)).clip(0, last))] for step in steps
        )
        part = later - np.floor(later)
        pose = Pose.exp(part * (after @ before.inverse()).log()) @ before
        return (pose @ own.inverse())[torch.from_numpy(point)]


Score = Callable[[DepthView], Float[np.ndarray, " N"]]


def fit(log_ratios: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Between 0 and 1 for each point: 1 where its depth is the median's multiple of what was measured."""
    if not np.isfinite(log_ratios).any():
        return np.zeros(len(log_ratios))
    off = (log_ratios - np.nanmedian(log_ratios)) / NEAR
    return np.nan_to_num(np.maximum(0.0, 1 - off**2))


def other_view(points: DepthPoints, correction: Float[np.ndarray, " N"]) -> tuple[DepthView, list[Finding]]:
    """The view that fits clearly better than the frames' own, or theirs.

    `correction` is taken off all logarithms.
    """

    def score(view: DepthView) -> Float[np.ndarray, " N"]:
        return fit(points.log_ratios(view) - correction)

    own = score(DepthView())
    views = [_best(score, [DepthView(later=later) for later in _LATER]), _other_camera(score)]
    fits = {view: score(view) for view in views if view.later or _is_elsewhere(view)}
    better = {view: fit for view, fit in fits.items() if _clearly_better(points, view, fit, own)}
    if not better:
        return DepthView(), []
    view = max(better, key=lambda view: better[view].mean())
    most, least = better[view].mean(), own.mean()
    severity = "wrong" if most > _WRONG * least else "doubtful"
    return view, [Finding(severity, _of_time(view) if view.later else _of_camera(view))]


def _other_camera(score: Score) -> DepthView:
    """The best focal length and shift, found one after the other, coarsely first."""
    view = _best(
        score,
        [DepthView(0.0, float(np.exp(scale)), (x, 0.0)) for scale in _COARSE_FOCAL for x in _COARSE_SHIFT_PX],
    )
    for step_px, step in zip(_SHIFT_STEPS_PX, _FOCAL_STEPS, strict=True):
        x, y = view.shift_px
        view = _best(score, [replace(view, shift_px=(x + i * step_px, y)) for i in _AROUND])
        x, y = view.shift_px
        view = _best(score, [replace(view, shift_px=(x, y + i * step_px)) for i in _AROUND])
        scale = view.focal_scale
        view = _best(score, [replace(view, focal_scale=scale * float(np.exp(i * step))) for i in _AROUND])
    return view


def _best(score: Score, views: list[DepthView]) -> DepthView:
    return max(views, key=lambda view: score(view).mean())


def _is_elsewhere(view: DepthView) -> bool:
    return bool(abs(np.log(view.focal_scale)) > _FOCAL_OFF or np.hypot(*view.shift_px) > _SHIFT_OFF_PX)


def _clearly_better(
    points: DepthPoints, view: DepthView, fits: Float[np.ndarray, " N"], own: Float[np.ndarray, " N"]
) -> bool:
    """By much, and not by the points of a few frames."""
    gain, better = fits - own, _CAMERA_BETTER
    if view.later:
        better = _LATER_BETTER if abs(view.later) > 1 else _BESIDE_BETTER
    if fits.mean() < own.mean() * better[0] or gain.mean() < better[1]:
        return False
    _, frame = np.unique(points.frame, return_inverse=True)
    of_frame = np.bincount(frame, gain - gain.mean())
    return bool(gain.mean() > _SURE * np.linalg.norm(of_frame) / len(gain))


def _of_time(view: DepthView) -> str:
    frames = "a frame" if abs(view.later) == 1 else f"{abs(view.later):g} frames"
    when = "later" if view.later > 0 else "earlier"
    return (
        f"depth images fit what is seen {frames} {when} better than what their own frames see: are images and "
        "depth of the same moment, and counted from the same frame?"
    )


def _of_camera(view: DepthView) -> str:
    x, y = view.shift_px
    return (
        f"depth fits best as that of another camera, with {view.focal_scale:.3g} times the focal length and "
        f"{np.hypot(x, y):.0f} px aside: register it to the colour camera (--no-depth maps without it)"
    )
