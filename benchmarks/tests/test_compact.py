"""The benchmark of compact maps writes what it says: coarser files are smaller, thinner maps hold less."""

from __future__ import annotations

import torch
from compact import in_steps

from dsac import packing
from dsac.packing import packed


def test_coarser_files_hold_fewer_levels() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "lift.weight": torch.randn(8, 8, generator=generator),
        "landmark.patches": torch.randint(0, 256, (5, 9, 9), generator=generator).to(torch.uint8),
        "described.descriptors": torch.randint(-127, 128, (5, 64), generator=generator).to(torch.int8),
    }
    forms, counts = packing.FORMS, []
    for factor in (1.0, 2.0, 4.0):
        with in_steps(factor):
            found = packed(tensors, 1.0)
        counts.append([len(found[f"{name}.levels"].unique()) for name in tensors])
    assert packing.FORMS is forms
    for finer, coarser in zip(counts, counts[1:], strict=False):
        assert all(a > b for a, b in zip(finer, coarser, strict=True))
