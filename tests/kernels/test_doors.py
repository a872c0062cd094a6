"""Arrays that do not go together, and options without meaning, are refused before a compiled loop sees them.

The loops are replaced by an error here: what a door lets through fails a test instead of ending the process.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dsac.kernels import cpu, gpu, reference
from dsac.kernels.arrays import PosedRows
from dsac.kernels.search import face as search
from dsac.kernels.search_torch import solver
from dsac.kernels.twins import face as twins
from dsac.kernels.twins import rows

pytestmark = pytest.mark.wrong_input
_FILL_ROWS = rows.fill_rows

B, H, N = 3, 4, 50
ROWS = {
    "pixels": (B, N, 2),
    "scene_points": (B, N, 3),
    "focal_px": (B, 2),
    "center_px": (B, 2),
    "weights": (B, N),
    "depths": (B, N),
}
POSES = {"rotation": (B, H, 3, 3), "translation": (B, H, 3)}
WRONG_ROWS = [
    ("pixels", (40, N, 2)),
    ("pixels", (1, N, 2)),
    ("pixels", (B, N - 1, 2)),
    ("pixels", (B, N, 3)),
    ("pixels", (B, 2 * N)),
    ("scene_points", (1, N, 3)),
    ("scene_points", (B, 2 * N, 3)),
    ("scene_points", (B, N, 2)),
    ("scene_points", (B, N, 4)),
    ("scene_points", (N, 3)),
    ("scene_points", ()),
    ("focal_px", (1, 2)),
    ("focal_px", (B, 1)),
    ("focal_px", (B,)),
    ("center_px", (1, 2)),
    ("center_px", (2,)),
    ("weights", (B, N - 1)),
    ("weights", (1, N)),
    ("weights", (B, 0)),
    ("weights", (B, N, 1)),
]
WRONG_POSES = [
    ("rotation", (1, H, 3, 3)),
    ("rotation", (B, H + 1, 3, 3)),
    ("rotation", (B, H, 3, 4)),
    ("rotation", (B, H, 9)),
    ("translation", (1, H, 3)),
    ("translation", (B, H - 1, 3)),
    ("translation", (B, H, 2)),
    ("translation", (B, 3)),
]
KINDS = [
    np.int64,
    np.bool_,
    np.complex64,
    np.object_,
    torch.int32,
    torch.bool,
    torch.complex64,
    list,
]


@pytest.fixture(autouse=True)
def _no_loops(monkeypatch):
    def a_loop():
        def reached(*_, **__):
            raise AssertionError("wrong input has come through a door")

        return reached

    for module, name in (
        (search, "_rgb_kernel"),
        (search, "_rgbd_kernel"),
        (solver, "_solve_images"),
        (rows, "fill_rows"),
        (reference, "_camera_axes"),
        (reference, "_levenberg_marquardt"),
        (twins.poses, "p3p_sets"),
    ):
        monkeypatch.setattr(module, name, a_loop())


def _arrays(shapes, kind, **others):
    """Of ones in float32, but for some."""
    return {name: kind(others.get(name, shape), dtype=_float(kind)) for name, shape in shapes.items()}


def _float(kind):
    return np.float32 if kind is np.ones else torch.float32


def _of_kind(shape, kind):
    if kind is list:
        return np.ones(shape).tolist()
    return (torch if isinstance(kind, torch.dtype) else np).ones(shape, dtype=kind)


def _refused(name: str) -> str:
    """Of two arrays that do not go together either may be named."""
    other = {"scene_points": "pixels", "translation": "rotation"}.get(name, name)
    return f"^({name}|{other}): expected .*, got"


# ---- the search --------------------------------------------------------------------------------------


def _solve(kernels, depth: bool, arrays, **options):
    arrays = dict(arrays)
    depths = arrays.pop("depths")
    if depth:
        return kernels.solve_rgbd(depths=depths, **arrays, **{"threshold_m": 0.1, **options})
    return kernels.solve_rgb(**arrays, **{"threshold_px": 10.0, **options})


solvers = pytest.mark.parametrize(
    ("kernels", "kind"),
    [(cpu, np.ones), (cpu, torch.ones), (gpu, torch.ones)],
    ids=["cpu-numpy", "cpu-torch", "gpu"],
)
with_and_without_depth = pytest.mark.parametrize("depth", [False, True], ids=["rgb", "rgbd"])


@solvers
@with_and_without_depth
def test_the_search_refuses_shapes_that_do_not_go_together(depth, kernels, kind):
    wrong_depths = [("depths", (B, N - 1)), ("depths", (N,)), ("depths", (1, N))] if depth else []
    for name, shape in [*WRONG_ROWS, *wrong_depths]:
        with pytest.raises(ValueError, match=_refused(name)):
            _solve(kernels, depth, _arrays(ROWS, kind, **{name: shape}))


@with_and_without_depth
@pytest.mark.parametrize("kernels", [cpu, gpu])
def test_the_search_refuses_what_is_no_array_of_floats(kernels, depth):
    for name in ROWS if depth else ROWS.keys() - {"depths"}:
        for kind in KINDS:
            arrays = _arrays(ROWS, torch.ones)
            arrays[name] = _of_kind(ROWS[name], kind)
            with pytest.raises(ValueError, match=f"^{name}: expected"):
                _solve(kernels, depth, arrays)


@pytest.mark.parametrize("kernels", [cpu, gpu])
def test_the_search_refuses_a_missing_depth(kernels):
    with pytest.raises(ValueError, match="depths: expected .* got NoneType"):
        _solve(kernels, True, {**_arrays(ROWS, torch.ones), "depths": None})


@pytest.mark.parametrize("kernels", [cpu, gpu])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_the_search_refuses_thresholds_and_depths_without_meaning(value, kernels):
    arrays = _arrays(ROWS, torch.ones)
    with pytest.raises(ValueError, match=f"threshold_px: expected more than 0, got {value}"):
        _solve(kernels, False, arrays, threshold_px=value)
    with pytest.raises(ValueError, match=f"threshold_m: expected more than 0, got {value}"):
        _solve(kernels, True, arrays, threshold_m=value)
    if value != 0:
        with pytest.raises(ValueError, match=f"largest_depth: expected more than 0, got {value}"):
            _solve(kernels, False, arrays, largest_depth=value)
        with pytest.raises(ValueError, match=f"depth_noise: expected 0 or more, got {value}"):
            _solve(kernels, True, arrays, depth_noise=value)


@with_and_without_depth
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"effort": cpu.Effort(confidence=1.0)}, "confidence"),
        ({"effort": cpu.Effort(confidence=0.0)}, "confidence"),
        ({"effort": cpu.Effort(confidence=math.nan)}, "confidence"),
        ({"effort": cpu.Effort(max_hypotheses=-1)}, "max_hypotheses"),
        ({"effort": cpu.Effort(max_hypotheses=2.5)}, "max_hypotheses"),  # type: ignore[arg-type]
        ({"effort": cpu.Effort(threads=0)}, "threads"),
    ],
)
def test_the_search_refuses_an_effort_without_meaning(options, named, depth):
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        _solve(cpu, depth, _arrays(ROWS, np.ones), **options)


# ---- the twins ---------------------------------------------------------------------------------------

RULES = SimpleNamespace(tiles=6)
FUNCTIONS = {
    "reprojection_error": lambda module, posed: module.reprojection_error(posed, 100.0),
    "soft_inlier_count": lambda module, posed: module.soft_inlier_count(posed, 10.0, 100.0),
    "refine": lambda module, posed: module.refine(posed, 10.0, 5),
}
GRADIENTS = {
    "soft_inlier_count_gradient": lambda module, posed: module.soft_inlier_count_gradient(
        posed, 10.0, 100.0, torch.ones(B, H)
    ),
    "refine_gradient": lambda module, posed: module.refine_gradient(posed, 10.0, torch.ones(B, H, 6)),
    "optimum_increment": lambda module, posed: module.optimum_increment(posed, 10.0),
}
CALLS = [(cpu, name, call) for name, call in {**FUNCTIONS, **GRADIENTS}.items()]
CALLS += [(reference, name, call) for name, call in FUNCTIONS.items()]
calls = pytest.mark.parametrize(
    ("module", "call"),
    [(module, call) for module, _, call in CALLS],
    ids=[f"{module.__name__.rpartition('.')[2]}-{name}" for module, name, _ in CALLS],
)


def _posed(kind=torch.ones, **others) -> PosedRows:
    arrays = _arrays({**POSES, **ROWS}, kind, **others)
    del arrays["depths"]
    return PosedRows(**arrays)


@calls
def test_functions_of_poses_refuse_shapes_that_do_not_go_together(module, call):
    for name, shape in [*WRONG_ROWS, *WRONG_POSES]:
        with pytest.raises(ValueError, match=_refused(name)):
            call(module, _posed(**{name: shape}))


@calls
def test_functions_of_poses_refuse_what_is_no_array_of_floats(module, call):
    shapes = {**POSES, **ROWS}
    for name in PosedRows._fields:
        for kind in KINDS:
            with pytest.raises(ValueError, match=f"^{name}: expected"):
                call(module, _posed()._replace(**{name: _of_kind(shapes[name], kind)}))


@pytest.mark.parametrize("kind", [np.ones, torch.ones], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", ["scene_points", "rotation", "focal_px", "weights"])
def test_trust_is_asked_of_one_pose_an_image(name, kind):
    shapes = {"rotation": (B, 1, 3, 3), "translation": (B, 1, 3)}
    with pytest.raises(ValueError, match=r"rotation: expected \(3, 1, 3, 3\), got \(3, 4, 3, 3\)"):
        cpu.pose_trust(_posed(kind), 10.0, 5, 0.01, RULES)
    with pytest.raises(ValueError, match=_refused(name)):
        cpu.pose_trust(_posed(kind, **{**shapes, name: (2, 2)}), 10.0, 5, 0.01, RULES)
    posed = _posed(kind, **shapes)
    with pytest.raises(ValueError, match="rules.tiles: expected a whole number from 1 up, got 0"):
        cpu.pose_trust(posed, 10.0, 5, 0.01, SimpleNamespace(tiles=0))
    with pytest.raises(ValueError, match="chance: expected 0 to 1, got nan"):
        cpu.pose_trust(posed, 10.0, 5, math.nan, RULES)


@pytest.mark.parametrize("shape", [(B, H + 1), (1, H), (B,), (B, H, 5), (B, H + 1, 6), (1, H, 6)])
def test_a_cotangent_of_another_shape_is_refused(shape, monkeypatch):
    monkeypatch.setattr(rows, "fill_rows", _FILL_ROWS)  # the rows are good, and are filled first
    posed = _posed()
    with pytest.raises(ValueError, match=r"cotangent: expected \(3, 4\), got"):
        cpu.soft_inlier_count_gradient(posed, 10.0, 100.0, torch.ones(shape))
    with pytest.raises(ValueError, match=r"cotangent: expected \(3, 4, 6\), got"):
        cpu.refine_gradient(posed, 10.0, torch.ones(shape))


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_thresholds_without_meaning_are_refused(value):
    posed, one = _posed(), _posed(rotation=(B, 1, 3, 3), translation=(B, 1, 3))
    for call in (
        lambda: cpu.soft_inlier_count(posed, value, 100.0),
        lambda: cpu.refine(posed, value, 5),
        lambda: cpu.pose_trust(one, value, 5, 0.01, RULES),
        lambda: cpu.soft_inlier_count_gradient(posed, value, 100.0, torch.ones(B, H)),
        lambda: cpu.refine_gradient(posed, value, torch.ones(B, H, 6)),
        lambda: cpu.optimum_increment(posed, value),
    ):
        with pytest.raises(ValueError, match=f"threshold_px: expected more than 0, got {value}"):
            call()
    for call in (
        lambda: cpu.reprojection_error(posed, value),
        lambda: cpu.soft_inlier_count(posed, 10.0, value),
        lambda: cpu.soft_inlier_count_gradient(posed, 10.0, value, torch.ones(B, H)),
    ):
        with pytest.raises(ValueError, match=f"max_error_px: expected more than 0, got {value}"):
            call()


@pytest.mark.parametrize("value", [-1, 2.5, math.nan])
def test_a_number_of_iterations_is_a_whole_number(value):
    with pytest.raises(ValueError, match=f"iterations: expected a whole number from 0 up, got {value}"):
        cpu.refine(_posed(), 10.0, value)


@pytest.mark.parametrize(
    ("bearings", "points"),
    [
        ((5, 3, 3), (4, 3, 3)),
        ((4, 3, 3), (5, 3, 3)),
        ((5, 3, 2), (5, 3, 3)),
        ((5, 3, 3), (5, 4, 3)),
        ((3, 3), (3, 3)),
    ],
)
@pytest.mark.parametrize("kind", [np.ones, torch.ones], ids=["numpy", "torch"])
def test_p3p_refuses_sets_of_another_shape(kind, bearings, points):
    with pytest.raises(ValueError, match="(bearings|points): expected"):
        cpu.p3p(kind(bearings), kind(points))
