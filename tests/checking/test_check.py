"""A recording that contradicts itself is told so, with the cure; one that is right is left in peace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from recorded_depth import Change, with_other_depth

from dsac.checking import SceneCheck, check_scene
from dsac.checking.check import check_shared
from dsac.checking.passes import of_passes
from dsac.checking.quality import BLURRED, of_origin
from dsac.checking.sample import Sampled, SharedCorners, chosen_frames
from dsac.datasets import Conventions, FrameReader, Frames
from dsac.datasets.conventions import camera_axes, cosines
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.rooms import synthetic_scene


@pytest.fixture(scope="module")
def room() -> Frames:
    frames = synthetic_scene(num_mapping=24, num_query=1, size=(320, 240), light_cell=0.5).mapping
    return replace(frames, reader=_Kept(frames))


@dataclass(frozen=True)
class _Kept:
    """The frames of another reader, rendered once."""

    frames: Frames
    has_depth: bool = True
    _depth: dict[str, np.ndarray] = field(default_factory=dict)

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        return self.frames.reader.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        if name not in self._depth:
            self._depth[name] = self.frames.reader.read_depth(name, camera)
        return self._depth[name]


@pytest.fixture(scope="module")
def shared(room: Frames) -> SharedCorners:
    return SharedCorners.of(room).thinned(1500)


@pytest.fixture
def checked(shared: SharedCorners) -> Callable[..., SceneCheck]:
    """The check of frames that show what the room's show: corners are not looked for again."""

    def run(frames: Frames, lens: Lens = lambda camera: camera) -> SceneCheck:
        cameras = [lens(camera) for camera in frames.cameras]
        return check_shared(replace(frames, cameras=cameras), shared.through(lens))

    return run


Lens = Callable[[Camera], Camera]


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


def _longer(scale: float) -> Lens:
    return Conventions(focal_scale=scale).camera


def _off_center(x: float, y: float) -> Lens:
    """By shares of the shorter side."""
    return lambda camera: replace(
        camera, center_px=camera.center_px + min(camera.size) * camera.center_px.new_tensor([x, y])
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
}
LENSES: dict[str, tuple[Lens, Conventions]] = {
    "half the focal length": (_longer(0.5), Conventions(focal_scale=2.0)),
    "a tenth too long": (_longer(1.1), Conventions(focal_scale=1 / 1.1)),
    "K of the image turned by a quarter": (Conventions(center="swapped").camera, Conventions(center="middle")),
    "principal point a fifth off": (_off_center(0.14, -0.14), Conventions(center="middle")),
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
    assert not found.is_right and found.cure == cure and found.findings[0].cure


@pytest.mark.parametrize("mistake", LENSES)
def test_a_wrong_camera_is_named_with_its_cure(mistake: str, room: Frames, checked) -> None:
    lens, cure = LENSES[mistake]
    found = checked(room.without_depth(), lens)
    assert found.is_right == (mistake == "a twentieth too short")  # which is doubted, not refused
    assert found.cure is not None and replace(found.cure, focal_scale=1.0) == replace(cure, focal_scale=1.0)
    assert found.cure.focal_scale == pytest.approx(cure.focal_scale, rel=0.015)


def test_a_principal_point_that_has_no_name_is_told(room: Frames, shared: SharedCorners) -> None:
    """As of images that were cut off at their left, by a quarter of the shorter side."""
    cut = min(shared.frames[0].camera.size) / 4
    cropped = replace(
        shared, pixels_first=shared.pixels_first - [cut, 0], pixels_second=shared.pixels_second - [cut, 0]
    )
    found = check_shared(room.without_depth(), cropped)
    assert not found.is_right and found.cure is None
    assert "principal point 25% of the shorter side to the left" in found.findings[0].text


def test_images_turned_by_a_quarter_are_told_by_their_axes(room: Frames, shared: SharedCorners) -> None:
    turned = shared.through(lambda camera: replace(camera, size=camera.size[::-1]))
    height = shared.frames[0].camera.size[1]
    pixels = (
        np.stack([height - pixels[:, 1], pixels[:, 0]], axis=1)
        for pixels in (shared.pixels_first, shared.pixels_second)
    )
    found = check_shared(room.without_depth(), replace(turned, **dict(zip(PIXELS, pixels, strict=True))))
    assert found.cure == Conventions(axes="DLF", center="middle")


PIXELS = ("pixels_first", "pixels_second")


@pytest.mark.parametrize("step", [-3, 2])
def test_depth_of_another_time_is_told(step: int, walk: tuple[Frames, SharedCorners]) -> None:
    frames, shared = walk
    found = check_shared(replace(frames, reader=_LateDepth(frames, step)), shared)
    (finding,) = found.findings
    when = f"{abs(step)} frames {'earlier' if step > 0 else 'later'}"
    assert when in finding.text and found.cure is None


@pytest.fixture(scope="module")
def walk() -> tuple[Frames, SharedCorners]:
    """Frames that stand close together."""
    frames = synthetic_scene(num_mapping=150, num_query=1, size=(320, 240), light_cell=0.5).mapping[:16]
    frames = replace(frames, reader=_Kept(frames))
    return frames, SharedCorners.of(frames)


@dataclass(frozen=True)
class _LateDepth:
    """Depth of frames so many before."""

    frames: Frames
    step: int
    has_depth: bool = True

    def read_image(self, name: str) -> np.ndarray:
        return self.frames.reader.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        index = np.clip(self.frames.names.index(name) - self.step, 0, len(self.frames) - 1)
        return self.frames.reader.read_depth(self.frames.names[index], camera)


@pytest.mark.parametrize(("focal_scale", "aside"), [(1.15, 0.0), (0.85, 0.0), (1.0, 0.1), (1.12, 0.05)])
def test_depth_of_another_camera_is_told(focal_scale: float, aside: float, room: Frames, checked) -> None:
    """Longer or shorter, metres to the right: each pixel goes where that camera sees its point."""

    def change(depth: np.ndarray, camera: Camera) -> np.ndarray:
        columns, rows = np.meshgrid(*(np.arange(size) + 0.5 for size in camera.size))
        middle, focal = camera.center_px.numpy(), camera.focal_px.numpy()
        x = (columns - middle[0] - aside * focal[0] / depth) * focal_scale + middle[0]
        y = (rows - middle[1]) * focal_scale + middle[1]
        seen = np.full(depth.shape, np.inf)
        inside = (x >= 0) & (y >= 0) & (x < camera.size[0]) & (y < camera.size[1])
        np.minimum.at(seen, (y[inside].astype(int), x[inside].astype(int)), depth[inside])
        seen = np.where(np.isinf(seen), cv2.erode(seen, np.ones((2, 2))), seen)
        return np.where(seen > 1000, 0, seen)

    found = checked(with_other_depth(room, change))
    (finding,) = found.findings
    scale = float(finding.text.split(" with ")[1].split(" times")[0])
    assert "another camera" in finding.text and scale == pytest.approx(focal_scale, rel=0.04)


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


@pytest.mark.parametrize("at", [8, 16])
def test_two_passes_that_disagree_are_told_with_where_the_second_begins(
    at: int, room: Frames, shared: SharedCorners, checked
) -> None:
    moved = Pose.exp(torch.tensor([0, 0.02, 0, 0.2, 0, 0.1], dtype=torch.float64))

    def second_elsewhere(poses: Pose) -> Pose:
        return Pose.cat([poses[:at], poses[at:] @ moved])

    (finding,) = [
        f for f in checked(_posed(second_elsewhere)(room)).findings if "show the same place" in f.text
    ]
    assert f"up to {room.names[at - 1]} and from {room.names[at]} on" in finding.text
    assert finding.severity == "doubtful" and "dsac merge --recording" in finding.text
    assert not list(of_passes(shared, np.ones(len(shared)), room.names))


def test_poses_of_few_digits_far_from_the_origin_are_told(room: Frames, checked) -> None:
    """UTM coordinates, and quaternions as text: a rounded turn about a far origin is a step."""

    def rounded(pose: Pose) -> Pose:
        there = pose.translation - pose.rotation @ torch.tensor([452311.0, 5411877.0, 312.0]).double()
        return Pose.from_quaternion(pose.quaternion_wxyz.round(decimals=6), there)

    found = checked(_posed(rounded)(room))
    (finding,) = found.findings
    assert finding.severity == "wrong" and found.cure is None
    assert "5.43e+06 from the world's origin" in finding.text


def test_poses_are_blamed_for_few_digits_only_far_from_the_origin(room: Frames) -> None:
    assert room.cam_from_world is not None
    near = room.cam_from_world
    far = near @ Pose.exp(torch.tensor([0, 0, 0, 452311.0, 5411877.0, 312.0]).double())
    assert not list(of_origin(near, 0.05))
    assert [next(of_origin(far, agreed)).severity for agreed in (0.05, 0.25)] == ["wrong", "doubtful"]


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


def test_a_camera_that_turns_on_the_spot_is_told(room: Frames, shared: SharedCorners) -> None:
    """What is seen from there: rays of the first frames, turned into the second ones."""
    assert room.cam_from_world is not None
    turned = room.cam_from_world.rotation.numpy()[shared.indices]
    first, _ = shared.rays(1.0)
    rays = np.einsum("nij,nkj,nk->ni", turned[shared.second], turned[shared.first], first)
    camera = shared.frames[0].camera
    seen = rays[:, :2] / rays[:, 2:] * camera.focal_px.numpy() + camera.center_px.numpy()
    poses = Pose(room.cam_from_world.rotation, torch.zeros_like(room.cam_from_world.translation))
    frames = replace(room.without_depth(), cam_from_world=poses)
    found = check_shared(frames, replace(shared, pixels_second=seen))
    assert [finding.severity for finding in found.findings] == ["doubtful"]
    assert "nothing can be triangulated" in found.findings[0].text and np.isnan(found.distance)


def test_repeated_poses_are_told_from_others(room: Frames, checked) -> None:
    found = checked(_posed(lambda pose: pose[torch.zeros(len(room), dtype=torch.int64)])(room))
    assert "before a camera that stands still, or repeated poses" in found.findings[0].text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: replace(frame, detail=0.3), "blurred"),
        (lambda frame: replace(frame, black=0.9), "mostly black"),
        (lambda frame: replace(frame, white=0.9), "mostly white"),
    ],
)
def test_frames_that_show_little_are_named_where_they_are_many(
    change: Callable[[Sampled], Sampled], words: str, room: Frames, shared: SharedCorners
) -> None:
    def of(many: int) -> list[str]:
        frames = [change(f) if k < many else f for k, f in enumerate(shared.frames)]
        found = check_shared(room.without_depth(), replace(shared, frames=frames))
        return [finding.text for finding in found.findings if finding.severity == "note"]

    (text,) = of(8)
    assert f"8 of 24 frames that were looked at are {words}" in text and room.names[7] in text
    assert of(2) == []


def test_blur_is_seen_whatever_is_blurred(room: Frames) -> None:
    frame = room[3]
    image = frame.image.permute(1, 2, 0).numpy()
    blurred = torch.from_numpy(cv2.GaussianBlur(image, (0, 0), 3)).permute(2, 0, 1)
    sharp, blurry = (Sampled.of(3, replace(frame, image=image)).detail for image in (frame.image, blurred))
    assert blurry < BLURRED < sharp


def test_parts_of_a_recording_that_share_nothing_are_counted(room: Frames, shared: SharedCorners) -> None:
    together = (shared.first < 10) == (shared.second < 10)
    parts = replace(shared, **{name: getattr(shared, name)[together] for name in ("first", "second", *PIXELS)})
    (note,) = [f.text for f in check_shared(room.without_depth(), parts).findings if "parts" in f.text]
    assert note.endswith("2 parts that share nothing: 14, 10 of them")


@pytest.mark.parametrize(("scale", "said"), [(1.0, False), (1000.0, True), (0.001, True)])
def test_metres_that_are_none_are_doubted(
    scale: float, said: bool, room: Frames, shared: SharedCorners
) -> None:
    assert room.cam_from_world is not None
    poses = Pose(room.cam_from_world.rotation, scale * room.cam_from_world.translation)
    frames = replace(room.without_depth(), cam_from_world=poses)
    assert any("metres away" in f.text for f in check_shared(frames, shared, True).findings) == said
    assert check_shared(frames, shared, False).findings == []


def test_a_check_is_the_same_every_time(room: Frames) -> None:
    once, again = check_scene(room[:8]), check_scene(room[:8])
    assert np.array_equal(once.agreement, again.agreement) and once.findings == again.findings
