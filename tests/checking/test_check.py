"""A recording that contradicts itself is told so, with the cure; one that is right is left in peace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from recorded_depth import Change, with_other_depth

from dsac.checking import check, check_scene
from dsac.checking.sample import SharedCorners, chosen_frames
from dsac.datasets import Conventions, FrameReader, Frames
from dsac.datasets.conventions import camera_axes, cosines
from dsac.errors import DatasetError
from dsac.geometry import Pose
from dsac.rooms import synthetic_scene


@pytest.fixture(scope="module")
def room() -> Frames:
    return synthetic_scene(num_mapping=24, num_query=1, size=(320, 240), light_cell=0.5).mapping


@pytest.fixture(scope="module")
def shared(room: Frames) -> SharedCorners:
    return SharedCorners.of(room)


@pytest.fixture
def checked(shared: SharedCorners, monkeypatch: pytest.MonkeyPatch):
    """The check of frames that show what the room's show: corners are not looked for again."""

    def run(frames: Frames):
        focal = frames.cameras[0].focal_px[0].item() / _focal(shared)
        scaled = [
            replace(f, camera=replace(f.camera, focal_px=f.camera.focal_px * focal)) for f in shared.frames
        ]
        monkeypatch.setattr(check.SharedCorners, "of", staticmethod(lambda *_: replace(shared, frames=scaled)))
        return check_scene(frames)

    return run


def _focal(shared: SharedCorners) -> float:
    camera = shared.frames[0].camera
    return camera.focal_px[0].item() * 240 / camera.size[1]


def _posed(change: Callable[[Pose], Pose]) -> Callable[[Frames], Frames]:
    def changed(frames: Frames) -> Frames:
        assert frames.cam_from_world is not None
        return replace(frames, cam_from_world=change(frames.cam_from_world))

    return changed


def _wxyz_as_xyzw(pose: Pose) -> Pose:
    w, x, y, z = pose.quaternion_wxyz.unbind(-1)
    return Pose.from_quaternion(torch.stack((x, y, z, w), dim=-1), pose.translation)


def _axes(code: str) -> Callable[[Pose], Pose]:
    axes = camera_axes(code)
    world = torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(axes).round())], dtype=torch.float64))
    return lambda pose: Pose(axes.T @ pose.rotation @ world, pose.translation @ axes)


def _focals(scale: float) -> Callable[[Frames], Frames]:
    return lambda frames: replace(
        frames, cameras=[replace(camera, focal_px=camera.focal_px * scale) for camera in frames.cameras]
    )


def _with_depth(change: Change) -> Callable[[Frames], Frames]:
    return lambda frames: with_other_depth(frames, change)


MISTAKES: dict[str, tuple[Callable[[Frames], Frames], Conventions]] = {
    "inverted": (_posed(Pose.inverse), Conventions(poses="inverted")),
    "xyzw": (_posed(_wxyz_as_xyzw), Conventions(quaternion="xyzw")),
    "xyzw of the other pose": (
        _posed(lambda pose: _wxyz_as_xyzw(pose.inverse()).inverse()),
        Conventions(quaternion="xyzw", written="world_from_cam"),
    ),
    "OpenGL": (_posed(_axes("RUB")), Conventions(axes="opengl")),
    "OpenGL, inverted": (
        _posed(lambda pose: _axes("RUB")(pose).inverse()),
        Conventions(poses="inverted", axes="opengl"),
    ),
    "left-handed": (_posed(_axes("RUF")), Conventions(axes="unity")),
    "robot's axes": (_posed(_axes("FLU")), Conventions(axes="ros")),
    "millimetres": (_with_depth(lambda depth, _: 1000 * depth), Conventions(depth_scale=0.001)),
    "a fifth": (_with_depth(lambda depth, _: 0.2 * depth), Conventions(depth_scale=5.0)),
    "along the ray": (
        _with_depth(lambda depth, camera: depth / cosines(camera)),
        Conventions(depth_along="ray"),
    ),
    "half the focal length": (_focals(0.5), Conventions(focal_scale=2.0)),
    "a tenth too long": (_focals(1.1), Conventions(focal_scale=1 / 1.1)),
    "a twentieth too short": (_focals(0.95), Conventions(focal_scale=1 / 0.95)),
}


def test_a_right_recording_is_left_in_peace(room: Frames, checked) -> None:
    found = checked(room)
    assert found.is_right and found.cure is None and found.findings == []
    assert found.num_shared > 1000 and found.agreed > 0.8
    assert found.depth is not None and found.depth.fits > 0.8 and abs(found.depth.ratio - 1) < 0.03


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_cure(mistake: str, room: Frames, checked) -> None:
    change, cure = MISTAKES[mistake]
    found = checked(change(room))
    assert found.cure is not None and found.findings[0].cure
    assert found.is_right == (mistake == "a twentieth too short")  # which is doubted, not refused
    assert replace(found.cure, focal_scale=1.0) == replace(cure, focal_scale=1.0)
    assert found.cure.focal_scale == pytest.approx(cure.focal_scale, rel=0.015)


@pytest.mark.parametrize("step", [-1, 1])
def test_images_out_of_step_with_their_poses_are_noticed(step: int, room: Frames, checked) -> None:
    rows = (torch.arange(len(room)) + step).clamp(0, len(room) - 1)
    found = checked(_posed(lambda pose: pose[rows])(room))
    assert found.cure is None and found.findings[0].severity in ("wrong", "doubtful")
    assert f"the frame {'before' if step > 0 else 'after'} them" in found.findings[0].text


def test_poses_of_another_recording_are_doubted(room: Frames, checked) -> None:
    noise = torch.randn(len(room), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = checked(_posed(lambda pose: Pose.exp(noise) @ pose)(room))
    assert found.agreed < 0.3
    assert any("none of the usual mistakes" in f.text for f in found.findings)


def test_frames_that_share_nothing_say_so(room: Frames) -> None:
    found = check_scene(room[[0]])
    assert found.is_right and "too few to check poses" in found.findings[0].text


def test_frames_without_poses_cannot_be_checked(room: Frames) -> None:
    with pytest.raises(DatasetError, match="expected frames with poses"):
        check_scene(replace(room, cam_from_world=None))


@pytest.mark.parametrize("count", [0, 1, 30, 31, 90, 91, 1000, 100_000])
def test_some_tens_of_frames_are_looked_at(count: int) -> None:
    chosen = chosen_frames(count)
    assert len(chosen) == len(set(chosen)) == min(count, 30)
    assert all(0 <= i < count for i in chosen)


def test_a_damaged_image_is_passed_over(room: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = type(room.reader).read_image

    def read(reader: FrameReader, name: str) -> UInt8[np.ndarray, "H W 3"]:
        if name == room.names[1]:
            raise DatasetError(f"{name}: damaged")
        return reads(reader, name)

    monkeypatch.setattr(type(room.reader), "read_image", read)
    found = check_scene(room[:6])
    assert found.is_right and found.frames_seen == 5
    assert f"{room.names[1]}: damaged" in found.findings[-1].text and found.findings[-1].severity == "note"


def test_images_of_which_nothing_fits_are_too_few(room: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV raises where a wrong match is all there is."""

    def none(*arguments: object) -> None:
        raise cv2.error("!model.empty()")

    monkeypatch.setattr(cv2, "findFundamentalMat", none)
    found = check_scene(room[:6])
    assert found.num_shared == 0 and found.findings[0].severity != "wrong"
