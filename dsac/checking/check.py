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
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
from jaxtyping import Float

from dsac.checking.agreement import FINE_PX, Motions, agreement, mean_agreement
from dsac.checking.depth import DepthCheck, check_depth
from dsac.checking.finding import Finding
from dsac.checking.sample import SharedCorners
from dsac.datasets import Frames, Scene
from dsac.datasets.conventions import AXES, INVERSE, QUATERNIONS, WRITTEN, Conventions
from dsac.errors import DatasetError
from dsac.geometry import Pose

_ENOUGH = 150  # shared corners, to say anything of poses
_GOOD = 0.5  # of the frames: in recordings that are right more agree with another one, in others hardly any
_FRAME_AGREES = 0.5  # with another: of the corners that the two share
_ALONE = 0.3  # of the frames
_BETTER = 1.35, 0.15  # other conventions must explain so many times as much, and by so much more
_AS_GOOD = 0.93  # of the most: the simplest that explains so much is taken
_STEP_BETTER, _STEP_WRONG = (1.1, 0.03), 1.5  # likewise of poses a frame away, and so much more is no lag
_FOCAL_BETTER = 1.08, 0.02
_FOCAL_SCALES = np.concatenate([[0.5, 2.0], np.exp(np.arange(-12, 13) * np.log(1.02))])
_FOCAL_FINE = np.exp(np.arange(-8, 9) * np.log(1.0025))
_FOCAL_OFF, _FOCAL_WRONG = 0.035, 0.08  # relative, from which it is said, and said to be wrong


@dataclass(frozen=True)
class SceneCheck:
    """What was found out about a recording."""

    frames_seen: int
    num_shared: int  # corners, in pairs of frames
    agreed: float  # share of the shared corners, as it was read; NaN if there are too few to say
    frames_agreed: float  # share of the frames that agree with another one, with the cure
    cure: Conventions | None
    depth: DepthCheck | None
    findings: list[Finding]

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
    if len(shared) < _ENOUGH:
        nan = float("nan")
        return SceneCheck(
            len(shared.frames), len(shared), nan, nan, None, None, [_too_few(shared), *_notes(shared)]
        )
    poses = frames.cam_from_world[shared.indices]
    as_read = mean_agreement(shared, poses, Conventions())
    cure, findings = _of_poses(shared, poses, as_read)
    on_progress(0.8)
    depth = None
    out_of_step = _of_order(shared, frames.cam_from_world, mean_agreement(shared, poses, cure))
    if out_of_step is not None:  # which hides everything else
        cure, findings = Conventions(), [out_of_step]
        frames_agreed = _frames_agreed(shared, poses, cure)
    else:
        cure, of_focal = _of_focal(shared, poses, cure)
        findings += of_focal
        frames_agreed = _frames_agreed(shared, poses, cure)
        if frames_agreed < _GOOD:
            findings.append(Finding("doubtful", _UNEXPLAINED.format(frames_agreed)))
        elif frames.has_depth:
            depth, of_depth, cure = check_depth(frames, shared, poses, cure)
            findings += of_depth
    on_progress(1.0)
    findings += _notes(shared)
    findings.sort(key=lambda finding: ("wrong", "doubtful", "note").index(finding.severity))
    meant = None if cure == Conventions() else cure
    return SceneCheck(len(shared.frames), len(shared), as_read, frames_agreed, meant, depth, findings)


def _too_few(shared: SharedCorners) -> Finding:
    return Finding(
        "doubtful",
        f"{len(shared)} corners are shared by two of {len(shared.frames)} frames, too few to check poses: "
        "expected frames that overlap, sharp ones, of things that do not move",
    )


def _notes(shared: SharedCorners) -> list[Finding]:
    alone, seen = int((shared.partners == 0).sum()), len(shared.frames)
    notes = [f"a frame cannot be read, mapping leaves it out: {error}" for error in shared.unread]
    if alone > _ALONE * seen:
        notes.append(f"{alone} of {seen} frames that were looked at share nothing with another")
    return [Finding("note", text) for text in notes]


_UNEXPLAINED = (
    "only {:.0%} of the frames agree with another one under their poses, and none of the usual mistakes "
    "explains it: poses of another recording, a moving scene, or images out of order?"
)


def _frames_agreed(shared: SharedCorners, poses: Pose, meant: Conventions) -> float:
    """Share of the frames with partners that agree with one of them."""
    agreed = agreement(shared, Motions.of(shared, poses, meant))
    count = len(shared.frames)
    pair = shared.first * count + shared.second
    corners, sums = (np.bincount(pair, weights, minlength=count**2) for weights in (None, agreed))
    good = np.asarray(sums / np.maximum(corners, 1) > _FRAME_AGREES).reshape(count, count)
    of_frame = np.logical_or.reduce(good | good.T, axis=1)
    return float(np.mean(of_frame[shared.partners > 0]))


def _of_poses(shared: SharedCorners, poses: Pose, as_read: float) -> tuple[Conventions, list[Finding]]:
    """The simplest conventions that explain clearly more than those read."""
    if max(as_read * _BETTER[0], as_read + _BETTER[1]) > 1:  # nothing explains more than all
        return Conventions(), []
    scored = [(mean_agreement(shared, poses, c), _changes(c), c) for c in _readings()]
    most = max(score for score, _, _ in scored)
    if most < as_read * _BETTER[0] or most < as_read + _BETTER[1]:
        return Conventions(), []
    score, _, best = min((s for s in scored if s[0] > _AS_GOOD * most), key=lambda s: (s[1], -s[0]))
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
        if score > best * _STEP_BETTER[0] and score > best + _STEP_BETTER[1]:
            best, by = score, step
    if by == 0:
        return None
    which = "after" if by > 0 else "before"
    return Finding(
        "wrong" if best > _STEP_WRONG * explained else "doubtful",
        f"the images fit the poses of the frame {which} them better than their own ({best:.0%} of the corners "
        f"agree, not {explained:.0%}): are images and poses counted from the same frame?",
    )


def _of_focal(shared: SharedCorners, poses: Pose, c: Conventions) -> tuple[Conventions, list[Finding]]:
    """The same conventions with focal lengths that agree clearly better than those read."""
    motions = Motions.of(shared, poses, c)

    def score(scale: float) -> float:
        return float(agreement(shared, replace(motions, focal_scale=scale), FINE_PX).mean())

    def best_of(scales: Float[np.ndarray, " S"]) -> tuple[float, float]:
        return max((score(scale), scale) for scale in scales.tolist())

    as_read = score(1.0)
    most, best = best_of(_FOCAL_SCALES)
    if most < as_read * _FOCAL_BETTER[0] or most < as_read + _FOCAL_BETTER[1]:
        return c, []
    _, best = best_of(best * _FOCAL_FINE)
    if abs(np.log(best)) < _FOCAL_OFF:
        return c, []
    longer = "longer" if best > 1 else "shorter"
    text = f"corners agree best with focal lengths {abs(best - 1):.1%} {longer} than those read"
    severity = "wrong" if abs(np.log(best)) > _FOCAL_WRONG else "doubtful"
    return replace(c, focal_scale=best), [Finding(severity, text, f"--focal-scale {best:.4g}")]
