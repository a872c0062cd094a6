"""The likelihood of Gaussian mixtures: as written out, its derivatives, and poses at its top."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import MultivariateNormal

from dsac.geometry import Pose
from dsac.ransac import Correspondences, DenseSolver, MixtureSolver, PreemptiveSolver, mixture, mixture_numba
from dsac.ransac.mixture import Mixtures
from dsac.ransac.mixture_solver import climbed
from dsac.ransac.residual import weights_of

MODES = 3
BOTH = pytest.mark.parametrize("slope", [mixture.slope, mixture_numba.slope])
_UPPER = torch.triu_indices(3, 3)


@pytest.fixture
def mixed(make_scene):
    """Pixels with a mode near the scene point that they show, another anywhere, and one that fills up."""

    def make(batch: int = 1, **options) -> tuple[Correspondences, Pose]:
        c, truth = make_scene(batch=batch, depth=True, **options)
        generator = torch.Generator().manual_seed(3)
        shape = batch, c.pixels.shape[1], MODES
        points = c.scene_points[:, :, None].repeat(1, 1, MODES, 1)
        points[:, :, 1] += torch.randn(*shape[:2], 3, generator=generator, dtype=points.dtype)
        root = 0.01 * torch.randn(*shape, 3, 3, generator=generator, dtype=torch.float64)
        covariances = root @ root.mT + 0.003**2 * torch.eye(3, dtype=torch.float64)
        noise = torch.linalg.cholesky(covariances) @ torch.randn(*shape, 3, 1, generator=generator).double()
        weights = torch.rand(shape, generator=generator, dtype=torch.float64)
        weights[..., 2] = 0.0
        assert c.camera_points is not None
        camera_points = c.camera_points.repeat_interleave(MODES, 1)
        camera_points[:, : MODES * 60] = torch.nan  # no depth there
        return replace(
            c,
            pixels=c.pixels.repeat_interleave(MODES, 1),
            scene_points=(points + noise[..., 0].to(points)).flatten(1, 2),
            camera_points=camera_points,
            weights=weights.flatten(1).to(points),
            covariances=covariances[..., _UPPER[0], _UPPER[1]].flatten(1, 2).to(points),
            modes=MODES,
        ), truth

    return make


def _mixtures(c: Correspondences) -> Mixtures:
    return Mixtures.of(MixtureSolver.rgbd().residual.sanitise(c), 3.5)


@BOTH
def test_the_likelihood_is_the_sum_of_densities_of_points_and_of_rays(slope, mixed):
    """Of rays by adding up the density along them in steps of half a millimetre."""
    c, truth = mixed(inlier_ratio=1.0)
    world_from_cam = truth[0].inverse()
    mixtures = _mixtures(c)
    clean = MixtureSolver.rgbd().residual.sanitise(c)
    assert clean.camera_points is not None and clean.covariances is not None
    matrices = torch.zeros(c.pixels.shape[1], 3, 3, dtype=torch.float64)
    matrices[:, _UPPER[0], _UPPER[1]] = clean.covariances[0]
    matrices = matrices + matrices.mT - torch.diag_embed(matrices.diagonal(dim1=-2, dim2=-1))
    rays = torch.nn.functional.normalize(c.camera[0].unproject(c.pixels[0]), dim=-1)
    steps = torch.arange(1.0, 5.0, 0.0005, dtype=torch.float64)
    for pixel in (7, 59, 60, 239):
        density = 0.0
        for row in range(MODES * pixel, MODES * pixel + 2):
            mode = MultivariateNormal(c.scene_points[0, row], matrices[row])
            if pixel < 60:
                along = world_from_cam @ (steps[:, None] * rays[row])
                one = mode.log_prob(along).exp().sum() * 0.0005
            else:
                one = mode.log_prob((world_from_cam @ clean.camera_points[0, row : row + 1])[0]).exp()
            density += weights_of(clean)[0, row] * one
        value = (density + mixtures.log_background[pixel].exp()).log()
        alone = Mixtures(*(x[pixel : pixel + 1] for x in mixtures))
        torch.testing.assert_close(slope(alone, world_from_cam).value, value, rtol=1e-5, atol=1e-6)


def test_a_wrong_pixel_has_the_density_far_out_of_a_typical_mode(mixed):
    mixtures = _mixtures(mixed()[0])
    sizes = torch.linalg.det(mixtures.precision[:, :2]).flatten()
    typical = (-sizes.log()).median()
    for pixel, dimensions in ((0, 2), (100, 3)):
        expected = -0.5 * 3.5**2 - 0.5 * typical * dimensions / 3 - 0.5 * dimensions * math.log(2 * math.pi)
        torch.testing.assert_close(mixtures.log_background[pixel], expected, rtol=0.0, atol=0.05)


@BOTH
def test_the_gradient_is_that_of_finite_differences(slope, mixed):
    """Beside the truth, where nothing is zero; of pixels with depth and without."""
    c, truth = mixed()
    mixtures = _mixtures(c)
    pose = (
        Pose.exp(0.01 * torch.randn(6, generator=torch.Generator().manual_seed(0)).double())
        @ truth[0].inverse()
    )
    here, step = slope(mixtures, pose), 1e-6
    for axis in range(6):
        increment = step * torch.eye(6, dtype=torch.float64)[axis]
        values = [slope(mixtures, Pose.exp(way * increment) @ pose).value for way in (1, -1)]
        difference = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(here.gradient[axis], difference, rtol=1e-5, atol=1e-4)
    assert (torch.linalg.eigvalsh(here.matrix) > 0).all()


def test_the_compiled_slope_is_the_reference(mixed):
    c, truth = mixed()
    pose = Pose.exp(torch.full((6,), 0.01, dtype=torch.float64)) @ truth[0].inverse()
    for ours, expected in zip(
        *(module.slope(_mixtures(c), pose) for module in (mixture_numba, mixture)), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-6)


@BOTH
def test_the_top_is_where_the_gradient_vanishes_and_near_the_truth(slope, mixed):
    c, truth = mixed(inlier_ratio=0.8)
    mixtures = _mixtures(c)
    start = Pose.exp(0.01 * torch.ones(6, dtype=torch.float64)) @ truth[0].inverse()
    top = climbed(mixtures, start, 60)
    before, after = slope(mixtures, start), slope(mixtures, top)
    assert after.value > before.value + 10
    newton = torch.linalg.solve(after.matrix, after.gradient)
    assert newton @ after.gradient < 0.5  # in the logarithm: what another step would gain
    assert top.inverse().center_distance(truth[0]) < 0.02


@pytest.mark.parametrize(("kind", "dtype"), [("rgb", torch.float32), ("rgbd", torch.float64)])
def test_likelier_poses_are_nearer_to_the_truth_where_modes_tell_their_spread(kind, dtype, mixed):
    c, truth = mixed(batch=3, grid=(18, 24), inlier_ratio=0.7, noise_m=0.0, dtype=dtype)
    solver = getattr(MixtureSolver, kind)()
    first, estimate = solver.first(c), solver(c)
    assert estimate.success.all() and estimate.covariance.dtype == dtype
    assert estimate.inliers.shape == c.pixels.shape[:2]
    off = [e.cam_from_world.center_distance(truth).square().mean() for e in (estimate, first)]
    assert off[0] < off[1]
    assert torch.equal(solver.inliers(estimate.cam_from_world, c), estimate.inliers)


def test_it_follows_any_search(mixed):
    c, truth = mixed(inlier_ratio=0.8)
    for first in (DenseSolver.rgb(), PreemptiveSolver.rgb(num_hypotheses=32)):
        found = MixtureSolver.rgb(first)(c).cam_from_world
        assert found.center_distance(truth).item() < 0.02


def test_what_is_lost_stays_lost_and_what_is_no_covariance_does_not_count(mixed):
    c, truth = mixed(batch=2, inlier_ratio=0.8)
    points, covariances = c.scene_points.clone(), c.covariances.clone()
    points[1] = 5 * torch.randn(points[1].shape, generator=torch.Generator().manual_seed(1)).double()
    covariances[:, ::5] = -1.0  # of a damaged map
    estimate = MixtureSolver.rgb()(replace(c, scene_points=points, covariances=covariances))
    assert estimate.success.tolist() == [True, False]
    assert estimate.cam_from_world.center_distance(truth)[0] < 0.03
    assert torch.isfinite(estimate.cam_from_world.matrix).all()


@pytest.mark.wrong_input
def test_rows_without_covariances_are_refused(mixed):
    c, _ = mixed()
    with pytest.raises(ValueError, match="^covariances: expected"):
        MixtureSolver.rgb()(replace(c, covariances=None))
    with pytest.raises(ValueError, match="^covariances: expected"):
        replace(c, covariances=c.covariances[..., :3])
    with pytest.raises(ValueError, match="^background: expected"):
        MixtureSolver(DenseSolver.rgb(), MixtureSolver.rgb().residual, background=0.0)
