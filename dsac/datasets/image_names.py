"""The image files that a recording means: names as other machines and programs wrote them, found here."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence

from dsac.datasets.heif import HEIF_ENDINGS, can_read_heif
from dsac.datasets.storage import Storage

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SMALLER = ("images_2", "images_4", "images_8")  # copies of `images` at a half, a quarter, an eighth

_HEIC = "HEIC photos"
_NOT_READ = {
    **dict.fromkeys(HEIF_ENDINGS, _HEIC),
    **dict.fromkeys((".mov", ".mp4", ".m4v", ".avi", ".mkv", ".insv"), "videos"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"), "raw photos"),
    ".gif": "GIF images",
}


def unread(names: Iterable[str]) -> str:
    """What of these might be photos but is not read, counted, with the way out; empty if nothing is."""
    counts = Counter(kind for name in names if (kind := _NOT_READ.get(posixpath.splitext(name)[1].lower())))
    found = ", ".join(f"{kind}: {count}" for kind, count in sorted(counts.items()))
    return f"{found} (`pip install pillow-heif` for HEIC)" if _HEIC in counts and not can_read_heif() else found


def names_found(
    storage: Storage, names: Sequence[str], roots: Sequence[str] = (".",), endings: Sequence[str] = ENDINGS
) -> list[str]:
    """The names under which the files are there, in the root that has most of them.

    Those written may be Windows', without ending, in other letters (`IMG` for `img`), with another machine's
    folders before them, or of images of which only smaller copies are there. What is not found keeps its name.
    """
    names = [name.removeprefix("./") for name in names]
    if any(all(storage.has(f"{root}/{name}") for name in names) for root in roots):
        return names
    best: list[str | None] = [None] * len(names)
    for root in filter(storage.listing, roots):
        in_any_case = _InAnyCase(storage, root)
        found = [
            _found(storage, name, root, endings) or in_any_case.first(_readings(name, endings))
            for name in names
        ]
        best = max(best, found, key=lambda found: len(found) - found.count(None))
    return [name if found is None else found for name, found in zip(names, best, strict=True)]


def name_among(name: str, known: Container[str]) -> str:
    """The same, for names that are known instead of files."""
    return next((candidate for candidate in (name, *_readings(name, ENDINGS)) if candidate in known), name)


def _found(storage: Storage, name: str, root: str, endings: Sequence[str]) -> str | None:
    candidates = (name, *_readings(name, endings))
    return next((candidate for candidate in candidates if storage.has(f"{root}/{candidate}")), None)


class _InAnyCase:
    """Files below a folder, whatever the case of their letters."""

    def __init__(self, storage: Storage, root: str) -> None:
        self._storage, self._root = storage, root
        self._names: dict[str, dict[str, str]] = {}  # by folder, those there by their small letters

    def first(self, names: Iterable[str]) -> str | None:
        """The first of the names that is there, as it is there."""
        return next(filter(None, map(self._found, dict.fromkeys(map(str.lower, names)))), None)

    def _found(self, name: str) -> str | None:
        found = ""
        for part in name.split("/"):
            if found not in self._names:
                listing = self._storage.listing(posixpath.join(self._root, found))
                self._names[found] = {there.lower(): there for there in sorted(listing)}
            if part not in self._names[found]:
                return None
            found = posixpath.join(found, self._names[found][part])
        return found


def _readings(name: str, endings: Sequence[str]) -> Iterator[str]:
    """Other names that the file may have here, the most literal first; none leads out of the folder."""
    # macOS takes letters with accents apart
    for spelling in dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))):
        yield from _readings_as_spelled(spelling, endings)


def _readings_as_spelled(name: str, endings: Sequence[str]) -> Iterator[str]:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        for path in (tail, *_smaller(tail)):
            stem, ending = posixpath.splitext(path)
            yield path
            if ending.lower() not in endings:
                yield from (path + other for other in endings)
                yield from (path + other.upper() for other in endings)
            elif ending.lower() in (".jpg", ".jpeg"):
                yield from (stem + other for other in (".jpg", ".JPG", ".jpeg", ".JPEG"))
            else:
                yield from (stem + other for other in (ending.lower(), ending.upper()))


def _smaller(path: str) -> Iterator[str]:
    first, _, rest = path.partition("/")
    if first == "images" and rest:
        yield from (f"{folder}/{rest}" for folder in SMALLER)
