"""Brushes that textures and posters are painted with; images are RGB uint8 arrays (height, width, 3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

Colour = tuple[int, int, int]

SMOOTH = cv2.LINE_AA
INK: Colour = (38, 36, 42)
CREAM: Colour = (238, 229, 208)
PALETTE: list[Colour] = [
    (196, 62, 48), (227, 157, 52), (238, 205, 108), (60, 110, 113), (40, 75, 99),
    (116, 142, 84), (217, 120, 98), (92, 61, 76), (134, 178, 182), (52, 48, 60),
]  # fmt: skip


def noise(rng: Generator, size: tuple[int, int], cells: tuple[int, int], octaves: int) -> np.ndarray:
    """Smooth noise (height, width) float32 that fills [0, 1], repeats, and halves in every octave."""
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        ny, nx = cells[0] << octave, cells[1] << octave
        if ny > height or nx > width:
            break
        grid = np.pad(rng.random((ny, nx), np.float32), 2, mode="wrap")
        x = ((np.arange(width, dtype=np.float32) + 0.5) * (nx / width) + 1.5)[None].repeat(height, 0)
        y = ((np.arange(height, dtype=np.float32) + 0.5) * (ny / height) + 1.5)[:, None].repeat(width, 1)
        total += 0.5**octave * cv2.remap(grid, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC)
    return (total - total.min()) / (total.max() - total.min())


def tinted(colour: Colour, change: np.ndarray) -> np.ndarray:
    """One colour, brighter or darker by the relative `change` (h, w)."""
    return to_bytes(np.array(colour) * (1 + change[..., None]))


def blend(first: Colour, second: Colour, share: np.ndarray) -> np.ndarray:
    return to_bytes(np.array(first) + (np.array(second) - np.array(first)) * share[..., None])


def to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)


def to_colour(colour: np.ndarray) -> Colour:
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue


def to_pixel(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def any_colour(rng: Generator) -> Colour:
    return PALETTE[int(rng.integers(len(PALETTE)))]


def words(rng: Generator, count: int) -> str:
    syllables = [
        "ra",
        "no",
        "ke",
        "lu",
        "mi",
        "sto",
        "ven",
        "da",
        "pol",
        "ti",
        "gra",
        "sen",
        "bo",
        "rin",
        "mar",
        "el",
    ]
    chosen = [[syllables[i] for i in rng.integers(0, len(syllables), rng.integers(2, 4))] for _ in range(count)]
    return " ".join("".join(word) for word in chosen)


def write(
    image: np.ndarray, text: str, at: tuple[int, int], scale: float, colour: Colour, thickness: int = 1
) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, SMOOTH)


def diamond(x: int, y: int, a: int, b: int) -> np.ndarray:
    return np.array([[x - a, y], [x, y - b], [x + a, y], [x, y + b]])


def bordered(image: np.ndarray, colour: Colour, width: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, width, width, width, width, cv2.BORDER_CONSTANT, value=colour)


def barcode(rng: Generator, image: np.ndarray, at: tuple[int, int], size: tuple[int, int]) -> None:
    cv2.rectangle(image, at, (at[0] + size[0], at[1] + size[1]), (250, 250, 250), -1)
    for x in range(at[0] + 3, at[0] + size[0] - 3, 3):
        if rng.random() < 0.55:
            cv2.rectangle(
                image, (x, at[1] + 2), (x + int(rng.integers(1, 3)), at[1] + size[1] - 2), (20, 20, 20), -1
            )


def ridges(rng: Generator, image: np.ndarray, top: int, count: int) -> None:
    """Mountain ranges, each darker and nearer than the one before."""
    height, width = image.shape[:2]
    for layer in range(count):
        level = top + (height - top) * layer / count
        line = level + 170 / (1 + 0.4 * layer) * (noise(rng, (8, width), (1, 3), 6)[4] - 0.4)
        shade = np.array((128, 140, 168)) * (1 - 0.75 * layer / count) + np.array((10, 12, 8))
        edge = np.column_stack([np.arange(width), line]).astype(np.int32)
        outline = np.concatenate([edge, [[width, height], [0, height]]]).astype(np.int32)
        cv2.fillPoly(image, [outline], to_colour(shade), SMOOTH)
        for x in range(0, width, 9):
            drop = int(rng.integers(6, 40))
            start = (x, int(line[x]) + 2)
            cv2.line(image, start, (x + drop // 2, start[1] + drop), to_colour(shade * 1.18), 1, SMOOTH)
