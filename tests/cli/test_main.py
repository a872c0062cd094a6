"""The command as a whole: help, exit codes, and nothing heavy before there is work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import Fails, Run

import dsac
from dsac.cli.info import Info
from dsac.mapping import FineTuningSettings, MappingSettings, NetworkSettings


@pytest.mark.parametrize("arguments", [["fly"], ["map"], ["localize", "a.dsac", "b.jpg", "--focal-px", "long"]])
def test_the_parser_answers_with_2_too(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert code == 2 and err and not out


def test_help_has_a_line_for_each_verb_and_the_verbs_help_the_whole_story(run: Run) -> None:
    code, brief, _ = run("--help")
    assert code == 0 and run()[1] == brief
    assert "Learn a map from a folder of posed images." in brief and "transforms.json" not in brief
    _, whole, _ = run("map", "--help")
    assert "transforms.json" in whole and "$ dsac map 7scenes/redkitchen kitchen.dsac\n" in whole
    assert "SCENE MAP" in whole and "None" not in whole
    assert run("--version")[:2] == (0, f"dsac {dsac.__version__}\n")


@pytest.mark.parametrize(
    ("option", "default"),
    [
        ("map --steps", f"{MappingSettings.steps}; a network of the papers {NetworkSettings.steps}"),
        ("map --views", MappingSettings.num_views),
        ("map --buffer-size", MappingSettings.buffer_size),
        ("map --landmarks", MappingSettings.num_landmarks),
        ("fine-tune --steps", FineTuningSettings.steps),
        ("fine-tune --learning-rate", FineTuningSettings.learning_rate),
        ("fine-tune --views-per-frame", FineTuningSettings.views_per_frame),
    ],
)
def test_the_help_names_the_defaults_of_the_settings(run: Run, option: str, default: object) -> None:
    verb, name = option.split()
    text = re.sub(r"[│\s]+", " ", run(verb, "--help")[1])
    (named,) = re.findall(rf"{name} [A-Z]+ .*?default: (.*?)\)", text)
    assert named == str(default)


def test_the_module_is_the_command() -> None:
    called = subprocess.run([sys.executable, "-m", "dsac", "--version"], capture_output=True, text=True)
    assert (called.returncode, called.stdout) == (0, f"dsac {dsac.__version__}\n")


def test_a_missing_accelerator_is_named(room: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "PyTorch sees no CUDA device" in fails("map", room, room.parent / "a.dsac", "--device", "cuda")
    assert "CUDA" in fails("demo", "--folder", room.parent / "new", "--device", "cuda")


def test_names_with_brackets_are_printed_as_they_are(blank_map: Path, run: Run, photo: Path) -> None:
    folder = photo.parent / "[bold]"
    folder.mkdir()
    odd = photo.rename(folder / "[red].jpg")
    code, out, _ = run("localize", blank_map, odd, "--focal-px", 100)
    assert code == 0 and str(odd) in out
    moved = blank_map.rename(folder / "map[1].dsac")
    code, out, _ = run("info", moved)
    assert code == 0 and "map[1].dsac" in out
    (folder / "[x]").mkdir()
    code, _, err = run("map", folder / "[x]", folder / "new.dsac")
    assert code == 2 and str(folder / "[x]") in err


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom dsac.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'numpy', 'cv2', 'numba', 'matplotlib'} & set(sys.modules))"
    )
    called = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert called.stdout.splitlines()[-1] == "set()"


def test_a_fault_of_ours_is_no_mistake_of_the_user(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(info: Info) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Info, "run", fault)
    with pytest.raises(RuntimeError, match="a bug"):
        run("info", "a.dsac")
