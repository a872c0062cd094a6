"""The paper's equations, term by term, against the gradient of `expected_loss`; float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from dsac.geometry import Pose
from dsac.ransac import (
    DSAC,
    Argmax,
    MaxError,
    PoseSolver,
    ReprojectionError,
    RobustRefinement,
    SampledDSAC,
    SoftAM,
    WeightedError,
    probabilities,
)

TEMPERATURE = 5.0
WEIGHTED = WeightedError()


@dataclass(frozen=True)
class NoRefinement:
    """R(h, Y) = h: leaves the path through the hypotheses, which a refinement to the optimum has not."""

    def __call__(self, poses: Pose, correspondences, generator=None) -> Pose:
        return poses


def _pool(make_scene, selection, refinement=None, num_hypotheses=12, inlier_ratio=0.6, batch=1):
    """A solver, a scene with live points, and the same scored pool as a function of the points."""
    solver = PoseSolver.rgb(num_hypotheses, selection=selection, refinement=refinement or _exact())
    correspondences, truth = make_scene(batch=batch, inlier_ratio=inlier_ratio, noise_m=0.02)
    # a truth a few centimetres away keeps every loss away from the kink at zero
    truth = Pose.exp(torch.full((batch, 6), 0.03, dtype=torch.float64)) @ truth
    clean = correspondences.sanitised()
    with torch.no_grad():
        samples = solver.hypotheses(correspondences, torch.Generator().manual_seed(0)).samples

    def pool(points):
        live = replace(clean, scene_points=points)
        hypotheses = solver.minimal(live, samples)
        return live, replace(hypotheses, scores=solver.scoring(hypotheses, live))

    def loss(points, pose_loss=WEIGHTED):
        live, hypotheses = pool(points)
        return solver.expected_loss(live, truth, pose_loss, hypotheses=hypotheses).sum()

    return solver, clean.scene_points.clone().requires_grad_(), truth, pool, loss


def _exact():
    return RobustRefinement(ReprojectionError(), iterations=100)


def _gradient(value, points):
    return torch.autograd.grad(value, points, retain_graph=True)[0]


def test_dsac_gradient_is_equations_4_and_5(make_scene):
    solver, points, truth, pool, loss = _pool(make_scene, DSAC(TEMPERATURE, negligible=0.0))
    live, hypotheses = pool(points)
    refined = solver.refinement(hypotheses.cam_from_world, live)
    losses = WEIGHTED(refined, truth[:, None])[0]
    weights = probabilities(hypotheses, TEMPERATURE)[0].detach()
    assert (weights > 0.01).sum() > 3  # a distribution, not a choice
    scores = [_gradient(s / TEMPERATURE, points) for s in hypotheses.scores[0]]
    mean_score = sum(w * s for w, s in zip(weights, scores, strict=True))
    expected = torch.zeros_like(points)
    for weight, l_j, score in zip(weights, losses, scores, strict=True):
        log_probability = score - mean_score  # (5)
        expected += weight * (l_j.detach() * log_probability + _gradient(l_j, points))  # (4)
    torch.testing.assert_close(
        _gradient(loss(points), points), expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max())
    )


def test_softam_gradient_is_equations_1_to_3(make_scene):
    _, points, truth, pool, loss = _pool(make_scene, SoftAM(TEMPERATURE), NoRefinement())
    live, hypotheses = pool(points)
    weights = probabilities(hypotheses, TEMPERATURE)[0].detach()
    scores = [_gradient(s / TEMPERATURE, points) for s in hypotheses.scores[0]]
    mean_score = sum(w * s for w, s in zip(weights, scores, strict=True))

    # h_J as 6-vectors in the chart of the heaviest hypothesis, with every derivative by points
    best = int(weights.argmax())
    heaviest = hypotheses.cam_from_world[:, best : best + 1]
    vectors = (hypotheses.cam_from_world @ heaviest.inverse()).log()[0]
    mean = (weights[:, None] * vectors.detach()).sum(0).requires_grad_()
    soft = torch.zeros(6, *points.shape, dtype=torch.float64)  # ∂h_soft/∂w
    for weight, score, vector in zip(weights, scores, vectors, strict=True):
        probability = weight * (score - mean_score)  # (3)
        for k in range(6):
            soft[k] += probability * vector[k].detach() + weight * _gradient(vector[k], points)  # (2)
    chart = heaviest.detach()
    outer = WEIGHTED(Pose.exp(mean[None, None]) @ chart, truth[:, None]).sum()
    expected = torch.einsum("k,kbnc->bnc", torch.autograd.grad(outer, mean)[0], soft)  # (1)
    fixed_mean = Pose.exp(mean.detach()[None, None])
    expected += _gradient(WEIGHTED(fixed_mean @ heaviest, truth[:, None]).sum(), points)  # the chart's own
    torch.testing.assert_close(
        _gradient(loss(points), points), expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max())
    )


def test_refinement_to_the_optimum_leaves_only_its_own_derivative(make_scene):
    """∂R/∂h = 0 in (1): the gradient of SoftAM is that of the refinement by the points alone."""
    solver, points, truth, pool, loss = _pool(make_scene, SoftAM(TEMPERATURE))
    live, hypotheses = pool(points)
    start = solver.selection(hypotheses).cam_from_world.detach()
    refined = solver.refinement(start, live)
    expected = _gradient(WEIGHTED(refined, truth[:, None]).sum(), points)
    torch.testing.assert_close(_gradient(loss(points), points), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("selection", "refinement"),
    [
        (Argmax(), None),
        (SoftAM(TEMPERATURE), None),
        (SoftAM(TEMPERATURE), NoRefinement()),
        (DSAC(TEMPERATURE, negligible=0.0), None),
        (DSAC(TEMPERATURE, negligible=0.0), NoRefinement()),
    ],
)
@pytest.mark.parametrize("pose_loss", [MaxError(), WEIGHTED])
def test_finite_differences_of_the_whole_pipeline(selection, refinement, pose_loss, make_scene):
    _, points, _, _, loss = _pool(make_scene, selection, refinement)
    gradient = _gradient(loss(points, pose_loss), points)
    for seed in range(2):
        move = torch.randn(points.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = 1e-7
        with torch.no_grad():
            slope = (loss(points + step * move, pose_loss) - loss(points - step * move, pose_loss)) / (2 * step)
        torch.testing.assert_close(slope, (gradient * move).sum(), rtol=1e-5, atol=1e-5)


def test_the_sampled_estimator_agrees_with_the_exact_gradient_in_the_mean(make_scene):
    _, points, truth, pool, loss = _pool(make_scene, DSAC(TEMPERATURE, negligible=0.0), NoRefinement())
    exact = _gradient(loss(points), points)
    live, hypotheses = pool(points)
    sampled = PoseSolver.rgb(selection=SampledDSAC(500, TEMPERATURE), refinement=NoRefinement())
    generator = torch.Generator().manual_seed(0)
    direction = exact / exact.norm()

    def estimate():
        drawn = sampled.expected_loss(live, truth, WEIGHTED, generator, hypotheses)
        return (_gradient(drawn.sum(), points) * direction).sum()

    draws = torch.stack([estimate() for _ in range(8)])
    standard_error = draws.std() / len(draws) ** 0.5
    assert standard_error < 0.3 * exact.norm()  # the test can tell
    assert (draws.mean() - exact.norm()).abs() < 3 * standard_error


def test_negligible_hypotheses_change_the_loss_by_less_than_they_weigh(make_scene):
    _, points, _, _, exact = _pool(make_scene, DSAC(1.0, negligible=0.0), num_hypotheses=32)
    _, _, _, _, skipping = _pool(make_scene, DSAC(1.0, negligible=1e-4), num_hypotheses=32)
    assert exact(points).item() == pytest.approx(skipping(points).item(), abs=32 * 1e-4 * 1000)


@pytest.mark.parametrize("selection", [Argmax(), SoftAM(TEMPERATURE), DSAC(TEMPERATURE, negligible=0.0)])
def test_a_batch_is_a_loop_over_its_images(selection, make_scene):
    solver, points, truth, pool, _ = _pool(make_scene, selection, batch=3)
    live, hypotheses = pool(points)
    together = solver.expected_loss(live, truth, WEIGHTED, hypotheses=hypotheses)
    gradient = _gradient(together.sum(), points)
    for i in range(3):
        one = slice(i, i + 1)
        image_points = points.detach()[one].requires_grad_()
        image = replace(live[one], scene_points=image_points)
        alone = solver.minimal(image, hypotheses.samples[one])
        alone = replace(alone, scores=solver.scoring(alone, image))
        loss = solver.expected_loss(image, truth[one], WeightedError(), hypotheses=alone)
        torch.testing.assert_close(loss, together[one])
        torch.testing.assert_close(_gradient(loss.sum(), image_points), gradient[one], rtol=1e-7, atol=1e-9)
