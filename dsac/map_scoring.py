"""How the hypotheses in a map are scored: a class for each rule, and the list of them.

A rule that is added here, class and line of the list, can be trained by `dsac fine-tune --scoring`, is kept in
map files with its weights, and localizes photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from dsac.geometry import Pose
from dsac.networks.score_network import ScoreArchitecture, ScoreNetwork
from dsac.ransac import Correspondences, DenseSolver, LearnedScore, PoseSolver, Scoring, Solver

NETWORK = "score-network"  # the one rule that maps from before may have


@runtime_checkable
class MapScoring(Protocol):
    """What maps and fine-tuning ask of a rule: a frozen dataclass of plain values, which the map file holds."""

    @property
    def name(self) -> str:
        """In map files and on the command line."""
        ...

    def network(self) -> nn.Module | None:
        """What the rule learns, untrained; None: nothing."""
        ...

    def part(self, network: nn.Module | None) -> Scoring | None:
        """The third step of a `PoseSolver` in training; None: its own."""
        ...

    def regression_loss(
        self,
        network: nn.Module,
        cam_from_world: Pose,  # batch (B, H)
        pose_loss: Float[Tensor, "B H"],
        correspondences: Correspondences,
    ) -> Float[Tensor, ""]:
        """What a new network is trained by first, on noisy poses whose losses are known."""
        ...

    def solver(self, network: nn.Module | None) -> Solver:
        """What localizes photos."""
        ...

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> MapScoring:
        """From what `dataclasses.asdict` made. Raises: `LookupError`, `TypeError`, `ValueError`."""
        ...


@dataclass(frozen=True)
class SoftCount:
    """Soft inliers: nothing to learn, and the dense search counts them for every pose it finds."""

    name: str = "soft-count"

    def network(self) -> None:
        return None

    def part(self, network: nn.Module | None) -> None:
        return None

    def regression_loss(
        self, network: nn.Module, cam_from_world: Pose, pose_loss: Tensor, correspondences: Correspondences
    ) -> Tensor:
        raise TypeError("the soft inlier count has no network to train")

    def solver(self, network: nn.Module | None) -> Solver:
        return DenseSolver.rgb()

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> SoftCount:
        return cls()


@dataclass(frozen=True)
class NetworkScore:
    """DSAC's own: a network that looks at the image of errors (`networks/score_network.py`)."""

    architecture: ScoreArchitecture = ScoreArchitecture()
    name: str = NETWORK

    def network(self) -> ScoreNetwork:
        return ScoreNetwork(self.architecture)

    def part(self, network: nn.Module | None) -> LearnedScore:
        assert network is not None
        return LearnedScore(network)

    def regression_loss(
        self,
        network: nn.Module,
        cam_from_world: Pose,
        pose_loss: Float[Tensor, "B H"],
        correspondences: Correspondences,
    ) -> Float[Tensor, ""]:
        return LearnedScore(network).regression_loss(cam_from_world, pose_loss, correspondences)

    def solver(self, network: nn.Module | None) -> Solver:
        return PoseSolver.rgb(scoring=self.part(network))

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> NetworkScore:
        return cls(ScoreArchitecture.from_json(fields["architecture"]))


RULES: tuple[MapScoring, ...] = (SoftCount(), NetworkScore())  # as new maps have them; the first is the default


def scoring_rule(name: str) -> MapScoring:
    """The rule of that name. Raises: `ValueError` that says which there are."""
    for rule in RULES:
        if rule.name == name:
            return rule
    raise ValueError(f"scoring: expected {' or '.join(rule.name for rule in RULES)}, got {name}")


def scoring_from_json(fields: Mapping[str, Any]) -> MapScoring:
    """What a map file says. Raises: `LookupError`, `TypeError`, `ValueError` for something else."""
    return type(scoring_rule(fields["name"])).from_json(fields)
