"""`dsac fine-tune`: a map is trained on what it is for, the poses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsac.cli.console import let_kernels_compile, out, training_progress
from dsac.cli.options import (
    Device,
    Flag,
    Maybe,
    Positional,
    check_seed,
    choose_device,
    given,
    read_scene,
    users_mistakes,
)
from dsac.cli.outputs import check_writable, is_map
from dsac.cli.process import let_waiting_threads_sleep
from dsac.errors import DsacError

if TYPE_CHECKING:
    from dsac.mapping.fine_tuning import FineTuningProgress


@dataclass(frozen=True)
class FineTune:
    """Train a map end to end on the poses of the recording that it was made from.

    A slice of the mapping frames, seen at other scales, rolls and exposures, decides: the map that does best on
    it is written, and the map you start from is the first candidate. Query frames, and those that mapping held
    out, are never looked at. Ctrl-C writes the best so far. Of a map of several regions their heads are trained
    together with what tells of which region a photo is.

    For example:
      $ dsac fine-tune kitchen.dsac 7scenes/redkitchen --output tuned.dsac
    """

    map: Positional[Path]
    """The map file."""
    scene: Positional[str]
    """Folder (or URL) of the recording that it was made from."""
    output: Maybe[Path] = None
    """The map file to write; default: in place of the old one."""
    truth: Maybe[str] = None
    """Which of the recording's truths the map is in, where it has several (7-Scenes: sfm, dslam)."""
    max_gap: Maybe[float] = None
    """Seconds between an image and its pose, at most, in formats with timestamps (default: 0.02)."""
    selection: Literal["dsac", "softam", "argmax"] = "dsac"
    """Which poses the expected loss is taken over: all hypotheses, their mean, or the best."""
    scoring: Maybe[str] = None
    """What scores hypotheses: soft-count (default), or score-network, which is trained first and then used
    by the map (12 MB)."""
    encoder: Flag = False
    """Train the encoder too: the map then holds its weights (0.7 MB)."""
    steps: Maybe[int] = None
    """Training steps, of all regions together (default: 120)."""
    learning_rate: Maybe[float] = None
    """Of Adam, at the start (default: 3e-05)."""
    views_per_frame: Maybe[int] = None
    """Augmented views of each mapping frame, 1.4 MB each (default: 2)."""
    resume: Flag = False
    """Go on from the checkpoint that an unfinished fine-tuning to the same file left."""
    seed: int = 0
    """The same seed gives the same map on the same machine."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        let_waiting_threads_sleep()
        from dsac.atlas import Atlas
        from dsac.localizer import Localizer
        from dsac.mapping import FineTuningSettings, TunedRegions, fine_tune, fine_tune_regions

        path = self.output or self.map
        if path == self.map:
            check_writable(path)
        else:
            check_writable(path, is_map)
        checkpoint, log_path = (path.with_name(path.name + end) for end in (".tuning", ".tuning.jsonl"))
        if self.resume and not checkpoint.is_file():
            raise DsacError(f"{checkpoint}: nothing to resume, expected what an unfinished fine-tuning left")
        with users_mistakes():
            settings = FineTuningSettings(
                selection=self.selection,
                encoder=self.encoder,
                **given(
                    scoring=self.scoring,
                    steps=self.steps,
                    learning_rate=self.learning_rate,
                    views_per_frame=self.views_per_frame,
                ),
            )
        check_seed(self.seed)
        device = choose_device(self.device)
        known = Localizer.load(self.map).scene_map  # which looks for its encoder
        tune = partial(fine_tune_regions, known) if isinstance(known, Atlas) else partial(fine_tune, known)
        scene = read_scene(self.scene, self.truth, self.max_gap)
        let_kernels_compile()
        with training_progress(log_path, checkpoint, self.resume) as show:
            made = tune(
                scene,
                settings,
                device=device,
                seed=self.seed,
                checkpoint=checkpoint,
                resume=self.resume,
                on_progress=lambda progress: show(progress, _note(progress)),
            )
            several = isinstance(made, TunedRegions)
            tuned, record = made if several else (made, made.info.training["fine_tuning"])
            tuned.save(path)
        _show(path, "loss expected over regions" if several else "mean error", record, tuned.info.metric)
        if record["interrupted"]:
            out.print("interrupted: the best map so far is usable, --resume goes on", style="yellow")
            raise KeyboardInterrupt
        checkpoint.unlink(missing_ok=True)


def _note(progress: FineTuningProgress) -> str:
    if progress.phase == "features":
        return ""
    validation = f", validation {progress.best_validation:.2f}" if progress.phase == "training" else ""
    return f"loss {progress.loss:.2f}{validation}"


def _show(path: Path, what: str, record: dict[str, Any], metric: bool | None) -> None:
    lengths = "cm" if metric else "hundredths of the recording's unit"
    out.print(
        f"{path}: {what} on the validation slice {record['validation_before']:.2f} -> "
        f"{record['validation_after']:.2f} (degrees or {lengths}, whichever is more), "
        f"best at step {record['best_step']} of {record['trained_steps']}, {record['seconds']:.0f} s",
        soft_wrap=True,
    )
