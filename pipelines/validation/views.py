"""`RecordView`: one stored record as checks see it, however wrong it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.validation.pictures.thumbnails import PictureReader, Pictures
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from tfrecords_schema import example_pb2
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import context_values, parse_example, step_values
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import Feature, SequenceSpec, SpecError

_LISTS = {"bytes": "bytes_list", "int": "int64_list", "float": "float_list"}


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a dataset says of all its records.

    Attributes:
        dataset_name: from ``dataset_info.json``.
        spec: of its records.
        sampling: ``windows`` or ``uniform``.
        short_clips: ``drop``, ``pad`` or ``loop``; empty when the dataset does not say.
        angles: columns (see `value_columns`) of degrees, in which 359 is beside 0.
        thresholds: of the checks.
    """

    dataset_name: str
    spec: SequenceSpec
    sampling: str = "windows"
    short_clips: str = ""
    angles: frozenset[str] = frozenset()
    thresholds: Thresholds = DEFAULTS


def expectation(info: DatasetInfo, thresholds: Thresholds) -> Expectation:
    """What ``info`` says of its records."""
    # Options are whatever the builder wrote; a dataset from elsewhere may have none.
    return Expectation(
        dataset_name=info.name,
        spec=info.spec,
        sampling=str(info.options.get("sampling", "windows")),
        short_clips=str(info.options.get("short_clips", "")),
        angles=_angles(info),
        thresholds=thresholds,
    )


def _angles(info: DatasetInfo) -> frozenset[str]:
    """Columns of angles: what was built as one, and targets and signals in degrees."""
    label, said = info.spec.label, info.options.get("angle_columns") or []
    angles = {name for name in said if isinstance(name, str)}
    units = dict(zip(label.target_names, label.target_units, strict=False))
    units |= {signal.name: signal.unit for signal in info.spec.signals}
    angles |= {name for name, unit in units.items() if unit in ("deg", "degrees", "\u00b0")}
    return frozenset(
        {f"target {name}" for name in angles} | {f"signal {name}[0]" for name in angles}
    )


class RecordView:
    """One stored record. Keys that are missing or ill-typed are absent here, and named in ``problems``.

    Attributes:
        data: the record's bytes.
        expected: what its dataset says of it.
        context: by key, the values of the context.
        steps: by key, the values of each step.
        problems: what is wrong with its keys, their types and shapes; a line each.
    """

    def __init__(self, data: bytes, expected: Expectation, reader: PictureReader | None = None):
        self.data = data
        self.expected = expected
        self._reader = reader
        self.context: dict[str, list[Any]] = {}
        self.steps: dict[str, list[list[Any]]] = {}
        self.problems: list[str] = []
        spec = expected.spec
        try:
            example = parse_example(data)
        except SpecError as problem:
            self.problems.append(str(problem))
            return
        for feature in spec.context_features():
            try:
                self.context[feature.key] = _read_context(example, feature)
            except SpecError as problem:
                self.problems.append(str(problem))
        for feature in spec.feature_lists():
            try:
                self.steps[feature.key] = _read_steps(example, feature, spec.num_frames)
            except SpecError as problem:
                self.problems.append(str(problem))

    @property
    def spec(self) -> SequenceSpec:
        """The dataset's."""
        return self.expected.spec

    def value(self, key: str) -> Any:
        """The one value of a context key; None when it is missing or ill-typed."""
        values = self.context.get(key)
        return values[0] if values else None

    def text(self, key: str) -> str:
        """The one string of a context key; empty when it is missing or ill-typed."""
        return to_text(self.value(key) or b"")

    def column(self, key: str) -> list[Any]:
        """The one value of each step of a feature list; empty when it is missing or ill-typed."""
        return [step[0] for step in self.steps.get(key, ())]

    @cached_property
    def valid_frames(self) -> int:
        """How many frames are not padding, by what the record says, within bounds."""
        said = self.value(keys.VALID_FRAMES)
        return self.spec.num_frames if said is None else min(max(said, 0), self.spec.num_frames)

    @cached_property
    def timestamps(self) -> list[int]:
        """Of every frame, padding included."""
        return self.column(keys.IMAGE_TIMESTAMP)

    @cached_property
    def images(self) -> list[bytes]:
        """Every stored picture, padding included."""
        return self.column(keys.IMAGE_ENCODED)

    @cached_property
    def pictures(self) -> Pictures | None:
        """What is known of every stored picture, padding included; None when there is none."""
        if self.spec.image is None or not self.images:
            return None
        return (self._reader or PictureReader(self.spec.image)).read(self.images)

    def label_strings(self, values: Sequence[bytes]) -> list[str]:
        """Stored strings as text."""
        return [to_text(value) for value in values]


def _read_context(example: example_pb2.SequenceExample, feature: Feature) -> list[Any]:
    """`context_values`, for one value that is there without another look."""
    if not feature.shape and feature.key in example.context.feature:
        stored = getattr(example.context.feature[feature.key], _LISTS[feature.kind]).value
        if len(stored) == 1:
            return list(stored)
    return context_values(example, feature)


def _read_steps(
    example: example_pb2.SequenceExample, feature: Feature, count: int
) -> list[list[Any]]:
    """`step_values`, without a look at each step where all are as they should be."""
    name = _LISTS[feature.kind]
    wanted = feature.shape[0] if feature.shape else 1
    if wanted and feature.key in example.feature_lists.feature_list:
        steps = example.feature_lists.feature_list[feature.key].feature
        # A list with values in it is the one that is set.
        values = [list(getattr(step, name).value) for step in steps]
        if len(values) == count and all(len(step) == wanted for step in values):
            return values
    return step_values(example, feature, count)


def to_text(data: bytes) -> str:
    """Stored bytes as text; bytes that are not UTF-8 become surrogate escapes, as file names' do."""
    return data.decode("utf-8", "surrogateescape")


def value_columns(record: RecordView) -> dict[str, list[float]]:
    """By name (``target speed``, ``signal IMU[2]``), the float values of a record: one, or one a frame."""
    columns: dict[str, list[float]] = {}
    names = record.spec.label.target_names
    values = record.context.get(keys.LABEL_VALUE)
    rows = [values] if values else record.steps.get(keys.FRAME_LABEL_VALUE, [])
    for place, name in enumerate(names):
        if rows:
            columns[target_column(name)] = [row[place] for row in rows]
    for signal in record.spec.signals:
        rows = record.steps.get(keys.signal_floats_key(signal.name), [])
        for place in range(signal.size if rows else 0):
            columns[signal_column(signal.name, place)] = [row[place] for row in rows]
    return columns


def target_column(name: str) -> str:
    """What `value_columns` calls a regression target."""
    return f"target {name}"


def signal_column(name: str, component: int) -> str:
    """What `value_columns` calls a component of an input signal."""
    return f"signal {name}[{component}]"
