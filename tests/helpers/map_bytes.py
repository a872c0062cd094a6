"""What a map file holds, without what it says of itself."""

from __future__ import annotations

import gzip


def values(data: bytes) -> bytes:
    """The tensors' bytes; metadata know the time."""
    plain = gzip.decompress(data)
    held = plain[8 + int.from_bytes(plain[:8], "little") :]
    assert held
    return held
