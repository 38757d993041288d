"""`DatasetFolder`: reads the files of a dataset, and never writes."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from pipelines.errors import UserError
from tfrecords_schema import storage
from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import UrlError, check_path, is_url, join
from tfrecords_schema.records import read_records

_LEFTOVER = re.compile(rf"_build|\.{re.escape(FILE_NAME)}\..*|.*\.partial")
_APPENDED = re.compile(rf"{_LEFTOVER.pattern}|[a-z][a-z0-9_]*-\d{{5}}-of-\d{{5}}\.tfrecord")
_SHARD = re.compile(r".*\.tfrecords?")


@dataclass(frozen=True)
class Listing:
    """Differences between a dataset's folder and its ``dataset_info.json``.

    Attributes:
        missing: shards that are named, but do not exist.
        extra: TFRecord files that are not named.
        leftover: remains of a build that failed or is still running.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    leftover: tuple[str, ...]


@dataclass(frozen=True)
class DatasetFolder:
    """A folder with a ``dataset_info.json``.

    Attributes:
        path: a local path or a URL.
        flag: the flag that named the folder, for error messages.
    """

    path: str
    flag: str = "--tfrecords"

    def load_info(self) -> DatasetInfo:
        """Returns the dataset's description; a `UserError` says why the folder is no complete dataset."""
        try:
            check_path(self.path)
            if storage.is_file(self.path):
                raise UserError(
                    f"{self.flag} must be the folder of a dataset, {self.path} is a file"
                )
            return DatasetInfo.load(self.path)
        except (UrlError, DatasetInfoError) as error:
            raise UserError(f"{self.flag}: {error}") from error

    def open(self, shard: str) -> AbstractContextManager[BinaryIO]:
        """Opens a file of the folder for reading."""
        return storage.open_stream(join(self.path, shard))

    def list_files(self, info: DatasetInfo) -> Listing:
        """Compares the folder with the files that ``info`` names."""
        if is_url(self.path):
            found = set(storage.list_folder(self.path))
            if storage.is_folder(join(self.path, "_build")):
                found.add("_build")
        else:
            found = set(os.listdir(self.path))  # a folder in place of a shard is named, too
        named = {shard.file for split in info.splits.values() for shard in split.shards}
        others = sorted(found - named)
        # Further shards beside `_build` are those of an append that is not finished.
        leftover = _APPENDED if "_build" in found else _LEFTOVER
        return Listing(
            missing=tuple(sorted(named - found)),
            extra=tuple(n for n in others if _SHARD.fullmatch(n) and not leftover.fullmatch(n)),
            leftover=tuple(name for name in others if leftover.fullmatch(name)),
        )

    def read_record(self, shard: str, offset: int) -> bytes:
        """Returns the record whose framing starts at byte ``offset``, or raises a `CorruptRecordError`."""
        with self.open(shard) as file:
            file.seek(offset)
            return next(read_records(file, shard)).data

    def failures(self, max_lines: int) -> tuple[list[str], int]:
        """Returns the first lines of ``failures.jsonl``, and the number of all its lines."""
        try:
            data = storage.read_bytes(join(self.path, "failures.jsonl"))
        except FileNotFoundError:
            return [], 0  # datasets of other writers may have none
        lines = data.split(b"\n", max_lines)[:max_lines] if data else []
        described = [line.decode(errors="replace").strip() for line in lines if line]
        return described, data.count(b"\n") + (data[-1:] not in (b"", b"\n"))
