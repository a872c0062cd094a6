"""A forest as a map's network: its encoder finds the leaves of a photo's cells, its head knows what is in them.

    photo [─▶ context trees ─▶ scene points, smoothed] ─▶ colour trees ─▶ leaves        without depth
    photo, depth ──────────────────────────────────────▶ depth trees ─▶ leaves        where depth is known

With depth (Shotton et al., CVPR 2013) offsets shrink with the distance. Without it (Brachmann et al., CVPR
2016) there may be *auto-context*: a first forest guesses the scene point of each cell, and a second one looks
at these guesses beside the colours. Colours are looked at as they are and twice blurred, which the papers do
not: what is compared is then less a matter of single pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int16, Int32
from torch import Tensor, nn

from dsac.kernels import is_at_once
from dsac.networks.forests import modes as reference_modes
from dsac.networks.forests import trees as reference_trees
from dsac.networks.forests.modes import NUM_MODES, Modes
from dsac.networks.forests.trees import THRESHOLD, Trees
from dsac.networks.heads import SceneCoordinates

STRIDE = 4
_BLURS = (0.0, 2.0, 5.0)  # standard deviations, pixels
COLORS, CONTEXT, DEPTH = (
    slice(0, 3 * len(_BLURS)),
    slice(3 * len(_BLURS), 3 * len(_BLURS) + 3),
    3 * len(_BLURS) + 3,
)
CHANNELS = DEPTH + 1  # that trees look at
KINDS = ("context", "color", "depth")  # of trees
LEVELS = 1000  # of the scene's scale, and of the typical depth: what a channel's numbers mean
_FARTHEST = 8 * LEVELS  # also where depth is not known
_ANSWERS = 4  # modes of a cell
_PLACES = 2000  # of the scene's scale: half a millimetre in a room, up to 16 times as far from its centre


@dataclass(frozen=True)
class ForestArchitecture:
    """Everything needed to build a forest; the map file holds it."""

    context: tuple[int, int, int]  # number of trees, nodes and leaves; none without auto-context
    color: tuple[int, int, int]
    depth: tuple[int, int, int]  # none where the recording had no depth
    typical_depth: float  # metres, from the mapping cameras: offsets are for things at this distance

    def __post_init__(self) -> None:
        for name in KINDS:
            size = getattr(self, name)
            good = isinstance(size, tuple) and len(size) == 3 and all(type(n) is int for n in size)
            if not (good and all(0 <= n < 2**31 for n in size)):
                raise ValueError(f"{name}: expected numbers of trees, nodes and leaves, got {size!r}")
        depth = self.typical_depth
        if not (type(depth) in (int, float) and 0 < depth < math.inf):
            raise ValueError(f"typical_depth: expected more than 0, got {depth!r}")

    @staticmethod
    def from_json(values: dict) -> ForestArchitecture:
        """From what `dataclasses.asdict` made. Raises: `TypeError`, `ValueError`."""
        sizes = {kind: tuple(values[kind]) for kind in KINDS}
        return ForestArchitecture(**{**values, **sizes})


class LeafHead(nn.Module):
    """Numbers of leaves, one of each tree, to the modes of the cell that they are of."""

    scene_center: Tensor
    scene_scale: Tensor
    points: Tensor

    def __init__(self, num_leaves: int, typical_depth: float) -> None:
        super().__init__()
        self.typical_depth = typical_depth
        self.register_buffer("scene_center", torch.zeros(3))
        self.register_buffer("scene_scale", torch.ones(()))
        # half precision would round points to millimetres: whole numbers, in units of the scene's scale
        self.register_buffer("points", torch.zeros(num_leaves, NUM_MODES, 3, dtype=torch.int16))
        self.covariance = nn.Parameter(torch.ones(num_leaves, NUM_MODES, 6))  # bandwidths²
        self.probability = nn.Parameter(torch.zeros(num_leaves, NUM_MODES))
        self._modes: Modes | None = None

    @staticmethod
    def of(modes: Modes, center: Tensor, scale: float, typical_depth: float) -> LeafHead:
        """That of a scene with this centre and scale, metres."""
        head = LeafHead(len(modes.points), typical_depth)
        head.scene_center.copy_(center)
        head.scene_scale.fill_(scale)
        places = (torch.from_numpy(modes.points) - head.scene_center) * (_PLACES / scale)
        with torch.no_grad():
            head.points.copy_(places.round().clamp(-(2**15), 2**15 - 1))
            head.covariance.copy_(torch.from_numpy(modes.covariance) / bandwidth(scale) ** 2)
            head.probability.copy_(torch.from_numpy(modes.probability))
        return head.requires_grad_(False)

    def forward(self, features: Float[Tensor, "B N T"]) -> SceneCoordinates:
        """Scales are for things at the typical depth."""
        batch, count, _ = features.shape
        leaves = features.detach().cpu().to(torch.int32).flatten(0, 1).T
        found = self.merged(leaves.contiguous().numpy())
        points, covariance, probability, scale = (
            torch.from_numpy(x).to(features.device).unflatten(0, (batch, count)) for x in (*found, found.scale)
        )
        return SceneCoordinates(points, scale / self.typical_depth, probability.log(), covariance)

    def merged(self, leaves: Int32[np.ndarray, "T N"]) -> Modes:
        """The modes of pixels whose leaves these are, metres."""
        merge = reference_modes.merged
        if not is_at_once():
            from dsac.networks.forests.modes_numba import merged as merge  # Numba: a second to load
        return merge(leaves, self.modes, _ANSWERS, 0.5 * self.bandwidth)

    @property
    def modes(self) -> Modes:
        if self._modes is None:
            points = self.scene_center + self.points * (self.scene_scale / _PLACES)
            parts = points, self.covariance * self.bandwidth**2, self.probability
            self._modes = Modes(*(x.detach().float().cpu().numpy() for x in parts))
        return self._modes

    @property
    def bandwidth(self) -> float:
        """Of mean shift, metres."""
        return bandwidth(self.scene_scale.item())


def bandwidth(scene_scale: float) -> float:
    """3 cm in a room."""
    return 0.03 * scene_scale


class TreeRows(nn.Module):
    """Trees as a map file holds them: whole numbers, which no change of precision touches."""

    tests: Tensor
    child: Tensor
    roots: Tensor

    def __init__(self, num_trees: int, num_nodes: int) -> None:
        super().__init__()
        self.register_buffer("tests", torch.zeros(num_nodes, THRESHOLD + 1, dtype=torch.int16))
        self.register_buffer("child", torch.full((num_nodes,), -1, dtype=torch.int32))
        self.register_buffer("roots", torch.zeros(num_trees, dtype=torch.int32))
        self._trees: Trees | None = None

    @staticmethod
    def of(trees: Trees) -> TreeRows:
        rows = TreeRows(len(trees.roots), len(trees.child))
        for name in ("tests", "child", "roots"):
            getattr(rows, name).copy_(torch.from_numpy(getattr(trees, name)))
        return rows

    def checked(self) -> Trees:
        """Raises: `ValueError` where they are damaged."""
        if self._trees is None:
            tests, child, roots = (x.cpu().numpy() for x in (self.tests, self.child, self.roots))
            self._trees = Trees(tests, child, roots, CHANNELS)
        return self._trees

    def descend(self, image: Int16[np.ndarray, "H W C"], pixels: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """The leaf of each pixel in each tree: see `trees.py`."""
        descend = reference_trees.descend
        if not is_at_once():
            from dsac.networks.forests.trees_numba import descend  # Numba: a second to load
        return descend(self.checked(), image, pixels, frames)


class ForestEncoder(nn.Module):
    """An `Encoder` whose trees are part of the map; its features are numbers of leaves, -1 for none."""

    id = "forest"
    digest = "own"  # of the map, which holds the trees
    stride = STRIDE
    size_multiple = STRIDE

    def __init__(self, architecture: ForestArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.num_features = max(architecture.color[0], architecture.depth[0])
        sizes = architecture.context, architecture.color, architecture.depth
        self.context, self.color, self.depth = (TreeRows(trees, nodes) for trees, nodes, _ in sizes)
        self.context_head = LeafHead(architecture.context[2], architecture.typical_depth)

    def check(self, head: LeafHead) -> None:
        """Raises: `ValueError` where trees are damaged, or lead to leaves that the head does not have."""
        for name, known in (("context", self.context_head), ("color", head), ("depth", head)):
            needed, leaves = getattr(self, name).checked().num_leaves, len(known.points)
            if needed > leaves:
                raise ValueError(f"damaged trees: leaf {needed - 1} of {name}, expected less than {leaves}")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B T h w"]:
        return self._leaves(images, [None] * len(images))

    def with_depth(
        self, images: Float[Tensor, "B 3 H W"], depth: Float[Tensor, "B H W"]
    ) -> Float[Tensor, "B T h w"]:
        """Leaves of images whose depth (metres, 0 where unknown) is known in some pixels."""
        return self._leaves(images, [d.cpu().numpy() for d in depth])

    def _leaves(self, images: Tensor, depths: list[Float32[np.ndarray, "H W"] | None]) -> Tensor:
        height, width = (side // STRIDE for side in images.shape[-2:])
        found = torch.full((len(images), self.num_features, height, width), -1.0)
        for i, depth in enumerate(depths):
            leaves = self._of_photo(channels_of(images[i]), depth)
            found[i, : len(leaves)] = torch.from_numpy(leaves).float().unflatten(1, (height, width))
        return found.to(images.device)

    def _of_photo(
        self, channels: Int16[np.ndarray, "H W C"], depth: Float32[np.ndarray, "H W"] | None
    ) -> Int32[np.ndarray, "T N"]:
        pixels = cell_pixels(*channels.shape[:2])
        if depth is not None and self.architecture.depth[0]:
            typical = self.architecture.typical_depth
            frames = depth_frames(depth, pixels, typical)
            if (frames[:, 0] > 0).mean() > _LEAST_MEASURED:
                channels[..., DEPTH] = depth_channel(depth, typical)
                return self.depth.descend(channels, pixels, frames)
        if self.architecture.context[0]:
            self.add_context(channels)
        return self.color.descend(channels, pixels, plain_frames(len(pixels)))

    def add_context(self, channels: Int16[np.ndarray, "H W C"], trees: slice = slice(None)) -> None:
        """Fill in the scene points that some of the context trees guess, each the median of its neighbours'."""
        import cv2

        size, head = channels.shape[:2], self.context_head
        pixels = cell_pixels(*size)
        leaves = self.context.descend(channels, pixels, plain_frames(len(pixels)))[trees]
        guess = head.merged(np.ascontiguousarray(leaves)).points[:, 0]
        levels = (guess - head.scene_center.numpy()) * np.float32(LEVELS / head.scene_scale.item())
        smooth = cv2.medianBlur(levels.reshape(size[0] // STRIDE, size[1] // STRIDE, 3).astype(np.float32), 5)
        smooth = smooth.clip(-_FARTHEST, _FARTHEST).astype(np.int16)
        channels[..., CONTEXT] = smooth.repeat(STRIDE, 0).repeat(STRIDE, 1)


_LEAST_MEASURED = 0.5  # of the cells: with less depth the colours tell more


# ---- what trees look at ------------------------------------------------------------------------------


def channels_of(image: Float[Tensor, "3 H W"]) -> Int16[np.ndarray, "H W C"]:
    """All channels of an image: its colours, 0 to 255, sharp and blurred; those of context and depth are 0."""
    import cv2

    sharp = (255 * image.float()).permute(1, 2, 0).contiguous().cpu().numpy()
    channels = np.zeros((*sharp.shape[:2], CHANNELS), np.int16)
    for i, sigma in enumerate(_BLURS):
        blurred = sharp if sigma == 0 else cv2.GaussianBlur(sharp, (0, 0), sigma)
        channels[..., 3 * i : 3 * i + 3] = blurred.round()
    return channels


def depth_channel(depth: Float32[np.ndarray, "H W"], typical: float) -> Int16[np.ndarray, "H W"]:
    known = np.isfinite(depth) & (depth > 0)
    return np.where(known, depth * (LEVELS / typical), _FARTHEST).clip(0, _FARTHEST).astype(np.int16)


def cell_pixels(height: int, width: int) -> Int32[np.ndarray, "N 2"]:
    """Where the middle of each cell is, to the right of so many columns and below so many rows."""
    row, column = np.mgrid[STRIDE // 2 : height : STRIDE, STRIDE // 2 : width : STRIDE]
    return np.stack([column.ravel(), row.ravel()], axis=-1).astype(np.int32)


def plain_frames(count: int) -> Float32[np.ndarray, "N 2"]:
    """Of pixels whose depth nobody knows."""
    return np.tile(np.array([1.0, 0.0], np.float32), (count, 1))


def depth_frames(
    depth: Float32[np.ndarray, "H W"], pixels: Int32[np.ndarray, "N 2"], typical: float
) -> Float32[np.ndarray, "N 2"]:
    """Of pixels, the shorter the farther off; 0 where depth is unknown."""
    z = depth[pixels[:, 1], pixels[:, 0]]
    known = np.isfinite(z) & (z > 1e-3 * typical)
    scale = np.where(known, typical / np.where(known, z, 1.0), 0.0)
    return np.stack([scale, np.zeros_like(scale)], axis=-1).astype(np.float32)
