"""What a map can do without: where it remembers more than a fresh map would, what is least useful goes.

A landmark is as useful as the poorest of the views that show it needs it: those go first that only views with
plenty show. The same goes for described points; of visual words one of two that are much alike can go.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int

from dsac.cropping import part_of
from dsac.geometry import Camera
from dsac.landmarks import SHORT_SIDE_PX, DescribedPoints, Landmarks, Remembered
from dsac.landmarks.patches import PinholeView, Visibility, visible_patches
from dsac.visual_words import VisualWords

_ALIKE = Visibility(margin_px=8, max_angle=np.radians(20.0), max_zoom=1.35)
_FAR = 1.5  # times as far as the farthest landmark of a view, its described points may be
_ROUND = 0.01  # of what there is, that goes before it is counted anew


def thinned(memory: Remembered, most: int, camera: Camera, doubted: Bool[np.ndarray, " L"]) -> Remembered:
    """At most `most` landmarks, and twice as many described points, as the views need them.

    `camera` is a typical one of the views. Doubted landmarks go first; of those needed alike the last of
    their view.
    """
    landmarks, described = memory.landmarks, memory.described
    kept = np.ones(len(landmarks), bool)
    if len(landmarks) > most:
        shown = _shown(landmarks, _views(landmarks, camera))
        kept = needed(shown & ~doubted[:, None], _rank_in_view(landmarks), most)
    of_described = None
    if described is not None and len(described) > 2 * most:
        shown = _described_shown(described, landmarks, _views(landmarks, camera))
        of_described = needed(shown, -np.arange(len(described)), 2 * most)  # the oldest first
    return part_of(memory, kept, of_described)


def needed(shown: Bool[np.ndarray, "N V"], rank: Int[np.ndarray, " N"], count: int) -> Bool[np.ndarray, " N"]:
    """Which `count` of N points to keep, each shown by some of V views, so that no view has few.

    Of points that are needed alike those of the higher rank go first.
    """
    kept = np.ones(len(shown), bool)
    while (surplus := int(kept.sum()) - count) > 0:
        rows = np.flatnonzero(kept)
        of_view = np.where(shown[rows], shown[rows].sum(0), np.iinfo(np.int32).max)
        plenty = of_view.min(1, initial=np.iinfo(np.int32).max)  # of the poorest view that shows it
        order = np.lexsort((-rank[rows], -plenty))
        kept[rows[order[: min(surplus, max(1, int(_ROUND * len(shown))))]]] = False
    return kept


def thinned_words(words: VisualWords, most_words: int, most_centers: int) -> VisualWords:
    """At most so many words, without the earlier of two that are most alike, and centres, an even choice."""
    unit = torch.nn.functional.normalize(words.words.float(), dim=-1)
    alike = (unit @ unit.T).triu(1).numpy()
    kept = np.ones(len(unit), bool)
    while kept.sum() > most_words:
        first = int(alike.max(1).argmax())
        kept[first] = False
        alike[first], alike[:, first] = -1, -1
    count = len(words.centers)
    some = np.unique(np.linspace(0, count - 1, min(count, most_centers)).round().astype(int))
    rows = torch.from_numpy(kept)
    worth = None if words.worth is None else words.worth[rows]
    return VisualWords(words.words[rows], words.centers[torch.from_numpy(some)], worth)


def _views(landmarks: Landmarks, camera: Camera) -> list[PinholeView]:
    pinhole = camera.pinhole_of(SHORT_SIDE_PX)
    poses, focals = landmarks.cam_from_world, landmarks.focal_px.double().numpy()
    views = [PinholeView.of(pinhole, poses[i]) for i in range(len(focals))]
    return [view._replace(focal_px=focal) for view, focal in zip(views, focals, strict=True)]


def _shown(landmarks: Landmarks, views: list[PinholeView]) -> Bool[np.ndarray, "L V"]:
    """Which views show which landmarks much as they were seen; each its own."""
    shown = np.zeros((len(landmarks), len(views)), bool)
    shown[np.arange(len(landmarks)), landmarks.view.numpy()] = True
    for i, view in enumerate(views):
        shown[visible_patches(landmarks.seen, view, _ALIKE, len(landmarks)), i] = True
    return shown


def _described_shown(
    described: DescribedPoints, landmarks: Landmarks, views: list[PinholeView]
) -> Bool[np.ndarray, "M V"]:
    """Which views look at which described points, not much farther off than at landmarks of theirs."""
    points, own, of_view = described.points.double().numpy(), landmarks.seen.points, landmarks.view.numpy()
    shown = np.zeros((len(points), len(views)), bool)
    for i, view in enumerate(views):
        pixels, depths = view.project(points)
        farthest = view.project(own[of_view == i])[1].max(initial=0.0)
        inside = ((pixels > 0) & (pixels < np.array(view.size))).all(1)  # NaN is not
        shown[:, i] = inside & (depths < _FAR * farthest)
    return shown


def _rank_in_view(landmarks: Landmarks) -> Int[np.ndarray, " L"]:
    """0 for the first of a view, which is the clearest."""
    view = landmarks.view.numpy()
    order = np.argsort(view, kind="stable")
    rank = np.empty(len(view), int)
    rank[order] = np.arange(len(view)) - np.searchsorted(view[order], view[order])
    return rank
