"""What is drawn is where geometry says, and as bright as the lamps make it."""

from __future__ import annotations

import numpy as np
import pytest

from dsac.rooms import Room, RoomBuilder, View, bake_light, develop, render_depth, render_light
from dsac.rooms.builder import X, Y, Z

SIZE = (40, 30)
LAMP = np.array([[1.5, 1.0, 1.9, 0, 0, -1, 4.0, 4.0, 4.0]])  # below the ceiling, shines down


def _view(eye: tuple[float, float, float]) -> View:
    """Looks north (y), upright."""
    rotation = np.stack([X, -Z, Y])
    return View(rotation, -rotation @ np.array(eye), 40.0, (20.0, 15.0), SIZE)


def _builder(grey: int = 200, seed: int = 0) -> RoomBuilder:
    """A box of 3 m × 3 m × 2 m, seen from inside, of one grey."""
    b = RoomBuilder(np.random.default_rng(seed))
    wall = b.material(np.full((4, 4, 3), grey, np.uint8), (1, 1))
    b.rectangle((0, 0, 0), 3 * X, 3 * Y, wall)
    b.rectangle((0, 3, 2), 3 * X, -3 * Y, wall)
    b.rectangle((3, 0, 0), -3 * X, 2 * Z, wall)
    b.rectangle((0, 3, 0), 3 * X, 2 * Z, wall)
    b.rectangle((3, 3, 0), -3 * Y, 2 * Z, wall)
    b.rectangle((0, 0, 0), 3 * Y, 2 * Z, wall)
    return b


def _lit(b: RoomBuilder, cell: float = 0.3) -> Room:
    return bake_light(b.room(), LAMP, cell)


def test_depth_is_that_of_the_nearest_surface() -> None:
    b = _builder()
    brown = b.material(np.full((4, 4, 3), (120, 80, 40), np.uint8), (1, 1))
    b.box((1.5, 2.0, 0.0), (0.4, 0.2, 2.0), brown)  # a pillar in the middle of the picture
    b.sphere((0.7, 2.0, 1.0), 0.3, brown)
    depth = render_depth(_lit(b), _view((1.5, 0.5, 1.0)))
    assert depth[15, 20] == pytest.approx(1.4, abs=1e-5)  # the pillar's front, at y = 1.9
    assert depth[15, 27] == pytest.approx(2.5, abs=1e-5)  # beside it the north wall
    # the ball's centre is 0.8 m to the left at 1.5 m
    ray = np.array([(0.5 - 20) / 40, (15.5 - 15) / 40, 1.0])
    assert depth[15, 0] == pytest.approx(_sphere_depth(ray, np.array([-0.8, 0.0, 1.5]), 0.3), abs=1e-4)


def test_a_camera_turned_by_less_than_numbers_can_tell_sees_the_same() -> None:
    room, view = _lit(_builder()), _view((1.5, 0.5, 1.0))
    turned = view._replace(rotation=np.array([[1, -1e-21, 0], [0, 0, -1], [1e-21, 1, 0]]))
    assert np.array_equal(render_depth(room, view), render_depth(room, turned))


def _sphere_depth(ray: np.ndarray, center: np.ndarray, radius: float) -> float:
    middle, square = ray @ center, ray @ ray
    return float((middle - np.sqrt(middle**2 - square * (center @ center - radius**2))) / square)


def test_light_falls_where_nothing_is_between() -> None:
    empty = _builder(grey=0)  # black walls: no bounce
    table = _builder(grey=0)
    black = table.material(np.zeros((4, 4, 3), np.uint8), (1, 1))
    table.box((1.5, 1.0, 1.0), (1.2, 1.2, 0.05), black)
    rooms = _lit(empty, 0.1), _lit(table, 0.1)
    lit, shadowed = (room.light[: room.cells[0, 1] * room.cells[0, 2]] for room in rooms)
    below = np.argmax(lit[:, 0])  # of the floor's cells, the one under the lamp
    assert lit[below, 0] > 0 and shadowed[below, 0] == 0
    # light falls off with the square of the distance, and grazing floor gets less of it
    x, y = np.meshgrid((np.arange(30) + 0.5) * 0.1, (np.arange(30) + 0.5) * 0.1)
    square = (x - 1.5) ** 2 + (y - 1.0) ** 2 + 1.9**2
    exact = (4.0 * 1.9**2 / square**2).ravel()
    inner = (np.abs(x - 1.5) < 1.0).ravel() & (np.abs(y - 1.5) < 1.0).ravel()  # borders are blurred otherwise
    np.testing.assert_allclose(lit[inner, 0], exact[inner], rtol=0.03)


def test_walls_send_light_back() -> None:
    dark, bright = (_lit(_builder(grey)).light.mean() for grey in (20, 230))
    assert bright > 1.5 * dark


def test_a_room_is_built_and_drawn_the_same_twice() -> None:
    def frame(seed: int) -> tuple[Room, np.ndarray]:
        b = _builder(seed=seed)
        noise = b.material(b.rng.integers(0, 255, (32, 32, 3), np.uint8), (0.5, 0.5))
        b.box((1.5, 2.0, 0.0), (1.0, 0.5, 1.2), noise, yaw=0.3)
        room = _lit(b)
        return room, develop(
            render_light(room, [_view((1.5, 0.5, 1.0))]), 1.0, np.zeros((30, 40, 3), np.float32)
        )

    (room, image), (again, same), (_, other) = frame(0), frame(0), frame(1)
    assert all(np.array_equal(a, b) for a, b in zip(room, again, strict=True))
    assert np.array_equal(image, same) and not np.array_equal(image, other)


def test_a_moving_shutter_shows_the_mean_of_its_moments() -> None:
    b = _builder()
    stripes = b.material(np.repeat(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8), 2, 0), (0.4, 0.4))
    b.rectangle((0, 2.9, 0), 3 * X, 2 * Z, stripes)
    room = _lit(b)
    views = [_view((1.5 + 0.02 * i, 0.5, 1.0)) for i in range(20)]
    still, moved = render_light(room, views[:1]), render_light(room, views)
    assert np.isfinite(moved).all() and moved.std() < 0.7 * still.std()
    assert moved.mean() == pytest.approx(still.mean(), rel=0.1)


def test_faces_of_a_box_are_left_out_or_of_another_material() -> None:
    b = _builder()
    walls = len(b.room().kind)
    wall = b.material(np.full((4, 4, 3), 9, np.uint8), (1, 1))
    b.box((1, 1, 0), (1, 1, 1), wall, top=None, bottom=None, front=b.material(np.full((4, 4, 3), 99, np.uint8)))
    room = b.room()
    assert len(room.kind) == walls + 4
    assert len(set(room.texture[walls:])) == 2
    with pytest.raises(TypeError, match="upside"):
        b.box((1, 1, 0), (1, 1, 1), wall, upside=None)  # type: ignore[call-arg]
