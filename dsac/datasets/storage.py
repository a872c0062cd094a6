"""A scene's folder, on this machine or behind any URL that fsspec knows (`s3://bucket/room`).

Each subfolder is listed once, and `has` looks there: 100 000 images do not cost 100 000 requests.
"""

from __future__ import annotations

import codecs
import io
import os
import posixpath
import shutil
import stat
import struct
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from dsac.datasets.remote import join_remote, list_remote, read_remote
from dsac.errors import DatasetError


@dataclass(frozen=True)
class Storage:
    """A folder; names in it are relative, with forward slashes.

    What systems leave behind beside people's files (`._IMG.jpg`, `Thumbs.db`) is not there.
    """

    path: str
    chosen: str = ""  # what in the folder a person named instead of it
    _listings: dict[str, frozenset[str]] = field(default_factory=dict, repr=False, compare=False)

    def join(self, *names: str) -> str:
        """The path or URL of a file in the folder."""
        return join(self.path, *names)

    def listing(self, folder: str = ".") -> frozenset[str]:
        """Names of the files and folders in a subfolder; empty if it does not exist."""
        folder = posixpath.normpath(folder)
        if folder not in self._listings:
            above, name = posixpath.split(folder)
            inside = not folder.startswith(("/", ".."))
            known = folder == "." or not inside or _among(name, self.listing(above or "."))
            names = _list_folder(self.join(folder)) if known else []
            self._listings[folder] = frozenset(name for name in names if not is_litter(name))
        return self._listings[folder]

    def has(self, name: str) -> bool:
        folder, base = posixpath.split(name)
        return base in self.listing(folder or ".")

    def first(self, names: Sequence[str]) -> str | None:
        """The first of the names that exists."""
        return next((name for name in names if self.has(name)), None)


def join(folder: str, *names: str) -> str:
    """Join without `.` and `..` parts, keeping the protocol of a URL."""
    if is_remote(folder):
        return join_remote(folder, *names)
    return posixpath.normpath(posixpath.join(folder, *names))


@dataclass(frozen=True, eq=False)
class HeldFile:
    """The contents of a file that somebody has in memory; it stands where a path can."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


@contextmanager
def open_file(path: str | Path | HeldFile) -> Iterator[BinaryIO]:
    """A local file for reading, or a remote one in memory. Raises: `DatasetError` when it cannot be read."""
    if isinstance(path, HeldFile) or is_remote(path):
        yield io.BytesIO(read_bytes(path))
        return
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from error


def read_bytes(path: str | Path | HeldFile) -> bytes:
    if isinstance(path, HeldFile):
        return path.data
    if is_remote(path):
        return read_remote(str(path))
    with open_file(path) as file:
        return file.read()


def unpack(file: BinaryIO, layout: str, path: str) -> tuple:
    """The next values of a binary file, by `struct`'s layout. Raises: `DatasetError` when it ends before."""
    data = file.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        raise DatasetError(f"{path}: the file is truncated")
    return struct.unpack(layout, data)


def read_text(path: str | Path) -> str:
    """A text in UTF-8, UTF-16 or the old Western encoding of Windows.

    Raises: `DatasetError` for a binary file.
    """
    data = read_bytes(path)
    encodings = ["utf-16"] if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else _ENCODINGS
    for encoding in encodings:
        with suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            if _NO_TEXT.isdisjoint(text):
                return text
    raise DatasetError(f"{path}: expected a text file, got binary data")


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text, stripped. Raises: `DatasetError` like `read_text`."""
    return [line.strip() for line in read_text(path).splitlines()]


_ENCODINGS = ["utf-8-sig", "cp1252"]
_NO_TEXT = {chr(code) for code in range(32)} - set("\t\n\v\f\r\x1a")  # control characters


def is_litter(name: str) -> bool:
    """Whether a file is what macOS or Windows leave behind, whatever its ending says."""
    return name.startswith("._") or name.lower() in (".ds_store", "thumbs.db", "desktop.ini", "__macosx")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, see `file_written_whole`."""
    with file_written_whole(path) as file:
        file.write(data)


@contextmanager
def file_written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` at the end: nothing is left behind by a full disk or an interrupt.

    Threads, processes and containers may write the same path: the last one wins. A new file gets the
    permissions that the umask leaves, an existing one keeps its own. A symbolic link stays, and the file it
    points to is written; a pipe or a device is written to directly.
    Raises: `OSError` that names `path`.
    """
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")  # `tempfile` would ignore the umask
    try:
        with open(temporary, "xb") as file:
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_new_folder(path: Path) -> None:
    """Raises: `DatasetError` for a folder to write that is there and not empty, or whose own folder is not."""
    if path.exists() and not (path.is_dir() and not os.listdir(path)):
        raise DatasetError(f"{path}: expected a new or an empty folder to write into; give another name")
    if not path.absolute().parent.is_dir():
        raise DatasetError(f"{path}: its folder does not exist")


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `path` at the end; an error leaves nothing.

    An empty folder that is there already stays and gets what was written: a shell may be in it.
    Raises: `DatasetError` like `check_new_folder`, and when it cannot be written.
    """
    check_new_folder(path)
    target = Path(os.path.realpath(path))
    is_there = target.exists()
    temporary = (target if is_there else target.parent) / f".{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir()
        yield temporary
        if is_there:
            for name in os.listdir(temporary):
                os.replace(temporary / name, target / name)
            temporary.rmdir()
        else:
            os.replace(temporary, target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise DatasetError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def _among(name: str, names: frozenset[str]) -> bool:
    """In any case of its letters, which some systems do not tell apart."""
    return name in names or any(name.lower() == other.lower() for other in names)


def is_remote(path: str | Path) -> bool:
    return "://" in str(path)


def _list_folder(path: str) -> list[str]:
    if is_remote(path):
        return list_remote(path)
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no name that a folder can have
        return []
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from error
