"""Draws a room of textured surfaces with baked light, exactly and fast enough to render while mapping.

Texture is filtered from a mip pyramid. Texture bytes t and image bytes are square roots of light:
light = (t / 255)².
"""

from __future__ import annotations

import numpy as np

from dsac.rooms.compiled import compiled, inlined
from dsac.rooms.light import light_at
from dsac.rooms.mipmaps import texel
from dsac.rooms.surfaces import Room, dot
from dsac.rooms.visibility import View, measure_depth, meet, ray, see, visible_surfaces

# the pixel's centre, and four points around it of which no two share a row or a column
_SAMPLES = np.array([[0.5, 0.5], [0.375, 0.125], [0.875, 0.375], [0.625, 0.875], [0.125, 0.625]])


def render_light(room: Room, views: list[View]) -> np.ndarray:
    """The light (H, W, 3) float32 of a photo: of one view, anti-aliased, or the mean over a moving shutter."""
    still = len(views) == 1
    width, height = views[0].size
    light = np.zeros((height, width, 3), np.float32)
    for i, view in enumerate(views):
        points = _SAMPLES if still else _SAMPLES[i % len(_SAMPLES)][None]
        seen = see(room, view)
        surfaces = np.stack([visible_surfaces(seen, point) for point in points])
        _shade(room, seen, points, surfaces, 1 / (len(points) * len(views)), light)
    return light


def render_depth(room: Room, view: View) -> np.ndarray:
    """Depth (H, W) float32 in metres along the optical axis, at the pixel centres."""
    seen = see(room, view)
    surface = visible_surfaces(seen, _SAMPLES[0])
    depth = np.empty(surface.shape, np.float32)
    measure_depth(seen, _SAMPLES[0], surface, depth)
    return depth


def develop(light: np.ndarray, exposure: float, noise: np.ndarray) -> np.ndarray:
    """The 8-bit image of a photo: exposure, a filmic tone curve, sensor noise (H, W, 3) in grey levels."""
    image = np.empty(light.shape, np.uint8)
    _develop(light, exposure, noise, image)
    return image


# ---- colour --------------------------------------------------------------------------------------


@inlined
def _colour(room, seen, s, d):
    """Light that the surface s of those seen sends back along the ray of direction d."""
    t, u, v = meet(seen, s, d)
    r = seen.surface[s]
    # texels per pixel; a flat surface seen at an angle has more of them along the line of sight
    fine = 0.8 * room.grain[r] * t / seen.camera.focal_px
    slant = np.sqrt(dot(d, d)) * t / seen.facing[s] if seen.facing[s] > 0 else 1.0
    level = 0.5 * np.log2(max(fine * fine * min(slant, 6.0), 1.0))
    k = min(int(level), 10)
    blend = np.float32(min(level - k, 1.0))
    x, y = room.window[r, 0] + u * room.window[r, 2], room.window[r, 1] + v * room.window[r, 3]
    p = texel(room.texels, room.levels, room.texture[r], k, x, y)
    q = texel(room.texels, room.levels, room.texture[r], k + 1, x, y)
    light = light_at(room, r, u, v)
    scale = np.float32(1 / 255)
    e = room.emission[r]
    red = (p[0] + blend * (q[0] - p[0])) * scale
    green = (p[1] + blend * (q[1] - p[1])) * scale
    blue = (p[2] + blend * (q[2] - p[2])) * scale
    return red * red * (light[0] + e), green * green * (light[1] + e), blue * blue * (light[2] + e)


@compiled
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
                    d = ray(seen.camera, x + points[i, 0], y + points[i, 1])
                    red, green, blue = _colour(room, seen, s, d)
                    light[y, x, 0] += share * red
                    light[y, x, 1] += share * green
                    light[y, x, 2] += share * blue


@compiled
def _develop(light, exposure, noise, image):
    for y in range(light.shape[0]):
        for x in range(light.shape[1]):
            for c in range(3):
                e = np.float32(exposure) * light[y, x, c]
                e = e * (np.float32(1) + e * np.float32(0.25)) / (np.float32(1) + e)  # white at 4
                grey = np.float32(255) * np.sqrt(e) + noise[y, x, c] + np.float32(0.5)
                image[y, x, c] = np.uint8(min(max(grey, np.float32(0)), np.float32(255)))
