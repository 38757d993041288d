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

    def __post_init__(self) -> None:
        try:
            check_path(self.path)
        except UrlError as error:
            raise UserError(f"{self.flag}: {error}") from error

    def load_info(self) -> DatasetInfo:
        """Returns the dataset's description.

        Raises:
            UserError: if the folder is not a complete dataset.
        """
        if storage.is_file(self.path):
            raise UserError(f"{self.flag} must be the folder of a dataset, {self.path} is a file")
        try:
            return DatasetInfo.load(self.path)
        except DatasetInfoError as error:
            raise UserError(f"{self.flag}: {error}") from error

    def open(self, shard: str) -> AbstractContextManager[BinaryIO]:
        """Opens a file of the folder for reading."""
        return storage.open_stream(join(self.path, shard))

    def list_files(self, info: DatasetInfo) -> Listing:
        """Compares the folder with the files that ``info`` names."""
        found = self._names()
        named = {shard.file for split in info.splits.values() for shard in split.shards}
        others = sorted(found - named)
        return Listing(
            missing=tuple(sorted(named - found)),
            extra=tuple(name for name in others if _SHARD.fullmatch(name)),
            leftover=tuple(name for name in others if _LEFTOVER.fullmatch(name)),
        )

    def _names(self) -> set[str]:
        if not is_url(self.path):
            return set(os.listdir(self.path))  # a folder in place of a shard is named, too
        has_build = storage.is_folder(join(self.path, "_build"))
        return {*storage.list_folder(self.path), *(["_build"] if has_build else [])}

    def read_record(self, shard: str, offset: int) -> bytes:
        """Returns the data of the record whose framing starts at byte ``offset``.

        Raises:
            CorruptRecordError: if there is no such record.
        """
        with self.open(shard) as file:
            file.seek(offset)
            return next(read_records(file, shard)).data

    def failures(self, max_lines: int) -> tuple[list[str], int]:
        """Returns the first lines of ``failures.jsonl``, and the number of all its lines."""
        lines: list[str] = []
        count = 0
        try:
            with self.open("failures.jsonl") as file:
                for line in file:
                    count += 1
                    if count <= max_lines:
                        lines.append(line.decode(errors="replace").strip())
        except FileNotFoundError:
            pass  # datasets of other writers may have none
        return lines, count
