"""The benchmark of batches on a device runs and localizes; what it measures is not looked at."""

from __future__ import annotations

import torch
from device_batch import backward_seconds, forward_seconds, found_by_torch

from dsac.studies.solver_inputs import synthetic_inputs


def test_every_image_of_the_batch_is_localized_and_learned_from() -> None:
    for trusted in (False, True):
        forward, right = forward_seconds(3, torch.device("cpu"), 1, trusted)
        assert right == 1.0 and len(forward) == 1
    assert len(backward_seconds(2, torch.device("cpu"), 1)) == 1


def test_the_batched_solver_finds_the_frames_of_the_inputs() -> None:
    easy = next(data for data in synthetic_inputs(2) if data.name == "r20")
    percent, median_cm, _ = found_by_torch(easy, torch.device("cpu"), range(1))
    assert percent == 100 and 0 < median_cm < 2
