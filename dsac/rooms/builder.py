"""How a place is put together: materials, and surfaces in metres, collected to a `Room`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1
from typing import TypedDict, Unpack

import numpy as np
from numpy.random import Generator

from dsac.rooms.mipmaps import mip_pyramid
from dsac.rooms.surfaces import CYLINDER, ELLIPSE, RECTANGLE, SPHERE, Room, surface_tree

X, Y, Z = np.eye(3)


@dataclass(frozen=True)
class Material:
    texture: int
    metres: tuple[float, float] | None  # size of one repetition; None = stretched over the surface
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)  # the part used: left, top, width, height


class Faces(TypedDict, total=False):
    """Faces of a box before it is turned; None leaves one out."""

    front: Material | None  # -y
    back: Material | None
    left: Material | None  # -x
    right: Material | None
    top: Material | None
    bottom: Material | None


def turned(yaw: float, lean: float = 0.0) -> np.ndarray:
    """Rotation about z after leaning backwards about x."""
    c, s, cl, sl = np.cos(yaw), np.sin(yaw), np.cos(lean), np.sin(lean)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cl, sl], [0, -sl, cl]])


class RoomBuilder:
    """Collects surfaces; a texture's top row is at the upper end of the second edge of its surface."""

    def __init__(self, rng: Generator) -> None:
        self.rng = rng
        self._textures: list[np.ndarray] = []
        self._numbers: dict[tuple[tuple[int, ...], bytes], int] = {}  # of the textures, by their bytes
        self._kinds: list[int] = []
        self._frames: list[np.ndarray] = []
        self._materials: list[int] = []
        self._windows: list[np.ndarray] = []
        self._emissions: list[float] = []
        self._twins: list[int] = []
        self._turn, self._shift = np.eye(3), np.zeros(3)
        self._spaces: list[tuple[int, int]] = []
        self._boxes: list[np.ndarray] = []
        self._doors: list[np.ndarray] = []
        self._leads: list[tuple[int, int]] = []

    @contextmanager
    def placed(self, at: tuple[float, float, float], yaw: float = 0.0) -> Iterator[None]:
        """What is built inside stands as if around the origin, is turned about z and moved to `at`."""
        turn, shift = self._turn, self._shift
        self._turn, self._shift = turn @ turned(yaw), shift + turn @ np.array(at)
        yield
        self._turn, self._shift = turn, shift

    @contextmanager
    def space(self, lower: tuple[float, float, float], upper: tuple[float, float, float]) -> Iterator[int]:
        """What is built inside is a convex space between two corners, seen through doors alone; its number.

        Either all surfaces of a place are in spaces or none is. It is turned by right angles only.
        """
        first = len(self._kinds)
        yield len(self._spaces)
        self._spaces.append((first, len(self._kinds)))
        corners = np.array([lower, upper]) @ self._turn.T + self._shift
        self._boxes.append(np.array([corners.min(0), corners.max(0)]))

    def opening(self, corner, edge_u, edge_v, leads: tuple[int, int]) -> None:
        """A rectangle through which two spaces see each other: its normal u × v points into the second."""
        self._doors.append(np.array([corner, edge_u, edge_v]) @ self._turn.T + np.outer([1, 0, 0], self._shift))
        self._leads.append(leads)

    def repeats(self, period: tuple[float, float, float], count: int) -> Iterator[int]:
        """Builds something `count` times, each `period` metres on: `for k in b.repeats(...)`.

        The loop's body places its surfaces as for k = 0 and may choose only materials by k; what is random is
        the same for all k. `share_light` lights them alike. Loops nest.
        """
        random, first, unshifted = self.rng.bit_generator.state, len(self._kinds), self._shift
        for k in range(count):
            self.rng.bit_generator.state = random
            self._shift = unshifted + self._turn @ (k * np.array(period))
            yield k
        self._shift = unshifted
        size = (len(self._kinds) - first) // count
        middle = self._twins[first + count // 2 * size :][:size]
        self._twins[first:] = middle * count

    def share_light(self, room: Room) -> Room:
        """The baked room with all repeats in the light of the middle one: nearness to an end does not show."""
        return room._replace(cells=room.cells[self._twins])

    def material(self, image: np.ndarray, metres: tuple[float, float] | None = None) -> Material:
        """Of a texture (h, w, 3) uint8 that repeats every `metres` along u and v; None: it is stretched.

        Equal textures are kept once.
        """
        image = np.ascontiguousarray(image)
        number = self._numbers.setdefault(
            (image.shape, sha1(image.tobytes(), usedforsecurity=False).digest()), len(self._textures)
        )
        if number == len(self._textures):
            self._textures.append(image)
        return Material(number, metres)

    @staticmethod
    def cut(material: Material, left: float, top: float, width: float, height: float) -> Material:
        """A part of the material's texture, in shares of its width and height, stretched over the surface."""
        return Material(material.texture, None, (left, top, width, height))

    def rectangle(self, corner, edge_u, edge_v, material: Material, emission: float = 0.0) -> None:
        self._add(RECTANGLE, corner, edge_u, edge_v, material, emission)

    def ellipse(self, corner, edge_u, edge_v, material: Material) -> None:
        self._add(ELLIPSE, corner, edge_u, edge_v, material)

    def disc(self, center: tuple[float, float, float], radius: float, material: Material) -> None:
        corner = np.array(center) - radius * (X + Y)
        self._add(ELLIPSE, corner, 2 * radius * X, 2 * radius * Y, material)

    def sphere(self, center, radius: float, material: Material, pole=Z, emission: float = 0.0) -> None:
        pole = pole / np.linalg.norm(pole)
        across = np.cross(pole, X) / np.linalg.norm(np.cross(pole, X))
        self._add(SPHERE, center, radius * across, radius * pole, material, emission)

    def cylinder(
        self, foot, axis: np.ndarray, radius: float, material: Material, emission: float = 0.0
    ) -> None:
        across = np.cross(axis, X if abs(axis[0]) < 0.5 * np.linalg.norm(axis) else Y)
        self._add(CYLINDER, foot, radius * across / np.linalg.norm(across), axis, material, emission)

    def box(
        self,
        foot: tuple[float, float, float],  # middle of the bottom
        size: tuple[float, float, float],  # along x (width), y (depth) and z before turning
        material: Material,
        yaw: float = 0.0,
        lean: float = 0.0,
        **faces: Unpack[Faces],
    ) -> None:
        """`faces` gives some faces another material."""
        if unknown := faces.keys() - Faces.__annotations__.keys():
            raise TypeError(
                f"box: expected faces of {', '.join(Faces.__annotations__)}, got {', '.join(unknown)}"
            )
        rotation = turned(yaw, lean)
        x, y, z = (rotation * np.array(size)).T
        corner = np.array(foot) - (x + y) / 2
        for name, start, u, v in (
            ("front", corner, x, z),
            ("right", corner + x, y, z),
            ("back", corner + x + y, -x, z),
            ("left", corner + y, -y, z),
            ("top", corner + z, x, y),
            ("bottom", corner + y, x, -y),
        ):
            if (face := faces.get(name, material)) is not None:
                self.rectangle(start, u, v, face)

    def framed(
        self,
        foot: tuple[float, float, float],  # middle of the lower edge
        width: float,
        height: float,
        picture: Material,
        frame: Material,
        yaw: float = 0.0,
        lean: float = 0.0,
        emission: float = 0.0,
    ) -> None:
        """A picture that faces -y before turning, in a frame 2 cm wide and 2.5 cm deep."""
        rotation = turned(yaw, lean)
        x, y, z = rotation.T
        edge, deep = 0.02, 0.025
        start = np.array(foot) - width / 2 * x
        self.rectangle(start, width * x, height * z, picture, emission)
        self.rectangle(start + width * x + 0.4 * deep * y, -width * x, height * z, frame)
        for dx, dz, w, h in (
            (-width / 2 - edge / 2, -edge, edge, height + 2 * edge),
            (width / 2 + edge / 2, -edge, edge, height + 2 * edge),
            (0, -edge, width, edge),
            (0, height, width, edge),
        ):
            self.box(tuple(np.array(foot) + dx * x + dz * z), (w, deep, h), frame, yaw=yaw, lean=lean)

    def _add(self, kind: int, origin, edge_u, edge_v, material: Material, emission: float = 0.0) -> None:
        left, top, width, height = material.window
        if material.metres is not None:
            extent = np.linalg.norm(edge_u), np.linalg.norm(edge_v)
            if kind in (SPHERE, CYLINDER):
                extent = 2 * np.pi * extent[0], extent[1] * (np.pi if kind == SPHERE else 1)
            left, top = self.rng.random(2)
            width, height = extent[0] / material.metres[0], extent[1] / material.metres[1]
            if kind in (SPHERE, CYLINDER):
                width = max(1.0, float(np.round(width)))  # no seam
        self._twins.append(len(self._kinds))
        self._kinds.append(kind)
        frame = np.array([origin, edge_u, edge_v], float) @ self._turn.T
        self._frames.append(frame + np.outer([1, 0, 0], self._shift))
        self._materials.append(material.texture)
        self._windows.append(np.array([left, top + height, width, -height], float))
        self._emissions.append(emission)

    def room(self) -> Room:
        """The room, still without light."""
        kind, frame = np.array(self._kinds, np.uint8), np.array(self._frames)
        texture, window = np.array(self._materials), np.array(self._windows)
        texels, levels = mip_pyramid(self._textures)
        bounds, links = surface_tree(kind, frame)
        means = np.array([((image / 255.0) ** 2).mean((0, 1)) for image in self._textures])
        circle = np.where(kind >= SPHERE, 2 * np.pi, 1)
        grain = np.abs(window[:, 2]) * levels[texture, 0, 1] / (circle * np.linalg.norm(frame[:, 1], axis=1))
        return Room(
            kind,
            frame,
            texture,
            window,
            grain,
            np.array(self._emissions, np.float32),
            bounds,
            links,
            texels,
            levels,
            means[texture].astype(np.float32),
            np.zeros((0, 3), np.float32),
            np.zeros((len(kind), 3), np.int64),
            np.array(self._spaces or [(0, len(kind))]),
            np.array(self._boxes or [[[-np.inf] * 3, [np.inf] * 3]]),
            np.array(self._doors, float).reshape(-1, 3, 3),
            np.array(self._leads, np.int64).reshape(-1, 2),
        )
