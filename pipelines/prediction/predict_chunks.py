"""The Beam steps of ``pipelines predict``, with as little logic as possible.

    tasks -> BuildSequences -> Predict -> WriteParts -> reports

Frames go from a decoder to the model, and answers to the part of their chunk, within one stage: only reports
are shuffled. So a part is written once its chunk is predicted, and an interrupted run keeps it.
"""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from pipelines.build.shard import record_request
from pipelines.decoding.client import DecoderProcess, shared_pool
from pipelines.decoding.protocol import DecodingFailure, SegmentResult
from pipelines.options.verbs import PredictionOptions
from pipelines.plan.descriptors import SourceFailure
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.export_info import Export
from pipelines.prediction.publish import ChunkReport, Publication, conclude, write_chunk
from pipelines.prediction.sequences import Answer, Item
from pipelines.prediction.work import WorkFolder
from pipelines.runners.tasks import Job, LocalRun, ProgressReporter, reported_errors
from tfrecords_schema.codec import to_json


def prediction_job(
    export: Export,
    model: ModelHandler[Item, Item, Any],
    options: PredictionOptions,
    publication: Publication,
    work: WorkFolder,
    local: LocalRun | None,
) -> Job:
    """Returns the job that writes the predictions of chunks, and joins them as the output.

    A task is the byte offset of a chunk in the plan of the work folder.
    """
    build = _BuildSequences(export, options, work)
    steps = (
        "BuildSequences" >> beam.ParDo(build)  # list[Item], with records
        | "Predict" >> RunInference(model)  # Item, with answers
        | "WriteParts"
        >> beam.ParDo(_WriteParts(export.spec.num_frames, work, local))  # ChunkReport
    )
    finish = functools.partial(_finish, publication, work)
    return Job(steps, finish, place=work.output, local=local)


class _BuildSequences(beam.DoFn):
    """Makes the sequences of chunks with the decoder processes that also make records."""

    def __init__(self, export: Export, options: PredictionOptions, work: WorkFolder):
        self._spec, self._options = export.spec, export.options
        self._batch_size, self._run = options.batch_size, options.run
        self._wants_times = options.by_frame
        self._work = work

    def process(self, offset: int) -> Iterator[list[Item]]:
        """Yields batches of the chunk's sequences and ends of segments."""
        chunk = self._work.read_chunk(offset)
        pool = shared_pool(self._run.decode_timeout, self._run.staging_size)
        with (
            pool.borrow() as decoder,
            contextlib.closing(self._contents(chunk, decoder)) as contents,
        ):
            items = self._items(offset, len(chunk.segments), contents)
            while batch := list(islice(items, self._batch_size)):
                yield batch

    def _items(
        self,
        chunk: int,
        segments: int,
        contents: Iterator[bytes | SegmentResult | SourceFailure],
    ) -> Iterator[Item]:
        for content in contents:
            segments -= not isinstance(content, bytes)
            yield Item(chunk=chunk, content=content, is_last=not segments)

    def _contents(
        self, chunk: Chunk, decoder: DecoderProcess
    ) -> Generator[bytes | SegmentResult | SourceFailure, None, None]:
        for segment in chunk.segments:
            try:
                request = record_request(segment, self._spec, self._options)
                request = replace(request, wants_times=self._wants_times)
                yield (yield from decoder.records(request))
            except DecodingFailure as failure:
                yield SourceFailure(source=segment.source.id, **to_json(failure))


class _WriteParts(beam.DoFn):
    """Collects the answers for a chunk, which come in order, and writes them once all are there."""

    def __init__(self, num_frames: int, work: WorkFolder, local: LocalRun | None):
        self._num_frames, self._work, self._local = num_frames, work, local
        self._progress = ProgressReporter(local, "sequences")

    def start_bundle(self) -> None:
        """Forgets what a bundle that failed has left."""
        self._items: defaultdict[int, list[Item]] = defaultdict(list)

    def process(self, item: Item) -> Iterator[ChunkReport]:
        """Yields the report of a chunk after its last item."""
        self._items[item.chunk].append(item)
        if isinstance(item.content, Answer):
            self._progress.add(1)
            return
        if isinstance(item.content, SourceFailure):
            self._progress.add_failure(item.content.source, truncated=False)
        self._progress.flush()
        if item.is_last:
            chunk, items = self._work.read_chunk(item.chunk), self._items.pop(item.chunk)
            with reported_errors(self._local, self._work.output):
                yield write_chunk(chunk, items, self._num_frames, self._work)

    def finish_bundle(self) -> None:
        """Raises `RuntimeError` if the runner has dealt the items of a chunk to several workers."""
        if self._items:
            raise RuntimeError(f"expected all items of a chunk, got some of {len(self._items)}")


def _finish(publication: Publication, work: WorkFolder, reports: list[ChunkReport]) -> str:
    return conclude(reports, publication, work).text
