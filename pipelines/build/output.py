"""The dataset folder, local or on an object store, while a dataset is built in it.

During a build, everything that is not yet part of the dataset lies in ``_build`` inside the folder:

    _build/options.json          options of the build; other options are refused
    _build/plan.jsonl            totals, then a line per shard
    _build/sources.jsonl         a line per listed source
    _build/reports/SHARD.json    one per complete shard
    _build/failures.jsonl        the failures of an append, until its dataset is complete
    _build/error.txt             why the dataset could not be completed, for a driver on another machine
    _build/.*.partial            files being written; those for a store lie on the local disk
    _build/lock                  held by the one run that builds here

A shard appears under its own name when it is complete. The dataset is complete when it has a
``dataset_info.json``; then ``_build`` is removed. An append builds further shards in the same way, while the
dataset stays complete: ``dataset_info.json`` names them when all of them are.

Stores show an object complete or not at all, and verify its checksum. The report of a sent shard holds the
size, time and version that the store gave it: as long as these are the same, it is kept without being read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import SourceFailure
from pipelines.storage.new_files import new_file, write_lines
from tfrecords_schema import storage
from tfrecords_schema.codec import from_json, parse_json
from tfrecords_schema.info import FILE_NAME as INFO_FILE
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import UrlError, check_path, is_url, join
from tfrecords_schema.records import file_checksum
from tfrecords_schema.running.lock import LockedError, folder_lock
from tfrecords_schema.sources import SOURCES_COUNT, SOURCES_FILE, SourceRow

T = TypeVar("T")

FAILURES_FILE = "failures.jsonl"
BUILD_FOLDER = "_build"
_PLAN_FILE = f"{BUILD_FOLDER}/plan.jsonl"
_OPTIONS_FILE = f"{BUILD_FOLDER}/options.json"
_ERROR_FILE = f"{BUILD_FOLDER}/error.txt"
NEW_FAILURES = f"{BUILD_FOLDER}/{FAILURES_FILE}"
_PLANNED_SOURCES = f"{BUILD_FOLDER}/{SOURCES_FILE}"
_SHARD_FILE = re.compile(r"[a-z][a-z0-9_]*-\d{5}-of-\d{5}\.tfrecord")
# A file that a killed process was sending to Hadoop's file system: `tfrecords_schema.storage.upload`.
_PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")
_STORED = "stored"  # key in the report of a shard on a store


@dataclass(frozen=True)
class OutputFolder:
    """A dataset folder, complete or being built; ``path`` is local or a URL.

    Example::

        with output.locked():
            offsets = output.begin(options, totals, [shard])
            with output.new_shard(shard.file) as file:
                file.write(framed_records)
            output.store_report(shard.file, report)
            output.finish(failures, info)
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
        if not storage.is_file(self._file(INFO_FILE)):
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
            if shards := sorted(self.complete_shards()):
                raise UserError(
                    f"{self.path} holds shards of another dataset, for example {shards[0]}. "
                    "Give another --output, or --overwrite to replace them"
                )
            return
        if differing := _differing(stored, options):
            raise UserError(
                f"{self.path} holds another build ({differing}). "
                "Give another --output, or --overwrite to replace it"
            )

    def check_appendable(self, options: dict[str, Any]) -> DatasetInfo:
        """Returns the description of the dataset that sources can be appended to with ``options``.

        Raises:
            UserError: if there is none, or it was built with other options.
        """
        info = None if storage.is_file(self.path) else self.complete_info()
        if info is None:
            raise UserError(
                f"--append needs a complete dataset in --output, and {self.path} holds none. Build it, or "
                "finish the build that is there, by the same command without --append"
            )
        if SOURCES_COUNT not in info.counts:
            raise UserError(
                f"--append needs to know which sources {self.path} was built from, and it has no "
                f"{SOURCES_FILE}: an earlier version or another program wrote it. Build it again, or build "
                "the new sources as a dataset of their own and use `pipelines merge`"
            )
        # An option that an earlier version did not have had its default. A merge has a name of its own.
        stored = DatasetOptions().to_json() | info.options | {"name": info.name}
        if differing := _differing(stored, {**options, "name": options["name"] or info.name}):
            raise UserError(
                f"{self.path} was built with other options ({differing}), and --append keeps them. Give "
                "the options of the build, or build the new sources as a dataset of their own and use "
                "`pipelines merge`"
            )
        return info

    def has_unfinished_append(self, info: DatasetInfo) -> bool:
        """Returns True if an append to the dataset that ``info`` describes was begun and not finished."""
        return bool(info.fingerprint) and self._planned_total("appended_to") == info.fingerprint

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps other runs out of it; raises `UserError` if one is building here."""
        storage.make_folder(self._file(BUILD_FOLDER), inside=self.path)
        try:
            with folder_lock(self._file(f"{BUILD_FOLDER}/lock"), self.path, "building"):
                yield
        except LockedError as error:
            raise UserError(str(error)) from None

    def begin(
        self,
        options: dict[str, Any],
        totals: Any,
        shards: Sequence[Any],
        *,
        sources: Iterable[SourceRow] = (),
        growing: DatasetInfo | None = None,
    ) -> list[int]:
        """Removes what earlier runs left, and stores the plan. Complete shards with a name in it stay.

        The dataset that is ``growing`` stays whole.

        Returns:
            The byte offset of each shard in the plan, for `planned`; the totals are at 0.
        """
        names = storage.list_folder(self.path)
        stale = set(filter(_SHARD_FILE.fullmatch, names)) - {shard.file for shard in shards}
        stale |= set(filter(_PARTIAL.fullmatch, names))
        building = storage.list_folder(self._file(BUILD_FOLDER))
        stale |= {f"{BUILD_FOLDER}/{name}" for name in building if name.endswith(".partial")}
        # The description goes first: from then on the folder is not complete.
        described: tuple[str, ...] = (INFO_FILE, FAILURES_FILE, SOURCES_FILE)
        if growing is not None:
            described = ()
            stale -= {shard.file for split in growing.splits.values() for shard in split.shards}
        storage.remove(map(self._file, (*described, _ERROR_FILE, NEW_FAILURES, *stale)))
        storage.make_folder(self._file(f"{BUILD_FOLDER}/reports"), inside=self.path)
        self._write(_OPTIONS_FILE, json.dumps(options).encode())
        self._write_lines(_PLANNED_SOURCES, sources)
        return self._write_lines(_PLAN_FILE, (totals, *shards))[1:]

    def planned(self, cls: type[T], offset: int) -> T:
        """Returns the totals or the shard, of type ``cls``, at byte ``offset`` of the plan."""
        return from_json(cls, json.loads(storage.read_line(self._file(_PLAN_FILE), offset)))

    def planned_shards(self, cls: type[T]) -> Iterator[T]:
        """Yields the shards of the plan."""
        with storage.open_stream(self._file(_PLAN_FILE)) as stream:
            for line in itertools.islice(stream, 1, None):
                yield from_json(cls, json.loads(line))

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
            if is_url(self.path):
                is_intact = stored == self._stored_state(shard_file)
            else:
                is_intact = report.get("sha256") == file_checksum(self._file(shard_file))
        except FileNotFoundError:
            return None
        return report if is_intact else None

    def new_shard(self, file: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Opens a file for writing. It appears in the folder if the block succeeds, else it is removed."""
        return new_file(self._file(file), partials=self._file(BUILD_FOLDER))

    def store_report(self, shard_file: str, report: dict[str, Any]) -> None:
        """Marks a shard as complete."""
        if is_url(self.path):
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

    def finish(
        self, failures: Iterable[SourceFailure], info: DatasetInfo | None, *, growing: bool = False
    ) -> None:
        """Writes ``failures.jsonl``, then ``dataset_info.json``, and removes ``_build``.

        Without ``info`` the dataset stays incomplete, and the build can be continued. A dataset that is
        ``growing`` keeps its ``failures.jsonl`` until its description is replaced.
        """
        self._write_lines(NEW_FAILURES if growing else FAILURES_FILE, failures)
        if info is not None:
            self._write(INFO_FILE, info.to_bytes())
            self.leave_complete()

    def write_sources(self, old: int, failed: Collection[str]) -> int:
        """Writes ``sources.jsonl``: its first ``old`` lines, then the planned sources that have not failed.

        Returns:
            The number of its lines.
        """
        count = 0
        with new_file(self._file(SOURCES_FILE), partials=self._file(BUILD_FOLDER)) as file:
            for name, lines in ((SOURCES_FILE, old), (_PLANNED_SOURCES, None)):
                if lines == 0:
                    continue
                with storage.open_stream(self._file(name)) as stream:
                    for line in itertools.islice(stream, lines):
                        if lines or not failed or json.loads(line)["id"] not in failed:
                            file.write(line)
                            count += 1
        return count

    def failures(self) -> list[SourceFailure]:
        """Returns the failures in ``failures.jsonl``; none without that file."""
        try:
            lines = storage.read_bytes(self._file(FAILURES_FILE)).splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return [from_json(SourceFailure, parse_json(line)) for line in lines]
        except ValueError as error:
            place = self._file(FAILURES_FILE)
            raise UserError(
                f"{place} cannot be read ({error!s:.200}). Restore it, or delete it to lose its lines"
            ) from error

    def leave_complete(self) -> None:
        """Removes ``_build``, which `locked` makes even if the dataset is already complete.

        If it holds the failures of the append that completed the dataset, they become the dataset's.
        """
        info = self.complete_info()
        if info is not None and info.fingerprint == self._planned_total("fingerprint"):
            with contextlib.suppress(FileNotFoundError):
                self._write(FAILURES_FILE, storage.read_bytes(self._file(NEW_FAILURES)))
        storage.remove_folder(self._file(BUILD_FOLDER))

    def _planned_total(self, name: str) -> Any:
        """Returns one of the totals in the plan; None without a plan."""
        try:
            return json.loads(storage.read_line(self._file(_PLAN_FILE), 0)).get(name)
        except (FileNotFoundError, ValueError):
            return None

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

    def _write(self, name: str, data: bytes) -> None:
        with new_file(self._file(name), partials=self._file(BUILD_FOLDER)) as file:
            file.write(data)

    def _write_lines(self, name: str, items: Iterable[Any]) -> list[int]:
        return write_lines(self._file(name), items, partials=self._file(BUILD_FOLDER))


def _differing(stored: dict[str, Any], options: dict[str, Any]) -> str:
    """Describes the options that differ; "" if none does."""
    options = json.loads(json.dumps(options))
    return ", ".join(
        f"{key} {stored.get(key)!r} there and {options.get(key)!r} here"
        for key in sorted(stored.keys() | options.keys())
        if stored.get(key) != options.get(key)
    )


def _report_file(shard_file: str) -> str:
    return f"{BUILD_FOLDER}/reports/{shard_file}.json"
