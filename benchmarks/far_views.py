"""Who still knows the place from afar: dsac's variants and peers that match, where few frames were mapped.

    python benchmarks/far_views.py DATA [--splits "kitchen, frames 0-89" …] [--rows SIFT …] [--list]

DATA is a folder of recordings (`far_splits.py` names them and their parts). Each run maps and localizes in a
process of its own, with one thread; our maps are made with all cores. Lengths are metres, or the diagonal of
the box about the cameras of the recording's mapping frames where it has a scale of its own; then 5 cm stands
for 5 % of it. Writes results/far_views.jsonl, a line a run and group of queries that is not made again, and
results/far_views.md from all lines there. The learned peers need `pip install 'dsac[peers]'`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from far_splits import SPLITS
from scripts import one_line_errors, read_records

from dsac import Frame, Frames, Localizer, Pose, SceneMap, build_map

RESULTS = Path(__file__).parent / "results"
LIMITS = (5, 2, 1)  # cm or % of the diagonal, and degrees

# what is asked of one map by the default settings: everything, and less of it
DSAC: dict[str, Callable[[SceneMap], Localizer]] = {
    "default": Localizer,
    "without matching": lambda found: Localizer(replace(found, described=None)),
    "scene coordinates alone": lambda found: Localizer(replace(found, landmarks=None, described=None)),
}
LEARNED = ("XFeat + LighterGlue", "ALIKED + LightGlue")
ROWS = [*DSAC, "SIFT", *LEARNED]


class Mapped(Protocol):
    """A place that was mapped."""

    @property
    def megabytes(self) -> float: ...

    def localize(self, frame: Frame) -> Pose | None: ...


@dataclass(frozen=True)
class DsacMap:
    """As a file is loaded."""

    localizer: Localizer
    megabytes: float

    @staticmethod
    def build(frames: Frames, rows: Sequence[str]) -> list[DsacMap]:
        """One a row, all of one map; it is made with all cores, as users do."""
        from dsac.cli import keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(os.cpu_count() or 1)
        scene_map = build_map(frames, seed=0)
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "map.dsac"
            scene_map.save(path)
            return [DsacMap(DSAC[row](SceneMap.load(path)), path.stat().st_size / 1e6) for row in rows]

    def localize(self, frame: Frame) -> Pose | None:
        answer = self.localizer.localize(frame.image, frame.camera)
        return answer.cam_from_world if answer.success else None


def run(data: str, split: str, rows: Sequence[str], most_queries: int) -> list[dict[str, Any]]:
    """Map once and localize by each row: a record a row and group of queries."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    part = SPLITS[split].load(Path(data), most_queries)
    started = time.monotonic()
    mapped = build(rows, part.mapping)
    mapping_s = time.monotonic() - started
    records = []
    for row, known in zip(rows, mapped, strict=True):
        for group, frames in part.queries.items():
            errors, milliseconds = [], []
            for frame in frames.without_depth():
                tick = time.perf_counter()
                pose = known.localize(frame)
                milliseconds.append(1e3 * (time.perf_counter() - tick))
                errors.append(_error(pose, frame, part.unit))
            record = {"split": split, "group": group, "row": row, "most_queries": most_queries}
            record |= {"metric": SPLITS[split].recording.metric, "mapping_frames": len(part.mapping)}
            record |= scores(errors)
            record |= {
                "query_ms": round(statistics.median(milliseconds), 1),
                "map_mb": round(known.megabytes, 2),
                "mapping_s": round(mapping_s, 1),
            }
            records.append(record)
    return records


def build(rows: Sequence[str], frames: Frames) -> Sequence[Mapped]:
    """What those rows of the table, which share one map, make of mapping frames."""
    if rows[0] in DSAC:
        return DsacMap.build(frames, rows)
    if rows[0] == "SIFT":
        from matching_baseline import SiftMap

        large = min(min(camera.size) for camera in frames.cameras) >= 720
        return [SiftMap.build(frames, 4000 if large else 2000)]
    from learned_matching import LearnedMap, load_matcher

    return [LearnedMap.build(frames, load_matcher(rows[0]))]


def _error(pose: Pose | None, frame: Frame, unit: float) -> tuple[float, float]:
    """Centimetres or % of the unit, and degrees; infinite where not localized."""
    assert frame.cam_from_world is not None
    if pose is None:
        return math.inf, math.inf
    distance = pose.center_distance(frame.cam_from_world).item()
    return 100 * distance / unit, pose.rotation_error_deg(frame.cam_from_world).item()


def scores(errors: list[tuple[float, float]]) -> dict[str, Any]:
    """Shares in percent and medians of all queries; no median where half of them are not localized."""
    table = np.array(errors)
    localized = np.isfinite(table[:, 0])
    within = {limit: (table < limit).all(1) for limit in LIMITS}
    medians = [value if math.isfinite(value) else None for value in np.median(table, axis=0).tolist()]
    return {
        "queries": len(table),
        "percent_localized": 100 * float(localized.mean()),
        **{f"percent_{limit}": 100 * float(within[limit].mean()) for limit in LIMITS},
        "median": medians[0],
        "median_deg": medians[1],
        "percent_wrong": 100 * float((localized & ~within[LIMITS[0]]).mean()),
    }


def table(records: list[dict[str, Any]]) -> str:
    """A table a split and group of queries, a line a row; what was measured last counts."""
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for record in sorted(records, key=_place):
        name = record["row"]
        groups.setdefault((record["split"], record["group"]), {})[name] = record
    text = "# Far views\n\n`python benchmarks/far_views.py DATA`. Localized are answers that are given, wrong "
    text += (
        "those of them off by more than 5 cm or 5°. Where a recording has a scale of its own, 1 cm is 1 % of "
    )
    text += "the diagonal of the box about its mapping cameras. Medians are over all queries. One thread; "
    text += "reading a query is not timed.\n"
    for (split, group), rows in groups.items():
        first = next(iter(rows.values()))
        unit = "cm" if first["metric"] else "%"
        text += f"\n## {split}{group}\n\n{first['mapping_frames']} frames mapped.\n\n"
        text += f"| | queries | localized % | 5 {unit} 5° % | 2 {unit} 2° % | 1 {unit} 1° % | median {unit} "
        text += "| median ° | wrong % | query ms | map MB | mapping s |\n" + "|---" * 12 + "|\n"
        for name, record in rows.items():
            shares = ["percent_localized", *(f"percent_{limit}" for limit in LIMITS)]
            cells = [name, str(record["queries"]), *(f"{record[share]:.0f}" for share in shares)]
            cells += [_number(record["median"], 2), _number(record["median_deg"], 2)]
            cells += [f"{record['percent_wrong']:.0f}", f"{record['query_ms']:.0f}"]
            cells += [f"{record['map_mb']:.1f}", f"{record['mapping_s']:.0f}"]
            text += "| " + " | ".join(cells) + " |\n"
    return text


def _place(record: dict[str, Any]) -> tuple[int, int]:
    """In the order of splits and rows here, what is no longer here last."""
    splits, row = list(SPLITS), record["row"]
    return splits.index(record["split"]), ROWS.index(row) if row in ROWS else len(ROWS)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=list(SPLITS), metavar="SPLIT")
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS, metavar="ROW")
    parser.add_argument("--most-queries", type=int, default=60, help="of a group, evenly spread")
    parser.add_argument("--peer-queries", type=int, default=30, help="the same for the learned peers")
    parser.add_argument("--list", action="store_true", help="name splits and rows and stop")
    arguments = parser.parse_args()
    if arguments.list or arguments.data is None:
        print(
            "\n".join(["splits:", *(f"  {name}" for name in SPLITS), "rows:", *(f"  {name}" for name in ROWS)])
        )
        return
    with one_line_errors(parser):
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Raises: `DsacError` for recordings that cannot be used."""
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    lines = RESULTS / "far_views.jsonl"
    records = read_records(lines)
    for split in arguments.splits:
        ours = [row for row in arguments.rows if row in DSAC]
        for rows in [ours, *([row] for row in arguments.rows if row not in DSAC)]:
            most = arguments.peer_queries if rows and rows[0] in LEARNED else arguments.most_queries
            made_before = {r["row"] for r in records if (r["split"], r["most_queries"]) == (split, most)}
            if made_before.issuperset(rows):
                continue
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # fresh memory, caches and threads
                made = pool.submit(run, str(arguments.data), split, rows, most).result()
            text = "".join(json.dumps(record) + "\n" for record in made)
            print(text, end="", flush=True)
            with open(lines, "a") as file:
                file.write(text)
            records += made
            (RESULTS / "far_views.md").write_text(table(records))
    (RESULTS / "far_views.md").write_text(table(records))


if __name__ == "__main__":
    main()
