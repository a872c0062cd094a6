"""The benchmark of alternatives learns and asks with each; what it measures is not looked at."""

from __future__ import annotations

import torch
from ball_world import ColorEncoder, ball_frames
from head_ablation import ROWS, Clustered, Euclidean, Standardised, WithContext, table, with_context

from dsac.mapping.buffer import collect
from dsac.mapping.views import Augmentation
from dsac.networks.heads import HeadArchitecture, SceneHead


def test_other_heads_give_a_point_and_a_scale_for_each_row():
    features = torch.randn(500, 7, generator=torch.Generator().manual_seed(0))
    for kind in (Standardised, Euclidean, Clustered):
        head = kind(HeadArchitecture(7, 16, 1))
        head.fit_normalisation(features)
        coordinates = head(features.reshape(2, 250, 7))
        assert coordinates.points.shape == (2, 250, 3) and coordinates.scale.shape == (2, 250)
        assert torch.isfinite(coordinates.points).all() and (coordinates.scale > 0).all()


def test_context_is_the_same_in_training_and_in_a_query():
    """A view whose cells are all in the buffer has the mean there that a query of it has."""
    buffer = collect(
        ball_frames(), ColorEncoder(), short_side_px=96, num_views=12, buffer_size=10_000,
        augmentation=Augmentation(), seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    wide = with_context(buffer)
    channels = buffer.cells.features.shape[1]
    head = SceneHead(HeadArchitecture(2 * channels, 16, 1))
    rows = buffer.cells.view == 3
    expected = head(wide.cells.features[rows].float()).points
    found = WithContext(head)(buffer.cells.features[rows][None].float()).points[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)  # the mean is kept in the features' dtype


def test_a_row_of_the_table_holds_what_was_measured():
    record = {"part": "room, near", "row": "as it is", "seed": 0, "asked": 50, "localized": 40, "within_5": 30}
    record |= {"within_2": 10, "median": 3.14, "training_s": 12.0, "query_ms": 20.4, "kilobytes": 1304}
    assert "as it is" in ROWS
    elsewhere = record | {"part": "room, far", "row": "width 256"}
    assert table([record, elsewhere])[-1] == "| width 256 | not made | 80 / 60 / 20, 3.1 | 12 | 20 | 1304 |"
    assert table([record])[-1] == "| as it is | 80 / 60 / 20, 3.1 | 12 | 20 | 1304 |"
