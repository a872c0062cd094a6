"""How the renderer is compiled: like the CPU kernels, but without reference counts.

Without these (its functions allocate nothing) and without calls, which would pass every array of a room on the
stack, frames take a third of the time.
"""

from __future__ import annotations

from functools import partial

from dsac.kernels.jit import kernel

compiled = partial(kernel, _nrt=False)
inlined = partial(kernel, _nrt=False, forceinline=True)  # put into its callers, of any file
