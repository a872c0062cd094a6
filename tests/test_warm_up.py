"""What is compiled once after an install is all that a photo needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from textured_ball import LENS, places, textured

from dsac import Localizer
from dsac.kernels import readiness

HELPERS = Path(__file__).parent / "helpers"
NEW_CODE = """
import sys
sys.path.insert(0, {helpers!r})
import torch
from numba.core.dispatcher import Dispatcher
from ball_world import ColorEncoder
from textured_ball import LENS, places, textured
from dsac import Localizer
from dsac.warm_up import ask_everything

def machine_code():
    modules = [module for name, module in sys.modules.items() if name.startswith("dsac.")]
    found = {{x for module in modules for x in vars(module).values() if isinstance(x, Dispatcher)}}
    return {{(x.py_func.__module__, x.py_func.__qualname__, s) for x in found for s in x.signatures}}

ask_everything()
known = machine_code()
assert len(known) > 4
localizer = Localizer.load({map_file!r}, encoder=ColorEncoder())
photo = textured(LENS, places(1, seed=1)[0]).image
for image in (photo, photo.rot90(1, (1, 2)), torch.zeros_like(photo), torch.rand_like(photo)):
    camera = LENS if image.shape == photo.shape else LENS.turn()
    localizer.localize(image, camera)
print(sorted(machine_code() - known))
"""


def test_photos_need_nothing_more(textured_ball_map, tmp_path):
    map_file = tmp_path / "ball.dsac"
    textured_ball_map.save(map_file)
    code = NEW_CODE.format(helpers=str(HELPERS), map_file=str(map_file))
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


def test_answers_at_once_are_those_of_the_kernels(textured_ball_map, monkeypatch):
    from ball_world import ColorEncoder

    localizer = Localizer(textured_ball_map, encoder=ColorEncoder())
    photos = [textured(LENS, pose).image for pose in places(3, seed=5)]
    calm = [localizer.localize(photo, LENS) for photo in photos]
    monkeypatch.setattr(readiness, "compiled", lambda: False)
    monkeypatch.setattr(readiness, "_BEGUN", [_Running()])
    for module in ("patches_numba", "matching_numba"):
        monkeypatch.setitem(sys.modules, f"dsac.landmarks.{module}", None)  # must not be imported
    for photo, answer in zip(photos, calm, strict=True):
        hurried = localizer.localize(photo, LENS)
        assert hurried.success == answer.success
        apart = (hurried.cam_from_world.center - answer.cam_from_world.center).norm()
        assert apart < 0.5 * answer.position_sigma_m + 1e-4
        assert torch.isclose(hurried.confidence, answer.confidence, atol=0.1)


class _Running(subprocess.Popen):
    def __init__(self) -> None:
        pass

    def __del__(self) -> None:
        pass

    def poll(self) -> None:
        return None


def test_reading_a_map_does_not_load_pytorchs_compiler(textured_ball_map, tmp_path):
    """Which takes two seconds."""
    map_file = tmp_path / "ball.dsac"
    textured_ball_map.save(map_file)
    code = f"""
import sys
import torch
from dsac.scene_map import SceneMap
before = set(sys.modules)
SceneMap.load({str(map_file)!r})
print(sum(name.startswith(("torch.", "sympy")) for name in set(sys.modules) - before))
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(printed) < 100  # with it 800
