"""The folder beside the output that holds predictions until all are there.

    OUTPUT.work-ID/plan.jsonl     one line per chunk, which workers read
    OUTPUT.work-ID/part-N-ID      lines of chunk N; only parts that a report names count
    OUTPUT.work-ID/outcome.json   the result, for the driver

The output is a local file or an object on a store.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.errors import UserError
from pipelines.plan.descriptors import SourceFailure
from pipelines.prediction.chunks import Chunk
from pipelines.storage.new_files import new_file, write_lines
from tfrecords_schema import storage
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.paths import UrlError, check_path, is_url
from tfrecords_schema.running.scratch import marked_folder

_COPY_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a prediction run.

    Attributes:
        text: lines for the user, or one line that says why there is no output.
        failed: there is no output.
    """

    text: str
    failed: bool


@dataclass(frozen=True)
class WorkFolder:
    """The folder ``path`` in which the predictions for ``output`` are collected.

    A local one has a ``lock``, which is open in the driver, so that a later run removes it if this one is
    killed.
    """

    output: str
    path: str
    lock: BinaryIO | None = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkFolder, (self.output, self.path)

    @classmethod
    def make(cls, output: str) -> WorkFolder:
        """Makes a new folder beside ``output``.

        Raises:
            UserError: if it cannot be made.
        """
        path, lock = f"{output}.work-{uuid.uuid4().hex[:12]}", None
        try:
            check_path(output)
            if os.path.isdir(output):
                raise UserError(f"--output must be a file, but {output} is a folder")
            if not is_url(output):
                parent, name = os.path.split(output)
                storage.make_folder(parent or ".")
                folder, lock = marked_folder(Path(parent), f"{name}.work-{storage.MACHINE}-")
                path = os.fspath(folder)
        except UrlError as error:
            raise UserError(f"--output: {error}") from error
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"--output cannot be written to {output}: {reason}") from error
        return cls(output, path, lock)

    def remove(self) -> None:
        """Removes the folder and its contents."""
        storage.remove_folder(self.path)

    def store_plan(self, chunks: Iterable[Chunk]) -> list[int]:
        """Writes the plan; returns the byte offset of each chunk's line."""
        return write_lines(self._file("plan.jsonl"), chunks, partials=self.path)

    def read_chunk(self, offset: int) -> Chunk:
        """Returns the chunk whose line begins at byte ``offset`` of the plan."""
        return from_json(Chunk, json.loads(storage.read_line(self._file("plan.jsonl"), offset)))

    def write_part(self, chunk: int, lines: Iterable[dict[str, Any]]) -> str:
        """Writes the lines of a chunk to a new file, and returns its name."""
        name = f"part-{chunk:05d}-{uuid.uuid4().hex}"
        write_lines(self._file(name), lines, partials=self.path)
        return name

    def write_output(self, parts: Sequence[str]) -> None:
        """Writes the output: the parts, one after the other."""
        with new_file(self.output, partials=self.path) as file:
            for part in parts:
                with storage.open_stream(self._file(part)) as lines:
                    shutil.copyfileobj(lines, file, _COPY_BYTES)

    def store_failures(self, failures: Sequence[SourceFailure]) -> None:
        """Writes ``failures_path``; without failures, removes the file of an earlier run."""
        if failures:
            write_lines(self.failures_path, failures, partials=self.path)
        else:
            storage.remove([self.failures_path])

    @property
    def failures_path(self) -> str:
        """Path of the list of failed and truncated sources."""
        return f"{self.output.removesuffix('.jsonl')}.failures.jsonl"

    def store_outcome(self, outcome: Outcome) -> None:
        """Writes the result of the run."""
        storage.write_bytes(self._file("outcome.json"), json.dumps(to_json(outcome)).encode())

    def read_outcome(self) -> Outcome | None:
        """Returns the result of the run; None if no worker has written it."""
        try:
            return from_json(Outcome, json.loads(storage.read_bytes(self._file("outcome.json"))))
        except FileNotFoundError:
            return None

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"
