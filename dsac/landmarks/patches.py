"""Search of an image for small patches, written out; `patches_numba.py` is the fast one.

`visible_patches` chooses the ones to search for and `find_patches` searches. Each patch is resampled as the
image should show it (`image_from_patch`, the derivative of the map from patch to image), and compared at every
whole-pixel shift up to `radius` in x and y from where it is expected by the normalised cross-correlation,
which brightness and contrast do not change. The best shift is made finer by the vertices of two parabolas.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from dsac.geometry import Camera, Pose

SIZE = 9  # pixels: what is compared of a patch, as a square in the image
LEAST_CONTRAST = 4.0  # grey levels, standard deviation: below, a patch is noise
TILES = (8, 6)  # the patches to search for are spread over these


class SeenPoints(NamedTuple):
    """L scene points as their patches were seen."""

    points: Float[np.ndarray, "L 3"]  # metres, world frame
    rays: Float[np.ndarray, "L 3"]  # from the cameras that saw them, metres
    axes: Float[np.ndarray, "L 2 3"]  # metres per pixel of the patch in x and y, world frame
    pixel_sizes: Float[np.ndarray, " L"]  # metres


class PinholeView(NamedTuple):
    """From where, and through which pinhole camera."""

    cam_from_world: Float[np.ndarray, "3 4"]
    focal_px: Float[np.ndarray, "2"]
    center_px: Float[np.ndarray, "2"]
    size: tuple[int, int]  # width, height

    @staticmethod
    def of(camera: Camera, cam_from_world: Pose) -> PinholeView:
        """Through one pinhole camera, batch ()."""
        return PinholeView(
            cam_from_world.matrix[:3].double().numpy(),
            camera.focal_px.double().numpy(),
            camera.center_px.double().numpy(),
            camera.size,
        )

    def project(
        self, points: Float[np.ndarray, "M 3"]
    ) -> tuple[Float[np.ndarray, "M 2"], Float[np.ndarray, " M"]]:
        """Pixels and depths of scene points; NaN pixels behind the camera."""
        points_cam = points @ self.cam_from_world[:, :3].T + self.cam_from_world[:, 3]
        depths = points_cam[:, 2]
        plane = points_cam[:, :2] / np.where(depths > 0, depths, np.nan)[:, None]
        return plane * self.focal_px + self.center_px, depths


class Visibility(NamedTuple):
    """How different a point may look from how it was seen."""

    margin_px: float  # from the image's border
    max_angle: float  # radians, between the rays that show it now and then
    max_zoom: float  # factor of its size


def visible_patches(
    seen: SeenPoints, view: PinholeView, limits: Visibility, most: int
) -> Int[np.ndarray, " M"]:
    """At most `most` of the points, those that the view shows much as they were seen, within the `limits`.

    The most alike of each tile of the image come first, then the second most alike of each, and so on.
    """
    points, rays, _, pixel_sizes = seen
    cam_from_world, focal_px, center_px, size = view
    margin_px, max_angle, max_zoom = limits
    rotation, translation = cam_from_world[:, :3], cam_from_world[:, 3]
    points_cam = points @ rotation.T + translation
    depth = np.where(points_cam[:, 2] > 0, points_cam[:, 2], np.nan)
    pixels = points_cam[:, :2] / depth[:, None] * focal_px + center_px
    margin = np.minimum(pixels, np.array(size) - pixels)
    now = points + rotation.T @ translation
    cosine = (now * rays).sum(1) / np.maximum(np.linalg.norm(now, axis=1) * np.linalg.norm(rays, axis=1), 1e-12)
    zoom = np.abs(np.log(pixel_sizes * focal_px[0] / depth))
    alike = (margin > margin_px).all(1) & (cosine > np.cos(max_angle)) & (zoom < np.log(max_zoom))
    rows = np.flatnonzero(alike)
    chord = np.sqrt(((1 - cosine[rows]) / (1 - np.cos(max_angle))).clip(0))
    costs = chord + zoom[rows] / np.log(max_zoom)

    tile = tiles_of(pixels[rows], size)
    by_cost = np.argsort(costs, kind="stable")
    order = by_cost[np.argsort(tile[by_cost], kind="stable")]
    rank = np.arange(len(order)) - np.searchsorted(tile[order], tile[order])
    return rows[order[np.lexsort((costs[order], rank))][:most]]


def tiles_of(pixels: Float[np.ndarray, "M 2"], size: tuple[int, int]) -> Int[np.ndarray, " M"]:
    """Number of the tile of an image of (width, height) that each pixel lies in, of the nearest outside."""
    column, row = (pixels / size * TILES).astype(int).clip(0, np.array(TILES) - 1).T
    return row * TILES[0] + column


def find_patches(
    image: UInt8[np.ndarray, "H W"],
    patches: UInt8[np.ndarray, "L P P"],
    rows: Int[np.ndarray, " M"],
    centers: Float[np.ndarray, "M 2"],
    image_from_patch: Float[np.ndarray, "M 2 2"],
    *,
    radius: int,
) -> tuple[Float32[np.ndarray, "M 2"], Float32[np.ndarray, " M"]]:
    """Pixels where `patches[rows]` are found, and their correlations; NaN and -1 where there is no clear place.

    `centers` are the pixels where they are expected. No clear place: the patch is flat or does not reach over
    the template, the window leaves the image, or the best place lies on the window's border.
    """
    found = np.full((len(rows), 2), np.nan, np.float32)
    scores = np.full(len(rows), -1, np.float32)
    for m, (row, center, matrix) in enumerate(zip(rows, centers, image_from_patch, strict=True)):
        if not np.isfinite(center).all() or not np.linalg.det(matrix) > 1e-6:
            continue
        corner = np.floor(center).astype(int) - SIZE // 2
        template = _template(patches[row], corner + 0.5 - center, matrix)
        low, high = corner - radius, corner + radius + SIZE
        if template is None or (low < 0).any() or (high > image.shape[::-1]).any():
            continue
        area = image[low[1] : high[1], low[0] : high[0]].astype(float)
        windows = np.lib.stride_tricks.sliding_window_view(area, (SIZE, SIZE))
        spread = windows.std((-2, -1)) * SIZE
        correlation = (windows * template).sum((-2, -1)) / np.maximum(spread, SIZE * LEAST_CONTRAST)
        y, x = np.unravel_index(correlation.argmax(), correlation.shape)
        if min(x, y) < 1 or max(x, y) > 2 * radius - 1:
            continue
        shift = [_vertex(correlation[y, x - 1 : x + 2]) + x, _vertex(correlation[y - 1 : y + 2, x]) + y]
        found[m], scores[m] = center + shift - radius, correlation[y, x]
    return found, scores


def _template(patch: np.ndarray, first: np.ndarray, image_from_patch: np.ndarray) -> np.ndarray | None:
    """The patch as seen in the image at pixels `first` + (i, j) from its centre: zero mean, unit norm."""
    steps = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1) + first
    places = steps @ np.linalg.inv(image_from_patch).T + (len(patch) - 1) / 2
    if not ((places >= 0) & (places < len(patch) - 1)).all():
        return None
    x, y = np.floor(places).astype(int).transpose(2, 0, 1)
    right, down = (places - np.floor(places)).transpose(2, 0, 1)
    upper = patch[y, x] * (1 - right) + patch[y, x + 1] * right
    lower = patch[y + 1, x] * (1 - right) + patch[y + 1, x + 1] * right
    template = upper * (1 - down) + lower * down
    if not template.std() > LEAST_CONTRAST:
        return None
    template -= template.mean()
    return template / np.linalg.norm(template)


def _vertex(values: np.ndarray) -> float:
    """Where a parabola through three values, the middle one largest, has its top; 0 is the middle."""
    before, middle, after = values
    curvature = 2 * middle - before - after
    return float(0.5 * (after - before) / curvature) if curvature > 1e-6 else 0.0
