"""Fine-tuning: a map's head trained end to end on the pose error, through the differentiable solver.

    map ─▶ scene coordinates of whole views ─▶ PoseSolver.expected_loss ─▶ head

The encoder stays frozen, so views are encoded once. Some mapping frames are kept out as a validation slice; the
best head on them wins, and the map that came in is the first candidate. Query frames are never looked at.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets import Frames
from dsac.errors import DatasetError, MapFormatError
from dsac.geometry import Camera, Pose
from dsac.localizer import cell_weights
from dsac.mapping.buffer import evenly_spread
from dsac.mapping.views import Augmentation, View, plain_view, random_view
from dsac.networks.encoder import Encoder, cell_centers, working_size
from dsac.networks.heads import SceneHead
from dsac.ransac import (
    DSAC,
    Argmax,
    Correspondences,
    MaxError,
    PoseSolver,
    RobustRefinement,
    SoftAM,
    WeightedError,
)
from dsac.scene_map import SceneMap, write_atomically

SelectionName = Literal["dsac", "softam", "argmax"]


@dataclass(frozen=True)
class FineTuningSettings:
    """How a map is trained on its poses."""

    selection: SelectionName = "dsac"
    """Which poses the expected loss is taken over."""
    steps: int = 400
    """Training steps."""
    learning_rate: float = 3e-6
    """Of Adam; falls to zero along half a cosine. From 1e-5 on, a good map gets worse (red kitchen)."""
    temperature: float = 1.0
    """Of the softmax over scores (soft inliers in percent)."""
    num_hypotheses: int = 32
    images_per_step: int = 4
    cells_per_image: int = 1200
    """Drawn anew in each step."""
    max_gradient_norm: float = 1.0
    num_views: int = 400
    """Encoded views kept in memory (1.4 MB each with the shipped encoder): half plain, half augmented."""
    num_validation_frames: int = 25
    """At most a quarter of the frames."""
    validate_every: int = 50
    """Steps."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, str) and not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")


@dataclass(frozen=True)
class FineTuningProgress:
    """Where fine-tuning stands; handed to `on_progress`."""

    phase: Literal["features", "training"]
    fraction: float  # of the phase, 0 to 1
    elapsed: float  # seconds since the start
    step: int = 0
    loss: float = math.nan  # expected pose loss of the step's images: degrees + cm, softly clamped
    gradient_norm: float = math.nan  # before it was clamped
    validation: float = math.nan  # mean pose error on the slice, see `validation_error`; only where measured
    best_validation: float = math.nan


@dataclass(frozen=True)
class EncodedView:
    """A view's cells that show the photo, encoded, with what the solver needs beside their scene points."""

    features: Tensor  # (N, C)
    pixels: Float[Tensor, "N 2"]
    camera: Camera
    cam_from_world: Pose  # batch ()


def fine_tune(
    scene_map: SceneMap,
    frames: Frames,
    settings: FineTuningSettings | None = None,
    *,
    encoder: Encoder | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: Callable[[FineTuningProgress], None] = lambda progress: None,
) -> SceneMap:
    """The map with the head that localizes the validation slice of `frames` best; `scene_map` stays as it is.

    Interrupted (KeyboardInterrupt) while training, it returns the best head so far, and with a `checkpoint`
    file `resume=True` goes on from there. Raises: `DatasetError` when there are fewer than four frames with
    poses, `MapFormatError` when encoder or checkpoint are not the map's.
    """
    settings, device, started = settings or FineTuningSettings(), torch.device(device), time.monotonic()
    if len(frames) < 4 or frames.cam_from_world is None:
        raise DatasetError(f"fine-tuning needs four or more frames with poses, got {len(frames)}")
    state = _read_checkpoint(checkpoint) if resume and checkpoint is not None else None
    if not isinstance(scene_map.head, SceneHead):
        raise MapFormatError("fine-tuning is for maps of the shared encoder, got a network trained whole")
    encoder = encoder or scene_map.load_encoder(device)
    scene_map.check_encoder(encoder)

    frames = evenly_spread(frames.without_depth(), max(4, settings.num_views // 2))
    number = min(settings.num_validation_frames, len(frames) // 4)
    held_out = np.linspace(0, len(frames) - 1, number + 2).round().astype(int)[1:-1]
    views: list[EncodedView] = []
    slice_: list[EncodedView] = []
    for i in range(len(frames)):
        pair = _encoded_pair(frames, i, scene_map, encoder, seed, device)
        (slice_ if i in held_out else views).extend(pair)
        on_progress(FineTuningProgress("features", (i + 1) / len(frames), time.monotonic() - started))

    head = SceneHead(scene_map.head.architecture).to(device)
    head.load_state_dict(scene_map.head.state_dict())
    training = _train(head, views, slice_, settings, seed, started, checkpoint, state, on_progress)
    info = replace(
        scene_map.info,
        training={**scene_map.info.training, "fine_tuning": {**asdict(settings), "seed": seed, **training}},
    )
    return replace(scene_map, head=head.cpu().eval().requires_grad_(False), info=info)


@torch.no_grad()
def validation_error(head: SceneHead, views: list[EncodedView]) -> float:
    """Mean of max(degrees, centimetres) over views, each at most 10; localized as queries are."""
    solver, loss = PoseSolver.rgb(), MaxError()
    errors = []
    for view in views:
        estimate = solver(_correspondences(head, [view]))
        error = loss(estimate.cam_from_world, view.cam_from_world.to(view.pixels))
        errors.append(error.item() if estimate.success.item() else math.inf)
    return sum(min(error, 10.0) for error in errors) / len(errors)


def _encoded_pair(
    frames: Frames, index: int, scene_map: SceneMap, encoder: Encoder, seed: int, device: torch.device
) -> list[EncodedView]:
    """The frame itself and an augmented view of it."""
    frame = frames[index]
    size = working_size(frame.camera.size, scene_map.info.short_side_px, encoder.size_multiple)
    rng = np.random.default_rng([seed, index])
    pair = [
        plain_view(frame, size, encoder.stride),
        random_view(frame, size, encoder.stride, Augmentation(), rng),
    ]
    return [_encode(view, encoder, device) for view in pair]


@torch.no_grad()
def _encode(view: View, encoder: Encoder, device: torch.device) -> EncodedView:
    features = encoder(view.image[None].to(device))[0].flatten(1).T
    pixels = cell_centers(view.camera.size, encoder.stride).reshape(-1, 2).float()
    rows = view.inside.flatten().nonzero()[:, 0]
    camera = view.camera.to(device, torch.float32)
    return EncodedView(features[rows.to(device)], pixels[rows].to(device), camera, view.cam_from_world)


def _correspondences(
    head: SceneHead,
    views: list[EncodedView],
    cells: int | None = None,
    generator: torch.Generator | None = None,
) -> Correspondences:
    """What the head sees in the views; with `cells`, in as many random cells of each."""
    if cells is not None:
        rows = [torch.randint(len(view.pixels), (cells,), generator=generator) for view in views]
        rows = [r.to(view.pixels.device) for r, view in zip(rows, views, strict=True)]
        views = [
            replace(v, features=v.features[r], pixels=v.pixels[r]) for v, r in zip(views, rows, strict=True)
        ]
    predicted = head(torch.stack([view.features for view in views]).float())
    camera = Camera(
        torch.stack([view.camera.focal_px for view in views]),
        torch.stack([view.camera.center_px for view in views]),
        views[0].camera.size,
    )
    pixels = torch.stack([view.pixels for view in views])
    return Correspondences(pixels, predicted.points, camera, weights=cell_weights(predicted.scale))


def _solver(settings: FineTuningSettings) -> PoseSolver:
    selection = {
        "dsac": DSAC(settings.temperature),
        "softam": SoftAM(settings.temperature),
        "argmax": Argmax(),
    }[settings.selection]
    refinement = RobustRefinement(max_points=256)
    return PoseSolver.rgb(settings.num_hypotheses, selection=selection, refinement=refinement)


def _train(
    head: SceneHead,
    views: list[EncodedView],
    slice_: list[EncodedView],
    settings: FineTuningSettings,
    seed: int,
    started: float,
    checkpoint: Path | None,
    state: dict[str, Any] | None,
    on_progress: Callable[[FineTuningProgress], None],
) -> dict[str, Any]:
    """Leave the best head in `head`, and tell how it came about."""
    solver, pose_loss = _solver(settings), WeightedError()
    head.requires_grad_(True)
    optimizer = torch.optim.Adam(head.parameters(), settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    by_size: dict[tuple[int, int], list[EncodedView]] = {}
    for view in views:
        by_size.setdefault(view.camera.size, []).append(view)
    pools = list(by_size.values())
    shares = torch.tensor([float(len(pool)) for pool in pools])
    step, interrupted = 0, False
    if state is None:
        best = _as_saved(head)
        start_error = best_error = validation_error(_with(head, best), slice_)
        best_step = 0
    else:
        try:
            head.load_state_dict(state["head"])
            optimizer.load_state_dict(state["optimizer"])
            generator.set_state(state["generator"].cpu())
            step, best, best_step = state["step"], state["best"], state["best_step"]
            start_error, best_error = state["start_error"], state["best_error"]
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise MapFormatError(
                f"{checkpoint}: expected the checkpoint of fine-tuning this map with these settings; "
                "start again without resuming"
            ) from error

    def report(**measured: float) -> None:
        on_progress(
            FineTuningProgress(
                "training", step / settings.steps, time.monotonic() - started, step,
                best_validation=best_error, **measured,
            )
        )  # fmt: skip

    try:
        report(validation=best_error)
        while step < settings.steps:
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            pool = pools[int(torch.multinomial(shares, 1, generator=generator))]
            drawn = torch.randint(len(pool), (settings.images_per_step,), generator=generator)
            batch = [pool[i] for i in drawn.tolist()]
            truth = Pose.stack([view.cam_from_world for view in batch])
            correspondences = _correspondences(head, batch, settings.cells_per_image, generator)
            truth = truth.to(correspondences.pixels)
            loss = solver.expected_loss(correspondences, truth, pose_loss, generator).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(head.parameters(), settings.max_gradient_norm)
            if torch.isfinite(norm):
                optimizer.step()
            step += 1
            measured = {"loss": loss.item(), "gradient_norm": norm.item()}
            if step % settings.validate_every == 0 or step == settings.steps:
                candidate = _as_saved(head)
                error = validation_error(_with(head, candidate), slice_)
                if error < best_error:
                    best, best_error, best_step = candidate, error, step
                measured["validation"] = error
            report(**measured)
    except KeyboardInterrupt:
        interrupted = True
        if checkpoint is not None:
            state = {
                "head": head.state_dict(), "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(), "step": step, "best": best, "best_step": best_step,
                "start_error": start_error, "best_error": best_error,
            }  # fmt: skip
            torch.save(state, data := io.BytesIO())
            write_atomically(checkpoint, data.getvalue())
    if not interrupted and checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    head.load_state_dict(best)
    return {
        "trained_steps": step,
        "best_step": best_step,
        "seconds": round(time.monotonic() - started, 1),
        "validation_before": start_error,
        "validation_after": best_error,
        "interrupted": interrupted,
    }


def _as_saved(head: SceneHead) -> dict[str, Tensor]:
    """The head's state after a round trip through the map file, which stores weights in half precision."""
    weights = dict(head.named_parameters())
    return {
        name: value.detach().half().float() if name in weights else value.detach().clone()
        for name, value in head.state_dict().items()
    }


def _with(head: SceneHead, state: dict[str, Tensor]) -> SceneHead:
    """Another head of this architecture in that state."""
    other = SceneHead(head.architecture).to(head.scene_center.device)
    other.load_state_dict(state)
    return other.eval()


def _read_checkpoint(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise MapFormatError(
            f"{path}: expected a checkpoint of fine-tuning, got something else or half of one; "
            "start again without resuming"
        ) from error
