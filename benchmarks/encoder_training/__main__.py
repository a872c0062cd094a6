"""Train the compact encoder; goes on from the checkpoint in the output folder if there is one.

PYTHONPATH=.:benchmarks python -m encoder_training --data ../shared/data --output runs/encoder
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, fields
from pathlib import Path

import safetensors.torch
import torch

from dsac.networks.encoder import load_encoder
from encoder_training.pack import load_pack
from encoder_training.teachers import XFeat
from encoder_training.training import Trainer, TrainingSettings

HELD_OUT = 20  # every so many photos one is held out, for `encoder_training.retrieval`
_SAVE_SECONDS = 120.0
_LOG_STEPS = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with `photos` and `teachers`")
    parser.add_argument("--output", type=Path, required=True, help="weights, checkpoint, log and image cache")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rooms", type=int, default=12, help="rendered rooms")
    parser.add_argument("--frames", type=int, default=60, help="frames of a room")
    parser.add_argument("--minutes", type=float, help="time for this training, instead of its steps")
    for option in fields(TrainingSettings):
        if isinstance(option.default, (bool, int, float)):
            kind = type(option.default)
            name = f"--{option.name.replace('_', '-')}"
            parser.add_argument(name, default=option.default, type=_boolean if kind is bool else kind)
    arguments = vars(parser.parse_args())
    settings = TrainingSettings(
        **{
            option.name: arguments[option.name]
            for option in fields(TrainingSettings)
            if option.name in arguments
        }
    )
    train(
        settings,
        **{name: arguments[name] for name in ("data", "output", "device", "rooms", "frames", "minutes")},
    )


def train(
    settings: TrainingSettings,
    data: Path,
    output: Path,
    device: str,
    rooms: int,
    frames: int,
    minutes: float | None,
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    photos = sorted((data / "photos").glob("*.jpg"))
    photos = [photo for i, photo in enumerate(photos) if i % HELD_OUT]
    pack = load_pack(photos, list(range(1000, 1000 + rooms)), frames, output).to(device)
    xfeat = XFeat(data / "teachers" / "xfeat.npz").to(device)
    trainer = Trainer(pack, load_encoder("efficientnet-lite0", device).float(), xfeat, settings)
    checkpoint, seconds = output / "checkpoint.pt", 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        trainer.resume(state)
        seconds = state["seconds"]
    budget = None if minutes is None else 60 * minutes
    begin, last_save = time.monotonic() - seconds, time.monotonic()
    with (output / "log.jsonl").open("a") as log:
        log.write(json.dumps({"sources": len(pack), **asdict(settings), "minutes": minutes}) + "\n")
        while True:
            seconds = time.monotonic() - begin
            progress = trainer.step / settings.steps if budget is None else seconds / budget
            finished = progress >= 1
            if finished or time.monotonic() - last_save > _SAVE_SECONDS:
                last_save = time.monotonic()
                _save(trainer, seconds, output)
            if finished:
                break
            parts = trainer.train_step(progress)
            if trainer.step % _LOG_STEPS == 0:
                line = {"step": trainer.step, "progress": progress, "seconds": seconds, **parts}
                log.write(json.dumps({name: round(value, 5) for name, value in line.items()}) + "\n")
                log.flush()


def _save(trainer: Trainer, seconds: float, output: Path) -> None:
    part = output / "checkpoint.part"
    torch.save({**trainer.state(), "seconds": seconds}, part)
    part.replace(output / "checkpoint.pt")
    weights = {name: value.cpu().contiguous() for name, value in trainer.average.items()}
    safetensors.torch.save_file(weights, output / "compact.safetensors")


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


if __name__ == "__main__":
    main()
