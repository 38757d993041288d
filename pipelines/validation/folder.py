"""The dataset folder as validation sees it: it reads, and never writes."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import UserError
from tfrecords_schema import storage
from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.records import read_records
from tfrecords_schema.store_clients import UrlError, check_url, is_url

_LEFTOVER = re.compile(rf"_build|\.{re.escape(FILE_NAME)}\..*|.*\.partial")
_SHARD = re.compile(r".*\.tfrecords?")


@dataclass(frozen=True)
class Listing:
    """What lies in a dataset folder.

    Attributes:
        missing: shards that ``dataset_info.json`` names and that are not there.
        extra: TFRecord files that it does not name.
        leftover: traces of a build that did not end.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    leftover: tuple[str, ...]


@dataclass(frozen=True)
class DatasetFolder:
    """A folder with a ``dataset_info.json``; ``path`` is local or a URL, and ``flag`` is what gave it."""

    path: str
    flag: str = "--tfrecords"

    def __post_init__(self) -> None:
        if is_url(self.path):
            try:
                check_url(self.path)
            except UrlError as error:
                raise UserError(f"{self.flag}: {error}") from error

    def load_info(self) -> DatasetInfo:
        """The dataset's description.

        Raises:
            UserError: when the folder is no complete dataset.
        """
        if not is_url(self.path) and Path(self.path).is_file():
            raise UserError(f"{self.flag} must be the folder of a dataset, {self.path} is a file")
        try:
            return DatasetInfo.load(self.path)
        except DatasetInfoError as error:
            raise UserError(f"{self.flag}: {error}") from error

    def open(self, shard: str) -> AbstractContextManager[BinaryIO]:
        """A shard, for reading."""
        path = os.path.join(self.path, shard)
        return storage.open_stream(path) if is_url(path) else open(path, "rb")

    def list_files(self, info: DatasetInfo) -> Listing:
        """Compares the folder with what ``info`` names."""
        there = self._names()
        named = {shard.file for split in info.splits.values() for shard in split.shards}
        return Listing(
            missing=tuple(sorted(named - there)),
            extra=tuple(sorted(name for name in there - named if _SHARD.fullmatch(name))),
            leftover=tuple(sorted(name for name in there - named if _LEFTOVER.fullmatch(name))),
        )

    def _names(self) -> set[str]:
        if not is_url(self.path):
            return set(os.listdir(self.path))
        has_build = storage.is_folder(storage.join(self.path, "_build"))
        return {*storage.list_folder(self.path), *(["_build"] if has_build else [])}

    def read_record(self, shard: str, offset: int) -> bytes:
        """The data of the record whose framing starts at byte ``offset``.

        Raises:
            CorruptRecordError: when there is no such record.
        """
        with self.open(shard) as file:
            file.seek(offset)
            return next(read_records(file, shard)).data

    def failures(self, most: int) -> tuple[list[str], int]:
        """The first ``most`` lines of ``failures.jsonl``, and how many there are."""
        lines: list[str] = []
        count = 0
        try:
            with self.open("failures.jsonl") as file:
                for line in file:
                    count += 1
                    if count <= most:
                        lines.append(line.decode(errors="replace").strip())
        except FileNotFoundError:
            pass  # a dataset from elsewhere may not have one
        return lines, count
