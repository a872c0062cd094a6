"""Texts of a recording as Windows, spreadsheets and other languages leave them: the scene stays the same."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_recordings import (
    FORMATS,
    OTHERS,
    llff,
    write_recording,
)

from dsac.datasets import Scene, load_scene

TEXTS = [format for format in (*FORMATS, *OTHERS) if format is not llff]
NO_TABLES = (".json", ".yaml", "info.txt", "split.txt")  # of words that have other meanings


def separated(by: str, point: str = ".", end: str = "") -> Callable[[str], bytes]:
    """Fields in a table's lines so far apart, with such a decimal mark."""

    def line(text: str) -> str:
        if not text.strip() or text.startswith("#"):
            return text
        words = re.split(r"[\s,]+", text.strip())
        return by.join(re.sub(r"^(-?\d+)\.(\d+)$", rf"\1{point}\2", word) for word in words) + end

    return lambda text: "\n".join(map(line, text.splitlines())).encode()


STYLES = {
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, big first": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "no end": lambda text: text.rstrip().encode(),
    "tabs": separated("\t"),
    "commas": separated(","),
    "commas and spaces": separated(", "),
    "semicolons": separated(";"),
    "rows filled up": separated(";", end=";;;"),
    "decimal commas": separated(" ", ","),
    "decimal commas, semicolons": separated(";", ","),
    "decimal commas, tabs": separated("\t", ",", "\t\t"),
}


@pytest.fixture
def recording(tmp_path: Path) -> Callable[[Callable], tuple[Path, dict[str, str]]]:
    def write(format: Callable) -> tuple[Path, dict[str, str]]:
        names = write_recording(format, tmp_path)
        return tmp_path, {name: (tmp_path / name).read_text() for name in names}

    return write


@pytest.mark.parametrize("format", TEXTS, ids=lambda format: format.__name__)
def test_how_texts_are_written_changes_nothing(recording: Callable, format: Callable) -> None:
    folder, texts = recording(format)
    expected = load_scene(folder)
    for style, written in STYLES.items():
        in_fields = style in list(STYLES)[6:]
        for name, text in texts.items():
            if not (in_fields and name.endswith(NO_TABLES)):
                (folder / name).write_bytes(written(text))
        try:
            expect_same(load_scene(folder), expected)
        except Exception as error:
            raise AssertionError(f"{style}: {error}") from error


SPELLINGS: dict[str, Callable[[str], str]] = {
    "backslashes": lambda name: name.replace("/", "\\"),
    "capitals": str.upper,
    "of another machine": lambda name: f"/home/ann/scans/{name}",
    "of Windows": lambda name: "C:\\scans\\" + name.replace("/", "\\"),
    "from above": lambda name: f"../scans/{name}",
    "in this folder": lambda name: f"./{name}",
    "without ending": lambda name: name.removesuffix(".png"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "format",
    [
        format
        for format in TEXTS
        if format.__name__ in ("tum", "cambridge", "euroc", "opensfm", "plain", "colmap", "nerfstudio")
    ],
    ids=lambda format: format.__name__,
)
def test_images_are_found_by_other_spellings_of_their_names(
    recording: Callable, format: Callable, spelling: str
) -> None:
    folder, texts = recording(format)
    expected = load_scene(folder)
    for name, text in texts.items():
        spelled = re.sub(r"[\w/]+\.png\b", lambda found: SPELLINGS[spelling](found[0]), text)
        if name.endswith(".json"):
            spelled = spelled.replace("\\", "\\\\")
            json.loads(spelled)
        (folder / name).write_text(spelled)
    expect_same(load_scene(folder), expected)


def expect_same(scene: Scene, expected: Scene) -> None:
    assert scene.format == expected.format
    for part, of in ((scene.mapping, expected.mapping), (scene.query, expected.query)):
        assert part.names == of.names and part.has_depth == of.has_depth
        assert part.cam_from_world is not None and of.cam_from_world is not None
        torch.testing.assert_close(part.cam_from_world.matrix, of.cam_from_world.matrix, rtol=0, atol=1e-12)
        for i in range(len(of)):
            assert part.camera(i).model == of.camera(i).model and part.camera(i).size == of.camera(i).size
            torch.testing.assert_close(part.camera(i).params, of.camera(i).params, rtol=0, atol=1e-12)
            if of.has_depth:
                np.testing.assert_array_equal(part[i].depth, of[i].depth)
