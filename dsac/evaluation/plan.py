"""A map from above: its regions, where its photos were taken, and from where others would not be found.

From every place at which mapping photos were taken, or beside one, it is counted for eight directions how many
landmarks a photo would show much as they were seen. Where those are few, more photos are wanted.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.atlas import Atlas
from dsac.errors import DsacError
from dsac.evaluation.plots import ground_plane, require_matplotlib
from dsac.geometry import Camera, Pose, Similarity
from dsac.landmarks import Landmarks
from dsac.landmarks.alignment import visible
from dsac.landmarks.view import SHORT_SIDE_PX

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_DIRECTIONS = 8
FEW = 60  # landmarks in a photo: with less it is found by luck
_CELLS = 14  # along the longer side
_MOST_SPOTS, _APART = 5, 4  # cells


class _Known(NamedTuple):
    """What a region has landmarks of."""

    name: str
    landmarks: Landmarks
    world_from_map: Similarity
    camera: Camera  # of photos as patches were cut from them

    @property
    def cam_from_world(self) -> Pose:
        return self.world_from_map.pose(self.landmarks.cam_from_world)


class Spot(NamedTuple):
    """A place from which many directions are hardly known."""

    place: tuple[float, float, float]  # in the world
    directions: Int[np.ndarray, " K"]  # numbers of those, counted from the plan's right to its top


@dataclass(frozen=True, eq=False)
class Plan:
    """How well a map knows the places at which it was photographed, seen from above."""

    axes: Float[Tensor, "2 3"]  # right and up on the paper, in the world
    regions: list[_Known]
    places: Float[np.ndarray, "K 3"]  # in the world
    counts: Int[np.ndarray, "K 8 R"]  # landmarks of each region that a photo would show, for each direction
    side: float  # of a place's cell

    @staticmethod
    def of(atlas: Atlas) -> Plan:
        """Raises: `DsacError` where no region has landmarks, or they are not all in one world."""
        if len(atlas.worlds) > 1:
            raise DsacError(f"expected regions in one world, got {', '.join(atlas.worlds)}")
        regions = []
        for region in atlas.regions:
            scene_map = region.read()
            if scene_map.landmarks is not None and len(scene_map.landmarks):
                camera = scene_map.mapping_camera or Camera.simple(525, (640, 480))
                world = region.info.world_from_map
                cut = camera.pinhole_of(SHORT_SIDE_PX)
                regions.append(_Known(region.name or "map", scene_map.landmarks, world, cut))
        if not regions:
            raise DsacError("expected a map with landmarks, this one has none")
        poses = Pose.cat([region.cam_from_world for region in regions])
        axes = torch.eye(3, dtype=torch.float64)[:2] if atlas.info.geo else ground_plane(poses)
        up = torch.linalg.cross(axes[0], axes[1])
        places, side = _stood_at(poses, axes, up)
        slope = (poses.rotation[:, 2] @ up).median().clamp(-0.9, 0.9)
        looks = (
            torch.stack([axes[0] * np.cos(a) + axes[1] * np.sin(a) for a in _ANGLES]) * (1 - slope**2).sqrt()
        )
        counts = np.array(
            [
                [[_count(r, _pose(place, look + slope * up, up)) for r in regions] for look in looks]
                for place in places
            ]
        )
        return Plan(axes, regions, places.numpy(), counts, side)

    @property
    def weak_spots(self) -> list[Spot]:
        """The worst first, each some cells from the others; none where all is known well."""
        weak = self.counts.max(2) < FEW
        spots: list[Spot] = []
        for k in np.argsort(-weak.sum(1), kind="stable"):
            far = all(np.linalg.norm(self.places[k] - spot.place) > _APART * self.side for spot in spots)
            if weak[k].sum() >= _LEAST_WEAK and far and len(spots) < _MOST_SPOTS:
                x, y, z = self.places[k].tolist()
                spots.append(Spot((x, y, z), np.flatnonzero(weak[k])))
        return spots

    @property
    def share_known(self) -> float:
        """Of all directions from all places."""
        return float((self.counts.max(2) >= FEW).mean())

    def draw(self) -> bytes:
        """As a PNG. Raises: `DsacError` when matplotlib is missing."""
        require_matplotlib()
        from matplotlib.figure import Figure

        axes = self.axes.numpy()
        clouds = [(region.world_from_map @ region.landmarks.points).numpy() @ axes.T for region in self.regions]
        every = np.concatenate([*clouds, self.places @ axes.T])
        low, high = np.quantile(every, 0.01, axis=0), np.quantile(every, 0.99, axis=0)
        low, high = (
            np.minimum(low, (self.places @ axes.T).min(0)),
            np.maximum(high, (self.places @ axes.T).max(0)),
        )
        margin = 0.06 * (high - low).max()
        low, high = low - margin, high + margin
        width, height = _WIDTH * (high - low) / (high - low).max()
        full = width + 0.4, height + 0.9  # inches, with a border and two lines above
        figure = Figure(figsize=full, dpi=150)
        paper = figure.add_axes((0.2 / full[0], 0.1 / full[1], width / full[0], height / full[1]))
        paper.set_xlim(low[0], high[0])
        paper.set_ylim(low[1], high[1])
        paper.axis("off")
        for number, (region, cloud) in enumerate(zip(self.regions, clouds, strict=True)):
            color = _COLORS[number % len(_COLORS)]
            paper.plot(*cloud.T, ".", color=color, markersize=3.2, alpha=0.3, markeredgewidth=0, zorder=1)
            paper.plot([], [], "o", color=color, markersize=5, label=region.name)
            _draw_cameras(paper, region.cam_from_world, self.axes, 0.6 * self.side)
        self._draw_places(paper)
        _draw_scale(paper, low, high)
        if 1 < len(self.regions) <= 12:
            paper.legend(loc="upper right", frameon=False, fontsize=8)
        figure.text(0.2 / full[0], 1 - 0.2 / full[1], self._told(), va="top", fontsize=9, color="#333333")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    def _told(self) -> str:
        red = "red: photos taken there that way show hardly a landmark; film more" if self.weak_spots else ""
        known = f"{self.share_known:.0%} of the directions from where it was filmed are known"
        return f"The map from above. {known}\nsmall arrows: mapping photos; {red}".rstrip("; ")

    def _draw_places(self, paper: Axes) -> None:
        """A fan of directions for each, in the colour of the region that knows it best, or red."""
        from matplotlib.patches import Wedge

        flat = self.places @ self.axes.numpy().T
        half = 180 / NUM_DIRECTIONS
        for (x, y), counts in zip(flat, self.counts, strict=True):
            for angle, of_regions in zip(np.degrees(_ANGLES), counts, strict=True):
                best, count = int(of_regions.argmax()), int(of_regions.max())
                weak = count < FEW
                color = _RED if weak else _COLORS[best % len(_COLORS)]
                alpha = 0.75 if weak else 0.10 + 0.35 * min(1.0, count / _MANY)
                wedge = Wedge(
                    (x, y), 0.46 * self.side, angle - half, angle + half, facecolor=color, alpha=alpha
                )
                paper.add_patch(wedge)
        for letter, spot in zip(_LETTERS, self.weak_spots, strict=False):
            x, y = np.array(spot.place) @ self.axes.numpy().T
            paper.text(
                x, y, letter, ha="center", va="center", fontsize=9, fontweight="bold", color="white", zorder=5,
                bbox={"boxstyle": "circle,pad=0.2", "facecolor": "#7a0016", "edgecolor": "white"},
            )  # fmt: skip


def spots_told(plan: Plan) -> list[str]:
    """A line for each weak spot, by its letter in the picture."""
    lines = []
    for letter, spot in zip(_LETTERS, plan.weak_spots, strict=False):
        looks = [plan.axes.numpy().T @ (np.cos(_ANGLES[k]), np.sin(_ANGLES[k])) for k in spot.directions]
        away, toward = np.sum(looks, axis=0), " all around"
        if np.linalg.norm(away) > 0.5:
            x, y, z = np.array(spot.place) + 5 * plan.side * away / np.linalg.norm(away)
            toward = f" toward ({x:.2f}, {y:.2f}, {z:.2f})"
        x, y, z = spot.place
        lines.append(
            f"{letter}  ({x:.2f}, {y:.2f}, {z:.2f}): {len(spot.directions)} of {NUM_DIRECTIONS} directions are "
            f"hardly known, film from there{toward}"
        )
    return lines


def _count(region: _Known, cam_from_world: Pose) -> int:
    """Landmarks that a photo from this pose (batch ()) shows much as they were seen."""
    in_map = region.world_from_map.inverse().pose(cam_from_world)
    return len(visible(region.landmarks, region.camera, in_map, _MANY))


def _pose(place: Float[Tensor, "3"], look: Float[Tensor, "3"], up: Float[Tensor, "3"]) -> Pose:
    """Of a camera that is held level."""
    right = torch.linalg.cross(look, up)
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(look, right), look])
    return Pose(rotation, -rotation @ place)


def _stood_at(
    poses: Pose, axes: Float[Tensor, "2 3"], up: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "K 3"], float]:
    """Middles of the cells with cameras, and of those beside them, at their height; and the side of a cell."""
    flat, heights = (poses.center @ axes.T).numpy(), (poses.center @ up).numpy()
    low, high = flat.min(0), flat.max(0)
    side = float(max((high - low).max() / _CELLS, 1e-6))
    cells = np.unique(np.floor((flat - low) / side).astype(int), axis=0)
    near = np.unique((cells[:, None] + _AROUND).reshape(-1, 2), axis=0)
    middles = low + (near + 0.5) * side
    close = np.linalg.norm(middles[:, None] - flat[None], axis=2).argmin(1)
    places = torch.from_numpy(middles) @ axes + torch.from_numpy(heights[close])[:, None] * up
    return places, side


def _draw_cameras(paper: Axes, cam_from_world: Pose, axes: Float[Tensor, "2 3"], length: float) -> None:
    cam_from_world = cam_from_world[:: -(-len(cam_from_world) // _MOST_ARROWS)]
    flat = (cam_from_world.center @ axes.T).numpy()
    look = (cam_from_world.rotation[:, 2] @ axes.T).numpy()
    paper.quiver(
        *flat.T,
        *(length * look).T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.0012,
        color="#222222",
        zorder=4,
    )


def _draw_scale(paper: Axes, low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"]) -> None:
    """The largest 1, 2 or 5 times a power of ten below a sixth of the paper, in the world's unit."""
    longest = (high - low).max() / 6
    power = 10 ** np.floor(np.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest)
    start, level = low + 0.02 * (high - low).max()
    paper.plot([start, start + length], [level, level], color="#333333", linewidth=2, solid_capstyle="butt")
    paper.text(start, level + 0.008 * (high - low).max(), f"{length:g}", color="#333333", fontsize=9)


_ANGLES = [2 * np.pi * k / NUM_DIRECTIONS for k in range(NUM_DIRECTIONS)]
_AROUND = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
_LEAST_WEAK = 2  # directions of a spot
_MOST_ARROWS = 150  # of a region
_MANY = 400  # landmarks: all that are asked
_COLORS = ("#2b6cb0", "#dd8b16", "#2f855a", "#805ad5", "#0f8b8d", "#a0522d", "#c2559f", "#6b7280")
_RED = "#d4163c"
_LETTERS = "ABCDEFGHIJ"
_WIDTH = 9.0  # inches
