"""The house as docs/architecture.md draws it: sizes, arrows, and how many files a new idea touches."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import dsac
from dsac.geometry.camera_models import MODELS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dsac"
FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

_spec = importlib.util.spec_from_file_location("levels", Path(__file__).with_name("test_import_levels.py"))
assert _spec is not None and _spec.loader is not None
levels = importlib.util.module_from_spec(_spec)  # what imports what is worked out there
_spec.loader.exec_module(levels)

MOST_LINES, MOST_PARAMETERS = 400, 10


def test_a_file_tells_one_idea() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_no_function_has_more_than_ten_parameters() -> None:
    crowded = {}
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                a = node.args
                count = len(
                    [x for x in (*a.posonlyargs, *a.args, *a.kwonlyargs) if x.arg not in ("self", "cls")]
                )
                if count > MOST_PARAMETERS:
                    crowded[f"{name}:{getattr(node, 'name', 'lambda')}"] = count
    assert crowded == {}


# ---- the page ----------------------------------------------------------------------------------------


def test_every_path_on_the_page_exists() -> None:
    paths = set(re.findall(r"`((?:dsac|tests|benchmarks|docs|examples)/[\w/.]+)`", PAGE))
    assert len(paths) > 20
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_every_package_and_module_at_the_top_is_on_the_page() -> None:
    tops = {path.relative_to(PACKAGE).parts[0] for path in FILES.values()} - {"__init__.py", "__main__.py"}
    drawing = PAGE.split("## Levels")[1]
    for top in tops:
        assert f"`{top.removesuffix('.py')}`" in drawing, top


def test_levels_are_those_that_the_test_of_imports_holds() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", PAGE, flags=re.MULTILINE)
    drawn = [re.findall(r"`(\w+)`", names) for _, names in rows]
    assert [sorted(row) for row in drawn] == [sorted(row) for row in levels.LEVELS]


def _naming(*words: str) -> set[str]:
    """Files of the package with one of these words as a name or a string in the code, docstrings left out."""
    found = set()
    for name, path in FILES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            said = None
            if isinstance(node, ast.Name):
                said = node.id
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                said = node.value
            if said in words:
                found.add(name)
    return found


def test_a_camera_model_is_one_class_in_one_file() -> None:
    """But for the models that other people's files and functions name."""
    theirs = ("OPENCV", "FULL_OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "BROWN_CONRADY")
    names = [name for name in MODELS if not name.startswith(theirs)]
    assert len(names) >= 4
    assert _naming(*names) == {"dsac/geometry/camera_models.py"}


def test_a_scoring_rule_of_maps_is_one_class_in_one_file() -> None:
    assert _naming("soft-count", "score-network", "SoftCount", "NetworkScore") == {"dsac/map_scoring.py"}


def test_a_verb_is_one_file_and_one_line() -> None:
    verbs = sorted((PACKAGE / "cli").glob("*.py"))
    assert {"map.py", "localize.py", "evaluate.py"} <= {path.name for path in verbs}
    # what the list names of a verb's file, nobody else does
    assert _naming("FineTune") == {"dsac/cli/main.py"}


def test_a_format_is_one_file_and_one_line() -> None:
    for name in ("nerfstudio", "seven_scenes"):
        users = {
            file
            for file, path in FILES.items()
            if f"dsac.datasets.formats.{name}"
            in {name.rpartition(".")[0] for name in levels._imports(path)} | set(levels._imports(path))
        }
        assert users == {"dsac/datasets/scene.py"}, name


def test_packages_load_when_they_are_asked_for() -> None:
    for name in ("datasets", "ransac", "rooms", "mapping", "kernels"):
        assert getattr(dsac, name).__name__ == f"dsac.{name}"
