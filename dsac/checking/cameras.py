"""Which focal length and principal point the corners that frames share agree with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dsac.checking.agreement import FINE_PX, Motions, agreement, clearly_more
from dsac.checking.finding import Finding
from dsac.checking.sample import SharedCorners
from dsac.datasets.conventions import CENTERS, Center, Conventions
from dsac.geometry import Camera, Pose

_FOCAL_BETTER = 1.08, 0.02
_FOCAL_SCALES = np.concatenate([[0.5, 2.0], np.exp(np.arange(-12, 13) * np.log(1.02))])
_FOCAL_FINE = np.exp(np.arange(-8, 9) * np.log(1.0025))
_FOCAL_OFF, _FOCAL_WRONG = 0.035, 0.08  # relative, from which it is said, and said to be wrong
_CENTER_BETTER, _CENTER_WRONG = (1.15, 0.03), 1.4
_CENTER_STEPS = (0.16, 0.08, 0.04, 0.02, 0.01)  # of the shorter side
_CENTER_OFF = 0.04  # likewise: no nearer than hand-held cameras' own are known
_AS_GOOD = 0.85  # of the most: a principal point that has a name is taken


def of_cameras(
    shared: SharedCorners, poses: Pose, c: Conventions
) -> tuple[SharedCorners, Conventions, list[Finding]]:
    """Both with cameras that agree clearly better than those read, where there are such, and what differs."""
    motions = Motions.of(shared, poses, c)
    as_read = _score(shared, motions)
    focal, of_focal = _best_focal(shared, motions, as_read)
    center, of_center = _best_center(shared, motions, as_read)
    findings: list[Finding] = []
    is_better = of_center > of_focal and clearly_more(of_center, as_read, _CENTER_BETTER)
    if is_better and np.linalg.norm(center) > _CENTER_OFF:
        shared, named, finding = _named_center(shared, motions, center, as_read, of_center)
        c, findings = replace(c, center=named), [finding]
        as_read = _score(shared, motions)
        focal, of_focal = _best_focal(shared, motions, as_read)
    if clearly_more(of_focal, as_read, _FOCAL_BETTER) and abs(np.log(focal)) > _FOCAL_OFF:
        longer = "longer" if focal > 1 else "shorter"
        text = f"corners agree best with focal lengths {abs(focal - 1):.1%} {longer} than those read"
        severity = "wrong" if abs(np.log(focal)) > _FOCAL_WRONG else "doubtful"
        c = replace(c, focal_scale=focal)
        findings.append(Finding(severity, text, f"--focal-scale {focal:.4g}"))
    return shared, c, findings


def _score(shared: SharedCorners, motions: Motions) -> float:
    return float(agreement(shared, motions, FINE_PX).mean())


def _best_focal(shared: SharedCorners, motions: Motions, as_read: float) -> tuple[float, float]:
    """How many times as long, and how much agrees with that."""

    def best_of(scales: Float[np.ndarray, " S"]) -> tuple[float, float]:
        scored = ((_score(shared, replace(motions, focal_scale=scale)), scale) for scale in scales.tolist())
        return max(scored)

    most, best = best_of(_FOCAL_SCALES)
    if most < as_read * _FOCAL_BETTER[0]:
        return 1.0, as_read
    most, best = best_of(best * _FOCAL_FINE)
    return best, most


def _best_center(
    shared: SharedCorners, motions: Motions, as_read: float
) -> tuple[Float[np.ndarray, "2"], float]:
    """How far off, to the right and down in shorter sides, and how much agrees with that.

    From the best of some, steps that get shorter are gone as long as they lead upwards.
    """
    starts = [np.zeros(2)]
    for name in CENTERS[1:]:
        camera = shared.frames[0].camera
        moved = Conventions(center=name).camera(camera).center_px - camera.center_px
        starts.append(moved.numpy() / min(camera.size))
    most, best = max(
        ((_score(_moved(shared, start), motions), start) for start in starts), key=lambda scored: scored[0]
    )
    for length in _CENTER_STEPS:
        for _ in range(8):
            steps = [best + length * np.array(way) for way in ((1, 0), (-1, 0), (0, 1), (0, -1))]
            scored = [(_score(_moved(shared, step), motions), step) for step in steps]
            higher, step = max(scored, key=lambda scored: scored[0])
            if higher <= most:
                break
            most, best = higher, step
    return best, max(most, as_read)


def _named_center(
    shared: SharedCorners,
    motions: Motions,
    center: Float[np.ndarray, "2"],
    as_read: float,
    most: float,
) -> tuple[SharedCorners, Center, Finding]:
    """Corners through cameras with the simplest principal point that explains as much as the best."""
    severity = "wrong" if most > _CENTER_WRONG * as_read else "doubtful"
    names: dict[Center, str] = {"middle": "in the image's middle", "swapped": "with x and y exchanged"}
    for name, words in names.items():
        named = shared.through(Conventions(center=name).camera)
        if _score(named, motions) > _AS_GOOD * most:
            text = f"corners agree best with a principal point {words}: are width and height swapped?"
            return named, name, Finding(severity, text, f"--center {name}")
    x, y = 100 * center
    text = (
        f"corners agree best with a principal point {abs(x):.0f}% of the shorter side to the "
        f"{'right' if x > 0 else 'left'} of the one read and {abs(y):.0f}% {'below' if y > 0 else 'above'} it"
    )
    return _moved(shared, center), "as read", Finding(severity, text)


def _moved(shared: SharedCorners, center: Float[np.ndarray, "2"]) -> SharedCorners:
    def change(camera: Camera) -> Camera:
        aside = camera.center_px.new_tensor(center * min(camera.size))
        return replace(camera, center_px=camera.center_px + aside)

    return shared.through(change)
