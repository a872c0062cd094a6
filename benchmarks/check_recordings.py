"""Whether `dsac check` names mistakes, leaves right recordings in peace, and is quick.

    python benchmarks/check_recordings.py DATA [--subsets 50] [--recordings kitchen hololens ...]

DATA is a folder of recordings. Every mistake of `recording_mistakes.py` is put into those of `MISTAKEN`; parts
of all, half of them frames in a row and half drawn by chance, four to sixty, are right and must not be blamed.
Corners are matched once for each pair of frames, since no mistake changes what images show. The time is that of
the kitchen's frames, listed as often as makes a thousand. One thread. Writes results/check_recordings.md and,
with what was measured of other recordings before, results/check_recordings.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording_mistakes import MISTAKES, Mistake
from scripts import run, table_parser, write_table

from dsac import Frames, Pose, load_scene
from dsac.checking import SceneCheck, check_scene
from dsac.checking.check import check_shared
from dsac.checking.sample import Match, Matched, Sampled, SharedCorners, chosen_frames, matched

FOLDERS = {
    "kitchen": "7scenes/redkitchen", "hololens": "hololens", "fox": "fox", "south-building": "south-building",
    "door": "door",
}  # fmt: skip
MISTAKEN = ("kitchen", "hololens", "fox", "south-building")


@dataclass(frozen=True, eq=False)
class Recording:
    """One whose images are looked at and matched once."""

    frames: Frames
    metric: bool
    _sampled: dict[int, Sampled] = field(default_factory=dict)
    _matched: dict[tuple[int, int], Matched] = field(default_factory=dict)

    @staticmethod
    def load(data: Path, name: str) -> Recording:
        """Raises: `DatasetError` for a recording that is not there."""
        scene = load_scene(data / FOLDERS[name])
        return Recording(scene.mapping, scene.metric)

    def shared(self, rows: list[int]) -> SharedCorners:
        """What those of these frames share that a check looks at, as frames of the part are counted."""
        chosen = chosen_frames(len(rows))
        return SharedCorners.among(
            [replace(self._look(rows[i]), index=i) for i in chosen], [], match=self._match(rows)
        )

    def _look(self, row: int) -> Sampled:
        if row not in self._sampled:
            self._sampled[row] = Sampled.of(row, self._seen[row])
        return self._sampled[row]

    @cached_property
    def _seen(self) -> Frames:
        return self.frames.without_depth()

    def _match(self, rows: list[int]) -> Match:
        def match(first: Sampled, second: Sampled) -> Matched:
            pair = rows[first.index], rows[second.index]
            if pair not in self._matched:
                self._matched[pair] = matched(first, second)
            return self._matched[pair]

        return match


def verdict(mistake: Mistake, check: SceneCheck) -> str:
    """Whether a check names a mistake, something else, only doubts, or nothing."""
    cure = "" if check.cure is None else check.cure.options()
    findings = [finding.text for finding in check.findings if finding.severity != "note"]
    if mistake.is_named(cure, findings):
        return "named"
    if cure or any(finding.severity == "wrong" for finding in check.findings):
        return "named otherwise"
    return "doubted" if findings else "fine"


def is_blamed(check: SceneCheck) -> bool:
    """Of a right recording; that there is too little to say anything is none."""
    return bool(np.isfinite(check.agreed)) and any(finding.severity != "note" for finding in check.findings)


def of_mistakes(name: str, recording: Recording) -> dict[str, str]:
    """What is said of each mistake that a recording can have, and of the recording itself."""
    shared = recording.shared([*range(len(recording.frames))])
    right = check_shared(recording.frames, shared, recording.metric)
    verdicts = {"none": "blamed" if is_blamed(right) else "fine"}
    print(name, "as it is:", verdicts["none"], _said(right), flush=True)
    for label, mistake in MISTAKES.items():
        if mistake.depth is None or recording.frames.has_depth:
            frames, of_frames = mistake.made(recording.frames, shared)
            check = check_shared(frames, of_frames, recording.metric)
            verdicts[label] = verdict(mistake, check)
            print(name, label, verdicts[label], _said(check), sep=" | ", flush=True)
    return verdicts


def parts(count: int, most: int, seed: int) -> Iterator[list[int]]:
    """Four to sixty of so many frames: in a row, drawn by chance, in turn."""
    rng = np.random.default_rng(seed)
    for turn in range(most):
        size = int(rng.integers(4, min(60, count) + 1))
        if turn % 2:
            yield np.sort(rng.choice(count, size, replace=False)).tolist()
        else:
            start = int(rng.integers(0, count - size + 1))
            yield [*range(start, start + size)]


def of_parts(name: str, recording: Recording, subsets: int) -> tuple[int, int, int]:
    """How many were looked at, told apart from nothing, and blamed."""
    looked = told = blamed = 0
    for rows in parts(len(recording.frames), subsets, 0):
        check = check_shared(recording.frames[rows], recording.shared(rows), recording.metric)
        looked, told = looked + 1, told + bool(np.isfinite(check.agreed))
        if is_blamed(check):
            blamed += 1
            print(name, f"{len(rows)} frames from {rows[0]} blamed", _said(check), sep=" | ", flush=True)
    return looked, told, blamed


def _said(check: SceneCheck) -> str:
    return " / ".join(f"{finding.severity}: {finding.text} {finding.cure}" for finding in check.findings)


def thousand(frames: Frames) -> Frames:
    """The frames, listed as often as makes a thousand."""
    assert frames.cam_from_world is not None
    times = -(-1000 // len(frames))
    poses = frames.cam_from_world
    return replace(
        frames,
        names=frames.names * times,
        camera_index=np.tile(frames.camera_index, times),
        cam_from_world=Pose(poses.rotation.repeat(times, 1, 1), poses.translation.repeat(times, 1)),
    )[:1000]


def timed(frames: Frames) -> tuple[float, float]:
    """Seconds, and seconds of processor time, of the second check of a process."""
    check_scene(frames[:20])
    started, used = time.perf_counter(), time.process_time()
    check_scene(frames)
    return time.perf_counter() - started, time.process_time() - used


def lines(measured: dict[str, Any]) -> list[str]:
    """The tables."""
    verdicts = {name: measured["mistakes"][name] for name in FOLDERS if name in measured["mistakes"]}
    said = [verdict for of in verdicts.values() for label, verdict in of.items() if label != "none"]
    text = [
        "# Checks of recordings", "", "`python benchmarks/check_recordings.py DATA`", "", "## Mistakes", "",
        f"Of {len(said)} mistakes {said.count('named')} were named with the right cure, "
        f"{said.count('named otherwise')} with another, {said.count('doubted')} only doubted, "
        f"{said.count('fine')} not noticed.", "",
        "| mistake | " + " | ".join(verdicts) + " |", "|---" * (len(verdicts) + 1) + "|",
    ]  # fmt: skip
    for label in ["none", *MISTAKES]:
        text.append(f"| {label} | " + " | ".join(of.get(label, "") for of in verdicts.values()) + " |")
    text += [
        "",
        "## Parts of right recordings",
        "",
        "| recording | parts | of which enough is shared | blamed |",
    ]
    text.append("|---|---|---|---|")
    for name in FOLDERS:
        if name in measured["parts"]:
            text.append(f"| {name} | " + " | ".join(map(str, measured["parts"][name])) + " |")
    wall, processor = measured["seconds"]
    text += ["", "## Time", "", f"A thousand frames of the kitchen, with depth: {wall:.1f} s, "]
    text[-1] += f"{processor:.1f} s of processor time, one thread."
    return text


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--subsets", type=int, default=50, help="parts of each right recording")
    parser.add_argument("--recordings", nargs="+", default=list(FOLDERS), choices=list(FOLDERS))
    run(parser, measure)


def measure(arguments: argparse.Namespace) -> None:
    """Raises: `DsacError` for recordings that cannot be used."""
    torch.set_num_threads(1)
    file = arguments.output / "check_recordings.json"

    def keep(what: str, name: str, found: Any) -> None:
        measured = json.loads(file.read_text()) if file.is_file() else {"mistakes": {}, "parts": {}}
        measured[what] = {**measured[what], name: found} if name else found
        file.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")

    keep("seconds", "", timed(thousand(Recording.load(arguments.data, "kitchen").frames)))
    for name in arguments.recordings:
        recording = Recording.load(arguments.data, name)
        if name in MISTAKEN:
            keep("mistakes", name, of_mistakes(name, recording))
        keep("parts", name, of_parts(name, recording, arguments.subsets))
    write_table(arguments.output, "check_recordings.md", lines(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
