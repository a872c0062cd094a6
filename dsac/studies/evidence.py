"""What the supplement of DSAC (CVPR 2017) looks at, measured on the query frames of any scene with known depth.

Of each frame: the inlier ratio (cells whose predicted scene point is near the true one); the pose that each
selection makes of one and the same pool of hypotheses, and the naive fit makes of all correspondences; how long
each stage takes; and what makes frames hard: few gradients, blur, repeated structure.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from dsac.atlas import Map
from dsac.datasets.frame import Frame, FrameReader, Frames, Scene
from dsac.errors import DatasetError
from dsac.evaluation.evaluation import FrameLocalizer
from dsac.evaluation.metrics import PoseError
from dsac.geometry import Camera, Pose
from dsac.localization import Localization
from dsac.map_info import MapInfo
from dsac.ransac import Argmax, PoseSolver, SampledDSAC, SoftAM
from dsac.ransac.types import Correspondences

SELECTIONS = {"DSAC": SampledDSAC(), "argmax": Argmax(), "SoftAM": SoftAM()}
NAIVE = "naive fit"
NUM_HYPOTHESES = 256  # published


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one image under one selection."""

    prediction_ms: float  # encoder and head
    hypotheses_ms: float  # draw, solve and score the pool: the same for all selections
    selection_ms: float
    refinement_ms: float


@dataclass(frozen=True)
class FrameEvidence:
    """One query frame."""

    name: str
    inlier_ratio: float  # of the cells with depth; NaN where none has
    error: Mapping[str, tuple[float, float]]  # degrees and metres, for each selection and the naive fit
    times: Mapping[str, StageTimes]  # for each selection
    gradients: float  # share of pixels with a clear gradient
    sharpness: float  # energy of second derivatives over that of first ones: blur lowers it, contrast does not
    repetition: float  # share of corners that look like another corner of the image


@dataclass(frozen=True)
class HardFrame:
    """A frame that one measure picked."""

    row: int  # in the evidence
    reason: str


def check_scene(scene: Scene) -> None:
    """Raises: `DatasetError` when the query frames lack what the evidence needs."""
    if not len(scene.query) or not scene.query.has_depth or scene.query.cam_from_world is None:
        raise DatasetError(f"{scene.path}: figures need query images with poses and depth, the scene has none")


def inlier_distance(scene: Scene, info: MapInfo) -> float:
    """How near the truth an inlier lies, in the map's unit: 10 cm, or 2 % of a scene without metric scale."""
    size = math.dist(info.bounds_min, info.bounds_max)
    return 0.1 / info.scale if scene.metric else 0.02 * size


@dataclass
class EvidenceCollector:
    """A localizer whose answers are measured on the way: `evaluate` takes it in place of the localizer.

    The frames need pose and depth (`check_scene`); each photo is decoded once, for localizer and measures.
    """

    localizer: FrameLocalizer
    max_distance: float  # of an inlier from the truth
    evidence: list[FrameEvidence] = field(default_factory=list)
    scene_map: Map | None = None  # the localizer's

    def localize_frames(self, frames: Frames, *, use_depth: bool = False) -> Iterator[Localization]:
        frames = replace(frames, reader=_LastPhoto(frames.reader))
        rows = {name: row for row, name in enumerate(frames.names)}
        of_depth = {"use_depth": True} if use_depth else {}
        for localization in self.localizer.localize_frames(frames, **of_depth):
            # measured in the map's frame, in which the correspondences are
            frame = frames.within(localization.world_from_map)[rows[localization.name]]
            self.evidence.append(frame_evidence(localization, frame, self.max_distance))
            yield localization


@torch.no_grad()
def frame_evidence(localization: Localization, frame: Frame, max_distance: float) -> FrameEvidence:
    """Measure one localized frame that has pose and depth; inliers lie within `max_distance` of the truth."""
    assert frame.cam_from_world is not None
    truth = frame.cam_from_world
    correspondences = _on_cpu(localization.correspondences)
    known, points = _true_points(localization, frame)
    distance = (correspondences.scene_points[0].double() - points).norm(dim=-1)
    nearest = distance.unflatten(0, (-1, correspondences.modes)).amin(-1)[known[:: correspondences.modes]]
    inlier_ratio = (nearest < max_distance).double().mean().item()

    solver, generator = PoseSolver.rgb(NUM_HYPOTHESES), torch.Generator().manual_seed(0)
    started = time.perf_counter()
    pool = solver.hypotheses(correspondences, generator)
    hypotheses_ms = 1e3 * (time.perf_counter() - started)
    clean = solver.residual.sanitise(correspondences)
    timing = localization.timing
    error, times = {}, {}
    for name, selection in SELECTIONS.items():
        ticks = [time.perf_counter()]
        selected = selection(pool, generator)
        ticks.append(time.perf_counter())
        refined = solver.refinement(selected.cam_from_world, clean, generator)
        ticks.append(time.perf_counter())
        selection_ms, refinement_ms = (1e3 * np.diff(ticks)).tolist()
        error[name] = _error(refined[0, 0], truth)
        times[name] = StageTimes(timing.encode_ms + timing.head_ms, hypotheses_ms, selection_ms, refinement_ms)
    error[NAIVE] = _error(naive_fit(correspondences), truth)

    width, height = localization.camera.size
    image = cv2.resize(frame.image.permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_AREA)
    grey = (255 * cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).round().astype(np.uint8)
    return FrameEvidence(localization.name, inlier_ratio, error, times, *_looks(grey), repetition(grey))


def naive_fit(correspondences: Correspondences) -> Pose | None:
    """The least-squares pose of all correspondences of one image, right or wrong (SQPnP, Terzakis 2020)."""
    rows = correspondences.usable[0]
    focal, center = correspondences.camera.focal_px[0], correspondences.camera.center_px[0]
    plane = (correspondences.pixels[0, rows] - center) / focal
    points = correspondences.scene_points[0, rows].double().numpy()
    if len(points) < 4:
        return None
    found, rotation, translation = cv2.solvePnP(
        points, plane.double().numpy(), np.eye(3), None, flags=cv2.SOLVEPNP_SQPNP
    )
    if not found:
        return None
    return Pose(torch.from_numpy(cv2.Rodrigues(rotation)[0]), torch.from_numpy(translation[:, 0]))


def errors_of(evidence: Sequence[FrameEvidence], way: str) -> PoseError:
    """Of all frames, for one selection or the naive fit."""
    rotation, translation = np.array([frame.error[way] for frame in evidence]).T
    return PoseError(torch.from_numpy(rotation), torch.from_numpy(translation))


def hard_frames(evidence: Sequence[FrameEvidence], of_each: int = 2) -> list[HardFrame]:
    """For each kind of hardness the frames that have most of it; no two are neighbours in the recording."""
    kinds = (  # its measure, whether low values are hard, and how they are told
        ("few gradients: {:.0%} of the pixels have one", "gradients", True),
        ("blurred: sharpness {:.2f}", "sharpness", True),
        ("few inliers: {:.0%} of the cells", "inlier_ratio", True),
        ("repeated structure: {:.0%} of the corners have a twin", "repetition", False),
    )
    apart = len(evidence) // 25
    picked: list[HardFrame] = []
    for text, measure, low_is_hard in kinds:
        values = np.array([getattr(frame, measure) for frame in evidence])
        order = np.argsort(values if low_is_hard else -values, kind="stable")  # NaN last
        for _ in range(of_each):
            free = [int(row) for row in order if all(abs(row - other.row) > apart for other in picked)]
            if free and np.isfinite(values[free[0]]):
                number = re.search(r"{.*?}", text)
                assert number is not None
                typical = number[0].format(np.nanmedian(values))
                picked.append(HardFrame(free[0], f"{text.format(values[free[0]])} (median {typical})"))
    return picked


@dataclass
class _LastPhoto:
    """Another reader that keeps the photo that was read last."""

    reader: FrameReader
    name: str | None = None
    image: UInt8[np.ndarray, "H W 3"] | None = None

    @property
    def has_depth(self) -> bool:
        return self.reader.has_depth

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        if self.image is None or name != self.name:
            self.name, self.image = name, self.reader.read_image(name)
        return self.image

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        return self.reader.read_depth(name, camera)


# ---- measures ------------------------------------------------------------------------------------


def _true_points(localization: Localization, frame: Frame) -> tuple[Tensor, Float[Tensor, "N 3"]]:
    """For each correspondence: whether its depth is known, and the scene point that its pixel shows."""
    assert frame.depth is not None and frame.cam_from_world is not None
    pixels = localization.correspondences.pixels[0].cpu().double()
    rays = localization.camera.to("cpu", torch.float64).unproject(pixels)
    in_photo = frame.camera.project(rays).nan_to_num(-1.0)
    inside = ((in_photo >= 0) & (in_photo < torch.tensor(frame.camera.size))).all(-1)
    column, row = in_photo[:, 0].long(), in_photo[:, 1].long()
    depth = torch.where(inside, frame.depth[row * inside, column * inside], 0.0).double()
    known = (depth > 0) & torch.isfinite(rays).all(-1)
    return known, frame.cam_from_world.inverse() @ (rays * depth[:, None])


def _error(pose: Pose | None, truth: Pose) -> tuple[float, float]:
    """Degrees and metres; infinite where there is no pose."""
    if pose is None:
        return np.inf, np.inf
    pose = pose.to(torch.float64)
    values = pose.rotation_error_deg(truth).item(), pose.center_distance(truth).item()
    return values if np.isfinite(values).all() else (np.inf, np.inf)


def _looks(grey: np.ndarray) -> tuple[float, float]:
    """Share of pixels with a clear gradient, and sharpness."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)  # noise of the sensor is no gradient
    across, down = cv2.Sobel(smooth, -1, 1, 0, scale=1 / 8), cv2.Sobel(smooth, -1, 0, 1, scale=1 / 8)
    energy = across**2 + down**2
    laplacian = cv2.Laplacian(smooth, -1)
    return float((energy > _GRADIENT**2).mean()), float((laplacian**2).mean() / max(energy.mean(), 1e-6))


def repetition(grey: np.ndarray) -> float:
    """Share of corners that look like another corner at least three patches away; 0 without corners."""
    corners = cv2.goodFeaturesToTrack(grey, _CORNERS, 0.01, 8)
    if corners is None or len(corners) < 2:
        return 0.0
    corners = corners[:, 0]
    patches = np.stack([cv2.getRectSubPix(grey, (_PATCH, _PATCH), tuple(xy.tolist())) for xy in corners])
    rows = patches.reshape(len(corners), -1).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    far = np.linalg.norm(corners[:, None] - corners, axis=-1) > 3 * _PATCH
    return float(((rows @ rows.T > _ALIKE) & far).any(1).mean())


_GRADIENT = 4.0  # grey levels a pixel
_CORNERS, _PATCH = 300, 15
_ALIKE = 0.9  # normalised correlation


def _on_cpu(correspondences: Correspondences) -> Correspondences:
    """Their device may be one where a pool of one image is slow and hard to time."""
    weights = correspondences.weights
    return replace(
        correspondences,
        pixels=correspondences.pixels.cpu(),
        scene_points=correspondences.scene_points.cpu(),
        camera=correspondences.camera.to("cpu"),
        weights=None if weights is None else weights.cpu(),
        covariances=None,
    )
