"""What a folder that no format recognises holds, and what a person may do with it."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence

from dsac.datasets.format import Format
from dsac.datasets.image_names import ENDINGS, unread
from dsac.datasets.rigid import some
from dsac.datasets.storage import Storage, read_text
from dsac.datasets.tables import number_or_none, read_rows
from dsac.errors import DatasetError

_DEEPEST, _MOST_FOLDERS = 4, 300
_MOST_TEXTS = 20  # of a folder, looked into
_TOOL_OF = {
    "bundle.out": "Bundler: `kapture_import_bundler.py`, then `kapture_export_colmap.py` make COLMAP's of it",
    "sfm_data.json": "OpenMVG: `openMVG_main_openMVG2Colmap` makes a COLMAP model of it",
    "cameras.sfm": "Meshroom: `aliceVision_exportColmap` makes a COLMAP model of it",
    "sensors.txt": "kapture: `kapture_export_colmap.py` makes a COLMAP model of it",
    "database.db": "COLMAP's database without a model: `colmap mapper` makes one of it",
}
_ARCHIVES = (".r3d", ".zip", ".tar", ".gz", ".tgz", ".7z")
_PAIRS = [(f"cameras.{ending}", f"images.{ending}") for ending in ("bin", "txt")]


def not_recognised(storage: Storage, formats: Sequence[Format]) -> str:
    """The error's text."""
    if not storage.listing():
        if storage.path.lower().endswith(_ARCHIVES) and "::" not in storage.path:
            return f"{storage.path}: expected a folder, not an archive. {_of_archive(storage.path)}"
        return f"{storage.path}: expected a folder with images and poses, it is missing, empty or no folder"
    folders = list(_folders(storage))
    images = Counter(
        {
            folder: count
            for folder in folders
            if not posixpath.basename(folder).lower().startswith(("depth", "mask"))
            if (count := sum(name.lower().endswith(ENDINGS) for name in storage.listing(folder)))
        }
    )
    others = unread(name for folder in folders for name in storage.listing(folder))
    found = f"no images that are read here, {others}" if others else "neither images nor poses"
    if images:
        found = f"{images.total()} images but no poses; `dsac map --sfm` finds them"
        if list(images) != ["."]:
            found += f"; images are in {some([folder for folder, _ in images.most_common()], 5)}"
    hints = [hint for folder in folders for hint in _hints(storage, folder)]
    inner = [folder for folder in folders[1:] if _is_scene(storage, folder, formats)]
    if inner:
        hints = [f"What can be read lies further in, give that folder: {some(inner, 5)}"]
    looked_for = "; ".join(format.LOOKS_FOR for format in formats)
    return ". ".join([f"{storage.path}: found {found}", *hints, f"Looked for: {looked_for}"])


def _folders(storage: Storage) -> Iterator[str]:
    """The folder and those in it, the nearest first; not all of very many."""
    waiting, seen = ["."], 0
    while waiting and seen < _MOST_FOLDERS:
        folder = waiting.pop(0)
        names = storage.listing(folder)
        seen += 1
        if not names:
            continue
        yield folder
        if folder.count("/") < _DEEPEST - 1:
            # what has an ending is a file; asking would be a request for each image
            inside = sorted(name for name in names if "." not in name)
            waiting += [posixpath.normpath(posixpath.join(folder, name)) for name in inside]


def _is_scene(storage: Storage, folder: str, formats: Sequence[Format]) -> bool:
    inner = Storage(storage.join(folder))
    return any(format.recognises(inner) for format in formats)


def _hints(storage: Storage, folder: str) -> Iterator[str]:
    names = storage.listing(folder)
    for file, tool in _TOOL_OF.items():
        if file in names and (file != "sensors.txt" or posixpath.basename(folder) == "sensors"):
            yield f"{posixpath.normpath(posixpath.join(folder, file))} is of {tool}"
    for file in sorted(names):
        if file.lower().endswith(_ARCHIVES):
            yield _of_archive(posixpath.normpath(posixpath.join(folder, file)))
    for pair in _PAIRS:
        for file, other in (pair, pair[::-1]):
            if file in names and other not in names:
                yield f"{storage.join(folder)} has {file} of a COLMAP model, its {other} is missing"
    texts = sorted(name for name in names if name.lower().endswith(".txt"))
    for file in texts if len(texts) <= _MOST_TEXTS else []:
        if _is_trajectory(storage.join(folder, file)):
            path = posixpath.normpath(posixpath.join(folder, file))
            yield f"{path} looks like TUM's poses: as groundtruth.txt, beside the images in rgb, they are read"
    if "cameras.xml" in names:
        yield _metashape(storage.join(folder, "cameras.xml"))


def _is_trajectory(path: str) -> bool:
    """Whether lines are `timestamp tx ty tz qx qy qz qw`."""
    try:
        rows = read_rows(path)
    except DatasetError:
        return False
    return bool(rows) and len(rows[0].words) == 8 and None not in map(number_or_none, rows[0].words)


def _of_archive(path: str) -> str:
    if path.lower().endswith(".r3d"):
        return f"{path} is Record3D's, a zip: unpacked it is read, but for its depth, which is LZFSE's"
    as_it_is = f", or give zip://::{path}" if path.lower().endswith(".zip") else ""
    return f"{path} is an archive: unpack it{as_it_is}"


def _metashape(path: str) -> str:
    try:
        text = read_text(path)
    except DatasetError:
        text = ""
    if "<camera " in text and "<transform>" not in text:
        return f"{path} is Metashape's, of photos that it has not aligned: no camera has a pose"
    return f"{path} is Metashape's: `ns-process-data metashape` (nerfstudio) makes a transforms.json of it"
