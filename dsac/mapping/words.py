"""The visual words of a map in the making."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets import Frames
from dsac.errors import DatasetError
from dsac.mapping.buffer import FeatureBuffer
from dsac.mapping.views import plain_view
from dsac.networks.encoder import load_encoder, working_size
from dsac.visual_words import ENCODER, SHORT_SIDE_PX, VisualWords

NUM_CENTERS = 200  # of a map
_CELLS = 6000  # that words are the means of
_VIEWS = 60  # encoded where nothing learns from the shared encoder


def visual_words(frames: Frames, buffer: FeatureBuffer | None, seed: int, device: torch.device) -> VisualWords:
    """Of frames with poses; of a buffer of the shared encoder's features where there is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):  # an encoder draws weights before it gets its own
        features = _encoded(frames, device) if buffer is None else buffer.cells.features
    rows = torch.randperm(len(features), generator=generator)[:_CELLS]
    assert frames.cam_from_world is not None
    some = torch.linspace(0, len(frames) - 1, min(NUM_CENTERS, len(frames)), dtype=torch.float64).long()
    return VisualWords.of(features[rows.to(features.device)], frames.cam_from_world.center[some], seed)


def _encoded(frames: Frames, device: torch.device) -> Float[Tensor, "N C"]:
    """Raises: `DatasetError` when no frame can be read."""
    encoder, cells, fault = load_encoder(ENCODER, device), [], DatasetError("no frames")
    for i in np.unique(np.linspace(0, len(frames) - 1, min(_VIEWS, len(frames))).astype(int)).tolist():
        try:
            frame = frames[i]
        except DatasetError as error:
            fault = error
            continue
        size = working_size(frame.camera.size, SHORT_SIDE_PX, encoder.size_multiple)
        image = plain_view(frame, size, encoder.stride).image[None].to(device)
        with torch.inference_mode():
            cells.append(encoder(image)[0].flatten(1).T)
    if not cells:
        raise fault
    return torch.cat(cells)
