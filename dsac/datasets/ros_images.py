"""ROS' image messages into arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

# encoding -> channels, and OpenCV's name of the conversion to RGB (its Bayer names start a pixel later)
_ENCODINGS = {
    "rgb8": (3, ""),
    "bgr8": (3, "COLOR_BGR2RGB"),
    "8uc3": (3, "COLOR_BGR2RGB"),
    "rgba8": (4, "COLOR_RGBA2RGB"),
    "bgra8": (4, "COLOR_BGRA2RGB"),
    "mono8": (1, "COLOR_GRAY2RGB"),
    "8uc1": (1, "COLOR_GRAY2RGB"),
    "bayer_rggb8": (1, "COLOR_BayerBG2RGB"),
    "bayer_bggr8": (1, "COLOR_BayerRG2RGB"),
    "bayer_gbrg8": (1, "COLOR_BayerGR2RGB"),
    "bayer_grbg8": (1, "COLOR_BayerGB2RGB"),
    "yuv422": (2, "COLOR_YUV2RGB_UYVY"),
    "yuv422_yuy2": (2, "COLOR_YUV2RGB_YUY2"),
}
_DEPTH = {"16uc1": ("u2", 0.001), "32fc1": ("f4", 1.0)}  # units: millimetres, metres (REP 118)


def rgb_pixels(message: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Of an `Image` or `CompressedImage`. Raises: `ValueError` for other encodings and damaged data."""
    import cv2  # here, because importing the package should not load it

    if hasattr(message, "format"):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.asarray(message.data, np.uint8), flags)
        if pixels is None:
            raise ValueError(f"no decoder knows the compressed image ({message.format})")
        return pixels
    encoding = message.encoding.lower()
    if encoding == "mono16":
        pixels = (_rows(message, "u2", 1) >> 8).astype(np.uint8)
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if encoding not in _ENCODINGS:
        raise ValueError(f"expected an encoding among {', '.join(_ENCODINGS)}, got {message.encoding}")
    channels, conversion = _ENCODINGS[encoding]
    pixels = np.ascontiguousarray(_rows(message, "u1", channels))
    return cv2.cvtColor(pixels, getattr(cv2, conversion)) if conversion else pixels


def is_depth(message: Any) -> bool:
    return getattr(message, "encoding", "").lower() in _DEPTH


def depth_metres(message: Any) -> Float32[np.ndarray, "H W"]:
    """0 where unknown. Raises: `ValueError` for another encoding and damaged data."""
    if not is_depth(message):
        raise ValueError(f"expected depth as 16UC1 or 32FC1, got {getattr(message, 'encoding', 'compressed')}")
    kind, scale = _DEPTH[message.encoding.lower()]
    depth = _rows(message, kind, 1).astype(np.float32) * np.float32(scale)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _rows(message: Any, kind: str, channels: int) -> np.ndarray:
    """(H, W) or (H, W, channels), without what pads the rows."""
    dtype = np.dtype(("<", ">")[bool(message.is_bigendian)] + kind)
    height, width, step = int(message.height), int(message.width), int(message.step)
    used = width * channels * dtype.itemsize
    data = np.asarray(message.data, np.uint8)
    if step < used or data.size < height * step or not used or not height:
        raise ValueError(f"an image of {width}x{height} in {data.size} bytes, {step} a row")
    rows = np.ascontiguousarray(data[: height * step].reshape(height, step)[:, :used]).view(dtype)
    return rows.reshape(height, width) if channels == 1 else rows.reshape(height, width, channels)
