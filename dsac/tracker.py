"""A camera that moves: each photo is looked for from where the one before was taken.

    tracker = Tracker(Localizer.load("kitchen.dsac"))
    for image, time in video:
        answer = tracker.update(image, camera, time)

The landmarks that are seen from about there are the answer, as in PTAM (Klein & Murray, ISMAR 2007), for a part
of what a single photo costs. The network is asked where they are not clear, and now and then where they are:
what follows itself alone may lose its way in a place that repeats itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.atlas import photos_for
from dsac.datasets import Frames
from dsac.geometry import Pose
from dsac.landmarks.answering import ENOUGH, SURE
from dsac.localization import Localization
from dsac.localizer import Localizer
from dsac.ransac import are_same

State = Literal["lost", "tentative", "tracking"]


@dataclass(frozen=True, eq=False)
class Motion:
    """How a camera moved from one photo to the next, by the odometry of a phone or a robot, or an IMU."""

    now_from_last: Pose  # batch (): of points in the camera's frame, then and now
    # Of the increment Pose.exp(d) @ now_from_last, rad² and the map's unit squared; None: not known.
    covariance: Float[Tensor, "6 6"] | None = None

    def __post_init__(self) -> None:
        if self.now_from_last.shape != ():
            raise ValueError(f"motion: expected one pose, got a batch {tuple(self.now_from_last.shape)}")
        if self.covariance is not None and self.covariance.shape != (6, 6):
            raise ValueError(f"motion: expected a covariance (6, 6), got {tuple(self.covariance.shape)}")


@dataclass(frozen=True, eq=False)
class _Known:
    """Where the camera was last found."""

    pose: Pose  # cam_from_world, batch (), float64
    time: float
    depth: float  # median, of what was seen
    velocity: Float[Tensor, " 6"] | None  # per second, as `Pose.log` of the motion; None: not known


class Tracker:
    """Localizes photos of one camera in the order in which they were taken.

    `state` is "lost" while nothing is known; "tentative" after a photo that was localized by itself, and is
    not yet confirmed; "tracking" when a photo was found where it was expected.
    """

    def __init__(self, localizer: Localizer) -> None:
        self.localizer = localizer
        self.reset()

    def reset(self) -> None:
        """Forget where the camera was."""
        self.state: State = "lost"
        self._known: _Known | None = None
        self._motion: Pose | None = None  # since then, by odometry
        self._vague = False  # ... that is not known well enough to look from there
        self._time = 0.0
        self._unasked = 0  # photos, since the network was asked

    def update(
        self,
        image: Any,
        camera: Any = None,
        time: float | None = None,
        motion: Motion | None = None,
        *,
        bgr: bool = False,
    ) -> Localization:
        """The answer for the next photo; `image`, `camera` and `bgr` are as of `Localizer.localize`.

        `time` is in seconds; without, photos come 30 a second. `motion` is since the last update, whatever that
        found; without, the camera is taken to move on as it did.
        Raises: `ValueError` for a time before the last, and as `Localizer.localize` does.
        """
        photo = photos_for(self.localizer.scene_map, image, camera=camera, bgr=bgr)
        return self.update_frame(photo, time, motion)

    def update_frame(
        self, photo: Frames, time: float | None = None, motion: Motion | None = None
    ) -> Localization:
        """The same for frames of a recording, one at a time."""
        if len(photo) != 1:
            raise ValueError(f"image: expected one, got {len(photo)}")
        time = self._time + _USUAL_S if time is None else float(time)
        if self._known is not None and time < self._time:
            raise ValueError(f"time: expected {self._time:g} or later, got {time:g}")
        self._time = time
        self._follow(motion)
        fresh = self._known is not None and time - self._known.time < _FRESH_S
        priors = self._priors(time)
        guard = self._unasked >= _UNASKED
        answer = self.localizer.follow(photo, [] if guard else priors, SURE if fresh else ENOUGH)
        if guard and priors:
            answer = self._guarded(photo, answer, priors, SURE if fresh else ENOUGH)
        self._unasked = self._unasked + 1 if answer.by_prior and not guard else 0
        self._learn(answer, time, priors)
        return answer

    # ---- what is expected ------------------------------------------------------------------------------

    def _follow(self, motion: Motion | None) -> None:
        """Add up odometry since the camera was last found."""
        if motion is None:
            self._motion = None
            return
        step = motion.now_from_last.to("cpu", torch.float64)
        self._motion = step if self._motion is None else step @ self._motion
        if motion.covariance is not None and self._known is not None:
            sigma = motion.covariance.diagonal().to("cpu", torch.float64).sqrt()
            turned, moved = sigma[:3].norm().item(), sigma[3:].norm().item()
            self._vague = self._vague or turned + moved / self._known.depth > _VAGUE

    def _priors(self, time: float) -> list[Pose]:
        """Where the camera may be, the likeliest first."""
        known = self._known
        if known is None or time - known.time > _FORGOTTEN_S:
            return []
        if self._motion is not None and not self._vague:
            return [self._motion @ known.pose, known.pose]
        if known.velocity is None:
            return [known.pose]
        gone = min(time - known.time, _FRESH_S)
        return [Pose.exp(gone * known.velocity) @ known.pose, known.pose]

    # ---- what was found --------------------------------------------------------------------------------

    def _guarded(self, photo: Frames, alone: Localization, priors: list[Pose], least: float) -> Localization:
        """The answer without priors, or that with them where it is surer or the same."""
        followed = self.localizer.follow(photo, priors, least)
        if not followed.by_prior:
            return alone
        if not alone.success or followed.confidence >= alone.confidence:
            return followed
        depth = _depth(alone)
        return followed if are_same(followed.cam_from_world, alone.cam_from_world, depth) else alone

    def _learn(self, answer: Localization, time: float, priors: list[Pose]) -> None:
        known = self._known
        if not answer.success:
            if known is None or time - known.time > _FORGOTTEN_S:
                self.reset()
                self._time = time
            elif self.state == "tracking":
                self.state = "tentative"
            return
        pose, depth = answer.cam_from_world.to("cpu", torch.float64), _depth(answer)
        expected = any(are_same(pose, prior, depth) for prior in priors)
        velocity = None
        if expected and known is not None and time > known.time:
            velocity = (pose @ known.pose.inverse()).log() / (time - known.time)
        self.state = "tracking" if expected or answer.by_prior else "tentative"
        self._known = _Known(pose, time, depth, velocity)
        self._motion, self._vague = None, False


def _depth(answer: Localization) -> float:
    """Median of what the photo shows."""
    return (answer.cam_from_world.to("cpu", torch.float64) @ answer.scene_points[0])[:, 2].median().item()


_USUAL_S = 1 / 30
_FRESH_S = 0.5  # so long after a photo, what is seen from where it was taken need not be quite clear
_FORGOTTEN_S = 2.0
_UNASKED = 30  # photos, until the network is asked again
_VAGUE = 0.05  # radians that odometry may be off by, to be looked from
