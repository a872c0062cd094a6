"""What can be chosen in mapping and fine-tuning, with the values that serve every scene."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from dsac.map_scoring import RULES, scoring_rule
from dsac.mapping.views import Augmentation
from dsac.networks.heads import MOST_MODES
from dsac.networks.scene_networks import NetworkArchitecture

SelectionName = Literal["dsac", "softam", "argmax"]


@dataclass(frozen=True)
class MappingSettings:
    """How a scene is learned; the defaults serve every scene."""

    steps: int = 600
    """Training steps."""
    minutes: float | None = None
    """For all of mapping; replaces `steps`. Depth and landmarks take what they need, features one view a frame
    and more only within two fifths of the time; training gets the rest, 5 s at least."""
    batch_size: int = 4096
    """Cells in a step."""
    learning_rate: float = 1e-2
    """Highest rate of the one-cycle schedule."""
    weight_decay: float = 0.01
    width: int = 256
    """Width of the head's layers."""
    num_blocks: int = 2
    """Residual blocks of the head."""
    num_modes: int = 1
    """Scene coordinates that the head gives for a cell, each with a probability: several where a place repeats
    itself."""
    feature_noise: float = 1.0
    """Largest standard deviation of the noise on whitened features at the start of training, half of it at the
    end: so that the head does not lean on how things look from the mapping views alone."""
    reprojection_weight: float = 1.0
    """Of the reprojection loss beside the distance to known scene points."""
    num_views: int = 600
    """Augmented views in total, spread over the frames."""
    buffer_size: int = 3_000_000
    """Cells kept in memory (0.3 kB each with the shipped encoder)."""
    short_side_px: int = 240
    """Images are encoded at this short side; landmarks, which make the pose exact, have a size of their own."""
    num_landmarks: int = 8000
    """Scene points remembered with a patch of an image, spread over the frames (0.24 kB each), and up to twice
    as many with a descriptor (76 bytes each); 0 = none."""
    compact: bool = False
    """The file is a third as large: it holds everything in few levels (docs/scale.md)."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _check_positive(self, "steps", "minutes", "batch_size", "num_views", "buffer_size", "short_side_px")
        if not 1 <= self.num_modes <= MOST_MODES:
            raise ValueError(f"modes: expected 1 to {MOST_MODES}, got {self.num_modes}")
        for name in ("num_landmarks", "feature_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class NetworkSettings:
    """How a network of the papers learns a scene; the defaults are the published ones and want a GPU."""

    network: NetworkArchitecture
    steps: int = 300_000
    """Updates, each with one view."""
    minutes: float | None = None
    """For all of mapping; replaces `steps`. Triangulation takes what it needs; training gets the rest, 5 s at
    least."""
    learning_rate: float = 1e-4
    """Of Adam, at the start; halved five times."""
    short_side_px: int = 480
    """Images are resized to this short side."""
    augmentation: Augmentation = Augmentation(2 / 3, 3 / 2, 30.0, 0.1, max_gamma=1.0, max_blur_px=0.0)
    """DSAC*'s."""

    def __post_init__(self) -> None:
        _check_positive(self, "steps", "minutes", "learning_rate", "short_side_px")


@dataclass(frozen=True)
class ForestSettings:
    """How the forests learn a scene; the defaults take minutes on two cores."""

    num_trees: int = 4
    """Of each kind: those that see colours, and with depth those that see it, too."""
    samples_per_frame: int = 2000
    """Pixels of each frame that a tree learns from; a third of them for trees that see depth."""
    num_frames: int = 500
    """At most, evenly spread."""
    short_side_px: int = 240
    """Images are looked at in this short side."""
    max_roll_deg: float = 20.0
    """By which pixels are turned at random, without depth."""
    auto_context: bool = False
    """Colour trees see what a first forest guesses. It is the paper's; in the kitchen it is 20 points worse."""
    max_scale: float = 1.3
    """By which what surrounds them is made larger or smaller at random, without depth."""

    def __post_init__(self) -> None:
        _check_positive(self, "num_trees", "samples_per_frame", "num_frames", "short_side_px", "max_scale")
        if self.num_trees > _MOST_TREES:
            raise ValueError(f"trees: expected 1 to {_MOST_TREES}, got {self.num_trees}")


@dataclass(frozen=True)
class FineTuningSettings:
    """How a map is trained on its poses."""

    selection: SelectionName = "dsac"
    """Which poses the expected loss is taken over."""
    scoring: str = RULES[0].name
    """What scores hypotheses, now and when the map is used: the name of a rule in `map_scoring`."""
    encoder: bool = False
    """Train the encoder too; the map then holds its weights."""
    steps: int = 120
    """Training steps."""
    learning_rate: float = 3e-5
    """Of Adam, for the head; falls to zero along half a cosine."""
    temperature: float = 1.0
    """Of the softmax over scores (soft inliers in percent, or -10 times the expected loss)."""
    num_hypotheses: int = 32
    images_per_step: int = 4
    thinning: int = 2
    """Side of the blocks of cells of which one random cell each is used."""
    max_gradient_norm: float = 1.0
    views_per_frame: int = 2
    """Augmented views of each frame; one takes 1.4 MB with the shipped encoder."""
    num_frames: int = 250
    """At most, evenly spread."""
    num_validation_frames: int = 25
    """At most a quarter of the frames."""
    validate_every: int = 60
    """Steps between looks at the validation slice."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    score_steps: int = 200
    """Steps in which a new score network learns the loss of noisy poses, before the rest begins."""

    def __post_init__(self) -> None:
        numbers = [f.name for f in fields(self) if type(getattr(self, f.name)) in (int, float)]
        _check_positive(self, *numbers)
        scoring_rule(self.scoring)


_MOST_TREES = 100


def _check_positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name}: expected more than 0, got {value}")
