"""`RecordView`: a stored record for the checks to examine, with whatever errors it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.datasets.completing import complete
from pipelines.validation.pictures.thumbnails import PictureReader, Pictures
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from pipelines.validation.times import until_first_decrease
from tfrecords_schema import spec as keys
from tfrecords_schema.examples import context_values, parse_example, step_values
from tfrecords_schema.info import BuildOptions, DatasetInfo
from tfrecords_schema.spec import SequenceSpec, SpecError

_TARGET = "target "


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """The facts about the records of a dataset that are known before they are read.

    Attributes:
        info: description of the dataset. Those of other writers may have no options.
        thresholds: of the checks.
        other: description of a dataset to compare with; None for none.
        sources: folder of the sources to compare records with; None for none.
        seed: of random samples.
    """

    info: DatasetInfo
    thresholds: Thresholds = DEFAULTS
    other: DatasetInfo | None = None
    sources: str | None = None
    seed: int = 0

    @property
    def spec(self) -> SequenceSpec:
        """The spec of the records."""
        return self.info.spec

    @cached_property
    def options(self) -> BuildOptions:
        """The options of the build."""
        return self.info.build_options

    @property
    def by_windows(self) -> bool:
        """True if records are windows of consecutive samples, which other programs' may not be."""
        return self.options.sampling == "windows" and not self.info.adopted

    @cached_property
    def num_records(self) -> int:
        """Number of records by ``dataset_info.json``."""
        return sum(split.num_records for split in self.info.splits.values())

    @cached_property
    def angles(self) -> frozenset[str]:
        """Columns in degrees, in which 359 is next to 0: those built as angles, or with such a unit.

        A name is taken both as a target and as a signal, since a name of neither does no harm.
        """
        label, angles = self.spec.label, set(self.options.angle_columns)
        units = dict(zip(label.target_names, label.target_units, strict=False))
        units |= {signal.name: signal.unit for signal in self.spec.signals}
        angles |= {name for name, unit in units.items() if unit in ("deg", "degrees", "\u00b0")}
        return frozenset(map(target_column, angles)) | {signal_column(name, 0) for name in angles}

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of targets, in both datasets, by column."""
        bounds: dict[str, list[float]] = {}
        for info in (self.info, self.other or self.info):
            for split in info.splits.values():
                for name, own in zip(info.spec.label.target_names, split.targets, strict=False):
                    bounds.setdefault(target_column(name), []).extend((own.min, own.max))
        return {column: (min(values), max(values)) for column, values in bounds.items()}

    @cached_property
    def labels_whole_sources(self) -> bool:
        """True if all records of a source have the same one class."""
        label = self.spec.label
        by_record = label.task == "classification" and not label.per_frame
        return by_record and self.options.labels_whole_sources and not self.info.adopted


class RecordView:
    """A stored record, parsed as far as possible.

    Keys that are missing or have the wrong type are left out, and named in ``problems``:

        record = RecordView(data, Expectation(info=info))
        record.value("clip/media_id")  # b"drive.mp4"
        record.timestamps  # [0, 100000, 200000, 300000]

    Attributes:
        data: bytes of the record; of another program's, as readers complete it.
        expected: what is known of its dataset.
        context: values of each key of the context.
        steps: values of each step of each feature list, by key.
        problems: errors of its keys, their types and shapes, one line each.
    """

    def __init__(
        self,
        data: bytes,
        expected: Expectation,
        reader: PictureReader | None = None,
        place: str = "",
    ):
        self.data = data
        self.expected = expected
        self._reader = reader
        self.context: dict[str, list[Any]] = {}
        self.steps: dict[str, list[list[Any]]] = {}
        self.problems: list[str] = []
        try:
            if expected.info.adopted:
                name = expected.info.name
                self.data = complete(data, expected.spec, dataset_name=name, place=place)
            example = parse_example(self.data)
        except SpecError as problem:
            self.problems.append(str(problem))
            return
        for feature in self.spec.context_features():
            try:
                self.context[feature.key] = context_values(example, feature)
            except SpecError as problem:
                self.problems.append(str(problem))
        for feature in self.spec.feature_lists():
            try:
                self.steps[feature.key] = step_values(example, feature, self.spec.num_frames)
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
    def shown_times(self) -> list[int]:
        """Timestamps without padding."""
        return self.timestamps[: self.valid_frames]

    @cached_property
    def lap(self) -> Sequence[int]:
        """Timestamps without padding, up to where they first go back: the first round of a looped clip."""
        return until_first_decrease(self.shown_times)

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

    @cached_property
    def intact_pictures(self) -> Pictures | None:
        """The pictures without padding; None if there are none, or one of the record has a problem."""
        pictures = self.pictures
        if pictures is None or any(pictures.problems) or not self.valid_frames:
            return None
        return pictures if self.valid_frames == len(pictures) else pictures.first(self.valid_frames)

    @cached_property
    def value_columns(self) -> dict[str, list[float]]:
        """Values, one or one per frame, of each column such as ``target speed`` or ``signal IMU[2]``."""
        columns: dict[str, list[float]] = {}
        values = self.context.get(keys.LABEL_VALUE)
        rows = [values] if values else self.steps.get(keys.FRAME_LABEL_VALUE, [])
        for index, name in enumerate(self.spec.label.target_names if rows else ()):
            columns[target_column(name)] = [row[index] for row in rows]
        for signal in self.spec.signals:
            rows = self.steps.get(keys.signal_floats_key(signal.name), [])
            for index in range(signal.size if rows else 0):
                columns[signal_column(signal.name, index)] = [row[index] for row in rows]
        return columns


def to_text(data: bytes) -> str:
    """Returns stored bytes as text; bytes that are not UTF-8 become surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")


def target_column(name: str) -> str:
    """Returns the name of a regression target in `RecordView.value_columns`."""
    return f"{_TARGET}{name}"


def is_target_column(column: str) -> bool:
    """Returns True if a column of `RecordView.value_columns` is a regression target."""
    return column.startswith(_TARGET)


def signal_column(name: str, component: int) -> str:
    """Returns the name of a component of an input signal in `RecordView.value_columns`."""
    return f"signal {name}[{component}]"
