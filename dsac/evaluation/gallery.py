"""Pictures of single query images, as inline SVG over the photo.

Inliers: each inlier cell as a square, coloured by its reprojection error under the estimate. Overlay: a mesh
of scene points, drawn where the true pose puts it and where the estimate puts it; the two coincide when the
estimate is right.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.datasets.frame import Frame
from dsac.geometry import Camera, Pose

if TYPE_CHECKING:
    from dsac.localization import Localization

INLIER_BINS_PX = (1.0, 3.0, 6.0)  # limits of the colours c0, c1, c2; larger errors have c3
LEGEND = (
    '<ul class="legend">'
    '<li><i class="c0"></i>inlier, error below {:g} px</li><li><i class="c1"></i>to {:g} px</li>'
    '<li><i class="c2"></i>to {:g} px</li><li><i class="c3"></i>above</li>'
    '<li><i class="truth"></i>mesh under the true pose</li>'
    '<li><i class="estimate"></i>the same mesh under the estimate</li></ul>'
).format(*INLIER_BINS_PX)


def card(frame: Frame, localization: Localization, name: str, truth: Pose | None, caption: str) -> str:
    """Both pictures of an image with a caption (HTML); `name` is the photo's id in the page."""
    return (
        f"<figure>{photo(frame, localization.camera, name)}"
        f'<div class="pair">{inlier_picture(localization, name)}'
        f"{overlay_picture(localization, name, frame, truth)}</div>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def photo(frame: Frame, camera: Camera, name: str) -> str:
    """The image as the ideal pinhole `camera` sees it, as a hidden SVG that defines `#name` for the others."""
    width, height = camera.size
    small = cv2.resize(frame.image.permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_AREA)
    if not frame.camera.is_pinhole:
        pixels = _pixel_centers(width, height).double()
        source = frame.camera.rescale(camera.size).project(camera.to(torch.float64).unproject(pixels))
        across, down = (source - 0.5).float().reshape(height, width, 2).unbind(-1)
        small = cv2.remap(small, across.numpy(), down.numpy(), cv2.INTER_LINEAR)
    rgb = np.ascontiguousarray((255 * small).round().astype(np.uint8))
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    encoded = base64.b64encode(data.tobytes()).decode()
    return (
        f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs><image id="{name}" width="{width}" '
        f'height="{height}" href="data:image/jpeg;base64,{encoded}"/></defs></svg>'
    )


def inlier_picture(localization: Localization, name: str) -> str:
    """The photo `#name` with the inlier cells, coloured by reprojection error under the estimate."""
    pixels, points, inliers = _rows(localization)
    pose = localization.cam_from_world.to("cpu")
    camera = localization.camera.to("cpu", torch.float64)
    error = (_project(camera, pose, points[inliers]) - pixels[inliers]).norm(dim=-1)
    bins = torch.bucketize(error.nan_to_num(torch.inf), error.new_tensor(INLIER_BINS_PX))
    size = max(2.0, 0.6 * _cell_size(localization))
    squares = "".join(
        f'<path class="c{b}" d="'
        + "".join(
            f"M{x - size / 2:.0f} {y - size / 2:.0f}h{size:.0f}v{size:.0f}h-{size:.0f}z" for x, y in cells
        )
        + '"/>'
        for b in range(len(INLIER_BINS_PX) + 1)
        if len(cells := pixels[inliers][bins == b].tolist())
    )
    return _picture(localization.camera.size, name, f'<g class="cells">{squares}</g>', "shade-light")


def overlay_picture(localization: Localization, name: str, frame: Frame, truth: Pose | None) -> str:
    """The photo `#name` with a mesh of scene points under the true pose and under the estimate.

    Scene points come from the frame's depth where it has one, else from the inliers' predictions.
    """
    camera = localization.camera.to("cpu", torch.float64)
    if frame.depth is not None and truth is not None:
        points, known = _points_from_depth(frame.depth, camera, truth)
    else:
        points, known = _points_from_predictions(localization)
    drawn = []
    if truth is not None:
        drawn.append(("truth", _mesh(_project_grid(camera, truth, points), known, camera.size)))
    if localization.success:
        drawn.append(
            (
                "estimate",
                _mesh(_project_grid(camera, localization.cam_from_world.to("cpu"), points), known, camera.size),
            )
        )
    lines = "".join(f'<path class="mesh {kind}" d="{path}"/>' for kind, path in drawn)
    return _picture(localization.camera.size, name, lines, "shade")


# ---- scene points in a grid ----------------------------------------------------------------------


def _points_from_depth(
    depth: Float[Tensor, "H W"], camera: Camera, truth: Pose
) -> tuple[Float[Tensor, "h w 3"], Bool[Tensor, "h w"]]:
    """World points under the true pose on a grid of pixels of `camera`; False where depth is unknown."""
    width, height = camera.size
    spacing = max(width, height) / _MESH_CELLS
    columns, rows = int(width / spacing), int(height / spacing)
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) * width / columns
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) * height / rows
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    sampled = depth[
        (pixels[..., 1] * depth.shape[0] / height).long(), (pixels[..., 0] * depth.shape[1] / width).long()
    ].double()
    rays = camera.unproject(pixels.reshape(-1, 2))
    points = truth.inverse() @ (rays * sampled.reshape(-1, 1))
    return points.reshape(rows, columns, 3), sampled > 0


def _points_from_predictions(localization: Localization) -> tuple[Float[Tensor, "h w 3"], Bool[Tensor, "h w"]]:
    """Predicted scene points on a coarser grid of cells; False where the cell is no inlier."""
    grid = localization.correspondences.grid
    _, points, inliers = _rows(localization)
    if grid is None:
        return points[:0].reshape(0, 0, 3), inliers[:0].reshape(0, 0)
    step = max(1, round(max(grid) / _MESH_CELLS))
    of_cells = inliers.reshape(*grid, -1)  # and their modes, of which one at most is an inlier
    mode = of_cells.int().argmax(-1)[..., None, None].expand(*grid, 1, 3)
    points = points.reshape(*grid, -1, 3).gather(2, mode)[:, :, 0]
    return points[::step, ::step], of_cells.any(-1)[::step, ::step]


def _project_grid(
    camera: Camera, cam_from_world: Pose, points: Float[Tensor, "h w 3"]
) -> Float[Tensor, "h w 2"]:
    flat = _project(camera, cam_from_world.to(torch.float64), points.reshape(-1, 3))
    return flat.reshape(*points.shape[:2], 2)


def _mesh(pixels: Float[Tensor, "h w 2"], known: Bool[Tensor, "h w"], size: tuple[int, int]) -> str:
    """Lines between known neighbours, and a tick where a point has none; far outside the image: left out."""
    diagonal = float(np.hypot(*size))
    near = known & ((pixels - pixels.new_tensor(size) / 2).norm(dim=-1) < diagonal)
    lines = []
    for a, b, both in (
        (pixels[:, :-1], pixels[:, 1:], near[:, :-1] & near[:, 1:]),
        (pixels[:-1], pixels[1:], near[:-1] & near[1:]),
    ):
        pairs = torch.cat([a[both], b[both]], -1)
        pairs = pairs[(pairs[:, :2] - pairs[:, 2:]).norm(dim=-1) < diagonal / 6]  # not across depth edges
        lines += [f"M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}" for x, y, u, v in pairs.tolist()]
    return "".join(lines)


# ---- small pieces --------------------------------------------------------------------------------


def _picture(size: tuple[int, int], name: str, content: str, shade: str) -> str:
    width, height = size
    return (
        f'<svg class="photo" viewBox="0 0 {width} {height}" role="img"><use href="#{name}"/>'
        f'<rect class="{shade}" width="{width}" height="{height}"/>{content}</svg>'
    )


def _rows(localization: Localization) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (N, 2), scene points (N, 3) in the world and inliers (N,), float64 on the CPU."""
    return (
        localization.correspondences.pixels[0].to("cpu", torch.float64),
        localization.scene_points[0].cpu(),
        localization.inliers.cpu(),
    )


def _project(camera: Camera, cam_from_world: Pose, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 2"]:
    """Pixels; infinite for points behind the camera."""
    points_cam = cam_from_world @ points
    return camera.project(points_cam).masked_fill(points_cam[:, 2:] < 0.01, torch.inf)


def _cell_size(localization: Localization) -> float:
    grid = localization.correspondences.grid
    return 8.0 if grid is None else localization.camera.size[1] / grid[0]


def _pixel_centers(width: int, height: int) -> Float[Tensor, "N 2"]:
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


_MESH_CELLS = 20  # along the longer side of the image
