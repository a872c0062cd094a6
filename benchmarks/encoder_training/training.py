"""Training of the compact encoder: EfficientNet-lite0 made narrow in closed form, then contrasted.

    loss = contrast  +  ½ · (1 − cos(read-out, XFeat))  +  ⅕ · |whitened(trunk) − whitened(EfficientNet-lite0)|²

`contrast` is the symmetric cross-entropy (InfoNCE, van den Oord et al. 2018) that each cell of view a has to
find its own place in view b among all places of the batch, and back, by the cosine of the encoder's features.
Teachers see view a before light, blur and noise were put on; the encoder sees it after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dsac.networks.encoder import CompactEncoder, EfficientNetLite, fast_dtype
from encoder_training.narrowing import narrow
from encoder_training.pack import Pack
from encoder_training.pairs import Pairs, ViewLimits, draw_pairs
from encoder_training.teachers import XFeat, whitening_matrix


@dataclass(frozen=True)
class TrainingSettings:
    """The shipped weights' settings stand in `docs/encoder.md`."""

    steps: int = 20_000
    batch_size: int = 6
    """Pairs of views in a step."""
    room_share: float = 0.5
    """Of the pairs that come from rooms, whose views differ in depth, the others from photos."""
    cells: int = 256
    """Correspondences of a pair that are contrasted."""
    learning_rate: float = 1e-3
    """Highest, of what is new; what EfficientNet-lite0 brought learns at a fifth of it."""
    weight_decay: float = 0.01
    teaching_weight: float = 0.2
    xfeat_weight: float = 0.5
    train_depthwise: bool = False
    """Train the trunk's depthwise kernels too: half of a step's time on a processor."""
    averaging: float = 0.999
    """Of the exponential moving average that is kept."""
    seed: int = 0
    views: ViewLimits = field(default_factory=ViewLimits)


class Trainee(nn.Module):
    """The encoder and what only its training needs; it starts as close to the teacher as its width allows."""

    mean: Tensor
    whitening: Tensor

    def __init__(self, teacher: EfficientNetLite, images: Float[Tensor, "B 3 H W"]) -> None:
        super().__init__()
        encoder = self.encoder = CompactEncoder().to(images.device)
        narrow(teacher, encoder.trunk, images)
        with torch.no_grad():
            rows = teacher(images).permute(0, 2, 3, 1).flatten(0, 2)
            self.register_buffer("mean", rows.mean(0))
            self.register_buffer("whitening", whitening_matrix(rows - rows.mean(0)))
            strongest = self.whitening[:, -encoder.num_features :].T
            encoder.skip.weight.copy_(strongest[..., None, None])
            encoder.skip.bias.copy_(-strongest @ self.mean)
            nn.init.zeros_(encoder.project.weight)
            nn.init.zeros_(encoder.project.bias)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(1 / 0.1)))
        self.xfeat = nn.Conv2d(encoder.num_features, XFeat.num_features, 1)

    def distance(self, trunk: Float[Tensor, "B 152 h w"], taught: Float[Tensor, "B 152 h w"]) -> Tensor:
        """Mean squared difference of whitened features, without the few that are far off."""
        difference = (trunk.float() - taught.float()).permute(0, 2, 3, 1) @ self.whitening
        return difference.square().clamp_max(25).mean()


class Trainer:
    """One step after the other; a pure function of settings and step number, so that it can be resumed."""

    def __init__(
        self, pack: Pack, teacher: EfficientNetLite, xfeat: nn.Module, settings: TrainingSettings
    ) -> None:
        self.pack, self.teacher, self.xfeat, self.settings = pack, teacher, xfeat, settings
        self.device = pack.images.device
        self.step = 0
        is_planar = pack.partners[:, 0] == torch.arange(len(pack), device=self.device)
        self._photos, self._rooms = is_planar.nonzero()[:, 0], (~is_planar).nonzero()[:, 0]
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            self.trainee = Trainee(teacher, self._first_images()).to(self.device)
        self.trainee.to(memory_format=torch.channels_last)
        self.average = {name: value.clone() for name, value in self.trainee.encoder.state_dict().items()}
        if not settings.train_depthwise:
            for block in self.trainee.encoder.trunk.blocks:
                block.depthwise.weight.requires_grad_(False)
        inherited = list(self.trainee.encoder.trunk.parameters())
        known = {id(parameter) for parameter in inherited}
        groups = [
            {"params": [p for p in self.trainee.parameters() if id(p) not in known], "share": 1.0},
            {"params": inherited, "share": 0.2},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=settings.weight_decay)

    def train_step(self, progress: float) -> dict[str, float]:
        """One update at `progress` (0 to 1) of the schedule; the parts of its loss."""
        s = self.settings
        generator = torch.Generator(self.device).manual_seed(s.seed * 1_000_003 + self.step)
        pairs = draw_pairs(self.pack, self._sources(generator), s.views, generator)
        parts = self._losses(pairs, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * s.learning_rate * _one_cycle(progress)
        self.optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.trainee.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(s.averaging, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.trainee.encoder.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return {name: value.item() for name, value in parts.items()}

    def _losses(self, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        s, trainee = self.settings, self.trainee
        with self._autocast():
            trunk = trainee.encoder.trunk(torch.cat([pairs.images_a, pairs.images_b]))
            features = trainee.encoder.mix(trunk)
            read = trainee.xfeat(features[: len(pairs.images_a)])
        a, b, usable, place = matched_rows(features.float(), pairs, s.cells, generator)
        contrast, found = contrast_loss(a, b, usable, place, trainee.log_sharpness.exp().clamp_max(50))
        with torch.no_grad(), self._autocast():
            taught = self.teacher(pairs.clean_a)
            matched = self.xfeat(pairs.clean_a)
        teaching = trainee.distance(trunk[: len(taught)], taught)
        xfeat = (1 - F.cosine_similarity(read.float(), matched.float(), dim=1)).mean()
        loss = contrast + s.teaching_weight * teaching + s.xfeat_weight * xfeat
        return {"loss": loss, "contrast": contrast, "found": found, "teaching": teaching, "xfeat": xfeat}

    def _autocast(self) -> torch.autocast:
        fast = fast_dtype(self.device)
        return torch.autocast(self.device.type, fast, enabled=fast != torch.float32)

    def state(self) -> dict:
        return {
            "step": self.step,
            "trainee": self.trainee.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def resume(self, state: dict) -> None:
        self.step = state["step"]
        self.trainee.load_state_dict(state["trainee"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])

    def _sources(self, generator: torch.Generator) -> Tensor:
        """Source images of one batch: from rooms and photos, none twice."""
        rooms = round(self.settings.batch_size * self.settings.room_share) if len(self._photos) else 10**9
        rooms = min(rooms, self.settings.batch_size) if len(self._rooms) else 0
        chosen = []
        for images, count in ((self._rooms, rooms), (self._photos, self.settings.batch_size - rooms)):
            order = torch.randperm(len(images), generator=generator, device=self.device)
            chosen.append(images[order[:count]])
        return torch.cat(chosen)

    def _first_images(self) -> Tensor:
        """Views that the narrow network is fitted on."""
        generator = torch.Generator(self.device).manual_seed(self.settings.seed)
        batches = [
            draw_pairs(self.pack, self._sources(generator), self.settings.views, generator)
            for _ in range(_FIRST_BATCHES)
        ]
        return torch.cat([pairs.clean_a for pairs in batches])


_FIRST_BATCHES = 8


# ---- contrast ------------------------------------------------------------------------------------


def matched_rows(
    features: Float[Tensor, "B2 C h w"], pairs: Pairs, cells: int, generator: torch.Generator
) -> tuple[Float[Tensor, "B M C"], Float[Tensor, "B M C"], Bool[Tensor, "B M"], Float[Tensor, "B M 2"]]:
    """Unit features of `cells` random visible cells of views a, and of their places in views b; the places."""
    count, (width, height) = len(pairs.images_a), pairs.images_a.shape[:1:-1]
    visible = pairs.visible.flatten(1)
    lottery = torch.rand(visible.shape, generator=generator, device=visible.device) * visible
    chosen = lottery.topk(min(cells, visible.shape[1]), dim=1).indices
    usable = visible.gather(1, chosen)
    place = pairs.pixels_b.flatten(1, 2).gather(1, chosen[..., None].expand(-1, -1, 2))
    channels = features.shape[1]
    a = features[:count].flatten(2).mT.gather(1, chosen[..., None].expand(-1, -1, channels))
    size = torch.tensor([width, height], device=place.device)
    grid = (place * 2 / size - 1).clamp(-2, 2)[:, :, None]
    b = F.grid_sample(features[count:], grid, padding_mode="border", align_corners=False)[..., 0].mT
    return F.normalize(a, dim=-1), F.normalize(b, dim=-1), usable, place


_SAME_PLACE_PX = 6.0  # nearer than this in view b, two cells of view a are no mistake for one another


def contrast_loss(
    a: Float[Tensor, "B M C"],
    b: Float[Tensor, "B M C"],
    usable: Bool[Tensor, "B M"],
    place: Float[Tensor, "B M 2"],
    sharpness: Float[Tensor, ""],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Symmetric InfoNCE over all usable rows of the batch, and how often the most similar is the right one."""
    count, cells = usable.shape
    similarity = sharpness * a.flatten(0, 1) @ b.flatten(0, 1).T
    near = torch.cdist(place, place) < _SAME_PLACE_PX
    near &= ~torch.eye(cells, dtype=torch.bool, device=near.device)
    similarity = similarity.masked_fill(torch.block_diag(*near), -torch.inf)
    keep = usable.flatten()
    similarity = similarity[keep][:, keep]
    truth = torch.arange(len(similarity), device=similarity.device)
    loss = 0.5 * (F.cross_entropy(similarity, truth) + F.cross_entropy(similarity.T, truth))
    return loss, (similarity.detach().argmax(1) == truth).float().mean()


def _one_cycle(progress: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warm_up = 0.03
    if progress < warm_up:
        return max(0.02, progress / warm_up)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up))))
