"""Training on the pose error: one loop for head, encoder and score network, judged on a validation slice."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from dsac.geometry import Pose
from dsac.localizer import query_solver
from dsac.mapping.trainable_map import TrainableMap, TuningView
from dsac.mapping.views import Augmentation
from dsac.ransac import (
    DSAC,
    Argmax,
    Correspondences,
    LearnedScore,
    MaxError,
    PoseSolver,
    RobustRefinement,
    SoftAM,
    noisy_poses,
)

SelectionName = Literal["dsac", "softam", "argmax"]
ScoringName = Literal["soft-count", "score-network"]


@dataclass(frozen=True)
class FineTuningSettings:
    """How a map is trained on its poses."""

    selection: SelectionName = "dsac"
    """Which poses the expected loss is taken over."""
    scoring: ScoringName = "soft-count"
    """What scores hypotheses, now and when the map is used."""
    encoder: bool = False
    """Train the encoder too; the map then holds its weights."""
    steps: int = 120
    """Training steps."""
    learning_rate: float = 3e-5
    """Of Adam, for the head; falls to zero along half a cosine."""
    temperature: float = 1.0
    """Of the softmax over scores (soft inliers in percent, or -10 times the expected loss)."""
    num_hypotheses: int = 32
    images_per_step: int = 4
    thinning: int = 2
    """One random cell of each block of so many times so many is used."""
    max_gradient_norm: float = 1.0
    views_per_frame: int = 2
    """Augmented views of each frame; one takes 1.4 MB with the shipped encoder."""
    num_frames: int = 250
    """At most, evenly spread."""
    num_validation_frames: int = 25
    """At most a quarter of the frames."""
    validate_every: int = 60
    """Steps; a checkpoint is written as often."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    score_steps: int = 200
    """Steps in which a new score network learns the loss of noisy poses, before the rest begins."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")


@dataclass(frozen=True)
class TuningViews:
    """Views to train on and views to judge by, of different frames."""

    training: list[TuningView]
    validation: list[TuningView]


@dataclass(frozen=True)
class Measured:
    """What a step has to say."""

    loss: float = math.nan  # expected pose error of the step's images: degrees or cm, whichever is more
    gradient_norm: float = math.nan  # before it was clamped
    validation: float = math.nan  # see `validation_error`; only where measured


class PoseTraining:
    """A training of `model`: where it is, and the best that it has seen on the validation slice."""

    def __init__(
        self, model: TrainableMap, views: TuningViews, settings: FineTuningSettings, seed: int
    ) -> None:
        self.model, self.views, self.settings = model, views, settings
        self.solver = training_solver(model, settings)
        self.optimizer = torch.optim.Adam(_groups(model.requires_grad_(True), settings.learning_rate))
        self.generator = torch.Generator().manual_seed(seed)
        self.step = self.best_step = 0
        self.best = model.as_saved()
        self.best_error = self.start_error = math.inf

    def run(self) -> Iterator[Measured]:
        """Train to the end, a step each time it is asked; first the start itself is measured."""
        if self.step == 0:
            self.best_error = self.start_error = validation_error(self.model, self.best, self.views.validation)
            yield Measured(validation=self.start_error)
        settings = self.settings
        while self.step < settings.steps:
            _set_rates(self.optimizer, self.step / settings.steps)
            loss, norm = self._update()
            self.step += 1
            error = math.nan
            if self.step % settings.validate_every == 0 or self.step == settings.steps:
                error = self._validate()
            yield Measured(loss, norm, error)

    def _update(self) -> tuple[float, float]:
        correspondences, truth = draw_batch(self.model, self.views.training, self.settings, self.generator)
        loss = self.solver.expected_loss(correspondences, truth, MaxError(), self.generator).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_gradient_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
        return loss.item(), norm.item()

    def _validate(self) -> float:
        candidate = self.model.as_saved()
        error = validation_error(self.model, candidate, self.views.validation)
        if error < self.best_error:
            self.best, self.best_error, self.best_step = candidate, error, self.step
        return error

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return {
            **kept,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint. Raises: what `load_state_dict` and missing keys raise."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        for name in _KEPT:
            setattr(self, name, state[name])


LARGEST_ERROR = 10.0  # degrees or centimetres: validation counts worse poses as no worse than that
_KEPT = ("step", "best", "best_step", "best_error", "start_error")


def training_solver(model: TrainableMap, settings: FineTuningSettings) -> PoseSolver:
    """The solver whose expected loss is minimised."""
    selection = {
        "dsac": DSAC(settings.temperature),
        "softam": SoftAM(settings.temperature),
        "argmax": Argmax(),
    }[settings.selection]
    scoring = None if model.score_network is None else LearnedScore(model.score_network)
    refinement = RobustRefinement(max_points=256)
    return PoseSolver.rgb(settings.num_hypotheses, selection=selection, scoring=scoring, refinement=refinement)


def train_score_network(
    model: TrainableMap, views: Sequence[TuningView], settings: FineTuningSettings, seed: int
) -> Iterator[Measured]:
    """Regress -10 times the loss of noisy poses: how DSAC trains its score network, before the rest."""
    assert model.score_network is not None
    scoring = LearnedScore(model.score_network)
    optimizer = torch.optim.Adam(model.score_network.parameters(), _FIRST_SCORE_RATE)
    optimizer.param_groups[0]["highest"] = _FIRST_SCORE_RATE
    generator = torch.Generator().manual_seed(seed)
    for step in range(settings.score_steps):
        _set_rates(optimizer, step / settings.score_steps)
        with torch.no_grad():
            correspondences, truth = draw_batch(model, views, settings, generator)
            poses = noisy_poses(truth, _NOISY_POSES, generator)
            losses = MaxError()(poses, truth[:, None])
        loss = scoring.regression_loss(poses, losses, correspondences)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.score_network.parameters(), math.inf)
        optimizer.step()
        yield Measured(loss.item(), norm.item())


_FIRST_SCORE_RATE = 3e-4
_NOISY_POSES = 16  # of each image of a step
# Published: the score network learns a hundred times as slowly as the coordinates, which have more to lose.
_SCORE_RATE, _ENCODER_RATE = 0.01, 0.1  # times the head's


def draw_batch(
    model: TrainableMap, views: Sequence[TuningView], settings: FineTuningSettings, generator: torch.Generator
) -> tuple[Correspondences, Pose]:
    """Random views of one size, thinned, and their true poses."""
    first = views[int(torch.randint(len(views), (), generator=generator))]
    alike = [view for view in views if view.camera.size == first.camera.size]
    drawn = torch.randint(len(alike), (settings.images_per_step,), generator=generator)
    batch = [alike[i] for i in drawn.tolist()]
    correspondences = model.correspondences(batch, settings.thinning, generator)
    truth = Pose.stack([view.cam_from_world for view in batch])
    return correspondences, truth.to(correspondences.pixels)


@torch.no_grad()
def validation_error(model: TrainableMap, state: dict[str, Tensor], views: Sequence[TuningView]) -> float:
    """Mean of max(degrees, centimetres), each at most `LARGEST_ERROR`; localized as in the saved map."""
    saved = copy.deepcopy(model)
    saved.load_state_dict(state)
    solver, loss, errors = query_solver(saved.score_network), MaxError(), []
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


def _set_rates(optimizer: torch.optim.Optimizer, progress: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["highest"] * 0.5 * (1 + math.cos(math.pi * progress))
