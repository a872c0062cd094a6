"""What flows through the solver: correspondences, hypotheses, the estimate.

    Correspondences ─▶ samples ─▶ Hypotheses ─▶ scores ─▶ selected poses ─▶ PoseEstimate

Batch letters: B images, N correspondences, H hypotheses, k points of a minimal set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dsac.geometry import Camera, Pose
from dsac.kernels import reference


@dataclass(frozen=True, eq=False)
class Correspondences:
    """Pixels and the scene points they show. Rows with weight 0 or with a NaN or infinity are ignored.

    Several scene points for one pixel are several rows, in a run of `modes`: at most one of them is right, and
    whatever counts rows counts the one that suits a pose best. Pixels are undistorted: `camera` is a pinhole.
    Floats are of 32 or 64 bits: those of 16 tell pixels a quarter apart.
    """

    pixels: Float[Tensor, "B N 2"]
    scene_points: Float[Tensor, "B N 3"]  # metres, world frame
    camera: Camera  # pinhole, batch (B,)
    camera_points: Float[Tensor, "B N 3"] | None = None  # metres, camera frame (RGB-D); NaN, z <= 0: no depth
    weights: Float[Tensor, "B N"] | None = None  # >= 0; None = all 1
    grid: tuple[int, int] | None = None  # (h, w) when the pixels are the cells of an image in row-major order
    modes: int = 1  # rows of a pixel, one after another, which exclude each other; weight 0 fills up
    covariances: Float[Tensor, "B N 6"] | None = None  # of the scene points, m²: xx, xy, xz, yy, yz, zz

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[-1] != 2:
            raise ValueError(f"pixels: expected (B, N, 2), got {tuple(self.pixels.shape)}")
        if self.pixels.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"pixels: expected torch.float32 or torch.float64, got {self.pixels.dtype}")
        batch, count = self.pixels.shape[:2]
        for name, shape in (
            ("scene_points", (batch, count, 3)),
            ("camera_points", (batch, count, 3)),
            ("weights", (batch, count)),
            ("covariances", (batch, count, 6)),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if value.shape != shape:
                raise ValueError(f"{name}: expected {shape}, got {tuple(value.shape)}")
            if value.dtype != self.pixels.dtype or value.device != self.pixels.device:
                raise ValueError(
                    f"{name}: expected {self.pixels.dtype} on {self.pixels.device} like pixels, "
                    f"got {value.dtype} on {value.device}"
                )
        if self.camera.focal_px.shape != (batch, 2):
            raise ValueError(f"camera: expected batch ({batch},), got {tuple(self.camera.focal_px.shape[:-1])}")
        if not self.camera.is_pinhole:
            raise ValueError(
                f"camera: expected a pinhole (undistort the pixels first), got {self.camera.model}"
            )
        if self.modes < 1 or count % self.modes:
            raise ValueError(f"modes: expected a divisor of {count} rows, got {self.modes}")
        if self.grid is not None and self.grid[0] * self.grid[1] * self.modes != count:
            raise ValueError(f"grid: expected h*w = {count // self.modes}, got {self.grid}")

    def __len__(self) -> int:
        """Number of images B."""
        return self.pixels.shape[0]

    def __getitem__(self, images: slice | Int[Tensor, " M"]) -> Correspondences:
        """Some of the images."""
        return replace(
            self,
            pixels=self.pixels[images],
            scene_points=self.scene_points[images],
            camera=self.camera[images],
            camera_points=None if self.camera_points is None else self.camera_points[images],
            weights=None if self.weights is None else self.weights[images],
            covariances=None if self.covariances is None else self.covariances[images],
        )

    @staticmethod
    def cat(each: Sequence[Correspondences]) -> Correspondences:
        """The images of all of them; there must be one at least, all of one kind and of cameras of one size."""
        first = each[0]
        cameras = [rows.camera for rows in each]
        camera = Camera(
            torch.cat([c.focal_px for c in cameras]), torch.cat([c.center_px for c in cameras]), cameras[0].size
        )

        def joined(name: str) -> Tensor | None:
            return None if getattr(first, name) is None else torch.cat([getattr(rows, name) for rows in each])

        return replace(
            first,
            pixels=torch.cat([rows.pixels for rows in each]),
            scene_points=torch.cat([rows.scene_points for rows in each]),
            camera=camera,
            camera_points=joined("camera_points"),
            weights=joined("weights"),
            covariances=joined("covariances"),
        )

    @property
    def has_depth(self) -> bool:
        """Whether a camera point is known in any of the images."""
        return self.camera_points is not None and bool(torch.isfinite(self.camera_points).all(-1).any())

    @property
    def usable(self) -> Bool[Tensor, "B N"]:
        """Rows with finite pixel and scene point and a positive weight."""
        finite = torch.isfinite(self.pixels).all(-1) & torch.isfinite(self.scene_points).all(-1)
        if self.weights is None:
            return finite
        return finite & torch.isfinite(self.weights) & (self.weights > 0)

    def sanitised(self) -> Correspondences:
        """The same with weights given, finite values everywhere, and weight 0 where not `usable`.

        Rows of weight 0 fill up to at least four, so that every step has something to index. What is
        masked gets no gradient.
        """
        missing = max(0, math.ceil(4 / self.modes) * self.modes - self.pixels.shape[1])
        weights = torch.ones_like(self.pixels[..., 0]) if self.weights is None else self.weights
        if missing == 0 and len(self) > 0 and self._all_usable():
            return replace(self, camera=self.camera.to(self.pixels), weights=weights)
        usable = self.usable

        def masked(values: Tensor) -> Tensor:
            mask = usable if values.ndim == 2 else usable[..., None]
            kept = torch.where(mask, values, torch.zeros_like(values))
            return torch.nn.functional.pad(kept, (0, 0) * (values.ndim - 2) + (0, missing))

        return replace(
            self,
            pixels=masked(self.pixels),
            scene_points=masked(self.scene_points),
            camera=self.camera.to(self.pixels),
            camera_points=None if self.camera_points is None else masked(self.camera_points),
            weights=masked(weights),
            covariances=None if self.covariances is None else masked(self.covariances),
            grid=None if missing else self.grid,
        )

    @torch.no_grad()
    def _all_usable(self) -> bool:
        """Whether every row is, at a third of the cost of asking each; coordinates of 1e35 may say no.

        A device is not asked: the host would wait for it.
        """
        total = self.pixels.sum() + self.scene_points.sum()  # finite only if all that is added is
        if self.weights is None:
            return reference.settled(total.abs() < torch.inf)
        total = total + self.weights.sum()
        return reference.settled((total.abs() < torch.inf) & (self.weights.amin() > 0))


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Candidate poses with the minimal sets they came from. `valid=False`: degenerate, no gradient."""

    cam_from_world: Pose  # batch (B, H)
    samples: Int[Tensor, "B H k"]
    valid: Bool[Tensor, "B H"]
    sample_error: Float[Tensor, "B H"]  # largest error within the own minimal set, px or m; no gradient
    scores: Float[Tensor, "B H"] | None = None


class TrustRules(NamedTuple):
    """What covariance, confidence and success are told by: see `uncertainty.py`."""

    tiles: int = 6  # across the image: on real maps errors go together over about a sixth of it
    distance: float = 0.05  # of the median depth: a centre as uncertain as this halves the confidence
    angle: float = 0.09  # radians, 5°
    chance_factor: float = 5.0  # times the inliers of chance: that excess gives half the confidence
    # Any four points agree on some pose, and among the thousands that are tried one gathers twice the
    # inliers of chance: three times as many speak for the pose.
    least_factor: float = 3.0


@dataclass(frozen=True, eq=False, repr=False)
class PoseEstimate:
    """The answer for each image. Not localized is an answer: `success=False`, confidence near 0."""

    cam_from_world: Pose  # batch (B,)
    covariance: Float[Tensor, "B 6 6"]  # of the increment Pose.exp(d) @ cam_from_world: rad², m²; inf = unknown
    inliers: Bool[Tensor, "B N"]
    confidence: Float[Tensor, " B"]  # in [0, 1]
    success: Bool[Tensor, " B"]

    @property
    def num_inliers(self) -> Int[Tensor, " B"]:
        return self.inliers.sum(-1)

    @property
    def world_from_cam(self) -> Pose:
        """Where the camera stands and how it is turned; its translation is the camera's centre."""
        return self.cam_from_world.inverse()

    @property
    def center_covariance(self) -> Float[Tensor, "B 3 3"]:
        """Covariance of the camera's centre along the world's axes, m².

        An increment (w, v) moves the centre by -Rᵀv, R the rotation of `cam_from_world`.
        """
        rotation = self.cam_from_world.rotation
        return rotation.mT @ self.covariance[..., 3:, 3:].to(rotation) @ rotation

    @property
    def position_sigma_m(self) -> Float[Tensor, " B"]:
        """Standard deviation of the centre's distance from the truth, metres: √ of the summed variances."""
        return self._variances[..., 3:].sum(-1).sqrt()

    @property
    def rotation_sigma_deg(self) -> Float[Tensor, " B"]:
        """Standard deviation of the rotation's angle from the truth, degrees."""
        return torch.rad2deg(self._variances[..., :3].sum(-1).sqrt())

    @property
    def _variances(self) -> Float[Tensor, "B 6"]:
        return self.covariance.diagonal(dim1=-2, dim2=-1).double()

    def to_dict(self) -> dict[str, Any]:
        """The answer for one image in plain types (docs/conventions.md, JSON); None: unknown.

        Raises: `TypeError` for several images.
        """
        if len(self) != 1:
            raise TypeError(f"this is the answer for {len(self)} images: take one of them, estimate[i : i + 1]")
        pose, known = self.cam_from_world[0], bool(self.success)
        stated = known and bool(self.covariance.isfinite().all())
        return {
            "success": known,
            "confidence": round(self.confidence.item(), 4),
            "inliers": int(self.num_inliers),
            "cam_from_world": {
                "quaternion_wxyz": pose.quaternion_wxyz.tolist(),
                "translation": pose.translation.tolist(),
            } if known else None,
            "center": pose.center.tolist() if known else None,
            "position_sigma": self.position_sigma_m.item() if stated else None,
            "rotation_sigma_deg": self.rotation_sigma_deg.item() if stated else None,
            "covariance": self.covariance[0].tolist() if stated else None,
        }  # fmt: skip

    def told(self, what: str, unit: str = "") -> list[str]:
        """Lines for people about the answer for one image: how sure, where, by how many correspondences."""
        lines = [f"{what}: not localized, confidence {self.confidence.item():.2f}"]
        if self.success.item():
            x, y, z = self.cam_from_world.center[0].tolist()
            lines = [
                f"{what}: confidence {self.confidence.item():.2f}",
                f"center ({x:.3f}, {y:.3f}, {z:.3f}){unit} ± {self.position_sigma_m.item():.3f}, "
                f"rotation ± {self.rotation_sigma_deg.item():.2f}°",
            ]
        return [*lines, f"{int(self.num_inliers)} of {self.inliers.shape[-1]} correspondences agree"]

    def __repr__(self) -> str:
        if len(self) != 1:
            return f"PoseEstimate of {len(self)} images, {int(self.success.sum())} localized"
        return "\n    ".join(self.told("PoseEstimate"))

    @staticmethod
    def cat(estimates: Sequence[PoseEstimate]) -> PoseEstimate:
        """The images of all of them; there must be one at least, all with the same number of rows."""
        return _each(lambda *values: torch.cat(values), *estimates)

    def to(self, like: Tensor) -> PoseEstimate:
        """On the device and in the floating-point type of another tensor."""
        return _each(lambda value: value.to(like if value.is_floating_point() else like.device), self)

    def with_images(self, images: Int[Tensor, " M"], other: PoseEstimate) -> PoseEstimate:
        """With the M images of another estimate in place of these."""
        return _each(lambda ours, theirs: ours.index_copy(0, images, theirs), self, other)

    def __len__(self) -> int:
        return self.success.shape[0]

    def __getitem__(self, images: slice) -> PoseEstimate:
        """A slice of the images."""
        return _each(lambda value: value[images], self)


def _each(function: Callable[..., Tensor], *estimates: PoseEstimate) -> PoseEstimate:
    """The estimate whose tensors are the function's of the estimates' tensors."""
    fields = (
        (
            e.cam_from_world.rotation,
            e.cam_from_world.translation,
            e.covariance,
            e.inliers,
            e.confidence,
            e.success,
        )
        for e in estimates
    )
    rotation, translation, *others = (function(*values) for values in zip(*fields, strict=True))
    return PoseEstimate(Pose(rotation, translation), *others)


@runtime_checkable
class Solver(Protocol):
    """Whatever answers correspondences with a pose: `DenseSolver`, `PoseSolver`."""

    def __call__(
        self, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> PoseEstimate:
        """The pose of each image; no gradient. Without a generator the same input has the same answer."""
        ...

    def inliers(self, cam_from_world: Pose, correspondences: Correspondences) -> Bool[Tensor, "B N"]:
        """Which correspondences agree with a pose (batch (B,)) within the threshold."""
        ...


def check_positive(**values: float | int | None) -> None:
    """Raises: `ValueError` for the first of some options that is given and not finite or not above 0."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: expected more than 0, got {value}")


def check_order(**values: float | int) -> None:
    """Raises: `ValueError` when the second of two options is not more than the first."""
    (lower, least), (name, value) = values.items()
    if not value > least:
        raise ValueError(f"{name}: expected more than {lower} = {least}, got {value}")
