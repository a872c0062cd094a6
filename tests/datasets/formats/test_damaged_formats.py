"""Whatever stands in a recording, the outcome is a good scene or a `DatasetError`, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from damage import damaged_bytes, damaged_json, damaged_text, expect_scene_or_error
from small_recordings import FORMATS, write_recording

DAMAGES = {".json": damaged_json, ".npy": damaged_bytes}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_recording_is_a_good_scene_or_an_error(tmp_path, format, seed):
    texts = write_recording(format, tmp_path)
    damages = {name: DAMAGES.get(Path(name).suffix, damaged_text) for name in texts}
    expect_scene_or_error(tmp_path, damages, seed)
