from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from dsac.errors import BackendError
from dsac.kernels import kernels


def test_auto_takes_numba_for_float32_and_torch_for_gradients_and_float64():
    assert kernels("auto", torch.zeros(3)).__name__ == "dsac.kernels.cpu"
    assert (
        kernels("auto", torch.zeros(3), torch.zeros(3, requires_grad=True)).__name__ == "dsac.kernels.reference"
    )
    with torch.no_grad():
        assert kernels("auto", torch.zeros(3, requires_grad=True)).__name__ == "dsac.kernels.cpu"
    assert kernels("auto", torch.zeros(3, dtype=torch.float64)).__name__ == "dsac.kernels.reference"
    assert kernels("reference", torch.zeros(3)).__name__ == "dsac.kernels.reference"


def test_auto_takes_the_gpu_for_float32_on_cuda(monkeypatch):
    """Asked of what a tensor of CUDA says about itself."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def tensor(dtype=torch.float32, requires_grad=False):
        return SimpleNamespace(dtype=dtype, device=torch.device("cuda"), requires_grad=requires_grad)

    assert kernels("auto", tensor()).__name__ == "dsac.kernels.gpu"
    assert kernels("gpu", tensor()).__name__ == "dsac.kernels.gpu"
    assert kernels("auto", tensor(torch.float64)).__name__ == "dsac.kernels.reference"
    assert kernels("auto", tensor(requires_grad=True)).__name__ == "dsac.kernels.reference"
    assert kernels("auto", differentiable=(tensor(requires_grad=True),)).__name__ == "dsac.kernels.gpu"
    assert kernels("auto", tensor(), torch.zeros(3)).__name__ == "dsac.kernels.reference"


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
        kernels(backend, inputs)
    assert "reference: available" in str(error.value)


def test_an_unknown_backend_is_an_error():
    with pytest.raises(BackendError, match="expected one of auto, reference, cpu, gpu, got 'tpu'"):
        kernels("tpu", torch.zeros(3))  # type: ignore[arg-type]


def test_importing_the_solver_does_not_load_numba():
    code = "import sys, dsac.ransac; sys.exit('numba' in sys.modules or 'triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
