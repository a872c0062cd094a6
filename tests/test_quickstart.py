"""The ten steps from a video to a pose work as the page has them, on a small video of the rendered room."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from videos import write_video

import dsac.cli
from dsac.rooms import synthetic_scene

PAGE = (Path(__file__).parents[1] / "docs" / "quickstart.md").read_text()
QUICKLY = {"place.dsac --sfm": "place.dsac --sfm --steps 30 --views 34 --landmarks 1500 --hold-out 8"}
PHOTO = 9  # the frame that the video lacks


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `walk.mp4` and `photo.jpg`."""
    folder = tmp_path_factory.mktemp("walk")
    frames = synthetic_scene(num_mapping=48, num_query=1, size=(400, 300)).mapping[:18].without_depth()
    images = [
        (frames[i].image.permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(np.uint8) for i in range(18)
    ]
    cv2.imwrite(str(folder / "photo.jpg"), images[PHOTO])
    write_video(
        folder / "walk.mp4", [np.ascontiguousarray(image) for i, image in enumerate(images) if i != PHOTO]
    )
    return folder


@pytest.mark.slow
def test_the_steps_run_in_order(
    walk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    pytest.importorskip("pycolmap")
    monkeypatch.chdir(walk)
    page = PAGE
    for as_is, quick in QUICKLY.items():
        assert as_is in page
        page = page.replace(as_is, quick)
    commands = re.findall(r"^ +dsac (.+)$", page, flags=re.MULTILINE)
    assert len(commands) >= 8
    for line in commands:
        try:
            code = dsac.cli.main(shlex.split(line))
        except SystemExit as help_shown:
            code = help_shown.code
        printed = capfd.readouterr()
        assert code in (0, None), f"dsac {line}\n{printed.err}"
    assert (walk / "poses.txt").read_text().count("photo.jpg") == 1
    for written in ("place.html", "points.ply", "cameras.ply"):
        assert (walk / written).stat().st_size > 0
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    namespace: dict = {}
    exec(compile(re.sub("^    ", "", block, flags=re.MULTILINE), "quickstart.md", "exec"), namespace)
    assert namespace["answer"].success.item()
