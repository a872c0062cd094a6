"""What stands outdoors, painted by rules: fronts of houses, pavings, foliage, the sky.

RGB uint8 arrays (height, width, 3), like `textures.py`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from dsac.rooms.brushes import (
    CREAM,
    INK,
    Colour,
    any_colour,
    blend,
    noise,
    tinted,
    to_bytes,
    to_colour,
    words,
    write,
)


def house_front(rng: Generator, storeys: int, windows: int, plaster: Colour) -> np.ndarray:
    """Storeys of equal windows, some with shutters, blinds or a balcony, over a row of shops."""
    tall, wide = 60, 44
    height, width = tall * (storeys + 1), wide * windows
    stains = noise(rng, (height, width), (3, 5), 6) - 0.5
    image = tinted(plaster, 0.35 * stains)
    frame, shutter = to_colour(0.75 * np.array(plaster)), any_colour(rng)
    with_shutters = rng.random() < 0.5
    for storey in range(storeys):
        top = tall * storey
        cv2.line(image, (0, top + 2), (width, top + 2), frame, 2)
        for column in range(windows):
            left = wide * column
            _window(rng, image[top + 12 : top + 50, left + 12 : left + 32], frame)
            if with_shutters and rng.random() < 0.8:
                for x in (left + 4, left + 33):
                    cv2.rectangle(image, (x, top + 12), (x + 7, top + 49), shutter, -1)
                    for y in range(top + 14, top + 49, 4):
                        cv2.line(image, (x, y), (x + 7, y), to_colour(0.7 * np.array(shutter)), 1)
            if rng.random() < 0.12:  # a balcony
                cv2.rectangle(image, (left + 2, top + 44), (left + wide - 3, top + 58), INK, 1)
                for x in range(left + 2, left + wide - 2, 4):
                    cv2.line(image, (x, top + 44), (x, top + 58), INK, 1)
    _shops(rng, image[tall * storeys :])
    return image


def _window(rng: Generator, image: np.ndarray, frame: Colour) -> None:
    height, width = image.shape[:2]
    shine = np.linspace(rng.uniform(0, 0.4), rng.uniform(0.3, 1), height)[:, None] * np.ones((1, width))
    image[:] = blend((40, 48, 58), (138, 160, 178), shine)
    kind = rng.random()
    if kind < 0.25:  # blinds, let down halfway
        image[: int(rng.integers(8, height - 4))] = (206, 200, 186)
    elif kind < 0.45:
        image[:, : width // 3] = to_colour(np.array(CREAM) * rng.uniform(0.6, 1))
        image[:, -width // 3 :] = image[:, :1]
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), frame, 2)
    cv2.line(image, (width // 2, 0), (width // 2, height), frame, 1)
    cv2.line(image, (0, height // 3), (width, height // 3), frame, 1)


def _shops(rng: Generator, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    panes = blend((36, 40, 46), (120, 130, 132), noise(rng, (height, width), (4, 12), 4))
    x = 0
    while x < width:
        stop = min(width, x + int(rng.integers(70, 150)))
        image[:, x:stop] = any_colour(rng)
        image[16:, x + 5 : stop - 5] = panes[16:, x + 5 : stop - 5]
        write(image, words(rng, 1).upper(), (x + 8, 13), 0.42, CREAM)
        x = stop


def concrete_front(rng: Generator, storeys: int, windows: int) -> np.ndarray:
    """An office block far away: bands of windows, each of its own brightness."""
    shade = 0.35 + 0.65 * rng.random((storeys, windows))
    panes = np.kron(shade, np.pad(np.ones((9, 11)), ((5, 2), (2, 1))))[..., None]
    wall = tinted(to_colour(rng.uniform(140, 205) + rng.normal(0, 10, 3)), np.zeros(panes.shape[:2]))
    return to_bytes(np.where(panes > 0, panes * np.array((104, 128, 150)), wall))


def paving(rng: Generator, size: int = 640) -> np.ndarray:
    """Slabs of 40 texels' height and many lengths, with joints and stains, in a running pattern."""
    image = np.zeros((size, size, 3), np.float32)
    for y in range(0, size, 40):
        x = -int(rng.integers(0, 60))
        while x < size:
            stop = x + int(rng.integers(40, 110))
            slab = np.array((178, 168, 150)) * rng.uniform(0.72, 1.1) + rng.normal(0, 6, 3)
            image[y : y + 38, max(x, 0) : max(stop - 2, 0)] = slab
            x = stop
    return to_bytes(image * (1 + 0.4 * (noise(rng, (size, size), (6, 6), 7) - 0.5))[..., None])


def foliage(rng: Generator, green: Colour, size: int = 256) -> np.ndarray:
    """A crown or a hedge from some way off: dabs of light and dark leaves."""
    image = tinted(to_colour(0.5 * np.array(green)), 0.5 * (noise(rng, (size, size), (8, 8), 4) - 0.5))
    for _ in range(900):
        at = int(rng.integers(size)), int(rng.integers(size))
        leaf = to_colour(np.array(green) * rng.uniform(0.6, 1.5))
        axes = int(rng.integers(3, 8)), int(rng.integers(2, 4))
        cv2.ellipse(image, at, axes, float(rng.uniform(0, 180)), 0, 360, leaf, -1)
    return image


def wooded_hill(rng: Generator) -> np.ndarray:
    """Woods and meadows in the haze."""
    woods = blend((96, 118, 112), (150, 168, 150), noise(rng, (384, 768), (12, 24), 6))
    meadow = noise(rng, (384, 768), (6, 14), 3)
    woods[meadow > 0.6] = (0.4 * woods[meadow > 0.6] + 0.6 * np.array((176, 184, 140))).astype(np.uint8)
    return woods


def roof_tiles(rng: Generator) -> np.ndarray:
    image = tinted((150, 78, 58), 0.5 * (noise(rng, (160, 320), (10, 20), 5) - 0.5))
    for y in range(0, 160, 10):
        cv2.line(image, (0, y), (320, y), (88, 46, 38), 2)
        for x in range(5 * (y // 10 % 2), 320, 10):
            cv2.line(image, (x, y), (x, y + 10), (112, 60, 46), 1)
    return image


def clear_sky(rng: Generator) -> np.ndarray:
    """A whole sphere, the zenith at the first row: blue, paler towards the horizon, veils of cloud."""
    height, width = 256, 512
    image = blend(
        (150, 190, 235), (236, 240, 240), np.linspace(0, 2, height).clip(0, 1)[:, None] * np.ones((1, width))
    )
    veils = np.clip(noise(rng, (height, width), (4, 6), 3) - 0.55, 0, 1)[..., None]
    return to_bytes(image + (250 - image) * veils)
