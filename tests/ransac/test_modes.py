"""Several scene points for a pixel: they exclude each other, and each repeat of a place is a pose."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from dsac.geometry import Pose
from dsac.landmarks.answering import answer_by_modes
from dsac.ransac import (
    DSAC,
    Correspondences,
    DenseSolver,
    MaxError,
    PointDistance,
    PoseSolver,
    ReprojectionError,
    RobustRefinement,
    SoftInlierCount,
    alternatives,
)
from dsac.ransac.residual import inliers

MODES = 3
PERIOD = torch.tensor([4.0, 0.0, 0.0], dtype=torch.float64)  # metres between the repeats of the wall
RESIDUALS = {"rgb": ReprojectionError(10.0), "rgbd": PointDistance(0.1)}


@pytest.fixture
def repeating(make_scene):
    """Each pixel shows any of three walls that look alike; its own, the truth's, is mode 0, 1 or 2 by turns."""

    def make(batch: int = 2, **options) -> tuple[Correspondences, Pose]:
        c, truth = make_scene(batch=batch, depth=True, **options)
        generator = torch.Generator().manual_seed(8)
        count = c.pixels.shape[1]
        shift = (torch.arange(count)[:, None] + torch.arange(MODES)) % MODES
        jitter = 0.002 * torch.randn(batch, count, MODES, 3, generator=generator, dtype=torch.float64)
        points = c.scene_points[:, :, None] + jitter + shift[..., None] * PERIOD
        weights = 0.5 + torch.rand(batch, count * MODES, generator=generator, dtype=torch.float64)
        assert c.camera_points is not None
        to = c.pixels.dtype
        return replace(
            c,
            pixels=c.pixels.repeat_interleave(MODES, 1),
            scene_points=points.flatten(1, 2).to(to),
            camera_points=c.camera_points.repeat_interleave(MODES, 1),
            weights=weights.to(to),
            modes=MODES,
        ), truth

    return make


def _repeat(truth: Pose, times: int) -> Pose:
    """The pose from which the wall so many periods on is seen as this one from the truth."""
    shift = times * PERIOD.to(truth.translation)
    return Pose(truth.rotation, truth.translation - truth.rotation @ shift)


def _best_rows(errors: torch.Tensor, used: torch.Tensor) -> list[int]:
    """Of each pixel the row with the least error among those that count, one at a time; -1 for none."""
    best = []
    for start in range(0, len(errors), MODES):
        rows = [row for row in range(start, start + MODES) if used[row]]
        best.append(min(rows, key=lambda row: errors[row].item()) if rows else -1)
    return best


@pytest.mark.parametrize("kind", RESIDUALS)
def test_inliers_count_a_pixel_once_by_its_best_mode(kind, repeating):
    c, truth = repeating(noise_m=0.03)
    residual = RESIDUALS[kind]
    weights = c.weights.clone()
    weights[:, ::7] = 0
    c = replace(c, weights=weights)
    found = inliers(residual, truth, c)
    for b in range(len(c)):
        errors = residual.errors(truth[b : b + 1, None], c[b : b + 1])[0, 0]
        expected = torch.zeros_like(found[b])
        for row in _best_rows(errors, weights[b] > 0):
            expected[row] = row >= 0 and errors[row] < residual.threshold
        assert torch.equal(found[b], expected)
    assert found.unflatten(1, (-1, MODES)).sum(-1).max() == 1


@pytest.mark.parametrize("kind", RESIDUALS)
def test_the_score_takes_of_each_pixel_the_largest_term(kind, repeating):
    c, truth = repeating(noise_m=0.03)
    residual = RESIDUALS[kind]
    poses = Pose.exp(0.01 * torch.randn(2, 5, 6, dtype=torch.float64)) @ truth[:, None]
    solver = getattr(PoseSolver, kind)(num_hypotheses=5)
    hypotheses = replace(solver.hypotheses(c), cam_from_world=poses)
    scores = SoftInlierCount(residual)(hypotheses, c)
    errors = residual.errors(poses, c)
    for b in range(2):
        total = sum(c.weights[b, i : i + MODES].max() for i in range(0, c.pixels.shape[1], MODES))
        for h in range(5):
            terms = c.weights[b] * torch.sigmoid(5 / residual.threshold * (residual.threshold - errors[b, h]))
            expected = sum(terms[i : i + MODES].max() for i in range(0, len(terms), MODES))
            assert scores[b, h].item() == pytest.approx((100 * expected / total).item(), rel=1e-9)


@pytest.mark.parametrize("max_points", [None, 100])
@pytest.mark.parametrize("kind", RESIDUALS)
def test_the_refined_pose_and_its_gradient_are_those_of_the_best_modes_alone(kind, max_points, repeating):
    c, truth = repeating()
    residual = RESIDUALS[kind]
    start = _starts(truth)
    points = c.scene_points.clone().requires_grad_()
    refine = RobustRefinement(residual, iterations=60, max_points=max_points)
    refined = refine(start, replace(c, scene_points=points), torch.Generator().manual_seed(3))
    direction = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((refined.translation * direction).sum(), points)

    used = gradient.abs().sum(-1) > 0
    per_pose = max_points or c.pixels.shape[1] // MODES
    assert (used.sum(-1) <= 2 * per_pose).all()
    step = 1e-6 * torch.randn(points.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def moved(sign: float) -> torch.Tensor:
        with torch.no_grad():
            shifted = replace(c, scene_points=points + sign * step)
            refined = refine(start, shifted, torch.Generator().manual_seed(3))
            return (refined.translation * direction).sum()

    expected = (moved(1) - moved(-1)) / 2
    assert (gradient * step).sum().item() == pytest.approx(expected.item(), rel=1e-5)


def _starts(truth: Pose) -> Pose:
    """Batch (B, 2): near the truth and near its first repeat."""
    both = [Pose.stack([truth[b], _repeat(truth, 1)[b]]) for b in range(2)]
    return Pose.exp(torch.full((2, 2, 6), 0.003, dtype=torch.float64)) @ Pose.stack(both)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def test_kernels_and_reference_agree_on_modes(repeating):
    c, truth = repeating()
    for solve in (
        lambda backend: RobustRefinement(ReprojectionError(10.0, backend=backend))(_starts(truth), c).matrix,
        lambda backend: PoseSolver.rgb(16, backend=backend).hypotheses(c, _seeded()).scores,
        lambda backend: PoseSolver.rgb(16, backend=backend)(c).covariance,
    ):
        fast, slow = solve("cpu"), solve("reference")
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-7)


def test_the_expected_loss_passes_a_gradient_to_modes(repeating):
    c, truth = repeating()
    points = c.scene_points.clone().requires_grad_()
    solver = PoseSolver.rgb(8, selection=DSAC(1.0))
    generator = torch.Generator().manual_seed(1)
    loss = solver.expected_loss(replace(c, scene_points=points), truth, MaxError(), generator).sum()
    (gradient,) = torch.autograd.grad(loss, points)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("kind", ["rgb", "rgbd"])
def test_every_repeat_is_an_answer_and_the_others_are_alternatives(kind, repeating):
    c, truth = repeating(batch=1, dtype=torch.float32)
    solver = getattr(DenseSolver, kind)()
    first = solver(c)
    poses = [first, *alternatives(solver, c, first)]
    assert len(poses) == MODES
    places = [_repeat(truth, times).center for times in range(MODES)]
    near = [[bool((p.cam_from_world.center - place).norm() < 0.02) for place in places] for p in poses]
    assert sorted(row.index(True) for row in near) == [0, 1, 2]
    for a, b in combinations(poses, 2):
        assert not (a.inliers & b.inliers).any()
    assert all(p.num_inliers > 0.4 * 12 * 20 for p in poses)


def test_a_photo_that_fits_every_repeat_is_an_open_question(repeating):
    c, truth = repeating(batch=1, dtype=torch.float32)
    solver = DenseSolver.rgb()
    first = solver(c)
    told = answer_by_modes(solver, c, first)
    assert first.success and not told.estimate.success and len(told.others) == MODES - 1
    assert told.probability == pytest.approx(1 / 3, abs=0.1)
    assert told.probability >= max(chance for _, chance in told.others)


def test_where_one_mode_explains_all_there_is_no_alternative(repeating):
    c, _ = repeating(batch=1, dtype=torch.float32)
    own = torch.arange(c.pixels.shape[1]) % MODES == -(torch.arange(c.pixels.shape[1]) // MODES) % MODES
    sure = replace(c, weights=torch.where(own, c.weights, 0.05 * c.weights))
    first = DenseSolver.rgb()(sure)
    assert first.success and alternatives(DenseSolver.rgb(), sure, first) == []
    told = answer_by_modes(DenseSolver.rgb(), sure, first)
    assert told.estimate is first and told.others == () and told.probability == 1
    alone = replace(c, grid=None, modes=1)
    assert alternatives(DenseSolver.rgb(), alone, DenseSolver.rgb()(alone)) == []


def test_chance_grows_with_the_modes(repeating):
    """A wrong pose finds more rows that agree by chance where each pixel may choose among several."""
    c, _ = repeating(batch=1)
    for residual in RESIDUALS.values():
        one, three = (torch.as_tensor(residual.chance(replace(c, grid=None, modes=m))) for m in (1, MODES))
        torch.testing.assert_close(three, MODES * one)


def test_rows_that_are_no_runs_of_modes_are_refused(make_scene):
    c, _ = make_scene()
    with pytest.raises(ValueError, match="modes: expected a divisor of 240 rows, got 7"):
        replace(c, grid=None, modes=7)
    with pytest.raises(ValueError, match=r"grid: expected h\*w = 80"):
        replace(c, modes=3)
    with pytest.raises(ValueError, match="expected one image, got 2"):
        two, _ = make_scene(batch=2, dtype=torch.float32)
        alternatives(DenseSolver.rgb(), two, DenseSolver.rgb()(two))
