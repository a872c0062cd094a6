"""`dsac check`: whether a recording agrees with itself, before a minute is lost on it."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac.cli.console import err, one_object, out, progress_bars
from dsac.cli.options import Flag, Inverted, Maybe, Meaning, Positional, read_scene
from dsac.cli.outputs import check_writable, is_page
from dsac.errors import DsacError

if TYPE_CHECKING:
    from dsac.checking import SceneCheck
    from dsac.datasets import Conventions, Scene


@dataclass(frozen=True)
class Check(Meaning):
    """Hold a recording's poses, focal lengths and depth against its images; some seconds.

    Corners that frames share are found without believing the poses. Where they disagree, the usual mistakes are
    tried (inverted poses, the order of quaternions, axes, focal lengths, principal points, images out of step,
    depth in other units, of another camera or time), and the one that explains it is named with the option that
    mends it, here and in `dsac map`. Blurred frames and the like are named, too.

    For example:
      $ dsac check lab
      $ dsac check lab --poses inverted --axes opengl
      $ dsac check lab --report lab.html
    """

    scene: Positional[str]
    """Folder (or URL) of the recording."""
    truth: Maybe[str] = None
    """Which of the recording's truths to check, where it has several (7-Scenes: sfm, dslam)."""
    poses: Inverted = None
    """Its poses are camera from world where the format has world from camera, or the other way round."""
    max_gap: Maybe[float] = None
    """Seconds between an image and its pose, at most, in formats with timestamps (default: 0.02)."""

    report: Maybe[Path] = None
    """Page to write (HTML): frames that disagree, blurred ones, how depth fits. Wants `pip install
    'dsac[plots]'`."""
    json: Flag = False
    """Print one JSON object (docs/conventions.md names its keys)."""

    def run(self) -> None:
        """Raises: `DsacError` for a recording that is wrong, after all has been said."""
        with one_object(self.json) as show_object:
            check = self._check()
            show_object(as_dict(check))
        if not check.is_right:
            raise DsacError(f"{self.scene}: the images contradict what was read")

    def _check(self) -> SceneCheck:
        given = self.conventions(self.poses)
        if self.report is not None:
            from dsac.evaluation.plots import require_matplotlib

            check_writable(self.report, is_page)
            require_matplotlib()
        scene = read_scene(self.scene, self.truth, self.max_gap, given)
        check = _checked(scene)
        for line in describe(check):
            out.print(line, soft_wrap=True)
        for finding in check.findings:
            out.print(f"{finding.severity:9} {finding.text}", style=_STYLES[finding.severity], soft_wrap=True)
        if check.cure is not None:
            # a cure is for what was read: after other options it would not be one
            options = "" if given.options() else f" {check.cure.options()}"
            out.print(f"Next: dsac check {shlex.quote(self.scene)}{options}", style="dim", soft_wrap=True)
        if self.report is not None:
            from dsac.evaluation import write_recording_page

            write_recording_page(check, scene.mapping, self.scene, self.report)
            out.print(f"report: {self.report}", soft_wrap=True)
        return check


_STYLES = {"wrong": "red", "doubtful": "yellow", "note": "dim"}


def refuse_contradictions(scene: Scene, given: Conventions) -> None:
    """Check a recording, read with these conventions, before it is learned, and say what is doubtful.

    Raises: `DsacError` where its own images contradict it, with the cure.
    """
    check = _checked(scene)
    wrong = [finding for finding in check.findings if finding.severity == "wrong"]
    for finding in check.findings:
        if finding.severity == "doubtful" and not math.isnan(check.agreed):
            advice = f" ({finding.cure} mends it)" if finding.cure and not given.options() else ""
            err.print(finding.text + advice, style="yellow", soft_wrap=True)
    if wrong:
        advice = "dsac check says more"
        if given.options():
            advice = f"try again without {given.options()}"
        elif check.cure is not None:
            advice = f"try again with {check.cure.options()}"
        reasons = "; ".join(finding.text for finding in wrong)
        raise DsacError(f"{scene.path}: {reasons}; {advice}, or --no-check to learn it as it is")


def as_dict(check: SceneCheck) -> dict[str, Any]:
    """What was found in plain types; None where there was too little to say."""
    depth = check.depth
    return {
        "right": check.is_right,
        "frames_seen": check.frames_seen,
        "shared_corners": check.num_shared,
        "corners_agreed": None if math.isnan(check.agreed) else check.agreed,
        "frames_agreed": None if math.isnan(check.frames_agreed) else check.frames_agreed,
        "depth": None
        if depth is None
        else {"corners": depth.corners, "fits": depth.fits, "ratio": depth.ratio},
        "distance": None if math.isnan(check.distance) else check.distance,
        "metric": check.metric,
        "findings": [asdict(finding) for finding in check.findings],
        "cure": None if check.cure is None else check.cure.options(),
    }


def describe(check: SceneCheck) -> list[str]:
    """What agrees, in lines."""
    lines = [f"corners   {check.num_shared} are shared by two of {check.frames_seen} frames"]
    if not math.isnan(check.agreed):
        of_frames, of_corners = f"{check.frames_agreed:.0%} of the frames", f"{check.agreed:.0%} of the corners"
        if check.cure is None:
            lines.append(f"poses     {of_frames} agree with another one, {of_corners} do")
        else:
            lines.append(f"poses     {of_corners} agree as read; mended, {of_frames} with another one")
    if check.depth is not None:
        depth = check.depth
        lines.append(
            f"depth     {depth.fits:.0%} of {depth.corners} corners are where poses triangulate them, "
            f"within 5 % of {depth.ratio:.3g} times the depth"
        )
    if not math.isnan(check.distance) and check.metric is not None:
        unit = "metres, the format says" if check.metric else "the scene's own unit, which is not the metre"
        lines.append(f"scale     what frames share is {check.distance:.3g} away, in {unit}")
    return lines


def _checked(scene: Scene) -> SceneCheck:
    from dsac.checking import check_scene

    with progress_bars() as bars:
        bar = bars.add_task("checking", total=1.0, note="")
        return check_scene(scene, lambda fraction: bars.update(bar, completed=fraction))
