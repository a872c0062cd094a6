from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from dsac.errors import BackendError
from dsac.kernels import point_engine, reprojection_engine
from dsac.kernels.dispatch import choose


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_auto_takes_numba_unless_a_gradient_is_needed_that_it_lacks(dtype):
    plain, live = torch.zeros(3, dtype=dtype), torch.zeros(3, dtype=dtype, requires_grad=True)
    assert choose("auto", plain) == "cpu"
    assert choose("auto", plain, live) == "reference"
    assert choose("auto", plain, differentiable=(live,)) == "cpu"
    with torch.no_grad():
        assert choose("auto", live) == "cpu"
    assert choose("reference", plain) == "reference"
    assert choose("auto", plain.half()) == choose("auto", plain.bfloat16(), plain) == "reference"


@pytest.mark.wrong_input
def test_auto_takes_the_gpu_for_tensors_on_cuda(monkeypatch):
    """Asked of what a tensor of CUDA says about itself."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def tensor(dtype=torch.float32, requires_grad=False):
        return SimpleNamespace(dtype=dtype, is_cpu=False, is_cuda=True, requires_grad=requires_grad)

    assert choose("auto", tensor()) == "gpu"
    assert choose("gpu", tensor()) == "gpu"
    assert choose("auto", tensor(torch.float64)) == "gpu"
    assert choose("auto", tensor(requires_grad=True)) == "reference"
    assert choose("auto", differentiable=(tensor(requires_grad=True),)) == "gpu"
    assert choose("auto", tensor(), torch.zeros(3)) == "reference"


def test_an_engine_says_what_its_backend_lacks():
    rows, live = torch.zeros(3), torch.zeros(3, requires_grad=True)
    by_numba, by_torch = reprojection_engine("cpu", rows), reprojection_engine("reference", rows)
    assert by_numba.search and by_numba.trust and by_numba.optimum_increment
    assert by_torch.search is by_torch.trust is by_torch.optimum_increment is None
    assert reprojection_engine("auto", rows) is by_numba and reprojection_engine("auto", live) is by_torch
    # in metres only the search is a kernel, and the rest has any gradient
    points = point_engine("auto", live)
    assert points.search and points.trust is points.optimum_increment is None
    assert point_engine("reference", rows).search is None


@pytest.mark.parametrize(
    ("backend", "inputs", "why"),
    [
        ("gpu", torch.zeros(3), "gpu: (no CUDA device|takes cuda tensors)"),
        ("cpu", torch.zeros(3, requires_grad=True), "cpu: has no gradient"),
        ("cpu", torch.zeros(3, device="meta"), "cpu: takes cpu tensors"),
    ],
)
def test_a_backend_that_cannot_be_used_is_an_error_that_lists_all(backend, inputs, why):
    with pytest.raises(BackendError, match=why) as error:
        choose(backend, inputs)
    assert "reference: available" in str(error.value)


@pytest.mark.wrong_input
def test_an_unknown_backend_is_an_error():
    with pytest.raises(BackendError, match="expected one of auto, reference, cpu, gpu, got 'tpu'"):
        choose("tpu", torch.zeros(3))  # type: ignore[arg-type]


def test_importing_the_solver_does_not_load_numba():
    code = "import sys, dsac.ransac; sys.exit('numba' in sys.modules or 'triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
