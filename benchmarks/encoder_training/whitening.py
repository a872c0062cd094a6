"""The whitening of the encoder's features that visual words are made in.

PYTHONPATH=.:benchmarks python -m encoder_training.whitening --photos PHOTOS --output FILE

Of the cells of a folder of photos of many things, at the working size of queries, and of rendered rooms.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F

from dsac.datasets import read_image
from dsac.networks.encoder import load_encoder, working_size
from dsac.rooms import synthetic_scene

SHORT_SIDE_PX, CELLS = 240, 150  # of an image
ROOMS, VIEWS = range(1000, 1006), 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos of many things")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    arguments = parser.parse_args()
    encoder, rng = load_encoder(), np.random.default_rng(0)
    rows = []
    for image in chain(_photos(arguments.photos), _views()):
        width, height = working_size((image.shape[-1], image.shape[-2]), SHORT_SIDE_PX, encoder.size_multiple)
        small = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)
        with torch.inference_mode():
            cells = encoder(small)[0].float().flatten(1).T
        rows.append(cells[rng.choice(len(cells), CELLS, replace=False)].double())
    cells = torch.cat(rows)
    mean = cells.mean(0)
    values, vectors = torch.linalg.eigh((cells - mean).T @ (cells - mean) / len(cells))
    tensors = {"mean": mean.float(), "matrix": (vectors / values.sqrt()).float().contiguous()}
    safetensors.torch.save_file(tensors, arguments.output)
    print(f"{len(rows)} images, {len(cells)} cells; variances {values.min():.3g} to {values.max():.3g}")


def _photos(folder: Path) -> Iterator[torch.Tensor]:
    for path in sorted(folder.glob("*.jpg")):
        yield torch.from_numpy(np.array(read_image(path))).permute(2, 0, 1).float() / 255


def _views() -> Iterator[torch.Tensor]:
    for seed in ROOMS:
        frames = synthetic_scene(num_mapping=VIEWS, num_query=1, size=(320, 240), seed=seed).mapping
        yield from (frame.image for frame in frames)


if __name__ == "__main__":
    main()
