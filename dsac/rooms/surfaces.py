"""What a room is made of: four kinds of surfaces, where a ray meets them, and a tree to find the nearest.

A surface is a rectangle, an ellipse, a sphere or the side of a cylinder, with coordinates (u, v) in [0, 1] that
texture and light are laid out in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dsac.rooms.compiled import inlined

RECTANGLE, ELLIPSE, SPHERE, CYLINDER = 0, 1, 2, 3


class Room(NamedTuple):
    """Everything that is drawn, as arrays: S surfaces, N nodes, T texels, L light cells, K spaces, D doors.

    A space is convex and seen from others through doors alone; from one to another is one way at most.
    """

    kind: np.ndarray  # (S,) RECTANGLE, ELLIPSE, SPHERE or CYLINDER
    frame: np.ndarray  # (S, 3, 3) rows origin, edge u, edge v; see `intersect`
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
    spaces: np.ndarray  # (K, 2) first surface of each space, and the one after its last; of most places one
    boxes: np.ndarray  # (K, 2, 3) lower and upper corner of each space
    doors: np.ndarray  # (D, 3, 3) openings between spaces, rows as of a rectangle
    leads: np.ndarray  # (D, 2) the spaces before and behind each: its normal u × v points into the second


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


# ---- one ray and one surface ---------------------------------------------------------------------


@inlined
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inlined
def cross(a, b):
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@inlined
def row(frame, i):
    return (frame[i, 0], frame[i, 1], frame[i, 2])


@inlined
def intersect(kind, frame, p, d):
    """Where the ray p + t d meets a surface: (t, u, v), t = inf when it does not.

    The frame's rows are: corner and two edges of a rectangle; corner and edges of the rectangle around an
    ellipse; centre, radius towards longitude 0 and radius towards the north pole of a sphere; centre of
    the foot, radius towards longitude 0 and axis of a cylinder. Rectangles and ellipses are hit also
    outside their borders: (u, v) tells.
    """
    o, a, b = (frame[0, 0] - p[0], frame[0, 1] - p[1], frame[0, 2] - p[2]), row(frame, 1), row(frame, 2)
    aa, bb = dot(a, a), dot(b, b)
    if kind == RECTANGLE or kind == ELLIPSE:
        n = cross(a, b)
        t = dot(n, o) / dot(n, d)
        return t, (t * dot(d, a) - dot(o, a)) / aa, (t * dot(d, b) - dot(o, b)) / bb
    along_d, along_o = 0.0, 0.0  # a cylinder is a sphere without the direction of its axis
    if kind == CYLINDER:
        along_d, along_o = dot(d, b), dot(o, b)
    dd = dot(d, d) - along_d * along_d / bb
    do = dot(d, o) - along_d * along_o / bb
    oo = dot(o, o) - along_o * along_o / bb - aa
    root = do * do - dd * oo
    if root < 0:
        return np.inf, 0.0, 0.0
    root = np.sqrt(root)
    for sign in (-1.0, 1.0):  # the far side is seen through the open end of a cylinder
        t = (do + sign * root) / dd
        q = (t * d[0] - o[0], t * d[1] - o[1], t * d[2] - o[2])
        v = dot(q, b) / bb
        if t > 1e-6 and (kind == SPHERE or (v >= 0 and v <= 1)):
            c = cross(b, a)
            u = 0.5 + np.arctan2(dot(q, c) / np.sqrt(bb), dot(q, a)) / (2 * np.pi)
            if kind == SPHERE:
                v = 0.5 + np.arcsin(min(max(v, -1.0), 1.0)) / np.pi
            return t, u, v
    return np.inf, 0.0, 0.0


@inlined
def inside(kind, u, v):
    if kind == RECTANGLE:
        return u >= 0 and u <= 1 and v >= 0 and v <= 1
    if kind == ELLIPSE:
        return (u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25
    return True


@inlined
def surface_point(kind, frame, u, v):
    """Position (2 mm in front) and normal of a surface at (u, v)."""
    o, a, b = row(frame, 0), row(frame, 1), row(frame, 2)
    if kind == RECTANGLE or kind == ELLIPSE:
        n = cross(a, b)
        p = (o[0] + u * a[0] + v * b[0], o[1] + u * a[1] + v * b[1], o[2] + u * a[2] + v * b[2])
    else:
        c = cross(b, a)
        size_b = np.sqrt(dot(b, b))
        cosine, sine = np.cos((u - 0.5) * 2 * np.pi), np.sin((u - 0.5) * 2 * np.pi) / size_b
        n = (cosine * a[0] + sine * c[0], cosine * a[1] + sine * c[1], cosine * a[2] + sine * c[2])
        up = v
        if kind == SPHERE:
            up, flat = np.sin((v - 0.5) * np.pi), np.cos((v - 0.5) * np.pi)
            n = (flat * n[0] + up * b[0], flat * n[1] + up * b[1], flat * n[2] + up * b[2])
            p = (o[0] + n[0], o[1] + n[1], o[2] + n[2])
        else:
            p = (o[0] + n[0] + up * b[0], o[1] + n[1] + up * b[1], o[2] + n[2] + up * b[2])
    size = np.sqrt(dot(n, n))
    n = (n[0] / size, n[1] / size, n[2] / size)
    return (p[0] + 0.002 * n[0], p[1] + 0.002 * n[1], p[2] + 0.002 * n[2]), n


# ---- one ray and all surfaces --------------------------------------------------------------------


@inlined
def nearest(room, p, d, far):
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
            t, u, v = intersect(room.kind[s], room.frame[s], p, d)
            if t > 1e-4 and t < best and inside(room.kind[s], u, v):
                best, hit, hit_u, hit_v = t, s, u, v
        node += 1
    return best, hit, hit_u, hit_v
