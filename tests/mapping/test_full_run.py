"""The whole way, small: map a recording, localize photos that the map never saw, score them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dsac import Localizer, MappingSettings, Scene, build_map, evaluate, load_scene
from dsac.datasets import Frames
from dsac.rooms import synthetic_scene

pytestmark = pytest.mark.slow

QUICK = MappingSettings(steps=100, batch_size=1024, width=256, num_views=36, short_side_px=240)


def _median_m(mapping: Frames, scene: Scene, folder: Path) -> float:
    """Of the query frames, with a map that went through its file."""
    build_map(mapping, QUICK).save(folder / "scene.dsac")
    evaluation = evaluate(Localizer.load(folder / "scene.dsac"), scene)
    summary = evaluation.summaries[0]
    assert summary.num_images == len(scene.query)
    return summary.median_translation_m


@pytest.fixture(scope="module")
def corner() -> Scene:
    """A short walk through the synthetic room, every second frame a query."""
    scene = synthetic_scene(num_mapping=240, num_query=1, size=(320, 240))
    walk = scene.mapping[:24]
    return replace(scene, mapping=walk[::2], query=walk[1::4])


def test_photos_of_the_synthetic_room_are_localized_by_poses_only(corner: Scene, tmp_path: Path) -> None:
    assert _median_m(corner.mapping.without_depth(), corner, tmp_path) < 0.1


def test_photos_of_the_red_kitchen_are_localized(recordings: Path, tmp_path: Path) -> None:
    kitchen = load_scene(recordings / "7scenes" / "redkitchen")
    near = replace(kitchen, mapping=kitchen.mapping[:48:4], query=kitchen.mapping[2:48:8])
    assert _median_m(near.mapping, near, tmp_path) < 0.05
