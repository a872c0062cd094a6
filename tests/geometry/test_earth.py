"""Places on Earth and metres east, north and up."""

from __future__ import annotations

import pytest
import torch

from dsac.geometry import check_geo, east_north_up, geo_of

ORIGIN = (47.3769, 8.5417, 408.0)


def test_there_and_back_is_nothing_to_the_micrometre_for_kilometres_and_any_batch() -> None:
    points = 3000 * torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(east_north_up(geo_of(points, ORIGIN), ORIGIN), points, rtol=0, atol=1e-6)
    torch.testing.assert_close(geo_of(torch.zeros(3), ORIGIN), torch.tensor(ORIGIN, dtype=torch.float64))


def test_axes_are_east_north_up_and_a_minute_of_latitude_is_a_sea_mile() -> None:
    minute = 1 / 60
    latitude, longitude, height = ORIGIN
    geo = torch.tensor(
        [
            [latitude + minute, longitude, height],
            [latitude, longitude + minute, height],
            [*ORIGIN[:2], height + 5],
        ],
        dtype=torch.float64,
    )
    north, east, up = east_north_up(geo, ORIGIN)
    assert north[1] == pytest.approx(1852, rel=2e-3) and abs(north[0]) < 1e-6
    # a circle of latitude: its radius is a cos(latitude), and the ellipsoid's curvature makes it 0.2 % more
    assert east[0] == pytest.approx(6378137 * 1.0018 * 0.67714 * 0.000290888, rel=1e-3) and abs(east[1]) < 1
    torch.testing.assert_close(up, torch.tensor([0.0, 0.0, 5.0]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("point", [(91.0, 0.0, 0.0), (0.0, 181.0, 0.0), (0.0, 0.0, float("inf"))])
def test_what_is_no_place_on_earth_is_refused(point: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="latitude up to 90°"):
        check_geo(point)
