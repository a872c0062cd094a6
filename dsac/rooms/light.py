"""The light of a room, computed once: lamps with soft shadows and one diffuse bounce.

It is kept in a grid of low resolution on every surface.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from dsac.rooms.compiled import compiled, inlined
from dsac.rooms.surfaces import (
    CYLINDER,
    ELLIPSE,
    SPHERE,
    Room,
    cross,
    dot,
    nearest,
    surface_point,
    surface_tree,
)

LIGHT_CELL = 0.06  # metres


def bake_light(room: Room, lamps: np.ndarray, cell: float = LIGHT_CELL) -> Room:
    """The room with its light computed: `lamps` (N, 9) are points of lamps: position, normal, light (RGB).

    A normal of zero length shines into all directions. `cell` is the size of a light cell in metres. A space
    has the light of its own lamps alone: none falls through doors.
    """

    def lit(space: int) -> Room:
        lower, upper = room.boxes[space]
        inside = ((lower <= lamps[:, :3]) & (lamps[:, :3] <= upper)).all(1)
        return _lit(_alone(room, space), lamps[inside], cell)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        spaces = list(pool.map(lit, range(len(room.spaces))))
    starts = np.cumsum([0, *(len(space.light) for space in spaces[:-1])])
    cells = [space.cells + np.array([start, 0, 0]) for space, start in zip(spaces, starts, strict=True)]
    return room._replace(cells=np.concatenate(cells), light=np.concatenate([space.light for space in spaces]))


def _alone(room: Room, space: int) -> Room:
    """One of a room's spaces."""
    if len(room.spaces) == 1:
        return room
    part = slice(*room.spaces[space])
    bounds, links = surface_tree(room.kind[part], room.frame[part])
    return room._replace(
        kind=room.kind[part], frame=room.frame[part], texture=room.texture[part], window=room.window[part],
        grain=room.grain[part], emission=room.emission[part], albedo=room.albedo[part],
        bounds=bounds, links=links,
    )  # fmt: skip


def _lit(room: Room, lamps: np.ndarray, cell: float) -> Room:
    edges = np.linalg.norm(room.frame[:, 1:], axis=2)
    round_ = np.isin(room.kind, [SPHERE, CYLINDER])
    edges[round_, 0] *= 2 * np.pi
    edges[room.kind == SPHERE, 1] *= np.pi
    counts = np.clip(np.ceil(edges / cell), 2, 96).astype(np.int64)
    counts[room.kind == SPHERE] = np.maximum(counts[room.kind == SPHERE], 8)
    ends = np.cumsum(counts.prod(1))
    cells = np.column_stack([ends - counts.prod(1), counts])
    room = room._replace(cells=cells, light=np.zeros((ends[-1], 3), np.float32))

    direct = np.zeros_like(room.light)
    _light_from_lamps(room, lamps, direct)
    first = room._replace(light=_smooth(direct, cells))
    # light that bounced more than once, as one colour for the whole room
    mean = np.average(first.light, axis=0)
    again = mean * np.average(room.albedo, axis=0, weights=edges.prod(1))
    bounced = np.zeros_like(room.light)
    _light_from_surfaces(first, _cosine_directions(40), again.astype(np.float32), bounced)
    return room._replace(light=first.light + _smooth(bounced, cells))


def daylight(middle: tuple[float, float, float], far: float) -> np.ndarray:
    """A sun in the south-west and the sky around, as points of light `far` metres from a place's middle."""
    lights = [(np.array([-0.5, -0.6, 0.75]), np.array([1.5, 1.4, 1.2]))]
    for i in range(16):  # a sunflower on the upper half of a sphere
        up, turn = (i + 0.5) / 16, 2.4 * i
        flat = np.sqrt(1 - up**2)
        lights.append((np.array([flat * np.cos(turn), flat * np.sin(turn), up]), np.array([0.075, 0.085, 0.1])))
    points = []
    for direction, light in lights:
        unit = direction / np.linalg.norm(direction)
        points.append([*(np.array(middle) + far * unit), 0, 0, 0, *(light * far**2)])
    return np.array(points)


def _smooth(light: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Every surface's grid blurred a little: hides the steps between the few lamp points and directions."""
    smooth = light.copy()
    for first, nu, nv in cells:
        if nu >= 5 and nv >= 5:
            grid = light[first : first + nu * nv].reshape(nv, nu, 3)
            grid = cv2.GaussianBlur(grid, (5, 5), 1.0, borderType=cv2.BORDER_REPLICATE)
            smooth[first : first + nu * nv] = grid.reshape(-1, 3)
    return smooth


def _cosine_directions(count: int) -> np.ndarray:
    """Directions (count, 3) around z with density proportional to their cosine: a sunflower on the disc."""
    i = np.arange(count) + 0.5
    radius, angle = np.sqrt(i / count), i * np.pi * (3 - np.sqrt(5))
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)])


@inlined
def light_at(room, s, u, v):
    """Light that falls on the surface s at (u, v), between the middles of its cells."""
    first, nu, nv = room.cells[s, 0], room.cells[s, 1], room.cells[s, 2]
    x, y = min(max(u * nu - 0.5, 0.0), nu - 1.0), min(max(v * nv - 0.5, 0.0), nv - 1.0)
    x0, y0 = min(int(x), nu - 2), min(int(y), nv - 2)
    fx, fy = np.float32(x - x0), np.float32(y - y0)
    i = first + y0 * nu + x0
    one = np.float32(1)
    p, q, r, t = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
    light = room.light
    return (
        p * light[i, 0] + q * light[i + 1, 0] + r * light[i + nu, 0] + t * light[i + nu + 1, 0],
        p * light[i, 1] + q * light[i + 1, 1] + r * light[i + nu, 1] + t * light[i + nu + 1, 1],
        p * light[i, 2] + q * light[i + 1, 2] + r * light[i + nu, 2] + t * light[i + nu + 1, 2],
    )


@compiled
def _light_from_lamps(room, lamps, light):
    for s in range(len(room.kind)):
        first, nu, nv = room.cells[s]
        for i in range(nu * nv):
            p, n = surface_point(room.kind[s], room.frame[s], (i % nu + 0.5) / nu, (i // nu + 0.5) / nv)
            for k in range(len(lamps)):
                d = (lamps[k, 0] - p[0] + 1e-9, lamps[k, 1] - p[1] + 1e-9, lamps[k, 2] - p[2] + 1e-9)
                square = dot(d, d)
                falls = dot(n, d)
                if room.kind[s] == ELLIPSE:
                    falls = abs(falls)  # leaves are lit from both sides
                leaves = np.sqrt(square)
                facing = (lamps[k, 3], lamps[k, 4], lamps[k, 5])
                if dot(facing, facing) > 0:
                    leaves = -dot(facing, d)
                if falls <= 0 or leaves <= 0 or nearest(room, p, d, 0.99)[1] >= 0:
                    continue
                for c in range(3):
                    light[first + i, c] += lamps[k, 6 + c] * falls * leaves / (square * square)


@compiled
def _light_from_surfaces(room, directions, again, light):
    for s in range(len(room.kind)):
        first, nu, nv = room.cells[s]
        for i in range(nu * nv):
            p, n = surface_point(room.kind[s], room.frame[s], (i % nu + 0.5) / nu, (i // nu + 0.5) / nv)
            across = (0.0, 0.0, 1.0) if abs(n[2]) < 0.7 else (1.0, 0.0, 0.0)
            a = cross(n, across)
            size = np.sqrt(dot(a, a))
            a = (a[0] / size, a[1] / size, a[2] / size)
            b = cross(n, a)
            for k in range(len(directions)):
                x, y, z = directions[k, 0], directions[k, 1], directions[k, 2]
                d = (
                    x * a[0] + y * b[0] + z * n[0] + 1e-9,
                    x * a[1] + y * b[1] + z * n[1] + 1e-9,
                    x * a[2] + y * b[2] + z * n[2] + 1e-9,
                )
                _, hit, u, v = nearest(room, p, d, 1e9)
                if hit < 0:
                    continue
                back = light_at(room, hit, u, v)
                for c in range(3):
                    light[first + i, c] += room.albedo[hit, c] * (back[c] + again[c]) / len(directions)
