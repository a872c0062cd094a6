"""The answer for one photo, by what a map remembers of its images.

The pose of its scene coordinates is aligned by landmarks. Where that leaves doubts, the photo's keypoints are
matched to the described points, and the pose that they agree on is aligned; if that fails, too, those of the
photo turned by a quarter, three quarters, a half. Where the map knows places that look alike, the likeliest of
them is the answer, and the others are named.

Where the photo's depth is measured the pose of its scene coordinates is no mere start: it knows distances that
landmarks do not. Both poses together are the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dsac.geometry import Pose
from dsac.landmarks.alignment import align, sightings
from dsac.landmarks.described import DescribedPoints
from dsac.landmarks.landmarks import Landmarks
from dsac.landmarks.look_alikes import LookAlikes, probabilities, support
from dsac.landmarks.matcher import Matcher
from dsac.landmarks.patches import tiles_of
from dsac.landmarks.telling import evidence
from dsac.landmarks.view import GreyView
from dsac.ransac import Correspondences, DenseSolver, PoseEstimate, Solver, alternatives, are_same, fused


class Remembered(NamedTuple):
    """What a map remembers of its images."""

    landmarks: Landmarks
    described: DescribedPoints | None = None
    look_alikes: LookAlikes | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """The likeliest pose of one photo, and the others that it may have been taken from."""

    estimate: PoseEstimate  # B = 1
    others: tuple[tuple[PoseEstimate, float], ...] = ()  # each with its probability, the likeliest first

    @property
    def probability(self) -> float:
        """That it is this one, if it is one of them."""
        return 1.0 - sum(probability for _, probability in self.others)


def answer(
    memory: Remembered,
    view: GreyView,  # of the photo
    rows: Correspondences,  # B = 1: its scene coordinates
    coarse: PoseEstimate,  # B = 1: what they agree on
) -> Answer:
    """The pose by landmarks where they are found and tell the place better."""
    return thorough_answer(memory, view, rows, coarse, quick_answer(memory, view, rows, coarse))


def quick_answer(
    memory: Remembered, view: GreyView, rows: Correspondences, coarse: PoseEstimate
) -> PoseEstimate:
    """The first part of `answer`: aligned by the landmarks that the pose shows, nothing is searched for."""
    return _aligned(memory.landmarks, view, coarse, rows)


def is_doubtful(found: PoseEstimate, rows: Correspondences) -> bool:
    """Whether the answer for one photo is unsure, or exact to less than a part of the depth."""
    depths = (found.cam_from_world @ rows.scene_points)[..., 2]
    unsure = found.confidence.item() <= SURE
    return unsure or _spread(found).sqrt().item() > _EXACT * depths.median().item()


def thorough_answer(
    memory: Remembered, view: GreyView, rows: Correspondences, coarse: PoseEstimate, found: PoseEstimate
) -> Answer:
    """The rest: doubts are searched for, places that look alike told apart; `found` is of `quick_answer`."""
    if memory.described is not None and is_doubtful(found, rows):
        turns = _TURNS[:1] if found.success else _TURNS
        matched = (_matched(memory.landmarks, Matcher.of(memory.described, view, turn), view) for turn in turns)
        again = next((pose for pose in matched if pose.success), None)
        if again is None:
            found = replace(found, success=found.success & (found.confidence > SURE))
        else:
            found = again.to(found.covariance)
            found = _with(found, coarse, rows) if _is_measured(coarse, rows) else found
    if not memory.look_alikes or not found.success:
        return Answer(found)
    return _told_apart(memory.landmarks, memory.look_alikes, view, rows, found)


def answer_by_modes(solver: Solver, rows: Correspondences, coarse: PoseEstimate) -> Answer:
    """The same where a map remembers nothing: of the poses that the modes of scene coordinates support."""
    places = [coarse, *alternatives(solver, rows, coarse)]
    if rows.weights is None or len(places) == 1:
        return Answer(coarse)
    agreeing = torch.stack([rows.weights[place.inliers].sum() for place in places]) ** _OF_WEIGHT
    return _likeliest(places, (agreeing / agreeing.sum()).tolist())


def trusted(estimate: PoseEstimate) -> PoseEstimate:
    """No success below the least confidence."""
    return replace(estimate, success=estimate.success & (estimate.confidence > LEAST_CONFIDENCE))


# Landmarks alone reach a confidence of 0.54 by chance, on one of 233 photos of other places.
SURE = 0.7  # what is not asked again, unless its place is known to no better than ...
# What nothing else is asked of, by landmarks from a prior. Of 1600 kitchen photos, from poses up to 40 frames
# ago, none that was surer was wrong, of those that were a little less sure 3 were.
ENOUGH = 0.8
_EXACT = 0.004  # ... that part of the depth
_TURNS = 0, 1, 3, 2  # quarter turns: photos upside down are the rarest
MATCHING = DenseSolver.rgb(threshold_px=8.0)
_LEAST_TILES = 8  # of an image, with inliers: wrong poses had them in seven at most
# Photos of one colour, of noise and of other places reach 0.3; right poses of a quickly made map start at 0.8.
LEAST_CONFIDENCE = 0.5
_MOST_TRIED = 16  # other places
_LEAST_NEAR = 0.25  # confidence in a place that is expected: few landmarks may show it
# Scene coordinates err together over more than a tile: in the kitchen their pose with depth is off 1.5 times as
# far as it says.
_FARTHER = 1.5
_CLEAR = 0.7  # probability of a place that is the answer
_OF_WEIGHT = (
    3  # power of the weight that agrees: with it probabilities are the frequencies in a rendered corridor
)


def _aligned(landmarks: Landmarks, view: GreyView, coarse: PoseEstimate, rows: Correspondences) -> PoseEstimate:
    """The pose of one photo, by the landmarks where they are found and tell it better."""
    fine = trusted(align(landmarks, view, coarse.cam_from_world[0]).estimate.to(coarse.covariance))
    if fine.success and _is_measured(coarse, rows):
        return _with(fine, coarse, rows)
    return fine if fine.success and not (coarse.success and _spread(coarse) < _spread(fine)) else coarse


def _is_measured(coarse: PoseEstimate, rows: Correspondences) -> bool:
    """Whether measured depth told the pose."""
    return rows.has_depth and bool(coarse.success)


def _with(fine: PoseEstimate, coarse: PoseEstimate, rows: Correspondences) -> PoseEstimate:
    """The pose by landmarks with that by measured depth, unless they are of different places."""
    depth = (coarse.cam_from_world @ rows.scene_points)[..., 2].median().item()
    if not are_same(_pose(fine), _pose(coarse), depth):
        return fine
    return fused(fine, replace(coarse, covariance=_FARTHER**2 * coarse.covariance))


def _matched(landmarks: Landmarks, matcher: Matcher, view: GreyView) -> PoseEstimate:
    """The pose of one photo by its keypoints; no success where they do not tell it."""
    rows = matcher.anywhere().rows(view.camera)
    found = MATCHING(rows)
    if not found.success:
        return found
    aligned = align(landmarks, view, found.cam_from_world[0], matcher).estimate
    return trusted(aligned if aligned.confidence > LEAST_CONFIDENCE else _confirmed(found, aligned, rows))


def _confirmed(found: PoseEstimate, aligned: PoseEstimate, rows: Correspondences) -> PoseEstimate:
    """The pose by matches alone, or its alignment where that keeps their inliers.

    These must lie in enough tiles of the image: some fifty matches on one small thing fit a wrong pose well.
    """
    tiles = np.unique(tiles_of(rows.pixels[found.inliers].numpy(), rows.camera.size))
    success = found.success & (len(tiles) >= _LEAST_TILES)
    kept = MATCHING.inliers(aligned.cam_from_world, rows) & found.inliers
    if aligned.success and kept.sum() >= 0.8 * found.inliers.sum():
        found = replace(aligned, confidence=found.confidence)
    return replace(found, success=success)


def _told_apart(
    landmarks: Landmarks, look_alikes: LookAlikes, view: GreyView, rows: Correspondences, found: PoseEstimate
) -> Answer:
    """The likeliest of the places that look like the one that was found, and the others."""
    places, poses, found_there = [found], [_pose(found)], []
    tried: list[Pose] = []
    for pose in poses:  # those that are found on the way have look-alikes, too
        seen = sightings(landmarks, view, pose)
        found_there.append(seen)
        depth = landmarks.depth_from(pose, seen.rows)
        for other in look_alikes.others(landmarks, seen.rows, pose):
            if len(tried) >= _MOST_TRIED or any(are_same(other, known, depth) for known in tried):
                continue
            tried.append(other)
            aligned = align(landmarks, view, other).estimate.to(found.covariance)
            if _may_be(aligned, other, depth) and not any(
                are_same(_pose(aligned), known, depth) for known in poses
            ):
                places.append(aligned)
                poses.append(_pose(aligned))
    if len(places) == 1:
        return Answer(found)
    told = evidence(look_alikes.telling, landmarks, view, poses, found_there)
    supports = [support(seen, view.camera.size) for seen in found_there]
    shares = [share_of_cells(rows, place) for place in places]
    return _likeliest(places, probabilities(told, supports, shares).tolist())


def _may_be(aligned: PoseEstimate, known: Pose, depth: float) -> bool:
    """Whether a look-alike is another place of the photo: trusted, or found where it was known to be."""
    near = bool(are_same(_pose(aligned), known, depth))
    return bool(aligned.success) and aligned.confidence.item() > (_LEAST_NEAR if near else LEAST_CONFIDENCE)


def _likeliest(places: list[PoseEstimate], chances: list[float]) -> Answer:
    """The answer where each of the places is the right one with its chance."""
    possible = [(place, chance) for place, chance in zip(places, chances, strict=True) if chance > 0]
    (likeliest, chance), *others = sorted(possible, key=lambda place: -place[1])
    return Answer(as_likely(likeliest, chance), tuple(others))


def as_likely(estimate: PoseEstimate, chance: float) -> PoseEstimate:
    """The pose of a place that is the right one with this chance: an answer where that is clear."""
    estimate = trusted(replace(estimate, confidence=estimate.confidence * chance))
    return replace(estimate, success=estimate.success & (chance >= _CLEAR))


def _pose(estimate: PoseEstimate) -> Pose:
    return estimate.cam_from_world[0].to("cpu", torch.float64)


def share_of_cells(rows: Correspondences, place: PoseEstimate) -> float:
    """Of the weight of the scene coordinates, what agrees with a pose."""
    weights = torch.ones_like(rows.pixels[..., 0]) if rows.weights is None else rows.weights
    agree = MATCHING.inliers(place.cam_from_world, rows)
    return (weights[agree].sum() / weights.sum().clamp_min(1e-9)).item()


def _spread(estimate: PoseEstimate) -> Tensor:
    """Variance of the camera's place, m²."""
    return estimate.covariance.diagonal(dim1=-2, dim2=-1)[..., 3:].sum(-1)
