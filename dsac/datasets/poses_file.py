"""Poses files: one line an image, `name qw qx qy qz tx ty tz [focal_px]`, `cam_from_world`, metres.

The convention of COLMAP and of the 7-Scenes and 12-Scenes pseudo ground truth. Published estimates append
their errors: in lines of ten or more columns, what follows the pose is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from dsac.datasets.frame import NamedPoses
from dsac.datasets.rigid import finite_rows, rigid_from_quaternions
from dsac.datasets.storage import is_remote, read_lines, write_atomically
from dsac.datasets.tables import numbers_at_end, unquoted
from dsac.errors import DatasetError

_LINE = "name qw qx qy qz tx ty tz [focal_px]"


def read_poses(path: str | Path) -> NamedPoses:
    """Read a poses file; blank lines and lines that start with `#` are skipped, names may hold spaces.

    Fields may be separated in any way of `tables`, and the first line may be a table's head.
    Poses with NaN or infinity are left out and named in one warning.
    Raises: `DatasetError` with the line for wrong columns, a repeated name, a pose that is not a rigid motion,
    or a focal length that is not positive or given in some lines only.
    """
    names, rows, line_numbers = [], [], []
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        name, values = _parse(line)
        if not values and not names and "qw" in line.lower():
            continue
        if len(values) < 7:
            raise DatasetError(f"{path}, line {number}: expected `{_LINE}`, got `{line[:120]}`")
        names.append(name)
        rows.append(values[:8] if len(values) == 8 else values[:7])
        line_numbers.append(number)

    def where(row: int) -> str:
        return f"{path}, line {line_numbers[row]}"

    if len(set(names)) < len(names):
        seen: set[str] = set()
        row = next(i for i, name in enumerate(names) if name in seen or seen.add(name))
        raise DatasetError(f"{where(row)}: {names[row]} has a pose already on line "
                           f"{line_numbers[names.index(names[row])]}")  # fmt: skip
    for row, values in enumerate(rows):
        if len(values) != len(rows[0]):
            raise DatasetError(f"{where(row)}: expected a focal length in every line or in none")
        if len(values) == 8 and not 0 < values[7] < float("inf"):
            raise DatasetError(f"{where(row)}: expected a positive focal length in pixels, got {values[7]}")

    table = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), -1 if rows else 7)
    kept = finite_rows(table, names, str(path))
    table = table[torch.from_numpy(kept)]
    poses = rigid_from_quaternions(table[:, :4], table[:, 4:7], lambda i: where(int(kept[i])))
    return NamedPoses([names[i] for i in kept], poses, table[:, 7] if table.shape[1] == 8 else None)


def write_poses(path: str | Path, poses: NamedPoses) -> None:
    """Write a poses file whole or not at all.

    Raises: `DatasetError` when it cannot be written, and for names that `check_names` refuses.
    """
    check_names(poses.names)
    columns = [poses.cam_from_world.quaternion_wxyz, poses.cam_from_world.translation]
    if poses.focal_px is not None:
        columns.append(poses.focal_px[:, None])
    rows = torch.cat([column.detach().double().cpu() for column in columns], dim=-1).tolist()
    lines = [" ".join([name, *(f"{x:.12g}" for x in row)]) for name, row in zip(poses.names, rows, strict=True)]
    text = "".join(line + "\n" for line in lines)
    try:
        if is_remote(path):
            import fsspec

            with fsspec.open(str(path), "w") as file:
                file.write(text)  # type: ignore[union-attr]
        else:
            write_atomically(Path(path), text.encode())
    except (OSError, ImportError) as error:
        raise DatasetError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error


def check_names(names: Sequence[str]) -> None:
    """Raises: `DatasetError` for a name that `read_poses` would not read back."""
    values = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    for name in names:
        line = " ".join([name, *map(str, values)])
        if line[0] == "#" or line.strip().splitlines() != [line] or _parse(line) != (name, values):
            raise DatasetError(
                f"{name!r}: no name for a poses file, it would be read as something else: "
                "# or a space at its start, a line break, or a number or a space at its end"
            )


def _parse(line: str) -> tuple[str, list[float]]:
    """The name, and the numbers at the end of the line."""
    name, values = numbers_at_end(line, 7)
    return unquoted(name), values
