"""A photo need not wait for kernels to be compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dsac.errors import DsacError
from dsac.kernels import at_once, compiled, is_at_once, readiness, wait_until_compiled
from dsac.kernels.dispatch import choose
from dsac.kernels.jit import cache_of_process


class Process(subprocess.Popen):
    """Something that compiles for as long as a test wants."""

    def __init__(self, code: int | None = None) -> None:
        self.code = code

    def __del__(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def poll(self) -> int | None:
        return self.code

    def wait(self, timeout: float | None = None) -> int:
        self.code = self.code or 0
        return self.code


@pytest.fixture
def stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As after an install: nothing is compiled, until this file is there."""
    stamp = tmp_path / "kernels.compiled"
    monkeypatch.setattr(readiness, "_stamp", lambda: stamp)
    return stamp


def _while(process: Process | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_BEGUN", [process])


def test_torch_takes_the_place_of_kernels_until_they_are_compiled(stamp, monkeypatch):
    _while(Process(), monkeypatch)
    number = torch.zeros(3)
    assert choose("auto", number) == "cpu"
    with at_once():
        assert is_at_once() and choose("auto", number) == "gpu" and choose("cpu", number) == "cpu"
        with torch.enable_grad():  # what only the reference has, it still has
            assert choose("auto", number.clone().requires_grad_()) == "reference"
    assert not is_at_once()
    stamp.touch()
    with at_once():
        assert not is_at_once() and choose("auto", number) == "cpu"


@pytest.mark.parametrize("process", [None, Process(1)], ids=["cannot be started", "failed"])
def test_where_nothing_compiles_beside_the_photo_waits(process, stamp, monkeypatch):
    _while(process, monkeypatch)
    with at_once():
        assert not is_at_once()


def test_one_can_wait_for_kernels(stamp, monkeypatch):
    _while(Process(), monkeypatch)
    monkeypatch.setattr(Process, "wait", lambda process: stamp.touch() or 0)
    wait_until_compiled()
    assert compiled()


def test_compiling_that_fails_is_said(stamp, monkeypatch):
    _while(Process(1), monkeypatch)
    with pytest.raises(DsacError, match="python -m dsac.warm_up says why"):
        wait_until_compiled()


def test_an_application_that_is_no_python_is_not_started_again(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/opt/robot/robot")
        assert readiness._begin(gently=True) is None
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert readiness._begin(gently=True) is None


def test_a_folder_of_this_process_alone_is_told_to_the_process_beside(tmp_path, monkeypatch):
    seen: dict = {}
    monkeypatch.setattr(readiness.subprocess, "Popen", lambda _, **options: seen.update(options) or Process())
    monkeypatch.setattr(readiness.atexit, "register", lambda function: seen.update(at_exit=function))
    readiness._begin(gently=True)
    assert seen["env"] == dict(os.environ) and "at_exit" not in seen
    monkeypatch.setattr(cache_of_process, "folder", str(tmp_path))
    readiness._begin(gently=True)
    assert seen["env"]["NUMBA_CACHE_DIR"] == str(tmp_path) and "at_exit" in seen


def test_the_process_beside_finds_packages_where_this_one_does(tmp_path, monkeypatch):
    """Also those of a script that puts folders into `sys.path`."""
    commands: list[list[str]] = []
    monkeypatch.setattr(readiness.subprocess, "Popen", lambda command, **_: commands.append(command))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "__init__.py").touch()
    (tmp_path / "beside" / "main.py").write_text("import sys; print(__name__, sys.argv[1:])")
    monkeypatch.setattr(readiness, "_COMPILE", "beside.main")
    monkeypatch.setattr(readiness, "_begin", readiness._begin.__wrapped__)  # whose process is none here
    readiness._begin(gently=True)
    monkeypatch.undo()
    printed = subprocess.run(commands[0], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "__main__ ['--gently']"


def test_one_process_compiles_at_a_time(stamp, tmp_path):
    pytest.importorskip("fcntl")
    code = f"""
from pathlib import Path
from dsac.kernels import readiness
readiness._stamp = lambda: Path({str(stamp)!r})
with readiness.alone():
    print(readiness.compiled())
"""
    with readiness.alone():
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(3)
        readiness.note_compiled()
    assert other.communicate()[0].strip() == "True"
