"""What a recording's images and poses are good for, where it is less than usual: a line each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from dsac.checking.agreement import AGREES, Motions, agreement, depths
from dsac.checking.finding import Finding
from dsac.checking.sample import Sampled, SharedCorners
from dsac.datasets import Frames
from dsac.datasets.rigid import some
from dsac.geometry import Pose

_MANY = 0.2  # of the frames that were looked at
_ALONE = 0.3
BLURRED = 0.32  # fine by coarse detail: a blur of two pixels leaves 0.30, hand-held walks have 0.34 to 0.77
_EXTREME = 0.6  # of an image's pixels, black or white
_OFF = 0.1  # relative: a depth so uncertain is no depth
_FEW_TOLD = 0.1  # of the corners
_LOST = 0.15  # of the corners: in recordings that are right twice as many agree
_STILL = 0.02  # of the farthest that a camera moves between two frames
_STILL_PX = 1.0
_ROUNDING = 1e-9
_NEAR, _FAR = 0.03, 500.0  # metres: where things are that hand-held cameras see
_FAR_OFF = 1e4  # times as far from the world's origin as from each other: six digits tell a hundredth of that


def of_images(shared: SharedCorners, frames: Frames) -> Iterator[Finding]:
    """Frames that cannot be read, show little, or show what no other one shows."""
    for error in shared.unread:
        yield Finding("note", f"a frame cannot be read, mapping leaves it out: {error}")
    looked, seen = "frames that were looked at", len(shared.frames)
    for what, which in (
        ("blurred", [frame for frame in shared.frames if frame.detail < BLURRED]),
        ("mostly black", [frame for frame in shared.frames if frame.black > _EXTREME]),
        ("mostly white, burnt out", [frame for frame in shared.frames if frame.white > _EXTREME]),
    ):
        if len(which) > _MANY * seen:
            yield Finding("note", f"{len(which)} of {seen} {looked} are {what}: {_named(which, frames)}")
    alone = [frame for frame, partners in zip(shared.frames, shared.partners, strict=True) if not partners]
    if len(alone) > _ALONE * seen:
        text = f"{len(alone)} of {seen} {looked} share nothing with another: {_named(alone, frames)}"
        yield Finding("note", text)
    parts = sorted((int(size) for size in np.bincount(_parts(shared)) if size > 1), reverse=True)
    if seen == len(frames) and len(parts) > 1:
        numbers = ", ".join(map(str, parts))
        yield Finding("note", f"frames fall into {len(parts)} parts that share nothing: {numbers} of them")


def of_motion(shared: SharedCorners, motions: Motions) -> Iterator[Finding]:
    """Cameras that stand still before what moves."""
    still = float(_stands_still(shared, motions).mean())
    if still > _MANY:
        yield Finding(
            "doubtful",
            f"{still:.0%} of the corners that frames share move although their cameras do not: a moving scene "
            "before a camera that stands still, or repeated poses?",
        )


def of_parallax(shared: SharedCorners, motions: Motions) -> Iterator[Finding]:
    """Cameras that turn on the spot, so that only measured depth could help."""
    if len(_distances(shared, motions)) < _FEW_TOLD * len(shared):
        yield Finding(
            "doubtful",
            "where frames see the same things the camera hardly moves but turns, so that nothing can be "
            "triangulated: it needs steps to the side, or depth",
        )


def of_origin(poses: Pose, agreed: float) -> Iterator[Finding]:
    """Cameras, of which so few corners agree, where numbers of few digits cannot tell them from each other."""
    centers = poses.center
    middle = centers.median(dim=0).values
    apart = (centers - middle).norm(dim=-1).median()
    if middle.norm() > _FAR_OFF * apart:
        yield Finding(
            "wrong" if agreed < _LOST else "doubtful",
            f"only {agreed:.0%} of the corners agree, and the cameras stand {middle.norm():.3g} from the "
            "world's origin, where few digits do not tell a pose: write poses with all digits, or take an "
            "offset from all positions first",
        )


def middle_distance(shared: SharedCorners, motions: Motions) -> float:
    """Of what frames share, in the unit of the poses; NaN where nothing can be triangulated."""
    distances = _distances(shared, motions)
    return float(np.median(distances)) if len(distances) else float("nan")


def of_scale(distance: float) -> Iterator[Finding]:
    """Of poses that are said to be in metres."""
    if distance < _NEAR or distance > _FAR:
        yield Finding(
            "doubtful", f"what frames share is {distance:.3g} metres away: are poses in another unit?"
        )


def _distances(shared: SharedCorners, motions: Motions) -> Float[np.ndarray, " K"]:
    """Of corners that agree and can be triangulated."""
    here, _, off = depths(shared, motions)
    return here[(agreement(shared, motions) > AGREES) & (off < _OFF) & (here > 0)]


def _named(which: list[Sampled], frames: Frames) -> str:
    return some([frames.names[frame.index] for frame in which])


def _stands_still(shared: SharedCorners, motions: Motions) -> Bool[np.ndarray, " M"]:
    """Whether the second camera is where the first one is, and looks the same way."""
    cosine = (np.trace(motions.rotation, axis1=1, axis2=2) - 1) / 2
    turned_px = np.arccos(cosine.clip(-1, 1)) * shared.focal_px
    moved = np.linalg.norm(motions.translation, axis=1)
    return (turned_px < _STILL_PX) & (moved <= _STILL * max(moved.max(), _ROUNDING))


def _parts(shared: SharedCorners) -> Int[np.ndarray, " F"]:
    """For each frame a number that it has in common with all that it shares corners with."""
    part = np.arange(len(shared.frames))
    for i, j in shared.pairs:
        part[part == part[j]] = part[i]
    return part
