"""What the matching peers share: keypoints, scene points by depth or by triangulation, a pose from matches.

Without depth, keypoints that were matched between mapping frames of known poses are triangulated by COLMAP's
point triangulator (Schönberger & Frahm 2016): tracks, their points, retriangulation, points refined alone.
Poses come from its LO-RANSAC (Chum et al. 2003) with a final least squares. Needs pycolmap.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image  # noqa: F401  before pycolmap: the other way round, writing a PNG later aborts
import pycolmap
import torch

from dsac import Camera, Pose
from dsac.datasets import Frame

LEAST_INLIERS = 12
_THRESHOLD = 4 / 480  # of the image's short side
_EPIPOLAR = 3 / 480
_ALL_PAIRS = 20  # of so many frames at most
_PARTNERS = 10
_FEW = 50  # of so many frames at most, points that two of them saw are kept
_MAX_VIEW_ANGLE_DEG = 60.0


@dataclass(frozen=True)
class Keypoints:
    """Of one photo, K of them with descriptors of D numbers and length one."""

    stored_px: np.ndarray  # (K, 2) in the photo
    ideal_px: np.ndarray  # (K, 2) where the same camera without distortion sees them
    descriptors: np.ndarray  # (K, D), float32
    camera: Camera

    @staticmethod
    def of(stored_px: np.ndarray, descriptors: np.ndarray, camera: Camera) -> Keypoints:
        """Those whose distortion can be undone."""
        ideal_px = camera.undistort(torch.from_numpy(stored_px)).numpy()
        known = np.isfinite(ideal_px).all(1)
        return Keypoints(stored_px[known], ideal_px[known], descriptors[known], camera.pinhole)

    @property
    def rays(self) -> np.ndarray:
        """(K, 3), at depth 1."""
        plane = (self.ideal_px - self.camera.center_px.numpy()) / self.camera.focal_px.numpy()
        return np.concatenate([plane, np.ones((len(plane), 1))], axis=1)

    def __len__(self) -> int:
        return len(self.ideal_px)


def view_pairs(poses: Pose, all_pairs: int = _ALL_PAIRS, partners: int = _PARTNERS) -> list[tuple[int, int]]:
    """Each frame with its nearest that look the same way, each pair once; all pairs of few frames."""
    count = len(poses)
    if count <= all_pairs:
        return [(i, j) for i in range(count) for j in range(i + 1, count)]
    centers, axes = poses.center.numpy(), poses.rotation[:, 2].numpy()
    pairs = set()
    for i in range(count):
        distance = np.linalg.norm(centers - centers[i], axis=1)
        alike = axes @ axes[i] > np.cos(np.deg2rad(_MAX_VIEW_ANGLE_DEG))
        alike[i] = False
        near = np.flatnonzero(alike)[np.argsort(distance[alike], kind="stable")[:partners]]
        pairs |= {(min(i, int(j)), max(i, int(j))) for j in near}
    return sorted(pairs)


def off_epipolar_line(a: Keypoints, b: Keypoints, b_from_a: Pose) -> np.ndarray:
    """(Ka, Kb) distance of b's keypoints from the lines on which a's lie, pixels."""
    translation, rotated = b_from_a.translation.numpy(), a.rays @ b_from_a.rotation.numpy().T
    normals = np.cross(translation, rotated)
    normals /= np.maximum(np.linalg.norm(normals[:, :2], axis=1, keepdims=True), 1e-12)
    return np.abs(normals.astype(np.float32) @ b.rays.T.astype(np.float32)) * float(b.camera.focal_px.mean())


def epipolar_tolerance_px(camera: Camera) -> float:
    return _EPIPOLAR * min(camera.size)


def lifted(frame: Frame, keypoints: Keypoints) -> np.ndarray:
    """(K, 3) scene points of a frame with depth and pose; NaN where the depth is unknown."""
    assert frame.depth is not None and frame.cam_from_world is not None
    height, width = frame.depth.shape
    column, row = np.clip(keypoints.stored_px.astype(int), 0, [width - 1, height - 1]).T
    depth = frame.depth.numpy()[row, column].astype(float)
    points = frame.cam_from_world.inverse() @ torch.from_numpy(keypoints.rays * depth[:, None])
    return np.where((depth > 0)[:, None], points.numpy(), np.nan)


def triangulated(
    keypoints: list[Keypoints], poses: Pose, matches: dict[tuple[int, int], np.ndarray]
) -> list[np.ndarray]:
    """(K, 3) scene points of each frame's keypoints; NaN where there is none.

    `matches` of frames i < j are rows (keypoint of i, keypoint of j) on each other's epipolar lines.
    """
    pycolmap.logging.minloglevel = 2
    world = [np.full((len(k), 3), np.nan) for k in keypoints]
    model = pycolmap.Reconstruction()
    with (
        tempfile.TemporaryDirectory() as folder,
        pycolmap.Database.open(Path(folder) / "matches.db") as database,
    ):
        for i, found in enumerate(keypoints):
            _write_frame(database, model, i + 1, found, poses[i])
        for (i, j), rows in matches.items():
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)
            geometry.inlier_matches = rows.astype(np.uint32)
            database.write_matches(i + 1, j + 1, rows.astype(np.uint32))
            database.write_two_view_geometry(i + 1, j + 1, geometry)
        options = pycolmap.IncrementalPipelineOptions()
        options.num_threads, options.random_seed, options.extract_colors = 1, 0, False
        options.min_num_matches = 1
        options.triangulation.ignore_two_view_tracks = len(keypoints) > _FEW
        path = Path(folder)
        model = pycolmap.triangulate_points(model, path / "matches.db", path, path, options=options)
    for point in model.points3D.values():
        for element in point.track.elements:
            world[element.image_id - 1][element.point2D_idx] = point.xyz
    return world


def solve(pixels: np.ndarray, points: np.ndarray, camera: Camera) -> Pose | None:
    """The pose that most matches agree with, pixels being those of an ideal camera; None = not localized."""
    if len(pixels) < LEAST_INLIERS:
        return None
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac.max_error, estimation.ransac.random_seed = _THRESHOLD * min(camera.size), 0
    estimation.ransac.min_inlier_ratio = 0.01
    found = pycolmap.estimate_and_refine_absolute_pose(pixels, points, _colmap_camera(1, camera), estimation)
    if found is None or found["num_inliers"] < LEAST_INLIERS:
        return None
    matrix = np.ascontiguousarray(found["cam_from_world"].matrix())
    return Pose.from_matrix(torch.from_numpy(matrix))


def _colmap_camera(number: int, camera: Camera) -> pycolmap.Camera:
    params = [*camera.focal_px.tolist(), *camera.center_px.tolist()]
    width, height = camera.size
    return pycolmap.Camera(model="PINHOLE", width=width, height=height, params=params, camera_id=number)


def _write_frame(
    database: pycolmap.Database, model: pycolmap.Reconstruction, number: int, keypoints: Keypoints, pose: Pose
) -> None:
    camera = _colmap_camera(number, keypoints.camera)
    database.write_camera(camera, use_camera_id=True)
    model.add_camera_with_trivial_rig(camera)
    database.write_rig(model.rigs[number], use_rig_id=True)
    image = pycolmap.Image(name=f"{number}", keypoints=keypoints.ideal_px, camera_id=number, image_id=number)
    database.write_image(image, use_image_id=True)
    rotation = pycolmap.Rotation3d(pose.rotation.numpy())
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(rotation, pose.translation.numpy()))
    database.write_frame(model.frames[number], use_frame_id=True)
    database.write_keypoints(number, keypoints.ideal_px.astype(np.float32))
