"""Importing and packaging: light, without side effects, and complete."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import dsac

ROOT = Path(__file__).parents[1]


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_dsac_loads_no_heavy_module_beyond_torch() -> None:
    before = "import sys, torch; before = set(sys.modules); import dsac; "
    loaded = _run(before + "print(*(set(sys.modules) - before), sep='\\n')").split("\n")
    assert "dsac" in loaded
    assert {"numba", "llvmlite", "triton", "cv2", "matplotlib"}.isdisjoint(loaded)


_STATE = """
import logging, os, warnings, numpy, torch
def state():
    return (
        torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed(),
        torch.get_rng_state().tolist(), torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark,
        numpy.random.get_state()[1].tolist(), logging.root.level, len(logging.root.handlers),
        dict(os.environ), warnings.filters[:],
    )
before = state()
import dsac
print(before == state())
"""


def test_importing_dsac_changes_no_global_state() -> None:
    assert _run(_STATE) == "True"


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert dsac.__version__ == project["version"] == importlib.metadata.version("dsac")
    assert f"## {dsac.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "dsac"
    ]
    files = [path for path in (ROOT / "dsac").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    data = [path.relative_to(ROOT / "dsac").as_posix() for path in files if path.suffix != ".py"]
    assert any(name.startswith("networks/weights/") for name in data)
    for name in data:
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns), name
    for path in files:
        assert (path.parent / "__init__.py").is_file() or path.suffix != ".py", f"{path.parent} is no package"


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if not line.startswith("#")}
    assert "torch==2.13.0" in lines
    for requirement in wanted:
        name = re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower().replace("_", "-")
        assert name in pinned, requirement
