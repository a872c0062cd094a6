"""How far estimates are from a truth: pose errors, their summary, and the table that people read.

Rotation error is the angle between two rotations in degrees, translation error the distance between the
two camera *centres*; an image that was not localized, or is missing, has infinite errors and counts as a
failure in every figure. Percentages are of all images of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from dsac.datasets.frame import NamedPoses
from dsac.errors import DatasetError


@dataclass(frozen=True)
class LengthUnit:
    """In what people are told lengths: centimetres or, where the scale is arbitrary, camera spacings."""

    name: str
    size: float  # of one, in the unit of the world

    @property
    def thresholds(self) -> tuple[Threshold, Threshold, Threshold]:
        """5 cm 5°, 2 cm 2°, 1 cm 1°; in spacings a half, a fifth and a tenth."""
        if self == CENTIMETRES:
            return THRESHOLDS
        return (
            Threshold(5.0, 0.5 * self.size, self),
            Threshold(2.0, 0.2 * self.size, self),
            Threshold(1.0, 0.1 * self.size, self),
        )

    def of(self, length: float) -> float:
        """A length of the world in this unit."""
        return length / self.size


CENTIMETRES = LengthUnit("cm", 0.01)


def length_unit(metric: bool, camera_spacing: float | None) -> LengthUnit:
    """The unit to tell the lengths of a scene in; the world's own where there is neither metre nor spacing."""
    if metric:
        return CENTIMETRES
    return LengthUnit("units", 1.0) if camera_spacing is None else LengthUnit("spacings", camera_spacing)


@dataclass(frozen=True)
class Threshold:
    """What counts as accurate: rotation error and translation error both below a bound."""

    rotation_deg: float
    translation_m: float
    unit: LengthUnit = CENTIMETRES  # to say it in

    def __str__(self) -> str:
        return f"{self.unit.of(self.translation_m):g} {self.unit.name} {self.rotation_deg:g}°"


THRESHOLDS = (Threshold(5.0, 0.05), Threshold(2.0, 0.02), Threshold(1.0, 0.01))


@dataclass(frozen=True, eq=False)
class PoseError:
    """Errors of B images; infinite where not localized."""

    rotation_deg: Float[Tensor, " B"]
    translation_m: Float[Tensor, " B"]

    @property
    def localized(self) -> Bool[Tensor, " B"]:
        return torch.isfinite(self.translation_m)

    @property
    def task_loss(self) -> Float[Tensor, " B"]:
        """max(rotation error in degrees, translation error in centimetres)."""
        return torch.maximum(self.rotation_deg, 100 * self.translation_m)

    def within(self, threshold: Threshold) -> Bool[Tensor, " B"]:
        return (self.rotation_deg < threshold.rotation_deg) & (self.translation_m < threshold.translation_m)


@dataclass(frozen=True)
class Summary:
    """The figures of one truth. Medians are over all images, failures as infinite.

    Percentages are at the three thresholds of `unit`: those of the names only where the scale is metric.
    """

    truth: str
    num_images: int
    num_not_localized: int
    percent_5cm_5deg: float
    percent_2cm_2deg: float
    percent_1cm_1deg: float
    median_rotation_deg: float
    median_translation_m: float
    camera_spacing_m: float | None = None  # `camera_spacing` of the mapping cameras, in the truth's unit
    unit: LengthUnit = CENTIMETRES

    @property
    def median_translation_spacings(self) -> float | None:
        """Median translation error / camera spacing: the figure of a scene whose scale is arbitrary."""
        return None if self.camera_spacing_m is None else self.median_translation_m / self.camera_spacing_m

    def to_dict(self) -> dict[str, Any]:
        """In plain types, lengths in `unit`; None for what is not finite."""
        percent = (self.percent_5cm_5deg, self.percent_2cm_2deg, self.percent_1cm_1deg)
        within = zip(self.unit.thresholds, percent, strict=True)
        return {
            "images": self.num_images,
            "not_localized": self.num_not_localized,
            "percent_within": {str(threshold): round(value, 2) for threshold, value in within},
            "median_translation": finite(self.unit.of(self.median_translation_m)),
            "median_rotation_deg": finite(self.median_rotation_deg),
        }


def pose_error(estimate: NamedPoses, truth: NamedPoses) -> PoseError:
    """Errors in the truth's order; images without an estimate, or with NaN in it, are failures.

    Raises: `DatasetError` when no image of the truth is among a non-empty list of estimates.
    """
    rows = estimate.index
    found = [i for i, name in enumerate(truth.names) if name in rows]
    if estimate.names and truth.names and not found:
        raise DatasetError(
            "estimates and truth: expected the same image names, but none is in both: "
            f"'{estimate.names[0]}' among the estimates, '{truth.names[0]}' in the truth"
        )
    rotation = torch.full((len(truth.names),), torch.inf, dtype=torch.float64)
    translation = rotation.clone()
    if found:
        estimated = estimate.cam_from_world[torch.tensor([rows[truth.names[i]] for i in found])]
        index = torch.tensor(found)
        true = truth.cam_from_world[index]
        rotation[index] = estimated.rotation_error_deg(true)
        translation[index] = estimated.center_distance(true)
    bad = ~(torch.isfinite(rotation) & torch.isfinite(translation))
    return PoseError(rotation.masked_fill(bad, torch.inf), translation.masked_fill(bad, torch.inf))


def summarize(
    error: PoseError, truth: str, camera_spacing_m: float | None = None, metric: bool = True
) -> Summary:
    """Summary of the errors against the truth of that name. Raises: `DatasetError` when there is no image."""
    if not len(error.rotation_deg):
        raise DatasetError(f"truth '{truth}': expected at least one image, got none")
    unit = length_unit(metric, camera_spacing_m)
    percent = [100 * error.within(threshold).double().mean().item() for threshold in unit.thresholds]
    return Summary(
        truth=truth,
        num_images=len(error.rotation_deg),
        num_not_localized=int((~error.localized).sum()),
        percent_5cm_5deg=percent[0],
        percent_2cm_2deg=percent[1],
        percent_1cm_1deg=percent[2],
        median_rotation_deg=_median(error.rotation_deg),
        median_translation_m=_median(error.translation_m),
        camera_spacing_m=camera_spacing_m,
        unit=unit,
    )


def camera_spacing(centers: Float[Tensor, "N 3"]) -> float | None:
    """Mean over cameras of the distance to the nearest one in another place, in the unit of the centres.

    Nearest in space, whatever their order in the recording: the unit for errors in a world without metres.
    Views of one centre, as they are cut of panoramas, are in one place whatever rounding has made of it. None
    when that is not a positive length: a lone camera, or all in one place.
    """
    if not len(centers):
        return None
    extent = (centers.amax(0) - centers.amin(0)).norm()
    same = torch.maximum(_SAME_PLACE * extent, _ROUNDING * centers.abs().max())
    nearest = []
    for start in range(0, len(centers), _CHUNK):
        distance = torch.cdist(centers[start : start + _CHUNK], centers, compute_mode=_EXACT)
        nearest.append(distance.where(distance > same, torch.inf).amin(1))
    spacing = torch.cat(nearest).mean().item()
    return spacing if 0 < spacing < float("inf") else None


def confidence_auc(confidence: Float[Tensor, " B"], accurate: Bool[Tensor, " B"]) -> float | None:
    """Probability that an accurate image has a higher confidence than an inaccurate one; ties count half.

    1: confidence separates them, 0.5: it says nothing. None when all images are of one kind.
    """
    right, wrong = confidence[accurate].double(), confidence[~accurate].double()
    if not len(right) or not len(wrong):
        return None
    wrong = wrong.sort().values
    below = torch.searchsorted(wrong, right, right=False)
    below_or_equal = torch.searchsorted(wrong, right, right=True)
    return ((below + below_or_equal).double().mean() / (2 * len(wrong))).item()


def summary_table(summaries: Sequence[Summary]) -> Table:
    """One row per truth, in degrees and the unit of length of the first."""
    table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    unit = summaries[0].unit if summaries else CENTIMETRES
    for i, heading in enumerate(summary_headings(unit)):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for summary in summaries:
        table.add_row(*summary_cells(summary))
    return table


def summary_headings(unit: LengthUnit = CENTIMETRES) -> list[str]:
    """Broken where a terminal of 80 columns needs it."""
    percent = [f"% {threshold}".replace(f" {unit.name} ", f" {unit.name}\n") for threshold in unit.thresholds]
    medians = [f"median\n{unit.name}", "median\n°"]
    relative = ["median /\nspacing"] if unit == CENTIMETRES else []
    return ["truth", "images", "not\nlocalized", *percent, *medians, *relative]


def summary_cells(summary: Summary) -> list[str]:
    """The texts of a summary's row, under `summary_headings`."""
    cells = [
        summary.truth,
        str(summary.num_images),
        str(summary.num_not_localized),
        f"{summary.percent_5cm_5deg:.1f}",
        f"{summary.percent_2cm_2deg:.1f}",
        f"{summary.percent_1cm_1deg:.1f}",
        format_error(summary.unit.of(summary.median_translation_m)),
        format_error(summary.median_rotation_deg),
    ]
    if summary.unit == CENTIMETRES:
        relative = summary.median_translation_spacings
        cells.append("–" if relative is None else format_error(relative))
    return cells


def format_error(value: float) -> str:
    """Three decimals below 0.1, two below 10, else one; infinite as ∞."""
    if not np.isfinite(value):
        return "∞"
    return f"{value:.{3 if value < 0.1 else 2 if value < 10 else 1}f}"


def finite(value: float) -> float | None:
    """For JSON, which knows no infinity."""
    return float(value) if np.isfinite(value) else None


_CHUNK = 2048  # rows of the distance matrix held at once
_SAME_PLACE = 1e-5  # of the cameras' extent
_ROUNDING = 1e-12  # of the largest coordinate
_EXACT = "donot_use_mm_for_euclid_dist"  # of close points far from the origin products have too few digits


def _median(values: Float[Tensor, " B"]) -> float:
    """The middle value, or the mean of the two middle ones (infinite when one of them is)."""
    return float(np.median(values.numpy()))
