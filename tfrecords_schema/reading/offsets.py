"""Finds the records of a split: their shards, and the byte at which each starts, which is kept in a file."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import logging
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import StrPath, absolute, is_url, join
from tfrecords_schema.records import CorruptRecordError, record_spans, scan_file
from tfrecords_schema.running.terminal import printable_name as printable
from tfrecords_schema.storage import list_folder, read_bytes, replacing

_log = logging.getLogger(__name__)
_DIGEST_BYTES = 32


def shard_paths(
    folder: StrPath,
    info: DatasetInfo,
    split: str,
    error: Callable[[str], Exception] = DatasetInfoError,
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
    """The places of a split's records.

    Attributes:
        paths: the shards, in order.
        sizes: their bytes.
        bounds: number of records before each shard, and of all.
        starts: ``[N]`` uint64, the byte at which each record's framing starts in its shard.
    """

    paths: list[str]
    sizes: list[int]
    bounds: list[int]
    starts: npt.NDArray[np.uint64] = field(repr=False)

    def __len__(self) -> int:
        return self.bounds[-1]

    def span(self, index: int) -> tuple[str, int, int]:
        """Returns the shard of a record, and the bytes ``[start, end)`` of the record with its framing."""
        shard = bisect.bisect_right(self.bounds, index) - 1
        last = index + 1 == self.bounds[shard + 1]
        end = self.sizes[shard] if last else int(self.starts[index + 1])
        return self.paths[shard], int(self.starts[index]), end


def load_offsets(directory: StrPath, info: DatasetInfo, split: str) -> RecordOffsets:
    """Returns the places of the records of a split, from a file if there is one that fits the shards.

    If not, the lengths of all records are read once. The file is ``SPLIT.offsets`` beside the shards, or in
    ``~/.cache/reelbeam`` if these are on a store or may not be written to. It holds a digest of itself and of
    what ``dataset_info.json`` says of the shards, and ``starts``.

    Raises:
        DatasetInfoError: if a shard is missing or has another size than ``dataset_info.json`` says.
    """
    paths, shards = shard_paths(directory, info, split), info.splits[split].shards
    sizes = [shard.bytes for shard in shards]
    bounds = [0, *itertools.accumulate(shard.records for shard in shards)]
    identity = repr([(shard.file, shard.records, shard.bytes, shard.sha256) for shard in shards])
    beside = join(directory, f"{split}.offsets")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(f"{absolute(os.fspath(directory))}\n{identity}".encode()).hexdigest()
    cached = str(cache / "reelbeam" / f"{name}.offsets")
    for file in (beside, cached):
        starts = _read(file, identity, bounds[-1])
        if starts is not None:
            return RecordOffsets(paths, sizes, bounds, starts)
    found, found_bounds = array("Q"), [0]
    for path, size in zip(paths, sizes, strict=True):
        found.extend(_scan(path, size, info.max_record_bytes))
        found_bounds.append(len(found))
    starts = np.frombuffer(found, np.uint64)
    if found_bounds == bounds:  # else a shard is damaged, and may be repaired
        _store([cached] if is_url(directory) else [beside, cached], identity, starts)
    return RecordOffsets(paths, sizes, found_bounds, starts)


def _digest(identity: str, starts: Any) -> bytes:
    digest = hashlib.sha256(identity.encode())
    digest.update(starts)
    return digest.digest()


def _read(file: str, identity: str, count: int) -> npt.NDArray[np.uint64] | None:
    """Returns the offsets in a file, mapped into memory if it is local; None if it does not fit."""
    try:
        if is_url(file):
            held = np.frombuffer(read_bytes(file), np.uint8)
        else:
            held = np.memmap(file, np.uint8, mode="r")
    except (OSError, ValueError):  # there is none, or it is empty
        return None
    if len(held) != _DIGEST_BYTES + count * 8:
        return None
    starts = held[_DIGEST_BYTES:].view(np.uint64)
    return starts if _digest(identity, starts) == held[:_DIGEST_BYTES].tobytes() else None


def _store(files: list[str], identity: str, starts: npt.NDArray[np.uint64]) -> None:
    """Writes offsets to the first of ``files`` that can be written."""
    for file in files:
        try:
            if file != files[0] or len(files) == 1:
                Path(file).parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as partial, open(partial, "wb") as stream:
                stream.write(_digest(identity, starts))
                starts.tofile(stream)
            return
        except OSError as error:
            reason = error
    _log.warning("the index of records cannot be kept, and is made anew each time: %s", reason)


def _scan(path: str, size: int, max_bytes: int) -> Iterator[int]:
    """Yields the byte at which each record of a shard starts, or damage that hides records."""
    starts, end = array("Q"), 0
    try:
        for start, end in record_spans(path, max_bytes):  # noqa: B007
            starts.append(start)
    except CorruptRecordError:
        end = -1
    if end != size:
        return (found.offset for found in scan_file(path, max_bytes))
    return iter(starts)
