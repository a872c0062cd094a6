"""Rules of scoring: one that is added to the list is trained, kept in map files and asked by queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ball_world import ColorEncoder, ball_frames, exact_map
from torch import Tensor, nn

import dsac.map_scoring
from dsac.localizer import Localizer
from dsac.map_scoring import RULES, scoring_from_json, scoring_rule
from dsac.mapping import FineTuningSettings
from dsac.mapping.fine_tuning import fine_tune
from dsac.mapping.views import Augmentation
from dsac.ransac import Correspondences, Hypotheses, PoseSolver, SoftInlierCount
from dsac.scene_map import SceneMap


class Scale(nn.Module):
    """The soft inlier count times a learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, hypotheses: Hypotheses, correspondences: Correspondences) -> Tensor:
        return self.factor * SoftInlierCount()(hypotheses, correspondences)


@dataclass(frozen=True)
class ScaledCount:
    """A rule that nobody but this file knows."""

    power: int = 1
    name: str = "scaled-count"

    def network(self) -> Scale:
        return Scale()

    def part(self, network: nn.Module | None) -> Any:
        return network

    def regression_loss(
        self, network: Any, cam_from_world: Any, pose_loss: Tensor, correspondences: Any
    ) -> Tensor:
        return (network.factor - 3.0).square() + 0 * pose_loss.sum()

    def solver(self, network: nn.Module | None) -> PoseSolver:
        return PoseSolver.rgb(16, scoring=self.part(network))

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ScaledCount:
        return cls(int(fields["power"]))


def test_a_rule_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(dsac.map_scoring, "RULES", (*RULES, ScaledCount(2)))
    frames = ball_frames(8)
    settings = FineTuningSettings(
        augmentation=Augmentation(0.9, 1.1, 10.0, 0.0, 1.0, 0.0),  # colours are coordinates here
        scoring="scaled-count",
        steps=2,
        score_steps=30,
        images_per_step=1,
        views_per_frame=1,
        num_hypotheses=4,
    )
    tuned = fine_tune(exact_map(192), frames, settings, encoder=ColorEncoder())
    assert tuned.info.scoring == ScaledCount(2)
    tuned.save(tmp_path / "a.dsac")
    loaded = SceneMap.load(tmp_path / "a.dsac")
    assert loaded.info.scoring == ScaledCount(2) and isinstance(loaded.score_network, Scale)
    assert loaded.score_network.factor != 1.0  # it was trained first
    localizer = Localizer(loaded, encoder=ColorEncoder())
    assert isinstance(localizer.solver, PoseSolver)
    assert localizer.solver.scoring.factor == loaded.score_network.factor  # type: ignore[attr-defined]
    assert localizer.solver.scoring is not loaded.score_network  # its own
    frame = frames[0]
    assert localizer.localize(frame.image, frame.camera).success


def test_rules_survive_their_json() -> None:
    from dataclasses import asdict

    for rule in RULES:
        assert scoring_from_json(asdict(rule)) == rule
        assert scoring_rule(rule.name) == rule
    with pytest.raises(ValueError, match="scoring: expected soft-count or score-network, got darts"):
        scoring_rule("darts")
    with pytest.raises(ValueError, match="scoring: expected soft-count or score-network, got darts"):
        FineTuningSettings(scoring="darts")


def test_the_soft_inlier_count_has_nothing_to_learn() -> None:
    rule = scoring_rule("soft-count")
    assert rule.network() is None and rule.part(None) is None
    assert replace(exact_map(96)).solver() == rule.solver(None)
