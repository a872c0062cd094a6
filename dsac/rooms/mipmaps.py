"""Textures at all sizes, and their bilinear look-up."""

from __future__ import annotations

import cv2
import numpy as np

from dsac.rooms.compiled import inlined


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


@inlined
def texel(texels, levels, texture, level, u, v):
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
