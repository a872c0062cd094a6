"""Posters and prints, painted by rules: RGB uint8 arrays (height, width, 3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from dsac.rooms.brushes import (
    CREAM,
    INK,
    PALETTE,
    SMOOTH,
    any_colour,
    blend,
    bordered,
    noise,
    ridges,
    tinted,
    to_colour,
    to_pixel,
    words,
    write,
)


def poster_city_map(rng: Generator) -> np.ndarray:
    """Streets at three scales, a river, parks, names."""
    height, width = 840, 600
    image = np.full((height, width, 3), (240, 234, 220), np.uint8)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    bend = 70 * (noise(rng, (height, width), (2, 2), 2) - 0.5)
    for pitch, thickness, colour, angle in (
        (17, 1, (214, 206, 190), 0.35), (23, 1, (214, 206, 190), 1.9), (70, 3, (230, 190, 120), 0.35),
        (94, 3, (230, 190, 120), 1.9), (260, 6, (204, 106, 84), 1.1),
    ):  # fmt: skip
        across = (x * np.cos(angle) + y * np.sin(angle) + bend) % pitch
        image[across < thickness + 0.5] = colour
    parks = noise(rng, (height, width), (5, 4), 3)
    image[parks > 0.68] = (0.55 * image[parks > 0.68] + 0.45 * np.array((120, 170, 100))).astype(np.uint8)
    river = np.abs(y - 0.55 * height + 160 * np.sin(x / 130) + 2 * bend)
    image[river < 26] = (136, 178, 204)
    image[np.abs(river - 26) < 1.5] = (84, 124, 156)
    for _ in range(70):
        at = (int(rng.integers(10, width - 90)), int(rng.integers(20, height - 120)))
        write(image, words(rng, 1).title(), at, 0.38, (70, 66, 74))
    for _ in range(40):
        at = (int(rng.integers(10, width - 10)), int(rng.integers(20, height - 120)))
        cv2.circle(image, at, 4, any_colour(rng), -1, SMOOTH)
    cv2.rectangle(image, (0, height - 100), (width, height), CREAM, -1)
    write(image, words(rng, 1).upper(), (30, height - 42), 1.9, INK, 4)
    write(image, "scale 1 : 12 500     " + words(rng, 4), (32, height - 18), 0.45, (110, 100, 96))
    return bordered(image, CREAM, 16)


def poster_mountains(rng: Generator) -> np.ndarray:
    height, width = 620, 880
    image = blend((244, 190, 130), (96, 130, 168), np.linspace(1, 0, height)[:, None] * np.ones((1, width)))
    cv2.circle(image, (620, 190), 62, (252, 236, 196), -1, SMOOTH)
    for radius in range(74, 150, 12):
        cv2.circle(image, (620, 190), radius, (250, 214, 166), 1, SMOOTH)
    ridges(rng, image, 220, 6)
    for _ in range(260):
        x, y = int(rng.integers(0, width)), int(rng.integers(500, height))
        tall = int((y - 440) * 0.35)
        green = to_colour(np.array((28, 52, 48)) * (0.8 + 0.5 * rng.random()))
        cv2.fillPoly(image, [np.array([[x, y - tall], [x - tall // 4, y], [x + tall // 4, y]])], green, SMOOTH)
    write(image, "NATIONAL PARK", (30, 66), 1.6, CREAM, 4)
    write(image, words(rng, 5), (34, 96), 0.6, CREAM)
    return bordered(image, (248, 244, 232), 20)


def poster_geometric(rng: Generator) -> np.ndarray:
    """Quarter discs, rings and bars in a grid."""
    cell, rows, columns = 90, 8, 6
    image = np.full((rows * cell, columns * cell, 3), CREAM, np.uint8)
    for row in range(rows):
        for column in range(columns):
            tile = np.full((cell, cell, 3), any_colour(rng), np.uint8)
            ink, other = any_colour(rng), any_colour(rng)
            kind = int(rng.integers(5))
            if kind == 0:
                cv2.circle(tile, (0, 0), cell, ink, -1, SMOOTH)
                cv2.circle(tile, (0, 0), cell // 2, other, -1, SMOOTH)
            elif kind == 1:
                for radius, colour in ((42, ink), (30, other), (16, ink)):
                    cv2.circle(tile, (45, 45), radius, colour, -1, SMOOTH)
            elif kind == 2:
                for x in range(0, cell, 18):
                    cv2.rectangle(tile, (x, 0), (x + 8, cell), ink, -1)
            elif kind == 3:
                cv2.fillPoly(tile, [np.array([[0, 0], [cell, 0], [0, cell]])], ink, SMOOTH)
                cv2.circle(tile, (60, 60), 14, other, -1, SMOOTH)
            else:
                for y in range(9, cell, 18):
                    for x in range(9, cell, 18):
                        cv2.circle(tile, (x, y), 5, ink, -1, SMOOTH)
            tile = np.rot90(tile, int(rng.integers(4)))
            image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = tile
    return bordered(image, (246, 242, 232), 30)


def poster_star_chart(rng: Generator) -> np.ndarray:
    size = 720
    image = blend((18, 26, 54), (34, 46, 84), noise(rng, (size, size), (3, 3), 4))
    middle, gold = (size // 2, size // 2), (214, 186, 120)
    for radius in range(60, 341, 56):
        cv2.circle(image, middle, radius, (84, 100, 140), 1, SMOOTH)
    cv2.circle(image, middle, 342, gold, 3, SMOOTH)
    for i in range(72):
        direction = np.array([np.cos(i * np.pi / 36), np.sin(i * np.pi / 36)])
        ends = [to_pixel(middle + r * direction) for r in ((60, 340) if i % 6 == 0 else (330, 340))]
        cv2.line(image, ends[0], ends[1], (84, 100, 140) if i % 6 == 0 else gold, 1, SMOOTH)
    for _ in range(600):
        at = to_pixel(middle + rng.normal(0, 150, 2))
        cv2.circle(image, at, int(rng.choice([0, 1, 1, 2])), (230, 230, 214), -1, SMOOTH)
    for _ in range(26):
        stars = (middle + rng.normal(0, 130, 2) + np.cumsum(rng.normal(0, 26, (5, 2)), 0)).astype(int)
        cv2.polylines(image, [stars.astype(np.int32)], False, (150, 170, 206), 1, SMOOTH)
        for star in stars:
            cv2.circle(image, to_pixel(star), 4, (252, 244, 214), -1, SMOOTH)
        write(image, words(rng, 1), to_pixel(stars[0] + 8), 0.42, gold)
    return bordered(image, (18, 26, 54), 24)


def poster_type(rng: Generator) -> np.ndarray:
    """A type specimen: one huge letter pair, lines of every size."""
    image = np.full((820, 580, 3), (236, 226, 204), np.uint8)
    cv2.rectangle(image, (0, 0), (580, 330), (190, 58, 44), -1)
    cv2.putText(image, "Rg", (60, 270), cv2.FONT_HERSHEY_TRIPLEX, 9, CREAM, 26, SMOOTH)
    y = 380
    for scale in (1.5, 1.1, 0.9, 0.7, 0.6, 0.5, 0.45, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4):
        write(image, words(rng, 12), (28, y), scale, INK, 2 if scale > 0.8 else 1)
        y += int(26 * scale) + 14
    return bordered(image, (236, 226, 204), 14)


def poster_fern(rng: Generator) -> np.ndarray:
    """A botanical plate: fronds of leaflets on paper, with a caption."""
    image = tinted((238, 232, 214), (noise(rng, (760, 540), (10, 8), 5) - 0.5) * 0.08)
    for base, angle, length in (((270, 640), -1.57, 520), ((250, 640), -2.0, 400), ((290, 640), -1.1, 400)):
        green = to_colour(np.array((70, 106, 64)) * (0.8 + 0.4 * rng.random()))
        point = np.array(base, float)
        for step in np.linspace(1, 0.05, 44):
            point = point + length / 44 * np.array([np.cos(angle), np.sin(angle)])
            angle += rng.normal(0, 0.012) + 0.006 * np.sign(np.cos(angle))
            for side in (-1, 1):
                tilt = angle + side * 1.1
                reach = 74 * np.sqrt(step) * min(1.0, 3 * (1.05 - step)) * length / 520
                center = point + reach / 2 * np.array([np.cos(tilt), np.sin(tilt)])
                cv2.ellipse(
                    image,
                    to_pixel(center),
                    (int(reach / 2) + 1, 4),
                    np.degrees(tilt),
                    0,
                    360,
                    green,
                    -1,
                    SMOOTH,
                )
        cv2.line(image, base, to_pixel(point), (86, 70, 50), 2, SMOOTH)
    write(image, words(rng, 2).capitalize(), (150, 710), 0.9, INK, 2)
    return bordered(image, (238, 232, 214), 20)


def print_arcs() -> np.ndarray:
    """The picture that hangs on the brick wall several times."""
    image = np.full((300, 220, 3), (240, 234, 222), np.uint8)
    for i, radius in enumerate(range(150, 20, -22)):
        cv2.circle(image, (110, 200), radius, PALETTE[(3 * i + 2) % len(PALETTE)], -1, SMOOTH)
    cv2.rectangle(image, (0, 200), (220, 300), (40, 75, 99), -1)
    for y in range(212, 300, 14):
        cv2.line(image, (0, y), (220, y), (134, 178, 182), 3)
    cv2.circle(image, (160, 60), 26, (196, 62, 48), -1, SMOOTH)
    return bordered(image, (250, 248, 242), 26)
