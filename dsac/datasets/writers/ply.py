"""Binary little-endian PLY: points with colours, and cameras as small pyramids with edges."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from dsac.geometry import Camera, Pose

_FAR = 1000.0  # metres; from there on float32 leaves less than a tenth of a millimetre


def points_as_ply(
    points: Float[np.ndarray, "N 3"],
    colours: UInt8[np.ndarray, "N 3"],
    edges: Int[np.ndarray, "E 2"] | None = None,
) -> bytes:
    """Vertices x, y, z (world, metres; double where they lie a kilometre out), red, green, blue; and edges."""
    far = len(points) > 0 and float(np.abs(points).max()) > _FAR
    kind, dtype = ("double", "<f8") if far else ("float", "<f4")
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    head += [f"property {kind} {axis}" for axis in "xyz"]
    head += [f"property uchar {colour}" for colour in ("red", "green", "blue")]
    vertices = np.empty(len(points), [("xyz", dtype, 3), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["rgb"] = points, colours
    data = vertices.tobytes()
    if edges is not None:
        head += [f"element edge {len(edges)}", "property int vertex1", "property int vertex2"]
        data += edges.astype("<i4").tobytes()
    return "".join(f"{line}\n" for line in [*head, "end_header"]).encode() + data


def cameras_as_ply(cam_from_world: Pose, camera: Camera, length: float) -> bytes:
    """For each camera of a batch (N,) five vertices, its centre first, and the eight edges of a pyramid.

    `length` is from the centre to the image's middle, in metres; the image's upper edge is white, all else red.
    """
    width, height = camera.size
    corners = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]], dtype=torch.float64)
    rays = camera.pinhole.unproject(corners)
    of_camera = torch.cat([torch.zeros(1, 3, dtype=torch.float64), length * rays])
    points = (cam_from_world.inverse() @ of_camera.expand(len(cam_from_world), 5, 3)).reshape(-1, 3).numpy()
    colours = np.tile(
        np.array([[255, 0, 0], *[[255] * 3] * 2, *[[255, 0, 0]] * 2], np.uint8), (len(cam_from_world), 1)
    )
    edges = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])
    return points_as_ply(
        points, colours, (5 * np.arange(len(cam_from_world))[:, None, None] + edges).reshape(-1, 2)
    )
