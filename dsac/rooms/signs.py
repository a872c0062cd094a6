"""What is written up in houses, painted by rules: RGB uint8 arrays (height, width, 3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from dsac.rooms import posters
from dsac.rooms.brushes import CREAM, INK, SMOOTH, any_colour, bordered, noise, tinted, words, write


def poster(rng: Generator, kind: int) -> np.ndarray:
    """One of six, 3 : 4."""
    painters = (
        posters.poster_city_map,
        posters.poster_geometric,
        posters.poster_type,
        posters.poster_star_chart,
        posters.poster_fern,
        posters.poster_mountains,
    )
    return cv2.resize(painters[kind % 6](rng), (480, 640), interpolation=cv2.INTER_AREA)


def plate(number: str, name: str) -> np.ndarray:
    """A number and a name beside a door, 3 : 2."""
    image = np.full((160, 240, 3), (232, 232, 228), np.uint8)
    cv2.rectangle(image, (0, 0), (240, 14), (60, 84, 110), -1)
    write(image, number, (16, 92), 2.2, INK, 5)
    write(image, name, (16, 138), 0.9, (70, 70, 76), 2)
    return bordered(image, (150, 152, 156), 6)


def notice_board(rng: Generator) -> np.ndarray:
    """Sheets and cards pinned to cork, 4 : 3."""
    image = tinted((188, 148, 104), 0.35 * (noise(rng, (480, 640), (40, 54), 3) - 0.5))
    for row in range(2):
        for column in range(4):
            if rng.random() < 0.15:
                continue
            wide, tall = int(rng.integers(90, 140)), int(rng.integers(110, 190))
            x = 20 + 152 * column + int(rng.integers(0, 152 - wide))
            y = 20 + 222 * row + int(rng.integers(0, 222 - tall))
            _sheet(rng, image[y : y + tall, x : x + wide])
            cv2.circle(image, (x + wide // 2, y + 6), 5, any_colour(rng), -1, SMOOTH)
    return bordered(image, (120, 86, 56), 10)


def _sheet(rng: Generator, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    image[:] = any_colour(rng) if rng.random() < 0.3 else (242, 240, 232)
    ink = INK if image[0, 0].sum() > 380 else CREAM
    write(image, words(rng, 1).upper(), (8, 30), 0.6, ink, 2)
    picture = rng.random() < 0.5
    if picture:
        cv2.rectangle(image, (8, 40), (width - 8, height // 2 + 20), any_colour(rng), -1)
        cv2.circle(image, (width // 2, height // 4 + 30), 18, any_colour(rng), -1, SMOOTH)
    for y in range(height // 2 + 36 if picture else 46, height - 6, 12):
        write(image, words(rng, 3), (8, y), 0.33, ink)


def directory(rng: Generator, title: str) -> np.ndarray:
    """A large board at the entrance: who is where, 3 : 4."""
    image = np.full((800, 600, 3), (48, 66, 84), np.uint8)
    write(image, title, (36, 110), 2.4, CREAM, 6)
    cv2.rectangle(image, (36, 150), (564, 158), (226, 160, 60), -1)
    for i, y in enumerate(range(220, 780, 62)):
        write(image, f"{i}", (40, y), 1.3, (226, 160, 60), 3)
        write(image, words(rng, 2), (110, y), 1.1, CREAM, 2)
    return image


def whiteboard(rng: Generator) -> np.ndarray:
    """Boxes, arrows and words in coloured pens, 3 : 2."""
    image = np.full((480, 720, 3), (242, 244, 244), np.uint8)
    inks = [(34, 60, 150), (190, 40, 40), (30, 120, 70), INK]
    boxes = [(int(x), int(y)) for x in (60, 290, 520) for y in rng.integers(40, 330, 1)]
    for (x, y), (to_x, to_y) in zip(boxes, boxes[1:], strict=False):
        cv2.arrowedLine(image, (x + 150, y + 45), (to_x - 6, to_y + 45), inks[3], 3, SMOOTH, tipLength=0.1)
    for x, y in boxes:
        ink = inks[int(rng.integers(4))]
        cv2.rectangle(image, (x, y), (x + 150, y + 90), ink, 3, SMOOTH)
        write(image, words(rng, 1), (x + 14, y + 54), 0.8, ink, 2)
    for _ in range(9):
        at = int(rng.integers(30, 560)), int(rng.integers(30, 460))
        write(image, words(rng, 1), at, 0.7, inks[int(rng.integers(4))], 2)
    return bordered(image, (170, 172, 176), 10)


def floor_number(number: int) -> np.ndarray:
    """A large figure on a wall, square."""
    image = np.full((400, 400, 3), (226, 160, 60), np.uint8)
    write(image, f"{number}", (110, 320), 10.0, CREAM, 40)
    return image
