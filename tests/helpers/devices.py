"""What would make the host wait for a device, told on tensors of the CPU."""

from __future__ import annotations

from contextlib import ExitStack
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class OnlyMeta(TorchDispatchMode):
    """Refuses tensors of other devices than "meta", which has no values; single numbers may be anywhere."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        for x in torch.utils._pytree.tree_leaves((arguments, options)):
            if isinstance(x, torch.Tensor) and x.ndim > 0:
                assert x.device.type == "meta", f"{operation} of a tensor on {x.device}"
        return operation(*arguments, **(options or {}))


class NoWaiting(TorchDispatchMode):
    """Refuses what would make the host wait for a device: numbers read from tensors, shapes made of values."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        assert operation not in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.masked_select.default,
        ), f"{operation} waits for the device"
        return operation(*arguments, **(options or {}))


class PretendedGpu(TorchDispatchMode):
    """While it is on, `.to("cuda:0")` gives tensors that say they are on that GPU, though none is there.

    They compute on the CPU, and refuse what a GPU's refuse: `.numpy()`, and company of tensors of the CPU.
    """

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # torch asks no driver while a mode of this kind is on
    _DRIVER = {"is_available": True, "is_bf16_supported": True, "synchronize": None}

    def __enter__(self):
        self._patches = ExitStack()
        for name, answer in self._DRIVER.items():
            self._patches.enter_context(patch.object(torch.cuda, name, lambda *_, answer=answer: answer))
        return super().__enter__()

    def __exit__(self, *error):
        self._patches.close()
        return super().__exit__(*error)

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        return _computed(operation, arguments, options or {})


class _OnGpu(torch.Tensor):
    """A tensor that torch takes for one of "meta", which needs no driver, and Python code for one of a GPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> _OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device="meta",
        )  # fmt: skip
        made.inner = inner
        return made

    device = property(lambda self: torch.device("cuda", 0))  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    def numpy(self, *arguments, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def new_tensor(self, values, dtype: torch.dtype | None = None) -> torch.Tensor:
        return _OnGpu(torch.tensor(values, dtype=dtype or self.dtype))

    def __repr__(self) -> str:
        return f"_OnGpu({self.inner})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return _computed(operation, arguments, options or {})


def _computed(operation, arguments, options):
    """The operation on the CPU; what it gives is on the device that it should be on."""
    tensors = [x for x in torch.utils._pytree.tree_leaves((arguments, options)) if isinstance(x, torch.Tensor)]
    on_gpu = any(isinstance(x, _OnGpu) for x in tensors)
    aten = torch.ops.aten
    if on_gpu and operation not in (aten._to_copy.default, aten.copy_.default, aten.index.Tensor):
        for x in tensors:
            if not isinstance(x, _OnGpu) and x.ndim > 0:
                raise RuntimeError(f"{operation}: expected all tensors on cuda:0, got one on {x.device}")
    if options.get("device") is not None:
        on_gpu = torch.device(options["device"]).type in ("cuda", "meta")
        options = {**options, "device": torch.device("cpu")}
    arguments, options = torch.utils._pytree.tree_map(
        lambda x: x.inner if isinstance(x, _OnGpu) else x, (arguments, options)
    )
    return torch.utils._pytree.tree_map(
        lambda x: _OnGpu(x) if on_gpu and isinstance(x, torch.Tensor) else x, operation(*arguments, **options)
    )


class NoArrays(TorchFunctionMode):
    """Refuses numpy arrays of tensors, which there are on the CPU only."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        assert function not in (torch.Tensor.numpy, torch.Tensor.__array__), "a tensor of a device has no array"
        return function(*arguments, **(options or {}))
