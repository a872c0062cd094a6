"""Whatever stands in a recording, the outcome is a good scene or a `DatasetError`, never a traceback."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsac.datasets import load_scene
from dsac.errors import DatasetError

Generator = np.random.Generator
Damage = Callable[[bytes, Generator], bytes]

LENS = {"fl_x": 10.0, "fl_y": 11.0, "cx": 3.5, "cy": 2.5, "w": 8, "h": 6, "k1": 0.1}
POSE = "1 0 0 0 1 2 3"
TOKENS = "0 -1 1 2.5 1e999 -1e999 nan inf 1e308 1e-320 x # é \0 \ud7ff / .. 1_0 ٣".split(" ") + [
    "",
    str(2**31),
    str(2**63),
    "1" * 5000,
    "a" * 300,
]
VALUES = [None, True, 0, -1, 3.5, 1e308, float("inf"), float("nan"), 2**63, 10**400, "", "x", "\0", "\ud800"]
VALUES += ["a" * 300, [], [50], {}, {"a": []}, [[1.0, 2.0]], [["x"] * 4] * 3, [[10**400] * 4] * 3]


@pytest.fixture
def recording_of(tmp_path: Path, write_image) -> Callable[[str], dict[str, Damage]]:
    """Writes a small recording of a format; the files that describe it, and what can befall each."""

    def make(format: str) -> dict[str, Damage]:
        names = [f"images/{i}.png" for i in range(3)]
        for name in names:
            write_image(tmp_path / name)
        texts: dict[str, str] = {}
        if format == "folder":
            texts["poses.txt"] = "".join(f"{i}.png {POSE} 10\n" for i in range(3))
            texts["mapping.txt"], texts["query.txt"] = "0.png\n1.png\n", "2.png\n"
        elif format == "folder with a camera":
            texts["poses.txt"] = "".join(f"{i}.png {POSE}\n" for i in range(3))
            texts["cameras.txt"] = "1 OPENCV 8 6 10 11 4 3 0.1 0.01 0.001 0.002\n"
            texts["depth_scale.txt"] = "0.001\n"
            for i in range(3):
                write_image(tmp_path / "depth" / f"{i}.png", dtype=np.uint16, channels=1)
        elif format in ("COLMAP, text", "COLMAP with depth"):
            texts["cameras.txt"] = "# cameras\n1 PINHOLE 8 6 10 11 4 3\n2 RADIAL 8 6 10 4 3 0.1 0.01\n"
            texts["images.txt"] = "".join(f"{i} {POSE} {1 + i % 2} {i}.png\n1 2 -1 3 4 5\n" for i in range(3))
            if format == "COLMAP with depth":
                texts["points3D.txt"] = "".join(f"{i} -1 -2 {i} 0 0 0 0.1 0 1 1 1\n" for i in range(40))
                for i in range(3):
                    write_image(tmp_path / "depth" / f"{i}.png", dtype=np.uint16, channels=1)
        elif format == "7-Scenes":
            for i in range(3):
                write_image(tmp_path / f"seq-0{i + 1}" / "frame-000000.color.png")
                texts[f"seq-0{i + 1}/frame-000000.pose.txt"] = "1 0 0 1\n0 1 0 2\n0 0 1 3\n0 0 0 1\n"
            texts["TrainSplit.txt"], texts["TestSplit.txt"] = "sequence1\nsequence2\n", "sequence3\n"
            texts["poses_sfm.txt"] = "".join(
                f"seq-0{i + 1}/frame-000000.color.png {POSE} 10\n" for i in range(3)
            )
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        damages: dict[str, Damage] = dict.fromkeys(texts, damaged_text)
        if format.startswith("nerfstudio"):
            write_image(tmp_path / "depth.png", dtype=np.uint16, channels=1)
            frames = [
                {"file_path": name, "transform_matrix": np.eye(4).tolist(), "depth_file_path": "depth.png"}
                | own
                for name, own in zip(names, ({}, LENS, {"k1": 0.0}), strict=True)
            ]
            top = LENS | {
                "is_fisheye": False,
                "integer_depth_scale": 0.001,
                "applied_scale": 1,
                "frames": frames,
            }
            if format == "nerfstudio with a split":
                top |= {"train_filenames": names[:2], "val_filenames": [], "test_filenames": names[2:]}
            (tmp_path / "transforms.json").write_text(json.dumps(top))
            damages["transforms.json"] = damaged_json
        if format == "COLMAP, binary":
            cameras = struct.pack("<QIiQQ4d", 1, 1, 1, 8, 6, 10, 11, 4, 3)
            images = struct.pack("<Q", 3)
            for i in range(3):
                images += struct.pack("<I7dI", i, 1, 0, 0, 0, 1, 2, 3, 1) + f"{i}.png\0".encode()
                images += struct.pack("<QddQ", 1, 2.5, 3.5, 2**64 - 1)
            (tmp_path / "cameras.bin").write_bytes(cameras)
            (tmp_path / "images.bin").write_bytes(images)
            damages.update({"cameras.bin": damaged_bytes, "images.bin": damaged_bytes})
        return damages

    return make


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


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "format",
    [
        "folder",
        "folder with a camera",
        "COLMAP, text",
        "COLMAP, binary",
        "COLMAP with depth",
        "nerfstudio",
        "nerfstudio with a split",
        "7-Scenes",
    ],
)
def test_a_damaged_recording_is_a_good_scene_or_an_error(tmp_path, recording_of, format, seed):
    damages = recording_of(format)
    originals = {name: (tmp_path / name).read_bytes() for name in damages}
    assert len(load_scene(tmp_path).mapping) >= 2
    generator = np.random.default_rng(seed)
    outcomes = {"scene": 0, "error": 0}
    for _ in range(40):
        damaged = list(originals)[generator.integers(len(originals))]
        data = damages[damaged](originals[damaged], generator)
        (tmp_path / damaged).write_bytes(data)
        try:
            check(load_scene(tmp_path))
            outcomes["scene"] += 1
        except DatasetError as error:
            assert str(tmp_path) in str(error) or "its intrinsics are for" in str(error)
            outcomes["error"] += 1
        except Exception as error:
            raise AssertionError(f"{damaged}: {data[:2000]!r}") from error
        (tmp_path / damaged).write_bytes(originals[damaged])
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
