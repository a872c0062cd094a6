"""Machine code on disk is that of the sources as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dsac.kernels import jit

ONE = """
from dsac.kernels.jit import kernel

@kernel
def one():
    return 1
"""
TWICE = """
from dsac.kernels.{where}one import one
from dsac.kernels.jit import kernel

@kernel
def twice():
    return 2 * one()
"""


def _package(folder: Path, where: str) -> Path:
    """A package with two kernels of which one calls the other, in the same folder or in one below."""
    kernels = folder / "dsac" / "kernels"
    below = kernels / where.replace(".", "/")
    below.mkdir(parents=True)
    (folder / "dsac" / "__init__.py").touch()
    (kernels / "__init__.py").touch()
    (below / "__init__.py").touch()
    shutil.copy(jit.__file__, kernels / "jit.py")
    (below / "one.py").write_text(ONE)
    (kernels / "twice.py").write_text(TWICE.format(where=where))
    return below / "one.py"


def _run(folder: Path, expression: str = "twice()", **environment: str) -> str:
    code = f"from dsac.kernels.twice import twice; print({expression})"
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=folder, env=environment
    ).stdout.strip()


def _machine_code(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.nb?"))


@pytest.mark.parametrize("where", ["", "below."])
def test_an_edited_kernel_is_compiled_anew_wherever_it_is_imported(where, tmp_path):
    source = _package(tmp_path, where)
    assert _run(tmp_path) == "2"
    files = _machine_code(tmp_path)
    assert len(files) == 4  # an index and the code of each
    source.write_text(ONE.replace("return 1", "return 5"))
    assert _run(tmp_path) == "10"
    assert _machine_code(tmp_path) == files  # in place of the old code: the folder does not grow


def test_machine_code_of_unchanged_sources_is_loaded(tmp_path):
    _package(tmp_path, "")
    hits = "(twice(), sum(twice.stats.cache_hits.values()))"
    assert _run(tmp_path, hits) == "(2, 0)"
    assert _run(tmp_path, hits) == "(2, 1)"


def test_without_a_folder_to_write_to_kernels_are_compiled_for_the_process(tmp_path):
    _package(tmp_path, "")
    for cache in (tmp_path / "dsac" / "kernels" / "__pycache__", tmp_path / "home"):
        cache.write_text("a file where a folder is looked for")
    environment = {
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert _run(tmp_path, **environment) == "2"
    assert _machine_code(tmp_path) == []
