"""3D Scanner App, "all data": `frame_00000.jpg`, `frame_00000.json` and `depth_00000.png` beside each other.

A frame's JSON has `cameraPoseARFrame`, the world-from-camera matrix row by row with ARKit's axes (x right, y
up, z backward), and `intrinsics`, the camera's matrix. Only some of the frames have an image. Depth is in
millimetres.
"""

from __future__ import annotations

import torch

from dsac.datasets.format import Recording
from dsac.datasets.json_values import json_list, read_json
from dsac.datasets.listed_files import IMAGE_ENDINGS, files_with
from dsac.datasets.posed_files import OPENGL_AXES, Lens, PosedImages, pick, poses_from_matrices
from dsac.datasets.recording import ResampledDepth
from dsac.datasets.storage import Storage

LOOKS_FOR = "frame_00000.json beside frame_00000.jpg (3D Scanner App)"


def recognises(storage: Storage) -> bool:
    return bool(_frames(storage))


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of their numbers; the truth is `arkit`."""
    names = _frames(storage)
    matrices, lenses = [], []
    for name in names:
        path = storage.join(_json_of(name))
        entry = read_json(path)
        matrices.append(
            torch.tensor(json_list(entry, "cameraPoseARFrame", 16, path), dtype=torch.float64).reshape(4, 4)[:3]
        )
        lenses.append(Lens.from_matrix(json_list(entry, "intrinsics", 9, path), path))
    rows, cam_from_world = poses_from_matrices(names, matrices, storage.path, OPENGL_AXES)
    names = pick(names, rows)
    depth = {name: f"depth_{name.rpartition('.')[0].removeprefix('frame_')}.png" for name in names}
    images = PosedImages(names, cam_from_world, pick(lenses, rows), storage.path, depth, ResampledDepth(0.001))
    return images.recording(storage, "3D Scanner App", "arkit", truth)


def _frames(storage: Storage) -> list[str]:
    images = (name for name in files_with(storage, ".", IMAGE_ENDINGS) if name.startswith("frame_"))
    return [name for name in images if storage.has(_json_of(name))]


def _json_of(image: str) -> str:
    return image.rpartition(".")[0] + ".json"
