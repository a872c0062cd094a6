"""Files behind URLs, by fsspec: a store that does not answer says so, names are those that people gave.

Of a chain (`zip://room::http://host/house.zip`, `simplecache::s3://bucket/room`) the first part with a protocol
is the one that a path lies in.
"""

from __future__ import annotations

import functools
import posixpath
import threading
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from dsac.errors import DatasetError


def read_remote(url: str) -> bytes:
    """The whole file. Raises: `DatasetError`."""
    try:
        filesystem, path = _place(url)
        return filesystem.cat_file(path)
    except FileNotFoundError:
        raise DatasetError(f"{url}: no such file") from None
    except Exception as error:  # what a store raises depends on whose it is
        raise DatasetError(f"{url}: {_told(error)}") from error


def list_remote(url: str) -> list[str]:
    """Names of the files and folders in a folder; empty if it does not exist. Raises: `DatasetError`."""
    try:
        _expect_answer(url)
        filesystem, path = _place(url)
        names = [posixpath.basename(name.rstrip("/")) for name in filesystem.ls(path, detail=False)]
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):  # the last: a file taken for a page
        return []
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"{url}: {_told(error)}") from error
    return [unquote(name) for name in names] if _is_web(url) else names


def join_remote(url: str, *names: str) -> str:
    """Join without `.` and `..` parts."""
    before, part, after = _parts(url)
    protocol, mark, path = part.rpartition("://")
    return before + protocol + mark + posixpath.normpath(posixpath.join(path, *names)) + after


def _parts(url: str) -> tuple[str, str, str]:
    """What stands before and after the part of a chain that a path lies in, and that part."""
    parts = url.split("::")
    number = next(i for i, part in enumerate(parts) if "://" in part)
    before, after = parts[:number], parts[number + 1 :]
    return "".join(f"{part}::" for part in before), parts[number], "".join(f"::{part}" for part in after)


def _place(url: str) -> tuple[Any, str]:
    """The file system and the path in it. Archives are opened once: each time their contents would be read."""
    import fsspec

    if _is_web(url):  # where these would begin something else than a name
        url = url.replace("#", quote("#")).replace("?", quote("?"))
    before, part, after = _parts(url)
    if after:
        protocol, _, path = part.partition("://")
        return _archive(f"{before}{protocol}://{after}"), posixpath.normpath(f"/{path}").strip("/")
    return fsspec.core.url_to_fs(url)


@functools.lru_cache(maxsize=8)
def _archive(url: str) -> Any:
    import fsspec

    return fsspec.core.url_to_fs(url)[0]


def _is_web(url: str) -> bool:
    return _parts(url)[1].startswith(("http://", "https://"))


_answered: set[str] = set()


def _expect_answer(url: str) -> None:
    """Raises: `DatasetError` where the store says nothing, neither yes nor no."""
    store = "://".join(urlsplit(_parts(url)[1])[:2]) + _parts(url)[2]
    if store in _answered:
        return

    def ask() -> None:
        try:
            filesystem, path = _place(url)
            filesystem.exists(path)
        except Exception:  # the same is raised, and told, when it is listed
            pass
        _answered.add(store)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_LIMIT_S)
    if store not in _answered:
        raise DatasetError(
            f"{url}: no answer within {_LIMIT_S:g} s; is the address right, and reachable from here?"
        )


def _told(error: Exception) -> str:
    if isinstance(error, ImportError):  # the package for this protocol
        extra = "; pip install 'dsac[http]'" if "aiohttp" in str(error) else ""
        return f"{error}{extra}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


_LIMIT_S = 10.0
