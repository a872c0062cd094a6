"""Poses from photos alone: how exact they are, and what a map made of them localizes.

    python benchmarks/sfm.py DATA [--recordings door south …]

DATA is a folder of recordings. Mapping frames are placed by `dsac.sfm` as if nothing were known of them; the
similarity that takes their centres to the recording's own says how far off they are. Two maps by the default
settings, one of the given poses and one of those found, then localize the same query frames, each with the
camera that it was mapped with; answers of the second are taken through that similarity. Seconds are of the
processor, one thread. Writes results/sfm.jsonl, a line a recording, and results/sfm.md from all lines there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from far_splits import diagonal, thinned
from scripts import read_records, run, table_parser, write_table

from dsac import Frames, Localizer, Pose, build_map, load_scene
from dsac.sfm import SfmProgress, UnposedPhotos, reconstruct

QUERIES = 50


@dataclass(frozen=True)
class Recording:
    folder: str
    truth: str  # whose poses
    most: int = 10_000  # mapping frames
    every: int = 1  # of them
    hold_out: int = 0  # every so-manieth is a query, where the recording has none

    def load(self, data: Path) -> tuple[Frames, Frames]:
        """Mapping and query frames."""
        scene = load_scene(data / self.folder)
        frames, queries = scene.mapping.without_depth(), scene.query
        if self.hold_out:
            held = range(self.hold_out // 2, len(frames), self.hold_out)
            frames, queries = frames[[i for i in range(len(frames)) if i not in held]], frames[list(held)]
        return thinned(frames[:: self.every], self.most), thinned(queries, QUERIES).without_depth()


RECORDINGS = {
    "kitchen, 60 frames": Recording("7scenes/redkitchen", "7-Scenes' SfM truth", most=60),
    "south-building": Recording("south-building", "COLMAP, 128 photos"),
    "south-building, every third": Recording("south-building", "COLMAP, 128 photos", every=3),
    "door": Recording("door", "COLMAP, 33 photos"),
    "fox": Recording("fox", "transforms.json of instant-ngp", hold_out=5),
}


@dataclass(frozen=True)
class Similarity:
    """From the found world to the given one: x -> scale rotation x + translation."""

    scale: float
    rotation: torch.Tensor
    translation: torch.Tensor

    @staticmethod
    def between(found: torch.Tensor, given: torch.Tensor) -> Similarity:
        """By least squares (Umeyama 1991)."""
        x, y = found - found.mean(0), given - given.mean(0)
        U, S, Vt = torch.linalg.svd(y.T @ x)
        S[2], U[:, 2] = S[2] * torch.det(U @ Vt), U[:, 2] * torch.det(U @ Vt)
        scale, rotation = float(S.sum() / x.square().sum()), U @ Vt
        return Similarity(scale, rotation, given.mean(0) - scale * rotation @ found.mean(0))

    def take(self, cam_from_world: Pose) -> Pose:
        rotation = cam_from_world.rotation @ self.rotation.T
        center = self.scale * cam_from_world.center @ self.rotation.T + self.translation
        return Pose(rotation, -(rotation @ center[..., None])[..., 0])


def measure(name: str, data: Path) -> dict[str, Any]:
    recording = RECORDINGS[name]
    frames, queries = recording.load(data)
    assert frames.cam_from_world is not None
    seconds: dict[str, float] = {}
    began = time.process_time()

    def note(progress: SfmProgress) -> None:
        seconds[progress.phase] = (
            time.process_time()
            - began
            - sum(spent for phase, spent in seconds.items() if phase != progress.phase)
        )

    with tempfile.TemporaryDirectory() as folder:
        unposed = UnposedPhotos.of(name, frames, [None] * len(frames))
        found = reconstruct(unposed, folder, threads=1, on_progress=note)
    row_of = {frame: row for row, frame in enumerate(frames.names)}
    rows = torch.tensor([row_of[frame] for frame in found.names])
    assert found.cam_from_world is not None
    given = frames.cam_from_world[rows]
    world = Similarity.between(found.cam_from_world.center, given.center)
    unit = diagonal(frames)
    placed = world.take(found.cam_from_world)
    record: dict[str, Any] = {"recording": name, "truth": recording.truth, "photos": len(frames)}
    record |= {"placed": len(found), "seconds": {phase: round(spent, 1) for phase, spent in seconds.items()}}
    record["poses"] = summary(placed.center_distance(given) / unit, placed.rotation_error_deg(given))
    record["given"] = localized(frames, queries, None, unit)
    (lens,) = found.cameras
    own = replace(queries, cameras=[lens], camera_index=np.zeros(len(queries), np.int64))
    record["found"] = localized(found, own, world, unit)
    return record


def localized(frames: Frames, queries: Frames, world: Similarity | None, unit: float) -> dict[str, Any]:
    """What a map of the frames says of the queries."""
    localizer = Localizer(build_map(frames, seed=0))
    off, degrees = [], []
    for query in queries:
        answer = localizer.localize(query.image, query.camera)
        if not answer.success:
            off, degrees = [*off, np.inf], [*degrees, np.inf]
            continue
        pose = answer.cam_from_world if world is None else world.take(answer.cam_from_world)
        assert query.cam_from_world is not None
        off.append(pose.center_distance(query.cam_from_world).item() / unit)
        degrees.append(pose.rotation_error_deg(query.cam_from_world).item())
    return summary(torch.tensor(off), torch.tensor(degrees)) | {"count": len(queries)}


def summary(off: torch.Tensor, degrees: torch.Tensor) -> dict[str, Any]:
    """Of the extent in percent, and degrees."""
    found = torch.isfinite(off)
    return {
        "localized": int(found.sum()),
        "median": round(100 * float(np.median(off)), 3),
        "median_deg": round(float(np.median(degrees)), 3),
        "worst": round(100 * off[found].max().item(), 2) if found.any() else None,
    }


def table(records: list[dict[str, Any]]) -> list[str]:
    lines = [
        "# Poses from photos alone",
        "",
        "`python benchmarks/sfm.py DATA`. Of centres in percent of the diagonal of the box about the mapping",
        "cameras; medians are of all queries. Seconds of one processor thread: features / matching / placing.",
        "",
        "| recording, truth | photos placed | seconds | poses: median, worst % | median ° | "
        "queries, given poses | queries, found poses |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        spent, poses = record["seconds"], record["poses"]
        queries = [
            f"{q['localized']} of {q['count']}, {q['median']} %, {q['median_deg']}°"
            for q in (record["given"], record["found"])
        ]
        seconds = " / ".join(f"{spent[phase]:.0f}" for phase in ("features", "matching", "placing"))
        lines.append(
            f"| {record['recording']}, {record['truth']} | {record['placed']} of {record['photos']} "
            f"| {seconds} | {poses['median']}, {poses['worst']} | {poses['median_deg']} "
            f"| {queries[0]} | {queries[1]} |"
        )
    return lines


def work(arguments: argparse.Namespace) -> None:
    path = arguments.output / "sfm.jsonl"
    kept = read_records(path)
    records = {record["recording"]: record for record in kept}
    for name in arguments.recordings:
        records[name] = measure(name, arguments.data)
        path.write_text("".join(json.dumps(record) + "\n" for record in records.values()))
    write_table(arguments.output, "sfm.md", table(list(records.values())))


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recordings", nargs="*", choices=list(RECORDINGS), default=list(RECORDINGS))
    torch.set_num_threads(1)
    run(parser, work)
