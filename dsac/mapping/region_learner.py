"""A map of several regions in training on the pose error: the heads of its regions, and the gate before them.

    E[l] = Σ_m p(m | photo) E_j[l(h_j of m)]        m: regions that a photo asks; with the others it is lost

A photo asks the regions that it was mapped in, and those that the gate takes for likely. Their heads are read
when they are first asked, so memory and time are those of the photos of the steps, not those of the map.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.atlas import Atlas
from dsac.geometry import Pose, Similarity
from dsac.mapping.pose_learner import (
    LARGEST_ERROR,
    BestSoFar,
    TuningLoss,
    TuningViews,
    draw_views,
    is_judged,
    set_rates,
    training_solver,
)
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_gate import TrainableGate, expected_loss
from dsac.mapping.trainable_map import TrainableMap, TuningView
from dsac.mapping.training import Parts
from dsac.ransac import MaxError, PoseSolver
from dsac.visual_words import VisualWords

_MOST_ASKED = 3  # by one photo, besides the regions that it was mapped in
_UNLIKELY = 1e-3  # regions that are not asked: counting them as lost adds a tenth at most
LOST = 100.0  # what a pose costs that is 10 m off or more, and a region that is not asked
# A photo teaches a few words; Adam, which moves all of them by steps of one size, learns photos by heart.
_GATE_RATE, _GATE_MOMENTUM, _GATE_DECAY = 1e-4, 0.9, 6.0


@dataclass(frozen=True)
class UpToLost:
    """`MaxError` in centimetres of the world, softly clamped as in DSAC*, and at most `LOST`.

    Wrong regions are metres off: they tell the gate so, and do not rule what the right one's head learns.
    """

    scale: float = 1.0  # units of the world that are one of the poses'

    def __call__(self, cam_from_world: Pose, truth: Pose) -> Float[Tensor, "*batch"]:
        scaled = (Pose(pose.rotation, self.scale * pose.translation) for pose in (cam_from_world, truth))
        return MaxError(LARGEST_ERROR)(*scaled).clamp(max=LOST)


@dataclass(frozen=True, eq=False)
class Expert:
    """The head of a region in training."""

    model: TrainableMap
    world_from_map: Similarity
    solver: PoseSolver
    optimizer: torch.optim.Adam

    @property
    def loss(self) -> UpToLost:
        return UpToLost(self.world_from_map.scale)

    def truth(self, views: Sequence[TuningView]) -> Pose:
        """Where they were taken, in the region's frame."""
        in_world = Pose.stack([view.cam_from_world for view in views])
        return self.world_from_map.inverse().pose(in_world).to(self.model.head.scene_center)

    def expected_loss(
        self, views: Sequence[TuningView], thinning: int, generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        correspondences = self.model.correspondences(views, thinning, generator)
        return self.solver.expected_loss(correspondences, self.truth(views), self.loss, generator)


class Experts:
    """Those of a map that were asked so far, by the numbers of their regions."""

    def __init__(self, atlas: Atlas, settings: FineTuningSettings, device: torch.device) -> None:
        self._atlas, self._settings, self._device = atlas, settings, device
        self.asked: dict[int, Expert] = {}

    def __getitem__(self, region: int) -> Expert:
        """Read from the file when it is first asked. Raises: `MapFormatError` for a damaged region."""
        if region not in self.asked:
            scene_map = self._atlas.regions[region].read()
            model = TrainableMap(scene_map, None, scene_map.info.scoring).to(self._device).requires_grad_(True)
            solver = training_solver(model, self._settings)
            optimizer = torch.optim.Adam(model.parameters(), self._settings.learning_rate)
            optimizer.param_groups[0]["highest"] = self._settings.learning_rate
            self.asked[region] = Expert(model, scene_map.info.world_from_map, solver, optimizer)
        return self.asked[region]

    def as_saved(self) -> dict[str, Tensor]:
        """The states of those that were trained after a round trip through the map file, by region and name."""
        return {
            f"{region}/{name}": value
            for region, expert in self.asked.items()
            if expert.optimizer.state
            for name, value in expert.model.as_saved().items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            str(region): {"model": expert.model.state_dict(), "optimizer": expert.optimizer.state_dict()}
            for region, expert in self.asked.items()
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for region, state in state_dict.items():
            expert = self[int(region)]
            expert.model.load_state_dict(state["model"])
            expert.optimizer.load_state_dict(state["optimizer"])


@dataclass(eq=False)
class BestOfRegions(BestSoFar):
    """The gate that did best on the validation slice, with the heads of that step or as they came."""

    as_came: Tensor | None = None  # losses of the heads that came in, of each view (V, M)


class RegionLearner:
    """Gate and heads that learn the poses of views (a `Learner`), and the best they have been so far."""

    largest_error = LOST

    def __init__(
        self,
        experts: Experts,
        gate: TrainableGate,
        views: TuningViews,
        own: Mapping[str, Sequence[int]],
        among: Sequence[int],
        settings: FineTuningSettings,
        seed: int,
    ) -> None:
        """`own`: the regions that a frame was mapped in; `among`: those of the world that the frames are in."""
        self.experts, self.gate, self.views, self.settings = experts, gate, views, settings
        self._own, self._among = own, torch.tensor(among)
        self._optimizer = torch.optim.SGD(
            gate.parameters(), _GATE_RATE, momentum=_GATE_MOMENTUM, weight_decay=_GATE_DECAY
        )
        self._optimizer.param_groups[0]["highest"] = _GATE_RATE
        self._generator = torch.Generator().manual_seed(seed)
        self.best = BestOfRegions({_WORTH: gate.worth.detach().clone()})

    @property
    def parts(self) -> Parts:
        return {
            "experts": self.experts,
            "gate": self.gate,
            "optimizer": self._optimizer,
            "generator": self._generator,
            "best": self.best,
        }

    def update(self, step: int, progress: float) -> TuningLoss:
        views = draw_views(self.views.training, self.settings.images_per_step, self._generator)
        log_gate = self._of_gate(views)
        asked = [
            sorted({*self._likely(row), *self._own.get(view.name, ())})
            for row, view in zip(log_gate.detach().exp(), views, strict=True)
        ]
        losses = torch.full_like(log_gate, LOST)
        regions = sorted({region for of_view in asked for region in of_view})
        for region in regions:
            rows = [i for i, of_view in enumerate(asked) if region in of_view]
            of_region = self.experts[region].expected_loss(
                [views[i] for i in rows], self.settings.thinning, self._generator
            )
            losses[rows, region] = of_region.to(losses)
        loss = expected_loss(log_gate, losses).mean()
        return TuningLoss(loss.item(), self._step(loss, [self.experts[region] for region in regions], progress))

    def _step(self, loss: Tensor, experts: Sequence[Expert], progress: float) -> float:
        """Of gate and heads, against the gradient; the norm of the heads', before it was clamped."""
        optimizers = [self._optimizer, *(expert.optimizer for expert in experts)]
        for optimizer in optimizers:
            set_rates(optimizer, progress)
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        heads = [p for expert in experts for p in expert.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(heads, self.settings.max_gradient_norm)
        if torch.isfinite(norm) and torch.isfinite(loss):
            for optimizer in optimizers:
                optimizer.step()
        return norm.item()

    def _of_gate(self, views: Sequence[TuningView]) -> Float[Tensor, "B M"]:
        photos = [view.cells for view in views]
        assert all(cells is not None for cells in photos)
        return self.gate(photos)

    def _likely(self, probabilities: Float[Tensor, " M"]) -> list[int]:
        """The regions that a photo asks, the likeliest first."""
        of_world = probabilities[self._among]
        first = of_world.argsort(descending=True, stable=True)[:_MOST_ASKED]
        return self._among[first[of_world[first] > _UNLIKELY]].tolist()

    # ---- the validation slice -----------------------------------------------------------------------

    def judge_start(self) -> float:
        """Expected loss on the validation slice before the first step, which every later one must beat."""
        losses = self.validation_losses()
        is_lost = losses.numel() > 0 and losses.min() >= LARGEST_ERROR  # all of it, as in another place
        error = LOST if is_lost else self._expected(losses)
        self.best.error, self.best.start_error, self.best.as_came = error, error, losses
        return error

    def judge(self, step: int) -> float:
        """Expected loss on the validation slice after `step` steps; NaN where the settings ask for none.

        Of what the gate has learned alone and with the heads the better counts: what is too few photos for a
        head may be enough for words.
        """
        if not is_judged(self.settings, step):
            return math.nan
        assert self.best.as_came is not None
        with_heads, alone = self._expected(self.validation_losses()), self._expected(self.best.as_came)
        heads = self.experts.as_saved() if with_heads < alone else {}
        error = min(with_heads, alone)
        self.best.hear({_WORTH: self.gate.worth.detach().clone(), **heads}, step, error)
        return error

    @torch.no_grad()
    def _expected(self, losses: Float[Tensor, "V M"]) -> float:
        return expected_loss(self._of_gate(self.views.validation), losses).mean().item()

    @torch.no_grad()
    def validation_losses(self) -> Float[Tensor, "V M"]:
        """Of each view in each region that it asks, `LOST` in the others.

        Regions solve them as queries are solved, see `pose_learner.validation_error`.
        """
        views = self.views.validation
        log_gate = self._of_gate(views)
        losses = torch.full_like(log_gate, LOST)
        saved: dict[int, TrainableMap] = {}
        for i, view in enumerate(views):
            for region in self._likely(log_gate[i].exp()):
                expert = self.experts[region]
                if region not in saved:
                    saved[region] = copy.deepcopy(expert.model)
                    saved[region].load_state_dict(expert.model.as_saved())
                estimate = expert.model.scoring.solver(None)(saved[region].correspondences([view]))
                if estimate.success.item():
                    losses[i, region] = expert.loss(estimate.cam_from_world, expert.truth([view])).item()
        return losses

    def best_words(self, region: int) -> VisualWords:
        """Of the region, with what they were worth when it was best."""
        with torch.no_grad():
            self.gate.worth.copy_(self.best.weights[_WORTH])
        return self.gate.words(region)

    def best_head(self, region: int) -> TrainableMap | None:
        """Of the region, when it was best; None: as it came."""
        start = f"{region}/"
        state = {
            name.removeprefix(start): value
            for name, value in self.best.weights.items()
            if name.startswith(start)
        }
        if not state:
            return None
        model = self.experts[region].model
        model.load_state_dict(state)
        return model


_WORTH = "worth"
