"""The fused RGB-D solvers: with depth everywhere, somewhere, nowhere."""

import numpy as np
import pytest
import torch

from dsac.geometry import Pose
from dsac.kernels import cpu, gpu
from dsac.kernels.solution import Solution

_FOCAL, _CENTER = (520.0, 540.0), (300.0, 250.0)


def _image(
    seed: int = 0, count: int = 1500, inliers: float = 0.5, noise: float = 0.02, with_depth: float = 1.0
):
    """Pixels, scene points, measured depths, and the pose."""
    rng = np.random.default_rng(seed)
    pose = Pose.exp(torch.from_numpy(rng.normal(size=6)))
    pixels = rng.uniform((0, 0), (640, 480), (count, 2))
    depth = rng.uniform(1, 4, (count, 1))
    rays = np.concatenate([(pixels - _CENTER) / _FOCAL, np.ones((count, 1))], axis=1)
    scene = (pose.inverse() @ torch.from_numpy(rays * depth)).numpy() + noise * rng.normal(size=(count, 3))
    wrong = rng.random(count) >= inliers
    scene[wrong] += rng.uniform(-3, 3, (int(wrong.sum()), 3))
    measured = depth[:, 0] + 0.0015 * depth[:, 0] ** 2 * rng.normal(size=count)
    measured[rng.random(count) >= with_depth] = np.nan
    return pixels, scene, measured, pose


both = pytest.mark.parametrize("kernels", [cpu, gpu], ids=["cpu", "gpu"])


def _tensors(*arrays):
    return [torch.from_numpy(x.astype(np.float32)) for x in arrays]


def _lenses(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(_FOCAL, (count, 1)), np.tile(_CENTER, (count, 1))


def _solve(kernels, pixels, scene, measured, **options) -> Solution:
    """Of one image, as arrays."""
    return _solve_all(kernels, pixels[None], scene[None], measured[None], **options)


def _solve_all(kernels, pixels, scene, measured, **options) -> Solution:
    """Of several images, as arrays."""
    inputs = _tensors(pixels, scene, measured, *_lenses(len(pixels)))
    return Solution(*(x.numpy() for x in kernels.solve_rgbd(*inputs, threshold_m=0.1, **options)))


def _images(count: int, *sizes: int, **kind: float):
    """As `_image`, so many of them, stacked."""
    *arrays, poses = zip(*(_image(seed, *sizes, **kind) for seed in range(count)), strict=True)
    return *(np.stack(array) for array in arrays), Pose.stack(list(poses))


def _distance(solution: Solution, pose: Pose) -> float:
    return _distances(solution, pose[None]).item()


def _distances(solution: Solution, poses: Pose) -> torch.Tensor:
    ours = Pose(torch.from_numpy(solution.rotation), torch.from_numpy(solution.translation))
    return ours.center_distance(poses)


@both
@pytest.mark.parametrize("with_depth", [1.0, 0.2])
@pytest.mark.parametrize("inliers", [0.3, 0.7, 1.0])
def test_the_pose_is_found_among_wrong_points(kernels, with_depth, inliers):
    pixels, scene, measured, pose = _image(inliers=inliers, with_depth=with_depth)
    solution = _solve(kernels, pixels, scene, measured)
    assert _distance(solution, pose) < 0.02
    assert solution.inliers.mean() > 0.8 * inliers


@both
def test_depth_makes_the_pose_more_accurate(kernels):
    """Also where only a fifth of the pixels have one, the rest counting by their rays."""
    medians = {}
    for share in (0.2, 1.0):
        pixels, scene, measured, poses = _images(20, 600, with_depth=share)
        medians[share] = _distances(_solve_all(kernels, pixels, scene, measured), poses).median()
    solution = kernels.solve_rgb(*_tensors(pixels, scene, *_lenses(20)), threshold_px=10.0)
    medians[0.0] = _distances(Solution(*(x.numpy() for x in solution)), poses).median()
    assert medians[1.0] < medians[0.2] < medians[0.0]


@both
def test_the_covariance_predicts_the_error(kernels):
    """Squared Mahalanobis distances of the increments to the truth average to their 6 degrees of freedom."""
    pixels, scene, measured, poses = _images(60, 600, inliers=0.8, with_depth=0.5)
    solution = _solve_all(kernels, pixels, scene, measured)
    ours = Pose(torch.from_numpy(solution.rotation), torch.from_numpy(solution.translation))
    increments = (poses @ ours.inverse()).log().numpy()
    total = np.einsum("ni,nij,nj->n", increments, solution.information, increments)
    assert 4.5 < total.mean() < 8.0  # standard error 0.45


@both
@pytest.mark.parametrize("depth", [np.nan, 0.0, -1.0, np.inf])
def test_without_any_depth_there_is_no_pose(kernels, depth):
    pixels, scene, measured, _ = _image()
    solution = _solve(kernels, pixels, scene, np.full_like(measured, depth))
    assert not solution.inliers.any() and not solution.information.any()
    assert np.array_equal(solution.rotation[0], np.eye(3))


@both
@pytest.mark.parametrize("kind", ["wrong", "line", "point", "nan", "three"])
def test_degenerate_input_is_answered_with_finite_numbers(kernels, kind):
    pixels, scene, measured, _ = _image(count=300, inliers=0.0)
    rng = np.random.default_rng(0)
    if kind == "line":
        scene = rng.normal(size=(300, 1)) * rng.normal(size=3)
    elif kind == "point":
        scene = np.ones((300, 3))
    elif kind == "nan":
        scene = np.full((300, 3), np.nan)
    elif kind == "three":
        pixels, scene, measured = pixels[:3], scene[:3], measured[:3]
    solution = _solve(kernels, pixels, scene, measured)
    for values in (solution.rotation, solution.translation, solution.information):
        assert np.isfinite(values).all()
