"""The materials and pictures of the synthetic room, painted by rules: RGB uint8 arrays (height, width, 3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

Colour = tuple[int, int, int]

_AA = cv2.LINE_AA
_INK: Colour = (38, 36, 42)
_CREAM: Colour = (238, 229, 208)
PALETTE: list[Colour] = [
    (196, 62, 48), (227, 157, 52), (238, 205, 108), (60, 110, 113), (40, 75, 99),
    (116, 142, 84), (217, 120, 98), (92, 61, 76), (134, 178, 182), (52, 48, 60),
]  # fmt: skip


# ---- materials, which repeat ---------------------------------------------------------------------


def plain(colour: Colour) -> np.ndarray:
    return np.full((4, 4, 3), colour, np.uint8)


def speckled(rng: Generator, colour: Colour, contrast: float, size: int = 256) -> np.ndarray:
    """Paint, plaster, stone, skin of a fruit: one colour with fine irregularities."""
    return _mix(colour, (noise(rng, (size, size), (8, 8), 5) - 0.5) * contrast)


def wood(rng: Generator, light: Colour, dark: Colour, size: tuple[int, int] = (256, 512)) -> np.ndarray:
    """Grain along the width: warped rings with pores."""
    height, width = size
    slow = noise(rng, size, (3, 1), 3)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (7 * slow + 2 * np.arange(height)[:, None] / height))
    fibres = noise(rng, size, (height // 4, 4), 2)
    return _between(light, dark, np.clip(0.55 * rings + 0.55 * fibres - 0.1, 0, 1))


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
    image = _mix((176, 166, 152), (noise(rng, (height, width), (30, 50), 3) - 0.5) * 0.25).astype(np.float32)
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
    return _bytes(image)


def weave(rng: Generator, colour: Colour, size: int = 256) -> np.ndarray:
    """Upholstery: threads over and under, slightly mottled."""
    y, x = np.mgrid[:size, :size]
    threads = np.sin(2 * np.pi * x / 8) * np.sin(2 * np.pi * y / 8)
    return _mix(colour, 0.07 * threads + 0.22 * (noise(rng, (size, size), (8, 8), 5) - 0.5))


def stripes(colours: list[Colour], widths: list[int], height: int = 64) -> np.ndarray:
    row = np.concatenate([np.tile(np.array(c), (w, 1)) for c, w in zip(colours, widths, strict=True)])
    return np.tile(row.astype(np.uint8), (height, 1, 1))


def cardboard(rng: Generator) -> np.ndarray:
    """One side of a parcel: tape, label, arrows, flutes."""
    image = _mix((186, 145, 98), (noise(rng, (320, 400), (4, 60), 4) - 0.5) * 0.12)
    cv2.rectangle(image, (0, 140), (400, 176), (206, 180, 134), -1)
    x, y = int(rng.integers(20, 160)), int(rng.integers(190, 215))
    cv2.rectangle(image, (x, y), (x + 190, y + 96), (240, 238, 230), -1)
    for i in range(5):
        _text(image, _words(rng, 3), (x + 8, y + 16 + 11 * i), 0.34, _INK)
    _barcode(rng, image, (x + 8, y + 70), (120, 20))
    for left in (30, 330):
        x = np.array([0, 0, -14, 10, 34, 20, 20]) + left
        arrow = np.column_stack([x, [110, 60, 60, 25, 60, 60, 110]])
        cv2.fillPoly(image, [arrow], (96, 66, 44), _AA)
    _text(image, "FRAGILE", (110, 90), 1.3, (150, 52, 40), 3)
    return image


# ---- objects -------------------------------------------------------------------------------------


def book_spines(rng: Generator, count: int = 48) -> np.ndarray:
    """Spines side by side, 48 texels wide and 384 high each."""
    image = np.zeros((384, 48 * count, 3), np.uint8)
    for i in range(count):
        base = np.array(PALETTE[int(rng.integers(len(PALETTE)))]) * (0.7 + 0.5 * rng.random())
        spine = _mix(_rgb(base), (noise(rng, (384, 48), (24, 3), 4) - 0.5) * 0.15)
        trim = _rgb(np.clip(255 - base, 60, 230) if rng.random() < 0.4 else np.array((232, 214, 170)))
        for y in (24, 32, 350, 358)[int(rng.integers(0, 2)) :]:
            cv2.line(spine, (0, y), (48, y), trim, int(rng.integers(1, 4)))
        title = np.ascontiguousarray(np.rot90(spine[46:330], 1))
        cv2.rectangle(
            title, (10, 8), (150 + int(rng.integers(0, 100)), 40), trim, -1 if rng.random() < 0.3 else 1
        )
        ink = _INK if rng.random() < 0.4 else _CREAM
        _text(title, _words(rng, 2).upper(), (14, 32), 0.8, ink, 2)
        _text(title, _words(rng, 1), (210, 16), 0.4, ink)
        spine[46:330] = np.rot90(title, -1)
        cv2.circle(spine, (24, 340), 7, trim, 1, _AA)
        shade = 1 - 0.35 * np.abs(np.linspace(-1, 1, 48)) ** 3
        image[:, 48 * i : 48 * (i + 1)] = _bytes(spine * shade[:, None])
    return image


def page_edges(rng: Generator) -> np.ndarray:
    return _mix((226, 214, 188), (noise(rng, (64, 256), (32, 1), 2) - 0.5) * 0.3)


def magazine(rng: Generator) -> np.ndarray:
    image = _between(_pick(rng), _pick(rng), np.linspace(0, 1, 320)[:, None] * np.ones((1, 240)))
    _text(image, _words(rng, 1).upper()[:7], (10, 52), 1.9, _CREAM, 4)
    cv2.circle(image, (130, 180), 70, _pick(rng), -1, _AA)
    _ridges(rng, image, 190, 3)
    for i in range(6):
        _text(image, _words(rng, 3), (12, 90 + 13 * i), 0.38, _CREAM)
    _barcode(rng, image, (170, 285), (56, 26))
    return image


def code_screen(rng: Generator) -> np.ndarray:
    """A laptop's screen with an editor: fine light text on dark."""
    image = np.full((360, 560, 3), (30, 33, 40), np.uint8)
    cv2.rectangle(image, (0, 0), (560, 20), (52, 56, 66), -1)
    inks = [(152, 195, 121), (97, 175, 239), (229, 192, 123), (198, 120, 221), (171, 178, 191)]
    for row in range(24):
        x = 30 + 18 * int(rng.integers(0, 5))
        _text(image, str(row + 1), (6, 38 + 13 * row), 0.33, (92, 99, 112))
        for _ in range(int(rng.integers(1, 5))):
            word = _words(rng, 1)
            _text(image, word, (x, 38 + 13 * row), 0.38, inks[int(rng.integers(5))])
            x += 9 * len(word) + 6
    return image


def keyboard() -> np.ndarray:
    image = np.full((240, 360, 3), (172, 174, 178), np.uint8)
    for row in range(5):
        for column in range(13):
            x, y = 20 + 25 * column, 14 + 25 * row
            cv2.rectangle(image, (x, y), (x + 20, y + 20), (46, 48, 54), -1, _AA)
            _text(image, chr(65 + (7 * row + 3 * column) % 26), (x + 6, y + 14), 0.35, (220, 220, 220))
    cv2.rectangle(image, (120, 150), (240, 225), (152, 154, 158), -1)
    return image


def globe(rng: Generator) -> np.ndarray:
    """Sea, land and a graticule; longitude along the width, the north pole at the first row."""
    height, width = 384, 768
    land = noise(rng, (height, width), (4, 8), 6)
    image = _between((58, 110, 150), (92, 150, 178), noise(rng, (height, width), (8, 16), 3))
    ground = _between((146, 160, 92), (196, 164, 108), noise(rng, (height, width), (12, 24), 4))
    image[land > 0.53] = ground[land > 0.53]
    image[np.abs(land - 0.53) < 0.008] = (84, 74, 58)
    for i in range(0, width, width // 24):
        cv2.line(image, (i, 0), (i, height), (210, 214, 206), 1)
    for i in range(0, height, height // 12):
        cv2.line(image, (0, i), (width, i), (210, 214, 206), 1)
    for _ in range(60):
        at = (int(rng.integers(width - 80)), int(rng.integers(60, height - 60)))
        _text(image, _words(rng, 1), at, 0.4, _INK)
        cv2.circle(image, at, 2, (180, 40, 30), -1, _AA)
    return image


def leaf(rng: Generator) -> np.ndarray:
    """Midrib along the width, side veins."""
    image = _between((58, 118, 52), (96, 150, 66), noise(rng, (96, 192), (4, 8), 4))
    for x in range(-20, 190, 14):
        for side in (-1, 1):
            cv2.line(image, (x, 48), (x + 34, 48 + 46 * side), (126, 172, 92), 1, _AA)
    cv2.line(image, (0, 48), (192, 48), (160, 196, 118), 3, _AA)
    return image


def glazed_pot(rng: Generator, base: Colour, trim: Colour) -> np.ndarray:
    """A band of zigzag and dots around a vessel."""
    image = _mix(base, (noise(rng, (160, 480), (8, 24), 4) - 0.5) * 0.15)
    for y, thickness in ((30, 3), (120, 3), (136, 6)):
        cv2.line(image, (0, y), (480, y), trim, thickness)
    zigzag = np.array([[x, 50 if (x // 20) % 2 else 100] for x in range(0, 481, 20)])
    cv2.polylines(image, [zigzag], False, trim, 4, _AA)
    for x in range(20, 480, 40):
        cv2.circle(image, (x, 96), 6, trim, -1, _AA)
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
            cv2.fillPoly(image, [_diamond(x + 12, y, 11, 13)], sand if (x // 30) % 2 else navy)
    for y in range(100, height - 90, 30):
        for x in (52, width - 52):
            cv2.fillPoly(image, [_diamond(x, y, 13, 11)], sand if (y // 30) % 2 else navy)
    inks = [red, navy, sand, (204, 130, 70)]
    for row, y in enumerate(range(155, height - 120, 82)):
        for column, x in enumerate(range(150, width - 110, 94)):
            k = int(rng.integers(4))
            for step, scale in enumerate((1.0, 0.72, 0.46, 0.2)):
                colour = inks[(k + step + row + column) % 4]
                cv2.fillPoly(image, [_diamond(x, y, int(46 * scale), int(40 * scale))], colour)
    y, x = np.mgrid[:height, :width]
    knots = 0.05 * np.sin(2 * np.pi * x / 4) * np.sin(2 * np.pi * y / 4)
    mottle = 0.2 * (noise(rng, (height, width), (16, 24), 5) - 0.5)
    return _bytes(image * (1 + knots + mottle)[..., None])


def cushion(rng: Generator) -> np.ndarray:
    image = np.full((256, 256, 3), _pick(rng), np.uint8)
    ink = _CREAM if rng.random() < 0.6 else _INK
    for y in range(16, 256, 32):
        for x in range(16, 256, 32):
            cv2.circle(image, (x, y), 11, ink, 2, _AA)
            cv2.fillPoly(image, [_diamond(x, y, 5, 5)], _pick(rng), _AA)
    return _bytes(image * (1 + 0.12 * (noise(rng, (256, 256), (16, 16), 4) - 0.5))[..., None])


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
    image = _between(
        (150, 190, 232), (240, 240, 234), np.linspace(0, 1.2, height)[:, None] * np.ones((1, width))
    )
    clouds = np.clip(noise(rng, (height, width), (4, 3), 5) * 2.4 - 1.2, 0, 1)[..., None]
    image = _bytes(image * (1 - clouds) + 255 * clouds)
    for layer, shade in enumerate((206, 182, 150)):
        for _ in range(12):
            x, wide = int(rng.integers(-20, width)), int(rng.integers(20, 60))
            top = int(height * (0.5 + 0.13 * layer) + rng.integers(-25, 25))
            tint = shade + rng.integers(-8, 8)
            cv2.rectangle(image, (x, top), (x + wide, height), _rgb(tint * np.array([1, 0.99, 1.02])), -1)
            for wy in range(top + 6, height, 12):
                for wx in range(x + 4, x + wide - 4, 9):
                    cv2.rectangle(
                        image, (wx, wy), (wx + 4, wy + 6), _rgb(tint * np.array([0.75, 0.8, 0.88])), -1
                    )
    return image


# ---- posters -------------------------------------------------------------------------------------


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
        _text(image, _words(rng, 1).title(), at, 0.38, (70, 66, 74))
    for _ in range(40):
        at = (int(rng.integers(10, width - 10)), int(rng.integers(20, height - 120)))
        cv2.circle(image, at, 4, _pick(rng), -1, _AA)
    cv2.rectangle(image, (0, height - 100), (width, height), _CREAM, -1)
    _text(image, _words(rng, 1).upper(), (30, height - 42), 1.9, _INK, 4)
    _text(image, "scale 1 : 12 500     " + _words(rng, 4), (32, height - 18), 0.45, (110, 100, 96))
    return _bordered(image, _CREAM, 16)


def poster_mountains(rng: Generator) -> np.ndarray:
    height, width = 620, 880
    image = _between((244, 190, 130), (96, 130, 168), np.linspace(1, 0, height)[:, None] * np.ones((1, width)))
    cv2.circle(image, (620, 190), 62, (252, 236, 196), -1, _AA)
    for radius in range(74, 150, 12):
        cv2.circle(image, (620, 190), radius, (250, 214, 166), 1, _AA)
    _ridges(rng, image, 220, 6)
    for _ in range(260):
        x, y = int(rng.integers(0, width)), int(rng.integers(500, height))
        tall = int((y - 440) * 0.35)
        green = _rgb(np.array((28, 52, 48)) * (0.8 + 0.5 * rng.random()))
        cv2.fillPoly(image, [np.array([[x, y - tall], [x - tall // 4, y], [x + tall // 4, y]])], green, _AA)
    _text(image, "NATIONAL PARK", (30, 66), 1.6, _CREAM, 4)
    _text(image, _words(rng, 5), (34, 96), 0.6, _CREAM)
    return _bordered(image, (248, 244, 232), 20)


def poster_geometric(rng: Generator) -> np.ndarray:
    """Quarter discs, rings and bars in a grid."""
    cell, rows, columns = 90, 8, 6
    image = np.full((rows * cell, columns * cell, 3), _CREAM, np.uint8)
    for row in range(rows):
        for column in range(columns):
            tile = np.full((cell, cell, 3), _pick(rng), np.uint8)
            ink, other = _pick(rng), _pick(rng)
            kind = int(rng.integers(5))
            if kind == 0:
                cv2.circle(tile, (0, 0), cell, ink, -1, _AA)
                cv2.circle(tile, (0, 0), cell // 2, other, -1, _AA)
            elif kind == 1:
                for radius, colour in ((42, ink), (30, other), (16, ink)):
                    cv2.circle(tile, (45, 45), radius, colour, -1, _AA)
            elif kind == 2:
                for x in range(0, cell, 18):
                    cv2.rectangle(tile, (x, 0), (x + 8, cell), ink, -1)
            elif kind == 3:
                cv2.fillPoly(tile, [np.array([[0, 0], [cell, 0], [0, cell]])], ink, _AA)
                cv2.circle(tile, (60, 60), 14, other, -1, _AA)
            else:
                for y in range(9, cell, 18):
                    for x in range(9, cell, 18):
                        cv2.circle(tile, (x, y), 5, ink, -1, _AA)
            tile = np.rot90(tile, int(rng.integers(4)))
            image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = tile
    return _bordered(image, (246, 242, 232), 30)


def poster_star_chart(rng: Generator) -> np.ndarray:
    size = 720
    image = _between((18, 26, 54), (34, 46, 84), noise(rng, (size, size), (3, 3), 4))
    middle, gold = (size // 2, size // 2), (214, 186, 120)
    for radius in range(60, 341, 56):
        cv2.circle(image, middle, radius, (84, 100, 140), 1, _AA)
    cv2.circle(image, middle, 342, gold, 3, _AA)
    for i in range(72):
        direction = np.array([np.cos(i * np.pi / 36), np.sin(i * np.pi / 36)])
        ends = [_at(middle + r * direction) for r in ((60, 340) if i % 6 == 0 else (330, 340))]
        cv2.line(image, ends[0], ends[1], (84, 100, 140) if i % 6 == 0 else gold, 1, _AA)
    for _ in range(600):
        at = _at(middle + rng.normal(0, 150, 2))
        cv2.circle(image, at, int(rng.choice([0, 1, 1, 2])), (230, 230, 214), -1, _AA)
    for _ in range(26):
        stars = (middle + rng.normal(0, 130, 2) + np.cumsum(rng.normal(0, 26, (5, 2)), 0)).astype(int)
        cv2.polylines(image, [stars.astype(np.int32)], False, (150, 170, 206), 1, _AA)
        for star in stars:
            cv2.circle(image, _at(star), 4, (252, 244, 214), -1, _AA)
        _text(image, _words(rng, 1), _at(stars[0] + 8), 0.42, gold)
    return _bordered(image, (18, 26, 54), 24)


def poster_type(rng: Generator) -> np.ndarray:
    """A type specimen: one huge letter pair, lines of every size."""
    image = np.full((820, 580, 3), (236, 226, 204), np.uint8)
    cv2.rectangle(image, (0, 0), (580, 330), (190, 58, 44), -1)
    cv2.putText(image, "Rg", (60, 270), cv2.FONT_HERSHEY_TRIPLEX, 9, _CREAM, 26, _AA)
    y = 380
    for scale in (1.5, 1.1, 0.9, 0.7, 0.6, 0.5, 0.45, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4):
        _text(image, _words(rng, 12), (28, y), scale, _INK, 2 if scale > 0.8 else 1)
        y += int(26 * scale) + 14
    return _bordered(image, (236, 226, 204), 14)


def poster_fern(rng: Generator) -> np.ndarray:
    """A botanical plate: fronds of leaflets on paper, with a caption."""
    image = _mix((238, 232, 214), (noise(rng, (760, 540), (10, 8), 5) - 0.5) * 0.08)
    for base, angle, length in (((270, 640), -1.57, 520), ((250, 640), -2.0, 400), ((290, 640), -1.1, 400)):
        green = _rgb(np.array((70, 106, 64)) * (0.8 + 0.4 * rng.random()))
        point = np.array(base, float)
        for step in np.linspace(1, 0.05, 44):
            point = point + length / 44 * np.array([np.cos(angle), np.sin(angle)])
            angle += rng.normal(0, 0.012) + 0.006 * np.sign(np.cos(angle))
            for side in (-1, 1):
                tilt = angle + side * 1.1
                reach = 74 * np.sqrt(step) * min(1.0, 3 * (1.05 - step)) * length / 520
                center = point + reach / 2 * np.array([np.cos(tilt), np.sin(tilt)])
                cv2.ellipse(
                    image, _at(center), (int(reach / 2) + 1, 4), np.degrees(tilt), 0, 360, green, -1, _AA
                )
        cv2.line(image, base, _at(point), (86, 70, 50), 2, _AA)
    _text(image, _words(rng, 2).capitalize(), (150, 710), 0.9, _INK, 2)
    return _bordered(image, (238, 232, 214), 20)


def print_arcs() -> np.ndarray:
    """The picture that hangs on the brick wall several times."""
    image = np.full((300, 220, 3), (240, 234, 222), np.uint8)
    for i, radius in enumerate(range(150, 20, -22)):
        cv2.circle(image, (110, 200), radius, PALETTE[(3 * i + 2) % len(PALETTE)], -1, _AA)
    cv2.rectangle(image, (0, 200), (220, 300), (40, 75, 99), -1)
    for y in range(212, 300, 14):
        cv2.line(image, (0, y), (220, y), (134, 178, 182), 3)
    cv2.circle(image, (160, 60), 26, (196, 62, 48), -1, _AA)
    return _bordered(image, (250, 248, 242), 26)


# ---- brushes -------------------------------------------------------------------------------------


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


def _mix(colour: Colour, change: np.ndarray) -> np.ndarray:
    """One colour, brighter or darker by the relative `change` (h, w)."""
    return _bytes(np.array(colour) * (1 + change[..., None]))


def _between(first: Colour, second: Colour, share: np.ndarray) -> np.ndarray:
    return _bytes(np.array(first) + (np.array(second) - np.array(first)) * share[..., None])


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)


def _rgb(colour: np.ndarray) -> Colour:
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue


def _at(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _pick(rng: Generator) -> Colour:
    return PALETTE[int(rng.integers(len(PALETTE)))]


def _words(rng: Generator, count: int) -> str:
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


def _text(
    image: np.ndarray, text: str, at: tuple[int, int], scale: float, colour: Colour, thickness: int = 1
) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, _AA)


def _diamond(x: int, y: int, a: int, b: int) -> np.ndarray:
    return np.array([[x - a, y], [x, y - b], [x + a, y], [x, y + b]])


def _bordered(image: np.ndarray, colour: Colour, width: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, width, width, width, width, cv2.BORDER_CONSTANT, value=colour)


def _barcode(rng: Generator, image: np.ndarray, at: tuple[int, int], size: tuple[int, int]) -> None:
    cv2.rectangle(image, at, (at[0] + size[0], at[1] + size[1]), (250, 250, 250), -1)
    for x in range(at[0] + 3, at[0] + size[0] - 3, 3):
        if rng.random() < 0.55:
            cv2.rectangle(
                image, (x, at[1] + 2), (x + int(rng.integers(1, 3)), at[1] + size[1] - 2), (20, 20, 20), -1
            )


def _ridges(rng: Generator, image: np.ndarray, top: int, count: int) -> None:
    """Mountain ranges, each darker and nearer than the one before."""
    height, width = image.shape[:2]
    for layer in range(count):
        level = top + (height - top) * layer / count
        line = level + 170 / (1 + 0.4 * layer) * (noise(rng, (8, width), (1, 3), 6)[4] - 0.4)
        shade = np.array((128, 140, 168)) * (1 - 0.75 * layer / count) + np.array((10, 12, 8))
        edge = np.column_stack([np.arange(width), line]).astype(np.int32)
        outline = np.concatenate([edge, [[width, height], [0, height]]]).astype(np.int32)
        cv2.fillPoly(image, [outline], _rgb(shade), _AA)
        for x in range(0, width, 9):
            drop = int(rng.integers(6, 40))
            start = (x, int(line[x]) + 2)
            cv2.line(image, start, (x + drop // 2, start[1] + drop), _rgb(shade * 1.18), 1, _AA)
