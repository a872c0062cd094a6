"""What a check has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """Something about a recording that its owner should know."""

    severity: Literal["wrong", "doubtful", "note"]
    text: str
    cure: str = ""  # options of the command line; empty if there are none
