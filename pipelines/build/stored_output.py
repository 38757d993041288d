"""`StoredOutput`: a dataset folder on an object store.

It holds what `pipelines.build.output` describes, but claims, which are those of local workers and lie on
their disk, and files that are being written: those are built on the local disk, one a worker, and sent
under their final name, where a store shows them complete or not at all. Nothing is renamed, which stores do
by copying.

A report also says what the store said of the shard when it was sent. As long as the store says the same, the
shard is kept without being read: the store has checked what it was sent, and keeps checksums of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from pipelines.build.output import BUILD_FOLDER, PLAN_FILE, OutputFolder
from pipelines.errors import UsageError
from pipelines.storage.scratch import scratch_folder
from pipelines.storage.store_lock import store_lock
from tfrecords_schema import storage
from tfrecords_schema.store_clients import UrlError, check_url, is_url

_STORED = "stored"


class StoredOutput(OutputFolder):
    """A dataset folder, complete or being built; ``path`` is a URL."""

    def __post_init__(self) -> None:
        try:
            check_url(self.path)
        except UrlError as error:
            raise UsageError(f"--output: {error}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs out of the folder; see `pipelines.storage.store_lock`.

        Raises:
            UserError: when another run is at work here.
        """
        with store_lock(self._url(f"{BUILD_FOLDER}/lock"), self.path):
            yield

    def plan_lines(self) -> Iterator[bytes]:
        """The lines of the plan."""
        with storage.open_stream(self._url(PLAN_FILE)) as file:
            yield from file

    def plan_line(self, place: int) -> bytes:
        """The line of the plan that begins at byte ``place``."""
        return storage.read_line(self._url(PLAN_FILE), place)

    def kept_report(self, shard_file: str, fingerprint: str) -> dict[str, Any] | None:
        """The report of a shard that is there as it was sent and has this fingerprint, or None."""
        report = super().kept_report(shard_file, fingerprint)
        return report and {key: value for key, value in report.items() if key != _STORED}

    def store_report(self, shard_file: str, report: dict[str, Any]) -> None:
        """Marks a shard as complete."""
        stored = dataclasses.asdict(storage.status(self._url(shard_file)))
        super().store_report(shard_file, {**report, _STORED: stored})

    def leave_complete(self) -> None:
        """Removes what `locked` made in the folder of a dataset that is complete already."""
        storage.remove_folder(self._url(BUILD_FOLDER))

    def _is_as_reported(self, shard_file: str, report: dict[str, Any]) -> bool:
        stored = dataclasses.asdict(storage.status(self._url(shard_file)))
        return bool(report.get(_STORED) == stored)

    def _url(self, name: str) -> str:
        return storage.join(self.path, name)

    def _is_file(self) -> bool:
        return storage.is_file(self.path)

    def _has(self, name: str) -> bool:
        return storage.is_file(self._url(name))

    def _names(self) -> list[str]:
        return list(storage.list_folder(self.path))

    def _read(self, name: str) -> bytes:
        return storage.read_bytes(self._url(name))

    def _remove(self, names: Iterable[str]) -> None:
        storage.remove(map(self._url, names))

    def _clear_traces(self) -> None:
        pass  # an object that is being written is not there

    def _write(self, name: str, data: bytes) -> None:
        storage.write_bytes(self._url(name), data)

    @contextlib.contextmanager
    def _new_file(self, name: str) -> Iterator[BinaryIO]:
        with tempfile.NamedTemporaryFile(dir=scratch_folder("output")) as file:
            yield file
            file.flush()
            storage.upload(file.name, self._url(name))


def open_output(path: str) -> OutputFolder:
    """The dataset folder at ``path``, which is local or a URL.

    Raises:
        UserError: when ``path`` cannot be one.
    """
    return StoredOutput(path.rstrip("/")) if is_url(path) else OutputFolder(path)
