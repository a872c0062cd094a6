"""Train the encoder; goes on from the checkpoint in the output folder if there is one.

PYTHONPATH=.:benchmarks python -m encoder_training --photos FOLDER --output runs/encoder --minutes 60
"""

from __future__ import annotations

import torch

from dsac.networks.encoder import load_encoder
from encoder_training.runs import run
from encoder_training.training import Trainer, TrainingSettings


def main() -> None:
    def make(pack, settings, arguments):
        return Trainer(pack, load_encoder("efficientnet-lite0", arguments.device, torch.float32), settings)

    run("encoder_training", __doc__, TrainingSettings, make)


if __name__ == "__main__":
    main()
