"""The fused solvers find the pose whatever comes in, or say that there is none.

That of a GPU is asked on CPU tensors here.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.geometry import Pose
from dsac.kernels import cpu, gpu
from dsac.kernels.search.points import coherent_points, listed, prepare
from dsac.kernels.solution import Solution

_FOCAL, _CENTER = (520.0, 540.0), (300.0, 250.0)


def _image(
    seed: int = 0,
    count: int = 2000,
    inliers: float = 0.5,
    noise: float = 0.01,
    size: float = 1.0,
    clustered: bool = False,
):
    """Pixels, scene points, which are right, and the pose. Lengths are in units of `size` metres."""
    rng = np.random.default_rng(seed)
    pose = Pose.exp(torch.from_numpy(rng.normal(size=6)))
    pixels = rng.uniform((0, 0), (640, 480), (count, 2))
    depth = rng.uniform(1, 4, (count, 1))
    rays = np.concatenate([(pixels - _CENTER) / _FOCAL, np.ones((count, 1))], axis=1)
    scene = (pose.inverse() @ torch.from_numpy(rays * depth)).numpy()
    wrong = pose.inverse().translation.numpy() + rng.uniform(-4, 4, (count, 3))
    rank = np.hypot(*(pixels - (200, 150)).T) if clustered else rng.random(count)
    right = rank <= np.quantile(rank, inliers)
    scene = np.where(right[:, None], scene + noise * rng.normal(size=scene.shape), wrong)
    return pixels, scene * size, right, Pose(pose.rotation, pose.translation * size)


both = pytest.mark.parametrize("kernels", [cpu, gpu], ids=["cpu", "gpu"])


def _solve(kernels, pixels, scene, weights=None, **options) -> Solution:
    """Of one image, as arrays."""
    weights = None if weights is None else weights[None]
    return _solve_all(kernels, pixels[None], scene[None], weights, **options)


def _solve_all(kernels, pixels, scene, weights=None, dtype=np.float32, **options) -> Solution:
    """Of several images, as arrays."""
    each = np.ones((len(pixels), 1))
    arrays = (pixels, scene, each * _FOCAL, each * _CENTER)
    inputs = [torch.from_numpy(x.astype(dtype)) for x in arrays]
    weights = None if weights is None else torch.from_numpy(weights.astype(dtype))
    solution = kernels.solve_rgb(*inputs, weights, threshold_px=10.0, **options)
    return Solution(*(x.numpy() for x in solution))


def _distance(solution: Solution, pose: Pose) -> tuple[float, float]:
    """Rotation error in degrees, distance of the centres."""
    ours = Pose(torch.from_numpy(solution.rotation), torch.from_numpy(solution.translation))
    return ours.rotation_error_deg(pose[None]).item(), ours.center_distance(pose[None]).item()


@both
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    inliers=st.sampled_from([0.15, 0.3, 0.6, 1.0]),
    count=st.sampled_from([400, 1500, 6000]),
    clustered=st.booleans(),
)
def test_the_pose_is_found_among_wrong_points(kernels, seed, inliers, count, clustered):
    pixels, scene, right, pose = _image(seed, count, inliers, clustered=clustered)
    solution = _solve(kernels, pixels, scene, seed=seed)
    degrees, metres = _distance(solution, pose)
    assert degrees < 2.5 and metres < 0.1  # 60 clustered points with 1 cm noise determine it no better
    assert (solution.inliers[0] & right).sum() > 0.8 * right.sum()


@both
def test_exact_points_give_the_exact_pose(kernels):
    pixels, scene, right, pose = _image(inliers=0.7, noise=0.0)
    degrees, metres = _distance(_solve(kernels, pixels, scene), pose)
    assert degrees < 1e-3 and metres < 1e-5  # float32 coordinates of a few metres


@both
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_millimetres_and_kilometres_are_the_same_problem(kernels, size):
    pixels, scene, _, pose = _image(inliers=0.4, size=size)
    degrees, metres = _distance(_solve(kernels, pixels, scene), pose)
    assert degrees < 0.2 and metres < 0.01 * size


@both
def test_a_scene_far_from_the_origin_keeps_its_precision_in_float64(kernels):
    pixels, scene, _, pose = _image(inliers=0.5)
    far = np.array([4e5, 5e6, 100.0])
    solution = _solve(kernels, pixels, scene + far, dtype=np.float64)
    center = -solution.rotation[0].T @ solution.translation[0]
    assert np.abs(center - far - pose.center.numpy()).max() < 0.01


@both
def test_the_covariance_predicts_the_error(kernels):
    """Squared Mahalanobis distances of the increments to the truth average to their 6 degrees of freedom."""
    images = [_image(seed, count=1000, inliers=0.7, noise=0.02) for seed in range(60)]
    pixels, scene, _, poses = zip(*images, strict=True)
    solution = _solve_all(kernels, np.stack(pixels), np.stack(scene))
    ours = Pose(torch.from_numpy(solution.rotation), torch.from_numpy(solution.translation))
    increments = (Pose.stack(list(poses)) @ ours.inverse()).log().numpy()
    total = np.einsum("ni,nij,nj->n", increments, solution.information, increments)
    assert 4.5 < total.mean() < 8.0  # standard error 0.45


def test_the_answer_depends_on_the_seed_alone():
    images = [_image(seed, count=1200, inliers=0.3) for seed in range(6)]
    pixels = torch.from_numpy(np.stack([i[0] for i in images])).float()
    scene = torch.from_numpy(np.stack([i[1] for i in images])).float()
    focal = torch.tensor([_FOCAL]).expand(6, 2)
    center = torch.tensor([_CENTER]).expand(6, 2)
    one = cpu.solve_rgb(pixels, scene, focal, center, threshold_px=10.0, seed=3)
    two = cpu.solve_rgb(pixels, scene, focal, center, threshold_px=10.0, seed=3, effort=cpu.Effort(threads=2))
    alone = cpu.solve_rgb(pixels[4:5], scene[4:5], focal[:1], center[:1], threshold_px=10.0, seed=3)
    assert torch.equal(one.rotation, two.rotation) and torch.equal(one.translation, two.translation)
    assert torch.equal(one.num_hypotheses, two.num_hypotheses)
    assert torch.equal(one.rotation[4], alone.rotation[0])
    assert torch.equal(one.inliers[4], alone.inliers[0])


@both
def test_rows_with_nan_infinity_or_weight_zero_are_as_if_they_were_not_there(kernels):
    pixels, scene, right, pose = _image(inliers=0.6)
    wrong = ~right
    bad = wrong & (np.arange(len(right)) % 2 == 0)
    broken = scene.copy()
    broken[bad] = np.array([np.nan, np.inf, -np.inf])[np.arange(bad.sum()) % 3, None]
    broken_pixels = pixels.copy()
    broken_pixels[np.flatnonzero(bad)[:5]] = np.nan
    solution = _solve(kernels, broken_pixels, broken)
    assert max(_distance(solution, pose)) < 0.2
    assert not solution.inliers[0][bad].any()
    assert solution.num_usable[0] == len(bad) - bad.sum()
    solution = _solve(kernels, pixels, np.where(wrong[:, None], 1e30, scene), weights=right.astype(float))
    assert max(_distance(solution, pose)) < 0.2
    assert not solution.inliers[0][wrong].any()
    assert solution.num_usable[0] == right.sum()


def _shown_to(pose, pixels):
    """Scene points that a camera at `pose` sees at these pixels, 1 to 4 m away."""
    rays = np.concatenate([(pixels - _CENTER) / _FOCAL, np.ones((len(pixels), 1))], axis=1)
    depth = np.random.default_rng(5).uniform(1, 4, (len(pixels), 1))
    return (pose.inverse() @ torch.from_numpy(rays * depth)).numpy()


@both
def test_weights_choose_between_two_poses(kernels):
    pixels, scene, _, first = _image(0, count=1000, inliers=1.0)
    _, _, _, second = _image(1, count=1000, inliers=1.0)
    other = _shown_to(second, pixels)
    half = np.arange(1000) % 2 == 0
    scene = np.where(half[:, None], scene, other)
    for pose, chosen in ((first, half), (second, ~half)):
        assert max(_distance(_solve(kernels, pixels, scene, weights=np.where(chosen, 1.0, 0.1)), pose)) < 0.2


@both
@pytest.mark.parametrize(("light", "weight"), [(1000, 5.0), (1400, 20.0)])
def test_weights_choose_between_a_heavy_pose_and_one_of_more_points(kernels, light, weight):
    """Of 1700 points most show the first pose and have a part of the weight of the others."""
    pixels, scene, _, first = _image(0, count=1700, inliers=1.0)
    _, _, _, second = _image(1, count=10, inliers=1.0)
    other = _shown_to(second, pixels)
    heavy = np.random.default_rng(6).permutation(1700) >= light
    scene, weights = np.where(heavy[:, None], other, scene), np.where(heavy, weight, 1.0)
    for seed in range(20):
        assert max(_distance(_solve(kernels, pixels, scene, weights=weights, seed=seed), second)) < 0.2, seed


@both
def test_weights_are_inverse_variances(kernels):
    """Half of the points are four times noisier: told so, the solver is nearer to the truth."""
    images = [_image(seed, count=400, inliers=1.0, noise=0.0) for seed in range(40)]
    pixels, exact, _, poses = zip(*images, strict=True)
    rng = np.random.default_rng(0)
    scale = np.where(rng.random((40, 400)) < 0.5, 0.008, 0.032)
    scene = np.stack(exact) + scale[..., None] * rng.normal(size=(40, 400, 3))
    told, untold = (
        _solve_all(kernels, np.stack(pixels), scene, weights) for weights in (1e-4 / scale**2, None)
    )
    centers = Pose.stack(list(poses)).center.numpy()
    assert _median_off(told, centers) < 0.85 * _median_off(untold, centers)


def _median_off(solution: Solution, centers: np.ndarray) -> float:
    ours = Pose(torch.from_numpy(solution.rotation), torch.from_numpy(solution.translation)).center.numpy()
    return float(np.median(np.linalg.norm(ours - centers, axis=-1)))


@both
@pytest.mark.parametrize("seed", range(5))
def test_a_few_percent_right_in_patches_are_found(kernels, seed):
    """One patch a tenth of the image across each, in three places; wrong points anywhere."""
    pixels, scene, _, pose = _image(seed, 4800, inliers=1.0)
    wrong = pose.inverse().translation.numpy() + np.random.default_rng(seed).uniform(-4, 4, scene.shape)
    middles = np.array([(120, 100), (500, 150), (320, 400)])
    far = np.hypot(*(pixels[:, None] - middles).transpose(2, 0, 1)).min(1)
    right = far <= np.quantile(far, 0.05)
    degrees, metres = _distance(
        _solve(kernels, pixels, np.where(right[:, None], scene, wrong), seed=seed), pose
    )
    assert degrees < 1.0 and metres < 0.05


@both
@pytest.mark.parametrize("right", [0, 1, 3])
@pytest.mark.parametrize("count", [300, 4800, 100_000])
def test_hopeless_images_are_given_up_after_a_bounded_number_of_draws(kernels, count, right):
    pixels, scene, _, _ = _image(count=count, inliers=0.0)
    _, exact, _, _ = _image(count=count, inliers=1.0, noise=0.0)  # the same pixels, seen right
    scene[:right] = exact[:right]
    solution = _solve(kernels, pixels, scene)
    assert solution.num_hypotheses[0] <= 20_000
    assert solution.inliers.sum() < max(20, 0.02 * count)


@both
def test_seeds_are_looked_for_where_rays_lie_on_a_line(kernels):
    """Then there is no area to be divided into tiles."""
    pixels, scene, _, _ = _image(count=2000, inliers=0.0)
    pixels[:, 1] = 240.0
    assert np.isfinite(_solve(kernels, pixels, scene).rotation).all()


@both
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fewer_than_four_points_have_no_pose(kernels, count):
    pixels, scene, _, _ = _image(count=10)
    for dtype in (np.float32, np.float64):
        solution = _solve(kernels, pixels[:count], scene[:count].astype(dtype))
        assert np.array_equal(solution.rotation[0], np.eye(3)) and not solution.translation.any()
        assert not solution.inliers.any() and not solution.information.any()


@both
def test_a_hundred_thousand_points(kernels):
    pixels, scene, _, pose = _image(count=100_000, inliers=0.2)
    assert max(_distance(_solve(kernels, pixels, scene), pose)) < 0.1


@both
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 300),
    kind=st.sampled_from(["wrong", "line", "plane", "point", "behind", "huge", "one pixel", "mixed"]),
)
def test_degenerate_input_is_answered_with_finite_numbers_in_bounded_work(kernels, seed, count, kind):
    rng = np.random.default_rng(seed)
    pixels, scene, _, pose = _image(seed, max(count, 1), inliers=0.0)
    pixels, scene = pixels[:count], scene[:count]
    if kind == "line":
        scene = rng.normal(size=(count, 1)) * rng.normal(size=3)
    elif kind == "plane":
        scene = rng.normal(size=(count, 2)) @ rng.normal(size=(2, 3))
    elif kind == "point":
        scene = np.ones((count, 3))
    elif kind == "behind":
        scene = (pose.inverse() @ -(pose @ torch.from_numpy(scene))).numpy()
    elif kind == "huge":
        scene = scene * 10.0 ** rng.integers(-30, 30, (count, 1))
    elif kind == "one pixel":
        pixels = np.ones((count, 2))
    elif kind == "mixed":
        scene = np.where(rng.random((count, 3)) < 0.3, rng.choice([np.nan, np.inf, 0.0], (count, 3)), scene)
    solution = _solve(kernels, pixels, scene, seed=seed)
    for values in (solution.rotation, solution.translation, solution.information):
        assert np.isfinite(values).all()
    assert np.allclose(solution.rotation[0] @ solution.rotation[0].T, np.eye(3), atol=1e-6)
    assert solution.num_hypotheses[0] <= 20_000


@both
def test_a_coplanar_scene_is_localized(kernels):
    pixels, _, _, pose = _image(count=800)
    rays = np.concatenate([(pixels - _CENTER) / _FOCAL, np.ones((800, 1))], axis=1)
    normal = np.array([0.3, -0.2, 1.0])
    scene = (pose.inverse() @ torch.from_numpy(rays * (2.5 / (rays @ normal))[:, None])).numpy()
    scene[::3] += np.random.default_rng(0).normal(size=scene[::3].shape)
    assert max(_distance(_solve(kernels, pixels, scene), pose)) < 0.05


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("patches", [False, True])
def test_points_that_agree_with_their_neighbours_are_mostly_right(patches, weighted):
    """Of a surface six in a hundred are seen right: of the most coherent points several times as many are."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform((0, 0), (640, 480), (4800, 2))
    depth = 2.5 + np.sin(pixels.sum(1, keepdims=True) / 200)
    rays = np.concatenate([(pixels - _CENTER) / _FOCAL, np.ones((4800, 1))], axis=1)
    rank = np.hypot(*(pixels - (200, 150)).T) if patches else rng.random(4800)
    right = rank <= np.quantile(rank, 0.06)
    scene = np.where(right[:, None], rays * depth, rng.uniform(-3, 3, (4800, 3)))
    scene[::50] = np.nan
    light = rng.random(4800) < 0.5

    points, rows, center = np.empty((7, 4800), np.float32), np.empty(4800, np.uint32), np.empty(3)
    weights = np.where(light, 1e-6, rng.lognormal(size=4800)) if weighted else np.empty(0)
    inputs = (x.astype(np.float32) for x in (pixels, scene, weights))
    usable, _ = prepare(*inputs, np.array([*_FOCAL, *_CENTER]), points, rows, center)
    front = coherent_points(listed(points, rows[:usable]), 8.0, 100)
    row_of = {tuple(column): row for row, column in enumerate(points[:5].T)}
    chosen = [row_of[tuple(column)] for column in front[:5].T]
    assert len(set(chosen)) == 100
    assert np.isfinite(scene[chosen]).all()
    assert not (weighted and light[chosen].any())
    assert right[chosen].mean() > (0.9 if patches else 0.3)


@pytest.mark.parametrize("shape", [(60, 80), (64, 48), (63, 80)])
def test_coherent_points_of_a_smooth_surface_are_all_over_the_image(shape):
    """Seeds from a few places would agree on a pose that fits those places and not the rest."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x, y = ((a.ravel() + 0.5) / 40 - 1 for a in (columns, rows))
    depth = 2.5 + np.sin(x + y)
    points = np.stack([x * depth, y * depth, depth, x, y, 1 / (1 + x * x + y * y), np.ones_like(x)])
    front = coherent_points(points.astype(np.float32), 8.0, 128)
    for some, tiles in ((32, 2), (128, 4)):
        limits = [(a.min(), a.max()) for a in (x, y)]
        numbers = np.histogram2d(front[3, :some], front[4, :some], bins=tiles, range=limits)[0]
        assert numbers.min() > 0 and numbers.max() < 3 * some / tiles**2


@pytest.mark.parametrize("shape", [(60, 80), (64, 48), (63, 80)])
def test_right_points_of_any_grid_are_coherent(shape):
    """One in ten is right; among the first hundred most are."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x, y = ((a.ravel() + 0.5) / 40 - 1 for a in (columns, rows))
    depth = 2.5 + np.sin(x + y)
    right = rng.random(len(x)) < 0.1
    scene = np.where(right, (x * depth, y * depth, depth), rng.uniform(-3, 3, (3, len(x))))
    points = np.stack([*scene, x, y, 1 / (1 + x * x + y * y), np.ones_like(x)]).astype(np.float32)
    true = {tuple(column) for column in points[:3, right].T}
    assert np.mean([tuple(column) in true for column in coherent_points(points, 8.0, 100)[:3].T]) > 0.7


def test_a_point_that_is_drawn_twice_counts_once():
    """Heavy points are: beside themselves they would pass for coherent."""
    points = np.arange(7 * 5, dtype=np.float32).reshape(7, 5)
    np.testing.assert_array_equal(listed(points, np.array([3, 0, 3, 4, 0], np.uint32)), points[:, [0, 3, 4]])


@both
def test_heavy_wrong_points_do_not_pass_for_coherent(kernels):
    """A tenth is right; two hundred wrong ones are drawn twenty times as often as the rest."""
    for seed in range(5):
        pixels, scene, right, pose = _image(seed, 4800, inliers=0.1)
        weights = np.ones(4800)
        weights[np.random.default_rng(seed).choice(np.flatnonzero(~right), 200, replace=False)] = 20
        degrees, metres = _distance(_solve(kernels, pixels, scene, weights, seed=seed), pose)
        assert degrees < 1.0 and metres < 0.05, seed


def test_arrays_and_tensors_may_be_mixed():
    pixels, scene, _, pose = _image()
    focal, center = np.array([_FOCAL]), np.array([_CENTER])
    tensor = torch.from_numpy(scene.astype(np.float32))[None].requires_grad_()
    solution = cpu.solve_rgb(pixels[None], tensor, focal, torch.from_numpy(center), threshold_px=10.0)
    assert isinstance(solution.rotation, np.ndarray)
    assert _distance(solution, pose)[1] < 0.05
    other_kind = scene[None].view(np.recarray)
    same = cpu.solve_rgb(pixels[None], other_kind, focal, center, threshold_px=10.0)
    assert type(same.rotation) is np.ndarray
    assert _distance(same, pose)[1] < 0.05


@both
def test_a_pose_with_less_support_does_not_end_the_search(kernels):
    """Patches of a twentieth of the points see the scene from elsewhere, more of them from here."""
    for seed in range(6):
        pixels, scene, _, pose = _image(seed, 4800, inliers=1.0)
        _, other, _, _ = _image(seed + 100, 4800, inliers=1.0)
        wrong = pose.inverse().translation.numpy() + np.random.default_rng(seed).uniform(-4, 4, scene.shape)
        patch = (pixels // 40).astype(int) @ (1, 16)
        kind = np.random.default_rng(seed).permutation(16 * 12)[patch]
        scene = np.where(kind[:, None] < 14, scene, np.where(kind[:, None] < 24, other, wrong))
        degrees, metres = _distance(_solve(kernels, pixels, scene, seed=seed), pose)
        assert degrees < 1.0 and metres < 0.05, seed
