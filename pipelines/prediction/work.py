"""The folder beside the output that holds predictions until all are there. A later run continues from it.

    OUTPUT.work/lock             held by the run that writes
    OUTPUT.work/key              digest of all that decides the answers
    OUTPUT.work/plan.jsonl       one line per chunk, which workers read
    OUTPUT.work/sources.json     ids of all sources, in the order of the output
    OUTPUT.work/part-N.jsonl     answers of chunk N
    OUTPUT.work/report-N.json    its report, once the part is complete
    OUTPUT.work/outcome.json     the result, for the driver

The output is a local file or an object on a store.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.errors import UserError
from pipelines.plan.descriptors import SourceFailure
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.rows import FrameTimes, Window
from pipelines.storage.new_files import new_file, write_lines
from tfrecords_schema import storage
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.paths import UrlError, check_path, is_url
from tfrecords_schema.running.lock import LockedError, folder_lock

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a prediction run.

    Attributes:
        text: lines for the user, or one line that says what went wrong.
        failed: too many sources failed, or the output is not there.
        written: the output is there.
    """

    text: str
    failed: bool
    written: bool


@dataclass(frozen=True)
class WorkFolder:
    """The folder in which the predictions for ``output`` are collected."""

    output: str

    @property
    def path(self) -> str:
        """Path of the folder."""
        return f"{self.output}.work"

    @classmethod
    @contextlib.contextmanager
    def locked(cls, output: str) -> Iterator[WorkFolder]:
        """Makes the folder beside ``output``, or takes the one of an interrupted run, and locks it.

        Raises:
            UserError: if it cannot be made, or another run predicts to the same output.
        """
        work = cls(output)
        try:
            check_path(output)
            if os.path.isdir(output):
                raise UserError(f"--output must be a file, but {output} is a folder")
            parent = os.path.dirname(output)
            if not is_url(output):
                storage.make_folder(parent or ".")
                storage.make_folder(work.path, inside=parent or ".")
            lock = folder_lock(work._file("lock"), output, "predicting")
            with contextlib.ExitStack() as stack:
                stack.enter_context(lock)
                yield work
        except LockedError as error:
            raise UserError(str(error)) from error
        except UrlError as error:
            raise UserError(f"--output: {error}") from error

    def begin(self, key: str, chunks: Sequence[Chunk], sources: Sequence[str]) -> list[int]:
        """Writes the plan, and removes the parts of a run with another ``key``.

        Returns:
            The byte offset of each chunk's line in the plan.
        """
        if self._read("key", bytes.decode) != key:
            names = [name for name in storage.list_folder(self.path) if name != "lock"]
            storage.remove([self._file(name) for name in names])
            storage.write_bytes(self._file("key"), key.encode())
        storage.remove([self._file("outcome.json")])
        storage.write_bytes(self._file("sources.json"), json.dumps(list(sources)).encode())
        return write_lines(self._file("plan.jsonl"), chunks, partials=self.path)

    def remove(self) -> None:
        """Removes the folder and its contents."""
        storage.remove_folder(self.path)

    def read_chunk(self, offset: int) -> Chunk:
        """Returns the chunk whose line begins at byte ``offset`` of the plan."""
        return from_json(Chunk, json.loads(storage.read_line(self._file("plan.jsonl"), offset)))

    def sources(self) -> list[str]:
        """Returns the ids of all sources, in the order of the output."""
        return json.loads(storage.read_bytes(self._file("sources.json")))

    def write_part(
        self, chunk: int, answers: Iterable[tuple[str, Window | FrameTimes]], report: Any
    ) -> None:
        """Writes the answers of a chunk, each with its source, and then its report."""
        lines = ([source, to_json(answer)] for source, answer in answers)
        write_lines(self._part(chunk), lines, partials=self.path)
        report_file = self._file(f"report-{chunk:05d}.json")
        storage.write_bytes(report_file, json.dumps(to_json(report)).encode())

    def reports(self, cls: type[T]) -> dict[int, T]:
        """Returns the reports of the chunks that are complete, by the chunks' indices."""
        found = {}
        for name in storage.list_folder(self.path):
            if match := re.fullmatch(r"report-(\d+)\.json", name):
                data = storage.read_bytes(self._file(name))
                found[int(match[1])] = from_json(cls, json.loads(data))
        return found

    def answers(self, chunks: int) -> Iterator[tuple[str, Window | FrameTimes]]:
        """Yields the answers of all chunks in order, each with its source."""
        for chunk in range(chunks):
            with storage.open_stream(self._part(chunk)) as lines:
                yield from map(_parse_answer, lines)

    def ranges(self) -> dict[str, list[tuple[int, int, int]]]:
        """Returns where the answers for each source lie: chunks, with the first byte and the one after."""
        found: dict[str, list[tuple[int, int, int]]] = {}
        for chunk in self.reports(dict):
            begin = 0
            with storage.open_stream(self._part(chunk)) as lines:
                for line in lines:
                    places, end = found.setdefault(json.loads(line)[0], []), begin + len(line)
                    if places and places[-1][0] == chunk:
                        begin = places.pop()[1]
                    places.append((chunk, begin, end))
                    begin = end
        return found

    def answers_in(self, places: Iterable[tuple[int, int, int]]) -> Iterator[Window | FrameTimes]:
        """Yields the answers at some of the `ranges`."""
        for chunk, begin, end in places:
            with storage.open_stream(self._part(chunk)) as file:
                file.seek(begin)
                for line in file.read(end - begin).splitlines():
                    yield _parse_answer(line)[1]

    def write_output(self, write: Callable[[Any], None]) -> None:
        """Writes the output, which appears once it is complete."""
        with new_file(self.output, partials=self.path) as file:
            write(file)

    def store_failures(self, failures: Sequence[SourceFailure]) -> None:
        """Writes ``failures_path``; without failures, removes the file of an earlier run."""
        if failures:
            write_lines(self.failures_path, failures, partials=self.path)
        else:
            storage.remove([self.failures_path])

    @property
    def failures_path(self) -> str:
        """Path of the list of failed and truncated sources."""
        return f"{os.path.splitext(self.output)[0]}.failures.jsonl"

    def store_outcome(self, outcome: Outcome) -> None:
        """Writes the result of the run."""
        storage.write_bytes(self._file("outcome.json"), json.dumps(to_json(outcome)).encode())

    def read_outcome(self) -> Outcome | None:
        """Returns the result of the run; None if no worker has written it."""
        return self._read("outcome.json", lambda data: from_json(Outcome, json.loads(data)))

    def _part(self, chunk: int) -> str:
        return self._file(f"part-{chunk:05d}.jsonl")

    def _read(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        try:
            return parse(storage.read_bytes(self._file(name)))
        except FileNotFoundError:
            return None

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"


def _parse_answer(line: bytes) -> tuple[str, Window | FrameTimes]:
    source, fields = json.loads(line)
    if "values" in fields:
        return source, from_json(Window, fields)
    return source, from_json(FrameTimes, fields)
