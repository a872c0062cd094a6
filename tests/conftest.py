"""Shapes in signatures are checked while testing; the real recordings are found or their tests skipped."""

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

import annotations
import jaxtyping
import pytest

PACKAGE = Path(__file__).parents[1] / "dsac"


def checked_modules() -> list[str]:
    """The modules in whose calls annotations are checked: all but those that Numba compiles.

    A checked function is wrapped, and Numba cannot compile the wrapper. The hook takes a package with all that
    is in it, so one that holds a compiled module stands here module by module.
    """
    sources = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
    }
    compiled = [name for name, source in sources.items() if _COMPILED.search(source)]
    names = [name.removesuffix(".__init__") for name in sources if name not in compiled]
    return sorted(name for name in names if not any(other.startswith(f"{name}.") for other in compiled))


_COMPILED = re.compile(r"^@(kernel|inlined|compiled|njit)\b", re.MULTILINE)
jaxtyping.jaxtyped = annotations.first_calls_checked  # type: ignore[assignment]
_hook = jaxtyping.install_import_hook(checked_modules(), "annotations.checked")


# begun first, where files are spread over processes: a long one at the end is waited for by all others
LONGEST = (
    "test_readme.py",
    "test_every_format.py",
    "test_check.py",
    "test_strange_queries.py",
    "test_look_alikes.py",
    "test_quickstart.py",
    "test_network_learner.py",
    "test_rgb.py",
    "test_rgbd.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is made here stays: looking for garbage in it takes a sixth of the time, and more later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    """Once after an install or a change of kernels: until then answers come from other code, and later."""
    from dsac.kernels import wait_until_compiled

    wait_until_compiled()


@pytest.fixture(autouse=True)
def unchecked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests marked `wrong_input` are of what the library itself says: annotations are not checked."""
    marked = request.node.get_closest_marker("wrong_input") is not None
    jaxtyping.config.update("jaxtyping_disable", marked)
    annotations.calls.clear()
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings: $DSAC_TEST_DATA, else ../shared/data beside the checkout."""
    folder = Path(os.environ.get("DSAC_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def textured_ball_map():
    """A map with landmarks, see `textured_ball`; the most that most tests of queries need, in a few seconds."""
    from textured_ball import mapped  # here, for the hook to come before what it imports

    return mapped()
