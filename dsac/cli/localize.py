"""`dsac localize`: photos become poses, as lines, JSON or a poses file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dsac.cli.console import bars_of_phases, out, print_mistake
from dsac.cli.info import as_text, unit_of
from dsac.cli.options import Device, Flag, Maybe, Positional, choose_device, parse_camera, users_mistakes
from dsac.cli.outputs import check_writable, is_poses_file
from dsac.errors import DatasetError, DsacError

if TYPE_CHECKING:
    from dsac.geometry import Camera, Pose
    from dsac.localization import Alternative, Localization


@dataclass(frozen=True)
class Localize:
    """Find out where photos and the frames of videos were taken.

    Prints a line for each photo; --output writes a poses file (name qw qx qy qz tx ty tz, cam_from_world),
    --json prints one JSON object a photo instead. Photos that cannot be localized say so.
    Of a video, its sharp frames that show something new are localized.

    For example:
      $ dsac localize kitchen.dsac photo.jpg --focal-px 525
      $ dsac localize kitchen.dsac photos --camera cameras.txt --depth depth
    """

    map: Positional[Path]
    """The map file."""
    images: Annotated[
        Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGES...", help_behavior_hint="(required)")
    ]
    """Photos, folders of photos, videos."""
    focal_px: Maybe[float | Literal["auto"]] = None
    """Focal length in pixels of all photos, or `auto` to solve it with each pose. Without it, the map's camera
    serves for photos of its shape, and what EXIF data say of others is solved anew."""
    camera: Maybe[str] = None
    """All photos' camera: MODEL,WIDTH,HEIGHT,PARAMS... with COLMAP's models and order of parameters. Or a file:
    NAME MODEL WIDTH HEIGHT PARAMS... a line, for each photo one or for all a single one as in cameras.txt."""
    depth: Maybe[Path] = None
    """Depth along the optical axis in the photos' pixels, which makes answers surer: a file for one photo, or a
    folder with files of the photos' names (16-bit PNG; TIFF or .npy). 0 is unknown."""
    depth_scale: Maybe[float] = None
    """Metres per unit of depth (default: what depth_scale.txt says beside it; 0.001 for whole numbers or 1)."""
    every: Maybe[int] = None
    """Of videos, localize one of so many frames instead of those that are sharp and show something new."""
    near: Annotated[
        tuple[float, float, float] | None, tyro.conf.arg(metavar="X Y Z", help_behavior_hint="")
    ] = None
    """Where the camera is about, in the map's world: of a map of many regions only those are asked that know of
    views within --radius."""
    radius: Maybe[float] = None
    """Of --near, in the map's unit of length."""
    output: Maybe[Path] = None
    """Poses file to write."""
    json: Flag = False
    """Print JSON: pose, confidence, covariance, inliers, timing."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        from dsac.atlas import photos_for
        from dsac.datasets.poses_file import check_names
        from dsac.localizer import Localizer

        if self.output is not None:
            check_writable(self.output, is_poses_file)
        if self.depth_scale is not None and self.depth is None:
            raise DsacError("--depth-scale: expected with --depth")
        if (self.near is None) != (self.radius is None):
            raise DsacError("--near: expected with --radius, and --radius with it")
        camera = None if self.camera is None else parse_cameras(self.camera)
        if not self.images:
            raise DsacError("no images given: dsac localize MAP IMAGES...")
        localizer = Localizer.load(self.map, device=choose_device(self.device))
        info = localizer.scene_map.info
        with users_mistakes(), bars_of_phases() as show:
            photos = photos_for(
                localizer.scene_map,
                self.images,
                camera=camera,
                focal_px=self.focal_px,
                depth=self.depth,
                depth_scale=self.depth_scale,
                every=self.every,
                on_progress=lambda video, done: show("read video", done, video),
            )
        if self.output is not None:
            check_names(photos.names)
        found: dict[str, Pose] = {}
        unusable = 0
        try:
            for i in range(len(photos)):
                try:
                    (localization,) = localizer.localize_frames(
                        photos[i : i + 1], use_depth=True, near=self.near, radius=self.radius
                    )
                except DatasetError as error:  # one bad photo among many is no reason to leave the others
                    if len(photos) == 1:
                        raise
                    unusable += 1
                    print_mistake(error)
                    continue
                print(json.dumps(localization.to_dict()) if self.json else as_line(localization), flush=True)
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


def as_line(localization: Localization) -> str:
    if not localization.success:
        why = f"confidence {localization.confidence.item():.2f}"
        if localization.alternatives:
            why += f"; maybe at {_others(localization.places, ' m' if localization.metric else '')}"
        return f"{localization.name}  not localized ({why})"
    x, y, z = localization.cam_from_world.center.tolist()
    unit = " m" if localization.metric else ""
    known = _geo(localization) + _deviations(localization) + _focal(localization)
    where = f"in {localization.region} " if localization.region else ""
    others = f"  or at {_others(localization.places[1:], unit)}" if localization.alternatives else ""
    return (
        f"{localization.name}  {where}at ({x:.3f}, {y:.3f}, {z:.3f}){unit}  {known}"
        f"confidence {localization.confidence.item():.2f}  {localization.num_inliers.item()} inliers  "
        f"{localization.timing.total_ms:.0f} ms{others}"
    )


def _geo(localization: Localization) -> str:
    """Latitude, longitude and height, where the map knows where it is on Earth."""
    if localization.geo is None:
        return ""
    latitude, longitude, height = localization.geo.tolist()
    return f"{as_text((latitude, longitude, height))}  "


def _others(places: list[Alternative], unit: str) -> str:
    """The likeliest three, with their probabilities."""
    told = []
    for place in places[:3]:
        x, y, z = place.cam_from_world.center.tolist()
        told.append(f"({x:.3f}, {y:.3f}, {z:.3f}){unit} {place.probability:.0%}")
    return ", ".join(told)


def _focal(localization: Localization) -> str:
    """What was found of the focal length, where it was not known."""
    if not localization.focal_sigma_px > 0:
        return ""
    return f"f {localization.focal_px:.0f} ± {max(1, localization.focal_sigma_px):.0f} px  "


def _deviations(localization: Localization) -> str:
    """What the answer states of its own error, one standard deviation."""
    length, degrees = localization.position_sigma_m.item(), localization.rotation_sigma_deg.item()
    if not math.isfinite(length + degrees):
        return ""
    known = f"{1e3 * length:.{1 if length < 0.01 else 0}f} mm" if localization.metric else f"{length:.2g}"
    return f"± {known}, {degrees:.2f}°  "


def parse_cameras(text: str) -> Camera | dict[str, Camera]:
    """A camera, or a file with one for all or one for each."""
    from dsac.datasets.given_cameras import read_cameras

    if Path(text).is_file():
        return read_cameras(text)
    if "," not in text:
        expected = "expected MODEL,WIDTH,HEIGHT,PARAMS..., or a file of cameras, and there is none"
        raise DsacError(f"--camera {text}: {expected}")
    try:
        return parse_camera(text)
    except DsacError as error:
        raise DsacError(f"{error}; or a file of cameras") from None
