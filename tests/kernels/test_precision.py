"""What kernels compute depends on what comes in, not on autocast or the default type around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import pytest
import torch

from dsac.geometry import Pose
from dsac.kernels import cpu, gpu, reference
from dsac.kernels.arrays import PosedRows
from dsac.kernels.precision import full_precision


@contextmanager
def _default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AROUND = {
    "float64 by default": lambda: _default_type(torch.float64),
    "bfloat16 by default": lambda: _default_type(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def _problem() -> tuple[PosedRows, torch.Tensor, torch.Tensor]:
    """Poses near the truth, and rows of which a third is wrong; depths; homogeneous targets. float32."""
    generator = torch.Generator().manual_seed(2)
    focal, center = torch.full((2, 2), 500.0), torch.full((2, 2), 250.0)
    pixels = 500 * torch.rand(2, 200, 2, generator=generator)
    depths = 1 + 3 * torch.rand(2, 200, generator=generator)
    rays = torch.cat([(pixels - center[:, None]) / focal[:, None], torch.ones(2, 200, 1)], -1)
    truth = Pose.exp(torch.randn(2, 6, generator=generator))
    camera_points = rays * depths[..., None]
    scene = truth.inverse() @ camera_points + 0.01 * torch.randn(2, 200, 3, generator=generator)
    scene[:, ::3] += torch.randn(2, 67, 3, generator=generator)
    near = Pose.exp(0.01 * torch.randn(2, 3, 6, generator=generator)) @ truth[:, None]
    weights = 0.1 + torch.rand(2, 200, generator=generator)
    posed = PosedRows(near.rotation, near.translation, pixels, scene, focal, center, weights)
    return posed, depths, torch.cat([camera_points, (depths > 2)[..., None].float()], -1)


def _sets(posed: PosedRows) -> tuple[torch.Tensor, torch.Tensor]:
    rays = (posed.pixels - posed.center_px[:, None]) / posed.focal_px[:, None]
    rays = torch.nn.functional.pad(rays, (0, 1), value=1.0)
    return rays[:, :198].reshape(-1, 3, 3), posed.scene_points[:, :198].reshape(-1, 3, 3)


FUNCTIONS = {
    "p3p": lambda p, d, t: reference.p3p(*_sets(p)),
    "kabsch": lambda p, d, t: reference.kabsch(*_sets(p)),
    "reprojection_error": lambda p, d, t: reference.reprojection_error(p, 100.0),
    "soft_inlier_count": lambda p, d, t: reference.soft_inlier_count(p, 10.0, 100.0),
    "refine": lambda p, d, t: reference.refine(p, 10.0, 10),
    "point_distance": lambda p, d, t: reference.point_distance(
        p.rotation, p.translation, t, p.scene_points, 1.0
    ),
    "soft_count": lambda p, d, t: reference.soft_count(10 * d[:, None].expand(2, 3, 200), p.weights, 10.0),
    "refine_points": lambda p, d, t: reference.refine_points(
        p.rotation, p.translation, t, p.scene_points, p.weights, 0.1, 10
    ),
    "solve_rgb": lambda p, d, t: gpu.solve_rgb(*p[2:], threshold_px=10.0),
    "solve_rgbd": lambda p, d, t: gpu.solve_rgbd(*p[2:4], d, *p[4:], threshold_m=0.1),
    "refine of the CPU": lambda p, d, t: cpu.refine(p, 10.0, 10),
    "soft_inlier_count of the CPU": lambda p, d, t: cpu.soft_inlier_count(p, 10.0, 100.0),
    "solve_rgb of the CPU": lambda p, d, t: cpu.solve_rgb(*p[2:], threshold_px=10.0),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND.keys())
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_neither_autocast_nor_the_default_type_changes_an_answer(function, around):
    problem = _problem()
    expected = function(*problem)
    with around():
        found = function(*problem)
    pairs = [(found, expected)] if isinstance(found, torch.Tensor) else zip(found, expected, strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND.keys())
def test_neither_changes_a_gradient(around):
    posed, _, _ = _problem()

    def gradient(module, around) -> torch.Tensor:
        points = posed.scene_points.clone().requires_grad_()
        with around():
            count = module.soft_inlier_count(posed._replace(scene_points=points), 10.0, 100.0)
        return torch.autograd.grad(count.sum(), points)[0]

    for module in (reference, cpu):
        assert torch.equal(gradient(module, around), gradient(module, nullcontext))


def test_full_precision_ends_autocast_and_costs_nothing_without_it():
    with torch.autocast("cpu", torch.bfloat16), full_precision("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    without: AbstractContextManager = full_precision("cpu")
    assert not isinstance(without, torch.autocast)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_twins_compute_in_the_type_of_the_scene_points(dtype):
    """Errors of exact points are what rounding leaves of a thousand pixels."""
    posed, depths, _ = _problem()
    exact = Pose.exp(torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    rays = torch.nn.functional.pad((posed.pixels.double() - 250.0) / 500.0, (0, 1), value=1.0)
    scene = exact[:, 0].inverse() @ (rays * depths[..., None].double())
    posed = posed._replace(rotation=exact.rotation, translation=exact.translation, scene_points=scene)
    errors = cpu.reprojection_error(PosedRows(*(x.numpy().astype(dtype) for x in posed)), 100.0)
    assert errors.dtype == dtype
    assert errors.max() < (1e-10 if dtype == np.float64 else 5e-3)
