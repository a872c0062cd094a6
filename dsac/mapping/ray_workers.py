"""Workers on a Ray cluster: any node maps any region, and nodes need not share a folder.

What a worker needs goes to it with its task, a checkpoint included. What it has to say comes back through an
actor beside the driver, its map as the task's result; the driver writes the files that workers on its own
machine would have written.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from dsac.datasets.storage import write_atomically
from dsac.errors import DsacError
from dsac.mapping.region_task import RegionTask
from dsac.mapping.workers import Start, work


class Cluster(NamedTuple):
    """What `build_regions` and `map_all` take."""

    workers: int
    start: Start


@contextmanager
def on_ray(address: str, workers: int | None = None) -> Iterator[Cluster]:
    """Workers on the cluster at an address, `auto` (one that is known here) or `local` (one made for this).

    As many as the cluster has CPUs where `workers` does not say; each takes one CPU, and a GPU for tasks of a
    CUDA device. Nodes need the same version of dsac, and frames where each node finds them: behind a URL, or in
    a folder by the same path. A connection that is there already is used, and left. Ray reports no usage.
    Raises: `DsacError` where Ray is not installed or no cluster answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    try:
        import ray
    except ImportError:
        raise DsacError("--ray: Ray is not installed; pip install 'dsac[ray]'") from None
    connected = ray.is_initialized()
    if not connected:
        _connect(address, workers)
    try:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        mailbox = ray.remote(_Mailbox).options(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        )
        post = mailbox.remote()
        cpus = int(ray.cluster_resources().get("CPU", 1))
        yield Cluster(workers or max(1, cpus), lambda task: _RayWorker.of(task, post))
    finally:
        if not connected:
            ray.shutdown()


def _connect(address: str, workers: int | None) -> None:
    """Raises: `DsacError`."""
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"num_cpus": workers, "include_dashboard": False}
    elif address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address not in ("local", "auto"):
        _expect_answer(address)
    try:
        ray.init(address, **options)
    except Exception as error:  # of many kinds, for what a user can mend
        if address == "auto":
            raise DsacError(
                "--ray auto: this machine is part of no cluster that runs; give HOST:PORT of a head, or local"
            ) from error
        raise DsacError(f"--ray {address}: {' '.join(str(error).split())}") from error


def _expect_answer(address: str) -> None:
    """Ray itself would wait for minutes. Raises: `DsacError` where nobody speaks HTTP/2, as Ray does."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise DsacError(f"--ray {address}: expected auto, local or HOST:PORT of a cluster's head")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _LIMIT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.settimeout(_LIMIT_S)
            connection.sendall(_HELLO)
            answer = connection.recv(len(_SETTINGS))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "no answer"
        raise DsacError(
            f"--ray {address}: no cluster answers there ({why}); `ray status` on its head says if it runs"
        ) from None
    if answer[3:4] != _SETTINGS[3:4]:
        raise DsacError(f"--ray {address}: something else than a Ray cluster answers there")


_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame of that type: what either side begins with
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
_LIMIT_S = 4.0  # to connect, and to be answered


# ---- there -------------------------------------------------------------------------------------------


class _Mailbox:
    """What workers say, until the driver takes it."""

    def __init__(self) -> None:
        self.letters: dict[str, dict[str, bytes]] = {}

    def put(self, of: str, files: dict[str, bytes]) -> None:
        self.letters.setdefault(of, {}).update(files)

    def take(self, of: str) -> dict[str, bytes]:
        return self.letters.pop(of, {})


def _map_there(task: RegionTask, checkpoint: bytes | None, folder: str, post: Any) -> dict[str, bytes]:
    """The files that `work` leaves, by their endings; relative paths of frames are of the driver's folder."""
    import numba
    import ray

    numba.set_num_threads(1)
    with suppress(OSError):
        os.chdir(folder)
    with tempfile.TemporaryDirectory() as own:
        of, task = str(task.map), replace(task, folder=Path(own))
        if checkpoint is not None:
            task.checkpoint.write_bytes(checkpoint)
        sent = _age(task.checkpoint)

        def tell() -> None:
            nonlocal sent
            files = _files(task.progress)
            if (age := _age(task.checkpoint)) != sent:
                sent = age
                files |= _files(task.checkpoint)
            ray.get(post.put.remote(of, files))

        work(task, tell)
        tell()  # the result of a task that is cancelled is lost
        return _files(task.map, task.error)


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def _files(*paths: Path) -> dict[str, bytes]:
    return {path.suffix: path.read_bytes() for path in paths if path.is_file()}


# ---- here --------------------------------------------------------------------------------------------


@dataclass
class _RayWorker:
    """A region in the making somewhere on the cluster; see `Running`."""

    task: RegionTask
    result: Any  # a reference to what `_map_there` returns
    post: Any

    @staticmethod
    def of(task: RegionTask, post: Any) -> _RayWorker:
        import ray

        checkpoint = task.checkpoint.read_bytes() if task.checkpoint.is_file() else None
        there = ray.remote(_map_there).options(
            num_cpus=1, num_gpus=int(task.device.startswith("cuda")), max_retries=0, name=f"map {task.name}"
        )
        return _RayWorker(task, there.remote(task, checkpoint, os.getcwd(), post), post)

    def ended(self) -> bool:
        import ray
        from ray.exceptions import RayError, RayTaskError

        is_over = bool(ray.wait([self.result], timeout=0)[0])
        self._take()
        if not is_over:
            return False
        try:
            self._keep(ray.get(self.result))
        except RayTaskError as error:  # of the node, not of the region: what that cannot do is a file
            self._keep({self.task.error.suffix: " ".join(str(error.cause).split()).encode()})
        except RayError:  # the worker or its node died
            pass
        return True

    def stop(self, patience: float) -> None:
        import ray
        from ray.exceptions import RayError

        with suppress(RayError):
            ray.cancel(self.result)  # a KeyboardInterrupt there
            if not ray.wait([self.result], timeout=patience)[0]:
                ray.cancel(self.result, force=True)
            self._take()

    def _take(self) -> None:
        import ray
        from ray.exceptions import RayError

        with suppress(RayError):  # an actor that is being replaced has nothing
            self._keep(ray.get(self.post.take.remote(str(self.task.map))))

    def _keep(self, files: Mapping[str, bytes]) -> None:
        """Write what came, and for what cannot be written why."""
        try:
            for suffix, data in files.items():
                path = self.task.folder / f"{self.task.name}{suffix}"
                if path == self.task.error and b"no such file" in data:
                    data += _WHERE.encode()
                if path == self.task.progress:  # no more than a glance, often
                    path.write_bytes(data)
                else:
                    write_atomically(path, data)
            if self.task.map.suffix in files:
                for path in (self.task.checkpoint, self.task.progress, self.task.error):
                    path.unlink(missing_ok=True)
        except OSError as error:
            with suppress(OSError):
                write_atomically(self.task.error, f"{error.filename}: {error.strerror}".encode())


_WHERE = "; nodes read frames behind a URL, or in a folder that all have by the same path"
