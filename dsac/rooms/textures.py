"""Materials and things, painted by rules: RGB uint8 arrays (height, width, 3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from dsac.rooms.brushes import (
    CREAM,
    INK,
    PALETTE,
    SMOOTH,
    Colour,
    any_colour,
    barcode,
    blend,
    diamond,
    noise,
    ridges,
    tinted,
    to_bytes,
    to_colour,
    words,
    write,
)

# ---- materials, which repeat ---------------------------------------------------------------------


def plain(colour: Colour) -> np.ndarray:
    return np.full((4, 4, 3), colour, np.uint8)


def speckled(rng: Generator, colour: Colour, contrast: float, size: int = 256) -> np.ndarray:
    """Paint, plaster, stone, skin of a fruit: one colour with fine irregularities."""
    return tinted(colour, (noise(rng, (size, size), (8, 8), 5) - 0.5) * contrast)


def wood(rng: Generator, light: Colour, dark: Colour, size: tuple[int, int] = (256, 512)) -> np.ndarray:
    """Grain along the width: warped rings with pores."""
    height, width = size
    slow = noise(rng, size, (3, 1), 3)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (7 * slow + 2 * np.arange(height)[:, None] / height))
    fibres = noise(rng, size, (height // 4, 4), 2)
    return blend(light, dark, np.clip(0.55 * rings + 0.55 * fibres - 0.1, 0, 1))


def floor_boards(rng: Generator, size: tuple[int, int] = (1360, 1700)) -> np.ndarray:
    """Oak boards 12 cm wide along x, at 3 mm a texel; every board its own piece of tree."""
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    grain = wood(rng, (196, 154, 108), (150, 106, 68), (512, 2048)).astype(np.float32)
    for top in range(0, height, 40):
        left = -int(rng.integers(0, 300))
        while left < width:
            length = int(rng.integers(300, 560))
            y, x = int(rng.integers(0, 512 - 40)), int(rng.integers(0, 2048 - length))
            board = grain[y : y + 40, x : x + length] * (0.86 + 0.26 * rng.random())
            board = board * (1 + rng.normal(0, 0.02, 3))
            board[-1:] *= 0.5
            board[:, -1:] *= 0.5
            start, stop = max(left, 0), min(left + length, width)
            rows = min(40, height - top)
            piece = board[:rows, start - left : stop - left]
            image[top : top + rows, start:stop] = np.clip(piece, 0, 255)
            left += length
    return image


def bricks(rng: Generator) -> np.ndarray:
    """One piece of brick wall, 1.0 m × 0.6 m, that repeats exactly."""
    height, width, rows, columns = 360, 600, 8, 4
    image = tinted((176, 166, 152), (noise(rng, (height, width), (30, 50), 3) - 0.5) * 0.25).astype(np.float32)
    grit = (noise(rng, (height, width), (24, 40), 4) - 0.5)[..., None]
    tall, wide = height // rows, width // columns
    for row in range(rows):
        for column in range(columns):
            colour = np.array((166, 84, 62)) * (0.8 + 0.4 * rng.random()) + rng.normal(0, 7, 3)
            brick = np.zeros((tall, wide), np.float32)
            cv2.rectangle(brick, (4, 4), (wide - 4, tall - 4), 1.0, -1)
            brick = cv2.GaussianBlur(brick, (0, 0), 1.2)
            mask = np.zeros((height, width), np.float32)
            mask[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide] = brick
            mask = np.roll(mask, (row % 2) * wide // 2, axis=1)[..., None]
            image = image * (1 - mask) + mask * colour * (1 + 0.5 * grit)
    return to_bytes(image)


def weave(rng: Generator, colour: Colour, size: int = 256) -> np.ndarray:
    """Upholstery: threads over and under, slightly mottled."""
    y, x = np.mgrid[:size, :size]
    threads = np.sin(2 * np.pi * x / 8) * np.sin(2 * np.pi * y / 8)
    return tinted(colour, 0.07 * threads + 0.22 * (noise(rng, (size, size), (8, 8), 5) - 0.5))


def stripes(colours: list[Colour], widths: list[int], height: int = 64) -> np.ndarray:
    row = np.concatenate([np.tile(np.array(c), (w, 1)) for c, w in zip(colours, widths, strict=True)])
    return np.tile(row.astype(np.uint8), (height, 1, 1))


def radiator_ribs() -> np.ndarray:
    return stripes([(214, 214, 210), (236, 236, 232), (196, 196, 192), (120, 122, 124)], [10, 26, 10, 8])


def terrazzo(rng: Generator, colour: Colour, tiles: int = 2, size: int = 512) -> np.ndarray:
    """Chips of stone in cement, in square tiles of which each is a little lighter or darker."""
    image = tinted(colour, 0.2 * (noise(rng, (size, size), (8, 8), 5) - 0.5))
    for _ in range(3 * size):
        at, chip = (int(rng.integers(size)), int(rng.integers(size))), rng.uniform(0.55, 1.35)
        axes = int(rng.integers(1, 6)), int(rng.integers(1, 4))
        cv2.ellipse(image, at, axes, float(rng.uniform(0, 180)), 0, 360, to_colour(chip * np.array(colour)), -1)
    side = size // tiles
    shade = np.kron(rng.uniform(0.92, 1.06, (tiles, tiles)), np.ones((side, side)))
    joints = np.minimum(np.arange(size) % side > 1, 1)
    return to_bytes(image * (shade * (0.6 + 0.4 * np.outer(joints, joints)))[..., None])


def ceiling_tiles(rng: Generator) -> np.ndarray:
    """Two by two mineral tiles with pores, in rails."""
    image = tinted((226, 226, 222), 0.06 * (noise(rng, (256, 256), (16, 16), 4) - 0.5))
    for _ in range(1400):
        image[int(rng.integers(256)), int(rng.integers(256))] = (168, 168, 166)
    for i in (0, 128):
        image[i : i + 4], image[:, i : i + 4] = (196, 198, 200), (196, 198, 200)
    return image


def cardboard(rng: Generator) -> np.ndarray:
    """One side of a parcel: tape, label, arrows, flutes."""
    image = tinted((186, 145, 98), (noise(rng, (320, 400), (4, 60), 4) - 0.5) * 0.12)
    cv2.rectangle(image, (0, 140), (400, 176), (206, 180, 134), -1)
    x, y = int(rng.integers(20, 160)), int(rng.integers(190, 215))
    cv2.rectangle(image, (x, y), (x + 190, y + 96), (240, 238, 230), -1)
    for i in range(5):
        write(image, words(rng, 3), (x + 8, y + 16 + 11 * i), 0.34, INK)
    barcode(rng, image, (x + 8, y + 70), (120, 20))
    for left in (30, 330):
        x = np.array([0, 0, -14, 10, 34, 20, 20]) + left
        arrow = np.column_stack([x, [110, 60, 60, 25, 60, 60, 110]])
        cv2.fillPoly(image, [arrow], (96, 66, 44), SMOOTH)
    write(image, "FRAGILE", (110, 90), 1.3, (150, 52, 40), 3)
    return image


# ---- objects -------------------------------------------------------------------------------------


def book_spines(rng: Generator, count: int = 48) -> np.ndarray:
    """Spines side by side, 48 texels wide and 384 high each."""
    image = np.zeros((384, 48 * count, 3), np.uint8)
    for i in range(count):
        base = np.array(PALETTE[int(rng.integers(len(PALETTE)))]) * (0.7 + 0.5 * rng.random())
        spine = tinted(to_colour(base), (noise(rng, (384, 48), (24, 3), 4) - 0.5) * 0.15)
        trim = to_colour(np.clip(255 - base, 60, 230) if rng.random() < 0.4 else np.array((232, 214, 170)))
        for y in (24, 32, 350, 358)[int(rng.integers(0, 2)) :]:
            cv2.line(spine, (0, y), (48, y), trim, int(rng.integers(1, 4)))
        title = np.ascontiguousarray(np.rot90(spine[46:330], 1))
        cv2.rectangle(
            title, (10, 8), (150 + int(rng.integers(0, 100)), 40), trim, -1 if rng.random() < 0.3 else 1
        )
        ink = INK if rng.random() < 0.4 else CREAM
        write(title, words(rng, 2).upper(), (14, 32), 0.8, ink, 2)
        write(title, words(rng, 1), (210, 16), 0.4, ink)
        spine[46:330] = np.rot90(title, -1)
        cv2.circle(spine, (24, 340), 7, trim, 1, SMOOTH)
        shade = 1 - 0.35 * np.abs(np.linspace(-1, 1, 48)) ** 3
        image[:, 48 * i : 48 * (i + 1)] = to_bytes(spine * shade[:, None])
    return image


def page_edges(rng: Generator) -> np.ndarray:
    return tinted((226, 214, 188), (noise(rng, (64, 256), (32, 1), 2) - 0.5) * 0.3)


def magazine(rng: Generator) -> np.ndarray:
    image = blend(any_colour(rng), any_colour(rng), np.linspace(0, 1, 320)[:, None] * np.ones((1, 240)))
    write(image, words(rng, 1).upper()[:7], (10, 52), 1.9, CREAM, 4)
    cv2.circle(image, (130, 180), 70, any_colour(rng), -1, SMOOTH)
    ridges(rng, image, 190, 3)
    for i in range(6):
        write(image, words(rng, 3), (12, 90 + 13 * i), 0.38, CREAM)
    barcode(rng, image, (170, 285), (56, 26))
    return image


def code_screen(rng: Generator) -> np.ndarray:
    """A laptop's screen with an editor: fine light text on dark."""
    image = np.full((360, 560, 3), (30, 33, 40), np.uint8)
    cv2.rectangle(image, (0, 0), (560, 20), (52, 56, 66), -1)
    inks = [(152, 195, 121), (97, 175, 239), (229, 192, 123), (198, 120, 221), (171, 178, 191)]
    for row in range(24):
        x = 30 + 18 * int(rng.integers(0, 5))
        write(image, str(row + 1), (6, 38 + 13 * row), 0.33, (92, 99, 112))
        for _ in range(int(rng.integers(1, 5))):
            word = words(rng, 1)
            write(image, word, (x, 38 + 13 * row), 0.38, inks[int(rng.integers(5))])
            x += 9 * len(word) + 6
    return image


def keyboard() -> np.ndarray:
    image = np.full((240, 360, 3), (172, 174, 178), np.uint8)
    for row in range(5):
        for column in range(13):
            x, y = 20 + 25 * column, 14 + 25 * row
            cv2.rectangle(image, (x, y), (x + 20, y + 20), (46, 48, 54), -1, SMOOTH)
            write(image, chr(65 + (7 * row + 3 * column) % 26), (x + 6, y + 14), 0.35, (220, 220, 220))
    cv2.rectangle(image, (120, 150), (240, 225), (152, 154, 158), -1)
    return image


def globe(rng: Generator) -> np.ndarray:
    """Sea, land and a graticule; longitude along the width, the north pole at the first row."""
    height, width = 384, 768
    land = noise(rng, (height, width), (4, 8), 6)
    image = blend((58, 110, 150), (92, 150, 178), noise(rng, (height, width), (8, 16), 3))
    ground = blend((146, 160, 92), (196, 164, 108), noise(rng, (height, width), (12, 24), 4))
    image[land > 0.53] = ground[land > 0.53]
    image[np.abs(land - 0.53) < 0.008] = (84, 74, 58)
    for i in range(0, width, width // 24):
        cv2.line(image, (i, 0), (i, height), (210, 214, 206), 1)
    for i in range(0, height, height // 12):
        cv2.line(image, (0, i), (width, i), (210, 214, 206), 1)
    for _ in range(60):
        at = (int(rng.integers(width - 80)), int(rng.integers(60, height - 60)))
        write(image, words(rng, 1), at, 0.4, INK)
        cv2.circle(image, at, 2, (180, 40, 30), -1, SMOOTH)
    return image


def leaf(rng: Generator) -> np.ndarray:
    """Midrib along the width, side veins."""
    image = blend((58, 118, 52), (96, 150, 66), noise(rng, (96, 192), (4, 8), 4))
    for x in range(-20, 190, 14):
        for side in (-1, 1):
            cv2.line(image, (x, 48), (x + 34, 48 + 46 * side), (126, 172, 92), 1, SMOOTH)
    cv2.line(image, (0, 48), (192, 48), (160, 196, 118), 3, SMOOTH)
    return image


def glazed_pot(rng: Generator, base: Colour, trim: Colour) -> np.ndarray:
    """A band of zigzag and dots around a vessel."""
    image = tinted(base, (noise(rng, (160, 480), (8, 24), 4) - 0.5) * 0.15)
    for y, thickness in ((30, 3), (120, 3), (136, 6)):
        cv2.line(image, (0, y), (480, y), trim, thickness)
    zigzag = np.array([[x, 50 if (x // 20) % 2 else 100] for x in range(0, 481, 20)])
    cv2.polylines(image, [zigzag], False, trim, 4, SMOOTH)
    for x in range(20, 480, 40):
        cv2.circle(image, (x, 96), 6, trim, -1, SMOOTH)
    return image


def rug(rng: Generator) -> np.ndarray:
    """A kilim, 2.4 m × 1.6 m at 2.5 mm a texel: borders and rows of diamonds, woven."""
    height, width = 640, 960
    red, navy, sand, teal = (150, 52, 44), (40, 48, 76), (216, 190, 150), (62, 112, 112)
    image = np.full((height, width, 3), red, np.uint8)
    for inset, colour in ((0, navy), (26, sand), (34, red), (70, navy), (78, sand), (84, teal)):
        cv2.rectangle(image, (inset, inset), (width - 1 - inset, height - 1 - inset), colour, -1)
    for x in range(40, width - 40, 30):
        for y in (52, height - 52):
            cv2.fillPoly(image, [diamond(x + 12, y, 11, 13)], sand if (x // 30) % 2 else navy)
    for y in range(100, height - 90, 30):
        for x in (52, width - 52):
            cv2.fillPoly(image, [diamond(x, y, 13, 11)], sand if (y // 30) % 2 else navy)
    inks = [red, navy, sand, (204, 130, 70)]
    for row, y in enumerate(range(155, height - 120, 82)):
        for column, x in enumerate(range(150, width - 110, 94)):
            k = int(rng.integers(4))
            for step, scale in enumerate((1.0, 0.72, 0.46, 0.2)):
                colour = inks[(k + step + row + column) % 4]
                cv2.fillPoly(image, [diamond(x, y, int(46 * scale), int(40 * scale))], colour)
    y, x = np.mgrid[:height, :width]
    knots = 0.05 * np.sin(2 * np.pi * x / 4) * np.sin(2 * np.pi * y / 4)
    mottle = 0.2 * (noise(rng, (height, width), (16, 24), 5) - 0.5)
    return to_bytes(image * (1 + knots + mottle)[..., None])


def cushion(rng: Generator) -> np.ndarray:
    image = np.full((256, 256, 3), any_colour(rng), np.uint8)
    ink = CREAM if rng.random() < 0.6 else INK
    for y in range(16, 256, 32):
        for x in range(16, 256, 32):
            cv2.circle(image, (x, y), 11, ink, 2, SMOOTH)
            cv2.fillPoly(image, [diamond(x, y, 5, 5)], any_colour(rng), SMOOTH)
    return to_bytes(image * (1 + 0.12 * (noise(rng, (256, 256), (16, 16), 4) - 0.5))[..., None])


def door() -> np.ndarray:
    """Two rows of panels with bevelled edges, 0.9 m × 2.05 m."""
    image = np.full((820, 360, 3), (226, 222, 212), np.uint8)
    for top, bottom in ((60, 330), (400, 760)):
        for left, right in ((45, 165), (195, 315)):
            for inset, shade in ((0, 188), (5, 240), (10, 206), (16, 226)):
                grey = (shade, shade - 3, shade - 12)
                cv2.rectangle(image, (left + inset, top + inset), (right - inset, bottom - inset), grey, -1)
    return image


def sky_view(rng: Generator) -> np.ndarray:
    """What stands outside the window: a hazy town under a bright sky."""
    height, width = 300, 450
    image = blend((150, 190, 232), (240, 240, 234), np.linspace(0, 1.2, height)[:, None] * np.ones((1, width)))
    clouds = np.clip(noise(rng, (height, width), (4, 3), 5) * 2.4 - 1.2, 0, 1)[..., None]
    image = to_bytes(image * (1 - clouds) + 255 * clouds)
    for layer, shade in enumerate((206, 182, 150)):
        for _ in range(12):
            x, wide = int(rng.integers(-20, width)), int(rng.integers(20, 60))
            top = int(height * (0.5 + 0.13 * layer) + rng.integers(-25, 25))
            tint = shade + rng.integers(-8, 8)
            cv2.rectangle(image, (x, top), (x + wide, height), to_colour(tint * np.array([1, 0.99, 1.02])), -1)
            for wy in range(top + 6, height, 12):
                for wx in range(x + 4, x + wide - 4, 9):
                    cv2.rectangle(
                        image, (wx, wy), (wx + 4, wy + 6), to_colour(tint * np.array([0.75, 0.8, 0.88])), -1
                    )
    return image
