"""`RecordView`: a stored record for the checks to examine, with whatever errors it has."""

from __future__ import annotations

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
_TARGET = "target "


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """The statements of a dataset about all its records.

    Attributes:
        dataset_name: by ``dataset_info.json``.
        spec: of the records.
        sampling: ``windows`` or ``uniform``.
        short_clips: ``drop``, ``pad`` or ``loop``; empty if the dataset does not say.
        angles: columns (see `value_columns`) in degrees, in which 359 is next to 0.
        thresholds: of the checks.
    """

    dataset_name: str
    spec: SequenceSpec
    sampling: str = "windows"
    short_clips: str = ""
    angles: frozenset[str] = frozenset()
    thresholds: Thresholds = DEFAULTS


def expectation(info: DatasetInfo, thresholds: Thresholds) -> Expectation:
    """Returns what a dataset states about its records. Datasets of other writers may have no options."""
    return Expectation(
        dataset_name=info.name,
        spec=info.spec,
        sampling=info.build_options.sampling,
        short_clips=info.build_options.short_clips,
        angles=_angle_columns(info),
        thresholds=thresholds,
    )


def _angle_columns(info: DatasetInfo) -> frozenset[str]:
    """Returns the columns that hold angles: those built as angles, and targets and signals in degrees.

    A name is taken both as a target and as a signal, since a name of neither does no harm.
    """
    label, angles = info.spec.label, set(info.build_options.angle_columns)
    units = dict(zip(label.target_names, label.target_units, strict=False))
    units |= {signal.name: signal.unit for signal in info.spec.signals}
    angles |= {name for name, unit in units.items() if unit in ("deg", "degrees", "\u00b0")}
    return frozenset(map(target_column, angles)) | {signal_column(name, 0) for name in angles}


class RecordView:
    """A stored record, parsed as far as possible.

    Keys that are missing or have the wrong type are left out, and named in ``problems``:

        record = RecordView(data, expectation(info, DEFAULTS))
        record.value("clip/media_id")  # b"drive.mp4"
        record.timestamps  # [0, 100000, 200000, 300000]

    Attributes:
        data: bytes of the record.
        expected: what its dataset states about it.
        context: values of each key of the context.
        steps: values of each step of each feature list, by key.
        problems: errors of its keys, their types and shapes, one line each.
    """

    def __init__(self, data: bytes, expected: Expectation, reader: PictureReader | None = None):
        self.data = data
        self.expected = expected
        self._reader = reader
        self.context: dict[str, list[Any]] = {}
        self.steps: dict[str, list[list[Any]]] = {}
        self.problems: list[str] = []
        try:
            example = parse_example(data)
        except SpecError as problem:
            self.problems.append(str(problem))
            return
        for feature in self.spec.context_features():
            try:
                self.context[feature.key] = _read_context(example, feature)
            except SpecError as problem:
                self.problems.append(str(problem))
        for feature in self.spec.feature_lists():
            try:
                self.steps[feature.key] = _read_steps(example, feature, self.spec.num_frames)
            except SpecError as problem:
                self.problems.append(str(problem))

    @property
    def spec(self) -> SequenceSpec:
        """The dataset's spec."""
        return self.expected.spec

    def value(self, key: str) -> Any:
        """Returns the single value of a context key; None if it is missing or has the wrong type."""
        values = self.context.get(key)
        return values[0] if values else None

    def text(self, key: str) -> str:
        """Returns the single string of a context key; empty if it is missing or has the wrong type."""
        return to_text(self.value(key) or b"")

    def column(self, key: str) -> list[Any]:
        """Returns the single value of each step of a feature list; empty if it is missing or wrong."""
        return [step[0] for step in self.steps.get(key, ())]

    @cached_property
    def valid_frames(self) -> int:
        """Number of frames without padding by the record, clipped to the number of frames."""
        said = self.value(keys.VALID_FRAMES)
        return self.spec.num_frames if said is None else min(max(said, 0), self.spec.num_frames)

    @cached_property
    def timestamps(self) -> list[int]:
        """Timestamps of all frames, with padding."""
        return self.column(keys.IMAGE_TIMESTAMP)

    @cached_property
    def images(self) -> list[bytes]:
        """Encoded images of all frames, with padding."""
        return self.column(keys.IMAGE_ENCODED)

    @cached_property
    def pictures(self) -> Pictures | None:
        """Thumbnails and problems of all images, with padding; None if there are none."""
        if self.spec.image is None or not self.images:
            return None
        return (self._reader or PictureReader(self.spec.image)).read(self.images)


def _read_context(example: example_pb2.SequenceExample, feature: Feature) -> list[Any]:
    """Returns what `context_values` returns, by a short way for a scalar with one value of its kind."""
    if not feature.shape and feature.key in example.context.feature:
        stored = getattr(example.context.feature[feature.key], _LISTS[feature.kind]).value
        if len(stored) == 1:
            return list(stored)
    return context_values(example, feature)


def _read_steps(
    example: example_pb2.SequenceExample, feature: Feature, count: int
) -> list[list[Any]]:
    """Returns `step_values`, faster if all steps are correct."""
    name = _LISTS[feature.kind]
    wanted = feature.shape[0] if feature.shape else 1
    if wanted and feature.key in example.feature_lists.feature_list:
        steps = example.feature_lists.feature_list[feature.key].feature
        # A list that has values is the one that is set.
        values = [list(getattr(step, name).value) for step in steps]
        if len(values) == count and all(len(step) == wanted for step in values):
            return values
    return step_values(example, feature, count)


def to_text(data: bytes) -> str:
    """Returns stored bytes as text; bytes that are not UTF-8 become surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")


def value_columns(record: RecordView) -> dict[str, list[float]]:
    """Returns the targets and signals of a record: one value per column, or one per frame.

    Columns are called ``target speed`` or ``signal IMU[2]``.
    """
    columns: dict[str, list[float]] = {}
    values = record.context.get(keys.LABEL_VALUE)
    rows = [values] if values else record.steps.get(keys.FRAME_LABEL_VALUE, [])
    for index, name in enumerate(record.spec.label.target_names if rows else ()):
        columns[target_column(name)] = [row[index] for row in rows]
    for signal in record.spec.signals:
        rows = record.steps.get(keys.signal_floats_key(signal.name), [])
        for index in range(signal.size if rows else 0):
            columns[signal_column(signal.name, index)] = [row[index] for row in rows]
    return columns


def target_column(name: str) -> str:
    """Returns the name of a regression target in `value_columns`."""
    return f"{_TARGET}{name}"


def is_target_column(column: str) -> bool:
    """Returns True if a column of `value_columns` is a regression target."""
    return column.startswith(_TARGET)


def signal_column(name: str, component: int) -> str:
    """Returns the name of a component of an input signal in `value_columns`."""
    return f"signal {name}[{component}]"
