"""Options that verbs share: their types, their checks, and what they name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from dsac.cli.console import out
from dsac.errors import DatasetError, DsacError

if TYPE_CHECKING:
    import torch

    from dsac.datasets import Conventions, Scene
    from dsac.geometry import Camera

T = TypeVar("T")
Positional = tyro.conf.Positional
_NO_DEFAULT = tyro.conf.arg(help_behavior_hint="")  # the help has it in words, not as "(default: None)"
Maybe = Annotated[T | None, _NO_DEFAULT]
Flag = Annotated[bool, _NO_DEFAULT]
Device = Literal["auto", "cpu", "cuda"]


def given(**options: object) -> dict[str, Any]:
    """Those that the user gave; the library has defaults for the others."""
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def users_mistakes() -> Iterator[None]:
    """What the library says of an option's value becomes the command's one line.

    Raises: `DsacError`.
    """
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise DsacError(str(error)) from error


def check_numbers(verb: object) -> None:
    """Of all options of a verb. Raises: `DsacError` for a number that none of them can mean."""
    for name, value in vars(verb).items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, float) and not math.isfinite(value):
            raise DsacError(f"{option}: expected a finite number, got {value}")
        if isinstance(value, int) and abs(value) >= 1 << 63:
            raise DsacError(f"{option}: expected a number of at most 64 bits, got {value}")


def check_seed(seed: int) -> None:
    """Raises: `DsacError`."""
    if seed < 0:
        raise DsacError(f"seed: expected 0 or more, got {seed}")


def choose_device(name: Device) -> torch.device:
    """Raises: `DsacError` when there is no such device."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise DsacError("--device cuda: PyTorch sees no CUDA device here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def parse_camera(text: str) -> Camera:
    """What --camera says. Raises: `DsacError`."""
    from dsac.geometry import Camera

    try:
        return Camera.from_text(text)
    except (ValueError, OverflowError) as error:
        raise DsacError(f"--camera {text}: expected MODEL,WIDTH,HEIGHT,PARAMS... ({error})") from None


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a recording means where it does not keep to its format; `dsac check` finds out."""

    quaternion: Maybe[Literal["xyzw", "wxyz"]] = None
    """The order of the recording's quaternions, where its format has the other one."""
    written: Literal["cam_from_world", "world_from_cam"] = "cam_from_world"
    """Which of the two those quaternions belong to."""
    axes: Maybe[str] = None
    """Where x, y and z of its cameras point: opengl, arkit, unity, ros, or three letters such as RUB (default:
    RDF, right, down, forward)."""
    depth_scale: float = 1.0
    """What depth has to be multiplied by to be in the unit of the poses."""
    depth_along: Literal["z", "ray"] = "z"
    """Whether depth is measured along the optical axis or along each pixel's ray."""
    focal_scale: float = 1.0
    """What focal lengths have to be multiplied by."""
    center: Maybe[Literal["middle", "swapped"]] = None
    """The principal point is in the middle of the image, or its x and y (and those of focal lengths) are
    exchanged."""

    def conventions(self, poses: str | None) -> Conventions:
        """`poses`: "inverted", or None for as they were read.

        Raises: `DsacError` for axes that are none, and factors not above 0.
        """
        from dsac.datasets import Conventions

        with users_mistakes():
            return Conventions(
                "inverted" if poses == "inverted" else "as read", self.quaternion or "as read", self.written,
                self.axes or "RDF", self.depth_scale, self.depth_along, self.focal_scale,
                self.center or "as read",
            )  # fmt: skip


Inverted = Maybe[Literal["inverted"]]


def read_scene(
    path: str,
    truth: str | None = None,
    max_gap: float | None = None,
    meaning: Conventions | None = None,
) -> Scene:
    """The recording in a folder or behind a URL, or the rendered room for `synthetic`; prints what it has.

    Raises: `DatasetError`.
    """
    from dsac.datasets import load_scene, read_as

    if path == "synthetic":
        if max_gap is not None:
            raise DatasetError("synthetic: max_gap is for poses that are found by time, here they are not")
        scene = _synthetic_scene(truth)
    else:
        scene = load_scene(path, truth, max_gap=max_gap)
    depth = "with depth" if scene.mapping.has_depth else "without depth"
    out.print(
        f"{path}: {scene.format}, {len(scene.mapping)} mapping frames {depth}, {len(scene.query)} query frames",
        soft_wrap=True,
    )
    return scene if meaning is None else read_as(scene, meaning)


def _synthetic_scene(truth: str | None) -> Scene:
    from dsac.datasets.recording import pick_truth
    from dsac.rooms import synthetic_scene

    scene = synthetic_scene()
    pick_truth("synthetic", scene.truths, truth)
    return scene
