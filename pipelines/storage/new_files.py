"""Writes files that appear complete or not at all, on the local disk or on an object store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tfrecords_schema import storage
from tfrecords_schema.codec import to_json
from tfrecords_schema.paths import is_url
from tfrecords_schema.running.scratch import scratch_folder


@contextlib.contextmanager
def new_file(path: str, *, partials: str) -> Iterator[BinaryIO]:
    """Opens a file for writing, which replaces the one at ``path`` if the block succeeds.

    Until then it lies in the folder ``partials``, or on the local disk if ``path`` is a URL.
    """
    scratch = scratch_folder("output") if is_url(path) else Path(partials)
    with storage.replacing(path, scratch=scratch) as partial, partial.open("wb") as file:
        yield file


def write_lines(path: str, items: Iterable[Any], *, partials: str) -> list[int]:
    """Writes a `new_file` with a line of JSON for each item; returns the byte offset of each line."""
    offsets, size = [], 0
    with new_file(path, partials=partials) as file:
        for item in items:
            offsets.append(size)
            size += file.write(json.dumps(to_json(item)).encode() + b"\n")
    return offsets
