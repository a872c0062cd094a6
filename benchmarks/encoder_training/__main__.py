"""Train the encoder; goes on from the checkpoint in the output folder if there is one.

PYTHONPATH=.:benchmarks python -m encoder_training --photos FOLDER --output runs/encoder --minutes 60
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, fields
from pathlib import Path

import safetensors.torch
import torch
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from tables import one_line_errors

from dsac.datasets.storage import write_atomically
from dsac.mapping.training import Checkpoint
from dsac.networks.encoder import load_encoder
from encoder_training.pack import load_pack
from encoder_training.training import Trainer, TrainingSettings

_PHOTOS = {".jpg", ".jpeg", ".png"}
_SAVE_SECONDS = 300.0
_LOG_STEPS = 25


def main() -> None:
    parser = argparse.ArgumentParser(
        "encoder_training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
    for option in fields(TrainingSettings):
        if isinstance(option.default, (int, float)):
            name = f"--{option.name.replace('_', '-')}"
            parser.add_argument(name, default=option.default, type=type(option.default))
    arguments = vars(parser.parse_args())
    names = [option.name for option in fields(TrainingSettings) if option.name in arguments]
    output, minutes, device = (arguments[name] for name in ("output", "minutes", "device"))
    scenes = {kind: arguments[kind] for kind in ("galleries", "rooms", "places", "frames")}
    go_on = f"interrupted: the same command goes on from what is in {output}"
    with one_line_errors(parser, go_on):
        if minutes is not None and not 0 < minutes < math.inf:
            raise ValueError(f"minutes: expected more than 0, got {minutes}")
        settings = TrainingSettings(**{name: arguments[name] for name in names})
        photos = sorted(path for path in arguments["photos"].iterdir() if path.suffix.lower() in _PHOTOS)
        pack = load_pack(photos, **scenes, cache=output).to(device)
        start = load_encoder("efficientnet-lite0", device, torch.float32)
        train(Trainer(pack, start, settings), output, minutes)


def train(trainer: Trainer, output: Path, minutes: float | None) -> None:
    """To the end of the settings' steps, or of so many minutes in all; an interrupt keeps what was learned.

    Raises: `MapFormatError` when the checkpoint in the output folder is damaged.
    """
    made_of, seconds = _made_of(trainer), 0.0
    checkpoint = Checkpoint.at(output / "checkpoint.pt", "training the encoder", resume=True)
    if checkpoint.state is not None:
        if checkpoint.state.get("made_of") != made_of:
            raise SystemExit(f"{checkpoint.path}: of other images or settings; give another --output")
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
                bar.update(
                    task, state=f"loss {mean['loss']:.2f}, {100 * mean['good']:.0f} % of the cells right"
                )
                parts = []
            if progress >= 1:
                break


def _made_of(trainer: Trainer) -> dict:
    """What a checkpoint must have in common with a training that goes on from it."""
    pack = trainer.pack
    images = {"images": len(pack), "scenes": int(pack.scene.max()) + 1, "bytes": pack.halved.sum().item()}
    return json.loads(json.dumps({**images, **asdict(trainer.settings)}))


if __name__ == "__main__":
    main()
