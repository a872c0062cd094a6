"""The images that the encoder learns from, once on the device: photos, and rendered rooms with exact geometry.

A photo is a plane at depth 1 whose only partner is itself; a frame of a room has depth, a pose, and as partners
the frames that see much of the same. Both are the same to `pairs.py`.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dsac.datasets import Frames
from dsac.datasets.synthetic import synthetic_scene

SIZE = (640, 480)
FOCAL_PX = 525.0  # of the rendered frames, and what photos are taken to have
_DEPTH_STEP = 2  # depth is kept at every other pixel
_MAX_DEPTH_EDGE = 0.05  # of the depth, over 3×3 kept pixels: more is an edge, whose depth is anyone's
_MIN_OVERLAP = 0.35  # of a frame's pixels that a partner sees
_MAX_PARTNERS = 12


@dataclass(frozen=True)
class Pack:
    """S source images with what their views need; all tensors on one device."""

    images: UInt8[Tensor, "S 3 H W"]
    halved: UInt8[Tensor, "S 3 h w"]  # half the resolution, for views that need less
    depth: Float[Tensor, "S h w"]  # 0 where unknown or at an edge
    cam_from_world: Float[Tensor, "S 3 4"]
    partners: Int[Tensor, "S P"]  # with repetitions, so that all have as many
    scene: Int[Tensor, " S"]  # images of one scene show the same things

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Pack:
        return Pack(**{name: value.to(device) for name, value in vars(self).items()})


def load_pack(photos: list[Path], room_seeds: list[int], frames_per_room: int, cache: Path) -> Pack:
    """The pack of these photos and rooms; from the cache file if it was made of the same before."""
    key = hashlib.sha256(repr([[p.name for p in photos], room_seeds, frames_per_room]).encode()).hexdigest()[
        :12
    ]
    path = cache / f"pack-{key}.pt"
    if not path.is_file():
        parts = ([photo_pack(photos)] if photos else []) + [
            room_pack(seed, frames_per_room) for seed in room_seeds
        ]
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(vars(joined(parts)), path)
    return Pack(**torch.load(path, weights_only=True))


def photo_pack(photos: list[Path]) -> Pack:
    """Photos, filling the frame's shape; portraits lie on their side (any roll is as good)."""
    images = []
    for path in photos:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise ValueError(f"{path}: expected an image, got something else")
        if image.shape[0] > image.shape[1]:
            image = np.ascontiguousarray(np.rot90(image))
        images.append(_filling(image))
    count = len(photos)
    depth = torch.ones(count, SIZE[1] // _DEPTH_STEP, SIZE[0] // _DEPTH_STEP, dtype=torch.float16)
    pose = torch.eye(3, 4).expand(count, 3, 4)
    own = torch.arange(count)
    return _pack(images, depth, pose, own[:, None].expand(count, _MAX_PARTNERS), own)


def room_pack(seed: int, num_frames: int) -> Pack:
    """Frames of both walks through a room, rendered; frames without a partner are left out."""
    scene = synthetic_scene(num_frames // 2, num_frames - num_frames // 2, SIZE, seed)
    numbered = [(frames, i) for frames in (scene.mapping, scene.query) for i in range(len(frames))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images, depths, poses = zip(*pool.map(lambda job: _frame(*job), numbered), strict=True)
    depth, pose = torch.stack(depths), torch.stack(poses)
    partners = _partners(depth.float(), pose)
    kept = [i for i, found in enumerate(partners) if found]
    number = {i: n for n, i in enumerate(kept)}
    table = torch.tensor(
        [[number[found[k % len(found)]] for k in range(_MAX_PARTNERS)] for found in partners if found]
    )
    return _pack([images[i] for i in kept], depth[kept], pose[kept], table, torch.zeros(len(kept)).long())


def _frame(frames: Frames, index: int) -> tuple[np.ndarray, Tensor, Tensor]:
    frame = frames[index]
    assert frame.depth is not None and frame.cam_from_world is not None
    image = (frame.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    depth = frame.depth.numpy()[_DEPTH_STEP // 2 :: _DEPTH_STEP, _DEPTH_STEP // 2 :: _DEPTH_STEP]
    window = np.ones((3, 3))
    edge = cv2.dilate(depth, window) > (1 + _MAX_DEPTH_EDGE) * cv2.erode(depth, window)
    return (
        image,
        torch.from_numpy(np.where(edge, 0, depth)).half(),
        frame.cam_from_world.matrix[:3].float(),
    )


def _partners(depth: Float[Tensor, "S h w"], pose: Float[Tensor, "S 3 4"]) -> list[list[int]]:
    """For each frame the others that see much of it from elsewhere, by a coarse grid of its points."""
    step = 16
    sparse = depth[:, step // 2 :: step, step // 2 :: step]
    y, x = torch.meshgrid(*(torch.arange(n) * step + step / 2 + 0.5 for n in sparse.shape[1:]), indexing="ij")
    center = torch.tensor(SIZE) / 2
    rays = torch.stack([x, y, torch.zeros_like(x)], -1) * _DEPTH_STEP - torch.tensor([*center, -FOCAL_PX])
    result = []
    for i in range(len(depth)):
        known = sparse[i] > 0
        points = rays[known] / FOCAL_PX * sparse[i][known][:, None]
        points = (points - pose[i, :, 3]) @ pose[i, :, :3]  # to the world
        seen = []
        for j in range(len(depth)):
            in_j = points @ pose[j, :, :3].T + pose[j, :, 3]
            pixel = (in_j[:, :2] / in_j[:, 2:] * FOCAL_PX + center) / _DEPTH_STEP
            inside = (
                (in_j[:, 2] > 0.1) & (pixel >= 0).all(1) & (pixel < torch.tensor(depth.shape[:0:-1])).all(1)
            )
            column, row = pixel[inside].long().T
            same = (depth[j, row, column] / in_j[inside, 2] - 1).abs() < 0.03
            seen.append(same.sum().item() / max(1, sparse[i].numel()) if j != i else 0.0)
        order = np.random.default_rng(i).permutation(len(seen))
        result.append([int(j) for j in order if seen[j] > _MIN_OVERLAP][:_MAX_PARTNERS])
    return result


def _filling(image: np.ndarray) -> np.ndarray:
    scale = max(SIZE[0] / image.shape[1], SIZE[1] / image.shape[0])
    size = (max(SIZE[0], round(image.shape[1] * scale)), max(SIZE[1], round(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - SIZE[0]) // 2, (size[1] - SIZE[1]) // 2
    return image[top : top + SIZE[1], left : left + SIZE[0]]


def _pack(images: list[np.ndarray], depth: Tensor, pose: Tensor, partners: Tensor, scene: Tensor) -> Pack:
    half = (SIZE[0] // 2, SIZE[1] // 2)
    halved = [cv2.resize(image, half, interpolation=cv2.INTER_AREA) for image in images]
    stack = [torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2).contiguous() for x in (images, halved)]
    return Pack(stack[0], stack[1], depth.half(), pose.contiguous(), partners.contiguous(), scene)


def joined(parts: list[Pack]) -> Pack:
    partners, scenes, images, names = [], [], 0, 0
    for part in parts:
        partners.append(part.partners + images)
        scenes.append(part.scene + names)
        images += len(part)
        names += int(part.scene.max()) + 1
    whole = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("images", "halved", "depth", "cam_from_world")
    }
    return Pack(**whole, partners=torch.cat(partners), scene=torch.cat(scenes))
