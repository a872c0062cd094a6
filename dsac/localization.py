"""The answer for a photo: where it was taken, how far to trust that, and what it rests on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from dsac.geometry import Camera, GeoPoint, Pose, Similarity, geo_of
from dsac.ransac import Correspondences, PoseEstimate

_GEO = ("latitude", "longitude", "height")


@dataclass(frozen=True)
class Timing:
    """Where the milliseconds of a query went."""

    decode_ms: float  # read and decode the file
    encode_ms: float  # resize and encode
    head_ms: float
    solve_ms: float
    align_ms: float

    @property
    def total_ms(self) -> float:
        return self.decode_ms + self.encode_ms + self.head_ms + self.solve_ms + self.align_ms


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another pose of a photo: the place repeats itself, and what it shows is seen from there, too."""

    cam_from_world: Pose  # batch (), float64
    covariance: Float[Tensor, "6 6"]  # as of a `Localization`
    probability: float  # that this is the right one
    world: str = ""  # that the pose is in, see `Localization.world`


@dataclass(frozen=True, eq=False, repr=False)
class Localization:
    """The answer for one photo; for B photos at once every field has that batch dimension.

    Not localized is an answer: `success` is False, and pose and covariance mean nothing.
    """

    name: str  # of the frame; `photo` for an image without one
    cam_from_world: Pose  # batch (*B,), float64
    covariance: Float[
        Tensor, "*B 6 6"
    ]  # of the increment Pose.exp(d) @ cam_from_world: rad², m²; inf = unknown
    confidence: Float[Tensor, "*B"]  # in [0, 1]
    success: Bool[Tensor, "*B"]
    inliers: Bool[Tensor, "*B N"]  # which correspondences agree with the pose
    # What the pose was searched in: always a batch, 1 for one photo. Scene points are in the map's own frame,
    # see `world_from_map`; pixels are those of an ideal camera at the working size.
    correspondences: Correspondences
    timing: Timing
    world_from_map: Similarity = field(default_factory=Similarity.identity)
    focal_px: float = (
        math.nan
    )  # of the photo, with which this pose is the answer: solved, where it was not known
    focal_sigma_px: float = 0.0  # its standard deviation; 0 = it was known
    metric: bool | None = None  # whether the map's unit of length is the metre, as is said here; None: unknown
    # Where else the photo may have been taken, the likeliest first; what their probabilities leave is that of
    # this pose, and the confidence takes account of it. For B photos one tuple each.
    alternatives: tuple[Alternative, ...] | tuple[tuple[Alternative, ...], ...] = ()
    # Of a map of many regions: which answered, by its name. For B photos a tuple of B.
    region: str | tuple[str, ...] = ""
    world: str | tuple[str, ...] = (
        ""  # likewise: the name of the world that the pose is in, see `MapInfo.world`
    )
    geo_origin: GeoPoint | None = None  # where the world's origin is on Earth, see `MapInfo.geo`
    by_prior: bool = False  # the landmarks seen from a prior were enough: no network was asked

    @property
    def pose(self) -> Pose:
        """`cam_from_world`, for those who look for that word."""
        return self.cam_from_world

    @property
    def world_from_cam(self) -> Pose:
        """Where the camera stands and how it is turned; its translation is the camera's centre."""
        return self.cam_from_world.inverse()

    @property
    def geo(self) -> Float[Tensor, "*B 3"] | None:
        """Latitude and longitude in degrees and height in metres of the camera; None: nobody said where the map
        is on Earth.
        """
        return None if self.geo_origin is None else geo_of(self.cam_from_world.center, self.geo_origin)

    @property
    def center_covariance(self) -> Float[Tensor, "*B 3 3"]:
        """Covariance of the camera's centre along the world's axes, m²."""
        return self._estimate.center_covariance.reshape(*self.success.shape, 3, 3)

    @property
    def position_sigma_m(self) -> Float[Tensor, "*B"]:
        """Standard deviation of the centre's distance from the truth, metres: √ of the summed variances."""
        return self._estimate.position_sigma_m.reshape(self.success.shape)

    @property
    def rotation_sigma_deg(self) -> Float[Tensor, "*B"]:
        """Standard deviation of the rotation's angle from the truth, degrees."""
        return self._estimate.rotation_sigma_deg.reshape(self.success.shape)

    @property
    def places(self) -> list[Alternative]:
        """All poses that one photo may have been taken from, the likeliest first: this one.

        Raises: `TypeError` for a batch.
        """
        if self.success.ndim > 0:
            raise TypeError("this is the answer for a batch of photos: take one of them")
        others = [other for other in self.alternatives if isinstance(other, Alternative)]
        left = 1.0 - sum(other.probability for other in others)
        here = Alternative(self.cam_from_world, self.covariance, left, str(self.world))
        return [here, *others]

    @property
    def scene_points(self) -> Float[Tensor, "B N 3"]:
        """Those of the correspondences, in the world's frame, float64."""
        return self.world_from_map @ self.correspondences.scene_points

    @property
    def num_inliers(self) -> Int[Tensor, "*B"]:
        return self.inliers.sum(-1)

    @property
    def camera(self) -> Camera:
        """The ideal pinhole at the working size to which the correspondences belong."""
        return self.correspondences.camera[0]

    @property
    def _estimate(self) -> PoseEstimate:
        """The answer as solvers give it: one photo is a batch of one image."""
        images = self.success.numel()
        return PoseEstimate(
            self.cam_from_world.reshape(images),
            self.covariance.reshape(images, 6, 6),
            self.inliers.reshape(images, self.inliers.shape[-1]),
            self.confidence.reshape(images),
            self.success.reshape(images),
        )

    def __len__(self) -> int:
        """Number of photos in the batch. Raises: `TypeError` for one photo."""
        return len(self.success)

    def __getitem__(self, index: int) -> Localization:
        """The answer for one photo of a batch."""
        if self.success.ndim == 0:
            raise TypeError("this is the answer for one photo, not for a batch")
        index = range(len(self))[index]
        return replace(
            self,
            cam_from_world=self.cam_from_world[index],
            covariance=self.covariance[index],
            confidence=self.confidence[index],
            success=self.success[index],
            inliers=self.inliers[index],
            correspondences=self.correspondences[index : index + 1],
            alternatives=self.alternatives[index] if self.alternatives else (),
            region=self.region[index] if self.region else "",
            world=self.world[index] if self.world else "",
        )

    def to_dict(self) -> dict[str, Any]:
        """The answer for one photo in plain types, as `dsac localize --json` prints it; None: unknown.

        Raises: `TypeError` for a batch.
        """
        if self.success.ndim > 0:
            raise TypeError("this is the answer for a batch of photos: take one of them")
        known, geo = bool(self.success), self.geo
        return {
            "name": self.name,
            **({"region": self.region} if self.region else {}),
            **({"world": self.world} if self.world else {}),
            **self._estimate.to_dict(),
            "alternatives": [
                {
                    "probability": round(other.probability, 4),
                    **({"world": other.world} if other.world else {}),
                    "cam_from_world": {
                        "quaternion_wxyz": other.cam_from_world.quaternion_wxyz.tolist(),
                        "translation": other.cam_from_world.translation.tolist(),
                    },
                    "center": other.cam_from_world.center.tolist(),
                }
                for other in (self.places[int(known) :] if self.alternatives else [])
            ],
            "geo": dict(zip(_GEO, geo.tolist(), strict=True)) if known and geo is not None else None,
            "focal_px": self.focal_px,
            "focal_sigma_px": self.focal_sigma_px,
            "metric": self.metric,
            "timing_ms": {key.removesuffix("_ms"): round(ms, 2) for key, ms in asdict(self.timing).items()},
        }

    def __repr__(self) -> str:
        if self.success.ndim > 0:
            return f"Localization of {len(self)} photos, {int(self.success.sum())} localized"
        *lines, last = self._estimate.told(f"Localization of {self.name}", " m" if self.metric else "")
        if self.success.item() and self.focal_sigma_px > 0:
            lines.append(
                f"focal length {self.focal_px:.0f} ± {max(1, self.focal_sigma_px):.0f} px, solved with the pose"
            )
        if self.alternatives:
            chances = ", ".join(f"{place.probability:.2f}" for place in self.places)
            lines.append(f"the place repeats itself: one of {len(self.places)} poses, probabilities {chances}")
        return "\n    ".join([*lines, f"{last}, {self.timing.total_ms:.0f} ms"])
