"""A map's networks in training, and the correspondences that they see in whole views."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dsac.geometry import Camera, Pose
from dsac.map_scoring import RULES, MapScoring
from dsac.networks.encoder import cell_centers, fast_autocast
from dsac.ransac import Correspondences
from dsac.regressor import Head, Regressor
from dsac.scene_map import SceneMap


@dataclass(frozen=True)
class TuningView:
    """A view at the map's working size."""

    content: Tensor  # features (C, h, w), or where the encoder is trained too the picture (3, H, W) in 8 bits
    inside: Bool[Tensor, "h w"]  # cells that show the photo
    camera: Camera  # pinhole
    cam_from_world: Pose  # batch ()
    name: str = ""  # of the frame that it is a view of
    cells: Float[Tensor, "K C"] | None = None  # what a gate looks at, see `trainable_gate`


class TrainableMap(nn.Module):
    """Copies of the networks of a map that are to be trained, in float32."""

    def __init__(
        self,
        scene_map: SceneMap,
        encoder: nn.Module | None,
        scoring: MapScoring = RULES[0],
        score_network: nn.Module | None = None,
    ) -> None:
        """`encoder`: None = frozen, views hold features. `score_network`: what the rule of scoring learns."""
        super().__init__()
        trained = None if encoder is None else copy.deepcopy(encoder).float()
        info = scene_map.info
        head = copy.deepcopy(scene_map.head)
        self.regressor = Regressor(trained, head, info.short_side_px, info.focal_range)  # type: ignore[arg-type]
        self.scoring, self.score_network = scoring, copy.deepcopy(score_network)
        self.stride = info.stride

    @property
    def head(self) -> Head:
        return self.regressor.head

    @property
    def encoder(self) -> nn.Module | None:
        return self.regressor.encoder  # type: ignore[return-value]

    def correspondences(
        self, views: Sequence[TuningView], thinning: int = 1, generator: torch.Generator | None = None
    ) -> Correspondences:
        """What the networks see in views of one size; cells beside the photo weigh nothing.

        With `thinning`, in one random cell of each block of that many rows and columns: DSAC takes 40×40 of an
        image.
        """
        camera = Camera(
            torch.stack([view.camera.focal_px for view in views]),
            torch.stack([view.camera.center_px for view in views]),
            views[0].camera.size,
        )
        inside = torch.stack([view.inside for view in views]).flatten(1)
        features = self.features(views)
        rows, grid = _one_cell_a_block(features.shape[-2:], thinning, len(views), generator)
        rows = rows.to(features.device)
        seen = self.predict(features, camera, rows)
        assert seen.weights is not None
        inside = inside.gather(1, rows).repeat_interleave(seen.modes, 1)
        return replace(seen, weights=seen.weights * inside, grid=grid)

    def features(self, views: Sequence[TuningView]) -> Float[Tensor, "B C h w"]:
        """Of views of one size: as they were encoded, or by the encoder that is being trained."""
        content = torch.stack([view.content for view in views])
        if self.encoder is None:
            return content
        with fast_autocast(content.device):
            return self.encoder(content.float() / 255)

    def predict(
        self, features: Float[Tensor, "B C h w"], camera: Camera, rows: Int[Tensor, "B N"]
    ) -> Correspondences:
        """What the head makes of the cells with these row-major numbers, in views of pinhole cameras (B,)."""
        pixels = cell_centers(camera.size, self.stride).reshape(-1, 2).to(features.device, torch.float32)
        image = torch.arange(len(features), device=features.device)[:, None]
        of_cells = features.flatten(2).mT[image, rows]
        return self.regressor.at_cells(of_cells, pixels[rows], camera.to(pixels))

    def as_saved(self) -> dict[str, Tensor]:
        """The state after a round trip through the map file, which stores weights in half precision."""
        weights = dict(self.named_parameters())
        return {
            name: value.detach().half().float() if name in weights else value.detach().clone()
            for name, value in self.state_dict().items()
        }

    def to_map(self, scene_map: SceneMap) -> SceneMap:
        """`scene_map` with these networks in the place of its own."""
        trained = copy.deepcopy(self).cpu().eval().requires_grad_(False)
        network = trained.score_network
        info = replace(scene_map.info, scoring=self.scoring)
        encoder = scene_map.encoder
        if trained.encoder is not None:
            encoder = trained.encoder
            encoder.digest = _digest(encoder)  # type: ignore[assignment]
            info = replace(info, own_encoder=True, encoder_digest=encoder.digest)
        return replace(scene_map, head=trained.head, info=info, encoder=encoder, score_network=network)


def _one_cell_a_block(
    grid: Sequence[int], side: int, batch: int, generator: torch.Generator | None
) -> tuple[Int[Tensor, "B N"], tuple[int, int]]:
    """Rows of one random cell of each block of side × side cells, and the grid of the blocks."""
    side = min(side, *grid)
    blocks = grid[0] // side, grid[1] // side
    inside_block = torch.randint(side, (2, batch, *blocks), generator=generator)
    row = side * torch.arange(blocks[0])[:, None] + inside_block[0]
    column = side * torch.arange(blocks[1]) + inside_block[1]
    return (row * grid[1] + column).flatten(1), blocks


def _digest(module: nn.Module) -> str:
    """Fingerprint of weights as the map file stores them."""
    weights = [
        value.detach().half().cpu().contiguous().numpy().tobytes() for value in module.state_dict().values()
    ]
    return hashlib.sha256(b"".join(weights)).hexdigest()[:16]
