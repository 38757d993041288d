"""Finds the records of a split: their shards, and the byte at which each starts, which is kept in a file."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
import logging
import os
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import StrPath, absolute, is_url, join
from tfrecords_schema.records import CorruptRecordError, record_spans, scan_file
from tfrecords_schema.running.terminal import printable_name as printable
from tfrecords_schema.storage import list_folder, read_bytes, replacing


def shard_paths(
    folder: StrPath, info: DatasetInfo, split: str, error: Callable[[str], Exception]
) -> list[str]:
    """Returns the files of a split in order; raises ``error`` if one is missing or has another size."""
    files, paths = list_folder(folder), []
    for shard in info.splits[split].shards if split in info.splits else ():
        paths.append(join(folder, shard.file))
        path = printable(paths[-1])
        if shard.file not in files:
            raise error(
                f"{path} is missing, and dataset_info.json lists it with {shard.records} records. "
                "Copy the whole folder again, or build the dataset again"
            )
        if files[shard.file].bytes != shard.bytes:
            raise error(
                f"{path} has {files[shard.file].bytes} bytes, and dataset_info.json says {shard.bytes}. "
                "Copy the file again, or build the dataset again"
            )
    return paths


@dataclass(frozen=True)
class RecordOffsets:
    """The shards of a split, their bytes, the records before each and of all, and where each one starts."""

    paths: list[str]
    sizes: list[int]
    bounds: list[int]
    starts: npt.NDArray[np.uint64]

    def span(self, index: int) -> tuple[str, int, int]:
        """Returns the shard of a record, and the bytes ``[start, end)`` of the record with its framing."""
        shard = bisect.bisect_right(self.bounds, index) - 1
        last = index + 1 == self.bounds[shard + 1]
        end = self.sizes[shard] if last else int(self.starts[index + 1])
        return self.paths[shard], int(self.starts[index]), end


def load_offsets(directory: StrPath, info: DatasetInfo, split: str) -> RecordOffsets:
    """Returns the places of the records of a split, from a file if one fits ``dataset_info.json``.

    If not, the lengths of all records are read, and kept in ``SPLIT.offsets`` beside the shards, or in
    ``~/.cache/reelbeam`` if these cannot be written or are on a store.
    """
    paths, shards = shard_paths(directory, info, split, DatasetInfoError), info.splits[split].shards
    sizes = [shard.bytes for shard in shards]
    bounds = [0, *itertools.accumulate(shard.records for shard in shards)]
    name = hashlib.sha256(f"{absolute(os.fspath(directory))} {split}".encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "reelbeam")
    files = [join(directory, f"{split}.offsets"), str(cache / f"{name}.offsets")]
    for file in files:
        starts = _read(file, shards, bounds[-1])
        if starts is not None:
            return RecordOffsets(paths, sizes, bounds, starts)
    found, found_bounds = array("Q"), [0]
    for path, size in zip(paths, sizes, strict=True):
        found.extend(_scan(path, size, info.max_record_bytes))
        found_bounds.append(len(found))
    starts = np.frombuffer(found, np.uint64)
    if found_bounds == bounds and not any(_store(file, shards, starts) for file in files):
        logging.getLogger(__name__).warning("%s cannot be written, nor %s", *files)
    return RecordOffsets(paths, sizes, found_bounds, starts)


def _digest(shards: Any, starts: Any) -> bytes:
    return hashlib.sha256(repr(shards).encode() + hashlib.sha256(starts).digest()).digest()


def _read(file: str, shards: Any, count: int) -> npt.NDArray[np.uint64] | None:
    """Returns the offsets in a file, mapped into memory if it is local; None if it does not fit."""
    try:
        data = read_bytes(file) if is_url(file) else np.memmap(file, np.uint8, mode="r")
    except (OSError, ValueError):  # there is none, or it is empty
        return None
    starts = np.frombuffer(data, np.uint64)[4:] if len(data) == 32 + 8 * count else None
    return None if starts is None or _digest(shards, starts) != bytes(data[:32]) else starts


def _store(file: str, shards: Any, starts: npt.NDArray[np.uint64]) -> bool:
    """Writes a local file of offsets after their digest; returns False if it cannot be written."""
    with contextlib.suppress(OSError):
        if not is_url(file):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as partial, open(partial, "wb") as stream:
                stream.write(_digest(shards, starts))
                starts.tofile(stream)
            return True
    return False


def _scan(path: str, size: int, max_bytes: int) -> Iterable[int]:
    """Returns the byte at which each record of a shard starts, or damage that hides records."""
    starts, end = array("Q"), 0
    with contextlib.suppress(CorruptRecordError):
        for start, end in record_spans(path, max_bytes):  # noqa: B007
            starts.append(start)
    return starts if end == size else (found.offset for found in scan_file(path, max_bytes))
