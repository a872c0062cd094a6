"""Maps on Earth by photos with GPS."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from ball_world import ColorEncoder, exact_map, photograph
from gps_photos import gps_block, in_png

from dsac.datasets import load_photos
from dsac.datasets.image_gps import GpsFix
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose, Similarity, geo_of, rotation_angle
from dsac.localizer import Localizer
from dsac.worlds import by_gps
from dsac.worlds.gps import fit_gps

ORIGIN = (47.3769, 8.5417, 408.0)
EARTH_FROM_MAP = Similarity(Pose.exp(torch.tensor([1.0, -2, 0.5, 30, 20, 10]).double()), 7.0)


def _walk(count: int, extent: float, width: float, roll_deg: float) -> Pose:
    """Cameras that look around, held level up to some roll; camera from east, north, up."""
    rng = np.random.default_rng(0)
    centers = np.stack([extent * rng.uniform(-0.5, 0.5, count), width * rng.uniform(-0.5, 0.5, count),
                        rng.normal(0, 0.3, count)], -1)  # fmt: skip
    rows = []
    for heading, pitch, roll in zip(rng.uniform(0, 2 * np.pi, count), rng.normal(0, 0.15, count),
                                    np.radians(roll_deg) * rng.normal(0, 1, count), strict=True):  # fmt: skip
        ahead = np.array([np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)])
        right = np.array([np.sin(heading), -np.cos(heading), 0.0])
        down = np.cross(ahead, right)
        turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        rows.append(np.concatenate([turn @ np.stack([right, down]), ahead[None]]))
    rotation = torch.from_numpy(np.array(rows))
    return Pose(rotation, -(rotation @ torch.from_numpy(centers)[..., None])[..., 0])


def _fixes(cam_from_earth: Pose, noise: float, height_noise: float, heights: bool = True) -> list[GpsFix]:
    errors = np.random.default_rng(1).normal(0, 1, (len(cam_from_earth), 3)) * [noise, noise, height_noise]
    geo = geo_of(cam_from_earth.center + torch.from_numpy(errors), ORIGIN).tolist()
    return [GpsFix(latitude, longitude, height if heights else None) for latitude, longitude, height in geo]


def _in_map(cam_from_earth: Pose) -> dict[str, Pose]:
    poses = EARTH_FROM_MAP.inverse().pose(cam_from_earth)
    return {f"{i}.jpg": poses[i] for i in range(len(poses))}


def _turn_off_deg(similarity: Similarity) -> float:
    return torch.rad2deg(rotation_angle(similarity.motion.rotation.mT @ EARTH_FROM_MAP.motion.rotation)).item()


@pytest.mark.parametrize("heights", [True, False])
@pytest.mark.parametrize("width", [60.0, 0.1], ids=["a square", "a straight street"])
def test_places_off_by_metres_along_a_street_too_tell_turn_scale_and_place(heights: bool, width: float) -> None:
    earth = _walk(30, 120.0, width, roll_deg=2.0)
    found = fit_gps(_in_map(earth), _fixes(earth, 4.0, 12.0, heights), origin=ORIGIN)
    assert _turn_off_deg(found.world_from_this) < 3  # 4 m / (35 m √30) are 1.2°, the level's 2° / √30 are less
    assert found.world_from_this.scale == pytest.approx(7.0, rel=0.06)
    middle = torch.stack([pose.center for pose in _in_map(earth).values()]).mean(0)
    off = (found.world_from_this @ middle) - earth.center.mean(0)
    assert off[:2].norm() < 2.5  # 4 m √2 / √30 are 1
    assert found.agree.sum() >= 28
    assert found.metric and found.geo == ORIGIN and "m on the ground" in found.accuracy


def test_exact_places_of_level_photos_give_the_exact_transform_and_wrong_ones_do_no_harm() -> None:
    earth = _walk(20, 100.0, 60.0, roll_deg=0.0)
    fixes = _fixes(earth, 0.0, 0.0)
    for i in (3, 8, 9, 15):
        fixes[i] = replace(fixes[i], latitude=fixes[i].latitude + 0.003, height=3000.0)
    found = fit_gps(_in_map(earth), fixes, origin=ORIGIN)
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(found.world_from_this @ points, EARTH_FROM_MAP @ points, rtol=0, atol=1e-3)
    assert (~found.agree).nonzero()[:, 0].tolist() == [3, 8, 9, 15]


def test_photos_that_look_straight_down_are_understood() -> None:
    level = _walk(20, 100.0, 60.0, roll_deg=0.0)
    axes = level.rotation
    down = torch.tensor([0.0, 0.0, -1.0]).double().expand(20, 3)
    rotation = torch.stack([axes[:, 0], torch.linalg.cross(down, axes[:, 0]), down], 1)
    earth = Pose(rotation, -(rotation @ level.center[..., None])[..., 0])
    found = fit_gps(_in_map(earth), _fixes(earth, 0.5, 2.0), origin=ORIGIN)
    assert _turn_off_deg(found.world_from_this) < 1


def test_a_metric_map_keeps_its_unit_and_the_middle_of_the_photos_is_the_origin() -> None:
    earth = _walk(12, 100.0, 60.0, roll_deg=1.0)
    poses = {f"{i}": earth[i] for i in range(12)}
    found = fit_gps(poses, _fixes(earth, 2.0, 5.0), rigid=True)
    assert found.world_from_this.scale == 1.0 and "0 % of lengths" in found.accuracy
    assert found.geo == pytest.approx(ORIGIN, abs=30) and found.geo[:2] == pytest.approx(ORIGIN[:2], abs=1e-3)


def test_photos_nearer_to_each_other_than_gps_knows_are_refused() -> None:
    earth = _walk(10, 20.0, 15.0, roll_deg=1.0)
    with pytest.raises(DatasetError, match="tell to 5° how the map is turned, these do to"):
        fit_gps(_in_map(earth), _fixes(earth, 4.0, 10.0))
    earth = _walk(10, 1.0, 1.0, roll_deg=1.0)
    with pytest.raises(
        DatasetError, match=r"at least 3 times as far apart as their GPS is off, got some \S+ m"
    ):
        fit_gps(_in_map(earth), _fixes(earth, 5.0, 10.0))
    same = _walk(9, 0.0, 0.0, roll_deg=1.0)
    with pytest.raises(DatasetError, match="as far apart|tell to 5°"):
        fit_gps(_in_map(same), _fixes(same, 0.0, 0.0))


def test_a_map_finds_its_place_on_earth_by_photos_and_answers_with_it() -> None:
    torch.set_num_threads(1)
    localizer = Localizer(exact_map(120), encoder=ColorEncoder())
    camera = Camera.simple(150, (160, 120))
    cameras = _walk(4, 2.0, 1.5, roll_deg=0.0)  # about the ball's middle
    hundred = Similarity(Pose.identity(dtype=torch.float64), 100.0)
    photos = []
    for pose in cameras:
        image = (255 * photograph(camera, pose).image.permute(1, 2, 0).numpy()).round().astype(np.uint8)
        data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        geo = geo_of(hundred @ pose.center, ORIGIN).tolist()
        photos.append(in_png(data, gps_block(*geo, sigma=0.5)))
    blank = cv2.imencode(".png", np.full((120, 160, 3), 128, np.uint8))[1].tobytes()
    lost = in_png(blank, gps_block(47.0, 8.0, 400.0))
    frames = load_photos([*photos, blank, lost], camera=camera)
    found = by_gps(localizer, frames, origin=ORIGIN)
    assert found.names == ["photo-0", "photo-1", "photo-2", "photo-3"]
    assert found.world_from_this.scale == pytest.approx(100, rel=0.01)
    with pytest.raises(DatasetError, match=r"whose EXIF data say where they were taken, got 2 of 3; apps"):
        by_gps(localizer, frames[[0, 1, 4]])
    with pytest.raises(DatasetError, match=r"that the map localizes, got 2 of 3"):
        by_gps(localizer, frames[[0, 1, 5]])
