"""Views of the pack's images with the scene point of every cell, made on the device of the pack.

A view is a virtual camera that looks at a part of a source image: turned, rolled and zoomed about the source's
centre (exact for any scene) and, for photos, moved around their plane. Rectangles of other views hide parts of
it; then it is exposed, lit, tinted and blurred.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.networks.encoder import cell_centers
from encoder_training.pack import FOCAL_PX, SIZE, Pack

_CELL = 8  # pixels
_MOST_HIDDEN = 3  # rectangles that hide parts of a view
_HIDDEN_CELLS = (4, 13)  # shortest, longest side of one


@dataclass(frozen=True)
class ViewLimits:
    """How far views may differ from their sources."""

    size: tuple[int, int] = (320, 240)
    min_scale: float = 0.35  # pixels of the view per pixel of the source, of 640×480: queries are half as large
    max_scale: float = 0.9
    max_roll_deg: float = 25.0
    max_orbit_deg: float = 15.0  # around the plane of a photo
    max_turn_deg: float = 5.0  # of the target off the view's centre
    light: float = 0.5  # strength of all changes of exposure, tint, saturation, shade and gamma
    max_blur_px: float = 1.2  # longest standard deviation: along a motion, or out of focus
    max_noise: float = 0.03


LEARNED = ViewLimits()  # about as mapping's own
JUDGED = ViewLimits(
    min_scale=0.3, max_scale=1.2, max_roll_deg=35.0, max_orbit_deg=45.0, light=1.0, max_blur_px=1.8
)


@dataclass(frozen=True)
class Views:
    """B views; the scene points of their cells, where they are known."""

    images: Float[Tensor, "B 3 H W"]
    points: Float[Tensor, "B n 3"]
    known: Bool[Tensor, "B n"]


def draw_views(pack: Pack, sources: Tensor, limits: ViewLimits, generator: torch.Generator) -> Views:
    """One view of each of `sources` (B,)."""
    device, count = sources.device, len(sources)
    target = _uniform(generator, device, count, 2, low=0.15, high=0.85) * torch.tensor(SIZE, device=device)
    source_from_view = _source_from_view(target, pack.planar[sources], limits, generator)
    cells = cell_centers(limits.size, _CELL).to(device, torch.float32).reshape(1, -1, 2)
    points, known = _scene_points(pack, sources, _apply(source_from_view, cells))
    images = _resample(pack, sources, source_from_view, limits.size)
    hidden = _hidden(count, limits.size, generator)
    pixels = hidden.repeat_interleave(_CELL, 1).repeat_interleave(_CELL, 2)
    images = torch.where(pixels[:, None], images.roll(1, 0), images)
    return Views(_photographed(images, limits, generator), points, known & ~hidden.flatten(1))


# ---- geometry ------------------------------------------------------------------------------------


def _scene_points(
    pack: Pack, sources: Tensor, pixels: Float[Tensor, "B n 2"]
) -> tuple[Float[Tensor, "B n 3"], Bool[Tensor, "B n"]]:
    """What is seen at pixels of the sources, and whether that is known."""
    depth = _depth_at(pack, sources, pixels)
    middle = torch.tensor(SIZE, device=pixels.device) / 2
    rays = torch.cat([(pixels - middle) / FOCAL_PX, torch.ones_like(pixels[..., :1])], -1)
    pose = pack.cam_from_world[sources]
    return (rays * depth[..., None] - pose[:, None, :, 3]) @ pose[:, :, :3], depth > 0


def _hidden(count: int, size: tuple[int, int], generator: torch.Generator) -> Bool[Tensor, "B h w"]:
    """Which cells of each view something else hides: some rectangles."""
    width, height = size[0] // _CELL, size[1] // _CELL
    device = generator.device
    column, row = torch.arange(width, device=device), torch.arange(height, device=device)[:, None]
    hidden = torch.zeros(count, height, width, dtype=torch.bool, device=device)
    number = torch.randint(_MOST_HIDDEN + 1, (count,), generator=generator, device=device)
    low, high = _HIDDEN_CELLS
    for k in range(_MOST_HIDDEN):
        wide, tall = (
            torch.randint(low, high + 1, (count, 1, 1), generator=generator, device=device) for _ in range(2)
        )
        left = (_uniform(generator, device, count, 1, 1, low=0, high=1) * (width - wide)).long()
        top = (_uniform(generator, device, count, 1, 1, low=0, high=1) * (height - tall)).long()
        inside = (column >= left) & (column < left + wide) & (row >= top) & (row < top + tall)
        hidden |= inside & (k < number)[:, None, None]
    return hidden


def _source_from_view(
    target: Float[Tensor, "B 2"], planar: Bool[Tensor, " B"], limits: ViewLimits, generator: torch.Generator
) -> Float[Tensor, "B 3 3"]:
    """Homographies from pixels of random views, which look about at `target`, to pixels of their sources."""
    device, count = target.device, len(target)
    scale = _uniform(generator, device, count, low=limits.min_scale, high=limits.max_scale, log=True)
    roll = _uniform(generator, device, count, low=-1, high=1) * torch.pi / 180 * limits.max_roll_deg
    direction = _uniform(generator, device, count, low=0, high=2 * torch.pi)
    orbit = _uniform(generator, device, count, low=0, high=1) * torch.pi / 180 * limits.max_orbit_deg
    turn = _uniform(generator, device, count, 2, low=-1, high=1) * torch.pi / 180 * limits.max_turn_deg

    zero = torch.zeros_like(roll)
    axis = torch.stack([direction.cos(), direction.sin(), zero], -1)
    around = _rotation(axis * torch.where(planar, orbit, zero)[:, None])
    # the plane z = 1 seen from a camera that moved around its point (0, 0, 1)
    moved = torch.stack(
        [around[..., 0], around[..., 1], torch.tensor([0.0, 0, 1]).to(axis).expand(count, 3)], -1
    )
    source = _intrinsics(torch.full_like(roll, FOCAL_PX), SIZE)
    view = _intrinsics(FOCAL_PX * scale, limits.size)
    one = torch.ones_like(target[:, :1])
    ray = moved @ torch.linalg.inv(source) @ torch.cat([target, one], -1)[..., None]
    ray = F.normalize(ray[..., 0], dim=-1)
    forward = torch.tensor([0.0, 0, 1]).to(axis).expand(count, 3)
    across = torch.linalg.cross(ray, forward)
    angle = torch.atan2(across.norm(dim=-1), ray[:, 2])
    towards = _rotation(F.normalize(across, dim=-1) * angle[:, None])
    turned = _rotation(torch.cat([turn, roll[:, None]], -1))
    view_from_source = view @ turned @ towards @ moved @ torch.linalg.inv(source)
    return torch.linalg.inv(view_from_source)


def _depth_at(pack: Pack, sources: Tensor, pixels: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N"]:
    """Depth of the nearest kept pixel, 0 where unknown or outside."""
    height, width = pack.depth.shape[1:]
    index = (pixels * (width / SIZE[0])).long()
    column, row = index[..., 0].clamp(0, width - 1), index[..., 1].clamp(0, height - 1)
    return pack.depth[sources[:, None], row, column].float() * _inside(pixels, SIZE)


def _inside(pixels: Float[Tensor, "B N 2"], size: tuple[int, int]) -> Bool[Tensor, "B N"]:
    return ((pixels > 0) & (pixels < torch.tensor(size, device=pixels.device))).all(-1)


def _apply(homography: Float[Tensor, "B 3 3"], pixels: Float[Tensor, "#B N 2"]) -> Float[Tensor, "B N 2"]:
    mapped = F.pad(pixels, (0, 1), value=1.0) @ homography.mT
    return mapped[..., :2] / mapped[..., 2:].clamp_min(1e-6)


def _intrinsics(focal_px: Float[Tensor, " B"], size: tuple[int, int]) -> Float[Tensor, "B 3 3"]:
    matrix = torch.zeros(len(focal_px), 3, 3, device=focal_px.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = focal_px
    matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = size[0] / 2, size[1] / 2, 1
    return matrix


def _rotation(vector: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3))


def _resample(
    pack: Pack, sources: Tensor, source_from_view: Float[Tensor, "B 3 3"], size: tuple[int, int]
) -> Float[Tensor, "B 3 H W"]:
    """Views in [0, 1], bilinear from the resolution of the source that suits each; reflected beside it."""
    width, height = size
    device = sources.device
    pixels = cell_centers(size, 1).to(device, torch.float32)
    in_source = _apply(source_from_view, pixels.reshape(1, -1, 2)).reshape(-1, height, width, 2)
    grid = in_source * (2 / torch.tensor(SIZE, device=device)) - 1
    across = (in_source[:, height // 2, width // 2 + 1] - in_source[:, height // 2, width // 2]).norm(dim=-1)
    coarse = across > 1.3  # source pixels per view pixel
    images = torch.empty(len(sources), 3, height, width, device=device)
    for level, rows in ((pack.images, ~coarse), (pack.halved, coarse)):
        rows = rows.nonzero()[:, 0]
        picked = level[sources[rows]].float() / 255
        images[rows] = F.grid_sample(picked, grid[rows], padding_mode="reflection", align_corners=False)
    return images


# ---- light ---------------------------------------------------------------------------------------


def _photographed(
    images: Float[Tensor, "B 3 H W"], limits: ViewLimits, generator: torch.Generator
) -> Float[Tensor, "B 3 H W"]:
    """Uneven light, exposure, tint, saturation, gamma, blur and noise, drawn for each image."""
    device, count = images.device, len(images)

    def draw(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        return _uniform(generator, device, count, *shape, low=low, high=high)

    shade = F.interpolate(draw(1, 3, 4), images.shape[-2:], mode="bicubic", align_corners=False)
    log_gain = 0.5 * draw(1, 1, 1) + 0.15 * draw(3, 1, 1) + 0.3 * draw(1, 1, 1) * shade
    saturation = 1 + limits.light * draw(1, 1, 1, low=-0.7, high=0.3)
    log_gamma, offset = 0.4 * draw(1, 1, 1), 0.08 * draw(1, 1, 1)
    grey = images.mean(1, keepdim=True)
    images = (grey + (images - grey) * saturation).clamp_min(1e-3) ** (limits.light * log_gamma).exp()
    images = (images * (limits.light * log_gain).exp() + limits.light * offset).clamp(0, 1)
    images = _blurred(images, limits.max_blur_px, generator)
    noise = torch.randn(images.shape, generator=generator, device=device)
    return (images + noise * draw(1, 1, 1, low=0.0) * limits.max_noise).clamp(0, 1)


def _blurred(
    images: Float[Tensor, "B 3 H W"], max_px: float, generator: torch.Generator
) -> Float[Tensor, "B 3 H W"]:
    """A Gaussian of random length, width and direction for each of half the images."""
    device, count = images.device, len(images) // 2
    if count == 0:
        return images
    rows = torch.randperm(len(images), generator=generator, device=device)[:count]
    along = (_uniform(generator, device, count, low=0.3, high=1) * max_px).clamp_min(1e-3)
    across = along * _uniform(generator, device, count, low=0.15, high=1)
    angle = _uniform(generator, device, count, low=0, high=torch.pi)
    radius = 4
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1, device=device)] * 2, indexing="ij")
    u = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
    v = y * angle.cos()[:, None, None] - x * angle.sin()[:, None, None]
    kernel = (-0.5 * ((u / along[:, None, None]) ** 2 + (v / across[:, None, None]) ** 2)).exp()
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(3, 0)[:, None]
    padded = F.pad(images[rows], (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    blurred = F.conv2d(padded, kernel, groups=3 * count)
    return images.index_copy(0, rows, blurred.reshape(count, *images.shape[1:]))


def _uniform(
    generator: torch.Generator, device: torch.device, *shape: int, low: float, high: float, log: bool = False
) -> Tensor:
    unit = torch.rand(*shape, generator=generator, device=device)
    return low * (high / low) ** unit if log else low + (high - low) * unit
