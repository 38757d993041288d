"""The folder beside the output that holds predictions until all are there.

    OUTPUT.work-ID/plan.jsonl     one line per chunk, which workers read
    OUTPUT.work-ID/part-N-ID      lines of chunk N; only parts that a report names count
    OUTPUT.work-ID/outcome.json   the result, for the driver

The output is a local file or an object on a store.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipelines.errors import UserError
from pipelines.prediction.chunks import Chunk
from pipelines.storage.scratch import scratch_folder
from tfrecords_schema import storage
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.paths import UrlError, check_path

_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class WorkFolder:
    """The folder ``path`` in which the predictions for ``output`` are collected."""

    output: str
    path: str

    @classmethod
    def make(cls, output: str) -> WorkFolder:
        """Makes a new folder beside ``output``.

        Raises:
            UserError: if it cannot be made.
        """
        path = f"{output}.work-{uuid.uuid4().hex[:12]}"
        try:
            check_path(output)
            if os.path.isdir(output):
                raise UserError(f"--output must be a file, but {output} is a folder")
            storage.make_folder(path)
        except UrlError as error:
            raise UserError(f"--output: {error}") from error
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"--output cannot be written to {output}: {reason}") from error
        return cls(output, path)

    def remove(self) -> None:
        """Removes the folder and its contents."""
        storage.remove_folder(self.path)

    def store_plan(self, chunks: Iterable[Chunk]) -> list[int]:
        """Writes the plan; returns the byte offset of each chunk's line."""
        offsets, offset = [], 0
        with _writing(self._file("plan.jsonl")) as file:
            for chunk in chunks:
                offsets.append(offset)
                offset += file.write(json.dumps(to_json(chunk)).encode() + b"\n")
        return offsets

    def read_chunk(self, offset: int) -> Chunk:
        """Returns the chunk whose line begins at byte ``offset`` of the plan."""
        return from_json(Chunk, json.loads(storage.read_line(self._file("plan.jsonl"), offset)))

    def write_part(self, chunk: int, lines: Iterable[str]) -> str:
        """Writes the lines of a chunk to a new file, and returns its name."""
        name = f"part-{chunk:05d}-{uuid.uuid4().hex}"
        with _writing(self._file(name)) as file:
            for line in lines:
                file.write(line.encode() + b"\n")
        return name

    def write_output(self, parts: Sequence[str]) -> None:
        """Writes the output: the parts, one after the other."""
        with _writing(self.output) as file:
            for part in parts:
                with storage.open_stream(self._file(part)) as lines:
                    shutil.copyfileobj(lines, file, _COPY_BYTES)

    def store_failures(self, lines: Sequence[str]) -> None:
        """Writes ``failures_path``; without failures, removes the file of an earlier run."""
        if lines:
            with _writing(self.failures_path) as file:
                file.writelines(line.encode() + b"\n" for line in lines)
        else:
            storage.remove([self.failures_path])

    @property
    def failures_path(self) -> str:
        """Path of the list of failed and truncated sources."""
        return f"{self.output.removesuffix('.jsonl')}.failures.jsonl"

    def store_outcome(self, outcome: dict[str, Any]) -> None:
        """Writes the result of the run."""
        storage.write_bytes(self._file("outcome.json"), json.dumps(outcome).encode())

    def read_outcome(self) -> dict[str, Any] | None:
        """Returns the result of the run; None if no worker has written it."""
        try:
            return json.loads(storage.read_bytes(self._file("outcome.json")))
        except FileNotFoundError:
            return None

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"


@contextlib.contextmanager
def _writing(path: str) -> Iterator[BinaryIO]:
    """Opens a file that appears at ``path`` when the block succeeds, complete or not at all."""
    with (
        storage.replacing(path, scratch=scratch_folder("predictions")) as partial,
        partial.open("wb") as file,
    ):
        yield file
