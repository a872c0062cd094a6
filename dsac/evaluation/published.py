"""Published results on 7-Scenes, for comparison: the rows of `published.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from importlib.resources import files


@dataclass(frozen=True)
class PublishedRow:
    """Percent of query frames within a threshold by scene, "mean" of the scenes and "complete" (pooled)."""

    method: str
    truth: str
    source: str  # where the numbers come from
    percent_5cm_5deg: dict[str, float]
    percent_2cm_2deg: dict[str, float] = field(default_factory=dict)
    percent_1cm_1deg: dict[str, float] = field(default_factory=dict)
    estimates: str | None = None  # name of the released pose files that the row was computed from


def published_rows() -> list[PublishedRow]:
    text = files("dsac.evaluation").joinpath("published.toml").read_text(encoding="utf-8")
    return [PublishedRow(**row) for row in tomllib.loads(text)["row"]]
