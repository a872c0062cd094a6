"""The check of a recording: what agrees, what does not, and the cure.

    check = check_scene(load_scene("lab"))
    check.findings                     # what is wrong or doubtful, the worst first
    check.cure                         # Conventions under which it agrees, or None

Corners that frames share are found without poses (`sample.py`); under the poses as they were read, and under
each of the usual mistakes, they are held against each other (`agreement.py`). The mistake that explains clearly
more than the poses as read is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from jaxtyping import Float

from dsac.checking.agreement import (
    AGREES,
    Motions,
    agreement,
    agreement_of_frames,
    clearly_more,
    mean_agreement,
)
from dsac.checking.cameras import of_cameras
from dsac.checking.depth import DepthCheck, check_depth
from dsac.checking.finding import Finding
from dsac.checking.passes import of_passes
from dsac.checking.quality import (
    middle_distance,
    of_images,
    of_motion,
    of_origin,
    of_parallax,
    of_scale,
)
from dsac.checking.sample import SharedCorners
from dsac.datasets import Frames, Scene
from dsac.datasets.conventions import AXES, CENTERS, INVERSE, QUATERNIONS, WRITTEN, Conventions
from dsac.errors import DatasetError
from dsac.geometry import Pose

_ENOUGH = 150  # shared corners, to say anything of poses
_GOOD = 0.5  # of the frames: in recordings that are right more agree with another one, in others hardly any
_POOR = 0.35  # of the corners: cameras may be wrong, too
_BETTER = 1.35, 0.15  # other conventions must explain so many times as much, and by so much more
_TRIED = 800  # corners, with every reading of the poses
_AS_GOOD = 0.93  # of the most: the simplest that explains so much is taken
_STEP_BETTER, _STEP_WRONG = (1.1, 0.03), 1.5  # likewise of poses a frame away, and so much more is no lag


@dataclass(frozen=True, eq=False)
class SceneCheck:
    """What was found out about a recording."""

    shared: SharedCorners  # through cameras as they are meant
    agreement: Float[np.ndarray, " M"]  # of each of these corners, with the cure
    agreed: float  # share of the shared corners, as it was read; NaN if there are too few to say
    frames_agreed: float  # share of the frames that agree with another one, with the cure
    cure: Conventions | None
    depth: DepthCheck | None
    distance: float  # of what frames share, in the unit of the poses; NaN where that cannot be told
    metric: bool | None  # whether that unit is said to be the metre; None: it is not said
    findings: list[Finding]

    @property
    def frames_seen(self) -> int:
        return len(self.shared.frames)

    @property
    def num_shared(self) -> int:
        """Corners, in pairs of frames."""
        return len(self.shared)

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.severity == "wrong" for finding in self.findings)


def check_scene(
    scene: Scene | Frames, on_progress: Callable[[float], None] = lambda fraction: None
) -> SceneCheck:
    """Hold a recording's poses, focal lengths and depth against its images; some seconds.

    Raises: `DatasetError` for frames without poses.
    """
    frames = scene.mapping if isinstance(scene, Scene) else scene
    if len(frames) == 0 or frames.cam_from_world is None:
        raise DatasetError("check: expected frames with poses, got none")
    shared = SharedCorners.of(frames, lambda fraction: on_progress(0.7 * fraction))
    check = check_shared(frames, shared, scene.metric if isinstance(scene, Scene) else None)
    on_progress(1.0)
    return check


def check_shared(frames: Frames, shared: SharedCorners, metric: bool | None = None) -> SceneCheck:
    """The same, of what is known that they share."""
    assert frames.cam_from_world is not None
    of_quality = list(of_images(shared, frames))
    if len(shared) < _ENOUGH:
        nan, nothing = float("nan"), np.zeros(len(shared))
        few = [_too_few(shared), *of_quality]
        return SceneCheck(shared, nothing, nan, nan, None, None, nan, metric, few)
    poses = frames.cam_from_world[shared.indices]
    as_read = mean_agreement(shared, poses, Conventions())
    cure, findings = _misread(shared, poses, as_read)
    depth = None
    hiding = _of_order(shared, frames.cam_from_world, mean_agreement(shared, poses, cure))
    if hiding is None and not findings and as_read < _POOR:
        still = any(of_motion(shared, Motions.of(shared, poses, cure)))
        hiding = None if still else next(of_origin(poses, as_read), None)
    if hiding is not None:  # everything else
        cure, findings = Conventions(), [hiding]
    else:
        shared, cure, about_cameras = of_cameras(shared, poses, cure)
        findings += about_cameras
    motions = Motions.of(shared, poses, cure)
    agreed = agreement(shared, motions)
    of_frames = agreement_of_frames(shared, agreed)
    frames_agreed = float(np.mean(of_frames[shared.partners > 0] > AGREES))
    if hiding is None:
        about_motion = list(of_motion(shared, motions))
        if frames_agreed >= _GOOD:
            findings += of_passes(shared, agreed, frames.names)
        if frames_agreed < _GOOD:
            findings += about_motion or [Finding("doubtful", _UNEXPLAINED.format(frames_agreed))]
        elif not frames.has_depth:
            findings += about_motion or of_parallax(shared, motions)
        elif all(finding.cure for finding in findings):
            depth, about_depth, cure = check_depth(frames, shared, poses, cure)
            findings += about_motion + about_depth
    distance = middle_distance(shared, motions)
    findings += [*(of_scale(distance) if metric else []), *of_quality]
    findings.sort(key=lambda finding: ("wrong", "doubtful", "note").index(finding.severity))
    meant = None if cure == Conventions() else cure
    return SceneCheck(shared, agreed, as_read, frames_agreed, meant, depth, distance, metric, findings)


def _too_few(shared: SharedCorners) -> Finding:
    return Finding(
        "doubtful",
        f"{len(shared)} corners are shared by two of {len(shared.frames)} frames, too few to check poses: "
        "expected frames that overlap, sharp ones, of things that do not move",
    )


_UNEXPLAINED = (
    "only {:.0%} of the frames agree with another one under their poses, and none of the usual mistakes "
    "explains it: poses of another recording, a moving scene, or images out of order?"
)


def _misread(shared: SharedCorners, poses: Pose, as_read: float) -> tuple[Conventions, list[Finding]]:
    """What poses mean, also where cameras are those of images turned by a quarter."""
    cure, findings = _of_poses(shared, poses, as_read)
    if findings or as_read > _POOR:
        return cure, findings
    for center in CENTERS[1:]:
        cure, findings = _of_poses(shared.through(Conventions(center=center).camera), poses, as_read)
        if findings:
            break
    return cure, findings


def _of_poses(shared: SharedCorners, poses: Pose, as_read: float) -> tuple[Conventions, list[Finding]]:
    """The simplest conventions that explain clearly more than those read."""
    if not clearly_more(1.0, as_read, _BETTER):  # nothing explains more than all
        return Conventions(), []
    some = shared.thinned(_TRIED)
    tried = [(mean_agreement(some, poses, c), c) for c in _readings()]
    most = max(score for score, _ in tried)
    scored = [(mean_agreement(shared, poses, c), c) for score, c in tried if score >= 0.8 * most]
    most = max(score for score, _ in scored)
    if not clearly_more(most, as_read, _BETTER):
        return Conventions(), []
    good = [(score, c) for score, c in scored if score > _AS_GOOD * most]
    score, best = min(good, key=lambda good: (_changes(good[1]), -good[0]))
    if best == Conventions():
        return best, []
    text = (
        f"{as_read:.0%} of the corners that frames share agree with the poses, {score:.0%} if they are "
        + _in_words(best)
    )
    return best, [Finding("wrong", text, best.options())]


def _readings() -> Iterator[Conventions]:
    """Every way of misreading poses."""
    axes = [
        "".join(letters)
        for order in permutations("RDF")
        for letters in product(*({"R": "RL", "D": "DU", "F": "FB"}[line] for line in order))
    ]
    for inverse, letters in product(INVERSE, axes):
        yield Conventions(inverse, axes=letters)
        for quaternion, written in product(QUATERNIONS[1:], WRITTEN):
            yield Conventions(inverse, quaternion, written, letters)


def _changes(c: Conventions) -> int:
    """How much differs from what was read; named axes before others."""
    axes = 0 if c.axes == "RDF" else 1 if c.axes in AXES.values() else 3
    return 2 * (c.quaternion != "as read") + (c.written != "cam_from_world") + (c.poses != "as read") + axes


def _in_words(c: Conventions) -> str:
    words = []
    if c.quaternion != "as read":
        words.append(f"read with quaternions in the order {' '.join(c.quaternion)}")
    if c.poses == "inverted":
        words.append("inverted")
    if c.axes != "RDF":
        name = next((name for name, letters in AXES.items() if letters == c.axes), None)
        words.append(f"those of cameras with the axes {c.axes}" + (f" ({name})" if name else ""))
    return " and ".join(words)


def _of_order(shared: SharedCorners, poses: Pose, explained: float) -> Finding | None:
    """Whether poses (of all frames) belong to the image before or after."""
    best, by = explained, 0
    for step in (-1, 1):
        rows = (shared.indices + step).clamp(0, len(poses) - 1)
        score = mean_agreement(shared, poses[rows], Conventions())
        if clearly_more(score, best, _STEP_BETTER):
            best, by = score, step
    if by == 0:
        return None
    which = "after" if by > 0 else "before"
    return Finding(
        "wrong" if best > _STEP_WRONG * explained else "doubtful",
        f"the images fit the poses of the frame {which} them better than their own ({best:.0%} of the corners "
        f"agree, not {explained:.0%}): are images and poses counted from the same frame?",
    )
