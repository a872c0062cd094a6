"""`dsac warm-up`: what is compiled once after an install."""

from __future__ import annotations

from dataclasses import dataclass

from dsac.cli.console import let_kernels_compile, out
from dsac.errors import DsacError


@dataclass(frozen=True)
class WarmUp:
    """Compile what a photo needs now, and not beside the first photos.

    The machine code is kept beside the package, or in the user's cache folder or NUMBA_CACHE_DIR. In a
    container, run it while the image is built, as the user who will run it, and keep that folder.

    For example:
      $ NUMBA_CACHE_DIR=/opt/dsac-kernels dsac warm-up
    """

    def run(self) -> None:
        """Raises: `DsacError` when compiling fails, or nothing can be kept."""
        from dsac.kernels.readiness import kept_in

        if kept_in() is None:
            raise DsacError("no folder can be written that keeps machine code, NUMBA_CACHE_DIR may name one")
        let_kernels_compile()
        out.print(f"kernels are compiled, kept in {kept_in()}", soft_wrap=True)
