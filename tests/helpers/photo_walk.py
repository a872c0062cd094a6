"""A walk through a place as photos without poses: how well those found fit, and photos stored turned."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from textured_ball import LENS, textured

from dsac.datasets import Frames
from dsac.geometry import Pose


@dataclass(frozen=True)
class Walk:
    photos: Path  # a folder
    others: Path  # another, of photos that look the other way
    poses: Pose  # of the photos in the order of their names

    @staticmethod
    def write(folder: Path, poses: Pose, of_others: Pose) -> Walk:
        """Photos of the textured ball: `00.png`, `01.png`, ..."""
        walk = Walk(folder / "photos of a ball", folder / "others", poses)
        for place, there in ((walk.photos, poses), (walk.others, of_others)):
            place.mkdir()
            for i in range(len(there.translation)):
                rgb = textured(LENS, there[i]).image.permute(1, 2, 0).numpy()
                cv2.imwrite(str(place / f"{i:02}.png"), (rgb[..., ::-1] * 255).round().astype(np.uint8))
        return walk

    def errors(self, frames: Frames) -> tuple[float, float]:
        """Of the worst camera, its numbers being its photo's name: parts of the walk's extent, and degrees."""
        assert frames.cam_from_world is not None
        rows = [int(Path(name).stem) for name in frames.names]
        truth, found = self.poses[torch.tensor(rows)], frames.cam_from_world
        x, y = found.center - found.center.mean(0), truth.center - truth.center.mean(0)
        U, S, Vt = torch.linalg.svd(y.T @ x)
        flip = torch.tensor([1.0, 1.0, float(torch.det(U @ Vt))], dtype=torch.float64)
        turn, scale = (U * flip) @ Vt, float((S * flip).sum() / x.square().sum())
        extent = (truth.center.amax(0) - truth.center.amin(0)).norm()
        off = (scale * x @ turn.T - y).norm(dim=-1).max() / extent
        angles = Pose(found.rotation @ turn.T, found.translation).rotation_error_deg(
            Pose(truth.rotation, found.translation)
        )
        return off.item(), angles.max().item()


def turned_jpeg(bgr: np.ndarray, orientation: int) -> bytes:
    """A photo as a phone stores it that was held another way: its EXIF data say how viewers turn it back."""
    stored = {
        1: bgr,
        3: cv2.rotate(bgr, cv2.ROTATE_180),
        6: cv2.rotate(bgr, cv2.ROTATE_90_COUNTERCLOCKWISE),
        8: cv2.rotate(bgr, cv2.ROTATE_90_CLOCKWISE),
    }[orientation]
    data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II" + struct.pack("<HIH", 42, 8, 1) + tag + bytes(4)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
