"""`dsac align`: a map file in another world, and what it answers there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import Fails, Run

from dsac.geometry import Camera, Pose, Similarity, geo_of
from dsac.localization import Localization
from dsac.localizer import Localizer
from dsac.scene_map import SceneMap
from dsac.worlds import Alignment

ORIGIN = (47.3769, 8.5417, 408.0)
POINTS = torch.tensor([[0, 0, 0], [4, 0, 0.2], [4, 3, 1], [0, 3, 2]], dtype=torch.float64)
TRUTH = Similarity(Pose.exp(torch.tensor([5.0, 3, -7, 0.1, -2, 0.5]).double()), 3.0)


def _survey(folder: Path, there: torch.Tensor, last: str = "X,Y,Z") -> Path:
    rows = torch.cat([POINTS, there], 1).tolist()
    lines = [f"name,x,y,z,{last}", *(",".join([f"corner {i}", *map(repr, row)]) for i, row in enumerate(rows))]
    (folder / "survey points.csv").write_text("\n".join(lines))
    return folder / "survey points.csv"


def test_control_points_move_the_map_and_nothing_else_of_it(blank_map: Path, run: Run, tmp_path: Path) -> None:
    before, data = SceneMap.load(blank_map), blank_map.read_bytes()
    new = tmp_path / "new.dsac"
    code, out, _ = run("align", blank_map, "--points", _survey(tmp_path, TRUTH @ POINTS), "--output", new)
    assert code == 0 and blank_map.read_bytes() == data
    assert "  corner 0  " in out and "4 of 4 agree" in out and "lengths × 3, turned by" in out
    assert f"{new}: positions are in metres now\n" in out
    after = SceneMap.load(new)
    torch.testing.assert_close(after.info.world_from_map @ POINTS, TRUTH @ POINTS)
    moved = ("origin", "rotation", "scale", "metric")
    assert replace(after.info, **{name: getattr(before.info, name) for name in moved}) == before.info
    state = after.head.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before.head.state_dict().items())
    # and back, in place
    matrix = TRUTH.inverse().motion.matrix.clone()
    matrix[:3, :3] *= TRUTH.inverse().scale
    (tmp_path / "back.json").write_text(json.dumps(matrix.tolist()))
    assert run("align", new, "--transform", tmp_path / "back.json")[0] == 0
    torch.testing.assert_close(SceneMap.load(new).info.world_from_map @ POINTS, POINTS)


def test_a_map_on_earth_says_so_and_its_answers_have_latitude_longitude_and_height(
    blank_map: Path, run: Run, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geo = geo_of(TRUTH @ POINTS, ORIGIN)
    survey = _survey(tmp_path, geo, "lat,lon,height")
    code, out, _ = run("align", blank_map, "--points", survey, "--origin", *ORIGIN)
    assert code == 0 and "east, north and up of 47.3769000°, 8.5417000°, 408.00 m" in out
    assert "on Earth      east, north, up of 47.3769000°" in run("info", blank_map)[1]
    assert json.loads(run("info", blank_map, "--json")[1])["geo"] == list(ORIGIN)
    size = 3 * 6.0  # of the ball's map
    assert f"{size:.3g} × {size:.3g} × {size:.3g}" in run("info", blank_map)[1]

    found = Localizer.localize_frames

    def as_if_found(self: Localizer, frames, **options):
        for answer in found(self, frames, **options):
            yield replace(answer, cam_from_world=TRUTH.pose(_at(POINTS[1])), success=torch.tensor(True))

    assert json.loads(run("localize", blank_map, photo, "--focal-px", 100, "--json")[1])["geo"] is None  # lost
    monkeypatch.setattr(Localizer, "localize_frames", as_if_found)
    told = json.loads(run("localize", blank_map, photo, "--focal-px", 100, "--json")[1])["geo"]
    assert list(told) == ["latitude", "longitude", "height"]
    assert list(told.values()) == pytest.approx(geo[1].tolist(), abs=1e-8)
    latitude, longitude, height = geo[1].tolist()
    line = run("localize", blank_map, photo, "--focal-px", 100)[1]
    assert f"  {latitude:.7f}°, {longitude:.7f}°, {height:.2f} m  " in line
    # a matrix to anywhere else forgets the Earth
    (tmp_path / "m.txt").write_text("0 -1 0 5  1 0 0 5  0 0 1 5")
    assert run("align", blank_map, "--transform", tmp_path / "m.txt")[0] == 0
    assert SceneMap.load(blank_map).info.geo is None


def _at(place: torch.Tensor) -> Pose:
    return Pose(torch.eye(3).double(), -place)


def test_answers_for_several_photos_have_their_places_on_earth(blank_map: Path) -> None:
    scene_map = SceneMap.load(blank_map)
    scene_map = replace(scene_map, info=replace(scene_map.info, geo=ORIGIN))
    answer = Localizer(scene_map).localize(torch.zeros(2, 3, 64, 96), Camera.simple(90, (96, 64)))
    assert isinstance(answer, Localization) and answer.geo is not None and answer.geo.shape == (2, 3)
    one = answer[1]
    assert one.geo is not None
    torch.testing.assert_close(one.geo, geo_of(one.cam_from_world.center, ORIGIN))


def test_photos_and_recordings_are_looked_at_in_the_map(
    blank_map: Path, room: Path, run: Run, fails: Fails, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which localizes none of them here; `tests/worlds` has those that it does."""
    assert "room: expected 3 frames or more that the map localizes, found 0 of 3" in fails(
        "align", blank_map, "--recording", room
    )
    assert "whose EXIF data say where they were taken, got 0 of 1" in fails("align", blank_map, "--gps", photo)
    agreed = Alignment(
        TRUTH, True, ORIGIN, ["a.jpg", "b.jpg"], torch.tensor([1.0, 9.0]), torch.tensor([True, False]), "± 1°"
    )
    monkeypatch.setattr("dsac.worlds.by_gps", lambda *given, **options: agreed)
    code, out, _ = run("align", blank_map, "--gps", photo.parent)
    assert code == 0 and "1 of 2 agree, off by 1 m (median); the worst is b.jpg, by 9 m\nknown to ± 1°" in out


def test_a_factor_makes_metres_of_a_unit(blank_map: Path, run: Run) -> None:
    before = SceneMap.load(blank_map).info.world_from_map @ POINTS
    code, out, _ = run("align", blank_map, "--scale", 0.5)
    assert code == 0 and "lengths × 0.5, turned by 0.00°" in out and "positions are in metres now" in out
    torch.testing.assert_close(SceneMap.load(blank_map).info.world_from_map @ POINTS, 0.5 * before)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "align needs one of --points, --clicks, --gps, --recording, --transform, --scale, --distance"),
        ("--points a.csv --transform m.txt", "align needs one of"),
        ("--points none.csv", "none.csv: no such file"),
        ("--points crooked.csv", "crooked.csv: corner 2 contradicts the others: it is off by"),
        ("--points line.csv", "line.csv: expected points that are apart, got 3 in a line"),
        ("--points line.csv --tolerance -1", "--tolerance: expected 0 or more, with --points"),
        ("--transform m.txt --tolerance 1", "--tolerance: expected 0 or more, with --points"),
        ("--scale 0", "scale: expected a number above 0"),
        ("--scale 2 --rigid", "--rigid: expected without --scale"),
        ("--distance none.jpg none.jpg 2", "none.jpg: expected an image"),
        ("--clicks none.csv", "none.csv: no such file"),
        ("--clicks m.txt", "m.txt, line 1: expected `PHOTO u v X Y Z`"),
        ("--transform m.txt --rigid", "--rigid: expected without --transform"),
        ("--transform m.txt --origin 95 0 0", "--origin: expected a latitude up to 90°"),
        ("--transform none.txt", "none.txt: no such file"),
        ("--transform m.txt --output none/new.dsac", "its folder does not exist"),
        ("--transform m.txt --output m.txt", "m.txt: already exists and is something else"),
        ("--recording none", "none: expected a folder with images and poses"),
        ("--gps none.jpg", "none.jpg: expected an image or a folder of images"),
    ],
)
def test_mistakes_are_one_line_and_leave_the_map_as_it_is(
    blank_map: Path, fails: Fails, tmp_path: Path, options: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = TRUTH @ POINTS
    there[2, 0] += 5.0
    _survey(tmp_path, there).rename("crooked.csv")
    Path("line.csv").write_text("0 0 0 0 0 0\n1 1 1 1 1 1\n2 2 2 2 2 2\n")
    Path("m.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 5")
    assert expected in fails("align", blank_map, *options.split())
    assert "none.dsac: expected a map file" in fails("align", "none.dsac", "--transform", "m.txt")
