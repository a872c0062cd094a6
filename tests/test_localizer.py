"""The localizer: the same answer for the same view, whatever the camera, size or batch it comes in.

The map here is exact (see `ball_world`), so what is tested is everything around it.
"""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from answers import asked
from ball_world import POSE, ColorEncoder, FramesInMemory, ball_frames, exact_map, photograph

import dsac.networks.encoder
import dsac.regressor
from dsac.datasets import Frames, read_image
from dsac.errors import DatasetError, MapFormatError
from dsac.geometry import Camera, Pose
from dsac.localization import Alternative, Localization
from dsac.localizer import Localizer
from dsac.networks.encoder import load_encoder
from dsac.networks.heads import SceneCoordinates, SceneHead

WORKING_PX = 192
# a cell's mean colour is its centre's point to a millimetre; hundreds of cells average that out
ROTATION_DEG, TRANSLATION_M = 0.02, 0.002

OPENCV = Camera.from_params("OPENCV", [280, 290, 140, 90, -0.2, 0.05, 0.003, -0.002], (256, 192))


@pytest.fixture
def localizer(monkeypatch: pytest.MonkeyPatch) -> Localizer:
    torch.set_num_threads(1)
    # half precision would round the exact points by some millimetres on the processors that have it
    for module in (dsac.regressor, dsac.networks.encoder):
        monkeypatch.setattr(module, "fast_dtype", lambda device: torch.float32)
    return Localizer(exact_map(WORKING_PX), encoder=ColorEncoder())


def _assert_at(answer: Localization, truth: Pose, slack: float = 1.0) -> None:
    assert answer.success.all()
    pose = answer.cam_from_world
    assert pose.rotation_error_deg(truth).max() < slack * ROTATION_DEG
    assert pose.center_distance(truth).max() < slack * TRANSLATION_M


CAMERAS = {
    "working size": Camera.simple(280, (256, 192)),
    "larger": Camera.simple(1120, (1024, 768)),
    "smaller": Camera.simple(140, (128, 96)),
    "portrait": Camera.simple(560, (384, 512)),
    "odd": Camera.simple(400, (401, 277)),
    "panorama": Camera.simple(420, (1000, 250)),
    "off centre": Camera.from_params("PINHOLE", [300, 270, 90, 130], (256, 192)),
    "radial": Camera.from_params("SIMPLE_RADIAL", [560, 250, 200, -0.15], (512, 384)),
    "opencv": OPENCV,
    "fisheye": Camera.from_params("OPENCV_FISHEYE", [180, 185, 150, 90, 0.03, -0.01, 0, 0], (300, 200)),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_any_camera_and_image_size_gives_the_same_pose(localizer: Localizer, name: str) -> None:
    photo = photograph(CAMERAS[name])
    _assert_at(localizer.localize(photo.image, photo.camera), POSE)


@pytest.mark.parametrize(
    ("focal_px", "size"),
    [(280, (256, 192)), (330, (256, 192)), (560, (128, 96)), (180, (360, 272)), (5600, (88, 64))],
)
def test_photos_of_another_lens_are_looked_at_as_large_as_in_the_mapping_frames(
    localizer: Localizer, focal_px: float, size: tuple[int, int]
) -> None:
    focal = CAMERAS["larger"].relative_focal
    info = replace(localizer.scene_map.info, focal_range=(0.9 * focal, focal))
    scene_map = replace(localizer.scene_map, info=info)
    photo = photograph(Camera.simple(focal_px, (256, 192)))
    frames = Frames(
        [photo.name],
        [photo.camera],
        np.zeros(1, int),
        None,
        FramesInMemory({photo.name: photo}, has_depth=False),
    )
    answer = next(Localizer(scene_map, encoder=ColorEncoder()).localize_frames(frames))
    assert answer.camera.size == size
    if focal_px < 1000:  # beyond, the photo shows next to nothing
        _assert_at(answer, POSE, slack=5)


def test_a_distorted_photo_agrees_with_its_undistorted_twin(localizer: Localizer) -> None:
    twins = photograph(OPENCV), photograph(OPENCV.pinhole)
    distorted, ideal = (localizer.localize(p.image, p.camera).cam_from_world for p in twins)
    assert distorted.rotation_error_deg(ideal).item() < ROTATION_DEG
    assert distorted.center_distance(ideal).item() < TRANSLATION_M
    # and the distortion is more than what is tolerated here
    wrong = localizer.localize(twins[0].image, OPENCV.pinhole).cam_from_world
    assert wrong.center_distance(ideal).item() > 5 * TRANSLATION_M


def test_pixels_that_a_camera_cannot_have_are_left_out(localizer: Localizer) -> None:
    # the corners lie beyond where x (1 - 0.3 x²) turns back
    camera = Camera.from_params("SIMPLE_RADIAL", [200, 128, 96, -0.3], (256, 192))
    seen = torch.isfinite(camera.unproject(torch.tensor([[0.5, 0.5], [128.0, 96.0]]).double())).all(-1)
    assert seen.tolist() == [False, True]
    photo = photograph(camera)
    # cells at the edge of what the camera can see are half black
    _assert_at(localizer.localize(photo.image.nan_to_num(), camera), POSE, slack=5)


def test_a_batch_is_a_loop(localizer: Localizer) -> None:
    camera = CAMERAS["working size"]
    steps = 0.2 * torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    poses = Pose.exp(steps) @ POSE.expand(3)
    images = torch.stack([photograph(camera, poses[i]).image for i in range(3)])
    together = localizer.localize(images, camera)
    assert together.success.shape == (3,)
    _assert_at(together, poses)
    for i in range(3):
        alone = localizer.localize(images[i], camera)
        assert alone.success.shape == ()
        for answer in (together[i], together[i - 3]):
            assert alone.cam_from_world.center_distance(answer.cam_from_world).item() < 1e-3
            assert answer.inliers.shape == alone.inliers.shape and len(answer.correspondences) == 1
    with pytest.raises(IndexError):
        together[3]
    with pytest.raises(TypeError, match="one photo"):
        together[0][0]


def test_the_same_photo_has_the_same_answer_in_every_form(localizer: Localizer) -> None:
    photo = photograph(CAMERAS["larger"])
    decoded = (photo.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    as_tensor = torch.from_numpy(decoded).permute(2, 0, 1).float() / 255
    first = localizer.localize(decoded, photo.camera)
    one = localizer.localize(as_tensor[None], photo.camera)
    assert one.success.shape == (1,)
    answers = [
        localizer.localize(image, photo.camera)
        for image in (decoded, np.asfortranarray(decoded), as_tensor, as_tensor.contiguous())
    ]
    for again in (*answers, one[0]):
        assert torch.equal(again.cam_from_world.matrix, first.cam_from_world.matrix)
        assert torch.equal(again.covariance, first.covariance)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_image_of_one_colour_is_not_localized(localizer: Localizer, value: float) -> None:
    estimate = localizer.localize(torch.full((3, 192, 256), value), CAMERAS["working size"])
    assert not estimate.success.item()
    assert estimate.confidence.item() < 0.1


def test_noise_is_not_localized(localizer: Localizer) -> None:
    noise = torch.nn.functional.interpolate(
        torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0)), (192, 256)
    )
    estimate = localizer.localize(noise, CAMERAS["working size"])
    assert not estimate.success.item()
    assert estimate.confidence.item() < 0.1


@pytest.mark.parametrize("size", [(192, 256), (256, 191)])
def test_the_camera_of_another_size_is_refused(localizer: Localizer, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"camera: expected 256×192 like the image, got {size[0]}×{size[1]}"):
        localizer.localize(torch.zeros(3, 192, 256), Camera.simple(280, size))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((192, 256, 2), np.uint8),
        np.zeros((3, 192, 256), np.uint8),
        np.zeros((192, 256, 3), np.uint16),
        np.full((192, 256, 3), 255.0),
        torch.zeros(192, 256),
        torch.zeros(2, 192, 256),
        torch.zeros(192, 256, 3),
        torch.full((3, 192, 256), 255.0),
        torch.full((3, 192, 256), torch.nan),
        torch.zeros(3, 192, 256, dtype=torch.int64),
    ],
    ids=lambda image: f"{image.dtype} {tuple(image.shape)}",
)
@pytest.mark.parametrize("with_camera", [True, False])
@pytest.mark.wrong_input
def test_an_image_of_another_kind_is_refused(
    localizer: Localizer, image: np.ndarray | torch.Tensor, with_camera: bool
) -> None:
    camera = CAMERAS["working size"] if with_camera else None
    with pytest.raises(ValueError, match="(image|photo): expected .*, got "):
        localizer.localize(image, camera)


def _forms(path: Path) -> dict[str, object]:
    """The photo of a PNG file in every form that people have it in, opened where it has to be."""
    rgb = read_image(path)
    return {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "file": path.open("rb"),
        "BytesIO": io.BytesIO(path.read_bytes()),
        "PIL": PIL.Image.open(path),
        "PIL, transparent": PIL.Image.open(path).convert("RGBA"),
        "array": rgb,
        "array, transparent": np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]),
        "array of floats": rgb / 255,
        "tensor": torch.from_numpy(rgb).permute(2, 0, 1).float() / 255,
        "tensor of bytes": torch.from_numpy(rgb).permute(2, 0, 1),
    }


def test_a_photo_has_one_answer_in_whatever_form_it_and_its_camera_come(
    localizer: Localizer, tmp_path: Path
) -> None:
    photo = photograph(CAMERAS["off centre"])
    rgb = (photo.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    path = tmp_path / "Foto 1 ü.png"
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())
    fx, fy, cx, cy = photo.camera.params.tolist()
    K = [[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]]
    expected = localizer.localize(path, photo.camera)
    _assert_at(expected, POSE, slack=3)
    assert expected.name == str(path)
    for camera in (photo.camera, np.array(K), torch.tensor(K), K):
        for form, image in _forms(path).items():
            answer = localizer.localize(image, camera)
            assert torch.allclose(answer.cam_from_world.matrix, expected.cam_from_world.matrix, atol=1e-7), form
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    for image in (bgr, torch.from_numpy(bgr).permute(2, 0, 1)):
        answer = localizer.localize(image, photo.camera, bgr=True)
        assert torch.equal(answer.cam_from_world.matrix, expected.cam_from_world.matrix)
    batch = localizer.localize(torch.from_numpy(rgb).permute(2, 0, 1)[None], K)
    assert batch.success.shape == (1,)


def test_without_a_camera_that_of_the_mapping_images_serves(localizer: Localizer, tmp_path: Path) -> None:
    camera = CAMERAS["larger"]
    scene_map = replace(localizer.scene_map, info=replace(localizer.scene_map.info, camera=camera.to_text()))
    known = Localizer(scene_map, encoder=ColorEncoder())
    photo = photograph(CAMERAS["working size"])
    rgb = (photo.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    for image in _forms(tmp_path / "a.png").values():
        _assert_at(known.localize(image), POSE, slack=3)
    answer = localizer.localize(rgb)  # whose focal length nobody knows
    assert answer.success and answer.focal_sigma_px > 0
    assert abs(answer.focal_px / photo.camera.focal_px[0].item() - 1) < 0.05


@pytest.mark.wrong_input
def test_a_camera_of_another_kind_is_refused(localizer: Localizer) -> None:
    rgb = np.zeros((192, 256, 3), np.uint8)
    for image in (rgb, torch.zeros(3, 192, 256)):
        for camera in (525.0, np.eye(4), "camera.txt"):
            with pytest.raises(ValueError, match="camera: expected (a dsac.Camera or K|one for each)"):
                localizer.localize(image, camera)
        with pytest.raises(ValueError, match=r"K: expected \[\[fx, 0, cx\]"):
            localizer.localize(image, [[9, 1, 8], [0, 9, 6], [0, 0, 1]])
    with pytest.raises(ValueError, match="camera: expected a dsac.Camera or K"):
        localizer.localize(torch.zeros(2, 3, 192, 256))
    with pytest.raises(DatasetError, match="photo: the image is 256x192, but its intrinsics are for 192x192"):
        localizer.localize(rgb, Camera.simple(280, (192, 192)))
    with pytest.raises(ValueError, match="image: expected one, got 2"):
        localizer.localize([rgb, rgb], CAMERAS["working size"])


def test_frames_are_localized_one_by_one_with_what_the_answer_rests_on(localizer: Localizer) -> None:
    frames = ball_frames(4)
    assert frames.cam_from_world is not None
    answers = list(localizer.localize_frames(frames))
    assert [answer.name for answer in answers] == frames.names
    for i, answer in enumerate(answers):
        _assert_at(answer, frames.cam_from_world[i], slack=3)  # small, with 8 bits a colour
        assert min(answer.camera.size) == WORKING_PX and answer.camera.distortion is None
        # the inliers reproject where the correspondences say
        inliers = answer.inliers
        points_cam = answer.cam_from_world.to(torch.float32) @ answer.correspondences.scene_points[0, inliers]
        pixels = answer.camera.to(torch.float32).project(points_cam)
        assert (pixels - answer.correspondences.pixels[0, inliers]).norm(dim=-1).max() < 10.1
        stages = [
            answer.timing.decode_ms,
            answer.timing.encode_ms,
            answer.timing.head_ms,
            answer.timing.solve_ms,
            answer.timing.align_ms,
        ]
        assert min(stages) > 0 and answer.timing.total_ms == pytest.approx(sum(stages))
        single = localizer.localize(frames[i].image, frames[i].camera)
        assert torch.equal(single.cam_from_world.matrix, answer.cam_from_world.matrix)


def test_a_map_file_is_all_that_a_localizer_needs(tmp_path: Path) -> None:
    encoder = load_encoder()
    scene_map = exact_map(WORKING_PX)
    with pytest.raises(MapFormatError, match="made with encoder colors"):
        Localizer(scene_map, encoder=encoder)
    with pytest.raises(MapFormatError, match="does not ship"):
        Localizer(scene_map)
    scene_map.save(tmp_path / "ball.dsac")
    with pytest.raises(MapFormatError, match="does not ship"):
        Localizer.load(tmp_path / "ball.dsac")
    with pytest.raises(MapFormatError, match="found nothing"):
        Localizer.load(tmp_path / "none.dsac")


def test_a_batch_of_cameras_is_refused(localizer: Localizer) -> None:
    photo = photograph(CAMERAS["working size"])
    camera = photo.camera
    several = replace(camera, focal_px=camera.focal_px[None], center_px=camera.center_px[None])
    with pytest.raises(ValueError, match="camera: expected one, got a batch of shape"):
        localizer.localize(photo.image, several)


class _HalfSure(SceneHead):
    """Another head, that shifts three fifths of the ball by half a metre and says so."""

    def __init__(self, head: SceneHead) -> None:
        super().__init__(head.architecture)
        self.load_state_dict(head.state_dict())

    def forward(self, features: torch.Tensor) -> SceneCoordinates:
        known = super().forward(features)
        along = known.points[..., 0]
        wrong = along < along.quantile(0.6)
        shift = torch.tensor([0.0, 0.5, 0.0])
        return SceneCoordinates(known.points + shift * wrong[..., None], torch.where(wrong, 1.0, 0.01))


def test_cells_that_the_head_is_sure_of_decide(localizer: Localizer) -> None:
    """Most cells agree on a pose half a metre off; those near the border pull a little."""
    head = localizer.scene_map.head
    assert isinstance(head, SceneHead)
    unsure = replace(localizer.scene_map, head=_HalfSure(head))
    photo = photograph(CAMERAS["larger"])
    answer = asked(Localizer(unsure, encoder=ColorEncoder()), photo.image, photo.camera)
    assert answer.success.item()
    assert answer.cam_from_world.center_distance(POSE).item() < 0.05


# ---- the answer --------------------------------------------------------------------------------------


def test_the_answer_says_where_the_camera_stands_and_how_surely(localizer: Localizer) -> None:
    photo = photograph(CAMERAS["working size"])
    answer = localizer.localize(photo.image, photo.camera)
    assert answer.pose is answer.cam_from_world
    assert torch.allclose(answer.world_from_cam.translation, POSE.center, atol=TRANSLATION_M)
    variance = answer.center_covariance.diagonal().sum()
    assert answer.position_sigma_m.item() == pytest.approx(variance.sqrt().item(), rel=1e-6)
    # the centre's covariance, by moving the pose: an increment (w, v) in the camera's frame
    draws = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = torch.linalg.cholesky(answer.covariance.double())
    moved = Pose.exp(draws @ spread.mT) @ answer.cam_from_world.expand(len(draws))
    around = torch.cov((moved.center - answer.cam_from_world.center).T)
    assert torch.allclose(around, answer.center_covariance, rtol=0.1, atol=0.03 * variance.item())
    angles = moved.rotation_error_deg(answer.cam_from_world)
    assert answer.rotation_sigma_deg.item() == pytest.approx(angles.square().mean().sqrt().item(), rel=0.05)


def test_the_answer_prints_in_three_lines(localizer: Localizer) -> None:
    photo = photograph(CAMERAS["working size"])
    answer = localizer.localize(photo.image, photo.camera)
    lines = repr(answer).splitlines()
    assert len(lines) == 3 and "confidence" in lines[0] and "±" in lines[1] and "agree" in lines[2]
    lost = localizer.localize(torch.zeros(3, 192, 256), photo.camera)
    assert "not localized" in repr(lost) and "center" not in repr(lost)
    assert "2 photos" in repr(localizer.localize(photo.image.expand(2, 3, -1, -1), photo.camera))


def test_other_places_of_a_photo_are_named(localizer: Localizer) -> None:
    photo = photograph(CAMERAS["working size"])
    answer = localizer.localize(photo.image, photo.camera)
    assert answer.alternatives == () and answer.to_dict()["alternatives"] == []
    other = Alternative(Pose.identity(dtype=torch.float64), answer.covariance, 0.3)
    unsure = replace(answer, alternatives=(other,))
    assert [place.probability for place in unsure.places] == pytest.approx([0.7, 0.3])
    assert "one of 2 poses, probabilities 0.70, 0.30" in repr(unsure)
    (named,) = unsure.to_dict()["alternatives"]
    assert named["probability"] == 0.3 and named["center"] == [0, 0, 0]
    lost = replace(unsure, success=torch.tensor(False))
    said = json.loads(json.dumps(lost.to_dict(), allow_nan=False))
    assert said["center"] is None and [place["probability"] for place in said["alternatives"]] == [0.7, 0.3]
    both = localizer.localize(photo.image.expand(2, 3, -1, -1), photo.camera)
    assert both.alternatives == ((), ()) and both[1].alternatives == ()
    with pytest.raises(TypeError, match="a batch of photos"):
        _ = both.places


def test_the_answer_in_plain_types_is_json(localizer: Localizer) -> None:
    photo = photograph(CAMERAS["working size"])
    answer = localizer.localize(photo.image, photo.camera)
    values = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert values["success"] is True and values["metric"] is None
    assert values["center"] == pytest.approx(answer.world_from_cam.translation.tolist())
    assert values["position_sigma"] == pytest.approx(answer.position_sigma_m.item())
    assert values["rotation_sigma_deg"] == pytest.approx(answer.rotation_sigma_deg.item())
    endless = replace(answer, covariance=torch.full_like(answer.covariance, torch.inf))
    lost = localizer.localize(torch.zeros(3, 192, 256), photo.camera)
    for unknown, names in (
        (endless, {"position_sigma", "rotation_sigma_deg", "covariance", "metric", "geo"}),
        (
            lost,
            {"cam_from_world", "center", "position_sigma", "rotation_sigma_deg", "covariance", "metric", "geo"},
        ),
    ):
        said = json.loads(json.dumps(unknown.to_dict(), allow_nan=False))
        assert {name for name, value in said.items() if value is None} == names
    with pytest.raises(TypeError, match="a batch of photos"):
        localizer.localize(photo.image.expand(2, 3, -1, -1), photo.camera).to_dict()


def test_one_can_train_on_what_an_answer_rests_on(localizer: Localizer) -> None:
    photo = photograph(CAMERAS["working size"])
    answer = localizer.localize(photo.image, photo.camera)
    points = answer.correspondences.scene_points
    shift = torch.zeros(3, requires_grad=True)
    ((points + shift) * points).sum().backward()
    assert shift.grad is not None and torch.isfinite(shift.grad).all()
    points.mul_(1.0)  # and change it
    assert answer.correspondences.weights is not None
    answer.correspondences.weights.mul_(1.0)


def test_localizers_of_one_map_do_not_disturb_each_other(localizer: Localizer) -> None:
    scene_map = localizer.scene_map
    other = Localizer(scene_map, encoder=ColorEncoder(), device="meta")
    assert localizer.regressor.device.type == scene_map.head.scene_center.device.type == "cpu"
    assert other.regressor.device.type == "meta"


def test_a_localizer_survives_pickling(localizer: Localizer) -> None:
    photo = photograph(CAMERAS["working size"])
    before = localizer.localize(photo.image, photo.camera)
    after = pickle.loads(pickle.dumps(localizer)).localize(photo.image, photo.camera)
    assert torch.equal(before.cam_from_world.matrix, after.cam_from_world.matrix)


def test_an_encoder_that_does_not_ship_is_passed_to_the_map_file(localizer: Localizer, tmp_path: Path) -> None:
    localizer.scene_map.save(tmp_path / "ball.dsac")
    photo = photograph(CAMERAS["working size"])
    _assert_at(
        Localizer.load(tmp_path / "ball.dsac", encoder=ColorEncoder()).localize(photo.image, photo.camera), POSE
    )
    with pytest.raises(ValueError, match="encoder: expected none beside a regressor"):
        Localizer(localizer.scene_map, encoder=ColorEncoder(), regressor=localizer.regressor)


def test_a_map_far_from_the_origin_of_its_world_is_as_exact(localizer: Localizer) -> None:
    """UTM coordinates: float32 has half a metre there."""
    place = (450_000.25, 5_400_000.5, 312.75)
    scene_map = replace(localizer.scene_map, info=replace(localizer.scene_map.info, origin=place))
    photo = photograph(CAMERAS["working size"])
    answer = Localizer(scene_map, encoder=ColorEncoder()).localize(photo.image, photo.camera)
    there = Pose(POSE.rotation, POSE.translation - POSE.rotation @ torch.tensor(place, dtype=torch.float64))
    assert answer.cam_from_world.translation.dtype == torch.float64
    _assert_at(answer, there)
