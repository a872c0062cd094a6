"""What would make the host wait for a device, told on tensors of the CPU."""

from __future__ import annotations

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


class NoArrays(TorchFunctionMode):
    """Refuses numpy arrays of tensors, which there are on the CPU only."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        assert function not in (torch.Tensor.numpy, torch.Tensor.__array__), "a tensor of a device has no array"
        return function(*arguments, **(options or {}))
