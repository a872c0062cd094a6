"""Recordings behind URLs: what is there is read, and what does not answer says so."""

from __future__ import annotations

import functools
import http.server
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsac.datasets import load_scene, remote
from dsac.datasets.storage import join, open_file
from dsac.errors import DatasetError

NAMES = ["a b.png", "bär.png", "c#1.png", "d?e.png"]


@pytest.fixture
def room(tmp_path: Path) -> Path:
    folder = tmp_path / "served" / "my röom"
    (folder / "images").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        image = cv2.imencode(".png", np.full((6, 8, 3), 10 + i, np.uint8))[1].tobytes()
        (folder / "images" / name).write_bytes(image)
    (folder / "poses.txt").write_text("".join(f"{name} 1 0 0 0 0 0 0 10\n" for name in NAMES), encoding="utf-8")
    return folder


@pytest.fixture
def host(room: Path) -> Iterator[str]:
    """A web server of the folder that the room is in."""
    pytest.importorskip("aiohttp", reason="pip install 'dsac[http]'")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(room.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _is_read(url: str) -> None:
    scene = load_scene(url)
    assert scene.path == url and scene.mapping.names == NAMES
    assert [round(float(frame.image.max() * 255)) for frame in scene.mapping] == [10, 11, 12, 13]
    scene.mapping.without_damaged()


def test_a_web_server_is_read_whatever_its_files_are_called(host: str) -> None:
    _is_read(f"{host}/my röom")
    _is_read(f"{host}/my%20r%C3%B6om/")
    with pytest.raises(DatasetError, match="expected a folder with images and poses"):
        load_scene(f"{host}/nowhere")
    with (
        pytest.raises(DatasetError, match=f"{host}/my röom/none.png: no such file"),
        open_file(f"{host}/my röom/none.png"),
    ):
        pass


def test_files_and_archives_are_read_as_folders_are(room: Path, tmp_path: Path) -> None:
    _is_read(f"file://{room}")
    packed = shutil.make_archive(str(tmp_path / "of many"), "zip", room.parent)
    _is_read(f"zip://my röom::{packed}")
    _is_read(f"zip://my röom::file://{packed}")
    packed = shutil.make_archive(str(tmp_path / "of one"), "zip", room)
    _is_read(f"zip://::{packed}")
    with pytest.raises(DatasetError, match="or give zip://::"):
        load_scene(packed)
    with pytest.raises(DatasetError, match=r"zip://::.*/none.zip: expected a folder"):
        load_scene(f"zip://::{tmp_path}/none.zip")


def test_a_path_lies_in_the_first_part_of_a_chain_that_has_a_protocol() -> None:
    assert join("memory://room", "images", "a") == "memory://room/images/a"
    assert join("zip://room/::http://host/b.zip", "../a") == "zip://a::http://host/b.zip"
    assert join("simplecache::s3://bucket/room", "a") == "simplecache::s3://bucket/room/a"


def test_a_store_that_does_not_answer_says_so(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_LIMIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the request and says nothing
        begun = time.monotonic()
        with pytest.raises(DatasetError, match="no answer within 0.2 s; is the address right"):
            load_scene(f"http://127.0.0.1:{silent.getsockname()[1]}/room")
        assert time.monotonic() - begun < 5
    with pytest.raises(DatasetError, match="http://127.0.0.1:9/room: Connect call failed"):
        load_scene("http://127.0.0.1:9/room")


def test_what_an_address_wants_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="Protocol not known: carrier-pigeon"):
        load_scene("carrier-pigeon://room")

    def missing(url: str) -> tuple:
        raise ImportError('"aiohttp" wanted')

    monkeypatch.setattr(remote, "_place", missing)
    with pytest.raises(DatasetError, match=r"\"aiohttp\" wanted; pip install 'dsac\[http\]'"):
        load_scene("http://somewhere/room")
