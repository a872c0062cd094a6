"""Which frames score a map: queries, else those that it did not learn from; those that it did are marked."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ball_world import exact_map
from made_up_wall import Reader

import dsac.map_info
from dsac.datasets import Scene
from dsac.errors import DatasetError
from dsac.evaluation import evaluate, with_queries
from dsac.scene_map import SceneMap


def _map_of(*names: str, digest: str = "") -> SceneMap:
    scene_map = exact_map(96)
    return replace(scene_map, info=replace(scene_map.info, frames=dict.fromkeys(names, digest)))


def _without_queries(scene: Scene) -> Scene:
    return replace(scene, mapping=scene.query, query=scene.query[:0])


def test_queries_stay_what_they_are(scene: Scene) -> None:
    assert with_queries(scene, _map_of(*scene.mapping.names)) is scene


def test_without_queries_the_frames_that_the_map_did_not_learn_from_are_asked(scene: Scene) -> None:
    names = scene.query.names
    asked = with_queries(_without_queries(scene), _map_of(*names[:4]))
    assert asked.query.names == names[4:] and asked.mapping.names == names[:4]


def test_a_map_that_does_not_know_or_knows_all_says_what_to_do(scene: Scene) -> None:
    plain = _without_queries(scene)
    with pytest.raises(DatasetError, match="does not know which frames it was made from: evaluate --all"):
        with_queries(plain, _map_of())
    with pytest.raises(DatasetError, match="found none: map with --hold-out 8, or evaluate --all"):
        with_queries(plain, _map_of(*scene.query.names))
    for scene_map in (_map_of(), _map_of(*scene.query.names)):
        assert with_queries(plain, scene_map, every_frame=True).query.names == scene.query.names


def test_every_frame_is_those_for_mapping_then_the_queries(scene: Scene) -> None:
    every = with_queries(scene, _map_of(), every_frame=True)
    assert every.query.names == scene.mapping.names + scene.query.names


def test_a_file_decides_and_where_there_is_none_the_name(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = scene.query
    first, second, *_ = frames.names

    digests = {first: "a" * 16, second: "b" * 16}
    monkeypatch.setattr(dsac.map_info, "digest_of", lambda reader, name: digests.get(name, ""))
    filed = replace(frames, reader=Reader())
    assert np.flatnonzero(_map_of("another", digest="b" * 16).learned_from(filed)).tolist() == [1]
    assert not _map_of(first, digest="c" * 16).learned_from(filed).any()  # another file of that name
    assert np.flatnonzero(_map_of(first).learned_from(filed)).tolist() == [0]
    assert np.flatnonzero(_map_of(frames.names[2], digest="c" * 16).learned_from(filed)).tolist() == [2]
    assert not _map_of().learned_from(frames).any() and _map_of().learned_from(frames[:0]).shape == (0,)


def _evaluated(scene: Scene, make_localizer, scene_map: SceneMap, errors_cm: list[float]):
    localizer = make_localizer(errors_cm)
    localizer.scene_map = scene_map
    return evaluate(localizer, scene)


def test_images_that_the_map_was_made_from_have_rows_of_their_own(
    scene: Scene, make_localizer, tmp_path: Path
) -> None:
    names = scene.query.names
    result = _evaluated(scene, make_localizer, _map_of(*names[:2]), [0.1, 0.1, 3.0, 3.0, 30.0, 30.0])
    assert result.num_learned == 2
    assert result.note == "2 of 6 images are frames that this map was made from: only the others are a test"
    learned, others = result.parts
    assert (learned.num_images, learned.percent_1cm_1deg, learned.percent_5cm_5deg) == (2, 100, 100)
    assert (others.num_images, others.percent_1cm_1deg, others.percent_5cm_5deg) == (4, 0, 50)
    assert [row.truth for row in result.rows[:3]] == [result.summaries[0].truth, "learned", "others"]
    result.write_csv(tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["learned"] for row in rows] == ["1", "1", "0", "0", "0", "0"]


def test_a_test_has_no_note_and_no_rows_more(scene: Scene, make_localizer) -> None:
    for scene_map in (_map_of(), _map_of("another")):
        result = _evaluated(scene, make_localizer, scene_map, [0.1] * 6)
        assert result.note == "" and result.parts == [] and result.rows == result.summaries
    result = _evaluated(scene, make_localizer, _map_of(*scene.query.names), [0.1] * 6)
    assert result.note.endswith("6 of 6 images are frames that this map was made from: this is no test")
    assert result.parts == []


def test_a_localizer_is_asked_for_what_its_map_does_not_know(scene: Scene, make_localizer) -> None:
    names = scene.query.names
    result = _evaluated(_without_queries(scene), make_localizer, _map_of(*names[:4]), [0.1, 0.1])
    assert [frame.name for frame in result.frames] == names[4:] and result.note == ""


def test_the_figures_in_plain_types_are_json(scene: Scene, make_localizer) -> None:
    localizer = make_localizer([0.1, 0.1, 3.0, 3.0, 30.0, 30.0], {1, 2, 3, 4, 5})
    values = json.loads(json.dumps(evaluate(localizer, scene).to_dict(), allow_nan=False))
    assert (values["images"], values["localized"], values["learned_from"]) == (6, 1, 0)
    first = next(iter(values["truths"].values()))
    assert first["median_translation"] is None and first["not_localized"] == 5
    assert first["percent_within"]["1 cm 1°"] == pytest.approx(100 / 6, abs=0.01)
    assert values["unit"] == {"name": "cm", "size": 0.01} and values["parts"] == {}
    assert isinstance(values["median_ms"]["total"], float)
