"""Messages of ROS bags, looked up by topic and time; the package `rosbags` reads them."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from dsac.errors import DatasetError


class Mark(NamedTuple):
    """Where a message is."""

    topic: str
    recorded_ns: int


@dataclass(frozen=True)
class BagFiles:
    """A recording as it was at some time."""

    paths: tuple[str, ...]
    changed_ns: int

    @staticmethod
    def now(paths: tuple[str, ...]) -> BagFiles:
        inside = [
            os.path.join(path, name) for path in paths if os.path.isdir(path) for name in os.listdir(path)
        ]
        return BagFiles(paths, max(os.stat(path).st_mtime_ns for path in (*paths, *inside)))

    def open(self) -> Bag:
        return _open(self, os.getpid())


class Bag:
    """An open bag; threads take turns."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        if find_spec("rosbags") is None:
            raise DatasetError(f"{paths[0]}: ROS bags are read by rosbags: pip install 'dsac[ros]'")
        types = import_module("rosbags.typesys")
        store = types.get_typestore(types.Stores.LATEST)  # for ROS 2 bags, which may lack definitions
        self._lock = threading.Lock()
        self.path = paths[0]
        try:
            reader = import_module("rosbags.highlevel").AnyReader
            self._reader = reader([Path(path) for path in paths], default_typestore=store)
            self._reader.open()
        except Exception as error:
            raise DatasetError(f"{self.path}: the bag cannot be read: {error}") from None

    def topics(self, *types: str) -> dict[str, int]:
        """Topic -> count of messages, of topics with these types."""
        counts: dict[str, int] = {}
        for connection in self._reader.connections:
            if connection.msgtype in types:
                counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        return {topic: count for topic, count in counts.items() if count}

    def first(self, topic: str, start_ns: int | None = None) -> Any:
        """The first message from that time of recording on. Raises: `DatasetError` when there is none."""
        with self._reading(topic):
            for connection, _, data in self._raw(topic, start_ns):
                return self._reader.deserialize(data, connection.msgtype)
        raise DatasetError(f"{self.path}, {topic}: expected a message, found none")

    def all(self, topic: str) -> list[Any]:
        with self._reading(topic):
            return [
                self._reader.deserialize(data, connection.msgtype) for connection, _, data in self._raw(topic)
            ]

    def stamps(self, topic: str) -> dict[int, Mark]:
        """Nanoseconds of the header -> where the message is; pixels are not looked at."""
        layout = "<4xiI" if self._reader.is2 else "<4xII"  # behind CDR's mark, or a running number
        found: dict[int, Mark] = {}
        with self._reading(topic):
            for _, recorded_ns, data in self._raw(topic):
                seconds, nanoseconds = struct.unpack_from(layout, data)
                found.setdefault(seconds * 1_000_000_000 + nanoseconds, Mark(topic, recorded_ns))
        return found

    def _raw(self, topic: str, start_ns: int | None = None) -> Iterator[tuple[Any, int, bytes]]:
        connections = [connection for connection in self._reader.connections if connection.topic == topic]
        return self._reader.messages(connections, start=start_ns)

    @contextmanager
    def _reading(self, topic: str) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except Exception as error:  # of a package that reads what others wrote
                raise DatasetError(f"{self.path}, {topic}: the bag cannot be read: {error}") from None


@lru_cache(maxsize=4)
def _open(files: BagFiles, process: int) -> Bag:
    """One for each process: a position in a file cannot be shared."""
    return Bag(files.paths)
