"""What `dsac map --sfm` does before it maps: photos without poses become a scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dsac.cli.console import bars_of_phases, out
from dsac.cli.options import users_mistakes

if TYPE_CHECKING:
    from dsac.datasets import Scene
    from dsac.sfm import SfmProgress


def place_photos(path: str, folder: Path, focal_px: float | None, seed: int) -> Scene:
    """The scene, with a bar for each phase of finding it; kept in `folder`. Prints what it has.

    Raises: `DatasetError`; `DsacError` for a focal length that is none.
    """
    from dsac.sfm import reconstruct_scene

    with bars_of_phases() as show_bar, users_mistakes():

        def show(progress: SfmProgress) -> None:
            show_bar(_PHASES[progress.phase], progress.fraction, "")

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
