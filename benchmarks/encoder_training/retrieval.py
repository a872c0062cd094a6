"""How well encoders find the same place again, on photos and a room that no training saw.

Each cell of view a looks among all cells of view b for the most similar whitened features. A cell counts as
found within one and a half cells of the truth; one change of view at a time, and all of them together.

    PYTHONPATH=.:benchmarks python -m encoder_training.retrieval --data ../shared/data --cache runs/encoder \\
        --weights runs/encoder/compact.safetensors
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dsac.networks.encoder import Encoder, load_encoder, read_encoder
from encoder_training.__main__ import HELD_OUT
from encoder_training.pack import Pack, load_pack
from encoder_training.pairs import Pairs, ViewLimits, draw_pairs
from encoder_training.teachers import whitening_matrix

HELD_OUT_ROOM = 2000
_STILL = ViewLimits(
    size=(480, 384),
    min_scale=1.0,
    max_scale=1.0 + 1e-6,
    max_roll_deg=0,
    max_orbit_deg=0,
    max_turn_deg=0,
    light=0,
    max_blur_px=1e-3,
    max_noise=0,
)
_ALL = ViewLimits(size=_STILL.size)
CHANGES = {
    "scale": replace(_STILL, min_scale=_ALL.min_scale, max_scale=_ALL.max_scale),
    "roll": replace(_STILL, max_roll_deg=_ALL.max_roll_deg),
    "light": replace(_STILL, light=1.0),
    "blur": replace(_STILL, max_blur_px=_ALL.max_blur_px, max_noise=_ALL.max_noise),
    "orbit": replace(_STILL, max_orbit_deg=_ALL.max_orbit_deg),
    "all": _ALL,
}
_RADIUS_PX = 12.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="of a compact encoder, in place of the ones that ship")
    parser.add_argument("--pairs", type=int, default=96, help="a row of the table")
    arguments = parser.parse_args()
    photos = sorted((arguments.data / "photos").glob("*.jpg"))[::HELD_OUT]
    pack = load_pack(photos, [HELD_OUT_ROOM], 40, arguments.cache)
    ours = (
        read_encoder("compact", arguments.weights.read_bytes())
        if arguments.weights
        else load_encoder("compact")
    )
    encoders: list[Encoder] = [load_encoder("efficientnet-lite0"), ours]
    planar = pack.partners[:, 0] == torch.arange(len(pack))
    rows = [("photos", name, limits, planar) for name, limits in CHANGES.items()]
    rows += [("room", name, limits, ~planar) for name, limits in CHANGES.items() if name != "orbit"]
    print(f"{'':16s}" + "".join(f"{encoder.id:>20s}" for encoder in encoders))
    for kind, name, limits, among in rows:
        found = [
            found_percent(encoder, pack, among.nonzero()[:, 0], limits, arguments.pairs) for encoder in encoders
        ]
        print(f"{kind + ', ' + name:16s}" + "".join(f"{value:20.1f}" for value in found), flush=True)


@torch.inference_mode()
def found_percent(encoder: Encoder, pack: Pack, sources: Tensor, limits: ViewLimits, count: int) -> float:
    """Of the visible cells of `count` pairs of views, % found again."""
    generator = torch.Generator().manual_seed(0)
    found = total = 0
    for i in range(0, count, 8):
        chosen = sources[torch.arange(i, i + 8) % len(sources)]
        pairs = draw_pairs(pack, chosen, limits, generator)
        hits, cells = _found(encoder, pairs)
        found, total = found + hits, total + cells
    return 100 * found / total


def _found(encoder: Encoder, pairs: Pairs) -> tuple[int, int]:
    features = encoder(torch.cat([pairs.images_a, pairs.images_b])).float().permute(0, 2, 3, 1).flatten(1, 2)
    mean = features.mean((0, 1))
    matrix = whitening_matrix((features - mean).flatten(0, 1))
    a, b = F.normalize((features - mean) @ matrix, dim=-1).chunk(2)
    best = (a @ b.mT).argmax(-1)
    width = pairs.visible.shape[2]
    pixels = torch.stack([best % width, best // width], -1) * encoder.stride + encoder.stride / 2
    near = (pixels - pairs.pixels_b.flatten(1, 2)).norm(dim=-1) < _RADIUS_PX
    visible = pairs.visible.flatten(1)
    return int((near & visible).sum()), int(visible.sum())


if __name__ == "__main__":
    main()
