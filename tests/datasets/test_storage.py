"""Files are written whole, by any number of writers, with the rights that they should have."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dsac.datasets.storage import Storage, read_text, write_atomically
from dsac.errors import DatasetError


@pytest.mark.parametrize("pid", ["own", "the same in two containers"])
def test_writers_of_one_path_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: str) -> None:
    if pid != "own":
        monkeypatch.setattr(os, "getpid", lambda: 1)
    contents = [bytes([65 + i]) * 50_000 for i in range(4)]
    errors: list[BaseException] = []

    def write(data: bytes) -> None:
        try:
            for _ in range(20):
                write_atomically(tmp_path / "a", data)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not (tmp_path / "a").exists() or (tmp_path / "a").read_bytes() in contents
    for thread in threads:
        thread.join()
    assert errors == []
    assert (tmp_path / "a").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o664])
def test_a_file_that_is_written_again_keeps_its_rights(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    path.chmod(mode)
    before = os.umask(0o022)
    try:
        write_atomically(path, b"data")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"data" and path.stat().st_mode & 0o777 == mode


def test_any_name_that_a_file_can_have_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)
    write_atomically(path, b"data")
    assert path.read_bytes() == b"data"


def test_an_error_names_the_file_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "a", tmp_path / "missing" / "a"):
        with pytest.raises(OSError) as caught:
            write_atomically(path, b"data")
        assert caught.value.filename == str(path)


def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    assert not Storage(str(tmp_path)).has("a\0b/c.png")
    assert not Storage(str(tmp_path)).has("\ud800/c.png")


def test_what_systems_leave_behind_is_not_listed(tmp_path: Path) -> None:
    for name in ("a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    assert Storage(str(tmp_path)).listing() == {"a.jpg", ".hidden"}


def test_folders_that_are_not_there_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"")
    listed: list[str] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    storage = Storage(str(tmp_path))
    assert storage.has("a/b/c") and not storage.has("x/y/c") and not storage.has("a/z/c")
    assert storage.has(f"../{tmp_path.name}/a") and not storage.has("/nowhere/a")
    assert len(listed) == 5  # the folder, a, a/b, the one above, /nowhere


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_texts_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_bytes("Tür 1,5\r\n".encode(encoding))
    if encoding == "utf-16-le":  # without a mark at its start nothing says what it is
        with pytest.raises(DatasetError, match="expected a text file"):
            read_text(tmp_path / "a")
    else:
        assert read_text(tmp_path / "a") == "Tür 1,5\r\n"
