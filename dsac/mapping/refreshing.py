"""A region that new photos show: what it remembers grows by them, and loses what they contradict.

What it has learned stays as it is, so that no old image is needed: new landmarks, described points, views and
words stand beside the old ones. Landmarks that several new photos should show much as they were seen, and most
do not, are gone from the place, and described points around them. The map becomes no larger than a fresh one:
of the rest goes what is least useful.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dsac.cropping import part_of, with_memory
from dsac.datasets import Frames
from dsac.datasets.frame import digest_of
from dsac.errors import DatasetError
from dsac.geometry import Pose
from dsac.landmarks import DescribedPoints, GreyView, Landmarks, LookAlikes, Remembered
from dsac.landmarks.alignment import LEAST_CORRELATION, search
from dsac.landmarks.patches import LEAST_CONTRAST, SIZE, PinholeView, Visibility, visible_patches
from dsac.map_info import MapInfo
from dsac.mapping.landmark_choice import remember
from dsac.mapping.thinning import thinned, thinned_words
from dsac.mapping.triangulation import with_triangulated_depth
from dsac.mapping.words import NUM_CENTERS, visual_words
from dsac.networks import local_features
from dsac.scene_map import SceneMap
from dsac.visual_words import NUM_WORDS, VisualWords


class Refreshed(NamedTuple):
    """A region's map after new photos."""

    scene_map: SceneMap
    num_frames: int  # new ones
    num_added: int  # landmarks
    num_gone: int  # that new photos contradict
    num_left_out: int  # for what is more useful, of old and new
    fault: str = ""  # why it got no landmarks


def refreshed(
    scene_map: SceneMap,
    frames: Frames,  # with poses in the world of the map, which has landmarks
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Refreshed:
    """The map that knows these frames, too. Photos without depth need each other, to be triangulated.

    Raises: `DatasetError` for frames that cannot be read.
    """
    memory = scene_map.memory
    assert memory is not None
    most = scene_map.info.settings.get("num_landmarks") or len(memory.landmarks)
    digests = {name: digest_of(frames.reader, name) for name in frames.names}
    frames = frames.within(scene_map.info.world_from_map)
    looks = looked_for(memory.landmarks, frames)
    on_progress(0.3)
    kept, fault = _without(memory, looks), ""
    try:
        with_depth = frames if frames.has_depth else with_triangulated_depth(
            frames, short_side_px=_TRIANGULATED_PX, on_progress=lambda done: on_progress(0.3 + 0.4 * done)
        )  # fmt: skip
        new = remember(
            with_depth, _quota(memory.landmarks, most, len(frames)), lambda done: on_progress(0.7 + 0.3 * done)
        )
    except DatasetError as error:
        new, fault = None, str(error)
    together = kept if new is None else joined(kept, new)
    doubted = np.zeros(len(together.landmarks), bool)
    doubted[: len(kept.landmarks)] = looks.doubted[~looks.gone]
    together = thinned(together, most, scene_map.mapping_camera or frames.camera(0), doubted)
    info = _told(scene_map.info, digests, new)
    words = scene_map.words
    if words is not None:
        words = with_words(words, visual_words(frames, None, seed, torch.device(device)))
    changed = with_memory(replace(scene_map, info=info, words=words), together)
    added = 0 if new is None else len(new.landmarks)
    left_out = len(kept.landmarks) + added - len(together.landmarks)
    return Refreshed(changed, len(frames), added, int(looks.gone.sum()), left_out, fault)


class Looks(NamedTuple):
    """What frames say of landmarks."""

    looked: Int[np.ndarray, " L"]  # frames that should show it much as it was seen
    found: Int[np.ndarray, " L"]  # that do
    clear: Bool[np.ndarray, " L"]  # others are missed where they are, too

    @property
    def gone(self) -> Bool[np.ndarray, " L"]:
        """Most of several frames should show it and do not."""
        return self.told & (self.found < _SHARE * self.looked)

    @property
    def told(self) -> Bool[np.ndarray, " L"]:
        """Frames enough should show it to say whether it is gone."""
        return self.clear & (self.looked >= _LEAST_LOOKS)

    @property
    def doubted(self) -> Bool[np.ndarray, " L"]:
        """Not one frame shows it of several that should."""
        return (self.looked >= _LEAST_DOUBTS) & (self.found == 0)


def looked_for(landmarks: Landmarks, frames: Frames) -> Looks:
    """How many frames (poses in the map's frame) should show each landmark, and do.

    Frames that show few of all have another light, or a wrong pose, and say nothing.
    """
    assert frames.cam_from_world is not None
    looked, found = np.zeros(len(landmarks), int), np.zeros(len(landmarks), int)
    middle = slice((landmarks.patches.shape[-1] - SIZE) // 2, (landmarks.patches.shape[-1] + SIZE) // 2)
    contrast = landmarks.patches[:, middle, middle].double().flatten(1).std(1, correction=0).numpy()
    clear = contrast > _CLEAR * LEAST_CONTRAST
    for i in range(len(frames)):
        frame = frames[i]
        view = GreyView.of(frame.image, frame.camera)
        pose = frames.cam_from_world[i]
        rows = visible_patches(landmarks.seen, PinholeView.of(view.camera, pose), _ALIKE, len(landmarks))
        _, _, correlation = search(landmarks, rows, view, pose, _RADIUS)
        there = correlation > LEAST_CORRELATION
        if there[clear[rows]].sum() > _TRUSTED * clear[rows].sum():
            looked[rows] += 1
            found[rows[there]] += 1
    return Looks(looked, found, clear)


def _without(memory: Remembered, looks: Looks) -> Remembered:
    """Without landmarks that are gone, and described points around which most are, of those that were told."""
    if memory.described is None or not looks.gone.any():
        return part_of(memory, ~looks.gone)
    seen, told = memory.landmarks.seen, looks.told
    points = torch.from_numpy(seen.points[told])
    around = torch.from_numpy(_AROUND * np.linalg.norm(seen.rays[told], axis=1))
    vote = torch.from_numpy(np.where(looks.gone[told], 1.0, -1.0))
    votes = [
        (torch.cdist(some.double(), points) < around).double() @ vote
        for some in memory.described.points.split(_BLOCK)
    ]
    return part_of(memory, ~looks.gone, (torch.cat(votes) <= 0).numpy())


def joined(old: Remembered, new: Remembered) -> Remembered:
    """Both together; the new views are counted after the old ones."""
    if len(new.landmarks) == 0:
        return old
    described = [points for points in (old.described, new.described) if points is not None]
    points = torch.cat([each.points for each in described]) if described else None
    return Remembered(
        _both(old.landmarks, new.landmarks),
        None
        if points is None
        else DescribedPoints(points, torch.cat([each.descriptors for each in described])),
        _with_look_alikes(old.look_alikes, new.look_alikes, len(old.landmarks.focal_px)),
    )


def _with_look_alikes(old: LookAlikes | None, new: LookAlikes | None, views: int) -> LookAlikes | None:
    """Both together; the new ones' views are counted after so many."""
    if not new:
        return old
    none = LookAlikes(new.view[:0], new.there_from_here[:0], None)
    old = old or none
    telling = new.telling
    if old.telling is not None:
        telling = old.telling if telling is None else old.telling.joined(telling, views)
    elif telling is not None:
        telling = replace(telling, view=telling.view + views)
    motions = Pose.cat([old.there_from_here, new.there_from_here])
    return LookAlikes(torch.cat([old.view, new.view + views]).to(torch.int32), motions, telling)


def _both(old: Landmarks, new: Landmarks) -> Landmarks:
    colored = old.colors is not None and new.colors is not None
    return Landmarks(
        torch.cat([old.points, new.points]),
        torch.cat([old.patches, new.patches]),
        torch.cat([old.view, new.view + len(old.focal_px)]).to(torch.int32),
        Pose.cat([old.cam_from_world, new.cam_from_world]),
        torch.cat([old.focal_px, new.focal_px]),
        torch.cat([old.colors, new.colors]) if colored else None,  # type: ignore[list-item]
    )


def with_words(old: VisualWords, new: VisualWords) -> VisualWords:
    """With those new words that no old one resembles, the strangest first, and the new cameras' centres.

    No more than a fresh map has.
    """
    unit = [torch.nn.functional.normalize(each.words.float(), dim=-1) for each in (old, new)]
    nearest = (unit[1] @ unit[0].T).amax(1)
    order = nearest.argsort(stable=True)[:_MOST_WORDS]
    strange = order[nearest[order] < _ALIKE_WORDS]
    worth = None if old.worth is None else torch.cat([old.worth, torch.zeros(len(strange))])
    words = torch.cat([old.words, new.words[strange]])
    together = VisualWords(words, torch.cat([old.centers, new.centers]), worth)
    return thinned_words(together, max(NUM_WORDS, len(old.words)), NUM_CENTERS)


def _told(info: MapInfo, digests: dict[str, str], new: Remembered | None) -> MapInfo:
    low, high = torch.tensor(info.bounds_min), torch.tensor(info.bounds_max)
    if new is not None and len(new.landmarks):
        points = new.landmarks.points.double()
        low = torch.minimum(low.double(), points.quantile(0.01, dim=0))
        high = torch.maximum(high.double(), points.quantile(0.99, dim=0))
    return replace(
        info,
        bounds_min=_as_tuple(low),
        bounds_max=_as_tuple(high),
        frames={**info.frames, **digests},
        num_frames=info.num_frames + len(digests),
        described_by=local_features.ID if new is not None and new.described is not None else info.described_by,
    )


def _as_tuple(values: Float[Tensor, "3"]) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z


def _quota(landmarks: Landmarks, most: int, num_frames: int) -> int:
    """As many of each frame as the map has of its views, within bounds."""
    of_each = len(landmarks) // max(1, len(landmarks.focal_px))
    return min(most, num_frames * min(max(of_each, _LEAST_OF_FRAME), _MOST_OF_FRAME))


_ALIKE = Visibility(margin_px=16, max_angle=np.radians(12.0), max_zoom=1.25)
_RADIUS = 8  # pixels around the expected place
_CLEAR = 1.15
_TRUSTED = 0.5  # of the landmarks that a frame should show: with less it says nothing
_LEAST_DOUBTS, _LEAST_LOOKS, _SHARE = 2, 3, 0.34  # frames; found in less than that part of them it is gone
_AROUND = 0.03  # of the distance that a landmark was seen from
_BLOCK = 1000  # points that are compared at once
_LEAST_OF_FRAME, _MOST_OF_FRAME = 100, 300  # landmarks
_TRIANGULATED_PX = 240
_MOST_WORDS, _ALIKE_WORDS = 150, 0.6
