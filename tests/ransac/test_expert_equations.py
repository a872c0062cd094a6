"""The expected loss over regions, written out region by region and hypothesis by hypothesis; float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dsac.geometry import Pose
from dsac.mapping.region_learner import LOST, UpToLost
from dsac.mapping.trainable_gate import SHARPNESS, TrainableGate, expected_loss
from dsac.ransac import DSAC, PoseSolver, ReprojectionError, RobustRefinement, probabilities
from dsac.visual_words import VisualWords

TEMPERATURE = 5.0
CHANNELS, WORDS, CELLS, EXPERTS = 6, 5, 9, 3
NOT_ASKED = 2  # the last of the experts, which counts as lost


class Problem:
    """A photo, a gate of three regions, and two of them with scene coordinates and a pool of hypotheses."""

    def __init__(self, make_scene) -> None:  # noqa: ANN001
        generator = torch.Generator().manual_seed(0)
        words = torch.randint(-90, 91, (EXPERTS, WORDS, CHANNELS), generator=generator, dtype=torch.int8)
        self.gate = TrainableGate([VisualWords(w, torch.zeros(0, 3)) for w in words], [True] * EXPERTS).double()
        self.cells = torch.randn(CELLS, CHANNELS, generator=generator, dtype=torch.float64)
        self.cells = 0.1 * torch.nn.functional.normalize(self.cells, dim=1)  # so that none is sure
        self.worth = 0.01 * torch.randn(EXPERTS, WORDS, generator=generator, dtype=torch.float64)
        self.solver = PoseSolver.rgb(
            6,
            selection=DSAC(TEMPERATURE, negligible=0.0),
            refinement=RobustRefinement(ReprojectionError(), iterations=100),
        )
        scene, self.truth = make_scene(inlier_ratio=0.7, noise_m=0.02)
        self.truth = Pose.exp(torch.full((1, 6), 0.02, dtype=torch.float64)) @ self.truth
        self.rows = [scene.sanitised()] * NOT_ASKED
        noise = torch.randn(NOT_ASKED, *scene.scene_points.shape, generator=generator, dtype=torch.float64)
        self.points = scene.scene_points + 0.03 * noise
        with torch.no_grad():
            self.samples = [
                self.solver.hypotheses(self.live(self.points, m), torch.Generator().manual_seed(m)).samples
                for m in range(NOT_ASKED)
            ]

    def live(self, points: torch.Tensor, m: int):  # noqa: ANN201
        return replace(self.rows[m], scene_points=points[m])

    def pool(self, points: torch.Tensor, m: int):  # noqa: ANN201
        live = self.live(points, m)
        hypotheses = self.solver.minimal(live, self.samples[m])
        return live, replace(hypotheses, scores=self.solver.scoring(hypotheses, live))

    def loss(self, worth: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """As training computes it."""
        log_gate = torch.func.functional_call(self.gate, {"worth": worth}, ([self.cells],))
        losses = torch.full((1, EXPERTS), LOST, dtype=torch.float64)
        for m in range(NOT_ASKED):
            live, hypotheses = self.pool(points, m)
            losses[0, m] = self.solver.expected_loss(live, self.truth, UpToLost(2.0), hypotheses=hypotheses)[0]
        return expected_loss(log_gate, losses)[0]

    def gate_by_hand(self, worth: torch.Tensor) -> torch.Tensor:
        """p(m | photo), cell by cell and word by word."""
        words = torch.stack([known.words.float() for known in self.gate._maps])
        unit = torch.nn.functional.normalize(words, dim=-1).double()  # they are float32
        scores = []
        for m in range(EXPERTS):
            of_cells = []
            for cell in self.cells:
                cosines = [float(cell @ word) for word in unit[m]]
                nearest = cosines.index(max(cosines))
                of_cells.append(cosines[nearest] + worth[m, nearest])
            scores.append(sum(of_cells) / CELLS)
        odds = [(SHARPNESS * score).exp() for score in scores]
        return torch.stack([one / sum(odds) for one in odds])


@pytest.fixture
def problem(make_scene) -> Problem:  # noqa: ANN001
    return Problem(make_scene)


def test_the_loss_is_the_sum_over_experts_and_hypotheses(problem: Problem) -> None:
    by_hand = 0.0
    gate = problem.gate_by_hand(problem.worth)
    assert 0.05 < gate.min() and gate.max() < 0.9  # all of them count
    for m in range(NOT_ASKED):
        live, hypotheses = problem.pool(problem.points, m)
        of_hypotheses = probabilities(hypotheses, TEMPERATURE)[0]
        for j in range(len(of_hypotheses)):
            refined = problem.solver.refinement(hypotheses.cam_from_world[:, j : j + 1], live)
            error = max(
                refined.rotation_error_deg(problem.truth[:, None]).item(),
                2 * 100 * refined.center_distance(problem.truth[:, None]).item(),
            )
            clamped = min(error if error <= 10 else (10 * error) ** 0.5, LOST)
            by_hand += gate[m].item() * of_hypotheses[j].item() * clamped
    by_hand += gate[NOT_ASKED].item() * LOST
    assert abs(problem.loss(problem.worth, problem.points).item() - by_hand) < 1e-5 * by_hand


def test_gradients_are_those_of_finite_differences(problem: Problem) -> None:
    leaves = problem.worth.clone().requires_grad_(), problem.points.clone().requires_grad_()
    gradients = torch.autograd.grad(problem.loss(*leaves), leaves)
    assert all(gradient.abs().max() > 1e-3 for gradient in gradients)
    step = 1e-7
    for which in range(2):
        for seed in range(2):
            generator = torch.Generator().manual_seed(seed)
            move = torch.randn(leaves[which].shape, generator=generator, dtype=torch.float64)
            ends = []
            for sign in (1, -1):
                moved = [leaf.detach() for leaf in leaves]
                moved[which] = moved[which] + sign * step * move
                with torch.no_grad():
                    ends.append(problem.loss(*moved))
            slope = (ends[0] - ends[1]) / (2 * step)
            torch.testing.assert_close(slope, (gradients[which] * move).sum(), rtol=1e-5, atol=1e-5)


def test_the_gates_gradient_is_the_expectation_of_loss_times_log_derivative(problem: Problem) -> None:
    worth = problem.worth.clone().requires_grad_()
    gradient = torch.autograd.grad(problem.loss(worth, problem.points), worth)[0]
    log_gate = problem.gate_by_hand(worth).log()
    expected = torch.zeros_like(worth)
    for m in range(EXPERTS):
        of_expert = torch.tensor(LOST)
        if m < NOT_ASKED:
            live, hypotheses = problem.pool(problem.points, m)
            of_expert = problem.solver.expected_loss(
                live, problem.truth, UpToLost(2.0), hypotheses=hypotheses
            ).detach()[0]
        expected += (
            log_gate[m].exp().detach()
            * of_expert
            * torch.autograd.grad(log_gate[m], worth, retain_graph=True)[0]
        )
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
