"""Runs of the command and small things to run it on: noise that can be mapped, a corner that can be learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ball_world import exact_map
from command_line import Fails, Run, content, write_noise

from dsac.cli import main
from dsac.datasets import load_scene
from dsac.mapping import MappingSettings, build_map
from dsac.networks.encoder import load_encoder
from dsac.networks.heads import HeadArchitecture, SceneHead
from dsac.rooms import synthetic_scene, write_scene
from dsac.scene_map import SceneMap


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and errors, without line breaks in the latter."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # the parser's own mistakes
            assert isinstance(exit.code, int)
            code = exit.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_command


@pytest.fixture
def fails(run: Run, tmp_path: Path) -> Fails:
    """The one line of a command that is a mistake and leaves everything in `tmp_path` as it was."""

    def run_command(*arguments: object) -> str:
        before = content(tmp_path)
        code, _, err = run(*arguments)
        assert code == 2, err
        (line,) = [line for line in err.splitlines() if line.startswith("dsac: ")]
        assert "Traceback" not in err
        assert content(tmp_path) == before
        return line

    return run_command


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A plain folder of three noisy photos with depth: enough to be mapped, not to be learned."""
    return write_noise(tmp_path / "room", 3)


@pytest.fixture
def blank_map(tmp_path: Path) -> Path:
    """The map of a head that learned nothing."""
    encoder = load_encoder()
    torch.manual_seed(0)
    head = SceneHead(HeadArchitecture(encoder.num_features, 16, 1))
    info = replace(
        exact_map(480).info, encoder_id=encoder.id, encoder_digest=encoder.digest, head=head.architecture
    )
    SceneMap(head.requires_grad_(False), info).save(tmp_path / "blank.dsac")
    return tmp_path / "blank.dsac"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), noise)
    return tmp_path / "photo.jpg"


@pytest.fixture(scope="session")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corner of the synthetic room, every second frame of a short walk for mapping, and a small map."""
    folder = tmp_path_factory.mktemp("corner")
    scene = synthetic_scene(num_mapping=240, num_query=1, size=(320, 240))
    walk = range(12)
    exact = scene.truths["exact"].take(np.array(walk))
    scene = replace(
        scene, mapping=scene.mapping[walk[::2]], query=scene.mapping[walk[1::2]], truths={"exact": exact}
    )
    write_scene(scene, folder / "scene")
    torch.set_num_threads(1)
    scene = load_scene(folder / "scene")
    settings = MappingSettings(steps=80, num_views=18, batch_size=1024, width=128, num_landmarks=2000)
    build_map(scene, settings, source="the corner").save(folder / "corner.dsac")
    return folder
