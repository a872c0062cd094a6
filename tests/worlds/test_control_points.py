"""Maps in the world of control points: all agree, or the one to blame is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from dsac.errors import DatasetError
from dsac.geometry import Pose, Similarity, geo_of
from dsac.worlds import by_control_points

HERE = torch.tensor(
    [[0, 0, 0], [4, 0, 0.2], [4, 3, 1], [0, 3, 2], [2, 1, 0.5]], dtype=torch.float64
)  # of a room
TRUTH = Similarity(Pose.exp(torch.tensor([5.0, 3, -7, 0.1, -2, 0.5]).double()), 3.0)
NAMES = ["door", "window", "lamp", "shelf 2", "table"]


def _write(path: Path, there: torch.Tensor, head: str = "") -> str:
    rows = torch.cat([HERE[: len(there)], there], 1).tolist()
    lines = [",".join([name, *map(repr, row)]) for name, row in zip(NAMES, rows, strict=False)]
    path.write_text("\n".join([head, *lines]))
    return str(path)


def test_exact_points_give_the_exact_transform(tmp_path: Path) -> None:
    found = by_control_points(_write(tmp_path / "p.csv", TRUTH @ HERE))
    torch.testing.assert_close(found.world_from_this @ HERE, TRUTH @ HERE)
    assert found.metric and found.geo is None and found.names == NAMES
    assert found.residuals.max() < 1e-9 and found.agree.all()


def test_points_on_earth_make_the_world_east_north_up_of_the_first_or_where_one_says(tmp_path: Path) -> None:
    origin = (47.3769, 8.5417, 408.0)
    geo = geo_of(TRUTH @ HERE, origin)
    path = _write(tmp_path / "p.csv", geo, "name,x,y,z,lat,lon,height")
    found = by_control_points(path, origin=origin)
    torch.testing.assert_close(found.world_from_this @ HERE, TRUTH @ HERE, rtol=0, atol=1e-5)
    assert found.geo == origin
    found = by_control_points(path)
    assert found.geo == pytest.approx(tuple(geo[0].tolist()))
    torch.testing.assert_close(geo_of(found.world_from_this @ HERE, found.geo), geo, rtol=0, atol=1e-5)


def test_the_point_that_contradicts_the_others_is_named_with_what_they_say_without_it(tmp_path: Path) -> None:
    there = TRUTH @ HERE
    there[3] += torch.tensor([0.0, 1.5, 0.0])
    path = _write(tmp_path / "p.csv", there)
    with pytest.raises(
        DatasetError, match=r"p.csv: shelf 2 contradicts the others: it is off by 1\.5, and with"
    ):
        by_control_points(path)
    found = by_control_points(path, tolerance=1.5)  # who says so may have it
    assert found.residuals.argmax() == 3


def test_points_of_which_several_are_wrong_are_refused_with_how_many_agree(tmp_path: Path) -> None:
    there = TRUTH @ HERE
    there[3] += 3.0
    there[1, 0] -= 1.0
    with pytest.raises(DatasetError, match="contradict each other, 3 of 5 agree: the worst is shelf 2, off by"):
        by_control_points(_write(tmp_path / "p.csv", there))
    there = 10 * torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.raises(DatasetError, match="contradict each other"):
        by_control_points(_write(tmp_path / "p.csv", there))


def test_mirrored_points_are_called_so(tmp_path: Path) -> None:
    there = (TRUTH @ HERE)[:, [1, 0, 2]]
    with pytest.raises(DatasetError, match="as in a mirror: in one of the worlds an axis is negated, or two"):
        by_control_points(_write(tmp_path / "p.csv", there))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((TRUTH @ HERE)[:2], "p.csv: expected three points or more, got 2"),
        ((TRUTH @ HERE)[:1], "p.csv: expected three points or more, got 1"),
        (torch.arange(15).double().reshape(5, 3), "p.csv: expected points that are apart, got 5 in a line"),
        (torch.ones(5, 3).double(), "p.csv: expected points that are apart, got 5 all at one place"),
    ],
)
def test_too_few_points_and_points_in_a_line_are_refused(
    tmp_path: Path, there: torch.Tensor, expected: str
) -> None:
    with pytest.raises(DatasetError, match=expected):
        by_control_points(_write(tmp_path / "p.csv", there))


def test_three_points_that_contradict_each_other_want_a_fourth(tmp_path: Path) -> None:
    there = (TRUTH @ HERE)[:3]
    there[1] *= 2
    with pytest.raises(DatasetError, match="the three points contradict each other by .* a fourth would tell"):
        by_control_points(_write(tmp_path / "p.csv", there))


def test_a_rigid_fit_keeps_the_unit(tmp_path: Path) -> None:
    rigid = Similarity(TRUTH.motion)
    found = by_control_points(_write(tmp_path / "p.csv", rigid @ HERE), rigid=True)
    assert found.world_from_this.scale == 1.0
    with pytest.raises(DatasetError, match="contradict"):
        by_control_points(_write(tmp_path / "p.csv", TRUTH @ HERE), rigid=True)
    assert math.isclose(by_control_points(_write(tmp_path / "p.csv", TRUTH @ HERE)).world_from_this.scale, 3.0)
