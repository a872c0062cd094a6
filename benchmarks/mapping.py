"""What each part of mapping is worth: settings that differ in one thing from the default.

    python benchmarks/mapping.py SCENE [--rows default "no landmarks" …] [--seeds 0 1 2] [--no-depth] [--list]

Each row maps the scene in a process of its own and localizes all its query images; with `--left-out` the
mapping frames that a row leaves out, by which settings are chosen without a look at the queries. Writes
results/mapping.jsonl, a line a run that is not made again, and results/mapping.md from all lines there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts import RESULTS, add_record, read_records

ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "no landmarks": {"num_landmarks": 0},
    "500 landmarks": {"num_landmarks": 500},
    "2000 landmarks": {"num_landmarks": 2000},
    "4000 landmarks": {"num_landmarks": 4000},
    "short side 320": {"short_side_px": 320},
    "short side 480": {"short_side_px": 480},
    "300 steps": {"steps": 300},
    "600 steps": {"steps": 600},
    "2000 steps": {"steps": 2000},
    "4000 steps": {"steps": 4000},
    "500 views": {"num_views": 500},
    "width 256": {"width": 256},
    # what scene coordinates alone can do
    "no landmarks, short side 480, 1800 steps": {"num_landmarks": 0, "short_side_px": 480, "steps": 1800},
    "no landmarks, short side 480, 3000 steps": {"num_landmarks": 0, "short_side_px": 480, "steps": 3000},
}
# queries far from the mapping frames: the default with fewer of these
FRAMES = {
    "first 90 frames": slice(90),
    "last 90 frames": slice(-90, None),
    "every 3rd frame": slice(None, None, 3),
    "every 10th frame": slice(None, None, 10),
}
ROWS |= {row: {} for row in FRAMES}
PLAIN_ROWS = list(ROWS)
# each row also with these
VARIANTS = {
    ", EfficientNet-lite0": {"encoder": "efficientnet-lite0"},
    ", no feature noise": {"feature_noise": 0.0},
}
for variant, change in VARIANTS.items():
    ROWS |= {row + variant: settings | change for row, settings in ROWS.items()}


def run(scene_path: str, row: str, depth: bool, seed: int, left_out: bool = False) -> dict[str, Any]:
    """Map and evaluate once."""
    from dsac import Localizer, MappingSettings, build_map, evaluate, load_scene
    from dsac.cli import keep_freed_memory
    from dsac.networks.encoder import ENCODERS, load_encoder

    keep_freed_memory()
    scene = load_scene(scene_path)
    part = FRAMES.get(row.split(",")[0], slice(None))
    frames = scene.mapping[part]
    if left_out:
        numbers = range(len(scene.mapping))
        scene = replace(scene, query=scene.mapping[sorted({*numbers} - {*numbers[part]})])
    frames = frames if depth else frames.without_depth()
    started, started_cpu = time.monotonic(), time.process_time()
    changes = dict(ROWS[row])
    encoder = load_encoder(changes.pop("encoder", ENCODERS[0]))
    scene_map = build_map(frames, replace(MappingSettings(), **changes), encoder=encoder, seed=seed)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - started_cpu
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.dsac"
        scene_map.save(path)
        size = path.stat().st_size
        result = evaluate(Localizer.load(path), scene)
    best = result.summaries[0]
    return {
        "scene": Path(scene_path).name,
        "truth": best.truth,
        "supervision": "depth" if depth and scene.mapping.has_depth else "poses",
        "row": row,
        "seed": seed,
        "left_out": left_out,
        "encoder": encoder.digest,
        "images": best.num_images,
        "localized": best.num_images - best.num_not_localized,
        "percent_5cm_5deg": best.percent_5cm_5deg,
        "percent_2cm_2deg": best.percent_2cm_2deg,
        "percent_1cm_1deg": best.percent_1cm_1deg,
        "median_cm": 100 * best.median_translation_m,
        "median_deg": best.median_rotation_deg,
        "median_spacings": best.median_translation_spacings,
        "mapping_s": round(seconds, 1),
        "mapping_cpu_s": round(cpu_seconds, 1),
        "map_mb": round(size / 1e6, 2),
    }


def table(records: list[dict[str, Any]], shipped: set[str]) -> str:
    """A table a scene and supervision; several seeds as mean ± standard deviation.

    Rows by encoders that no longer ship, known by their digests, say so.
    """
    groups: dict[tuple[str, ...], dict[str, list[dict[str, Any]]]] = {}
    for record in sorted(records, key=lambda record: list(ROWS).index(record["row"])):
        key = (record["scene"], f"truth {record['truth']}", record["supervision"])
        key += ("mapping frames that were left out",) if record.get("left_out") else ()
        digest = record["encoder"]
        row = record["row"] + ("" if digest in shipped else f", by encoder {digest[:4]}")
        groups.setdefault(key, {}).setdefault(row, []).append(record)
    text = "# What each part of mapping is worth\n\n`python benchmarks/mapping.py SCENE`; "
    text += "wall and processor time of mapping include everything from reading the images on.\n"
    columns = ("percent_5cm_5deg", "percent_2cm_2deg", "percent_1cm_1deg", "median_cm", "median_deg")
    for key, rows in groups.items():
        text += f"\n## {', '.join(key)}\n\n"
        text += "| settings | seeds | localized | % 5 cm 5° | % 2 cm 2° | % 1 cm 1° | median cm | median ° "
        text += "| median / spacing | mapping s | CPU s | map MB |\n" + "|---" * 12 + "|\n"
        for row, runs in rows.items():
            cells = [_mean([r[c] for r in runs], 1 if c.startswith("percent") else 2) for c in columns]
            times = [_mean([r[c] for r in runs], 0) for c in ("mapping_s", "mapping_cpu_s")]
            localized = f"{statistics.mean(r['localized'] for r in runs):.0f} of {runs[0]['images']}"
            spacing = _mean([r["median_spacings"] for r in runs], 3)
            line = [
                row,
                str(len(runs)),
                localized,
                *cells,
                spacing,
                *times,
                _mean([r["map_mb"] for r in runs], 1),
            ]
            text += "| " + " | ".join(line) + " |\n"
    return text


def _mean(values: list[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{statistics.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", nargs="?")
    parser.add_argument("--rows", nargs="+", default=PLAIN_ROWS, choices=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--no-depth", action="store_true")
    parser.add_argument("--left-out", action="store_true", help="localize the mapping frames a row leaves out")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    arguments = parser.parse_args()
    if arguments.list or arguments.scene is None:
        print("\n".join(f"{row}: {settings or 'as shipped'}" for row, settings in ROWS.items()))
        return
    from dsac.networks.encoder import ENCODERS, load_encoder

    digests = {id: load_encoder(id).digest for id in ENCODERS}
    lines = RESULTS / "mapping.jsonl"
    records = read_records(lines)
    made = {
        (r["scene"], r["supervision"] == "depth", r["row"], r["seed"], r.get("left_out", False), r["encoder"])
        for r in records
    }
    for seed in arguments.seeds:
        for row in arguments.rows:
            options = (row, not arguments.no_depth, seed, arguments.left_out)
            encoder = digests[ROWS[row].get("encoder", ENCODERS[0])]
            if (Path(arguments.scene).name, options[1], row, *options[2:], encoder) in made:
                continue
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # fresh memory and caches
                record = pool.apply(run, (arguments.scene, *options))
            print(json.dumps(record), flush=True)
            add_record(lines, record)
            records.append(record)
    (RESULTS / "mapping.md").write_text(table(records, {*digests.values()}))


if __name__ == "__main__":
    main()
