"""The images that the encoder learns from, once on the device: scenes of which each has a head of its own.

A scene is a gallery of photos on a wall, a furnished room or a place (`places.py`). All are the same to
`views.py`: images with depth and pose. Heads learn from some images of a scene and are judged by others, taken
from elsewhere; of a gallery all do both, for its views are drawn around the photos' planes.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from dsac.datasets import Frames
from dsac.datasets.image import read_image
from dsac.errors import DatasetError
from dsac.rooms import synthetic_scene
from encoder_training.places import render_place

SIZE = (640, 480)
FOCAL_PX = 525.0  # of the rendered frames, and what photos are taken to have
PHOTOS_OF_A_GALLERY = 24
_RECIPE = 1  # to be counted up when this file or `places.py` makes other images
_DEPTH_STEP = 2  # depth is kept at every other pixel
_MAX_DEPTH_EDGE = 0.05  # of the depth, over 3×3 kept pixels: more is an edge, whose depth is anyone's
_COLUMNS = 6  # of photos on the wall
_SPACING = (1.4, 1.1)  # from one photo's middle to the next, in focal lengths


@dataclass(frozen=True)
class Pack:
    """S source images with what their views need; all tensors on one device."""

    images: UInt8[Tensor, "S 3 H W"]
    halved: UInt8[Tensor, "S 3 h w"]  # half the resolution, for views that need less
    depth: Float[Tensor, "S h w"]  # 0 where unknown or at an edge
    cam_from_world: Float[Tensor, "S 3 4"]
    scene: Int[Tensor, " S"]
    planar: Bool[Tensor, " S"]  # a photo: views may be taken from the side
    learned: Bool[Tensor, " S"]  # heads learn from its views
    judged: Bool[Tensor, " S"]  # and are judged by its views

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Pack:
        return Pack(**{name: value.to(device) for name, value in vars(self).items()})


def load_pack(photos: list[Path], galleries: int, rooms: int, places: int, frames: int, cache: Path) -> Pack:
    """So many scenes of each kind, with `frames` of rooms and places; from the cache if it was made before.

    Raises: `DatasetError` when there are too few photos, or one is none.
    """
    needed = max(galleries * PHOTOS_OF_A_GALLERY, 1 if places else 0)
    if len(photos) < needed:
        raise DatasetError(f"photos: expected {needed} or more for {galleries} galleries, got {len(photos)}")
    if not min(galleries, rooms, places) >= 0 < galleries + rooms + places:
        raise DatasetError("expected a scene at least: some galleries, rooms or places")
    if rooms + places > 0 and frames < 2:
        raise DatasetError(f"frames: expected 2 or more of a room or place, got {frames}")
    known = [(photo.name, photo.stat().st_size) for photo in photos]
    recipe = (_RECIPE, known, galleries, rooms, places, frames)
    key = hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]
    path = cache / f"pack-{key}.pt"
    if not path.is_file():
        order = np.random.default_rng(0).permutation(len(photos))[: galleries * PHOTOS_OF_A_GALLERY]
        walls = [order[i : i + PHOTOS_OF_A_GALLERY] for i in range(0, len(order), PHOTOS_OF_A_GALLERY)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = [
                *pool.map(lambda wall: gallery_pack([photos[i] for i in wall]), walls),
                *pool.map(lambda seed: room_pack(seed, frames), range(1000, 1000 + rooms)),
                *pool.map(lambda seed: place_pack(photos, seed, frames), range(100, 100 + places)),
            ]
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(vars(joined(parts)), part := path.with_suffix(".part"))
        part.replace(path)
    try:
        return Pack(**torch.load(path, weights_only=True))
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise DatasetError(f"{path}: damaged, remove it to have it made again") from error


def gallery_pack(photos: list[Path]) -> Pack:
    """Photos side by side on a wall, a focal length away; portraits lie on their side (any roll is as good).

    Raises: `DatasetError` when one is no photo.
    """
    count = len(photos)
    depth = torch.ones(count, SIZE[1] // _DEPTH_STEP, SIZE[0] // _DEPTH_STEP)
    place = torch.arange(count)
    pose = torch.eye(3, 4).repeat(count, 1, 1)
    pose[:, 0, 3] = -_SPACING[0] * (place % _COLUMNS - (_COLUMNS - 1) / 2)
    pose[:, 1, 3] = -_SPACING[1] * (place // _COLUMNS - (PHOTOS_OF_A_GALLERY // _COLUMNS - 1) / 2)
    both = torch.ones(count, dtype=torch.bool)
    return _pack([_filling(read_image(path)) for path in photos], depth, pose, both, both, both)


def room_pack(seed: int, num_frames: int) -> Pack:
    """Frames of both walks through the furnished room: the walk for mapping, and the one for queries."""
    scene = synthetic_scene(num_frames // 2, num_frames - num_frames // 2, SIZE, seed)
    numbered = [(frames, i) for frames in (scene.mapping, scene.query) for i in range(len(frames))]
    images, depths, poses = zip(*(_frame(*numbers) for numbers in numbered), strict=True)
    return _rendered(list(images), list(depths), torch.stack(poses))


def place_pack(photos: list[Path], seed: int, num_frames: int) -> Pack:
    """Frames of a place, from both sides. Raises: `ValueError` when a photo is none."""
    place = render_place(photos, seed, num_frames, SIZE, FOCAL_PX)
    return _rendered(place.images, place.depths, torch.from_numpy(place.cam_from_world).float())


def joined(parts: list[Pack]) -> Pack:
    """One after the other, each with a scene of its own."""
    together = {name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    together["scene"] = torch.repeat_interleave(torch.tensor([len(part) for part in parts]))
    return Pack(**together)


def _frame(frames: Frames, index: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    frame = frames[index]
    assert frame.depth is not None and frame.cam_from_world is not None
    image = (frame.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return image, frame.depth.numpy(), frame.cam_from_world.matrix[:3].float()


def _rendered(images: list[np.ndarray], depths: list[np.ndarray], poses: Float[Tensor, "S 3 4"]) -> Pack:
    """Of frames whose second half is taken from elsewhere."""
    kept = torch.from_numpy(np.stack([_without_edges(depth) for depth in depths]))
    elsewhere = torch.arange(len(images)) >= len(images) // 2
    return _pack(images, kept, poses, torch.zeros_like(elsewhere), ~elsewhere, elsewhere)


def _without_edges(depth: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "h w"]:
    kept = depth[_DEPTH_STEP // 2 :: _DEPTH_STEP, _DEPTH_STEP // 2 :: _DEPTH_STEP]
    window = np.ones((3, 3))
    edge = cv2.dilate(kept, window) > (1 + _MAX_DEPTH_EDGE) * cv2.erode(kept, window)
    return np.where(edge, 0, kept)


def _filling(image: np.ndarray) -> np.ndarray:
    """The middle of an image, of the frame's size."""
    if image.shape[0] > image.shape[1]:
        image = np.ascontiguousarray(np.rot90(image))
    scale = max(SIZE[0] / image.shape[1], SIZE[1] / image.shape[0])
    size = (max(SIZE[0], round(image.shape[1] * scale)), max(SIZE[1], round(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - SIZE[0]) // 2, (size[1] - SIZE[1]) // 2
    return image[top : top + SIZE[1], left : left + SIZE[0]]


def _pack(
    images: list[np.ndarray], depth: Tensor, pose: Tensor, planar: Tensor, learned: Tensor, judged: Tensor
) -> Pack:
    half = (SIZE[0] // 2, SIZE[1] // 2)
    halved = [cv2.resize(image, half, interpolation=cv2.INTER_AREA) for image in images]
    stack = [torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2).contiguous() for x in (images, halved)]
    scene = torch.zeros(len(images), dtype=torch.int64)
    return Pack(stack[0], stack[1], depth.half(), pose, scene, planar, learned, judged)
