"""12-Scenes: `data/frame-*.{color.jpg,depth.png,pose.txt}`, `info.txt` and `split.txt`.

Poses are 4x4, world from camera, of colour and depth alike: depth has another resolution but the same centre
and axes. `info.txt` holds sizes, both camera matrices and the units of depth per metre. The first sequence that
`split.txt` lists is to be localized, the others are for mapping, as the field does.
"""

from __future__ import annotations

import re
from contextlib import suppress

from dsac.datasets.format import Recording, Split
from dsac.datasets.listed_files import files_with, folder_names
from dsac.datasets.posed_files import Lens, PosedImages, image_size, pick, poses_from_matrices
from dsac.datasets.recording import ResampledDepth
from dsac.datasets.storage import Storage, read_lines
from dsac.datasets.tables import AT_THE_END, numbers, read_pose_matrix
from dsac.errors import DatasetError

LOOKS_FOR = "info.txt beside data/frame-*.pose.txt (12-Scenes)"

_IDENTITY = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def recognises(storage: Storage) -> bool:
    return _frames_folder(storage) is not None


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of their numbers; the truth is `poses`."""
    found = _frames_folder(storage)
    assert found is not None
    folder, info_path = found
    info = _read_info(info_path)
    stems = [name.removesuffix(".pose.txt") for name in files_with(storage, folder, [".pose.txt"])]
    prefix = "" if folder == "." else f"{folder}/"
    named = [
        storage.first([f"{prefix}{stem}.color.{ending}" for ending in ("jpg", "png", "jpeg")])
        or f"{prefix}{stem}.color.jpg"
        for stem in stems
    ]
    matrices = [read_pose_matrix(storage.join(folder, f"{stem}.pose.txt")) for stem in stems]
    rows, cam_from_world = poses_from_matrices(named, matrices, storage.join(folder))
    names, stems = pick(named, rows), pick(stems, rows)

    colour, depth_camera = (_lens(info, kind, info_path) for kind in ("Color", "Depth"))
    assert depth_camera.size is not None
    to_metres = ResampledDepth(1 / info["m_depthShift"][0], depth_camera.camera(depth_camera.size))
    depth_names = {name: f"{prefix}{stem}.depth.png" for name, stem in zip(names, stems, strict=True)}
    lenses = [colour] * len(names)
    images = PosedImages(names, cam_from_world, lenses, storage.join(folder), depth_names, to_metres)
    split = _split(storage, info_path.removesuffix("info.txt") + "split.txt", names)
    return images.recording(storage, "12-Scenes", "poses", truth, split=split)


def _frames_folder(storage: Storage) -> tuple[str, str] | None:
    """The folder with the frames, and the path of info.txt: of a scene, or of its `data` folder."""
    if storage.has("info.txt") and "data" in storage.listing():
        return ("data", storage.join("info.txt")) if files_with(storage, "data", [".pose.txt"]) else None
    if folder_names(storage)[-1:] == ["data"] and files_with(storage, ".", [".pose.txt"]):
        return (".", storage.join("../info.txt")) if storage.has("../info.txt") else None
    return None


def _read_info(path: str) -> dict[str, list[float]]:
    """Numbers by key, of the lines `key = numbers`."""
    info: dict[str, list[float]] = {}
    for line in read_lines(path):
        key, _, text = line.partition("=")
        with suppress(ValueError):
            info[key.strip()] = numbers(text.strip(AT_THE_END))
    for kind in ("Color", "Depth"):
        for key, count in ((f"m_calibration{kind}Intrinsic", 16), (f"m_{kind.lower()}Width", 1)):
            if len(info.get(key, [])) != count:
                raise DatasetError(f"{path}: expected `{key} = ` with {count} numbers")
        if info.get(key := f"m_calibration{kind}Extrinsic", _IDENTITY) != _IDENTITY:
            raise DatasetError(
                f"{path}: expected the identity as {key}; depth of another place is not understood"
            )
    for key in ("m_colorHeight", "m_depthHeight", "m_depthShift"):
        if len(info.get(key, [])) != 1 or not info[key][0] > 0:
            raise DatasetError(f"{path}: expected `{key} = ` with a positive number")
    return info


def _lens(info: dict[str, list[float]], kind: str, path: str) -> Lens:
    width, height = (info[f"m_{kind.lower()}{side}"][0] for side in ("Width", "Height"))
    size = image_size(width, height, path)
    return Lens.from_matrix(info[f"m_calibration{kind}Intrinsic"], path, size)


def _split(storage: Storage, path: str, names: list[str]) -> Split | None:
    """By lines like `sequence0 [frames=357] [start=0 ; end=356]`, counted over frame numbers."""
    if not storage.has("split.txt" if path == storage.join("split.txt") else "../split.txt"):
        return None
    lines = [line for line in read_lines(path) if line]
    spans = [re.search(r"start\s*=\s*(\d+).*end\s*=\s*(\d+)", line) for line in lines]
    for number, span in enumerate(spans, 1):
        if span is None:
            raise DatasetError(
                f"{path}, line {number}: expected `sequence0 [frames=N] [start=FIRST ; end=LAST]`"
            )
    if not spans or spans[0] is None:
        raise DatasetError(f"{path}: expected a line for each sequence, found none")
    first, last = map(int, spans[0].groups())
    numbers = {name: int(re.findall(r"\d+", name)[-1]) for name in names}
    query = {name for name, number in numbers.items() if first <= number <= last}
    return Split([name for name in names if name not in query], [name for name in names if name in query])
