"""Training of the encoder by what it is for: heads that regress scene coordinates, judged from elsewhere.

Many scenes have a head each. A head learns from views of its scene as in mapping, on features that it takes as
they are. The encoder learns from the heads' errors at other views of the same things: from other sides and
distances, in other light, which no head has learned. So the encoder is asked for features that carry a head
from the views it knows to those it does not; contrast between cells, which asks for features that differ
wherever the place does, was tried before and harms there (docs/encoder.md). The loss of a cell whose point is
predicted at a distance d is 2 log(1 + d/m), m a twentieth of the scene's scale, for heads and encoder alike.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.mapping.head_learner import one_cycle
from dsac.networks.encoder import EfficientNetLite, fast_autocast, fast_dtype
from dsac.networks.heads import HeadArchitecture, SceneHead, with_noise
from dsac.ransac.types import check_positive
from encoder_training.pack import Pack
from encoder_training.views import JUDGED, LEARNED, ViewLimits, Views, draw_views

Encode = Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B n C"]]

_WARM_UP = 0.05, 0.02
_NEAR = 0.05  # of the scene's scale
_GOOD = 0.075  # of the scene's scale: such cells count as right in the log
_FEATURE_NOISE = 0.75  # the largest, for heads: as in the middle of mapping


@dataclass(frozen=True)
class TrainingSettings:
    """How the encoder is trained; docs/encoder.md has what came out."""

    steps: int = 4000
    scenes_per_step: int = 2
    """A gallery with the probability `gallery_share`."""
    gallery_share: float = 0.2
    judged_views: int = 5
    """Views of a scene that a step learns from."""
    learned_views: int = 3
    """Views of a scene that its head gets new in a step."""
    learning_rate: float = 2e-4
    """Highest, of the encoder."""
    num_blocks: int = 9
    """That the encoder has; further ones of the start are left out."""
    first_block: int = 3
    """Blocks before it stay as they are, and so do all depthwise kernels."""
    remembered_views: int = 64
    """Whose cells a head learns from; the oldest go."""
    cells: int = 500
    """Of a view that a head remembers, on average."""
    first_lessons: int = 300
    """Steps of a head before the encoder learns from it."""
    lessons: int = 2
    """Steps of a head whenever its scene is drawn."""
    batch_size: int = 2048
    """Cells in a step of a head."""
    width: int = 256
    """Of the heads."""
    averaging: float = 0.995
    """Of the exponential moving average of the weights."""
    kept: float = 0.5
    """Of the way from the start to that average, where the weights that are kept lie."""
    seed: int = 0
    learned: ViewLimits = LEARNED
    judged: ViewLimits = JUDGED

    def __post_init__(self) -> None:
        """Raises: `ValueError` for numbers that mean nothing."""
        free = ("first_block", "gallery_share", "first_lessons", "lessons", "averaging", "kept", "seed")
        counts = {name: value for name, value in vars(self).items() if isinstance(value, (int, float))}
        check_positive(**{name: value for name, value in counts.items() if name not in free})
        if not 9 <= self.num_blocks <= 11:
            raise ValueError(f"num_blocks: expected 9 to 11, got {self.num_blocks}")


class Trainer:
    """One step after the other. What is drawn depends on seed and step alone, the rest is in `state`.

    `start` is in float32.
    """

    def __init__(self, pack: Pack, start: EfficientNetLite, settings: TrainingSettings) -> None:
        self.pack, self.settings = pack, settings
        self.device = pack.images.device
        self.step = 0
        self.encoder = copy.deepcopy(start).requires_grad_(False)
        self.encoder.blocks = self.encoder.blocks[: settings.num_blocks]
        self._start = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        self.average = {name: value.clone() for name, value in self._start.items()}
        self.learners: dict[int, _Learner] = {}
        self._galleries = pack.scene[pack.planar].unique().tolist()
        self._rooms = pack.scene[~pack.planar].unique().tolist()
        self._trained = [
            parameter
            for block in self.encoder.blocks[settings.first_block :]
            for name, parameter in block.named_parameters()
            if name != "depthwise.weight"
        ]
        for parameter in self._trained:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self._trained, lr=settings.learning_rate, weight_decay=0.0)

    def train_step(self, progress: float) -> dict[str, float]:
        """One update at `progress` (0 to 1) of the schedule; loss and share of good cells of judged views."""
        s = self.settings
        generator = torch.Generator(self.device).manual_seed(s.seed * 1_000_003 + self.step)
        losses, good = [], []
        self.optimizer.zero_grad(set_to_none=True)
        for scene in self._draw_scenes(generator):
            learner = self.learners.get(scene) or self._new_learner(scene, generator)
            learner.look(s.learned_views, self.encode, generator)
            learner.learn(s.lessons, 1e-3, generator)
            loss, share = learner.judge(s.judged_views, self.encode, generator)
            (loss / s.scenes_per_step).backward()
            losses.append(loss.item())
            good.append(share.item())
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate * one_cycle(progress, *_WARM_UP)
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0, error_if_nonfinite=True)
        self.optimizer.step()
        self.step += 1
        decay = min(s.averaging, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.encoder.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return {"loss": sum(losses) / s.scenes_per_step, "good": sum(good) / s.scenes_per_step}

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B n C"]:
        """Rows of features."""
        with fast_autocast(self.device):
            return self.encoder(images).flatten(2).mT

    def weights(self) -> dict[str, Tensor]:
        """What is kept: better at unknown places than either end (WiSE-FT, Wortsman et al., CVPR 2022)."""
        return {name: value.lerp(self.average[name], self.settings.kept) for name, value in self._start.items()}

    def state(self) -> dict:
        return {
            "step": self.step,
            "encoder": self.encoder.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "learners": {scene: learner.state() for scene, learner in self.learners.items()},
        }

    def resume(self, state: dict) -> None:
        self.step = state["step"]
        self.encoder.load_state_dict(state["encoder"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        for scene, learner in state["learners"].items():
            self.learners[scene] = _Learner(self.pack, scene, self.encoder.num_features, self.settings)
            self.learners[scene].resume(learner)

    def _draw_scenes(self, generator: torch.Generator) -> list[int]:
        drawn = []
        for chance, place in torch.rand(
            self.settings.scenes_per_step, 2, generator=generator, device=self.device
        ).tolist():
            gallery = bool(self._galleries) and (chance < self.settings.gallery_share or not self._rooms)
            among = self._galleries if gallery else self._rooms
            drawn.append(among[int(place * len(among))])
        return drawn

    def _new_learner(self, scene: int, generator: torch.Generator) -> _Learner:
        """A head that has had its first lessons."""
        s = self.settings
        learner = self.learners[scene] = _Learner(self.pack, scene, self.encoder.num_features, s)
        while not learner.is_full:
            learner.look(min(8, s.remembered_views), self.encode, generator)
        learner.head.fit_normalisation(learner.features.float())
        for rate in (1e-3, 3e-3, 2e-3, 1e-3):
            learner.learn(math.ceil(s.first_lessons / 4), rate, generator)
        return learner


class _Learner:
    """The head of one scene and the cells that it learns from."""

    def __init__(self, pack: Pack, scene: int, num_features: int, settings: TrainingSettings) -> None:
        self.pack, self.settings = pack, settings
        device = pack.images.device
        rows = pack.scene == scene
        self._learned, self._judged = ((rows & part).nonzero()[:, 0] for part in (pack.learned, pack.judged))
        size = settings.remembered_views * settings.cells
        self.features = torch.empty(size, num_features, dtype=fast_dtype(device), device=device)
        self.points = torch.empty(size, 3, device=device)
        self._count = 0  # of all cells ever remembered
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            self.head = SceneHead(HeadArchitecture(num_features, settings.width)).to(device)
        self._optimizer = torch.optim.AdamW(self.head.parameters(), lr=1e-3, weight_decay=0.01)

    @property
    def is_full(self) -> bool:
        return self._count >= len(self.points)

    @torch.no_grad()
    def look(self, count: int, encode: Encode, generator: torch.Generator) -> None:
        """Remember some cells of so many new views."""
        views = self._views(self._learned, self.settings.learned, count, generator)
        if not views.known.any():
            raise ValueError(f"image {self._learned[0].item()} and others: no cell with a known scene point")
        rows, points = encode(views.images)[views.known], views.points[views.known]
        order = torch.randperm(len(rows), generator=generator, device=rows.device)[
            : count * self.settings.cells
        ]
        place = (self._count + torch.arange(len(order), device=rows.device)) % len(self.points)
        self.features[place] = rows[order].to(self.features.dtype)
        self.points[place] = points[order]
        if self._count == 0:
            center = points.median(0).values
            self.head.scene_center.copy_(center)
            self.head.scene_scale.copy_((points - center).norm(dim=-1).median())
        self._count += len(order)

    def learn(self, steps: int, rate: float, generator: torch.Generator) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.head.requires_grad_(True)
        for _ in range(steps):
            size, device = self.settings.batch_size, self.points.device
            chosen = torch.randint(len(self.points), (size,), generator=generator, device=device)
            rows = self.head.whitened(self.features[chosen].float())
            self._optimizer.zero_grad(set_to_none=True)
            self._losses(with_noise(rows, _FEATURE_NOISE, generator), self.points[chosen])[0].backward()
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
            self._optimizer.step()

    def judge(self, count: int, encode: Encode, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss of so many views from elsewhere, for the encoder, and the share of cells that are right."""
        views = self._views(self._judged, self.settings.judged, count, generator)
        self.head.requires_grad_(False)
        rows = self.head.whitened(encode(views.images)[views.known].float())
        return self._losses(rows, views.points[views.known])

    def state(self) -> dict:
        return {
            "head": self.head.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "features": self.features,
            "points": self.points,
            "count": self._count,
        }

    def resume(self, state: dict) -> None:
        self.head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.features.copy_(state["features"])
        self.points.copy_(state["points"])
        self._count = state["count"]

    def _losses(self, whitened: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        with fast_autocast(points.device):
            predicted = self.head.of_whitened(whitened).points
        off = (predicted - points).norm(dim=-1) / self.head.scene_scale
        return 2 * torch.log1p(off / _NEAR).mean(), (off < _GOOD).float().mean()

    def _views(self, images: Tensor, limits: ViewLimits, count: int, generator: torch.Generator) -> Views:
        chosen = torch.randint(len(images), (count,), generator=generator, device=images.device)
        return draw_views(self.pack, images[chosen], limits, generator)
