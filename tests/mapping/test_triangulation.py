"""Triangulated depth agrees with the exact depth, for any camera, and is silent where nothing can be known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from lenses import through

from dsac.datasets import Frame, FrameReader, Frames
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.mapping import triangulation
from dsac.mapping.keypoints import SiftKeypoints, detect
from dsac.mapping.triangulation import _SparseDepthReader, with_triangulated_depth
from dsac.rooms import synthetic_scene

SIZE = (320, 240)


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Eight neighbouring frames of the synthetic room."""
    return synthetic_scene(num_mapping=80, num_query=1, size=SIZE).mapping[:8]


@pytest.fixture(scope="module")
def found(frames: Frames) -> Frames:
    return with_triangulated_depth(frames, short_side_px=SIZE[1])


def _relative_errors(found: Frame, exact: Frame) -> torch.Tensor:
    assert found.depth is not None and exact.depth is not None
    known = (found.depth > 0) & (exact.depth > 0)
    return (found.depth / exact.depth - 1).abs()[known]


def _assert_agree(found: Frames, exact: Frames) -> None:
    assert found.has_depth and found.names == exact.names
    pairs = [(found[i], exact[i]) for i in range(len(exact))]
    assert all(torch.equal(a.image, b.image) for a, b in pairs)
    errors = torch.cat([_relative_errors(a, b) for a, b in pairs])
    width, height = exact.cameras[0].size
    assert _painted(found) > 0.01 * len(exact) * width * height
    # the patch around a keypoint may reach over an edge, where the depth jumps
    assert errors.median() < 0.01
    assert (errors < 0.05).float().mean() > 0.9


def test_triangulated_depth_agrees_with_the_exact_depth(frames: Frames, found: Frames) -> None:
    _assert_agree(found, frames)


def test_depth_of_distorted_photos_agrees_and_lies_within_them(frames: Frames) -> None:
    # an undistorted view of it reaches beyond the photo on all sides
    camera = Camera.from_params("OPENCV", [330, 325, 165, 112, 0.6, 0.1, 0.002, 0.001], (288, 216))
    exact = through(frames, camera)
    found = with_triangulated_depth(exact, short_side_px=camera.size[1])
    _assert_agree(found, exact)
    # patches are 5 pixels wide; some keypoints happen to have the same depth
    for frame in found:
        assert frame.depth is not None
        _, sizes = frame.depth[frame.depth > 0].unique(return_counts=True)
        assert sizes.max() <= 4 * 25


@pytest.mark.parametrize("pixel", [(-9.0, 50.0), (50.0, -9.0), (-0.5, -0.5), (329.0, 50.0), (50.0, 249.0)])
def test_a_keypoint_beside_the_photo_paints_no_depth(frames: Frames, pixel: tuple[float, float]) -> None:
    camera = frames.cameras[0]
    plane = camera.unproject(torch.tensor([pixel, (50.5, 50.5)], dtype=torch.float64))[:, :2].numpy()
    reader = _SparseDepthReader(frames.reader, {"a": (plane, np.array([3.0, 2.0]))})
    depth = reader.read_depth("a", camera)
    assert not (depth == 3).any()
    assert depth[50, 50] == 2 and (depth > 0).sum() == 25


def test_images_of_two_sizes_help_each_other(frames: Frames) -> None:
    half = frames.cameras[0].rescale((SIZE[0] // 2, SIZE[1] // 2))
    small = through(frames, half)
    mixed = Frames(
        frames.names,
        [frames.cameras[0], half],
        np.arange(len(frames)) % 2,
        frames.cam_from_world,
        _Alternating(frames, small),
    )
    together = with_triangulated_depth(mixed, short_side_px=SIZE[1])
    for i in range(2, len(frames) - 2):
        errors = _relative_errors(together[i], mixed[i])
        assert len(errors) > 0 and errors.median() < 0.02


@dataclass(frozen=True)
class _Alternating:
    """Even frames from one recording, odd ones from another."""

    even: Frames
    odd: Frames
    has_depth: bool = True

    def _of(self, name: str) -> FrameReader:
        return (self.even, self.odd)[self.even.names.index(name) % 2].reader

    def read_image(self, name: str) -> np.ndarray:
        return self._of(name).read_image(name)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        return self._of(name).read_depth(name, camera)


def test_wrong_poses_give_hardly_any_depth(
    frames: Frames, found: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert frames.cam_from_world is not None
    turned = Pose.exp(0.3 * torch.randn(len(frames), 6, generator=torch.Generator().manual_seed(0)).double())
    wrong = replace(frames, cam_from_world=turned @ frames.cam_from_world)
    with pytest.raises(DatasetError, match=r"of 8 images \d share enough points"):
        with_triangulated_depth(wrong, short_side_px=SIZE[1])
    monkeypatch.setattr(triangulation, "FEW", 0)
    monkeypatch.setattr(triangulation, "_ENOUGH_POINTS", 0)
    many = with_triangulated_depth(wrong, short_side_px=SIZE[1])
    assert _painted(many) < 0.2 * _painted(found)


def _painted(frames: Frames) -> int:
    return sum(int((frame.depth > 0).sum()) for frame in frames if frame.depth is not None)


@dataclass(frozen=True)
class _Grey:
    has_depth: bool = False

    def read_image(self, name: str) -> np.ndarray:
        return np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        raise AssertionError("no depth to be asked for")


def test_without_texture_nothing_is_known(frames: Frames) -> None:
    with pytest.raises(DatasetError, match="of 8 images 0 share enough points"):
        with_triangulated_depth(replace(frames, reader=_Grey()), short_side_px=SIZE[1])


def test_a_single_frame_or_one_that_never_moves_tells_no_depth(frames: Frames) -> None:
    with pytest.raises(DatasetError, match="of 1 image 0 share enough points"):
        with_triangulated_depth(frames[:1], short_side_px=SIZE[1])
    with pytest.raises(DatasetError, match="of 2 images 0 share enough points"):
        with_triangulated_depth(frames[[3, 3]], short_side_px=SIZE[1])


def test_depth_comes_in_the_unit_of_the_poses(frames: Frames, found: Frames) -> None:
    poses = frames.cam_from_world
    assert poses is not None
    long = replace(frames, cam_from_world=Pose(poses.rotation, 1000 * poses.translation))
    metres = found[5].depth
    millimetres = with_triangulated_depth(long, short_side_px=SIZE[1])[5].depth
    assert metres is not None and millimetres is not None
    both = (metres > 0) & (millimetres > 0)
    assert both.sum() > 0.9 * (metres > 0).sum() > 0
    ratio = millimetres[both] / metres[both]
    assert (ratio / 1000 - 1).abs().median() < 1e-4


def test_progress_ends_at_one(frames: Frames) -> None:
    reports: list[float] = []
    with_triangulated_depth(frames[:4], short_side_px=SIZE[1], on_progress=reports.append)
    assert reports == sorted(reports) and reports[-1] == 1.0


@dataclass(frozen=True)
class _Blobs:
    """Bright spots on grey, at these pixel coordinates (the first pixel's centre is at 0.5)."""

    centers: np.ndarray
    size: tuple[int, int] = SIZE
    has_depth: bool = False

    def read_image(self, name: str) -> np.ndarray:
        row, column = np.mgrid[: self.size[1], : self.size[0]] + 0.5
        away = (column[..., None] - self.centers[:, 0]) ** 2 + (row[..., None] - self.centers[:, 1]) ** 2
        grey = 80 + 150 * np.exp(-away / (2 * 3.0**2)).sum(-1)
        return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        raise AssertionError("no depth to be asked for")


@pytest.mark.parametrize("short_side_px", [SIZE[1], SIZE[1] // 2])
def test_keypoints_lie_on_the_spots_they_are_found_at(short_side_px: int) -> None:
    """Half a pixel, and OpenCV's quarter, would be lost in what depths are allowed to be off."""
    column, row = np.meshgrid(np.arange(30, SIZE[0] - 20, 30), np.arange(30, SIZE[1] - 20, 30))
    centers = np.stack([column, row], -1).reshape(-1, 2).astype(float)
    centers += np.random.default_rng(0).uniform(0, 1, centers.shape)
    camera = Camera.from_params("PINHOLE", [310, 290, 150.5, 131], SIZE)
    frames = Frames(["a"], [camera], np.zeros(1, int), Pose.identity(1, dtype=torch.float64), _Blobs(centers))
    found = detect(frames, 0, short_side_px, 500)
    pixels = found.plane * camera.focal_px.numpy() + camera.center_px.numpy()
    offsets = pixels - centers[:, None]
    nearest = np.linalg.norm(offsets, axis=-1).argmin(1)
    offsets = offsets[np.arange(len(centers)), nearest]
    assert np.abs(np.median(offsets, axis=0)).max() < 0.06 * SIZE[1] / short_side_px


def test_few_frames_are_searched_for_more_keypoints_in_finer_images(monkeypatch):
    looked = []

    def look(frames: Frames, index: int, short_side_px: int, num_keypoints: int) -> SiftKeypoints:
        looked.append((short_side_px, num_keypoints))
        return SiftKeypoints(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 128), np.float32), 1.0)

    monkeypatch.setattr(triangulation, "detect", look)
    few, small = (Camera.simple(side, (2 * side, side)) for side in (900, 300))
    for count, camera in ((99, few), (100, few), (31, few), (20, few), (10, few), (4, small)):
        poses = Pose.identity(count, dtype=torch.float64)
        frames = Frames([str(i) for i in range(count)], [camera], np.zeros(count, int), poses, _NoImages())
        with pytest.raises(DatasetError, match=f"of {count} images 0 share"):
            triangulation.with_triangulated_depth(frames, short_side_px=240)
    sizes = [(480, 1212), (240, 1200), (480, 3000), (720, 4000), (720, 6000), (300, 8000)]
    assert list(dict.fromkeys(looked)) == sizes


class _NoImages:
    has_depth = False

    def read_image(self, name: str) -> np.ndarray:
        raise AssertionError("not looked at here")

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        raise AssertionError("not looked at here")
