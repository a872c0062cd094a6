"""A map in training on the pose error: head, encoder and score network, judged on a validation slice."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dsac.geometry import Pose
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_map import TrainableMap, TuningView
from dsac.mapping.training import Checkpoint, Learner, Parts, Standing, train
from dsac.ransac import (
    DSAC,
    Argmax,
    Correspondences,
    MaxError,
    PoseSolver,
    RobustRefinement,
    SoftAM,
    noisy_poses,
)

LARGEST_ERROR = 10.0  # degrees or centimetres: validation counts worse poses as no worse than that


@dataclass(frozen=True)
class TuningViews:
    """Views to train on and views to judge by, of different frames."""

    training: list[TuningView]
    validation: list[TuningView]


@dataclass(frozen=True)
class TuningLoss:
    """What a step was like."""

    loss: float = math.nan  # expected pose error of the step's images: degrees or cm, whichever is more
    gradient_norm: float = math.nan  # before it was clamped


@dataclass(eq=False)
class BestSoFar:
    """The weights that did best on the validation slice."""

    weights: dict[str, Tensor]
    step: int = 0
    error: float = math.inf  # see `validation_error`
    start_error: float = math.inf  # of the map that came in

    def hear(self, weights: dict[str, Tensor], step: int, error: float) -> None:
        """Of other weights, which may be better."""
        if error < self.error:
            self.weights, self.step, self.error = weights, step, error

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for name in vars(self):
            setattr(self, name, state_dict[name])


@runtime_checkable
class Judged(Learner[TuningLoss], Protocol):
    """A learner that looks at a validation slice now and then, and keeps the best that it has been."""

    @property
    def settings(self) -> FineTuningSettings: ...
    @property
    def best(self) -> BestSoFar: ...
    @property
    def largest_error(self) -> float:
        """Where all of the slice is lost."""
        ...

    def judge_start(self) -> float: ...
    def judge(self, step: int) -> float: ...


class PoseLearner:
    """Networks of a map that learn the poses of views (a `Learner`), and the best they have been so far."""

    largest_error = LARGEST_ERROR

    def __init__(
        self, model: TrainableMap, views: TuningViews, settings: FineTuningSettings, seed: int
    ) -> None:
        self.model, self.views, self.settings = model, views, settings
        self.best = BestSoFar(model.as_saved())
        self._solver = training_solver(model, settings)
        self._optimizer = torch.optim.Adam(_groups(model.requires_grad_(True), settings.learning_rate))
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def parts(self) -> Parts:
        return {
            "model": self.model,
            "optimizer": self._optimizer,
            "generator": self._generator,
            "best": self.best,
        }

    def update(self, step: int, progress: float) -> TuningLoss:
        set_rates(self._optimizer, progress)
        correspondences, truth = draw_batch(self.model, self.views.training, self.settings, self._generator)
        loss = self._solver.expected_loss(correspondences, truth, MaxError(), self._generator).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_gradient_norm)
        if torch.isfinite(norm):
            self._optimizer.step()
        return TuningLoss(loss.item(), norm.item())

    def judge_start(self) -> float:
        """Error on the validation slice before the first step, which every later one must beat."""
        self.best.weights = self.model.as_saved()  # with a score network that was trained meanwhile
        error = validation_error(self.model, self.best.weights, self.views.validation)
        self.best.error = self.best.start_error = error
        return error

    def judge(self, step: int) -> float:
        """Error on the validation slice after `step` steps; NaN where the settings ask for none."""
        if not is_judged(self.settings, step):
            return math.nan
        weights = self.model.as_saved()
        error = validation_error(self.model, weights, self.views.validation)
        self.best.hear(weights, step, error)
        return error


def is_judged(settings: FineTuningSettings, step: int) -> bool:
    return step % settings.validate_every == 0 or step == settings.steps


def train_on_poses(
    learner: Judged,
    *,
    start: Standing = Standing(),  # noqa: B008 -- frozen
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008 -- frozen
    report: Callable[[Standing, TuningLoss, float], None] = lambda standing, loss, validation: None,
) -> Standing:
    """`train` with a look at the validation slice now and then, first at the start itself.

    `report` hears of every step, with the validation error or NaN.
    """
    if start.step == 0:
        report(start, TuningLoss(), learner.judge_start())
        checkpoint.keep(learner.parts, start)  # a score network that was trained before is not lost

    def judge(standing: Standing, loss: TuningLoss) -> None:
        report(standing, loss, learner.judge(standing.step))

    steps = learner.settings.steps
    return train(learner, steps=steps, start=start, checkpoint=checkpoint, report=judge, report_every=0.0)


def training_solver(model: TrainableMap, settings: FineTuningSettings) -> PoseSolver:
    """The solver whose expected loss is minimised."""
    selection = {
        "dsac": DSAC(settings.temperature),
        "softam": SoftAM(settings.temperature),
        "argmax": Argmax(),
    }[settings.selection]
    scoring = model.scoring.part(model.score_network)
    refinement = RobustRefinement(max_points=256)
    return PoseSolver.rgb(settings.num_hypotheses, selection=selection, scoring=scoring, refinement=refinement)


class ScoreLearner:
    """A score network that learns -10 times the loss of noisy poses (a `Learner`), before the rest (DSAC)."""

    def __init__(
        self, model: TrainableMap, views: Sequence[TuningView], settings: FineTuningSettings, seed: int
    ) -> None:
        assert model.score_network is not None
        self._model, self._views, self._settings, self._network = model, views, settings, model.score_network
        self._optimizer = torch.optim.Adam(self._network.parameters(), _FIRST_SCORE_RATE)
        self._optimizer.param_groups[0]["highest"] = _FIRST_SCORE_RATE
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def parts(self) -> Parts:
        return {"network": self._network, "optimizer": self._optimizer, "generator": self._generator}

    def update(self, step: int, progress: float) -> TuningLoss:
        set_rates(self._optimizer, progress)
        with torch.no_grad():
            correspondences, truth = draw_batch(self._model, self._views, self._settings, self._generator)
            poses = noisy_poses(truth, _NOISY_POSES, self._generator)
            losses = MaxError()(poses, truth[:, None])
        loss = self._model.scoring.regression_loss(self._network, poses, losses, correspondences)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), math.inf)
        self._optimizer.step()
        return TuningLoss(loss.item(), norm.item())


_FIRST_SCORE_RATE = 3e-4
_NOISY_POSES = 16  # of each image of a step
# Published: the score network learns a hundred times as slowly as the coordinates, which have more to lose.
_SCORE_RATE, _ENCODER_RATE = 0.01, 0.1  # times the head's


def draw_batch(
    model: TrainableMap, views: Sequence[TuningView], settings: FineTuningSettings, generator: torch.Generator
) -> tuple[Correspondences, Pose]:
    """Random views of one size, thinned, and their true poses."""
    batch = draw_views(views, settings.images_per_step, generator)
    correspondences = model.correspondences(batch, settings.thinning, generator)
    truth = Pose.stack([view.cam_from_world for view in batch])
    return correspondences, truth.to(correspondences.pixels)


def draw_views(views: Sequence[TuningView], count: int, generator: torch.Generator) -> list[TuningView]:
    """So many at random, of one size."""
    first = views[int(torch.randint(len(views), (), generator=generator))]
    alike = [view for view in views if view.camera.size == first.camera.size]
    return [alike[i] for i in torch.randint(len(alike), (count,), generator=generator).tolist()]


@torch.no_grad()
def validation_error(model: TrainableMap, state: dict[str, Tensor], views: Sequence[TuningView]) -> float:
    """Mean of max(degrees, centimetres), each at most `LARGEST_ERROR`, with the weights `state` of the model.

    Views are solved as queries are, but from all cells, where queries leave out columns of fine grids; and with
    no landmarks, which fine-tuning does not change.
    """
    saved = copy.deepcopy(model)
    saved.load_state_dict(state)
    solver, loss, errors = saved.scoring.solver(saved.score_network), MaxError(), []
    for view in views:
        correspondences = saved.correspondences([view])
        estimate = solver(correspondences)
        error = loss(estimate.cam_from_world, view.cam_from_world.to(correspondences.pixels))
        errors.append(error.item() if estimate.success.item() else math.inf)
    return sum(min(error, LARGEST_ERROR) for error in errors) / len(errors)


def _groups(model: TrainableMap, learning_rate: float) -> list[dict[str, Any]]:
    """The optimiser's groups, each with its highest rate."""
    parts = {model.head: 1.0, model.encoder: _ENCODER_RATE, model.score_network: _SCORE_RATE}
    return [
        {"params": list(part.parameters()), "highest": factor * learning_rate}
        for part, factor in parts.items()
        if part is not None
    ]


def set_rates(optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Each group's highest rate, along half a cosine."""
    for group in optimizer.param_groups:
        group["lr"] = group["highest"] * 0.5 * (1 + math.cos(math.pi * progress))
