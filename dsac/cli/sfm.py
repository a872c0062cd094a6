"""What `dsac map --sfm` does before it maps: photos without poses become a scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dsac.cli.console import out, progress_bars
from dsac.cli.options import users_mistakes

if TYPE_CHECKING:
    from dsac.datasets import Scene
    from dsac.sfm import SfmProgress


def place_photos(path: str, folder: Path, focal_px: float | None, seed: int) -> Scene:
    """The scene, with a bar for each phase of finding it; kept in `folder`. Prints what it has.

    Raises: `DatasetError`; `DsacError` for a focal length that is none.
    """
    from dsac.sfm import reconstruct_scene

    tasks = {}
    with progress_bars() as bars:

        def show(progress: SfmProgress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(_PHASES[progress.phase], total=1.0, note="")
            bars.update(tasks[progress.phase], completed=progress.fraction)

        with users_mistakes():
            scene = reconstruct_scene(path, folder, focal_px=focal_px, seed=seed, on_progress=show)
    out.print(f"{path}: {scene.format}, {len(scene.mapping)} photos placed, kept in {folder}", soft_wrap=True)
    return scene


_PHASES = {
    "video": "read video",
    "read": "read photos",
    "features": "find features",
    "matching": "match photos",
    "placing": "place photos",
}
