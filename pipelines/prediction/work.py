"""The folder beside the output in which predictions lie until all are there.

    OUTPUT.work-ID/plan.jsonl     a line a chunk, which workers read
    OUTPUT.work-ID/claims/N       chunk N was taken by a local worker
    OUTPUT.work-ID/part-N-ID      lines of chunk N; only those that a report names count
    OUTPUT.work-ID/outcome.json   how it ended, for who started it

Files go through Beam's filesystems, so that the output may be anywhere Beam can write.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipelines.claims import claim
from pipelines.errors import UserError
from pipelines.prediction.chunks import Chunk

_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class WorkFolder:
    """Where predictions for ``output`` are collected; ``path`` is the folder."""

    output: str
    path: str

    @classmethod
    def make(cls, output: str) -> WorkFolder:
        """Makes a folder of its own beside ``output``.

        Raises:
            UserError: when there can be none.
        """
        if "://" not in output and os.path.isdir(output):
            raise UserError(f"--output must be a file, but {output} is a folder")
        work = cls(output, f"{output}.work-{uuid.uuid4().hex[:12]}")
        try:
            FileSystems.mkdirs(FileSystems.join(work.path, "claims"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--output cannot be written to {output}: {reason}") from error
        return work

    def remove(self) -> None:
        """Removes the folder and what is in it."""
        if "://" not in self.path:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            FileSystems.delete([FileSystems.join(self.path, "")])

    def store_plan(self, chunks: Iterable[Chunk]) -> list[int]:
        """Writes the plan; returns the byte at which each chunk's line begins."""
        places, place = [], 0
        with _create(self._file("plan.jsonl")) as file:
            for chunk in chunks:
                places.append(place)
                place += file.write(json.dumps(chunk.to_json()).encode() + b"\n")
        return places

    def read_chunk(self, place: int) -> Chunk:
        """The chunk whose line begins at byte ``place`` of the plan."""
        with _open(self._file("plan.jsonl")) as file:
            file.seek(place)
            return Chunk.from_json(json.loads(file.readline()))

    def claim(self, place: int) -> bool:
        """Whether the caller, a local worker, is the first to ask for the chunk."""
        return claim(os.path.join(self.path, "claims", str(place)))

    def write_part(self, chunk: int, lines: Iterable[str]) -> str:
        """Writes the lines of a chunk, and returns the file's name: another one each time."""
        name = f"part-{chunk:05d}-{uuid.uuid4().hex}"
        with _create(self._file(name)) as file:
            for line in lines:
                file.write(line.encode() + b"\n")
        return name

    def publish(self, parts: Sequence[str]) -> None:
        """Puts the parts together, one after the other, as the output."""
        whole = self._file(f"whole-{uuid.uuid4().hex}")
        with _create(whole) as file:
            for part in parts:
                with _open(self._file(part)) as lines:
                    shutil.copyfileobj(lines, file, _COPY_BYTES)
        self._replace(whole, self.output)

    def store_failures(self, lines: Sequence[str]) -> None:
        """Writes ``failures_path``; removes that of an earlier run where there are none."""
        if lines:
            name = self.write_part(0, lines)
            self._replace(self._file(name), self.failures_path)
        elif FileSystems.exists(self.failures_path):
            FileSystems.delete([self.failures_path])

    @property
    def failures_path(self) -> str:
        """Where the sources are listed that gave nothing, or less than they should."""
        return f"{self.output.removesuffix('.jsonl')}.failures.jsonl"

    def store_outcome(self, outcome: dict[str, Any]) -> None:
        """Writes how the run ended."""
        name = self.write_part(0, [json.dumps(outcome)])
        self._replace(self._file(name), self._file("outcome.json"))

    def read_outcome(self) -> dict[str, Any] | None:
        """How the run ended; None when no worker came so far."""
        if not FileSystems.exists(self._file("outcome.json")):
            return None
        with _open(self._file("outcome.json")) as file:
            return json.loads(file.read())

    def _file(self, name: str) -> str:
        return FileSystems.join(self.path, name)

    def _replace(self, source: str, target: str) -> None:
        if "://" not in target:
            os.replace(source, target)  # whose errors say more than Beam's
            return
        try:
            FileSystems.rename([source], [target])
        except BeamIOError as error:
            raise OSError(f"{target}: {error}") from error


def _create(path: str) -> BinaryIO:
    return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)


def _open(path: str) -> BinaryIO:
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
