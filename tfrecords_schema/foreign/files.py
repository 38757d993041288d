"""Finds the TFRecord files of another program, with their splits, and reads them, also compressed ones."""

from __future__ import annotations

import fnmatch
import gzip
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from tfrecords_schema.records import CorruptRecordError, Found, scan_records
from tfrecords_schema.split_names import split_of_file, standard_split

_SHARD = re.compile(
    r"(?!\.).*(tfrecord|-\d+-of-\d+$).*(?<!\.idx)(?<!\.index)(?<!\.swp)(?<!\.json)", re.IGNORECASE
)


class AdoptError(ValueError):
    """Records that cannot be described; the message names them and what was expected."""


def plan_files(
    directory: str | os.PathLike[str],
    globs: Sequence[tuple[str, str]] = (),
    *,
    nested: bool = False,
) -> dict[str, list[Path]]:
    """Returns the TFRecord files of a local folder by split, in order.

    Hidden files, indices and leftovers of editors are left out.

    Args:
        directory: the folder.
        globs: split and pattern of its files' paths, relative to the folder; a file belongs to the first that
            fits, and to no split if none does. Without any, splits are in the names of files
            (``train-00000-of-00008``, ``val.tfrecord``) or of the folders they lie in; the others are
            ``train``.
        nested: also the files of folders in it.

    Raises:
        AdoptError: if there are no files, or a name has several splits.
    """
    folder = Path(directory)
    found = (path for path in folder.rglob("*") if _SHARD.fullmatch(path.name) and path.is_file())
    paths = sorted(path for path in found if not _is_hidden(path.relative_to(folder)))
    if not paths:
        raise AdoptError(f"{directory} must be a folder of TFRecord files, found none in it")
    if not nested and (deep := [path for path in paths if path.parent != folder]):
        raise AdoptError(
            f"{directory} has TFRecord files in folders, such as {deep[0].relative_to(folder)}. Name the "
            "folder that they lie in, or copy all of them into a new dataset with --rewrite"
        )
    files: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        name = path.relative_to(folder)
        if not globs:
            try:
                split = split_of_file(name.name)
            except ValueError as error:
                raise AdoptError(str(error)) from None
            folders = (standard_split(part) for part in reversed(name.parts[:-1]))
            files[split or next(filter(None, folders), "train")].append(path)
            continue
        fitting = (own for own, glob in globs if fnmatch.fnmatchcase(str(name), glob))
        if split := next(fitting, None):
            files[split].append(path)
    if missing := {split for split, _ in globs} - files.keys():
        raise AdoptError(f"expected files of the split {min(missing)}, its --split fits none")
    return dict(sorted(files.items()))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def scan_foreign_file(path: Path) -> Iterator[Found]:
    """Yields the records and damaged places of a file, which may be compressed with GZIP or ZLIB.

    Offsets are those of the file without compression.
    """
    with open(path, "rb") as file:
        try:
            yield from scan_records(_decompressed(file), str(path))
        except (EOFError, OSError, zlib.error) as error:
            yield CorruptRecordError(str(path), file.tell(), f"cannot be decompressed: {error}")


def is_compressed(path: Path) -> bool:
    """Returns True if a TFRecord file is compressed as a whole."""
    with open(path, "rb") as file:
        return _decompressed(file) is not file


def _decompressed(file: BinaryIO) -> BinaryIO:
    """Returns the contents of a TFRecord file; the file itself if it is not compressed."""
    start = file.read(12)
    file.seek(0)
    if start[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    # The first byte of ZLIB's header may also be that of a record's length, whose upper half is 0.
    if start[:1] == b"\x78" and start[4:8] != b"\0\0\0\0":
        return cast(BinaryIO, _ZlibFile(file))
    return file


class _ZlibFile:
    """A file of ZLIB's format, read front to back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = zlib.decompressobj()
        self._waiting = b""

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing and (block := self._waiting or self._file.read(1 << 16)):
            data = self._stream.decompress(block, missing)
            self._waiting = self._stream.unconsumed_tail
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)
