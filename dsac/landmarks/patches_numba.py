"""Search of an image for small patches: which ones, and normalised cross-correlation around each place.

Same names and arguments as in `patches.py`, which says what is computed.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from dsac.kernels.jit import kernel
from dsac.landmarks.patches import LEAST_CONTRAST, SIZE, TILES, PinholeView, SeenPoints, Visibility


def visible_patches(
    seen: SeenPoints, view: PinholeView, limits: Visibility, most: int
) -> Int[np.ndarray, " M"]:
    """As in `patches.py`. Raises: `ValueError` for arrays of other shapes."""
    count = len(seen.points)
    for name, array, shape in (
        ("points", seen.points, (count, 3)),
        ("rays", seen.rays, (count, 3)),
        ("pixel_sizes", seen.pixel_sizes, (count,)),
        ("cam_from_world", view.cam_from_world, (3, 4)),
        ("focal_px", view.focal_px, (2,)),
        ("center_px", view.center_px, (2,)),
    ):
        if array.shape != shape:
            raise ValueError(f"{name}: expected {shape}, got {array.shape}")
    pose, focal, middle, size = view
    arrays = seen.points, seen.rays, seen.pixel_sizes, pose, focal, middle
    width_height, bounds = (float(size[0]), float(size[1])), tuple(map(float, limits))
    return _visible(*(np.ascontiguousarray(x, np.float64) for x in arrays), width_height, bounds)[:most]


@kernel
def _visible(points, rays, pixel_sizes, pose, focal, middle, size, limits):
    (width, height), (margin, max_angle, max_zoom) = size, limits
    across, down = TILES
    count, log_zoom, least_cosine = 0, math.log(max_zoom), math.cos(max_angle)
    a0, a1, a2, a3 = pose[0]
    b0, b1, b2, b3 = pose[1]
    c0, c1, c2, c3 = pose[2]
    x0, y0, z0 = -(a0 * a3 + b0 * b3 + c0 * c3), -(a1 * a3 + b1 * b3 + c1 * c3), -(a2 * a3 + b2 * b3 + c2 * c3)
    u, v, depths, cosines = np.empty((4, len(points)))
    for k in range(len(points)):  # without branches, so that it is vectorised
        x, y, z = points[k, 0] - x0, points[k, 1] - y0, points[k, 2] - z0
        depth = c0 * x + c1 * y + c2 * z
        inverse = 1.0 / depth
        u[k] = (a0 * x + a1 * y + a2 * z) * inverse * focal[0] + middle[0]
        v[k] = (b0 * x + b1 * y + b2 * z) * inverse * focal[1] + middle[1]
        r, s, t = rays[k, 0], rays[k, 1], rays[k, 2]
        lengths = np.sqrt((x * x + y * y + z * z) * (r * r + s * s + t * t))
        cosines[k] = (x * r + y * s + z * t) / max(lengths, 1e-12)
        depths[k] = depth
    rows, tiles, costs = np.empty(len(points), np.int64), np.empty(len(points), np.int64), np.empty(len(points))
    for k in range(len(points)):
        inside = u[k] > margin and v[k] > margin and width - u[k] > margin and height - v[k] > margin
        if not (depths[k] > 0 and inside and cosines[k] > least_cosine):
            continue
        zoom = abs(math.log(pixel_sizes[k] * focal[0] / depths[k]))
        if not zoom < log_zoom:
            continue
        rows[count] = k
        costs[count] = math.sqrt(max((1.0 - cosines[k]) / (1.0 - least_cosine), 0.0)) + zoom / log_zoom
        column, row = min(int(u[k] / width * across), across - 1), min(int(v[k] / height * down), down - 1)
        tiles[count] = row * across + column
        count += 1
    order = np.argsort(costs[:count], kind="mergesort")
    # a counting sort by the rank in its tile, which leaves those of one rank in the order of their costs
    held, ranks, starts = (
        np.zeros(across * down, np.int64),
        np.empty(count, np.int64),
        np.zeros(count + 1, np.int64),
    )
    for k in range(count):
        tile = tiles[order[k]]
        ranks[k] = held[tile]
        held[tile] += 1
        starts[ranks[k] + 1] += 1
    for k in range(count):
        starts[k + 1] += starts[k]
    chosen = np.empty(count, np.int64)
    for k in range(count):
        chosen[starts[ranks[k]]] = rows[order[k]]
        starts[ranks[k]] += 1
    return chosen


def find_patches(
    image: UInt8[np.ndarray, "H W"],
    patches: UInt8[np.ndarray, "L P P"],
    rows: Int[np.ndarray, " M"],
    centers: Float[np.ndarray, "M 2"],
    image_from_patch: Float[np.ndarray, "M 2 2"],
    *,
    radius: int,
) -> tuple[Float32[np.ndarray, "M 2"], Float32[np.ndarray, " M"]]:
    """As in `patches.py`.

    Raises: `ValueError` for arrays of other shapes or types, `IndexError` for rows that are not there.
    """
    count, side = len(rows), patches.shape[-1]
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"image: expected 8-bit grey levels (H, W), got {image.dtype} {image.shape}")
    if patches.shape != (len(patches), side, side) or patches.dtype != np.uint8 or side < SIZE:
        raise ValueError(f"patches: expected 8 bits (L, P, P), got {patches.dtype} {patches.shape}")
    if rows.shape != (count,) or centers.shape != (count, 2) or image_from_patch.shape != (count, 2, 2):
        raise ValueError(
            "rows, centers, image_from_patch: expected (M,), (M, 2), (M, 2, 2), "
            f"got {rows.shape}, {centers.shape}, {image_from_patch.shape}"
        )
    if count and not (0 <= rows.min() and rows.max() < len(patches)):
        raise IndexError(f"rows: expected less than {len(patches)}, got {rows.min()} to {rows.max()}")
    if radius < 1:
        raise ValueError(f"radius: expected 1 or more, got {radius}")
    found = np.empty((count, 2), np.float32)
    scores = np.empty(count, np.float32)
    _search(
        np.ascontiguousarray(image), np.ascontiguousarray(patches), np.ascontiguousarray(rows, np.int64),
        np.ascontiguousarray(centers, np.float64), np.ascontiguousarray(image_from_patch, np.float64),
        int(radius), found, scores,
    )  # fmt: skip
    return found, scores


@kernel
def _search(image, patches, rows, centers, image_from_patch, radius, found, scores):
    window = 2 * radius + 1
    template = np.empty((SIZE, SIZE), np.float32)
    area = np.empty((window + SIZE - 1, window + SIZE - 1), np.float32)
    columns = np.empty((2, len(area)), np.float32)
    correlation = np.empty((window, window), np.float32)
    for m in range(len(rows)):
        found[m, 0] = found[m, 1] = np.nan
        scores[m] = -1.0
        u, v = centers[m]
        if not (abs(u) < 1e6 and abs(v) < 1e6):
            continue
        left, top = int(np.floor(u)) - SIZE // 2, int(np.floor(v)) - SIZE // 2
        if not _template(patches[rows[m]], left + 0.5 - u, top + 0.5 - v, image_from_patch[m], template):
            continue
        left -= radius
        top -= radius
        if left < 0 or top < 0 or left + len(area) > image.shape[1] or top + len(area) > image.shape[0]:
            continue
        for y in range(len(area)):
            for x in range(len(area)):
                area[y, x] = image[top + y, left + x]
        _correlate(area, template, columns, correlation)
        best, row, column = _peak(correlation)
        if row < 0:
            continue
        scores[m] = best
        found[m, 0] = (
            u + column - radius + _vertex(correlation[row, column - 1], best, correlation[row, column + 1])
        )
        found[m, 1] = (
            v + row - radius + _vertex(correlation[row - 1, column], best, correlation[row + 1, column])
        )


@kernel
def _template(patch, x0, y0, image_from_patch, template):
    """The patch as the image should show it at pixels (x0 + i, y0 + j) from its centre, zero mean, unit norm.

    False where the patch does not reach that far, has no contrast or is turned over.
    """
    a, b, c, d = image_from_patch[0, 0], image_from_patch[0, 1], image_from_patch[1, 0], image_from_patch[1, 1]
    determinant = a * d - b * c
    if not determinant > 1e-6:
        return False
    radius, last = (len(patch) - 1) / 2, len(patch) - 1
    total = np.float32(0)
    for j in range(SIZE):
        for i in range(SIZE):
            dx, dy = x0 + i, y0 + j
            x = radius + (d * dx - b * dy) / determinant
            y = radius + (a * dy - c * dx) / determinant
            if not (x >= 0 and y >= 0 and x < last and y < last):
                return False
            column, row = int(x), int(y)
            right, down = x - column, y - row
            upper = patch[row, column] * (1 - right) + patch[row, column + 1] * right
            lower = patch[row + 1, column] * (1 - right) + patch[row + 1, column + 1] * right
            template[j, i] = upper * (1 - down) + lower * down
            total += template[j, i]
    mean, square = total / (SIZE * SIZE), np.float32(0)
    for j in range(SIZE):
        for i in range(SIZE):
            template[j, i] -= mean
            square += template[j, i] * template[j, i]
    if not square > SIZE * SIZE * LEAST_CONTRAST**2:
        return False
    scale = np.float32(1) / np.sqrt(square)
    for j in range(SIZE):
        for i in range(SIZE):
            template[j, i] *= scale
    return True


@kernel
def _correlate(area, template, columns, correlation):
    """Correlation coefficients at all shifts; the inner loops run along rows of the area, many at once.

    `columns` (2, width of the area) is memory to work in.
    """
    window, width = len(correlation), area.shape[1]
    least = np.float32(SIZE * SIZE * LEAST_CONTRAST**2)
    one, count = np.float32(1), np.float32(SIZE * SIZE)
    sums, squares = columns[0], columns[1]
    for y in range(window):
        products = correlation[y]
        products[:] = 0
        sums[:] = 0
        squares[:] = 0
        for j in range(SIZE):
            line = area[y + j]
            for x in range(width):
                sums[x] += line[x]
                squares[x] += line[x] * line[x]
            t = template[j]
            t0, t1, t2, t3, t4, t5, t6, t7, t8 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8]
            for x in range(window):  # one expression: a loop over the nine would load and store each time
                products[x] += (
                    t0 * line[x] + t1 * line[x + 1] + t2 * line[x + 2]
                    + t3 * line[x + 3] + t4 * line[x + 4] + t5 * line[x + 5]
                    + t6 * line[x + 6] + t7 * line[x + 7] + t8 * line[x + 8]
                )  # fmt: skip
        for x in range(window):
            total, square = np.float32(0), np.float32(0)
            for i in range(SIZE):
                total += sums[x + i]
                square += squares[x + i]
            variance = square - total * total / count
            products[x] *= one / np.sqrt(max(variance, least))


@kernel
def _peak(correlation):
    """The largest value and where it is; row -1 when it lies at the border of the window."""
    window = len(correlation)
    best, row, column = np.float32(-1), -1, -1
    for y in range(window):
        for x in range(window):
            if correlation[y, x] > best:
                best, row, column = correlation[y, x], y, x
    if row < 1 or column < 1 or row > window - 2 or column > window - 2:
        return best, -1, -1
    return best, row, column


@kernel
def _vertex(before, middle, after):
    """Where a parabola through three values, the middle one largest, has its top."""
    curvature = 2 * middle - before - after
    return 0.5 * (after - before) / curvature if curvature > 1e-6 else 0.0
