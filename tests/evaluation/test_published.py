"""Published figures come out when the released pose files are scored with our metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dsac.evaluation import PoseError, evaluate_poses, published_rows, summarize

SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")
PERCENTAGES = ("percent_5cm_5deg", "percent_2cm_2deg", "percent_1cm_1deg")
COMPUTED = [row for row in published_rows() if row.estimates is not None]


@pytest.mark.parametrize("row", COMPUTED, ids=lambda row: f"{row.method}, {row.truth}")
def test_released_poses_score_as_published(row, recordings: Path):
    errors, summaries = [], []
    for scene in SCENES:
        evaluation = evaluate_poses(
            recordings / f"published/estimates/{row.truth}/7scenes/{scene}_{row.estimates}.txt",
            recordings / f"published/pgt/{row.truth}/7scenes/{scene}_test.txt",
        )
        errors += evaluation.errors.values()
        summaries += evaluation.summaries
    pooled = PoseError(
        torch.cat([error.rotation_deg for error in errors]),
        torch.cat([error.translation_m for error in errors]),
    )
    complete = summarize(pooled, row.truth)
    assert complete.num_images == 17_000
    for name in PERCENTAGES:
        scored = {scene: getattr(summary, name) for scene, summary in zip(SCENES, summaries, strict=True)}
        scored["mean"] = sum(scored.values()) / len(SCENES)
        scored["complete"] = getattr(complete, name)
        assert scored == pytest.approx(getattr(row, name), abs=0.1)


def test_figures_of_the_literature_are_in_the_table():
    """From the tables of the papers (`complete` and `mean`, 5 cm 5°), not from our own computation."""
    known = {(row.method, row.truth): row.percent_5cm_5deg for row in published_rows()}
    for method, complete in (
        ("Active Search", 62.7),
        ("DSAC* RGB", 79.3),
        ("DSAC* RGB-D", 94.6),
        ("hloc", 75.1),
    ):
        assert known[method, "dslam"]["complete"] == pytest.approx(complete, abs=0.051)
    for method, mean in (("Active Search", 98.5), ("DSAC* RGB", 97.8), ("hloc", 95.7), ("ACE", 97.1)):
        assert known[method, "sfm"]["mean"] == pytest.approx(mean, abs=0.051)
