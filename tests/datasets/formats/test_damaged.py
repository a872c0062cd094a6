"""Whatever stands in a recording, the outcome is a good scene or a `DatasetError`, never a traceback."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import Damage, damaged_bytes, damaged_json, damaged_text, expect_scene_or_error

LENS = {"fl_x": 10.0, "fl_y": 11.0, "cx": 3.5, "cy": 2.5, "w": 8, "h": 6, "k1": 0.1}
POSE = "1 0 0 0 1 2 3"


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
    expect_scene_or_error(tmp_path, recording_of(format), seed)
