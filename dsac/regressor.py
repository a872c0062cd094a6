"""The regressor: a photo and its camera to correspondences, pixels with the scene points that they show.

    regressor = Regressor(encoder, head, short_side_px=480)
    correspondences = regressor(images, camera)          # = predict(encode(images, camera), camera)

Queries ask it, fine-tuning trains it. Whatever else proposes correspondences (another head, two sizes, other
rows) is another `CorrespondenceSource` in its place.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dsac.geometry import Camera
from dsac.networks.encoder import (
    DepthEncoder,
    Encoder,
    cell_centers,
    fast_autocast,
    fast_dtype,
    working_size,
)
from dsac.networks.forests.forest import LeafHead
from dsac.networks.heads import LinearHead, SceneCoordinates, SceneHead
from dsac.ransac import Correspondences

Head = SceneHead | LinearHead | LeafHead


@runtime_checkable
class CorrespondenceSource(Protocol):
    """What a localizer asks of a photo, in two steps that are timed apart."""

    def encode(
        self, images: Float[Tensor, "B 3 H W"], camera: Camera, depth: Float[Tensor, "B H W"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Features of photos (RGB in [0, 1]) of one camera.

        `depth`: metres along the optical axis at the photos' pixels, 0 where unknown; None: of RGB alone.
        """
        ...

    def predict(self, features: Float[Tensor, "B C h w"], camera: Camera) -> Correspondences:
        """Pixels of the ideal camera at the working size, and the scene points that they show."""
        ...

    def zoom(self, camera: Camera) -> float:
        """How much larger than the mapping cameras it shows things: landmarks are searched for accordingly."""
        ...


class Regressor(nn.Module):
    """Scene coordinates of a photo's cells, from the encoder's features by the head."""

    def __init__(
        self,
        encoder: Encoder | None,
        head: Head,
        short_side_px: int,
        focal_range: tuple[float, float] | None = None,
    ) -> None:
        """`short_side_px`: photos are encoded at this size; `focal_range`: see `zoom`.

        Without an encoder there is `at_cells` alone, for features that were encoded before.
        """
        super().__init__()
        self.encoder, self.head = encoder, head
        self.short_side_px, self.focal_range = short_side_px, focal_range
        self._cells: dict[tuple, tuple[Tensor, Camera]] = {}  # by camera

    def forward(self, images: Float[Tensor, "B 3 H W"], camera: Camera) -> Correspondences:
        return self.predict(self.encode(images, camera), camera)

    # ---- a query's two steps ----------------------------------------------------------------------

    def encode(
        self, images: Float[Tensor, "B 3 H W"], camera: Camera, depth: Float[Tensor, "B H W"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Features of photos of one camera, at the working size; `depth` is for those who learned with it."""
        width, height = self.working_size(camera)
        images = images.to(self.device)
        if images.shape[-2:] != (height, width):
            images = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
        assert self.encoder is not None
        if depth is not None and isinstance(self.encoder, DepthEncoder):
            depth = F.interpolate(depth.to(self.device)[:, None], (height, width), mode="nearest")[:, 0]
            features = self.encoder.with_depth(images, depth)
        else:
            features = self.encoder(images)
        return features[..., :: self.column_step(*features.shape[-2:])]

    def predict(self, features: Float[Tensor, "B C h w"], camera: Camera) -> Correspondences:
        """The scene point of each cell, at the pixels of the ideal camera at the working size."""
        batch, _, height, width = features.shape
        pixels, pinhole = self._undistorted_cells(camera)
        camera = Camera(pinhole.focal_px.expand(batch, 2), pinhole.center_px.expand(batch, 2), pinhole.size)
        return self.at_cells(features.flatten(2).mT, pixels.expand(batch, -1, 2), camera, (height, width))

    def at_cells(
        self,
        features: Float[Tensor, "B N C"],
        pixels: Float[Tensor, "B N 2"],
        camera: Camera,  # pinhole, batch (B,)
        grid: tuple[int, int] | None = None,
    ) -> Correspondences:
        """What the head sees in some cells, which lie at those pixels; weights are inverse scales."""
        with fast_autocast(features.device):
            slow = fast_dtype(features.device) == torch.float32
            coordinates = self.head(features.float() if slow else features)
        points, weights = coordinates.points, cell_weights(coordinates)
        modes, covariances = 1, coordinates.covariance
        if coordinates.log_probability is not None:
            modes, covariances = points.shape[-2], None if covariances is None else covariances.flatten(1, 2)
        if modes > 1:
            pixels, points, weights = (
                pixels.repeat_interleave(modes, 1),
                points.flatten(1, 2),
                weights.flatten(1),
            )
        return Correspondences(
            pixels, points, camera, weights=weights, covariances=covariances, grid=grid, modes=modes
        )

    # ---- size ---------------------------------------------------------------------------------------

    def zoom(self, camera: Camera) -> float:
        """How much larger than the mapping cameras this one shows things: its photos are made so much smaller.

        Up to a quarter more or less, which mapping's views cover, is none.
        """
        if self.focal_range is None:
            return 1.0
        low, high = self.focal_range
        zoom = camera.relative_focal / min(max(camera.relative_focal, low), high)
        return 1.0 if 0.8 < zoom < 1.25 else min(max(zoom, 0.5), 3.0)

    def working_size(self, camera: Camera) -> tuple[int, int]:
        """The (width, height) at which photos of the camera are encoded."""
        short_side_px = round(self.short_side_px / self.zoom(camera))
        assert self.encoder is not None
        return working_size(camera.size, short_side_px, self.encoder.size_multiple)

    def column_step(self, height: int, width: int) -> int:
        """One column in so many of a grid of cells is used.

        Neighbouring cells see nearly the same and err alike: every second column is as accurate (2 cm on a real
        room: 86 % against 85 %, median 1.27 cm against 1.28) in half the head's time, unless there are few.
        """
        return 1 if height * width < 600 else 2

    @property
    def device(self) -> torch.device:
        return next(self.head.parameters()).device

    def _undistorted_cells(self, camera: Camera) -> tuple[Float[Tensor, "N 2"], Camera]:
        """Pixels of the cells' centres in the ideal camera at the working size, and that camera; kept."""
        key = (camera.model, camera.size, *camera.params.tolist())
        kept = self._cells.get(key)
        if kept is not None:
            return kept
        assert self.encoder is not None
        working = Camera.from_params(key[0], key[2:], key[1]).rescale(self.working_size(camera))
        cells = cell_centers(working.size, self.encoder.stride)
        pixels = cells[:, :: self.column_step(*cells.shape[:2])].reshape(-1, 2)
        to = self.device, torch.float32
        made = working.undistort(pixels).to(*to), working.pinhole.to(*to)
        if len(self._cells) >= _CAMERAS_KEPT:
            self._cells.clear()
        self._cells[key] = made
        return made


_CAMERAS_KEPT = 16


def cell_weights(coordinates: SceneCoordinates) -> Float[Tensor, "B N"] | Float[Tensor, "B N modes"]:
    """Inverse of the predicted scale, relative to the image's median; of several modes times their probability.

    What is unlikely weighs nothing.
    """
    scale, odds = coordinates.scale, coordinates.log_probability
    if odds is None:
        return (scale.median(dim=-1, keepdim=True).values / scale).clamp(max=10.0)
    likeliest = scale.gather(-1, odds.argmax(-1, keepdim=True))
    weights = (likeliest.median(dim=1, keepdim=True).values / scale).clamp(max=10.0)
    probability = odds.exp()
    return torch.where(probability > _LEAST_PROBABILITY, weights * probability, 0.0)


_LEAST_PROBABILITY = 0.05
