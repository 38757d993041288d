"""The Beam pipeline of ``pipelines predict``: wiring and counters.

The graph is a line:

    Create(work lists) -> Reshuffle -> BuildSequences -> RunInference -> group by chunk -> WriteParts
        -> group all reports -> Publish

Frames go from decoder to model within one stage; only answers and reports are shuffled.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference

from pipelines.decoding.client import DecoderPool, DecoderProcess, shared_pool
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.errors import describe_os_error
from pipelines.options.dataset import DatasetOptions, RunOptions
from pipelines.plan.descriptors import Segment
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.publish import ChunkReport, Expected, conclude, write_chunk
from pipelines.prediction.sequences import Place, Prediction, SegmentEnd, Sequence
from pipelines.prediction.work import WorkFolder
from pipelines.runners.events import EventWriter
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.spec import LabelSpec, SequenceSpec

_NEWS_SECONDS = 0.2

Item = Prediction | SegmentEnd


class PredictFootage(beam.PTransform):
    """Work lists in, one sentence about the output out.

    An element is a list of places of chunks in the plan; see `pipelines.build.transforms.BuildDataset`.

    Args:
        work: where the plan lies, and the predictions go.
        builder: makes the sequences of a chunk.
        model: answers to them.
        label: what it was trained to say.
        expected: what there should be in the end.
        events: descriptor of the driver's event pipe; None when workers are not in the driver's process.
    """

    def __init__(
        self,
        *,
        work: WorkFolder,
        builder: SequenceBuilder,
        model: ModelHandler[Sequence | SegmentEnd, Item, Any],
        label: LabelSpec,
        expected: Expected,
        events: int | None,
    ):
        super().__init__()
        self._work = work
        self._builder = builder
        self._model = model
        self._label = label
        self._expected = expected
        self._events = events

    def expand(self, work: beam.PCollection[list[int]]) -> beam.PCollection[str]:
        """Wires the stages."""
        return (
            work  # list[int]: places of chunks in the plan
            | "Deal" >> beam.Reshuffle()
            | "BuildSequences"
            >> beam.ParDo(_BuildSequences(self._work, self._builder, self._events))
            | "Predict" >> RunInference(self._model)  # Prediction or SegmentEnd
            | "KeyByChunk" >> beam.ParDo(_KeyByChunk(self._events))  # (chunk, Item)
            | "GroupByChunk" >> beam.GroupByKey()
            | "WriteParts" >> beam.ParDo(_WriteParts(self._work, self._label, self._events))
            | "Collect" >> beam.Map(lambda report: (None, report))  # (None, report as JSON)
            | "GroupReports" >> beam.GroupByKey()
            | "Publish" >> beam.ParDo(_Publish(self._work, self._expected, self._events))  # str
        )


class SequenceBuilder:
    """Makes the sequences of chunks, by the same decoder processes that make records.

    Args:
        spec: of the records, without labels.
        options: how they are made.
        batch_size: sequences of a chunk that go to the model together.
        run: what decoders are to keep to.
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
        """The decoders of this process."""
        return shared_pool(*self._pool)

    def batches(
        self, chunk: Chunk, number: int, decoder: DecoderProcess
    ) -> Iterator[list[Sequence | SegmentEnd]]:
        """Yields the chunk's sequences in order, and after those of each segment how it ended.

        Args:
            chunk: whose.
            number: of the chunk in the plan, by which its predictions come together again.
            decoder: that makes them.
        """
        batch: list[Sequence | SegmentEnd] = []
        for count, item in enumerate(self._items(chunk, decoder)):
            segment, content = item
            place = Place(chunk=number, segment=segment, number=count)
            if isinstance(content, bytes):
                batch.append(Sequence(place=place, record=content))
            elif isinstance(content, DecodingFailure):
                batch.append(SegmentEnd(place=place, failure=content.to_json()))
            else:
                batch.append(SegmentEnd(place=place, result=content))
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def request(self, segment: Segment) -> BuildRequest:
        """Asks for the records of a segment."""
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
    def __init__(self, work: WorkFolder, builder: SequenceBuilder, events: int | None):
        self._work = work
        self._builder = builder
        self._events = events

    def process(self, work: list[int]) -> Iterator[list[Sequence | SegmentEnd]]:
        with self._builder.pool.borrow() as decoder:
            for place in work:
                if self._events is not None and not self._work.claim(place):
                    continue
                chunk = self._work.read_chunk(place)
                yield from self._builder.batches(chunk, place, decoder)


class _KeyByChunk(beam.DoFn):
    """Counts on the way, and tells the driver several times a second."""

    def __init__(self, events: int | None):
        self._events = events
        self._sequences = Metrics.counter("reelbeam", "sequences")
        self._failures = Metrics.counter("reelbeam", "source_failures")

    def setup(self) -> None:
        self._untold, self._told_at = 0, 0.0

    def process(self, item: Item) -> Iterator[tuple[int, Item]]:
        if isinstance(item, Prediction):
            self._sequences.inc()
            self._untold += 1
        elif item.failure is not None:
            self._failures.inc()
            EventWriter(self._events).send("failure")
        if isinstance(item, SegmentEnd) or time.monotonic() - self._told_at > _NEWS_SECONDS:
            EventWriter(self._events).send("sequences", count=self._untold)
            self._untold, self._told_at = 0, time.monotonic()
        yield item.place.chunk, item


class _WriteParts(beam.DoFn):
    def __init__(self, work: WorkFolder, label: LabelSpec, events: int | None):
        self._work = work
        self._label = label
        self._events = events

    def process(self, keyed: tuple[int, Iterable[Item]]) -> Iterator[dict[str, Any]]:
        place, items = keyed
        try:
            chunk = self._work.read_chunk(place)
            yield to_json(write_chunk(chunk, items, self._label, self._work))
        except OSError as error:
            if self._events is None:
                raise  # the runner will try again elsewhere
            _tell_error(self._events, error, self._work.output)


class _Publish(beam.DoFn):
    def __init__(self, work: WorkFolder, expected: Expected, events: int | None):
        self._work = work
        self._expected = expected
        self._events = events

    def process(self, keyed: tuple[None, Iterable[dict[str, Any]]]) -> Iterator[str]:
        # A runner that retries may deliver a chunk twice; both reports say the same.
        reports = {fields["chunk"]: from_json(ChunkReport, fields) for fields in keyed[1]}
        try:
            outcome = conclude(list(reports.values()), self._expected, self._work)
        except OSError as error:
            if self._events is None:
                raise
            _tell_error(self._events, error, self._work.output)
        else:
            yield outcome.error or f"{outcome.sequences} predictions in {self._work.output}"


def _tell_error(events: int, error: OSError, place: str) -> None:
    EventWriter(events).send("error", message=describe_os_error(error, place))
