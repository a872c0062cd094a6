"""Control points as surveyors hand them over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dsac.datasets.control_points import read_control_points
from dsac.errors import DatasetError


@pytest.mark.parametrize(
    "text",
    [
        "a b 1 2 3 10.5 20 30\nü 4 5 6 40 50 60\n",
        "# survey\nname;x;y;z;X;Y;Z\n\na b;1;2;3;10,5;20;30\nü;4;5;6;40;50;60;;\n",
        '"name",x,y,z,X,Y,Z\n"a b",1,2,3,10.5,20,30\n"ü",4,5,6,40,50,60\n',
    ],
    ids=["spaces", "semicolons and decimal commas", "commas"],
)
def test_points_are_read_with_any_separators(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    points = read_control_points(tmp_path / "p.csv")
    assert points.names == ["a b", "ü"] and not points.on_earth
    assert points.here.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert points.there.tolist() == [[10.5, 20, 30], [40, 50, 60]]


def test_points_need_no_names_and_names_may_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("1 2 3 4 5 6\n7 8 9 10 11 12\n")
    assert read_control_points(tmp_path / "p.txt").names == ["point 1", "point 2"]
    (tmp_path / "p.txt").write_text("17,1,2,3,4,5,6\n18,7,8,9,10,11,12\n")
    points = read_control_points(tmp_path / "p.txt")
    assert points.names == ["17", "18"]
    torch.testing.assert_close(points.here[1], torch.tensor([7.0, 8, 9]).double())
    (tmp_path / "p.txt").write_text("door 007 1 2 3 4 5 6\n")
    assert read_control_points(tmp_path / "p.txt").names == ["door 007"]


def test_points_in_json_are_objects_with_the_same_names(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(
        '[{"name": "ü", "X": 10, "Y": 20, "Z": 30, "x": 1, "y": 2, "z": 3.5}, '
        '{"x": 4, "y": 5, "z": 6, "X": 7, "Y": 8, "Z": 9}]'
    )
    points = read_control_points(path)
    assert points.names == ["ü", "point 2"] and not points.on_earth
    assert points.here.tolist() == [[1, 2, 3.5], [4, 5, 6]] and points.there.tolist() == [
        [10, 20, 30],
        [7, 8, 9],
    ]
    path.write_text('[{"name": "a", "x": 1, "y": 2, "z": 3, "Lat": 47.5, "lng": 8.25, "altitude": 408}]')
    points = read_control_points(path)
    assert points.on_earth and points.there.tolist() == [[47.5, 8.25, 408]]


@pytest.mark.parametrize("head", ["lat,lon,height", "Longitude,Latitude,Alt", "height,lat,lng"])
def test_the_first_line_says_which_columns_are_on_earth(tmp_path: Path, head: str) -> None:
    value = {"lat": "47.5", "latitude": "47.5", "lon": "8.25", "longitude": "8.25", "lng": "8.25"}
    last = ",".join(value.get(word.casefold(), "408") for word in head.split(","))
    (tmp_path / "p.csv").write_text(f"name,x,y,z,{head}\na,1,2,3,{last}\n")
    points = read_control_points(tmp_path / "p.csv")
    assert points.on_earth and points.there.tolist() == [[47.5, 8.25, 408]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected control points, `[NAME] x y z X Y Z` a line, found none"),
        ("a 1 2 3 4 5\n", "line 1: expected `[NAME] x y z X Y Z`, six numbers, got `a 1 2 3 4 5`"),
        ("1 2 3 4 5 6 7 8\n", "line 1: expected"),
        ("a 1 2 3 4 5 6\nb 1 2 nan 4 5 6\n", "line 2: expected"),
        ("a 1 2 3 4 5 6\na 1 2 3 4 5 6\n", "line 2: a is there already"),
        ("name,x,y,z,lat,Y,Z\n", "line 1: expected lat, lon and height over the last three columns"),
        ("[]", "expected control points"),
        ('[{"x": 1}, 3]', "point 1: expected numbers x, y, z, X, Y, Z, got `{"),
        ("name,x,y,z,lat,lon,h\na,1,2,3,95,8,400\n", "line 2: expected a latitude up to 90°"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DatasetError) as error:
        read_control_points(tmp_path / "p.csv")
    assert str(error.value).startswith(f"{tmp_path / 'p.csv'}") and expected in str(error.value)
