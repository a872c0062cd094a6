"""The table of far views: which frames are mapped and asked, what is scored, and what is written."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import replace

import far_views
import numpy as np
import pytest
import torch
from ball_world import ball_frames
from far_splits import NEAR_M, SPLITS, joined, near, spread, thinned
from far_views import ROWS, build, measure, scores, table

from dsac import Frames, MappingSettings, Pose, build_map
from dsac.rooms import synthetic_scene
from dsac.rooms.scene import write_scene

RECORD = {"split": "hololens", "group": ", far", "row": "SIFT", "most_queries": 60, "metric": True}
RECORD |= {"mapping_frames": 250, "query_ms": 812.3, "map_mb": 30.46, "mapping_s": 68.2}
RECORD |= scores([(0.5, 0.2), (3, 4), (30, 2), (math.inf, math.inf), (math.inf, math.inf)])


@pytest.mark.parametrize(("count", "most"), [(1, 60), (10, 10), (128, 43), (250, 60)])
def test_spread_numbers_are_as_many_as_asked_and_reach_both_ends(count: int, most: int):
    numbers = spread(count, most)
    assert len(numbers) == min(count, most) and numbers[0] == 0 and (most == 1 or numbers[-1] == count - 1)
    assert max(np.diff(numbers), default=0) <= math.ceil((count - 1) / max(1, len(numbers) - 1))


def _unread(count: int) -> Frames:
    """Frames with names and places."""
    steps = torch.randn(count, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    names = [f"{i:03d}" for i in range(count)]
    return replace(
        ball_frames(1), names=names, camera_index=np.zeros(count, np.int64), cam_from_world=Pose.exp(steps)
    )


def test_no_query_is_a_mapping_frame():
    frames = _unread(252)
    for split in SPLITS.values():
        for query in (frames[[250, 251]], frames[:0]):
            mapping, groups = split.choose(frames[:250], query)
            asked = [name for group in groups.values() for name in group.names]
            assert len(mapping) and not {*mapping.names} & {*asked}


def test_every_third_photo_is_mapped_whatever_list_it_is_in():
    frames = _unread(9)
    both = joined(frames[[0, 2, 4, 6, 8]], frames[[1, 3, 5, 7]])
    assert both.names == frames.names
    assert both.cam_from_world is not None and frames.cam_from_world is not None
    torch.testing.assert_close(both.cam_from_world.matrix, frames.cam_from_world.matrix)
    mapping, groups = SPLITS["south-building, every third"].choose(
        frames[[1, 2, 4]], frames[[0, 3, 5, 6, 7, 8]]
    )
    assert mapping.names == ["000", "003", "006"] and groups[""].names == [
        "001",
        "002",
        "004",
        "005",
        "007",
        "008",
    ]
    assert thinned(groups[""], 2).names == ["001", "008"]


def test_a_query_is_near_by_its_place_and_where_it_looks():
    beside = Pose.exp(
        torch.tensor([[0, 0, 3.0, 0, 0, 0], [0, 0, 0, 2 * NEAR_M, 0, 0], [0, 1.0, 0, 0, 0, 0]]).double()
    )
    assert near(beside, Pose.identity(1, dtype=torch.float64)).tolist() == [True, False, False]


def test_scores_count_what_is_not_localized():
    assert RECORD["queries"] == 5 and RECORD["percent_localized"] == 60
    assert [RECORD[f"percent_{limit}"] for limit in (5, 2, 1)] == [40, 20, 20]
    assert RECORD["percent_wrong"] == 20 and RECORD["median"] == 30 and RECORD["median_deg"] == 4
    assert scores([(math.inf, math.inf)])["median"] is None


def test_the_table_has_a_line_a_row_and_says_the_unit():
    other = RECORD | {"row": "default", "median": None}
    again = RECORD | {"query_ms": 700.0}
    fox = RECORD | {"split": "fox, every fifth", "group": "", "metric": False}
    text = table([RECORD, other, again, fox])
    assert text.index("## fox, every fifth\n") < text.index("## hololens, far\n")
    lines = text[text.index("## hololens") :].splitlines()[-2:]
    assert lines[0].startswith("| default | 5 | 60 | 40 | 20 | 20 |  | 4.00 |")
    assert lines[1] == "| SIFT | 5 | 60 | 40 | 20 | 20 | 30.00 | 4.00 | 20 | 700 | 30.5 | 68 |"
    assert "5 % 5° %" in text and "5 cm 5° %" in text


def test_dsac_and_sift_map_a_room_and_a_run_is_not_made_twice(tmp_path, monkeypatch, capsys):
    write_scene(synthetic_scene(8, 3, (160, 120), light_cell=1.0), tmp_path / "7scenes" / "redkitchen")
    quick = MappingSettings(steps=2, num_views=8, num_landmarks=100)
    monkeypatch.setattr(far_views, "build_map", lambda frames, seed: build_map(frames, quick, seed=seed))
    for results in ("first", "second"):
        (tmp_path / results).mkdir()
    monkeypatch.setattr(far_views, "RESULTS", tmp_path / "first")
    split = "kitchen, 5 photos"
    part = SPLITS[split].load(tmp_path, 2)
    assert len(part.mapping) == 5 and [len(group) for group in part.queries.values()] == [2]
    ours = build(["default", "without matching"], part.mapping)
    assert all(mapped.megabytes > 0 for mapped in ours) and ROWS[0] == "default"
    options = Namespace(data=tmp_path, splits=[split], rows=["SIFT"], most_queries=2, peer_queries=1)
    measure(options)
    made = (tmp_path / "first" / "far_views.jsonl").read_text()
    measure(options)
    assert (tmp_path / "first" / "far_views.jsonl").read_text() == made and made.count("\n") == 1
    assert "| SIFT | 2 |" in (tmp_path / "first" / "far_views.md").read_text()
    assert made in capsys.readouterr().out
