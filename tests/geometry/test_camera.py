from __future__ import annotations

import math
import pickle

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.geometry import Camera
from dsac.geometry.camera_models import MODELS

SIZE = (640, 480)
BATCHES = [(), (1,), (2, 3)]

PARAMS = {
    "SIMPLE_PINHOLE": [520.0, 310.0, 250.0],
    "PINHOLE": [520.0, 500.0, 310.0, 250.0],
    "SIMPLE_RADIAL": [520.0, 310.0, 250.0, -0.1],
    "RADIAL": [520.0, 310.0, 250.0, -0.2, 0.05],
    "OPENCV": [520.0, 500.0, 310.0, 250.0, -0.2, 0.05, 0.002, -0.001],
    "FULL_OPENCV": [520.0, 500.0, 310.0, 250.0, -0.2, 0.05, 0.002, -0.001, 0.01, 0.03, -0.02, 0.004],
    "SIMPLE_RADIAL_FISHEYE": [300.0, 310.0, 250.0, -0.03],
    "RADIAL_FISHEYE": [300.0, 310.0, 250.0, -0.03, 0.01],
    "OPENCV_FISHEYE": [300.0, 290.0, 310.0, 250.0, -0.03, 0.01, -0.002, 0.0003],
    "BROWN_CONRADY": [520.0, 500.0, 310.0, 250.0, -0.2, 0.05, 0.002, -0.001, 0.01, -0.004],
    "SIMPLE_FISHEYE": [300.0, 310.0, 250.0],
    "FISHEYE": [300.0, 290.0, 310.0, 250.0],
    "THIN_PRISM_FISHEYE": [
        300.0,
        290.0,
        310.0,
        250.0,
        -0.03,
        0.01,
        0.002,
        -0.001,
        -0.002,
        0.0003,
        0.003,
        -0.002,
    ],
    "RAD_TAN_THIN_PRISM_FISHEYE": [300.0, 290.0, 310.0, 250.0, -0.03, 0.01, -0.002, 0.001, 0.0002, -0.0001]
    + [0.002, -0.001, 0.003, 0.0004, -0.002, 0.0003],
    "FOV": [300.0, 290.0, 310.0, 250.0, 0.9],
    "SIMPLE_DIVISION": [520.0, 310.0, 250.0, -0.15],
    "DIVISION": [520.0, 500.0, 310.0, 250.0, 0.1],
    "EUCM": [300.0, 290.0, 310.0, 250.0, 0.6, 1.1],
}
assert set(PARAMS) == set(MODELS)


models = pytest.mark.parametrize("model", list(MODELS))


def camera_of(model: str) -> Camera:
    return Camera.from_params(model, PARAMS[model], SIZE)


def batch_of(camera: Camera, *batch: int) -> Camera:
    """Cameras that differ in focal length and centre."""
    change = torch.linspace(1, 1.1, int(np.prod(batch)), dtype=torch.float64).reshape(*batch, 1)
    distortion = None if camera.distortion is None else camera.distortion.expand(*batch, -1) * change
    return Camera(camera.focal_px * change, camera.center_px * change, camera.size, camera.model, distortion)


def random_pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * torch.tensor(SIZE)


def random_points(*shape: int, seed: int = 0) -> torch.Tensor:
    """In front of the camera, within its image."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(*shape, 3, generator=generator, dtype=torch.float64) - 0.5
    depth = points[..., 2:] * 8 + 5
    return torch.cat([points[..., :2] * depth, depth], dim=-1)


def random_camera(model: str, seed: int) -> Camera:
    """Distortion as strong as it can be and still be monotonic in the whole image."""
    generator = np.random.default_rng(seed)
    focal = generator.uniform(500, 900, 1 if MODELS[model].one_focal else 2)
    distortion = {
        "SIMPLE_RADIAL": generator.uniform(-0.08, 0.2, 1),
        "RADIAL": generator.uniform(-0.08, 0.2, 2) * [1, 0.3],
        "OPENCV": generator.uniform(-0.08, 0.2, 4) * [1, 0.3, 0.02, 0.02],
        "FULL_OPENCV": generator.uniform(-0.08, 0.2, 8) * [1, 0.3, 0.02, 0.02, 0.1, 0.3, 0.1, 0.05],
        "SIMPLE_RADIAL_FISHEYE": generator.uniform(-0.05, 0.05, 1),
        "RADIAL_FISHEYE": generator.uniform(-0.05, 0.05, 2) * [1, 0.3],
        "OPENCV_FISHEYE": generator.uniform(-0.05, 0.05, 4) * [1, 0.3, 0.1, 0.05],
        "BROWN_CONRADY": generator.uniform(-0.08, 0.2, 6) * [1, 0.3, 0.02, 0.02, 0.1, 0.05],
        "THIN_PRISM_FISHEYE": generator.uniform(-0.05, 0.05, 8) * [1, 0.3, 0.1, 0.1, 0.1, 0.05, 0.1, 0.1],
        "RAD_TAN_THIN_PRISM_FISHEYE": generator.uniform(-0.05, 0.05, 12)
        * [1, 0.3, 0.1, 0.05, 0.05, 0.05, 0.1, 0.1, 0.1, 0.02, 0.1, 0.02],
        "FOV": generator.uniform(0.01, 1.2, 1),
        "SIMPLE_DIVISION": generator.uniform(-0.2, 0.1, 1),
        "DIVISION": generator.uniform(-0.2, 0.1, 1),
        "EUCM": generator.uniform([0.0, 0.5], [0.8, 1.5]),
    }.get(model, [])
    params = [*focal, *generator.uniform(200, 400, 2), *distortion]
    return Camera.from_params(model, [float(x) for x in params], SIZE)


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from([m.name for m in MODELS.values() if m.colmap_id is not None]),
    seed=st.integers(0, 100_000),
)
def test_projection_agrees_with_colmap(model, seed):
    camera = random_camera(model, seed)
    pycolmap = pytest.importorskip("pycolmap")
    theirs = pycolmap.Camera(
        model=camera.model, width=SIZE[0], height=SIZE[1], params=camera.params.numpy(), camera_id=1
    )
    points = random_points(30, seed=seed)
    np.testing.assert_allclose(camera.project(points).numpy(), theirs.img_from_cam(points.numpy()), atol=1e-6)
    pixels = camera.project(points)
    np.testing.assert_allclose(camera.unproject(pixels)[:, :2], theirs.cam_from_img(pixels.numpy()), atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(model=st.sampled_from(list(MODELS)), seed=st.integers(0, 100_000))
def test_projection_undoes_unprojection(model, seed):
    camera = random_camera(model, seed)
    pixels = random_pixels(50, seed=seed)
    points = camera.unproject(pixels)
    assert (points[:, 2] == 1).all()
    torch.testing.assert_close(camera.project(points), pixels, atol=1e-8, rtol=0)
    torch.testing.assert_close(camera.project(points * 7.5), pixels, atol=1e-8, rtol=0)


@models
def test_unprojection_undoes_projection(model):
    camera, points = camera_of(model), random_points(50)
    torch.testing.assert_close(
        camera.unproject(camera.project(points)), points / points[:, 2:], atol=1e-10, rtol=0
    )


@models
def test_axis_meets_the_principal_point(model):
    camera = camera_of(model)
    on_axis = torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(camera.project(on_axis)[0], camera.center_px)
    torch.testing.assert_close(camera.unproject(camera.center_px[None])[0], on_axis[0] / 2)


@models
def test_ideal_camera_sees_the_same_rays_at_undistorted_pixels(model):
    camera, pixels = camera_of(model), random_pixels(40)
    ideal = camera.pinhole
    assert ideal.model == "PINHOLE" and ideal.distortion is None
    torch.testing.assert_close(ideal.unproject(camera.undistort(pixels)), camera.unproject(pixels))


@models
def test_rescaled_camera_sees_the_scaled_image(model):
    camera, points = camera_of(model), random_points(40)
    pixels = camera.project(points)
    for size in ((320, 240), (1280, 960), (640, 480), (300, 480), (427, 320)):
        rescaled = camera.rescale(size)
        factor = torch.tensor([size[0] / 640, size[1] / 480], dtype=torch.float64)
        assert rescaled.size == size
        torch.testing.assert_close(rescaled.project(points), pixels * factor)
        torch.testing.assert_close(rescaled.unproject(pixels * factor), camera.unproject(pixels))
        same = Camera.from_params(rescaled.model, rescaled.params, size)  # its parameter list says all of it
        torch.testing.assert_close(same.project(points), pixels * factor)


@models
def test_cropped_camera_sees_the_window(model):
    camera, points = camera_of(model), random_points(40)
    cropped = camera.crop(100, 60, (200, 300))
    assert cropped.size == (200, 300) and cropped.model == camera.model
    corner = torch.tensor([100.0, 60.0], dtype=torch.float64)
    torch.testing.assert_close(cropped.project(points), camera.project(points) - corner)


@models
def test_turned_camera_sees_the_turned_image(model):
    """A quarter clockwise: what was right of the centre is below it, what was below is left."""
    camera, points = camera_of(model), random_points(40)
    turned = camera.turn()
    assert turned.size == (480, 640)
    x, y = camera.project(points).unbind(-1)
    x_cam, y_cam, z_cam = points.unbind(-1)
    torch.testing.assert_close(
        turned.project(torch.stack([-y_cam, x_cam, z_cam], -1)), torch.stack([480 - y, x], -1)
    )
    torch.testing.assert_close(turned.turn().turn().turn().params, camera.params)


def test_every_model_of_colmap_is_known_but_the_panorama():
    pycolmap = pytest.importorskip("pycolmap")
    theirs = {int(id.value): name for name, id in pycolmap.CameraModelId.__members__.items()}
    ours = {model.colmap_id: model.name for model in MODELS.values() if model.colmap_id is not None}
    assert {-1: "INVALID", **ours} | {17: "EQUIRECTANGULAR"} == theirs


def test_a_lens_that_bends_by_no_coefficient_is_no_pinhole():
    assert [model for model in MODELS if camera_of(model).is_pinhole] == ["SIMPLE_PINHOLE", "PINHOLE"]
    pixels = random_pixels(5)
    assert (camera_of("FISHEYE").undistort(pixels) - pixels).abs().max() > 1


@models
def test_parameter_list_is_kept(model):
    assert camera_of(model).params.tolist() == PARAMS[model]
    assert camera_of(model).to(torch.float32).params.dtype == torch.float32


@models
@pytest.mark.parametrize("batch", BATCHES)
def test_batches_of_cameras_treat_each_image_alone(model, batch):
    cameras = batch_of(camera_of(model), *batch)
    points = random_points(*batch, 7)
    pixels = cameras.project(points)
    assert pixels.shape == (*batch, 7, 2) and cameras.params.shape[:-1] == batch
    torch.testing.assert_close(cameras.unproject(pixels) * points[..., 2:], points)
    for index in np.ndindex(*batch):
        single = cameras[index]
        assert single.focal_px.shape == (2,)
        torch.testing.assert_close(single.project(points[index]), pixels[index])
        torch.testing.assert_close(cameras.rescale((320, 240))[index].project(points[index]), pixels[index] / 2)


@models
def test_a_batch_of_cameras_broadcasts_over_shared_points(model):
    cameras, points = batch_of(camera_of(model), 2, 1), random_points(3, 7)
    pixels = cameras.project(points)
    assert pixels.shape == (2, 3, 7, 2)
    torch.testing.assert_close(pixels[1, 2], cameras[1, 0].project(points[2]))
    assert cameras.unproject(random_pixels(7)).shape == (2, 1, 7, 3)


@models
def test_derivatives_of_the_projection_are_right(model):
    camera = camera_of(model)
    points = torch.cat([random_points(6), torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])
    assert torch.autograd.gradcheck(camera.project, points.requires_grad_(), atol=1e-4, rtol=1e-4)
    focal, center = (value.clone().requires_grad_() for value in (camera.focal_px, camera.center_px))

    def with_intrinsics(focal, center):
        return Camera(focal, center, SIZE, camera.model, camera.distortion).project(points.detach())

    assert torch.autograd.gradcheck(with_intrinsics, (focal, center), atol=1e-6)


@models
def test_derivatives_of_the_unprojection_are_right(model):
    pixels = random_pixels(6).requires_grad_()
    assert torch.autograd.gradcheck(camera_of(model).unproject, pixels, eps=1e-4, atol=1e-8)


def test_pixels_beyond_the_domain_of_the_distortion_are_nan():
    folding = Camera.from_params("SIMPLE_RADIAL", [500, 320, 240, -0.5], SIZE)  # turns back at r = 0.82
    fisheye = camera_of("OPENCV_FISHEYE")
    far = torch.tensor([[5000.0, 240.0]], dtype=torch.float64)
    assert folding.unproject(far)[0, :2].isnan().all()
    assert fisheye.unproject(far)[0, :2].isnan().all()


@models
def test_points_beyond_the_domain_of_the_distortion_have_finite_pixels(model):
    """Resampling would meet them, and wait for what is not finite."""
    angles = torch.linspace(0, 89.9, 50, dtype=torch.float64).deg2rad()
    points = torch.stack([angles.sin() * 0.8, angles.sin() * 0.6, angles.cos()], -1).requires_grad_()
    pixels = camera_of(model).project(points)
    assert torch.isfinite(pixels).all()
    assert torch.isfinite(torch.autograd.grad(pixels.sum(), points)[0]).all()


def test_single_precision_is_good_to_a_hundredth_of_a_pixel():
    for model in MODELS:
        camera, points = camera_of(model), random_points(100)
        pixels = camera.project(points)
        single = camera.to(torch.float32)
        assert (single.project(points.float()).double() - pixels).abs().max() < 1e-2
        back = camera.project(single.unproject(pixels.float()).double())
        assert (back - pixels).abs().max() < 1e-2


@models
def test_a_camera_survives_its_text(model):
    camera = camera_of(model)
    again = Camera.from_text(camera.to_text())
    assert (again.model, again.size) == (model, camera.size)
    assert torch.equal(again.params, camera.params)


def test_text_keeps_every_digit_of_a_calibration():
    params = [math.pi * 165, 1e3 / 3, 2**0.5 * 170, -1 / 7, 1e-7 / 3]
    for dtype in (torch.float64, torch.float32):
        camera = Camera.from_params("RADIAL", params, (100_000, 480)).to(dtype)
        again = Camera.from_text(camera.to_text())
        assert again.size == (100_000, 480)
        assert torch.equal(again.params.to(dtype), camera.params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SIMPLE_PINHOLE,40", "no width and height"),
        ("PINHOLE,inf,480,500,500,320,240", "expected a width and height in pixels, got inf"),
        ("PINHOLE,640,nan,500,500,320,240", "expected a width and height in pixels"),
        ("PINHOLE,640.5,480,500,500,320,240", "expected a width and height in pixels"),
        ("PINHOLE,1e300,480,500,500,320,240", "expected a width and height in pixels"),
        ("PINHOLE,640,480,500,500,320,inf", "finite values"),
        ("PINHOLE,640,480,500,500,320,1e999", "finite values"),
        ("PINHOLE,640,480,500,500,320,middle", "middle"),
        ("", "no width and height"),
    ],
)
def test_text_that_is_no_camera_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Camera.from_text(text)


def test_simple_camera_looks_through_the_middle():
    camera = Camera.simple(500, SIZE)
    assert camera.params.tolist() == [500, 320, 240] and camera.model == "SIMPLE_PINHOLE"


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ("FISHY", [1, 2, 3], "camera model: expected one of SIMPLE_PINHOLE, .* got FISHY"),
        ("SIMPLE_PINHOLE", [10**400, 2, 3], "finite values"),
        ("SIMPLE_PINHOLE", [math.inf, 2, 3], "finite values"),
        ("PINHOLE", [1, 2, 3], "camera PINHOLE: expected 4 parameters, got 3"),
        ("SIMPLE_PINHOLE", [0, 2, 3], "positive focal"),
        ("PINHOLE", [5, -5, 2, 3], "positive focal"),
        ("SIMPLE_PINHOLE", [5, float("nan"), 3], "finite values"),
    ],
)
def test_wrong_intrinsics_are_refused(model, params, message):
    with pytest.raises(ValueError, match=message):
        Camera.from_params(model, params, SIZE)


@pytest.mark.parametrize("size", [(0, 480), (640, -1), (2**40, 480), (10**400, 1)])
def test_a_camera_has_a_size(size) -> None:
    with pytest.raises(ValueError, match="expected a width and height in pixels, got"):
        Camera.simple(500, size)
    with pytest.raises(ValueError, match="expected a width and height in pixels, got"):
        Camera(torch.ones(2), torch.ones(2), size)


@pytest.mark.parametrize("size", [(640.5, 480), (640,), (640, 480, 3), 640, None, ("640", "480")])
@pytest.mark.wrong_input
def test_a_size_is_two_whole_numbers(size) -> None:
    with pytest.raises(ValueError, match="expected a width and height in pixels, got"):
        Camera(torch.ones(2), torch.ones(2), size)


@pytest.mark.wrong_input
def test_a_size_of_numpy_integers_becomes_one_of_ours() -> None:
    size = Camera(torch.ones(2), torch.ones(2), tuple(np.array([640, 480]))).size  # type: ignore[arg-type]
    assert size == (640, 480) and all(type(side) is int for side in size)


@pytest.mark.parametrize(
    ("focal", "center", "model", "distortion", "message"),
    [
        ((3,), (3,), "PINHOLE", None, r"focal_px: expected \(\.\.\., 2\), got \(3,\)"),
        ((), (), "PINHOLE", None, "focal_px: expected"),
        ((5, 2), (2,), "PINHOLE", None, r"center_px: expected \(5, 2\) as focal_px, got \(2,\)"),
        ((2,), (2,), "PINHOLE", (4,), r"distortion: expected None of PINHOLE .*, got \(4,\)"),
        ((2,), (2,), "OPENCV", None, r"distortion: expected \(4,\) of OPENCV .*, got None"),
        ((2,), (2,), "OPENCV", (5,), r"distortion: expected \(4,\) of OPENCV .*, got \(5,\)"),
        ((5, 2), (5, 2), "RADIAL", (2,), r"distortion: expected \(5, 2\) of RADIAL"),
        ((2,), (2,), "pinhole", None, "camera model: expected one of .*, got pinhole"),
    ],
)
@pytest.mark.wrong_input
def test_shapes_that_do_not_belong_together_are_refused(focal, center, model, distortion, message):
    with pytest.raises(ValueError, match=message):
        Camera(
            torch.ones(focal),
            torch.ones(center),
            SIZE,
            model,
            None if distortion is None else torch.ones(distortion),
        )


@models
def test_a_camera_is_equal_to_itself_alone(model):
    """Comparing the values of tensors has no one answer; `in`, sets and dictionaries must work."""
    camera = camera_of(model)
    assert camera == camera and camera in [camera_of(model), camera]
    assert camera != camera_of(model) and camera not in [camera_of(model)]
    assert {camera: 1}[camera] == 1
    assert pickle.loads(pickle.dumps(camera)).to_text() == camera.to_text()


@models
def test_a_camera_becomes_a_batch_of_one(model):
    camera = camera_of(model)
    batch = camera[None]
    assert batch.focal_px.shape == (1, 2) and batch.params.shape == (1, len(PARAMS[model]))
    assert torch.equal(batch[0].params, camera.params)


# ---- from OpenCV ---------------------------------------------------------------------------------

K = np.array([[520.0, 0, 310.2], [0, 500, 250.7], [0, 0, 1]])


def opencv_pixels(points: torch.Tensor, distortion, fisheye: bool = False) -> torch.Tensor:
    """Where OpenCV projects points, with our half pixel."""
    zero = np.zeros(3)
    if fisheye:
        pixels = cv2.fisheye.projectPoints(points.numpy()[:, None], zero, zero, K, np.array(distortion))[0]
    else:
        pixels = cv2.projectPoints(points.numpy(), zero, zero, K, distortion)[0]
    return torch.from_numpy(pixels[:, 0]) + 0.5


@pytest.mark.parametrize(
    ("distortion", "model"),
    [
        (None, "PINHOLE"),
        (np.zeros((1, 5)), "PINHOLE"),
        (np.array([-0.2, 0.05, 0.002, -0.001]), "OPENCV"),
        (np.array([[-0.2, 0.05, 0.002, -0.001, 0.0]]), "OPENCV"),
        (np.array([[-0.2], [0.05], [0.002], [-0.001], [0.03]]), "FULL_OPENCV"),
        (np.array([0.3, -0.1, 0.002, -0.001, 0.03, 0.4, -0.05, 0.02]), "FULL_OPENCV"),
        (np.array([0.3, -0.1, 0.002, -0.001, 0.03, 0.4, -0.05, 0.02, 0, 0, 0, 0]), "FULL_OPENCV"),
        (np.array([-0.2, 0.05, 0.002, -0.001, *[0.0] * 10]), "OPENCV"),
    ],
    ids=str,
)
def test_a_calibration_of_opencv_projects_as_opencv_does(distortion, model):
    camera, points = Camera.from_opencv(K, distortion, SIZE), random_points(50)
    assert camera.model == model and camera.size == SIZE
    torch.testing.assert_close(camera.project(points), opencv_pixels(points, distortion), atol=1e-9, rtol=0)
    as_tensor = Camera.from_opencv(
        torch.from_numpy(K).float(), None if distortion is None else torch.from_numpy(distortion), SIZE
    )
    torch.testing.assert_close(as_tensor.params, camera.params, atol=1e-4, rtol=0)


def test_a_fisheye_calibration_of_opencv_projects_as_opencv_does():
    distortion = [-0.03, 0.01, -0.002, 0.0003]
    camera, points = Camera.from_opencv_fisheye(K, distortion, SIZE), random_points(50)
    torch.testing.assert_close(
        camera.project(points), opencv_pixels(points, distortion, True), atol=1e-9, rtol=0
    )
    with pytest.raises(ValueError, match="expected 8 parameters, got 9"):
        Camera.from_opencv_fisheye(K, [*distortion, 0.1], SIZE)


@pytest.mark.parametrize(
    ("matrix", "distortion", "size", "message"),
    [
        ([[520, 1, 310], [0, 500, 250], [0, 0, 1]], None, SIZE, r"K: expected \[\[fx, 0, cx\]"),
        ([[520, 0, 310], [0, 500, 250], [0, 0, 2]], None, SIZE, r"K: expected \[\[fx, 0, cx\]"),
        ([[520, 0], [0, 500]], None, SIZE, r"K: expected \(3, 3\), got \(2, 2\)"),
        ([[520, 0, 310], [0, math.nan, 250], [0, 0, 1]], None, SIZE, "K: expected finite values"),
        ([[520, 0, 310], [0, -500, 250], [0, 0, 1]], None, SIZE, "positive focal"),
        (K, [0.1, 0.2], SIZE, "expected 4, 5, 8, 12 or 14 coefficients of OpenCV, got 2"),
        (K, [0.1, math.inf, 0, 0], SIZE, "distortion: expected finite values"),
        (K, [0.1] * 12, SIZE, "thin prism"),
        (K, None, (0, 480), "expected a width and height"),
    ],
    ids=str,
)
def test_a_calibration_that_no_model_holds_is_refused(matrix, distortion, size, message):
    with pytest.raises(ValueError, match=message):
        Camera.from_opencv(matrix, distortion, size)
