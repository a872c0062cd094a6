"""Shapes in signatures are checked while testing; the real recordings are found or their tests skipped."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Numba-compiled modules (dsac.kernels.twins, search) are left out: a wrapped function cannot be compiled.
_hook = install_import_hook(
    [
        "dsac.geometry",
        "dsac.ransac",
        "dsac.kernels.reference",
        "dsac.kernels.reference_p3p",
        "dsac.networks",
        "dsac.datasets.frame",
    ],
    "beartype.beartype",
)


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
