"""Encoders as the product uses them: map a recording with each, localize its queries, one JSON line a map.

PYTHONPATH=.:benchmarks python -m encoder_training.comparison RECORDING \
    --encoders efficientnet-lite0 runs/encoder/encoder.safetensors
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from scripts import one_line_errors

import dsac
from dsac.errors import DatasetError
from dsac.mapping import MappingSettings, build_map
from dsac.networks.encoder import ENCODERS
from encoder_training.runs import encoder_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording")
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, help="that ship, or files of weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=MappingSettings.steps)
    parser.add_argument("--views", type=int, default=MappingSettings.num_views)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--device", choices=devices, default="cpu", help="those that are here")
    arguments = parser.parse_args()
    try:
        settings = MappingSettings(steps=arguments.steps, num_views=arguments.views)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    with one_line_errors(parser):
        compare(arguments, settings)


def compare(arguments: argparse.Namespace, settings: MappingSettings) -> None:
    """Raises: `DsacError`, `OSError` for a recording or encoder that cannot be used."""
    scene, device = dsac.load_scene(arguments.recording), arguments.device
    if len(scene.query) == 0:
        raise DatasetError(f"{arguments.recording}: expected query frames, found none")
    encoders = {id: encoder_of(id, device) for id in arguments.encoders}
    for seed in arguments.seeds:
        for id, encoder in encoders.items():
            began = time.process_time()
            scene_map = build_map(scene.mapping, settings, encoder=encoder, device=device, seed=seed)
            mapped = time.process_time() - began
            evaluation = dsac.evaluate(dsac.Localizer(scene_map, encoder=encoder, device=device), scene)
            s = evaluation.summaries[0]
            line = {
                "recording": Path(arguments.recording).name,
                "encoder": id,
                "digest": encoder.digest,
                "seed": seed,
                "steps": arguments.steps,
                "views": arguments.views,
                "percent_5cm_5deg": s.percent_5cm_5deg,
                "percent_2cm_2deg": s.percent_2cm_2deg,
                "percent_1cm_1deg": s.percent_1cm_1deg,
                "median_cm": 100 * s.median_translation_m,
                "median_deg": s.median_rotation_deg,
                "median_spacings": s.median_translation_spacings,
                "good_cells": scene_map.info.training["fraction_good"],
                "median_px": scene_map.info.training["median_error_px"],
                "mapping_processor_seconds": round(mapped, 1),
            }
            print(
                json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}), flush=True
            )


if __name__ == "__main__":
    main()
