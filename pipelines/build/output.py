"""The dataset folder, local or on an object store, while a dataset is built in it.

During a build, everything that is not yet part of the dataset lies in ``_build`` inside the folder:

    _build/options.json          options of the build; other options are refused
    _build/plan.jsonl            totals, then a line per shard
    _build/reports/SHARD.json    one per complete shard
    _build/error.txt             why the dataset could not be completed, for a driver on another machine
    _build/.*.partial            files being written; those for a store lie on the local disk
    _build/lock                  held by the one run that builds here

A shard appears under its own name when it is complete. The dataset is complete when it has a
``dataset_info.json``; then ``_build`` is removed.

On a store, files are written to the local disk and sent under their final names: stores show an object
complete or not at all, and rename by copying. The report of a sent shard holds the size, time and version
that the store gave it. As long as these are the same, the shard is kept without being read, because the store
verified its checksum.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.errors import UsageError, UserError
from pipelines.plan.descriptors import SourceFailure
from pipelines.storage.lock import file_lock, store_lock
from pipelines.storage.scratch import scratch_folder
from tfrecords_schema import storage
from tfrecords_schema.info import FILE_NAME as INFO_FILE
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import UrlError, check_path, is_url, join
from tfrecords_schema.records import file_checksum

FAILURES_FILE = "failures.jsonl"
BUILD_FOLDER = "_build"
PLAN_FILE = f"{BUILD_FOLDER}/plan.jsonl"
_OPTIONS_FILE = f"{BUILD_FOLDER}/options.json"
_ERROR_FILE = f"{BUILD_FOLDER}/error.txt"
_SHARD_FILE = re.compile(r"[a-z][a-z0-9_]*-\d{5}-of-\d{5}\.tfrecord")
_STORED = "stored"  # key in the report of a shard on a store


@dataclass(frozen=True)
class OutputFolder:
    """A dataset folder, complete or being built; ``path`` is local or a URL.

    Example::

        with output.locked():
            output.begin(options, plan_lines, {"train-00000-of-00001.tfrecord"})
            with output.new_shard("train-00000-of-00001.tfrecord") as file:
                file.write(framed_records)
            output.store_report("train-00000-of-00001.tfrecord", report)
            output.finish(failure_lines, info)
    """

    path: str

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("--output must name a folder, got an empty name")
        try:
            object.__setattr__(self, "path", check_path(self.path))
        except UrlError as error:
            raise UsageError(f"--output: {error}") from error

    def complete_info(self) -> DatasetInfo | None:
        """Returns the description of a complete dataset; None if there is none."""
        if not self._has(INFO_FILE):
            return None
        try:
            return DatasetInfo.load(self.path)
        except DatasetInfoError as error:
            raise UserError(
                f"{error}. Give another --output, or --overwrite to replace it"
            ) from error

    def check_free_for(self, options: dict[str, Any], *, overwrite: bool) -> None:
        """Checks that a build with ``options`` may start or continue here.

        Raises:
            UserError: if ``path`` is a file, or the folder holds another build.
        """
        if storage.is_file(self.path):
            raise UserError(f"--output must be a folder, but {self.path} is a file")
        if overwrite:
            return
        info = self.complete_info()
        stored = info.options if info else self._stored_options()
        if stored is None:
            shards = sorted(self.complete_shards())
            if shards:
                raise UserError(
                    f"{self.path} holds shards of another dataset, for example {shards[0]}. "
                    "Give another --output, or --overwrite to replace them"
                )
            return
        options = json.loads(json.dumps(options))
        if stored != options:
            differing = sorted(
                key for key in stored.keys() | options.keys() if stored.get(key) != options.get(key)
            )
            shown = ", ".join(
                f"{key} {stored.get(key)!r} there and {options.get(key)!r} here"
                for key in differing
            )
            raise UserError(
                f"{self.path} holds another build ({shown}). "
                "Give another --output, or --overwrite to replace it"
            )

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Makes the folder and keeps other runs out of it.

        Raises:
            UserError: if another run is building here.
        """
        storage.make_folder(self._file(BUILD_FOLDER))
        lock = store_lock if self._is_stored else file_lock
        return lock(self._file(f"{BUILD_FOLDER}/lock"), self.path)

    def begin(self, options: dict[str, Any], plan: Iterator[str], shard_files: set[str]) -> None:
        """Removes what earlier runs left, and stores the plan.

        Complete shards with a name in the plan stay; `kept_report` tells whether one can be used.

        Args:
            options: of the dataset.
            plan: lines of ``plan.jsonl``.
            shard_files: names of the shards in the plan.
        """
        stale = [INFO_FILE, FAILURES_FILE, _ERROR_FILE, *(self.complete_shards() - shard_files)]
        building = storage.list_folder(self._file(BUILD_FOLDER))
        stale += [f"{BUILD_FOLDER}/{name}" for name in building if name.endswith(".partial")]
        storage.remove(map(self._file, stale))
        storage.make_folder(self._file(f"{BUILD_FOLDER}/reports"))
        self._write(_OPTIONS_FILE, json.dumps(options).encode())
        self._write_lines(PLAN_FILE, plan)

    def plan_lines(self) -> Iterator[bytes]:
        """Yields the lines of the plan."""
        with storage.open_stream(self._file(PLAN_FILE)) as file:
            yield from file

    def plan_line(self, offset: int) -> bytes:
        """Returns the line of the plan that begins at byte ``offset``."""
        return storage.read_line(self._file(PLAN_FILE), offset)

    def kept_report(self, shard_file: str, fingerprint: str) -> dict[str, Any] | None:
        """Returns the report of a complete shard with this fingerprint; None if there is none.

        A local shard is read again, so that a damaged file does not become part of the dataset.
        """
        try:
            report = json.loads(storage.read_bytes(self._file(_report_file(shard_file))))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(report, dict) or report.get("fingerprint") != fingerprint:
            return None
        stored = report.pop(_STORED, None)
        try:
            if self._is_stored:
                is_intact = stored == self._stored_state(shard_file)
            else:
                is_intact = report.get("sha256") == file_checksum(self._file(shard_file))
        except FileNotFoundError:
            return None
        return report if is_intact else None

    @contextlib.contextmanager
    def new_shard(self, shard_file: str) -> Iterator[BinaryIO]:
        """Opens a shard for writing. It appears in the folder if the block succeeds, else it is removed."""
        with self._replacing(shard_file) as partial, partial.open("wb") as file:
            yield file

    def store_report(self, shard_file: str, report: dict[str, Any]) -> None:
        """Marks a shard as complete."""
        if self._is_stored:
            report = {**report, _STORED: self._stored_state(shard_file)}
        self._write(_report_file(shard_file), json.dumps(report).encode())

    def complete_shards(self) -> set[str]:
        """Returns the names of the shards that are complete."""
        return {name for name in storage.list_folder(self.path) if _SHARD_FILE.fullmatch(name)}

    def store_error(self, message: str) -> None:
        """Stores why the dataset could not be completed."""
        self._write(_ERROR_FILE, message.encode())

    def stored_error(self) -> str | None:
        """Returns why the dataset could not be completed; None if no worker stored a reason."""
        try:
            return storage.read_bytes(self._file(_ERROR_FILE)).decode()
        except FileNotFoundError:
            return None

    def finish(self, failures: Iterator[str], info: DatasetInfo | None) -> None:
        """Writes ``failures.jsonl``, then ``dataset_info.json``, and removes ``_build``.

        Without ``info`` the dataset stays incomplete, and the build can be continued.
        """
        self._write_lines(FAILURES_FILE, failures)
        if info is not None:
            self._write(INFO_FILE, info.to_bytes())
            self.leave_complete()

    def failures(self) -> list[SourceFailure]:
        """Returns the failures in ``failures.jsonl``; none without that file."""
        if not self._has(FAILURES_FILE):
            return []
        lines = storage.read_bytes(self._file(FAILURES_FILE)).splitlines()
        return [SourceFailure(**json.loads(line)) for line in lines]

    def leave_complete(self) -> None:
        """Removes ``_build``, which `locked` makes even if the dataset is already complete."""
        storage.remove_folder(self._file(BUILD_FOLDER))

    @property
    def _is_stored(self) -> bool:
        return is_url(self.path)

    def _stored_options(self) -> dict[str, Any] | None:
        try:
            stored = json.loads(storage.read_bytes(self._file(_OPTIONS_FILE)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            return {}
        return stored if isinstance(stored, dict) else {}

    def _stored_state(self, shard_file: str) -> dict[str, Any]:
        return dataclasses.asdict(storage.status(self._file(shard_file)))

    def _file(self, name: str) -> str:
        return join(self.path, name)

    def _has(self, name: str) -> bool:
        return storage.is_file(self._file(name))

    def _write(self, name: str, data: bytes) -> None:
        with self._replacing(name) as partial:
            partial.write_bytes(data)

    def _write_lines(self, name: str, lines: Iterator[str]) -> None:
        with self._replacing(name) as partial, partial.open("wb") as file:
            file.writelines(line.encode() + b"\n" for line in lines)

    def _replacing(self, name: str) -> contextlib.AbstractContextManager[Path]:
        local = Path(self._file(BUILD_FOLDER))
        scratch = scratch_folder("output") if self._is_stored else local
        return storage.replacing(self._file(name), scratch=scratch)


def _report_file(shard_file: str) -> str:
    return f"{BUILD_FOLDER}/reports/{shard_file}.json"
