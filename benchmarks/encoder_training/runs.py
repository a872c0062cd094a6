"""How the trainings of this folder are run: options, progress, log, checkpoint, and the weights at the end."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from scripts import one_line_errors
from torch import Tensor

from dsac.datasets.storage import write_atomically
from dsac.errors import MapFormatError
from dsac.mapping.training import Checkpoint
from dsac.networks.encoder import ENCODERS, EfficientNetLite, load_encoder, read_encoder
from dsac.ransac.types import check_positive
from encoder_training.pack import Pack, load_pack

_PHOTOS = {".jpg", ".jpeg", ".png"}
_SAVE_SECONDS = 300.0
_LOG_STEPS = 25


class Training(Protocol):
    """What is trained. What a step draws depends on seed and step alone; all else is in `state`."""

    pack: Pack
    settings: Any  # a dataclass with `steps`
    step: int

    def train_step(self, progress: float) -> dict[str, float]:
        """One update at `progress` (0 to 1) of the schedule; numbers to be told."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """The encoder's, that are kept."""
        ...

    def state(self) -> dict: ...

    def resume(self, state: dict) -> None: ...


def run(
    name: str,
    about: str | None,
    settings_of: Callable[..., Any],
    make: Callable[[Pack, Any, argparse.Namespace], Training],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    part: str = ".",
) -> None:
    """A command with the options of a settings class, for what `make` makes; results go to `part` of OUTPUT."""
    parser = argparse.ArgumentParser(
        name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder with JPEGs or PNGs of anything")
    parser.add_argument("--output", type=Path, required=True, help="weights, checkpoint, log and image cache")
    devices = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--device", choices=devices, default=devices[0], help="those that are here")
    parser.add_argument("--galleries", type=int, default=6, help="walls of 24 photos")
    parser.add_argument("--rooms", type=int, default=6, help="furnished rooms, of one layout")
    parser.add_argument("--places", type=int, default=28, help="rooms full of things, of as many layouts")
    parser.add_argument("--frames", type=int, default=60, help="frames of a room or place")
    parser.add_argument("--minutes", type=float, help="time for this training, instead of its steps")
    options = [option for option in fields(settings_of) if isinstance(option.default, (int, float))]
    for option in options:
        flag = f"--{option.name.replace('_', '-')}"
        parser.add_argument(flag, default=option.default, type=type(option.default))
    add_options(parser)
    arguments = parser.parse_args()
    try:
        settings = settings_of(**{option.name: getattr(arguments, option.name) for option in options})
        if arguments.minutes is not None:
            check_positive(minutes=arguments.minutes)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    output = arguments.output / part
    go_on = f"interrupted: the same command goes on from what is in {output}"
    with one_line_errors(parser, go_on):
        photos = sorted(path for path in arguments.photos.iterdir() if path.suffix.lower() in _PHOTOS)
        scenes = {kind: getattr(arguments, kind) for kind in ("galleries", "rooms", "places", "frames")}
        pack = load_pack(photos, **scenes, cache=arguments.output).to(arguments.device)
        train(make(pack, settings, arguments), output, arguments.minutes)


def encoder_of(id: str, device: str = "cpu", dtype: torch.dtype | None = None) -> EfficientNetLite:
    """One that ships, or that of a file of weights. Raises: `MapFormatError` when the file holds none."""
    if id in ENCODERS:
        return load_encoder(id, device, dtype)
    try:
        return read_encoder(id, Path(id).read_bytes(), device, dtype)
    except (SafetensorError, RuntimeError) as error:
        raise MapFormatError(f"{id}: expected weights of an encoder, got something else") from error


def train(trainer: Training, output: Path, minutes: float | None) -> None:
    """To the end of the settings' steps, or of so many minutes in all; an interrupt keeps what was learned.

    Raises: `MapFormatError` when the checkpoint in the output folder is damaged.
    """
    output.mkdir(parents=True, exist_ok=True)
    made_of, seconds = _made_of(trainer), 0.0
    checkpoint = Checkpoint.at(output / "checkpoint.pt", "training the encoder", resume=True)
    if checkpoint.state is not None:
        if checkpoint.state.get("made_of") != made_of:
            raise MapFormatError(f"{checkpoint.path}: of other images or settings; give another --output")
        trainer.resume(dict(checkpoint.state))
        seconds = checkpoint.state["seconds"]

    def save() -> None:
        checkpoint.save({**trainer.state(), "seconds": seconds, "made_of": made_of})
        weights = {name: value.cpu().contiguous() for name, value in trainer.weights().items()}
        write_atomically(output / "encoder.safetensors", safetensors.torch.save(weights))

    begin, last_save = time.monotonic() - seconds, time.monotonic()
    columns = (*Progress.get_default_columns()[:3], TimeRemainingColumn(), TextColumn("{task.fields[state]}"))
    with (output / "log.jsonl").open("a") as log, Progress(*columns) as bar:
        task = bar.add_task("training the encoder", total=1.0, state="")
        log.write(json.dumps({**made_of, "minutes": minutes}) + "\n")
        parts: list[dict[str, float]] = []
        while True:
            seconds = time.monotonic() - begin
            progress = trainer.step / trainer.settings.steps if minutes is None else seconds / (60 * minutes)
            if progress >= 1 or time.monotonic() - last_save > _SAVE_SECONDS:
                save()
                last_save = time.monotonic()
            if progress < 1:
                try:
                    parts.append(trainer.train_step(progress))
                except KeyboardInterrupt:
                    save()
                    raise
                bar.update(task, completed=progress)
            if parts and (progress >= 1 or trainer.step % _LOG_STEPS == 0):
                mean = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
                line = {"step": trainer.step, "progress": progress, "seconds": seconds, **mean}
                log.write(json.dumps({name: round(value, 4) for name, value in line.items()}) + "\n")
                log.flush()
                bar.update(task, state=", ".join(f"{name} {value:.3g}" for name, value in mean.items()))
                parts = []
            if progress >= 1:
                break


def _made_of(trainer: Training) -> dict:
    """What a checkpoint must have in common with a training that goes on from it."""
    pack = trainer.pack
    images = {"images": len(pack), "scenes": int(pack.scene.max()) + 1, "bytes": pack.halved.sum().item()}
    return json.loads(json.dumps({**images, **asdict(trainer.settings)}))
