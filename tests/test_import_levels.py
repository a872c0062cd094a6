"""The house has levels: a module imports only from lower levels and from its own package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dsac"
MODULES = sorted(PACKAGE.rglob("*.py"))

LEVELS = [
    ["errors"],
    ["geometry", "kernels"],
    ["ransac", "networks", "datasets"],
    ["landmarks", "localization", "map_scoring", "packing", "regressor", "rooms", "sfm", "visual_words"],
    ["checking", "map_info", "query_depth"],
    ["scene_map"],
    ["atlas", "map_localizer"],
    ["cropping", "regions"],
    ["localizer", "warm_up"],
    ["mapping", "evaluation", "tracker", "worlds"],
    ["studies"],
    ["cli"],
]
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}


def _part(module: str) -> str:
    """Package or module right below `dsac` that a dotted name lies in."""
    return module.split(".")[1]


def _imports(path: Path) -> Iterator[str]:
    """Dotted names below `dsac` that a file imports, inside functions too."""
    package = ["dsac", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # each is a module, or something that the module defines
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("dsac.") and name != "dsac.__version__")


def test_modules_import_only_from_lower_levels_and_their_own_package() -> None:
    assert [line for path in MODULES for line in _uphill(path)] == []


def _uphill(path: Path) -> Iterator[str]:
    """What a file imports that it must not."""
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own in ("__init__", "__main__"):
        return  # the public face may name everything
    for name in _imports(path):
        part = _part(name)
        between_entry_points = LEVEL[own] == LEVEL.get(part) == len(LEVELS) - 1
        if not (part == own or LEVEL.get(part, len(LEVELS)) < LEVEL[own] or between_entry_points):
            yield f"{path.relative_to(PACKAGE.parent)} imports {name}"


def test_no_module_imports_itself_in_a_circle() -> None:
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    files = {name.removesuffix(".__init__"): path for name, path in files.items() if name != "dsac.__init__"}
    left: dict[str, set[str]] = {}
    for module, path in files.items():
        named = [name if name in files else name.rpartition(".")[0] for name in _imports(path)]
        left[module] = {name for name in named if name in files}
    while leaves := {module for module, imported in left.items() if not imported & left.keys()}:
        left = {module: imported for module, imported in left.items() if module not in leaves}
    assert not left, f"in a circle, or above one: {', '.join(left)}"


def test_every_module_has_a_level() -> None:
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES} - {"__init__", "__main__"}
    assert parts <= LEVEL.keys()
    assert "geometry" in parts and len(MODULES) > 10
