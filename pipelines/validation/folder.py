"""The dataset folder as validation sees it: it reads, and never writes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import UserError
from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.records import read_records

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
    """A folder with a ``dataset_info.json``; ``path`` is local, and ``flag`` is what gave it."""

    path: str
    flag: str = "--tfrecords"

    def __post_init__(self) -> None:
        if "://" in self.path:
            raise UserError(f"{self.flag} must be a local folder, got {self.path}")

    def load_info(self) -> DatasetInfo:
        """The dataset's description.

        Raises:
            UserError: when the folder is no complete dataset.
        """
        if Path(self.path).is_file():
            raise UserError(f"{self.flag} must be the folder of a dataset, {self.path} is a file")
        try:
            return DatasetInfo.load(self.path)
        except DatasetInfoError as error:
            raise UserError(f"{self.flag}: {error}") from error

    def open(self, shard: str) -> BinaryIO:
        """A shard, for reading."""
        return open(os.path.join(self.path, shard), "rb")

    def list_files(self, info: DatasetInfo) -> Listing:
        """Compares the folder with what ``info`` names."""
        there = set(os.listdir(self.path))
        named = {shard.file for split in info.splits.values() for shard in split.shards}
        return Listing(
            missing=tuple(sorted(named - there)),
            extra=tuple(sorted(name for name in there - named if _SHARD.fullmatch(name))),
            leftover=tuple(sorted(name for name in there - named if _LEFTOVER.fullmatch(name))),
        )

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
            with open(
                os.path.join(self.path, "failures.jsonl"), encoding="utf-8", errors="replace"
            ) as file:
                for line in file:
                    count += 1
                    if count <= most:
                        lines.append(line.strip())
        except FileNotFoundError:
            pass  # a dataset from elsewhere may not have one
        return lines, count
