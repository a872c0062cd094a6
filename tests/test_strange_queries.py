"""Photos that do not show the place, or hardly anything of it: not localized, and of low confidence.

Asked of maps that know their place well, with landmarks: of the textured ball and (slowly) of a rendered
terrace by the encoder that ships.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ball_world import ColorEncoder
from textured_ball import LENS, places, textured

from dsac import Localizer, MappingSettings, build_map
from dsac.datasets import read_image
from dsac.geometry import Camera
from dsac.rooms import synthetic_scene, terrace_scene
from dsac.scene_map import SceneMap

SIZE = (320, 240)
LEAST = 0.5  # confidence of an answer; what shows nothing of the place stays clear of it
Picture = Callable[[tuple[int, int]], np.ndarray]


def _of_one_colour(*colour: int) -> Picture:
    return lambda size: np.full((size[1], size[0], 3), colour, np.uint8)


def _noise(cell_px: int) -> Picture:
    def draw(size: tuple[int, int]) -> np.ndarray:
        few = np.random.default_rng(cell_px).integers(
            0, 256, (-(-size[1] // cell_px), -(-size[0] // cell_px), 3), np.uint8
        )
        return np.ascontiguousarray(few.repeat(cell_px, 0).repeat(cell_px, 1)[: size[1], : size[0]])

    return draw


def _gradient(size: tuple[int, int]) -> np.ndarray:
    """A clear sky, a wall in a lamp's light."""
    return np.tile(np.linspace(60, 220, size[1])[:, None, None], (1, size[0], 3)).astype(np.uint8)


def _stripes(size: tuple[int, int]) -> np.ndarray:
    return np.tile((np.arange(size[0]) // 9 % 2 * 255)[None, :, None], (size[1], 1, 3)).astype(np.uint8)


def _chessboard(size: tuple[int, int]) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size[0]) // 20, np.arange(size[1]) // 20)
    return np.repeat(((x + y) % 2 * 255)[..., None], 3, axis=2).astype(np.uint8)


PICTURES: dict[str, Picture] = {
    "black": _of_one_colour(0, 0, 0),
    "grey": _of_one_colour(128, 128, 128),
    "white": _of_one_colour(255, 255, 255),
    "blue": _of_one_colour(60, 120, 230),
    "noise of pixels": _noise(1),
    "noise of patches": _noise(24),
    "gradient": _gradient,
    "stripes": _stripes,
    "chessboard": _chessboard,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _assert_lost(localizer: Localizer, picture: np.ndarray, camera: Camera | None = None) -> None:
    answer = localizer.localize(picture, camera or Camera.simple(0.82 * picture.shape[1], picture.shape[1::-1]))
    confidence = answer.confidence.item()
    assert not answer.success.item() and 0 <= confidence < LEAST, confidence
    assert torch.isfinite(answer.cam_from_world.matrix).all()


# ---- a map of the textured ball ------------------------------------------------------------------


@pytest.fixture(scope="module")
def ball(textured_ball_map: SceneMap) -> Localizer:
    return Localizer(textured_ball_map, encoder=ColorEncoder())


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_nothing_is_not_localized(ball: Localizer, name: str) -> None:
    _assert_lost(ball, PICTURES[name](LENS.size), LENS)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (17, 5), (1, 64), (64, 1)])
@pytest.mark.parametrize("name", ["grey", "noise of pixels"])
def test_a_tiny_picture_of_nothing_is_not_localized(ball: Localizer, name: str, size: tuple[int, int]) -> None:
    _assert_lost(ball, PICTURES[name](size))


def _seen(exposure: float) -> np.ndarray:
    """The ball, with so many times the light on the sensor."""
    image = textured(LENS, places(1, seed=5)[0]).image.permute(1, 2, 0).numpy()
    return (image * exposure * 255).clip(0, 255).astype(np.uint8)


def test_a_right_picture_is_localized_until_light_or_darkness_leaves_nothing_of_it(ball: Localizer) -> None:
    assert ball.localize(_seen(1.0), LENS).success.item()
    for exposure in (200.0, 0.004):
        _assert_lost(ball, _seen(exposure), LENS)


def test_a_batch_of_strange_pictures_does_not_disturb_a_right_one(ball: Localizer) -> None:
    pictures = [_seen(1.0), PICTURES["white"](LENS.size), PICTURES["noise of pixels"](LENS.size)]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    answer = ball.localize(batch, LENS)
    assert answer.success.tolist() == [True, False, False]
    alone = ball.localize(pictures[0], LENS)
    assert answer[0].cam_from_world.center_distance(alone.cam_from_world) < 1e-3


# ---- a map by the encoder that ships -------------------------------------------------------------


@pytest.fixture(scope="module")
def terrace() -> Localizer:
    """Learned quickly from a stretch of the walk."""
    walk = terrace_scene(num_mapping=240, num_query=1, size=SIZE, light_cell=2.0).mapping[:24]
    settings = MappingSettings(steps=100, batch_size=1024, width=256, num_views=24, num_landmarks=2000)
    return Localizer(build_map(walk[::2], settings))


def _bytes(image: torch.Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


@pytest.mark.slow
def test_the_shipped_encoder_sees_no_terrace_where_there_is_none(terrace: Localizer) -> None:
    right = terrace_scene(num_mapping=240, num_query=1, size=SIZE, light_cell=2.0).mapping[5]
    assert terrace.localize(_bytes(right.image), right.camera).success.item()
    for picture in PICTURES.values():
        _assert_lost(terrace, picture(SIZE), right.camera)
    other = synthetic_scene(num_mapping=3, num_query=1, size=SIZE, light_cell=0.5).mapping
    for i in range(len(other)):  # another place
        _assert_lost(terrace, _bytes(other[i].image), right.camera)
    for size in ((1, 1), (8, 6), (20, 3)):
        _assert_lost(terrace, cv2.resize(_bytes(right.image), size, interpolation=cv2.INTER_AREA))
    bright = replace(right, image=(200 * right.image).clamp(0, 1))
    _assert_lost(terrace, _bytes(bright.image), right.camera)


@pytest.mark.slow
def test_photos_of_other_places_are_not_localized(terrace: Localizer, recordings: Path) -> None:
    files = sorted((recordings / "photos").glob("*.jpg"))[::60]
    if not files:
        pytest.skip("photos of many places are not there")
    for file in files:
        _assert_lost(terrace, read_image(file))
