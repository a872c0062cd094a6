from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from dsac.geometry import Camera
from dsac.kernels import cpu
from dsac.ransac import (
    DSAC,
    Argmax,
    Correspondences,
    DenseSolver,
    MaxError,
    PointDistance,
    PoseSolver,
    ReprojectionError,
    SampledDSAC,
    SoftAM,
    Solver,
    UniformSampling,
    WeightedSampling,
)

STAGED = {
    "argmax": PoseSolver.rgb(backend="reference"),
    "softam": PoseSolver.rgb(selection=SoftAM(), backend="reference"),
    "dsac": PoseSolver.rgb(selection=DSAC(), backend="reference"),
    "sampled": PoseSolver.rgb(selection=SampledDSAC(), backend="reference"),
    "rgbd": PoseSolver.rgbd(backend="reference"),
}
DENSE = {"dense": DenseSolver.rgb(), "dense rgbd": DenseSolver.rgbd()}
SOLVERS: dict[str, Solver] = {**STAGED, **DENSE}


def _batch_camera(batch: int) -> Camera:
    camera = Camera.simple(500.0, (640, 480))
    return Camera(camera.focal_px.expand(batch, 2), camera.center_px.expand(batch, 2), (640, 480))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float64) for name in SOLVERS]
    + [(name, torch.float32) for name in ("argmax", "rgbd", *DENSE)],
)
def test_poses_are_found_among_outliers(name, dtype, make_scene):
    correspondences, truth = make_scene(batch=2, grid=(30, 40), inlier_ratio=0.5, dtype=dtype, depth=True)
    estimate = SOLVERS[name](correspondences)
    assert estimate.success.all()
    assert estimate.cam_from_world.center_distance(truth).max() < 0.01
    assert estimate.cam_from_world.rotation_error_deg(truth).max() < 0.3
    assert estimate.confidence.min() > 0.9
    assert estimate.cam_from_world.translation.dtype == dtype
    assert estimate.inliers.shape == (2, 1200)
    assert ((estimate.num_inliers > 500) & (estimate.num_inliers < 700)).all()


def test_the_covariance_predicts_the_spread_of_the_error(make_scene):
    """Squared Mahalanobis distances have mean 6 (chi-squared); the mean of 60 of them spreads by 0.45."""
    correspondences, truth = make_scene(batch=60, grid=(30, 40), inlier_ratio=0.8, noise_m=0.003)
    for solver in (SOLVERS["argmax"], SOLVERS["rgbd"]):
        live = replace(correspondences, camera_points=_camera_points(correspondences))
        estimate = solver(live)
        error = (truth @ estimate.cam_from_world.inverse()).log()
        distance = torch.einsum("bi,bij,bj->b", error, torch.linalg.inv(estimate.covariance), error)
        assert 4.5 < distance.mean() < 8


def test_the_covariance_knows_of_errors_that_neighbours_share(make_scene):
    """Patches of 50 pixels err together. Were their points taken as independent, the mean would be 240."""
    correspondences, truth = make_scene(batch=40, grid=(60, 80), inlier_ratio=0.9, noise_m=0.001)
    generator = torch.Generator().manual_seed(0)
    patch = (correspondences.pixels / 50).long() @ torch.tensor([1, 13])
    shared = 0.01 * torch.randn(40, 13 * 10, 3, generator=generator, dtype=torch.float64)
    shift = shared.gather(1, patch[..., None].expand(-1, -1, 3)).to(correspondences.scene_points)
    estimate = SOLVERS["argmax"](replace(correspondences, scene_points=correspondences.scene_points + shift))
    error = (truth @ estimate.cam_from_world.inverse()).log()
    distance = torch.einsum("bi,bij,bj->b", error, torch.linalg.inv(estimate.covariance), error)
    assert 4 < distance.mean() < 16


def _camera_points(correspondences: Correspondences) -> torch.Tensor:
    pixels = correspondences.pixels
    z = 2 + torch.sin(pixels[..., 0] / 97) + 0.5 * torch.cos(pixels[..., 1] / 71)
    return correspondences.camera.unproject(pixels) * z[..., None]


@pytest.mark.parametrize("name", ["argmax", "softam", "dsac", "rgbd", *DENSE])
def test_outliers_alone_are_not_localized(name, make_scene):
    correspondences, _ = make_scene(batch=4, grid=(30, 40), inlier_ratio=0.0, depth=True)
    estimate = SOLVERS[name](correspondences)
    assert not estimate.success.any()
    assert estimate.confidence.max() < 0.2
    assert torch.isfinite(estimate.cam_from_world.matrix).all()


def test_a_textureless_image_is_not_localized():
    """Nothing to see: the network answers with one and the same point, or with noise about it."""
    pixels = torch.rand(2, 1200, 2) * torch.tensor([640.0, 480.0])
    points = torch.ones(2, 1200, 3)
    points[1] += 0.05 * torch.randn(1200, 3, generator=torch.Generator().manual_seed(0))
    for name in ("argmax", "dense"):
        estimate = SOLVERS[name](Correspondences(pixels, points, _batch_camera(2).to(torch.float32)))
        assert not estimate.success.any()
        assert estimate.confidence.max() < 0.1


@pytest.mark.parametrize("name", SOLVERS)
def test_fewer_than_four_correspondences_are_not_localized(name, make_scene):
    correspondences, _ = make_scene(batch=2, inlier_ratio=1.0, noise_m=0.0, depth=True)
    for count in (0, 1, 3):
        few = replace(
            correspondences,
            pixels=correspondences.pixels[:, :count],
            scene_points=correspondences.scene_points[:, :count],
            camera_points=correspondences.camera_points[:, :count],
            grid=None,
        )
        estimate = SOLVERS[name](few)
        assert not estimate.success.any()
        assert estimate.inliers.shape == (2, count)
        assert torch.isfinite(estimate.cam_from_world.matrix).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_a_batch_of_no_images_gives_no_poses(name, make_scene):
    correspondences, truth = make_scene(depth=True)
    empty = correspondences[:0]
    assert len(SOLVERS[name](empty)) == 0
    assert SOLVERS[name].inliers(truth[:0], empty).shape == (0, 240)
    if name in STAGED:
        assert STAGED[name].expected_loss(empty, truth[:0], MaxError()).shape == (0,)


@pytest.mark.parametrize("name", SOLVERS)
def test_rows_that_are_not_finite_are_ignored_and_get_no_gradient(name, make_scene):
    correspondences, truth = make_scene(inlier_ratio=0.8, depth=True)
    number = torch.arange(correspondences.pixels.shape[1])
    rows = number % 5 == 0
    bad = torch.where(number % 2 == 0, torch.nan, torch.inf)[:, None]
    scene_points = torch.where(rows[:, None], bad, correspondences.scene_points).requires_grad_()
    broken = replace(correspondences, scene_points=scene_points)
    estimate = SOLVERS[name](broken)
    assert estimate.success.all()
    assert estimate.cam_from_world.center_distance(truth).max() < 0.02
    assert not estimate.inliers[:, rows].any()
    if name in STAGED:
        loss = STAGED[name].expected_loss(broken, truth, MaxError(), torch.Generator().manual_seed(0))
        loss.sum().backward()
        assert torch.isfinite(scene_points.grad).all()
        assert (scene_points.grad[:, rows] == 0).all()
        assert (scene_points.grad[:, ~rows] != 0).any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_an_image_of_nothing_finite_is_not_localized_and_gives_zero_gradient(bad, make_scene):
    correspondences, truth = make_scene(batch=2, depth=True)
    scene_points = correspondences.scene_points.clone()
    scene_points[0] = bad
    scene_points.requires_grad_()
    broken = replace(correspondences, scene_points=scene_points)
    assert not SOLVERS["dense"](broken).success[0]
    for solver in (STAGED["softam"], STAGED["dsac"], STAGED["rgbd"]):
        assert not solver(broken).success[0]
        loss = solver.expected_loss(broken, truth, MaxError(), torch.Generator().manual_seed(0))
        assert torch.isfinite(loss).all()
        (gradient,) = torch.autograd.grad(loss.sum(), scene_points)
        assert (gradient[0] == 0).all()
        assert torch.isfinite(gradient).all()


def test_weights_steer_the_draw_and_the_fit(make_scene):
    """At 3 % inliers, which uniform draws miss, weights that know them find the pose."""
    correspondences, truth = make_scene(grid=(30, 40), inlier_ratio=0.03)
    clean = correspondences.sanitised()
    right = STAGED["argmax"].residual.errors(truth[:, None], clean)[:, 0] < 10
    weights = torch.where(right, 1.0, 1e-3).to(torch.float64)
    solver = PoseSolver.rgb(sampling=WeightedSampling(), backend="reference")
    estimate = solver(replace(correspondences, weights=weights))
    assert estimate.success.all()
    assert estimate.cam_from_world.center_distance(truth).max() < 0.05


@pytest.mark.parametrize("name", SOLVERS)
def test_the_same_input_has_the_same_answer(name, make_scene):
    correspondences, _ = make_scene(depth=True)
    first, second = SOLVERS[name](correspondences), SOLVERS[name](correspondences)
    torch.testing.assert_close(first.cam_from_world.matrix, second.cam_from_world.matrix, rtol=0, atol=0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    SOLVERS[name](correspondences)
    assert torch.equal(before, torch.get_rng_state())  # the global generator is left alone


@pytest.mark.parametrize("name", ["argmax", "dense"])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_size_of_the_scene_does_not_matter(name, scale, make_scene):
    """Coordinates of millimetres and of kilometres."""
    correspondences, truth = make_scene(inlier_ratio=0.7)
    scaled = replace(correspondences, scene_points=correspondences.scene_points * scale)
    estimate = SOLVERS[name](scaled)
    expected = SOLVERS[name](correspondences)
    assert estimate.success.all()
    torch.testing.assert_close(
        estimate.cam_from_world.center / scale, expected.cam_from_world.center, rtol=0, atol=1e-6
    )
    torch.testing.assert_close(estimate.confidence, expected.confidence, rtol=1e-5, atol=1e-5)
    assert estimate.cam_from_world.rotation_error_deg(truth).max() < 0.5


@pytest.mark.parametrize("name", ["argmax", "dense"])
def test_confidence_falls_with_inliers_and_with_noise(name, make_scene):
    def confidence(**kind):
        return SOLVERS[name](make_scene(grid=(20, 30), **kind)[0]).confidence.item()

    by_ratio = [confidence(inlier_ratio=r) for r in (0.9, 0.4, 0.2, 0.0)]
    assert by_ratio == sorted(by_ratio, reverse=True)
    by_noise = [confidence(noise_m=n) for n in (0.001, 0.05, 0.5)]
    assert by_noise == sorted(by_noise, reverse=True)
    assert by_ratio[0] > 0.9 > 0.2 > by_ratio[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"scene_points": c.scene_points[0]}, r"scene_points: expected \(1, 240, 3\)"),
        (lambda c: {"pixels": c.pixels[..., :1]}, r"pixels: expected \(B, N, 2\)"),
        (lambda c: {"scene_points": c.scene_points.float()}, "scene_points: expected torch.float64 on cpu"),
        (lambda c: {"scene_points": c.scene_points.to("meta")}, "got torch.float64 on meta"),
        (lambda c: {"weights": torch.ones(1, 7, dtype=torch.float64)}, r"weights: expected \(1, 240\)"),
        (lambda c: {"camera": Camera.simple(500.0, (640, 480))}, r"camera: expected batch \(1,\)"),
        (lambda c: {"grid": (7, 7)}, r"grid: expected h\*w = 240"),
        (
            lambda c: {"pixels": c.pixels.half()},
            "pixels: expected torch.float32 or torch.float64, got torch.float16",
        ),
        (
            lambda c: {"pixels": c.pixels.long()},
            "pixels: expected torch.float32 or torch.float64, got torch.int64",
        ),
    ],
)
@pytest.mark.wrong_input
def test_wrong_input_is_named_with_what_was_expected(change, message, make_scene):
    correspondences, _ = make_scene()
    with pytest.raises(ValueError, match=message):
        replace(correspondences, **change(correspondences))


def test_expected_loss_names_a_wrong_truth(make_scene):
    correspondences, truth = make_scene(batch=2)
    with pytest.raises(ValueError, match=r"cam_from_world: expected batch \(2,\), got \(1,\)"):
        STAGED["argmax"].expected_loss(correspondences, truth[:1], MaxError())


@pytest.mark.parametrize("name", ["rgbd", "dense rgbd"])
def test_rgbd_without_camera_points_is_an_error(name, make_scene):
    correspondences, _ = make_scene()
    with pytest.raises(ValueError, match="camera_points"):
        SOLVERS[name](correspondences)


def test_rgbd_without_any_depth_is_not_localized(make_scene):
    correspondences, _ = make_scene(inlier_ratio=0.9, depth=True)
    none = replace(correspondences, camera_points=torch.full_like(correspondences.camera_points, torch.nan))
    for name in ("rgbd", "dense rgbd"):
        assert not SOLVERS[name](none).success.any()


def test_an_image_in_a_batch_has_the_pose_it_has_alone(make_scene):
    """The refined optimum does not depend on which draws led to it."""
    correspondences, _ = make_scene(batch=3, inlier_ratio=0.7)
    together = SOLVERS["argmax"](correspondences)
    for i in range(3):
        alone = SOLVERS["argmax"](correspondences[i : i + 1])
        torch.testing.assert_close(
            alone.cam_from_world.matrix, together[i : i + 1].cam_from_world.matrix, rtol=0, atol=1e-6
        )


def test_poses_of_another_number_of_images_are_refused(make_scene):
    correspondences, truth = make_scene(batch=2)
    for solver in (PoseSolver.rgb(8), DenseSolver.rgb()):
        with pytest.raises(ValueError, match=r"cam_from_world: expected batch \(2,\), got \(1,\)"):
            solver.inliers(truth[:1], correspondences)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", STAGED)
def test_a_gpu_gives_the_pose_and_gradient_of_the_cpu(name, make_scene):
    correspondences, truth = make_scene(batch=2, depth=True)
    results = []
    for device in ("cpu", "cuda"):
        points = correspondences.scene_points.to(device).requires_grad_()
        live = Correspondences(
            correspondences.pixels.to(device),
            points,
            correspondences.camera.to(device),
            correspondences.camera_points.to(device),
            grid=correspondences.grid,
        )
        generator = torch.Generator().manual_seed(0)
        loss = STAGED[name].expected_loss(live, truth.to(device), MaxError(), generator)
        loss.sum().backward()
        results.append((STAGED[name](live).cam_from_world.matrix.cpu(), points.grad.cpu()))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("num_hypotheses", lambda value: PoseSolver.rgb(value)),
        ("threshold_px", lambda value: PoseSolver.rgb(threshold_px=value)),
        ("threshold_px", lambda value: DenseSolver.rgb(threshold_px=value)),
        ("window_px", lambda value: DenseSolver.rgb(window_px=value)),
        ("window_px", lambda value: PoseSolver.rgb(window_px=value)),
        ("max_error_px", lambda value: ReprojectionError(max_error_px=value)),
        ("threshold_m", lambda value: PoseSolver.rgbd(threshold_m=value)),
        ("threshold_m", lambda value: DenseSolver.rgbd(threshold_m=value)),
        ("max_error_m", lambda value: PointDistance(max_error_m=value)),
        ("temperature", lambda value: DSAC(temperature=value)),
        ("temperature", lambda value: SoftAM(temperature=value)),
        ("temperature", lambda value: SampledDSAC(temperature=value)),
        ("num_draws", lambda value: SampledDSAC(num_draws=value)),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, make: Callable[[float], object]) -> None:
    for value in (0, -1) if name.startswith("num_") else (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"{name}: expected more than 0, got {value}"):
            make(value)


def test_the_search_takes_finite_thresholds_only() -> None:
    rows = np.zeros((1, 9, 2)), np.zeros((1, 9, 3)), np.ones((1, 2)), np.ones((1, 2))
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="threshold_px: expected more than 0"):
            cpu.solve_rgb(*rows, threshold_px=value)


# ---- the parts are those that were given -------------------------------------------------------------


def test_the_number_of_hypotheses_is_honoured(make_scene):
    correspondences, _ = make_scene(batch=2, grid=(20, 30), inlier_ratio=0.15, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    assert PoseSolver.rgb(7).hypotheses(correspondences, generator).scores.shape == (2, 7)
    one, many = PoseSolver.rgb(1)(correspondences), PoseSolver.rgb(1000)(correspondences)
    assert many.success.all() and not one.success.any()


def test_uniform_draws_do_not_look_at_the_weights(make_scene):
    """Here these know the right rows, which are 3 %."""
    correspondences, truth = make_scene(grid=(30, 40), inlier_ratio=0.03, dtype=torch.float32)
    right = ReprojectionError().errors(truth[:, None], correspondences.sanitised())[:, 0] < 10
    weighted = replace(correspondences, weights=torch.where(right, 1.0, 1e-3))
    rows = []
    for sampling in (UniformSampling(), WeightedSampling()):
        samples = sampling(weighted.sanitised(), 500, 4, torch.Generator().manual_seed(0))
        rows.append(right[0][samples[0]].float().mean().item())
    assert abs(rows[0] - right.float().mean().item()) < 0.02 and rows[1] > 0.9


def test_parts_that_equal_the_usual_ones_are_no_other_solver(make_scene):
    """An option of a part that changes nothing changes no answer."""
    correspondences, _ = make_scene(batch=2, dtype=torch.float32)
    usual = PoseSolver.rgb()
    other = replace(usual, selection=_Renamed())
    assert torch.equal(
        usual(correspondences).cam_from_world.matrix, other(correspondences).cam_from_world.matrix
    )


class _Renamed:
    """`Argmax` by another name."""

    def __call__(self, hypotheses, generator=None):
        return Argmax()(hypotheses, generator)
