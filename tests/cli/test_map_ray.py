"""Regions mapped on a Ray cluster: the same maps, and a node that dies costs what it had not sent."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Fails, Run, write_noise
from map_bytes import values

from dsac.datasets import Scene, load_scene
from dsac.mapping import (
    MappingProgress,
    MappingSettings,
    RegionTask,
    build_regions,
    on_ray,
    ray_workers,
    workers,
)
from dsac.rooms import synthetic_scene
from dsac.scene_map import SceneMap

SETTINGS = MappingSettings(
    steps=40, batch_size=256, width=32, num_blocks=0, num_views=8, buffer_size=4000, short_side_px=96,
    num_landmarks=60,
)  # fmt: skip
ROWS = [np.arange(0, 3), np.arange(2, 5)]


# ---- without a cluster: before one is connected, which would be used --------------------------------------


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """The address of something else than a cluster."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_address_where_no_cluster_answers_is_one_line(
    silent: str, web: str, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="pip install 'dsac[ray]'")
    monkeypatch.setattr(ray_workers, "_LIMIT_S", 0.2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    command = ("map", "synthetic", tmp_path / "a.dsac", "--ray")
    begun = time.monotonic()
    assert f"--ray {silent}: no cluster answers there (no answer)" in fails(*command, silent)
    assert f"--ray {web}: something else than a Ray cluster answers there" in fails(*command, web)
    assert "no cluster answers there (Connection refused)" in fails(*command, "127.0.0.1:9")
    assert "expected auto, local or HOST:PORT of a cluster's head" in fails(*command, "head")
    monkeypatch.setenv("RAY_ADDRESS", silent)
    assert f"--ray {silent}: no cluster answers there" in fails(*command, "auto")
    assert time.monotonic() - begun < 10


def test_without_ray_the_extra_is_named(fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = fails("map", "synthetic", tmp_path / "a.dsac", "--ray", "local")
    assert "--ray: Ray is not installed; pip install 'dsac[ray]'" in line


# ---- on a cluster ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> Scene:
    return synthetic_scene(num_mapping=5, num_query=1, size=(160, 120))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with one CPU, to which a test adds a node."""
    pytest.importorskip("ray", reason="pip install 'dsac[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    lean = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **lean})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def there(cluster: Any) -> Iterator[ray_workers.Cluster]:
    with on_ray(cluster.address) as there:
        yield there


def test_an_interrupt_brings_the_checkpoint_home(
    there: ray_workers.Cluster, scene: Scene, tmp_path: Path
) -> None:
    assert there.workers == 1

    def interrupt(name: str, progress: MappingProgress) -> None:
        if progress.phase == "training":
            raise KeyboardInterrupt

    endless = replace(SETTINGS, steps=100_000)
    mapped = build_regions(
        scene, ROWS[:1], tmp_path, endless, workers=1, start=there.start, on_progress=interrupt
    )
    assert mapped.interrupted and mapped.atlas is None
    kept = torch.load(tmp_path / "1.checkpoint", weights_only=True)
    assert 0 < kept["step"] < 100_000


def test_a_node_that_is_killed_costs_its_unfinished_part_and_the_maps_are_the_same(
    cluster: Any, there: ray_workers.Cluster, scene: Scene, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    alone = build_regions(scene, ROWS, tmp_path / "alone", SETTINGS)
    assert alone.atlas is not None
    second = cluster.add_node(num_cpus=1, include_log_monitor=False)
    seen: list[str] = []

    def kill_one(name: str, progress: MappingProgress) -> None:
        seen.append(name)
        if len(set(seen)) == 2 and second in cluster.list_all_nodes():  # each of the nodes maps one
            cluster.remove_node(second, allow_graceful=False)

    mapped = build_regions(
        scene, ROWS, tmp_path / "there", SETTINGS, workers=2, start=there.start, on_progress=kill_one
    )
    assert second not in cluster.list_all_nodes()
    assert mapped.atlas is not None and not mapped.failed and not mapped.interrupted
    for here, elsewhere in zip(alone.atlas.regions, mapped.atlas.regions, strict=True):
        assert values(here.to_bytes()) == values(elsewhere.to_bytes())
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"regions.json", "1.dsac", "2.dsac"}


def test_a_region_that_cannot_be_mapped_there_says_what_nodes_need(
    there: ray_workers.Cluster, tmp_path: Path
) -> None:
    room = write_noise(tmp_path / "room", 3)
    gone = load_scene(room)
    shutil.rmtree(room)  # as a folder is that the nodes have not
    mapped = build_regions(gone, ROWS[:1], tmp_path, SETTINGS, start=there.start)
    assert mapped.atlas is None and not mapped.interrupted
    assert "0.jpg: no such file; nodes read frames behind a URL, or in a folder" in mapped.failed["1"]


def test_the_command_maps_one_region_there_too(
    room: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    class Here:
        def __init__(self, task: RegionTask) -> None:
            asked.append(task.folder)
            workers.work(task)

        def ended(self) -> bool:
            return True

        def stop(self, patience: float) -> None: ...

    @contextmanager
    def on_ray(address: str, number: int | None) -> Iterator[ray_workers.Cluster]:
        asked.extend([address, number])
        yield ray_workers.Cluster(2, Here)

    monkeypatch.setattr("dsac.mapping.on_ray", on_ray)
    quick = ("--steps", 1, "--views", 3, "--buffer-size", 2000, "--landmarks", 0, "--no-check")
    code, out, _ = run("map", room, tmp_path / "a.dsac", "--ray", "head:6379", "--workers", 7, *quick)
    assert code == 0 and "3 frames that it learned from: " in out
    assert asked == ["head:6379", 7, tmp_path / "a.dsac.regions"]
    assert SceneMap.load(tmp_path / "a.dsac").info.num_frames == 3
    assert {path.name for path in tmp_path.iterdir()} == {"room", "a.dsac"}
