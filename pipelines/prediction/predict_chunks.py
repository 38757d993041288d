"""The Beam steps of ``pipelines predict``, with as little logic as possible.

    tasks -> BuildSequences -> Predict -> KeyByChunk -> GroupByChunk -> WriteParts -> reports

Frames go from a decoder to the model within one stage; only answers and reports are shuffled.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Iterable, Iterator
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
from pipelines.runners.tasks import GroupReports, Job, LocalRun, ProgressReporter, reported_errors
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
        | "KeyByChunk" >> beam.ParDo(_KeyByChunk(local))  # (offset, Item)
        | "GroupByChunk" >> GroupReports()  # (offset, Iterable[Item])
        | "WriteParts"
        >> beam.FlatMap(_write_part, export.spec.num_frames, work, local)  # ChunkReport
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
            items = (Item(chunk=offset, number=n, content=c) for n, c in enumerate(contents))
            while batch := list(islice(items, self._batch_size)):
                yield batch

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


class _KeyByChunk(beam.DoFn):
    def __init__(self, local: LocalRun | None):
        self._progress = ProgressReporter(local, "sequences")

    def process(self, item: Item) -> Iterator[tuple[int, Item]]:
        if isinstance(item.content, Answer):
            self._progress.add(1)
        else:
            if isinstance(item.content, SourceFailure):
                self._progress.add_failure(item.content.source, truncated=False)
            self._progress.flush()
        yield item.chunk, item


def _write_part(
    keyed: tuple[int, Iterable[Item]], num_frames: int, work: WorkFolder, local: LocalRun | None
) -> Iterator[ChunkReport]:
    offset, items = keyed
    with reported_errors(local, work.output):
        yield write_chunk(work.read_chunk(offset), items, num_frames, work)


def _finish(publication: Publication, work: WorkFolder, reports: list[ChunkReport]) -> str:
    return conclude(reports, publication, work).text
