"""What can befall the files of a recording, and what must come of it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsac.datasets import load_scene
from dsac.errors import DatasetError

Generator = np.random.Generator
Damage = Callable[[bytes, Generator], bytes]

TOKENS = "0 -1 1 2.5 1e999 -1e999 nan inf 1e308 1e-320 x # é \0 \ud7ff / .. 1_0 ٣".split(" ") + [
    "",
    str(2**31),
    str(2**63),
    "1" * 5000,
    "a" * 300,
]
VALUES = [None, True, 0, -1, 3.5, 1e308, float("inf"), float("nan"), 2**63, 10**400, "", "x", "\0", "\ud800"]
VALUES += ["a" * 300, [], [50], {}, {"a": []}, [[1.0, 2.0]], [["x"] * 4] * 3, [[10**400] * 4] * 3]


def expect_scene_or_error(folder: Path, damages: dict[str, Damage], seed: int, least: int = 2) -> None:
    """Damages a file at a time; the outcome is a good scene or a `DatasetError`, and both come to pass."""
    originals = {name: (folder / name).read_bytes() for name in damages}
    assert len(load_scene(folder).mapping) >= least
    generator = np.random.default_rng(seed)
    outcomes = {"scene": 0, "error": 0}
    for _ in range(40):
        damaged = list(originals)[generator.integers(len(originals))]
        data = damages[damaged](originals[damaged], generator)
        (folder / damaged).write_bytes(data)
        try:
            check(load_scene(folder))
            outcomes["scene"] += 1
        except DatasetError as error:
            assert str(folder) in str(error) or "its intrinsics are for" in str(error)
            outcomes["error"] += 1
        except Exception as error:
            raise AssertionError(f"{damaged}: {data[:2000]!r}") from error
        (folder / damaged).write_bytes(originals[damaged])
    assert min(outcomes.values()) > 0, outcomes


def check(scene) -> None:
    """A good scene: names without repeats, numbers that are numbers, images or an error for each frame."""
    names = [*scene.mapping.names, *scene.query.names]
    assert len(set(names)) == len(names) > 0
    for frames in (scene.mapping, scene.query):
        for i in range(len(frames)):
            camera, pose = frames.camera(i), frames.cam_from_world[i]
            assert torch.isfinite(camera.params).all() and (camera.focal_px > 0).all() and min(camera.size) > 0
            assert torch.isfinite(pose.matrix).all()
            torch.testing.assert_close(pose.rotation @ pose.rotation.mT, torch.eye(3, dtype=torch.float64))
            frames[i]


def damaged_text(data: bytes, generator: Generator) -> bytes:
    """A token is another, a line is twice or not there, or the file is damaged as any other is."""
    lines = [line.split(" ") for line in data.decode().split("\n")]
    line = int(generator.integers(len(lines)))
    kind = generator.integers(5)
    if kind == 0:
        return damaged_bytes(data, generator)
    if kind == 1:
        lines[line:line] = [lines[line]] * int(generator.integers(1, 3))
    elif kind == 2:
        del lines[line]
    else:
        lines[line][int(generator.integers(len(lines[line])))] = TOKENS[generator.integers(len(TOKENS))]
    return "\n".join(" ".join(tokens) for tokens in lines).encode()


def damaged_json(data: bytes, generator: Generator) -> bytes:
    """A value is another or not there, or the file is damaged as any other is."""
    if generator.integers(6) == 0:
        return damaged_bytes(data, generator)
    top = json.loads(data)
    places = list(places_in(top))
    parent, key = places[generator.integers(len(places))]
    if isinstance(parent, dict) and generator.integers(6) == 0:
        del parent[key]
    else:
        parent[key] = VALUES[generator.integers(len(VALUES))]
    return json.dumps(top).encode()


def places_in(value: Any):
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(child, dict | list):
            yield from places_in(child)


def damaged_bytes(data: bytes, generator: Generator) -> bytes:
    """A byte is another, eight bytes are a number of a kind that hurts, or the end is missing."""
    at = int(generator.integers(len(data)))
    kind = generator.integers(4)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([generator.integers(256)]) + data[at + 1 :]
    if kind == 2:
        number = [0, 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1][generator.integers(7)]
        return data[:at] + struct.pack("<Q", number) + data[at + 8 :]
    number = [np.nan, np.inf, -np.inf, 1e308, -1.0, 0.0, 1e-320][generator.integers(7)]
    return data[:at] + struct.pack("<d", number) + data[at + 8 :]
