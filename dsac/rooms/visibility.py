"""Which surface each pixel of a camera shows, and how far away it is.

In camera coordinates a rectangle with corner o and edges a, b and normal n = a × b is hit by the ray of
direction d = (x, y, 1) at inverse depth w = n·d / n·o, and (u w, v w) of its surface coordinates is linear in d
like w itself, so each image row needs four divisions to find the covered interval and then one multiplication a
pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dsac.rooms.compiled import compiled, inlined
from dsac.rooms.surfaces import CYLINDER, ELLIPSE, RECTANGLE, SPHERE, Room, dot, intersect, row


class View(NamedTuple):
    """A pinhole camera at a pose: `points_cam = rotation @ points_world + translation`."""

    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,)
    focal_px: float
    center_px: tuple[float, float]
    size: tuple[int, int]  # (width, height)


Window = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class SeenRoom(NamedTuple):
    """The S surfaces of the spaces that a camera sees, in its coordinates."""

    surface: np.ndarray  # (S,) which of the room's it is
    within: np.ndarray  # (S, 4) the part of the picture that shows its space, a `Window`
    kind: np.ndarray  # (S,)
    frame: np.ndarray  # (S, 3, 3)
    plane: np.ndarray  # (S, 3, 3) flat surfaces: rows whose product with a ray is w, u w and v w
    facing: np.ndarray  # (S,) flat surfaces: distance of the camera from their plane, 0 = not seen
    camera: View


def see(room: Room, view: View) -> SeenRoom:
    """The room from a camera."""
    windows = spaces_seen(room, view)
    surface = np.concatenate([np.arange(*room.spaces[space]) for space in windows])
    sizes = [np.ptp(room.spaces[space]) for space in windows]
    within = np.repeat(np.array(list(windows.values())), sizes, axis=0)
    kind, frame = room.kind[surface], room.frame[surface] @ view.rotation.T
    frame[:, 0] += view.translation
    o, a, b = frame[:, 0], frame[:, 1], frame[:, 2]
    n = np.cross(a, b)
    distance = (n * o).sum(1)
    # rectangles are seen from their front only, and nothing flat is seen edge-on
    hidden = (np.abs(distance) < 1e-9) | ((kind == RECTANGLE) & (distance > 0))
    w = n / np.where(hidden, np.inf, distance)[:, None]
    across = [e - (e * o).sum(1, keepdims=True) * w for e in (a, b)]
    u, v = (x / (e * e).sum(1, keepdims=True) for x, e in zip(across, (a, b), strict=True))
    facing = np.where(hidden, 0, np.abs(distance)) / np.linalg.norm(n, axis=1)
    return SeenRoom(surface, within, kind, frame, np.stack([w, u, v], 1), facing, view)


def spaces_seen(room: Room, view: View) -> dict[int, Window]:
    """The spaces that a camera sees, and through what part of its picture: of its own the whole.

    Where it stands in none, all are seen.
    """
    whole = (0.0, 0.0, float(view.size[0]), float(view.size[1]))
    eye = -view.rotation.T @ view.translation
    around = np.flatnonzero(((room.boxes[:, 0] <= eye) & (eye <= room.boxes[:, 1])).all(1))
    if len(around) == 0:
        return {space: whole for space in range(len(room.spaces))}
    windows = {int(around[0]): whole}
    before, behind = room.leads.T
    in_front = (np.cross(room.doors[:, 1], room.doors[:, 2]) * (eye - room.doors[:, 0])).sum(1) < 0
    here, there = np.where(in_front, before, behind), np.where(in_front, behind, before)
    ways = list(windows)
    for space in ways:  # which grow
        for door in np.flatnonzero(here == space):
            frame = room.doors[door] @ view.rotation.T
            frame[0] += view.translation
            opening = _common(windows[space], _image_bounds(RECTANGLE, frame, view))
            if opening[0] < opening[2] and opening[1] < opening[3]:
                windows[int(there[door])] = opening
                ways.append(int(there[door]))
    return windows


def _common(first: Window, second: Window) -> Window:
    left, top = max(first[0], second[0]), max(first[1], second[1])
    return left, top, min(first[2], second[2]), min(first[3], second[3])


def visible_surfaces(seen: SeenRoom, point: np.ndarray) -> np.ndarray:
    """Which surface (H, W) each pixel shows at `point` (x, y) inside it; -1 for none."""
    width, height = seen.camera.size
    surface = np.full((height, width), -1, np.int32)
    _cover(seen, point, np.zeros((height, width), np.float32), surface)
    return surface


@inlined
def ray(view, x, y):
    """Direction of the pixel (x, y), of length 1 along the optical axis."""
    return ((x - view.center_px[0]) / view.focal_px, (y - view.center_px[1]) / view.focal_px, 1.0)


@inlined
def meet(seen, s, d):
    """`intersect` of a ray from the camera with the surface s, which it is known to meet."""
    if seen.kind[s] == RECTANGLE or seen.kind[s] == ELLIPSE:
        plane = seen.plane
        t = 1 / (plane[s, 0, 0] * d[0] + plane[s, 0, 1] * d[1] + plane[s, 0, 2])
        u = plane[s, 1, 0] * d[0] + plane[s, 1, 1] * d[1] + plane[s, 1, 2]
        v = plane[s, 2, 0] * d[0] + plane[s, 2, 1] * d[1] + plane[s, 2, 2]
        return t, min(max(u * t, 0.0), 1.0), min(max(v * t, 0.0), 1.0)
    return intersect(seen.kind[s], seen.frame[s], _EYE, d)


@compiled
def measure_depth(seen, point, surface, depth):
    """Fill `depth` (H, W) of the surfaces that the pixels show at `point`; 0 where none."""
    for y in range(surface.shape[0]):
        for x in range(surface.shape[1]):
            depth[y, x] = 0
            if surface[y, x] >= 0:
                depth[y, x] = meet(seen, surface[y, x], ray(seen.camera, x + point[0], y + point[1]))[0]


# ---- what a surface covers -----------------------------------------------------------------------

_NEAR = 0.02
_EYE = (0.0, 0.0, 0.0)


@inlined
def _image_bounds(kind, frame, view):
    """Box (left, top, right, bottom) in pixels around what is seen of a surface; empty when behind."""
    left, top, right, bottom = 1e9, 1e9, -1e9, -1e9
    o, a, b = row(frame, 0), row(frame, 1), row(frame, 2)
    if kind == RECTANGLE or kind == ELLIPSE:
        for i in range(4):  # each edge, cut at the near plane
            u0, v0 = int(i == 1 or i == 2), int(i >= 2)
            u1, v1 = int(i == 0 or i == 1), int(i == 1 or i == 2)
            p = (o[0] + u0 * a[0] + v0 * b[0], o[1] + u0 * a[1] + v0 * b[1], o[2] + u0 * a[2] + v0 * b[2])
            q = (o[0] + u1 * a[0] + v1 * b[0], o[1] + u1 * a[1] + v1 * b[1], o[2] + u1 * a[2] + v1 * b[2])
            if p[2] < _NEAR and q[2] < _NEAR:
                continue
            for end, other in ((p, q), (q, p)):
                share = (_NEAR - end[2]) / (other[2] - end[2]) if end[2] < _NEAR else 0.0
                z = max(end[2] + share * (other[2] - end[2]), _NEAR)
                x = view.focal_px * (end[0] + share * (other[0] - end[0])) / z + view.center_px[0]
                y = view.focal_px * (end[1] + share * (other[1] - end[1])) / z + view.center_px[1]
                left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
        return left, top, right, bottom
    # the balls around both ends of a cylinder, the axis cut before the camera
    radius = np.sqrt(dot(a, a))
    near = max(1.1 * radius, 0.1)
    if kind == SPHERE:
        b = (0.0, 0.0, 0.0)
    if max(o[2], o[2] + b[2]) < (-radius if kind == SPHERE else near):
        return left, top, right, bottom
    for i in range(2):
        z = o[2] + i * b[2]
        share = i if z > near or b[2] == 0 else (near - o[2]) / b[2]
        x, y, z = o[0] + share * b[0], o[1] + share * b[1], max(o[2] + share * b[2], near)
        x, y = x / z, y / z
        reach = radius / (z - radius) * (1 + max(abs(x), abs(y)))  # a ball's image is longer outwards
        left, right, top, bottom = (
            min(left, x - reach),
            max(right, x + reach),
            min(top, y - reach),
            max(bottom, y + reach),
        )
    f, cx, cy = view.focal_px, view.center_px[0], view.center_px[1]
    left, top, right, bottom = f * left + cx, f * top + cy, f * right + cx, f * bottom + cy
    return left, top, right, bottom


@compiled
def _cover(seen, point, inverse_depth, surface):
    camera = seen.camera
    width, height = camera.size
    step = 1 / camera.focal_px
    for s in range(len(seen.kind)):
        kind = seen.kind[s]
        flat = kind == RECTANGLE or kind == ELLIPSE
        if flat and seen.facing[s] == 0:
            continue
        left, top, right, bottom = _image_bounds(kind, seen.frame[s], camera)
        within = seen.within[s]
        left, top, right, bottom = (
            max(left, within[0]), max(top, within[1]), min(right, within[2]), min(bottom, within[3]),
        )  # fmt: skip
        if right < 0 or bottom < 0 or left > width or top > height or right < left or bottom < top:
            continue
        w, u, v = row(seen.plane[s], 0), row(seen.plane[s], 1), row(seen.plane[s], 2)
        for y in range(max(int(top) - 1, 0), min(int(bottom) + 1, height - 1) + 1):
            d = ray(camera, point[0], y + point[1])
            low, high = max(left - 1, 0.0), min(right + 1, width - 1.0)
            if not flat:
                start, stop = _row_of_quadric(kind, seen.frame[s], d, step)
                for x in range(int(max(low, start)), int(min(high, stop + 1)) + 1):
                    t = intersect(kind, seen.frame[s], _EYE, ray(camera, x + point[0], y + point[1]))[0]
                    if t < np.inf and 1 / t > inverse_depth[y, x]:
                        inverse_depth[y, x] = 1 / t
                        surface[y, x] = s
                continue
            # w, u w and v w at x = 0, and their change with x
            w0, u0, v0, wx, ux, vx = dot(w, d), dot(u, d), dot(v, d), w[0] * step, u[0] * step, v[0] * step
            # 0 <= u w <= w and 0 <= v w <= w and w > 0; the slack closes the seams between neighbours
            slack = 1e-6
            for value, slope in (
                (w0, wx),
                (u0 + slack, ux),
                (w0 - u0 + slack, wx - ux),
                (v0 + slack, vx),
                (w0 - v0 + slack, wx - vx),
            ):
                if slope > 0:
                    low = max(low, -value / slope)
                elif slope < 0:
                    high = min(high, -value / slope)
                elif value < 0:
                    high = -1.0
            if low > high:  # perhaps by more than an integer can tell
                continue
            for x in range(int(np.ceil(low)), int(np.floor(high)) + 1):
                here = np.float32(w0) + np.float32(wx) * np.float32(x)
                if here > inverse_depth[y, x]:
                    if kind == ELLIPSE:
                        p, q, r = u0 + ux * x, v0 + vx * x, w0 + wx * x
                        if (p - 0.5 * r) ** 2 + (q - 0.5 * r) ** 2 > 0.25 * r * r:
                            continue
                    inverse_depth[y, x] = here
                    surface[y, x] = s


@inlined
def _row_of_quadric(kind, frame, d, step):
    """The interval of x in which the rays d + x (step, 0, 0) meet a sphere or an endless cylinder."""
    o, b = row(frame, 0), row(frame, 2)
    e = (step, 0.0, 0.0)
    ob, db, eb = 0.0, 0.0, 0.0  # a cylinder is a sphere without the direction of its axis
    if kind == CYLINDER:
        size = np.sqrt(dot(b, b))
        ob, db, eb = dot(o, b) / size, dot(d, b) / size, dot(e, b) / size
    do, eo = dot(d, o) - db * ob, dot(e, o) - eb * ob
    oo = dot(o, o) - ob * ob - dot(row(frame, 1), row(frame, 1))
    # they meet where (d·o)² - d·d o·o >= 0, a parabola in x
    square = eo * eo - (dot(e, e) - eb * eb) * oo
    linear = eo * do - (dot(e, d) - eb * db) * oo
    constant = do * do - (dot(d, d) - db * db) * oo
    root = linear * linear - square * constant
    if square >= 0:
        return -1.0, 1e6
    if root < 0:
        return 1.0, -1.0
    root = np.sqrt(root)
    return (-linear + root) / square, (-linear - root) / square
