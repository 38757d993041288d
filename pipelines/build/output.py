"""The folder a dataset is built in, and what of a build it holds at any moment.

While a build goes on, everything that is not yet part of the dataset lies in ``_build`` inside the folder:

    _build/options.json          what is being built, so that nothing else is mixed into it
    _build/plan.jsonl            totals, then a line a shard
    _build/reports/SHARD.json    of each shard that is complete
    _build/error.txt             why the dataset could not be completed, for the driver
    _build/*.partial             being written, under a name of its own
    _build/lock                  held by the one local run that builds here

A shard appears under its own name only when it is complete. The folder is complete when it has a
``dataset_info.json``; then ``_build`` goes.

This is a local folder; `pipelines.build.stored_output` has the same on object stores.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.errors import UserError
from pipelines.plan.descriptors import SourceFailure
from tfrecords_schema.info import FILE_NAME as INFO_FILE
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.records import file_checksum

FAILURES_FILE = "failures.jsonl"
BUILD_FOLDER = "_build"
_OPTIONS_FILE = f"{BUILD_FOLDER}/options.json"
_ERROR_FILE = f"{BUILD_FOLDER}/error.txt"
PLAN_FILE = f"{BUILD_FOLDER}/plan.jsonl"
_SHARD_FILE = re.compile(r"[a-z][a-z0-9_]*-\d{5}-of-\d{5}\.tfrecord")


@dataclass(frozen=True)
class OutputFolder:
    """A dataset folder, complete or being built; ``path`` is local."""

    path: str

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("--output must name a folder, got an empty name")
        if "://" in self.path:
            raise UserError(f"--output must be a local folder, got {self.path}")

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.path)

    @property
    def _build(self) -> Path:
        return self.root / BUILD_FOLDER

    @property
    def plan_path(self) -> Path:
        """Where the plan of the build lies."""
        return self.root / PLAN_FILE

    def complete_info(self) -> DatasetInfo | None:
        """The description of the complete dataset here; None when there is none."""
        if not self._has(INFO_FILE):
            return None
        try:
            return DatasetInfo.load(self.path)
        except DatasetInfoError as error:
            raise UserError(
                f"{error}; give another --output, or --overwrite to replace it"
            ) from error

    def check_free_for(self, options: dict[str, Any], *, overwrite: bool) -> None:
        """Checks that a build with ``options`` may begin or go on here.

        Raises:
            UserError: when the folder is a file, or holds another build.
        """
        if self._is_file():
            raise UserError(f"--output must be a folder, but {self.path} is a file")
        if overwrite:
            return
        info = self.complete_info()
        stored = info.options if info else self._stored_options()
        if stored is None:
            shards = sorted(self.complete_shards())
            if shards:
                raise UserError(
                    f"{self.path} holds shards of another dataset (such as {shards[0]}): "
                    "give another --output, or --overwrite to replace them"
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
                f"{self.path} holds another build ({shown}): "
                "give another --output, or --overwrite to replace it"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps other runs on this machine out of it.

        Raises:
            UserError: when another run is at work here.
        """
        self._build.mkdir(parents=True, exist_ok=True)
        with (self._build / "lock").open("wb") as lock:
            try:
                # Let go by the system when this process ends, however it ends.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another run is building in {self.path}: wait for it, or give another --output"
                ) from None
            yield

    def begin(self, options: dict[str, Any], plan: Iterator[str], shard_files: set[str]) -> None:
        """Clears what is left of other runs, and stores the plan.

        Complete shards of the same plan stay; `kept_report` tells which those are.

        Args:
            options: of the dataset.
            plan: lines of ``plan.jsonl``.
            shard_files: names of the shards of the plan.
        """
        stale = [name for name in self._names() if _SHARD_FILE.fullmatch(name)]
        stale = [name for name in stale if name not in shard_files]
        self._remove([INFO_FILE, FAILURES_FILE, _ERROR_FILE, *stale])
        self._clear_traces()
        self._write(_OPTIONS_FILE, json.dumps(options).encode())
        with self._new_file(PLAN_FILE) as file:
            for line in plan:
                file.write(line.encode() + b"\n")

    def plan_lines(self) -> Iterator[bytes]:
        """The lines of the plan."""
        with self.plan_path.open("rb") as file:
            yield from file

    def plan_line(self, place: int) -> bytes:
        """The line of the plan that begins at byte ``place``."""
        with self.plan_path.open("rb") as file:
            file.seek(place)
            return file.readline()

    def kept_report(self, shard_file: str, fingerprint: str) -> dict[str, Any] | None:
        """The report of a shard that is complete and has this fingerprint; None when there is no such.

        The shard's bytes are read once more, so that a disk's mistake does not become part of the dataset.
        """
        try:
            report = json.loads(self._read(_report_file(shard_file)))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(report, dict) or report.get("fingerprint") != fingerprint:
            return None
        try:
            return report if self._is_as_reported(shard_file, report) else None
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def new_shard(self, shard_file: str) -> Iterator[BinaryIO]:
        """A file to write a shard to; it gets its name when the block ends, and goes when it raises."""
        with self._new_file(shard_file) as file:
            yield file

    def store_report(self, shard_file: str, report: dict[str, Any]) -> None:
        """Marks a shard as complete."""
        self._write(_report_file(shard_file), json.dumps(report).encode())

    def complete_shards(self) -> set[str]:
        """The names of the shards that are complete."""
        return {name for name in self._names() if _SHARD_FILE.fullmatch(name)}

    def store_error(self, message: str) -> None:
        """Says why the dataset could not be completed."""
        self._write(_ERROR_FILE, message.encode())

    def stored_error(self) -> str | None:
        """Why the dataset could not be completed; None when no worker said so."""
        try:
            return self._read(_ERROR_FILE).decode()
        except FileNotFoundError:
            return None

    def finish(self, failures: Iterator[str], info: DatasetInfo | None) -> None:
        """Writes ``failures.jsonl``, then ``dataset_info.json``, and removes the traces of building.

        Without ``info`` the dataset stays incomplete, and can be continued.
        """
        with self._new_file(FAILURES_FILE) as file:
            for line in failures:
                file.write(line.encode() + b"\n")
        if info is not None:
            self._write(INFO_FILE, info.to_bytes())
            self.leave_complete()

    def failures(self) -> list[SourceFailure]:
        """What ``failures.jsonl`` says; nothing where there is none."""
        if not self._has(FAILURES_FILE):
            return []
        lines = self._read(FAILURES_FILE).splitlines()
        return [SourceFailure(**json.loads(line)) for line in lines]

    def leave_complete(self) -> None:
        """Removes what `locked` made in the folder of a dataset that is complete already."""
        shutil.rmtree(self._build, ignore_errors=True)

    def _stored_options(self) -> dict[str, Any] | None:
        try:
            stored = json.loads(self._read(_OPTIONS_FILE))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            return {}
        return stored if isinstance(stored, dict) else {}

    def _is_as_reported(self, shard_file: str, report: dict[str, Any]) -> bool:
        return bool(report.get("sha256") == file_checksum(self.root / shard_file))

    # What follows is all that asks the disk. Names are relative to the folder.

    def _is_file(self) -> bool:
        return self.root.exists() and not self.root.is_dir()

    def _has(self, name: str) -> bool:
        return (self.root / name).exists()

    def _names(self) -> list[str]:
        return os.listdir(self.path) if self.root.exists() else []

    def _read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def _clear_traces(self) -> None:
        """Leaves nothing in the folder of building but reports."""
        for partial in self._build.glob("*.partial"):
            partial.unlink()
        (self._build / "reports").mkdir(exist_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        with self._new_file(name) as file:
            file.write(data)

    @contextlib.contextmanager
    def _new_file(self, name: str) -> Iterator[BinaryIO]:
        """A file to write; it gets its name when the block ends, and goes when it raises."""
        target = self.root / name
        partial = self._build / f"{target.name}.{uuid.uuid4().hex}.partial"
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _report_file(shard_file: str) -> str:
    return f"{BUILD_FOLDER}/reports/{shard_file}.json"
