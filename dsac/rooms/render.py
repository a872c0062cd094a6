"""Draws a room of textured surfaces with baked light, exactly and fast enough to render while mapping.

A surface is a rectangle, an ellipse, a sphere or the side of a cylinder. In camera coordinates a
rectangle with corner o and edges a, b and normal n = a × b is hit by the ray of direction d = (x, y, 1) at
inverse depth w = n·d / n·o, and (u w, v w) of its surface coordinates is linear in d like w itself, so each
image row needs four divisions to find the covered interval and then one multiplication a pixel. Light
(area lights with soft shadows, one diffuse bounce) is computed once a room, in a low resolution grid on
every surface; texture is filtered from a mip pyramid.

Texture bytes t and image bytes are square roots of light: light = (t / 255)².
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numba import njit

RECTANGLE, ELLIPSE, SPHERE, CYLINDER = 0, 1, 2, 3

# Without reference counts (`_nrt`: these functions allocate nothing) and calls, which pass every array of a
# room on the stack, frames take a third of the time.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_options = dict(cache=True, nogil=True, error_model="numpy", fastmath=_FAST, _nrt=False)
_jit = njit(**_options)  # pyright: ignore[reportCallIssue, reportArgumentType]
_inline = njit(forceinline=True, **_options)  # pyright: ignore[reportCallIssue, reportArgumentType]


class Room(NamedTuple):
    """Everything that is drawn, as arrays: S surfaces, N nodes, T texels, L light cells."""

    kind: np.ndarray  # (S,) RECTANGLE, ELLIPSE, SPHERE or CYLINDER
    frame: np.ndarray  # (S, 3, 3) rows origin, edge u, edge v; see `_intersect`
    texture: np.ndarray  # (S,) row of `levels`
    window: np.ndarray  # (S, 4) texture coordinates at the origin, and their change along u and v
    grain: np.ndarray  # (S,) texels per metre along u
    emission: np.ndarray  # (S,) light that the surface sends out by itself, times its texture
    bounds: np.ndarray  # (N, 2, 3) a tree over the surfaces, depth first: lower and upper corner of each node
    links: np.ndarray  # (N, 2) the node that follows when a node is missed; the surface of a leaf, else -1
    texels: np.ndarray  # (T, 3) uint8, all mip levels of all textures
    levels: np.ndarray  # (textures, 12, 3) first texel, width, height of each mip level; the last repeated
    albedo: np.ndarray  # (S, 3) mean reflectance
    light: np.ndarray  # (L, 3) light that falls on each cell
    cells: np.ndarray  # (S, 3) first light cell, cells along u, cells along v


class View(NamedTuple):
    """A pinhole camera at a pose: `points_cam = rotation @ points_world + translation`."""

    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,)
    focal_px: float
    center_px: tuple[float, float]
    size: tuple[int, int]  # (width, height)


class _Seen(NamedTuple):
    """The surfaces of a room in one camera's coordinates."""

    kind: np.ndarray  # (S,)
    frame: np.ndarray  # (S, 3, 3)
    plane: np.ndarray  # (S, 3, 3) flat surfaces: rows whose product with a ray is w, u w and v w
    facing: np.ndarray  # (S,) flat surfaces: distance of the camera from their plane, 0 = not seen
    camera: View


# the pixel's centre, and four points around it of which no two share a row or a column
_SAMPLES = np.array([[0.5, 0.5], [0.375, 0.125], [0.875, 0.375], [0.625, 0.875], [0.125, 0.625]])


def render_light(room: Room, views: list[View]) -> np.ndarray:
    """The light (H, W, 3) float32 of a photo: of one view, anti-aliased, or the mean over a moving shutter."""
    still = len(views) == 1
    width, height = views[0].size
    light = np.zeros((height, width, 3), np.float32)
    for i, view in enumerate(views):
        points = _SAMPLES if still else _SAMPLES[i % len(_SAMPLES)][None]
        seen = _see(room, view)
        surfaces = np.stack([_visible(seen, point) for point in points])
        _shade(room, seen, points, surfaces, 1 / (len(points) * len(views)), light)
    return light


def render_depth(room: Room, view: View) -> np.ndarray:
    """Depth (H, W) float32 in metres along the optical axis, at the pixel centres."""
    seen = _see(room, view)
    surface = _visible(seen, _SAMPLES[0])
    depth = np.empty(surface.shape, np.float32)
    _measure(seen, _SAMPLES[0], surface, depth)
    return depth


def develop(light: np.ndarray, exposure: float, noise: np.ndarray) -> np.ndarray:
    """The 8-bit image of a photo: exposure, a filmic tone curve, sensor noise (H, W, 3) in grey levels."""
    image = np.empty(light.shape, np.uint8)
    _develop(light, exposure, noise, image)
    return image


def mip_pyramid(textures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """`texels` and `levels` of a `Room` for RGB textures (h, w, 3) uint8."""
    texels: list[np.ndarray] = []
    levels = np.zeros((len(textures), 12, 3), np.int64)
    end = 0
    for row, texture in zip(levels, textures, strict=True):
        for level in range(12):
            height, width = texture.shape[:2]
            row[level] = end, width, height
            if min(width, height) <= 1 or level == 11:
                row[level:] = row[level]
                texels.append(texture.reshape(-1, 3))
                end += width * height
                break
            texels.append(texture.reshape(-1, 3))
            end += width * height
            texture = cv2.resize(texture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.concatenate(texels), levels


def surface_tree(kind: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`bounds` and `links` of a `Room`: halves the surfaces at the median of the longest extent."""
    o, u, v = frame[:, 0], frame[:, 1], frame[:, 2]
    ends = np.stack([o, o + u, o + v, o + u + v])
    radius = np.linalg.norm(u, axis=1, keepdims=True)
    axis = np.where((kind == CYLINDER)[:, None], v, 0)
    ball = np.stack([o - radius, o + radius, o + axis - radius, o + axis + radius])
    corners = np.where((kind >= SPHERE)[:, None], ball, ends)
    lower, upper = corners.min(0) - 1e-3, corners.max(0) + 1e-3
    bounds: list[np.ndarray] = []
    links: list[list[int]] = []

    def grow(surfaces: np.ndarray) -> None:
        box = np.array([lower[surfaces].min(0), upper[surfaces].max(0)])
        node = len(links)
        bounds.append(box)
        links.append([0, int(surfaces[0]) if len(surfaces) == 1 else -1])
        if len(surfaces) > 1:
            middles = (lower + upper)[surfaces]
            surfaces = surfaces[np.argsort(middles[:, np.ptp(middles, axis=0).argmax()], kind="stable")]
            grow(surfaces[: len(surfaces) // 2])
            grow(surfaces[len(surfaces) // 2 :])
        links[node][0] = len(links)

    grow(np.arange(len(kind)))
    return np.array(bounds), np.array(links)


def bake_light(room: Room, lamps: np.ndarray, cell: float = 0.06) -> Room:
    """The room with its light computed: `lamps` (N, 9) are points of lamps: position, normal, light (RGB).

    A normal of zero length shines into all directions. `cell` is the size of a light cell in metres.
    """
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


def _see(room: Room, view: View) -> _Seen:
    frame = room.frame @ view.rotation.T
    frame[:, 0] += view.translation
    o, a, b = frame[:, 0], frame[:, 1], frame[:, 2]
    n = np.cross(a, b)
    distance = (n * o).sum(1)
    # rectangles are seen from their front only, and nothing flat is seen edge-on
    hidden = (np.abs(distance) < 1e-9) | ((room.kind == RECTANGLE) & (distance > 0))
    w = n / np.where(hidden, np.inf, distance)[:, None]
    across = [e - (e * o).sum(1, keepdims=True) * w for e in (a, b)]
    u, v = (x / (e * e).sum(1, keepdims=True) for x, e in zip(across, (a, b), strict=True))
    facing = np.where(hidden, 0, np.abs(distance)) / np.linalg.norm(n, axis=1)
    return _Seen(room.kind, frame, np.stack([w, u, v], 1), facing, view)


def _visible(seen: _Seen, point: np.ndarray) -> np.ndarray:
    """Which surface (H, W) each pixel shows at `point` (x, y) inside it; -1 for none."""
    width, height = seen.camera.size
    surface = np.full((height, width), -1, np.int16)
    _cover(seen, point, np.zeros((height, width), np.float32), surface)
    return surface


# ---- one ray and one surface ---------------------------------------------------------------------

_EYE = (0.0, 0.0, 0.0)


@_inline
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@_inline
def _cross(a, b):
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@_inline
def _row(frame, i):
    return (frame[i, 0], frame[i, 1], frame[i, 2])


@_inline
def _intersect(kind, frame, p, d):
    """Where the ray p + t d meets a surface: (t, u, v), t = inf when it does not.

    The frame's rows are: corner and two edges of a rectangle; corner and edges of the rectangle around an
    ellipse; centre, radius towards longitude 0 and radius towards the north pole of a sphere; centre of
    the foot, radius towards longitude 0 and axis of a cylinder. Rectangles and ellipses are hit also
    outside their borders: (u, v) tells.
    """
    o, a, b = (frame[0, 0] - p[0], frame[0, 1] - p[1], frame[0, 2] - p[2]), _row(frame, 1), _row(frame, 2)
    aa, bb = _dot(a, a), _dot(b, b)
    if kind == RECTANGLE or kind == ELLIPSE:
        n = _cross(a, b)
        t = _dot(n, o) / _dot(n, d)
        return t, (t * _dot(d, a) - _dot(o, a)) / aa, (t * _dot(d, b) - _dot(o, b)) / bb
    along_d, along_o = 0.0, 0.0  # a cylinder is a sphere without the direction of its axis
    if kind == CYLINDER:
        along_d, along_o = _dot(d, b), _dot(o, b)
    dd = _dot(d, d) - along_d * along_d / bb
    do = _dot(d, o) - along_d * along_o / bb
    oo = _dot(o, o) - along_o * along_o / bb - aa
    root = do * do - dd * oo
    if root < 0:
        return np.inf, 0.0, 0.0
    root = np.sqrt(root)
    for sign in (-1.0, 1.0):  # the far side is seen through the open end of a cylinder
        t = (do + sign * root) / dd
        q = (t * d[0] - o[0], t * d[1] - o[1], t * d[2] - o[2])
        v = _dot(q, b) / bb
        if t > 1e-6 and (kind == SPHERE or (v >= 0 and v <= 1)):
            c = _cross(b, a)
            u = 0.5 + np.arctan2(_dot(q, c) / np.sqrt(bb), _dot(q, a)) / (2 * np.pi)
            if kind == SPHERE:
                v = 0.5 + np.arcsin(min(max(v, -1.0), 1.0)) / np.pi
            return t, u, v
    return np.inf, 0.0, 0.0


@_inline
def _inside(kind, u, v):
    if kind == RECTANGLE:
        return u >= 0 and u <= 1 and v >= 0 and v <= 1
    if kind == ELLIPSE:
        return (u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25
    return True


@_inline
def _ray(view, x, y):
    return ((x - view.center_px[0]) / view.focal_px, (y - view.center_px[1]) / view.focal_px, 1.0)


# ---- visibility ----------------------------------------------------------------------------------

_NEAR = 0.02


@_inline
def _image_bounds(kind, frame, view):
    """Box (left, top, right, bottom) in pixels around what is seen of a surface; empty when behind."""
    left, top, right, bottom = 1e9, 1e9, -1e9, -1e9
    o, a, b = _row(frame, 0), _row(frame, 1), _row(frame, 2)
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
    radius = np.sqrt(_dot(a, a))
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


@_jit
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
        if right < 0 or bottom < 0 or left > width or top > height or right < left:
            continue
        w, u, v = _row(seen.plane[s], 0), _row(seen.plane[s], 1), _row(seen.plane[s], 2)
        for y in range(max(int(top) - 1, 0), min(int(bottom) + 1, height - 1) + 1):
            d = _ray(camera, point[0], y + point[1])
            low, high = max(left - 1, 0.0), min(right + 1, width - 1.0)
            if not flat:
                start, stop = _row_of_quadric(kind, seen.frame[s], d, step)
                for x in range(int(max(low, start)), int(min(high, stop + 1)) + 1):
                    t = _intersect(kind, seen.frame[s], _EYE, _ray(camera, x + point[0], y + point[1]))[0]
                    if t < np.inf and 1 / t > inverse_depth[y, x]:
                        inverse_depth[y, x] = 1 / t
                        surface[y, x] = s
                continue
            # w, u w and v w at x = 0, and their change with x
            w0, u0, v0, wx, ux, vx = _dot(w, d), _dot(u, d), _dot(v, d), w[0] * step, u[0] * step, v[0] * step
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
            for x in range(int(np.ceil(low)), int(np.floor(high)) + 1):
                here = np.float32(w0) + np.float32(wx) * np.float32(x)
                if here > inverse_depth[y, x]:
                    if kind == ELLIPSE:
                        p, q, r = u0 + ux * x, v0 + vx * x, w0 + wx * x
                        if (p - 0.5 * r) ** 2 + (q - 0.5 * r) ** 2 > 0.25 * r * r:
                            continue
                    inverse_depth[y, x] = here
                    surface[y, x] = s


@_inline
def _row_of_quadric(kind, frame, d, step):
    """The interval of x in which the rays d + x (step, 0, 0) meet a sphere or an endless cylinder."""
    o, b = _row(frame, 0), _row(frame, 2)
    e = (step, 0.0, 0.0)
    ob, db, eb = 0.0, 0.0, 0.0  # a cylinder is a sphere without the direction of its axis
    if kind == CYLINDER:
        size = np.sqrt(_dot(b, b))
        ob, db, eb = _dot(o, b) / size, _dot(d, b) / size, _dot(e, b) / size
    do, eo = _dot(d, o) - db * ob, _dot(e, o) - eb * ob
    oo = _dot(o, o) - ob * ob - _dot(_row(frame, 1), _row(frame, 1))
    # they meet where (d·o)² - d·d o·o >= 0, a parabola in x
    square = eo * eo - (_dot(e, e) - eb * eb) * oo
    linear = eo * do - (_dot(e, d) - eb * db) * oo
    constant = do * do - (_dot(d, d) - db * db) * oo
    root = linear * linear - square * constant
    if square >= 0:
        return -1.0, 1e6
    if root < 0:
        return 1.0, -1.0
    root = np.sqrt(root)
    return (-linear + root) / square, (-linear - root) / square


@_inline
def _meet(seen, s, d):
    """`_intersect` of a ray from the camera with the surface s, which it is known to meet."""
    if seen.kind[s] == RECTANGLE or seen.kind[s] == ELLIPSE:
        plane = seen.plane
        t = 1 / (plane[s, 0, 0] * d[0] + plane[s, 0, 1] * d[1] + plane[s, 0, 2])
        u = plane[s, 1, 0] * d[0] + plane[s, 1, 1] * d[1] + plane[s, 1, 2]
        v = plane[s, 2, 0] * d[0] + plane[s, 2, 1] * d[1] + plane[s, 2, 2]
        return t, min(max(u * t, 0.0), 1.0), min(max(v * t, 0.0), 1.0)
    return _intersect(seen.kind[s], seen.frame[s], _EYE, d)


@_jit
def _measure(seen, point, surface, depth):
    for y in range(surface.shape[0]):
        for x in range(surface.shape[1]):
            depth[y, x] = 0
            if surface[y, x] >= 0:
                depth[y, x] = _meet(seen, surface[y, x], _ray(seen.camera, x + point[0], y + point[1]))[0]


# ---- colour --------------------------------------------------------------------------------------


@_inline
def _texel(texels, levels, texture, level, u, v):
    """Bilinear, wrapped around: the texture's byte values as floats."""
    first, width, height = levels[texture, level, 0], levels[texture, level, 1], levels[texture, level, 2]
    x, y = (u - np.floor(u)) * width - 0.5, (v - np.floor(v)) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = np.float32(x - x0), np.float32(y - y0)
    x1, y1 = x0 + 1 if x0 + 1 < width else 0, y0 + 1 if y0 + 1 < height else 0
    x0, y0 = x0 if x0 >= 0 else width - 1, y0 if y0 >= 0 else height - 1
    i, j, k, m = (
        first + y0 * width + x0,
        first + y0 * width + x1,
        first + y1 * width + x0,
        first + y1 * width + x1,
    )
    one = np.float32(1)
    p, q, r, s = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
    return (
        p * texels[i, 0] + q * texels[j, 0] + r * texels[k, 0] + s * texels[m, 0],
        p * texels[i, 1] + q * texels[j, 1] + r * texels[k, 1] + s * texels[m, 1],
        p * texels[i, 2] + q * texels[j, 2] + r * texels[k, 2] + s * texels[m, 2],
    )


@_inline
def _light_at(room, s, u, v):
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


@_inline
def _colour(room, seen, s, d):
    """Light that the surface s sends back along the ray of direction d."""
    t, u, v = _meet(seen, s, d)
    # texels per pixel; a flat surface seen at an angle has more of them along the line of sight
    fine = 0.8 * room.grain[s] * t / seen.camera.focal_px
    slant = np.sqrt(_dot(d, d)) * t / seen.facing[s] if seen.facing[s] > 0 else 1.0
    level = 0.5 * np.log2(max(fine * fine * min(slant, 6.0), 1.0))
    k = min(int(level), 10)
    blend = np.float32(min(level - k, 1.0))
    x, y = room.window[s, 0] + u * room.window[s, 2], room.window[s, 1] + v * room.window[s, 3]
    p = _texel(room.texels, room.levels, room.texture[s], k, x, y)
    q = _texel(room.texels, room.levels, room.texture[s], k + 1, x, y)
    light = _light_at(room, s, u, v)
    scale = np.float32(1 / 255)
    e = room.emission[s]
    red = (p[0] + blend * (q[0] - p[0])) * scale
    green = (p[1] + blend * (q[1] - p[1])) * scale
    blue = (p[2] + blend * (q[2] - p[2])) * scale
    return red * red * (light[0] + e), green * green * (light[1] + e), blue * blue * (light[2] + e)


@_jit
def _shade(room, seen, points, surfaces, weight, light):
    """Add to `light`; a surface seen at several points of a pixel is coloured once, at the first."""
    for y in range(light.shape[0]):
        for x in range(light.shape[1]):
            for i in range(len(points)):
                s = surfaces[i, y, x]
                if s < 0:
                    continue
                share = np.float32(0)
                for j in range(len(points)):
                    if surfaces[j, y, x] == s:
                        if j < i:
                            share = np.float32(0)
                            break
                        share += np.float32(weight)
                if share > 0:
                    d = _ray(seen.camera, x + points[i, 0], y + points[i, 1])
                    red, green, blue = _colour(room, seen, s, d)
                    light[y, x, 0] += share * red
                    light[y, x, 1] += share * green
                    light[y, x, 2] += share * blue


@_jit
def _develop(light, exposure, noise, image):
    for y in range(light.shape[0]):
        for x in range(light.shape[1]):
            for c in range(3):
                e = np.float32(exposure) * light[y, x, c]
                e = e * (np.float32(1) + e * np.float32(0.25)) / (np.float32(1) + e)  # white at 4
                grey = np.float32(255) * np.sqrt(e) + noise[y, x, c] + np.float32(0.5)
                image[y, x, c] = np.uint8(min(max(grey, np.float32(0)), np.float32(255)))


# ---- light ---------------------------------------------------------------------------------------


@_inline
def _nearest(room, p, d, far):
    """The first surface that the ray p + t d meets before t = far: (t, surface, u, v); surface -1 for none."""
    best, hit, hit_u, hit_v = far, -1, 0.0, 0.0
    inverse = (1 / d[0], 1 / d[1], 1 / d[2])
    node = 0
    while node < len(room.links):
        box = room.bounds[node]
        x0, x1 = (box[0, 0] - p[0]) * inverse[0], (box[1, 0] - p[0]) * inverse[0]
        y0, y1 = (box[0, 1] - p[1]) * inverse[1], (box[1, 1] - p[1]) * inverse[1]
        z0, z1 = (box[0, 2] - p[2]) * inverse[2], (box[1, 2] - p[2]) * inverse[2]
        enter = max(max(min(x0, x1), min(y0, y1)), max(min(z0, z1), 1e-4))
        leave = min(min(max(x0, x1), max(y0, y1)), min(max(z0, z1), best))
        if enter > leave:
            node = room.links[node, 0]
            continue
        s = room.links[node, 1]
        if s >= 0:
            t, u, v = _intersect(room.kind[s], room.frame[s], p, d)
            if t > 1e-4 and t < best and _inside(room.kind[s], u, v):
                best, hit, hit_u, hit_v = t, s, u, v
        node += 1
    return best, hit, hit_u, hit_v


@_inline
def _surface_point(kind, frame, u, v):
    """Position (2 mm in front) and normal of a surface at (u, v)."""
    o, a, b = _row(frame, 0), _row(frame, 1), _row(frame, 2)
    if kind == RECTANGLE or kind == ELLIPSE:
        n = _cross(a, b)
        p = (o[0] + u * a[0] + v * b[0], o[1] + u * a[1] + v * b[1], o[2] + u * a[2] + v * b[2])
    else:
        c = _cross(b, a)
        size_b = np.sqrt(_dot(b, b))
        cosine, sine = np.cos((u - 0.5) * 2 * np.pi), np.sin((u - 0.5) * 2 * np.pi) / size_b
        n = (cosine * a[0] + sine * c[0], cosine * a[1] + sine * c[1], cosine * a[2] + sine * c[2])
        up = v
        if kind == SPHERE:
            up, flat = np.sin((v - 0.5) * np.pi), np.cos((v - 0.5) * np.pi)
            n = (flat * n[0] + up * b[0], flat * n[1] + up * b[1], flat * n[2] + up * b[2])
            p = (o[0] + n[0], o[1] + n[1], o[2] + n[2])
        else:
            p = (o[0] + n[0] + up * b[0], o[1] + n[1] + up * b[1], o[2] + n[2] + up * b[2])
    size = np.sqrt(_dot(n, n))
    n = (n[0] / size, n[1] / size, n[2] / size)
    return (p[0] + 0.002 * n[0], p[1] + 0.002 * n[1], p[2] + 0.002 * n[2]), n


@_jit
def _light_from_lamps(room, lamps, light):
    for s in range(len(room.kind)):
        first, nu, nv = room.cells[s]
        for i in range(nu * nv):
            p, n = _surface_point(room.kind[s], room.frame[s], (i % nu + 0.5) / nu, (i // nu + 0.5) / nv)
            for k in range(len(lamps)):
                d = (lamps[k, 0] - p[0] + 1e-9, lamps[k, 1] - p[1] + 1e-9, lamps[k, 2] - p[2] + 1e-9)
                square = _dot(d, d)
                falls = _dot(n, d)
                if room.kind[s] == ELLIPSE:
                    falls = abs(falls)  # leaves are lit from both sides
                leaves = np.sqrt(square)
                facing = (lamps[k, 3], lamps[k, 4], lamps[k, 5])
                if _dot(facing, facing) > 0:
                    leaves = -_dot(facing, d)
                if falls <= 0 or leaves <= 0 or _nearest(room, p, d, 0.99)[1] >= 0:
                    continue
                for c in range(3):
                    light[first + i, c] += lamps[k, 6 + c] * falls * leaves / (square * square)


@_jit
def _light_from_surfaces(room, directions, again, light):
    for s in range(len(room.kind)):
        first, nu, nv = room.cells[s]
        for i in range(nu * nv):
            p, n = _surface_point(room.kind[s], room.frame[s], (i % nu + 0.5) / nu, (i // nu + 0.5) / nv)
            across = (0.0, 0.0, 1.0) if abs(n[2]) < 0.7 else (1.0, 0.0, 0.0)
            a = _cross(n, across)
            size = np.sqrt(_dot(a, a))
            a = (a[0] / size, a[1] / size, a[2] / size)
            b = _cross(n, a)
            for k in range(len(directions)):
                x, y, z = directions[k, 0], directions[k, 1], directions[k, 2]
                d = (
                    x * a[0] + y * b[0] + z * n[0] + 1e-9,
                    x * a[1] + y * b[1] + z * n[1] + 1e-9,
                    x * a[2] + y * b[2] + z * n[2] + 1e-9,
                )
                _, hit, u, v = _nearest(room, p, d, 1e9)
                if hit < 0:
                    continue
                back = _light_at(room, hit, u, v)
                for c in range(3):
                    light[first + i, c] += room.albedo[hit, c] * (back[c] + again[c]) / len(directions)
