"""The Beam transform of ``pipelines predict``, with as little logic as possible.

    work lists -> DealTasks -> BuildSequences -> RunInference -> group by chunk -> WriteParts -> FinishOnce

Frames go from a decoder to the model within one stage; only answers and reports are shuffled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from pipelines.decoding.client import DecoderPool, DecoderProcess, shared_pool
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.options.dataset import DatasetOptions, RunOptions
from pipelines.plan.descriptors import Segment
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.publish import ChunkReport, Expected, conclude, write_chunk
from pipelines.prediction.sequences import Place, Prediction, SegmentEnd, Sequence
from pipelines.prediction.work import WorkFolder
from pipelines.runners.tasks import (
    DealTasks,
    FinishOnce,
    GroupReports,
    LocalRun,
    ProgressReporter,
    reported_errors,
)
from tfrecords_schema.codec import to_json
from tfrecords_schema.spec import LabelSpec, SequenceSpec

Item = Prediction | SegmentEnd


class PredictFootage(beam.PTransform):
    """Work lists in, one sentence about the output out.

    A task is the byte offset of a chunk in the plan file of the work folder.

    Args:
        work: folder that holds the plan and collects the predictions.
        builder: makes the sequences of a chunk.
        model: predicts them.
        label: the targets or classes that the model was trained on.
        expected: what is known before anything is predicted.
        local: None unless the workers are threads of the driver's process.
    """

    def __init__(
        self,
        *,
        work: WorkFolder,
        builder: SequenceBuilder,
        model: ModelHandler[Sequence | SegmentEnd, Item, Any],
        label: LabelSpec,
        expected: Expected,
        local: LocalRun | None,
    ):
        super().__init__()
        self._model = model
        self._local = local
        self._build = _BuildSequences(work, builder)
        self._write = _WriteParts(work, label, local)
        self._finish = _Publisher(work, expected)

    def expand(self, work: beam.PCollection[bytes]) -> beam.PCollection[str]:
        """Predicts the sequences of each chunk, writes a part for each, and joins the parts."""
        return (
            work  # bytes: numbered byte offsets of chunks in the plan, pickled
            | DealTasks(self._local)  # int: byte offset of a chunk
            | "BuildSequences" >> beam.ParDo(self._build)  # list[Sequence | SegmentEnd]
            | "Predict" >> RunInference(self._model)  # Prediction | SegmentEnd
            | "KeyByChunk" >> beam.ParDo(_KeyByChunk(self._local))  # (offset, Item)
            | "GroupByChunk" >> GroupReports()  # (offset, Iterable[Item])
            | "WriteParts" >> beam.ParDo(self._write)  # ChunkReport
            | FinishOnce(self._finish, place=self._finish.work.output, local=self._local)  # str
        )


class SequenceBuilder:
    """Makes the sequences of chunks with the decoder processes that also make records.

    Args:
        spec: spec of the records, without labels.
        options: build options of the model's training set.
        batch_size: sequences of a chunk that go to the model together.
        run: limits of the decoders.
    """

    def __init__(
        self, spec: SequenceSpec, options: DatasetOptions, *, batch_size: int, run: RunOptions
    ):
        self._pool = (run.decode_timeout, run.staging_size)
        self._spec = spec
        self._options = options
        self._batch_size = batch_size

    @property
    def pool(self) -> DecoderPool:
        """The decoders of this worker process."""
        return shared_pool(*self._pool)

    def batches(
        self, chunk: Chunk, number: int, decoder: DecoderProcess
    ) -> Iterator[list[Sequence | SegmentEnd]]:
        """Yields batches of the chunk's sequences in order; a `SegmentEnd` follows those of each segment.

        Args:
            chunk: the chunk.
            number: byte offset of the chunk in the plan, the key that its predictions are grouped by.
            decoder: decodes the chunk.
        """
        batch: list[Sequence | SegmentEnd] = []
        for count, item in enumerate(self._items(chunk, decoder)):
            segment, content = item
            place = Place(chunk=number, segment=segment, number=count)
            if isinstance(content, bytes):
                batch.append(Sequence(place=place, record=content))
            elif isinstance(content, DecodingFailure):
                batch.append(SegmentEnd(place=place, failure=to_json(content)))
            else:
                batch.append(SegmentEnd(place=place, result=content))
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def request(self, segment: Segment) -> BuildRequest:
        """Returns the request for the records of a segment."""
        options = self._options
        return BuildRequest(
            segment=segment,
            spec=self._spec,
            dataset_name=options.name,
            sampling=options.sampling,
            image=options.image,
            telemetry=options.telemetry,
        )

    def _items(
        self, chunk: Chunk, decoder: DecoderProcess
    ) -> Iterator[tuple[int, bytes | dict[str, Any] | DecodingFailure]]:
        for number, segment in enumerate(chunk.segments):
            records = decoder.records(self.request(segment))
            try:
                while True:
                    yield number, next(records)
            except StopIteration as end:
                yield number, to_json(end.value)
            except DecodingFailure as failure:
                yield number, failure
            finally:
                records.close()


class _BuildSequences(beam.DoFn):
    def __init__(self, work: WorkFolder, builder: SequenceBuilder):
        self._work = work
        self._builder = builder

    def process(self, offset: int) -> Iterator[list[Sequence | SegmentEnd]]:
        with self._builder.pool.borrow() as decoder:
            yield from self._builder.batches(self._work.read_chunk(offset), offset, decoder)


class _KeyByChunk(beam.DoFn):
    def __init__(self, local: LocalRun | None):
        self._local = local

    def setup(self) -> None:
        self._progress = ProgressReporter(self._local, "sequences")

    def process(self, item: Item) -> Iterator[tuple[int, Item]]:
        if isinstance(item, Prediction):
            self._progress.add(1)
        else:
            if item.failure is not None:
                self._progress.add_failure(f"{item.place.chunk}/{item.place.segment}")
            self._progress.flush()
        yield item.place.chunk, item


class _WriteParts(beam.DoFn):
    def __init__(self, work: WorkFolder, label: LabelSpec, local: LocalRun | None):
        self._work = work
        self._label = label
        self._local = local

    def process(self, keyed: tuple[int, Iterable[Item]]) -> Iterator[ChunkReport]:
        offset, items = keyed
        with reported_errors(self._local, self._work.output):
            chunk = self._work.read_chunk(offset)
            yield write_chunk(chunk, items, self._label, self._work)


@dataclass(frozen=True)
class _Publisher:
    """Puts the output together once all chunks are predicted."""

    work: WorkFolder
    expected: Expected

    def __call__(self, reports: list[ChunkReport]) -> str:
        by_chunk = {report.chunk: report for report in reports}  # a retried chunk reports twice
        outcome = conclude(list(by_chunk.values()), self.expected, self.work)
        return outcome.error or f"{outcome.sequences} predictions in {self.work.output}"
