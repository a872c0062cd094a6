"""Maps in the world of places that were clicked in photos, and in metres by a distance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ball_world import ColorEncoder, exact_map
from made_up_wall import localization

from dsac.datasets.control_points import Click, ClickedPoints, read_clicks
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose, Similarity
from dsac.localization import Localization
from dsac.localizer import Localizer
from dsac.worlds import by_distance, by_scale
from dsac.worlds.clicks import Seen, where_rays_meet
from dsac.worlds.control_points import fit_control_points

CAMERA = Camera.from_params("OPENCV", [400.0, 410.0, 330.0, 235.0, 0.1, -0.02, 0.001, 0.002], (640, 480))
HERE = torch.tensor([[0, 0, 4], [1, 0.2, 5], [-1, 0.7, 4.5], [0.3, -0.9, 6]], dtype=torch.float64)
OTHER_FROM_MAP = Similarity(Pose.exp(torch.tensor([1.0, -2, 0.5, 300, 20, -10]).double()), 0.5)


def _photos() -> dict[str, Seen]:
    sides = (-0.8, 0.1, 0.9)
    poses = [Pose.exp(torch.tensor([0.02, 0.1 * x, 0.03, x, 0.1, 0]).double()) for x in sides]
    return {f"{name}.jpg": Seen(CAMERA, pose) for name, pose in zip("abc", poses, strict=True)}


def _clicks(photos: dict[str, Seen]) -> ClickedPoints:
    there = OTHER_FROM_MAP @ HERE
    seen = {name: each.camera.project(each.cam_from_world @ HERE).tolist() for name, each in photos.items()}
    return ClickedPoints(
        [[Click(name, tuple(seen[name][i])) for name in seen] for i in range(len(HERE))], there
    )


def test_rays_of_exact_clicks_meet_in_the_places_through_any_lens() -> None:
    points = where_rays_meet("clicks.csv", _clicks(_photos()), _photos())
    torch.testing.assert_close(points.here, HERE, rtol=0, atol=1e-6)
    found = fit_control_points(points, "clicks.csv", tolerance=None, rigid=False, origin=None)
    torch.testing.assert_close(found.world_from_this @ HERE, OTHER_FROM_MAP @ HERE, rtol=0, atol=1e-5)
    x, y, z = (OTHER_FROM_MAP @ HERE)[0].tolist()
    assert points.names[0] == f"({x:.10g}, {y:.10g}, {z:.10g})"


def test_clicks_that_do_not_fix_a_place_are_named_with_the_way_out() -> None:
    photos, clicked = _photos(), _clicks(_photos())
    with pytest.raises(DatasetError, match=r"c.csv: \(.*two photos or more that the map localizes, got 1 of 3"):
        where_rays_meet("c.csv", clicked, {"b.jpg": photos["b.jpg"]})
    near = Seen(CAMERA, Pose.exp(torch.tensor([0, 0, 0, 0.01, 0, 0]).double()) @ photos["a.jpg"].cam_from_world)
    pair = {"a.jpg": photos["a.jpg"], "b.jpg": near}
    with pytest.raises(DatasetError, match=r"do from 0\.\d° apart: click it in one from elsewhere"):
        where_rays_meet("c.csv", _clicks(pair), pair)
    (x, y), clicks = clicked.clicks[2][1].pixel, clicked.clicks
    wrong = [*clicks[:2], [clicks[2][0], Click("b.jpg", (x, y + 60)), clicks[2][2]], clicks[3]]
    with pytest.raises(DatasetError, match=r"contradict each other, the worst is in b.jpg, \d\d pixels from"):
        where_rays_meet("c.csv", ClickedPoints(wrong, clicked.there), photos)


def test_clicks_on_one_place_are_those_with_the_same_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("photo,u,v,lat,lon,height\na b.jpg,10.5,20,47.5,8.2,400\nü/2.jpg,3,4,47.5,8.2,400\n")
    read = read_clicks(path)
    assert read.clicks == [[Click("a b.jpg", (10.5, 20.0)), Click("ü/2.jpg", (3.0, 4.0))]] and read.on_earth
    assert read.there.tolist() == [[47.5, 8.2, 400]]
    path.write_text('[{"photo": "a.jpg", "u": 1, "v": 2, "X": 3, "Y": 4.5, "Z": 5}]')
    assert read_clicks(path).clicks == [[Click("a.jpg", (1.0, 2.0))]] and not read_clicks(path).on_earth
    for text, expected in (
        ("1 2 3 4 5\n", "line 1: expected the name of a photo before u v X Y Z"),
        ("a.jpg 1 2 3 4\n", "line 1: expected `PHOTO u v X Y Z`, five numbers"),
        ("a.jpg 1 2 3 4 5\na.jpg 2 2 3 4 5\n", "line 2: a.jpg shows that point already"),
        ('[{"photo": "a.jpg", "u": 1, "v": "2"}]', "point 1: expected numbers u, v, X, Y, Z, got"),
        ('[{"photo": ', "expected JSON"),
    ):
        path.write_text(text)
        with pytest.raises(DatasetError) as error:
            read_clicks(path)
        assert expected in str(error.value)


# ---- the unit ----------------------------------------------------------------------------------------


def test_a_factor_scales_about_the_worlds_origin_and_ends_in_metres() -> None:
    found = by_scale(2.5)
    torch.testing.assert_close(found.world_from_this @ HERE, 2.5 * HERE)
    assert found.metric is True
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scale: expected a number above 0"):
            by_scale(wrong)


def test_two_photos_a_known_distance_apart_tell_the_metre(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Iterator[Localization] = iter([])
    monkeypatch.setattr(Localizer, "localize_frames", lambda self, frames: iter([next(answers)]))
    localizer = Localizer(exact_map(120), encoder=ColorEncoder())
    photo = tmp_path / "a b.png"
    photo.write_bytes(cv2.imencode(".png", np.zeros((64, 96, 3), np.uint8))[1].tobytes())

    def asked(*given: Localization) -> float:
        nonlocal answers
        answers = iter(given)
        return by_distance(localizer, (str(photo), str(photo)), 3.0).world_from_this.scale

    def at(pose: Pose, success: bool = True, sigma: float = 0.001) -> Localization:
        answer = localization("a b.png", pose, Pose.identity(dtype=torch.float64), success)
        return replace(answer, covariance=sigma**2 / 3 * torch.eye(6).double())

    here, there = Pose.identity(dtype=torch.float64), Pose.exp(torch.tensor([0, 0.3, 0, 0, 0, 2.0]).double())
    apart = there.center_distance(here).item()
    assert asked(at(here), at(there)) == pytest.approx(3.0 / apart)
    with pytest.raises(DatasetError, match="a b.png: expected a photo that the map localizes, it does not"):
        asked(at(here), at(there, success=False))
    with pytest.raises(DatasetError, match="from farther apart, the map knows their distance to ± 14 % only"):
        asked(at(here, sigma=0.2), at(there, sigma=0.2))
