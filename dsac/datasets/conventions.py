"""How a recording writes down its poses, depth and focal lengths, where that is not what its format says.

    conventions = Conventions(poses="inverted", axes="RUB", depth_scale=0.2)
    scene = read_as(load_scene("lab"), conventions)

Readers take each format at its word. Recordings made by hand, by converters and by phones often mean something
else; `dsac.checking` finds out what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from dsac.datasets.frame import ChecksFiles, FrameReader, Frames, ImageFile, Scene, image_file
from dsac.geometry import Camera, Pose

AXES = {"opencv": "RDF", "opengl": "RUB", "arkit": "RUB", "unity": "RUF", "ros": "FLU"}
_DIRECTIONS = {
    "R": (1, 0, 0), "L": (-1, 0, 0), "D": (0, 1, 0), "U": (0, -1, 0), "F": (0, 0, 1), "B": (0, 0, -1),
}  # fmt: skip
Inverse = Literal["as read", "inverted"]
Quaternion = Literal["as read", "xyzw", "wxyz"]
Written = Literal["cam_from_world", "world_from_cam"]
Center = Literal["as read", "middle", "swapped"]
INVERSE: tuple[Inverse, ...] = get_args(Inverse)
QUATERNIONS: tuple[Quaternion, ...] = get_args(Quaternion)
WRITTEN: tuple[Written, ...] = get_args(Written)
CENTERS: tuple[Center, ...] = get_args(Center)


@dataclass(frozen=True)
class Conventions:
    """What a recording means, relative to how it was read. The default changes nothing.

    Poses are mended in this order: the quaternion's order in the file, the inverse, the camera's axes.
    Raises: `ValueError` for axes that are none, and factors that are not above 0.
    """

    poses: Inverse = "as read"
    """Camera from world where world from camera was read, or the other way round."""
    quaternion: Quaternion = "as read"
    """The order in the file that was read in the other one."""
    written: Written = "cam_from_world"
    """Which of the two that quaternion belongs to, as the format says."""
    axes: str = "RDF"
    """Where x, y, z of its cameras point: three of Right, Left, Up, Down, Forward, Back, or a name of `AXES`
    that stands for them."""
    depth_scale: float = 1.0
    """By which depth has to be multiplied."""
    depth_along: Literal["z", "ray"] = "z"
    """Whether depth is measured along the optical axis or along each pixel's ray."""
    focal_scale: float = 1.0
    """By which focal lengths have to be multiplied."""
    center: Center = "as read"
    """The principal point in the image's middle, or x and y of it and of the focal lengths exchanged."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", axes_letters(self.axes))
        for name in ("depth_scale", "focal_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")

    @property
    def changes_poses(self) -> bool:
        return (self.poses, self.quaternion, self.axes) != ("as read", "as read", "RDF")

    def options(self) -> str:
        """As a command line has them; empty if nothing changes."""
        words = []
        if self.quaternion != "as read":
            words.append(f"--quaternion {self.quaternion}")
            if self.written != "cam_from_world":
                words.append(f"--written {self.written}")
        if self.poses != "as read":
            words.append(f"--poses {self.poses}")
        if self.axes != "RDF":
            names = [name for name, letters in AXES.items() if letters == self.axes]
            words.append(f"--axes {names[0] if names else self.axes}")
        if self.depth_scale != 1:
            words.append(f"--depth-scale {self.depth_scale:.4g}")
        if self.depth_along != "z":
            words.append(f"--depth-along {self.depth_along}")
        if self.focal_scale != 1:
            words.append(f"--focal-scale {self.focal_scale:.4g}")
        if self.center != "as read":
            words.append(f"--center {self.center}")
        return " ".join(words)

    def mended(self, cam_from_world: Pose) -> Pose:
        """Poses as they are meant, of poses as they were read; batch (N,), float64."""
        poses = cam_from_world
        if self.quaternion != "as read":
            stored = poses if self.written == "cam_from_world" else poses.inverse()
            w, x, y, z = stored.quaternion_wxyz.unbind(-1)
            order = (z, w, x, y) if self.quaternion == "xyzw" else (x, y, z, w)
            stored = Pose.from_quaternion(torch.stack(order, dim=-1), stored.translation)
            poses = stored if self.written == "cam_from_world" else stored.inverse()
        if self.poses == "inverted":
            poses = poses.inverse()
        if self.axes != "RDF":
            axes = camera_axes(self.axes).to(poses.rotation)
            # left-handed axes need a mirrored world, or rotations would be none
            world = torch.diag(axes.new_tensor([1.0, 1.0, float(torch.linalg.det(axes).round())]))
            poses = Pose(axes @ poses.rotation @ world, poses.translation @ axes.T)
        return poses

    def camera(self, read: Camera) -> Camera:
        """A camera as it is meant, of one as it was read."""
        focal_px, center_px = read.focal_px * self.focal_scale, read.center_px
        if self.center == "middle":
            center_px = center_px.new_tensor(read.size) / 2
        elif self.center == "swapped":
            focal_px, center_px = focal_px.flip(-1), center_px.flip(-1)
        return replace(read, focal_px=focal_px, center_px=center_px)


def axes_letters(axes: str) -> str:
    """Axes by their name or letters, as letters. Raises: `ValueError` where they are none."""
    letters = AXES.get(axes.lower(), axes.upper())
    if sorted({"L": "R", "U": "D", "B": "F"}.get(letter, letter) for letter in letters) != ["D", "F", "R"]:
        expected = "three of R L, U D, F B (such as RUB), or one of " + ", ".join(AXES)
        raise ValueError(f"axes: expected {expected}; got {axes}")
    return letters


def camera_axes(letters: str) -> Float[Tensor, "3 3"]:
    """From a camera with these axes to one with x right, y down, z forward; float64."""
    return torch.tensor([_DIRECTIONS[letter] for letter in letters], dtype=torch.float64).T


def read_as(scene: Scene, conventions: Conventions) -> Scene:
    """The same recording, as it is meant."""
    c = conventions
    truths = scene.truths
    if c.changes_poses:
        truths = {
            name: replace(poses, cam_from_world=c.mended(poses.cam_from_world))
            for name, poses in truths.items()
        }
    return replace(scene, mapping=frames_as(scene.mapping, c), query=frames_as(scene.query, c), truths=truths)


def frames_as(frames: Frames, conventions: Conventions) -> Frames:
    """The same frames, as they are meant."""
    c = conventions
    if frames.cam_from_world is not None and c.changes_poses:
        frames = replace(frames, cam_from_world=c.mended(frames.cam_from_world))
    if (c.focal_scale, c.center) != (1.0, "as read"):
        frames = replace(frames, cameras=[c.camera(camera) for camera in frames.cameras])
    if frames.has_depth and (c.depth_scale != 1 or c.depth_along != "z"):
        frames = replace(frames, reader=_MendedDepth(frames.reader, c.depth_scale, c.depth_along == "ray"))
    return frames


@dataclass(frozen=True)
class _MendedDepth:
    """The frames of another reader, with depth in metres along the optical axis."""

    frames: FrameReader
    scale: float
    along_ray: bool
    has_depth: bool = True

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        return self.frames.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        depth = self.frames.read_depth(name, camera) * np.float32(self.scale)
        return depth * cosines(camera) if self.along_ray else depth

    def check(self, name: str, with_depth: bool) -> None:
        if isinstance(self.frames, ChecksFiles):
            self.frames.check(name, with_depth)

    def image_file(self, name: str) -> ImageFile | None:
        return image_file(self.frames, name)


def cosines(camera: Camera) -> Float32[np.ndarray, "H W"]:
    """Of the angle between each pixel's ray and the optical axis."""
    width, height = camera.size
    x, y = torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy")
    rays = camera.unproject(torch.stack([x, y], dim=-1).reshape(-1, 2).double())
    return (rays[:, 2] / rays.norm(dim=-1)).reshape(height, width).float().numpy()
