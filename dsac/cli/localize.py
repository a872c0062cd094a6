"""`dsac localize`: photos become poses, as lines, JSON or a poses file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dsac.cli.console import out, print_mistake, progress_bars
from dsac.cli.info import unit_of
from dsac.cli.options import Device, Flag, Maybe, Positional, choose_device, users_mistakes
from dsac.cli.outputs import check_writable, is_poses_file
from dsac.errors import DatasetError, DsacError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from dsac.geometry import Camera, Pose
    from dsac.localizer import Localization


@dataclass(frozen=True)
class Localize:
    """Find out where photos and the frames of videos were taken.

    Prints a line for each photo; --output writes a poses file (name qw qx qy qz tx ty tz, cam_from_world),
    --json prints one JSON object a photo instead. Photos that cannot be localized say so.
    Of a video, its sharp frames that show something new are localized.

    For example:
      $ dsac localize kitchen.dsac photo.jpg --focal-px 525
    """

    map: Positional[Path]
    """The map file."""
    images: Annotated[
        Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGES...", help_behavior_hint="(required)")
    ]
    """Photos, folders of photos, videos."""
    focal_px: Maybe[float] = None
    """Focal length in pixels of all photos; without it, the map's camera or each photo's EXIF data are used."""
    camera: Maybe[str] = None
    """All photos' camera: MODEL,WIDTH,HEIGHT,PARAMS... with COLMAP's models and order of parameters. Or a file:
    NAME MODEL WIDTH HEIGHT PARAMS... a line, for each photo one or for all a single one as in cameras.txt."""
    every: Maybe[int] = None
    """Of videos, localize one of so many frames instead of those that are sharp and show something new."""
    output: Maybe[Path] = None
    """Poses file to write."""
    json: Flag = False
    """Print JSON: pose, confidence, covariance, inliers, timing."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        from dsac.datasets import load_photos
        from dsac.datasets.poses_file import check_names
        from dsac.localizer import Localizer

        if self.output is not None:
            check_writable(self.output, is_poses_file)
        camera = None if self.camera is None else _parse_camera(self.camera)
        if not self.images:
            raise DsacError("no images given: dsac localize MAP IMAGES...")
        localizer = Localizer.load(self.map, device=choose_device(self.device))
        info = localizer.scene_map.info
        with users_mistakes(), _video_progress() as on_progress:
            photos = load_photos(
                self.images,
                camera=camera,
                focal_px=self.focal_px,
                mapping_camera=localizer.scene_map.mapping_camera,
                as_stored=info.as_stored,
                every=self.every,
                on_progress=on_progress,
            )
        if self.output is not None:
            check_names(photos.names)
        found: dict[str, Pose] = {}
        unusable = 0
        try:
            for i in range(len(photos)):
                try:
                    (localization,) = localizer.localize_frames(photos[i : i + 1])
                except DatasetError as error:  # one bad photo among many is no reason to leave the others
                    if len(photos) == 1:
                        raise
                    unusable += 1
                    print_mistake(error)
                    continue
                print((_as_json if self.json else _as_line)(localization, info.metric), flush=True)
                if (pose := _pose(localization)) is not None:
                    found[localization.name] = pose
        except KeyboardInterrupt:
            self._write(found)
            raise
        self._write(found)
        if not self.json:
            unit = "" if info.metric or not found else f"; positions are in {unit_of(info)}"
            out.print(f"{len(found)} of {len(photos)} localized{unit}", style="dim", soft_wrap=True)
        if unusable:
            raise DsacError(f"{unusable} of {len(photos)} photos could not be used")

    def _write(self, found: dict[str, Pose]) -> None:
        import torch

        from dsac.datasets import NamedPoses, write_poses
        from dsac.geometry import Pose

        if self.output is not None:
            poses = Pose.stack(list(found.values())) if found else Pose.identity(0, dtype=torch.float64)
            write_poses(self.output, NamedPoses(list(found), poses))


def _pose(localization: Localization) -> Pose | None:
    """`cam_from_world`, where the photo was localized."""
    return localization.cam_from_world.to("cpu") if localization.success else None


def _as_line(localization: Localization, metric: bool | None) -> str:
    if not localization.success:
        return f"{localization.name}  not localized (confidence {localization.confidence.item():.2f})"
    x, y, z = localization.cam_from_world.center.tolist()
    unit = " m" if metric else ""
    return (
        f"{localization.name}  at ({x:.3f}, {y:.3f}, {z:.3f}){unit}  "
        f"confidence {localization.confidence.item():.2f}  {localization.num_inliers.item()} inliers  "
        f"{localization.timing.total_ms:.0f} ms"
    )


def _as_json(localization: Localization, metric: bool | None) -> str:
    success, pose = bool(localization.success), localization.cam_from_world
    answer = {
        "name": localization.name,
        "success": success,
        "confidence": round(localization.confidence.item(), 4),
        "inliers": int(localization.num_inliers),
        "cam_from_world": {
            "quaternion_wxyz": pose.quaternion_wxyz.tolist(),
            "translation": pose.translation.tolist(),
        } if success else None,
        "center": pose.center.tolist() if success else None,
        "metric": metric,
        "covariance": localization.covariance.tolist() if success else None,
        "timing_ms": {key.removesuffix("_ms"): round(ms, 2) for key, ms in asdict(localization.timing).items()},
    }  # fmt: skip
    return json.dumps(answer)


@contextmanager
def _video_progress() -> Iterator[Callable[[str, float], None]]:
    """A bar for each video that is searched for frames; photos need none."""
    with ExitStack() as stack:
        bars: list[Progress] = []
        tasks: dict[str, TaskID] = {}

        def show(name: str, fraction: float) -> None:
            if not bars:
                bars.append(stack.enter_context(progress_bars()))
            if name not in tasks:
                tasks[name] = bars[0].add_task("read video", total=1.0, note=name)
            bars[0].update(tasks[name], completed=fraction)

        yield show


def _parse_camera(text: str) -> Camera | dict[str, Camera]:
    from dsac.datasets.given_cameras import read_cameras
    from dsac.geometry import Camera

    if Path(text).is_file():
        return read_cameras(text)
    try:
        return Camera.from_text(text)
    except (ValueError, OverflowError) as error:
        raise DsacError(f"--camera {text}: expected MODEL,WIDTH,HEIGHT,PARAMS... or a file ({error})") from None
