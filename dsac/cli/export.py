"""`dsac export`: what a map file or a poses file holds, for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dsac.cli.console import out
from dsac.cli.options import Maybe, Positional, parse_camera, users_mistakes
from dsac.cli.outputs import check_writable, is_map
from dsac.errors import DatasetError, DsacError

if TYPE_CHECKING:
    from dsac.datasets.writers.colmap import SeenPoint
    from dsac.datasets.writers.outgoing import Outgoing
    from dsac.geometry import Camera, Pose, Similarity
    from dsac.landmarks import Landmarks


@dataclass(frozen=True)
class Export:
    """Write what a map or a poses file holds in a format of other programs.

    Of a map: ply has its landmarks as a cloud of coloured points, colmap these and the views that they were cut
    from; the other formats have the poses of these views, the mapping images, whose names a map does not hold.
    Of a poses file: ply has the cameras as small pyramids with the upper edge white, the others the poses.

    tum: timestamp tx ty tz qx qy qz qw, world from camera; times are those in the names, else thirty a second.
    kitti: twelve numbers a line, 3x4, world from camera. colmap: a folder with a model, camera from world.
    nerfstudio: a transforms.json, world from camera with OpenGL's axes.

    For example:
      $ dsac export kitchen.dsac kitchen.ply --to ply
      $ dsac export poses.txt trajectory.txt --to tum
      $ dsac export poses.txt model --to colmap --camera PINHOLE,640,480,525,525,320,240
    """

    source: Positional[Path]
    """A map file, or a poses file (name qw qx qy qz tx ty tz, cam_from_world)."""
    output: Positional[Path]
    """The file to write; for colmap a folder, new or empty."""
    to: Annotated[
        Literal["ply", "colmap", "nerfstudio", "tum", "kitti"], tyro.conf.arg(help_behavior_hint="(required)")
    ]
    """The format."""
    camera: Maybe[str] = None
    """MODEL,WIDTH,HEIGHT,PARAMS... of all images, for colmap and nerfstudio (default: the map's; a poses file
    has none, but focal lengths in it win)."""

    def run(self) -> None:
        from dsac.datasets.storage import check_new_folder, write_atomically

        if self.to == "colmap":
            check_new_folder(self.output)
        else:
            check_writable(self.output, _OURS[self.to])
        camera = None if self.camera is None else parse_camera(self.camera)
        if self.source.suffix == ".dsac" or is_map(self.source):
            views, points = _of_map(self.source, camera)
            what = f"{len(points)} landmarks" if self.to == "ply" else f"{len(views.names)} views"
        else:
            views, points = _of_poses(self.source, camera), []
            what = f"{len(views.names)} poses"
        if self.to in ("colmap", "nerfstudio") and not views.cameras:
            raise DsacError(f"{self.source}: {self.to} needs the images' --camera MODEL,WIDTH,HEIGHT,PARAMS...")
        if self.to == "colmap":
            _write_model(self.output, views, points)
        else:
            write_atomically(self.output, _as_file(self.to, views, points))
        out.print(f"{self.output}: {self.to}, {what}", soft_wrap=True)


def _of_map(path: Path, camera: Camera | None) -> tuple[Outgoing, list[SeenPoint]]:
    """The views that landmarks were cut from, and the landmarks, in the world of the recording."""
    from dsac.atlas import Atlas
    from dsac.geometry import Pose

    atlas = Atlas.load(path)
    regions = [(region.name, region.read()) for region in atlas.regions]
    with_some = [(name, scene_map, scene_map.landmarks) for name, scene_map in regions if scene_map.landmarks]
    if not with_some:
        raise DsacError(f"{path}: holds no landmarks, and poses of the mapping images only with them")
    of_each = [scene_map.in_world(landmarks.cam_from_world) for _, scene_map, landmarks in with_some]
    names = [
        f"{name}-view-{number:04d}" if name else f"view-{number:04d}"
        for (name, _, _), poses in zip(with_some, of_each, strict=True)
        for number in range(len(poses))
    ]
    views = _views(names, Pose.cat(of_each), camera or atlas.mapping_camera, None)
    points: list[SeenPoint] = []
    first = 0
    for (_, scene_map, landmarks), poses in zip(with_some, of_each, strict=True):
        points += _landmarks(landmarks, scene_map.info.world_from_map, first, views)
        first += len(poses)
    return views, points


def _landmarks(
    landmarks: Landmarks, world_from_map: Similarity, first: int, views: Outgoing
) -> list[SeenPoint]:
    """With their colours, and where the view's camera shows them, if that is known; `first` of their views."""
    import torch

    from dsac.datasets.writers.colmap import SeenPoint

    points = world_from_map @ landmarks.points
    colors = landmarks.colors
    if colors is None:  # a map from before: the grey of the patch's middle
        middle = landmarks.patches.shape[-1] // 2
        colors = landmarks.patches[:, middle, middle, None].expand(-1, 3)
    rows = landmarks.view.long() + first
    pixels = torch.zeros(len(points), 2, dtype=torch.float64)
    if views.cameras:
        points_cam = views.cam_from_world[rows] @ points[:, None]
        pixels = views.cameras[0].project(points_cam)[:, 0]
    of_each = zip(points.tolist(), colors.tolist(), rows.tolist(), pixels.tolist(), strict=True)
    return [SeenPoint(tuple(xyz), tuple(rgb), row, tuple(pixel)) for xyz, rgb, row, pixel in of_each]


def _of_poses(path: Path, camera: Camera | None) -> Outgoing:
    from dsac.datasets import read_poses

    poses = read_poses(path)
    if not poses.names:
        raise DsacError(f"{path}: expected poses, found none")
    focals = None if poses.focal_px is None else poses.focal_px.tolist()
    return _views(poses.names, poses.cam_from_world, camera, focals)


def _views(names: list[str], poses: Pose, camera: Camera | None, focals: list[float] | None) -> Outgoing:
    """With a camera for each different focal length; without any where none is known."""
    import numpy as np

    from dsac.datasets.writers.outgoing import Outgoing

    index = np.zeros(len(names), np.int64)
    cameras = [] if camera is None else [camera]
    if camera is not None and focals is not None:
        distinct, index = np.unique(focals, return_inverse=True)
        cameras = [replace(camera, focal_px=camera.focal_px.new_tensor([focal, focal])) for focal in distinct]
    return Outgoing(names, cameras, index, poses, len(names))


def _write_model(folder: Path, views: Outgoing, points: list[SeenPoint]) -> None:
    from dsac.datasets.storage import folder_written_whole
    from dsac.datasets.writers.colmap import check, write_model

    with users_mistakes():
        check(views.cameras)
    with folder_written_whole(folder) as temporary:
        write_model(temporary, views, points)


def _as_file(format: str, views: Outgoing, points: list[SeenPoint]) -> bytes:
    from dsac.datasets.writers import kitti, nerfstudio, tum

    if format == "ply":
        return _as_ply(views, points)
    if format == "nerfstudio":
        lines = [json.dumps(nerfstudio.transforms(views, ""), indent=1, ensure_ascii=False)]
    elif format == "tum":
        lines = tum.trajectory(tum.times_of(views.names), views.cam_from_world)
    else:
        lines = kitti.trajectory(views.cam_from_world)
    return "".join(f"{line}\n" for line in lines).encode()


def _as_ply(views: Outgoing, points: list[SeenPoint]) -> bytes:
    """The points; where there are none the cameras, a third as long as they are apart."""
    import numpy as np

    from dsac.datasets.writers.ply import cameras_as_ply, points_as_ply
    from dsac.evaluation.metrics import camera_spacing
    from dsac.geometry import Camera

    if points:
        xyz, rgb = (np.array([getattr(point, name) for point in points]) for name in ("xyz", "rgb"))
        return points_as_ply(xyz, rgb.astype(np.uint8))
    camera = views.cameras[0] if views.cameras else Camera.simple(500, (640, 480))
    length = (camera_spacing(views.cam_from_world.center) or 1.0) / 3
    return cameras_as_ply(views.cam_from_world, camera, length)


def _begins_with(start: bytes) -> Callable[[Path], bool]:
    return lambda path: path.read_bytes().startswith(start)


def _holds_matrices(path: Path) -> bool:
    from dsac.datasets.tables import read_rows

    try:
        return all(len(row.numbers("", 0, len(row.words))) == 12 for row in read_rows(str(path)))
    except DatasetError:
        return False


# what an export may replace: another of its kind
_OURS: dict[str, Callable[[Path], bool]] = {
    "ply": _begins_with(b"ply\n"),
    "nerfstudio": _begins_with(b"{"),
    "tum": _begins_with(b"# timestamp tx ty tz qx qy qz qw"),
    "kitti": _holds_matrices,
}
