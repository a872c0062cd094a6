"""`dsac map SCENES... --output FOLDER`: a map of each scene, whatever happens to the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest
from command_line import Fails, Run, write_noise

from dsac.cli.map_scenes import scene_names
from dsac.datasets import load_scene
from dsac.errors import DsacError
from dsac.mapping import MappingSettings, RegionTask, workers
from dsac.scene_map import SceneMap

QUICK = ("--steps", 1, "--views", 3, "--buffer-size", 2000, "--landmarks", 0, "--no-check")


@pytest.fixture
def rooms(tmp_path: Path) -> list[Path]:
    """Three places of noise, two of them called alike."""
    rooms = [tmp_path / "hus" / "ä room", tmp_path / "barn" / "ä room", tmp_path / "attic"]
    write_noise(rooms[0], 3)
    for other in rooms[1:]:
        shutil.copytree(rooms[0], other)
    return rooms


def test_each_scene_becomes_a_map_and_one_that_fails_is_named(
    rooms: list[Path], run: Run, tmp_path: Path
) -> None:
    (rooms[2] / "poses.txt").unlink()
    maps = tmp_path / "maps"
    code, out, err = run("map", *rooms, "--output", maps, *QUICK)
    assert code == 2 and "Traceback" not in err
    assert err.splitlines()[-1] == "dsac: 1 of 3 scenes could not be mapped: attic"
    assert "attic could not be mapped: " in err
    names = ["hus-ä room", "barn-ä room"]
    assert {path.name for path in maps.iterdir()} == {f"{name}.dsac" for name in names}
    for name, room in zip(names, rooms, strict=False):
        assert SceneMap.load(maps / f"{name}.dsac").info.source.startswith(f"{room} ")
        assert f"{maps / name}.dsac: " in out
        assert f"\n{name}:\n3 frames that it learned from: " in out


def test_scenes_behind_urls_are_mapped_like_others(rooms: list[Path], run: Run, tmp_path: Path) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(rooms[0]), "/house/ä room", recursive=True)
    urls = "memory://house/ä room", f"file://{rooms[2]}"
    code, out, err = run("map", *urls, "--output", tmp_path / "maps", *QUICK)
    filesystem.rm("/house", recursive=True)
    assert code == 0, err
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"ä room.dsac", "attic.dsac"}
    assert f"{urls[0]}: image folder with poses.txt, 3 mapping frames with depth" in out
    info = SceneMap.load(tmp_path / "maps" / "ä room.dsac").info
    assert len(info.frames) == 3 and all(info.frames.values())


def test_an_interrupt_leaves_the_finished_and_resume_makes_the_others(
    rooms: list[Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, asked, maps = workers.map_region, [], tmp_path / "maps"
    command = ("map", *rooms, "--output", maps, *QUICK)

    def second_is_interrupted(task: RegionTask, on_progress=None) -> bool:  # noqa: ANN001
        asked.append(task.folder.name)
        if len(asked) == 2:
            assert (maps / "hus-ä room.dsac").is_file()  # as soon as it is finished
            raise KeyboardInterrupt
        return make(task, on_progress)

    monkeypatch.setattr(workers, "map_region", second_is_interrupted)
    code, out, _ = run(*command)
    assert code == 130 and "--resume goes on" in out
    assert [path.name for path in maps.glob("*.dsac")] == ["hus-ä room.dsac"]
    made = (maps / "hus-ä room.dsac").stat().st_mtime_ns
    code, out, _ = run(*command, "--resume")
    assert code == 0
    assert asked[2:] == ["barn-ä room.dsac.regions", "attic.dsac.regions"]
    assert {path.name for path in maps.iterdir()} == {
        "hus-ä room.dsac", "barn-ä room.dsac", "attic.dsac",
    }  # fmt: skip
    assert (maps / "hus-ä room.dsac").stat().st_mtime_ns == made
    assert "Next: dsac merge " in out
    code, _, err = run(*command, "--resume")
    assert code == 2 and "nothing to resume" in err


def test_regions_of_all_scenes_are_made_side_by_side(rooms: list[Path], tmp_path: Path) -> None:
    begun: list[Path] = []

    class Worker:
        """Is done when another one runs beside it."""

        def __init__(self, task: RegionTask) -> None:
            self.task = task
            begun.append(task.map)

        def ended(self) -> bool:
            if len(begun) % 2 == 0:
                self.task.map.write_bytes(b"a map")
            return self.task.map.is_file()

        def stop(self, patience: float) -> None: ...

    tasks, scene = [], load_scene(rooms[0])
    for name in ("a", "b", "c", "d"):  # each of one region by the same name
        (tmp_path / name).mkdir()
        tasks.append(RegionTask("1", scene, MappingSettings(), 0, "cpu", tmp_path / name))
    ended: list[Path] = []
    outcome = workers.map_all(tasks, 2, Worker, on_end=lambda task: ended.append(task.map))
    assert outcome == ({}, False)
    assert begun == [task.map for task in tasks] and sorted(ended) == begun


def test_maps_are_called_by_what_tells_their_scenes_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {
        "a/Room": "a-Room",
        "b/room/": "b-room",
        "http://host/c/hall": "hall",
        "zip://attic/::http://host/house.zip": "attic",
        "zip://::/data/cellar.zip": "cellar",
        "nerf/transforms.json": "nerf",
        "walks/walk 1.mp4": "walk 1",
        ".": tmp_path.name,
        "s3://bucket": "bucket",
        "v1.2": "v1.2",
    }
    assert scene_names(list(names)) == names
    for twice in (["a/b", "./a/b"], ["x/a/b", "y/a/b"], ["hall", "c/hall.mp4", "http://c/hall"]):
        with pytest.raises(DsacError, match="another scene is called"):
            scene_names(twice)


def test_names_that_are_not_of_scenes_and_a_map_are_explained(
    rooms: list[Path], fails: Fails, tmp_path: Path
) -> None:
    hint = "of many scenes --output FOLDER takes the maps"
    assert f"expected a scene and the map file to write, got 3 names; {hint}" in fails("map", *rooms)
    assert f"expected a scene and the map file to write, got 1 names; {hint}" in fails("map", rooms[0])
    assert f"expected a file to write, got a folder; {hint}" in fails("map", *rooms[:2])
    assert "expected one scene or more before --output" in fails("map", "--output", tmp_path / "maps")
    poses = rooms[0] / "poses.txt"
    assert "cannot be created" in fails("map", *rooms, "--output", poses)
    assert "expected a folder on this machine, got a URL" in fails("map", *rooms, "--output", "memory://maps")
    assert "another scene is called" in fails("map", rooms[0], rooms[0], "--output", tmp_path / "maps")
    nowhere = ("map", tmp_path / "nowhere", tmp_path / "elsewhere", "--output", tmp_path / "maps")
    assert "2 of 2 scenes could not be mapped: nowhere, elsewhere" in fails(*nowhere)
