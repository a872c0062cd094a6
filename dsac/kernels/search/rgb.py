"""From scene coordinates to a pose in one call: draw, solve, score, refine, estimate the uncertainty.

A seed point is drawn, and the other two points of the minimal set among its likeliest companions
(`companions.py`), which makes sets of right points common. Three of four seeds and their companions are drawn
among the points that agree with their neighbours (`coherent_points`), among which right ones are several times
as frequent, be they scattered or in patches: first those of the subset, and where they do not settle it those
of all points. A pose of three noisy points that convinces the companions, or the coherent points, goes through
`_optimise`; the best different poses are kept, and the likeliest of them on all points is the answer
(`_choose`).

`subset` holds at most 1024 points in random order: most poses are told from their number of inliers among them
that they are not worth a look at all points.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dsac.kernels.jit import kernel
from dsac.kernels.search.companions import LEVELS, apparent_depth, depth_bounds, likeliest_companions
from dsac.kernels.search.likelihood import (
    PROBABILITY,
    SQUARE,
    maximise_likelihood,
    mixture_sums,
    pixel_gated_sums,
)
from dsac.kernels.search.points import (
    below,
    coherent_points,
    count_inliers,
    draw_subset,
    inlier_share,
    listed,
    mark_inliers,
    meets_ray,
    mixed,
    prepare,
    with_companions,
)
from dsac.kernels.twins.math import NUM_SUMS, gather, gauss_newton_step, pose_rows, uncentre, unpacked
from dsac.kernels.twins.p3p import p3p_poses

_SUBSET = 1024
_POOL = 512  # a plain seed and its companions are among the first of the subset, ...
_NEAR = 0.35  # seen within this distance on the plane z = 1 ...
_FAR = 1e2  # ... but every fourth, like coherent ones, looks everywhere
_FRONT = (128, 256)  # the most coherent points, of the subset and of all, on which their poses are checked; ...
_FRONT_GROWTH = 0.12  # ... seeds and companions are at first among half of them, and so many more a seed
_PATIENCE = 64  # seeds; if then twice as many more would not settle it, all points are looked at
_COMPANIONS = (0.04, 0.25)  # share of the points that are taken as companions, plain and coherent
_LOCAL = 64  # companions at most
_GROWTH = 2.7  # from a bound to the next: more (3.9 if they lie anywhere) speaks against the companions
_RICHER = 4.0  # times the share of right points that coherent ones have, at most
_LUCK = (0.99, 0.3)  # most that a right seed counts, plain and coherent: the latter are not independent
_SUPPORT = 5.0  # points (with the minimal set) and ...
_SUPPORT_SHARE = (0.3, 0.05)  # ... share of the companions, or of the front, must agree with a pose
_WIDE = 3.0  # times the threshold: the pose of a minimal set is noisy
_PROMISING = 0.8  # of the best pose's inliers, within the wide threshold, for a pose to be optimised ...
_CLOSE = 0.5  # ... and share of them that it must keep on the way
_ENOUGH = 100  # inliers among the subset: more points would not make the share much surer
_MODES = 8  # different poses kept
_SAME_ANGLE = 0.1  # radians between the rotations of different poses
_KNOWN_SHARE = 0.03  # of the points: a pose with so many inliers is not looked for again among them
_LEAST_RATIO = 0.01  # inlier ratio that is looked for as long as nothing is found


class Options(NamedTuple):
    threshold_px: float
    largest_depth: float  # metres; 0 = unknown
    confidence: float
    max_hypotheses: int
    seed: int


@kernel
def solve_images(images, solution, options):
    """Fill the fields of a `Solution` for some `Images`: see `search.face.solve_rgb`."""
    pose = np.empty((3, 4))
    for b in range(len(images.pixels)):
        focal, middle = images.focal_px[b], images.center_px[b]
        camera = (focal[0], focal[1], middle[0], middle[1])
        solution.num_hypotheses[b], solution.num_usable[b] = _solve(
            images.pixels[b], images.scene_points[b], images.weights[b], camera, options,
            pose, solution.inliers[b], solution.information[b],
        )  # fmt: skip
        solution.rotation[b], solution.translation[b] = pose[:, :3], pose[:, 3]


@kernel
def _solve(pixels, scene_points, weights, camera, options, pose, inliers, information):
    pose[:] = 0.0
    pose[0, 0] = pose[1, 1] = pose[2, 2] = 1.0
    information[:] = 0.0
    inliers[:] = False
    n = len(pixels)
    points = np.empty((7, n), np.float32)
    center = np.empty(3)
    rows = np.empty(n, np.uint32)
    usable, extent = prepare(pixels, scene_points, weights, camera, points, rows, center)
    if usable < 4:
        return 0, usable

    aspect = camera[1] / camera[0]
    threshold = options.threshold_px / camera[0]
    state = np.empty(1, np.uint64)
    state[0] = mixed(np.uint64(options.seed))
    subset = np.empty((7, min(usable, _SUBSET)), np.float32)
    draw_subset(points, rows, usable, subset, state)
    bounds = np.empty(LEVELS, np.float32)
    depth_bounds(subset, extent, options.largest_depth, bounds)

    modes = np.zeros((_MODES, 3, 4))
    scores = np.zeros(_MODES)
    rows = rows[:usable]
    asked = listed(points, rows[: subset.shape[1]]) if len(weights) > 0 else subset
    num = _search(points, rows, subset, asked, (aspect, threshold), bounds, options, state, modes, scores)
    if _choose(points, subset, modes, scores, aspect, threshold, pose, information):
        mark_inliers(points, pose, aspect, threshold, inliers)
        uncentre(pose, center)
    return num, usable


# ---- search ------------------------------------------------------------------------------------------


@kernel
def _search(points, rows, subset, asked, gate, bounds, options, state, modes, scores):
    """Fill `modes` with the best different poses and `scores` with their inlier ratios.

    `asked` are the points of the subset, each once, of which the coherent ones are taken first; `gate` holds
    aspect and threshold. Returns the number of seeds drawn. Stops when a pose with more inliers would have been
    found with the given confidence.
    """
    aspect, threshold = gate
    rotations = np.empty((4, 3, 3))
    translations = np.empty((4, 3))
    work = np.empty((13, 3))
    trial = np.empty((3, 4))
    sums = np.empty(NUM_SUMS)
    size = subset.shape[1]
    depths = np.empty(size, np.float32)
    inside = np.empty(size, np.bool_)
    local = np.empty((7, _LOCAL), np.float32)
    wide = _WIDE * threshold
    richness = np.ones(2)  # of the last seed's companions: how many times the share of right points they hold
    best, log_miss, log_before = _LEAST_RATIO, 0.0, 0.0
    log_enough = math.log(1.0 - options.confidence)
    farthest = math.sqrt(bounds[LEVELS - 1])
    front = coherent_points(asked, farthest, _FRONT[0])
    richer = np.array([1.0, min(_RICHER, asked.shape[1] / front.shape[1])])
    of_all = False
    num = 0
    while num < options.max_hypotheses and log_miss > log_enough:
        if num % 4 == 0:  # a plain seed and three coherent ones
            soon = log_miss + 0.5 * _PATIENCE * (log_miss - log_before)
            log_before = log_miss
            if num >= _PATIENCE and not of_all and soon > log_enough:
                asked = listed(points, rows)
                front, of_all = coherent_points(asked, farthest, _FRONT[1]), True
                richer[1] = min(_RICHER, asked.shape[1] / front.shape[1])
        kind = 1 if num % 4 > 0 else 0
        among, pool = subset, min(size, _POOL)
        if kind == 1:
            among, pool = front, min(front.shape[1], front.shape[1] // 2 + int(_FRONT_GROWTH * num))
        radius = _FAR if kind == 1 or num % 16 == 0 else _NEAR
        seed = below(state, pool)
        num += 1
        ratio = min(1.0, richer[kind] * best)
        # `share` of the companions of a right seed are right, and so is a set of three with probability share².
        share = min(1.0, ratio * richness[kind])
        log_miss += math.log1p(-ratio * min(_LUCK[kind], share * share))
        if _is_known(among, seed, modes, scores, aspect, wide):
            continue
        within, matching, deeper, bound = likeliest_companions(
            among, seed, pool, radius, _COMPANIONS[kind], bounds, depths
        )
        if matching < 3 or deeper > _GROWTH * matching:
            continue
        richness[kind] = within / matching
        for i in range(pool):
            inside[i] = depths[i] < bound
        m = with_companions(among, seed, inside[:pool], local)
        j, k = 1 + below(state, m - 1), 1 + below(state, m - 1)
        if not apparent_depth(local, j, k) < 2.0 * bound:
            continue
        jury, jurors = (local, m) if kind == 0 else (front, front.shape[1])
        for s in range(_poses_of(local, j, k, rotations, translations, work)):
            trial[:, :3] = rotations[s]
            trial[:, 3] = translations[s]
            agreeing = count_inliers(jury, jurors, trial, aspect, wide)
            if agreeing < max(_SUPPORT, _SUPPORT_SHARE[kind] * jurors):
                continue
            pixel_gated_sums(jury, jurors, trial, aspect, wide, sums)
            if gauss_newton_step(sums, trial) < 0.0:
                continue
            if count_inliers(subset, size, trial, aspect, wide) <= _PROMISING * best * size:
                continue
            score = _optimise(points, subset, trial, aspect, threshold, _CLOSE * best, sums)
            _remember(trial, score, modes, scores)
            best = max(best, score)
    return num


@kernel
def _poses_of(local, j, k, rotations, translations, work):
    """P3P of the seed and two companions; returns how many poses."""
    points = np.empty((3, 3))
    bearings = np.empty((3, 3))
    for i in range(3):
        row = 0 if i == 0 else (j if i == 1 else k)
        scale = math.sqrt(local[5, row])
        bearings[i, 0], bearings[i, 1], bearings[i, 2] = local[3, row] * scale, local[4, row] * scale, scale
        points[i, 0], points[i, 1], points[i, 2] = local[0, row], local[1, row], local[2, row]
    return p3p_poses(points, bearings, rotations, translations, work)


@kernel
def _is_known(points, i, modes, scores, aspect, threshold):
    """Whether a point is an inlier of a pose with many: then it has nothing new to say."""
    x, y, z, rx, ry = points[0, i], points[1, i], points[2, i], points[3, i], points[4, i]
    for m in range(len(scores)):
        if scores[m] > _KNOWN_SHARE:
            rows = pose_rows(modes[m], np.float32)
            if meets_ray(rows, x, y, z, rx, ry, aspect * aspect, threshold * threshold):
                return True
    return False


@kernel
def _optimise(points, subset, pose, aspect, threshold, least, sums):
    """Move the noisy pose of a minimal set to the optimum of its inliers, in place; returns their share.

    A pose that is left without a share of `least` on the way is given up: 0.
    """
    size = subset.shape[1]
    for scale in (10.0, 7.0, 5.0, 3.0, 2.0):
        pixel_gated_sums(subset, size, pose, aspect, scale * threshold, sums)
        if gauss_newton_step(sums, pose) < 0.0 or sums[PROBABILITY] < least * size:
            return 0.0
    agreeing = count_inliers(subset, size, pose, aspect, threshold)
    if agreeing >= _ENOUGH:
        return agreeing / size
    pixel_gated_sums(points, points.shape[1], pose, aspect, 2.0 * threshold, sums)
    if gauss_newton_step(sums, pose) < 0.0:
        return 0.0
    return inlier_share(points, pose, aspect, threshold)


@kernel
def _remember(pose, score, modes, scores):
    """Keep the pose in place of one that it resembles, or else of the worst, if it is better than that."""
    place = 0
    for m in range(len(scores)):
        trace = 0.0
        for i in range(3):
            for j in range(3):
                trace += pose[i, j] * modes[m, i, j]
        if scores[m] > 0.0 and trace > 1.0 + 2.0 * math.cos(_SAME_ANGLE):
            place = m
            break
        if scores[m] < scores[place]:
            place = m
    if score > scores[place]:
        scores[place] = score
        modes[place] = pose


# ---- the answer --------------------------------------------------------------------------------------


@kernel
def _choose(points, subset, modes, scores, aspect, threshold, pose, information):
    """The likeliest of the found poses, at its maximum likelihood; False when there is none.

    Poses are compared at one noise scale, the smallest among them: each at its own, one with much slack would
    win.
    """
    best = scores.max()
    if best == 0.0:
        return False
    fisher = np.zeros((_MODES, 6, 6))
    variances = np.zeros(_MODES)
    common = np.inf
    rivals = 0
    for m in range(_MODES):
        if scores[m] >= 0.5 * best:
            variances[m] = _finish(points, subset, aspect, threshold, modes[m], fisher[m])
            if variances[m] > 0.0:
                common = min(common, variances[m])
                rivals += 1
    most = -1.0
    sums = np.empty(NUM_SUMS)
    for m in range(_MODES):
        if variances[m] > 0.0:
            likelihood = 0.0
            if rivals > 1:
                mixture_sums(points, None, points.shape[1], modes[m], common, 1.0, 0.0, sums)
                likelihood = sums[PROBABILITY]
            if likelihood > most:
                most = likelihood
                pose[:] = modes[m]
                information[:] = fisher[m]
    return most >= 0.0


@kernel
def _finish(points, subset, aspect, threshold, pose, information):
    """Maximum likelihood pose, in place, for Gaussian noise and uniform clutter, both estimated along the way.

    Writes its information matrix and returns the variance of the noise, 0 where the points determine no pose.
    """
    sums = np.empty(NUM_SUMS)
    pixel_gated_sums(subset, subset.shape[1], pose, aspect, 2.0 * threshold, sums)
    if not sums[PROBABILITY] > 0.0:
        return 0.0
    noise = np.array([max(0.5 * sums[SQUARE] / sums[PROBABILITY], 1e-18), 0.01])
    maximise_likelihood(subset, None, subset.shape[1], pose, noise, 0.0, sums, 4)
    inside = np.empty(points.shape[1], np.bool_)
    mark_inliers(points, pose, aspect, 4.0 * threshold, inside)
    near, count = points, inside.sum()
    if 2 * count < len(inside):  # otherwise copying costs more than it saves
        near = np.empty((7, count), np.float32)
        gather(points, inside, 0, near)
    if not maximise_likelihood(near, None, near.shape[1], pose, noise, 0.0, sums, 10):
        return 0.0
    unpacked(sums, 1.0 / noise[0], information)
    return noise[0]
