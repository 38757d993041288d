"""`RecordView`: one stored record as checks see it, however wrong it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.validation.images import FrameFacts, examine_frame
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import context_values, parse_example, step_values
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import SequenceSpec, SpecError


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a dataset says of all its records.

    Attributes:
        dataset_name: from ``dataset_info.json``.
        spec: of its records.
        sampling: ``windows`` or ``uniform``.
        short_clips: ``drop``, ``pad`` or ``loop``; empty when the dataset does not say.
        thresholds: of the checks.
    """

    dataset_name: str
    spec: SequenceSpec
    sampling: str = "windows"
    short_clips: str = ""
    thresholds: Thresholds = DEFAULTS


def expectation(info: DatasetInfo, thresholds: Thresholds) -> Expectation:
    """What ``info`` says of its records."""
    # Options are whatever the builder wrote; a dataset from elsewhere may have none.
    return Expectation(
        dataset_name=info.name,
        spec=info.spec,
        sampling=str(info.options.get("sampling", "windows")),
        short_clips=str(info.options.get("short_clips", "")),
        thresholds=thresholds,
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

    def __init__(self, data: bytes, expected: Expectation):
        self.data = data
        self.expected = expected
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
                self.context[feature.key] = context_values(example, feature)
            except SpecError as problem:
                self.problems.append(str(problem))
        for feature in spec.feature_lists():
            try:
                self.steps[feature.key] = step_values(example, feature, spec.num_frames)
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

    @property
    def valid_frames(self) -> int:
        """How many frames are not padding, by what the record says, within bounds."""
        said = self.value(keys.VALID_FRAMES)
        return self.spec.num_frames if said is None else min(max(said, 0), self.spec.num_frames)

    @property
    def timestamps(self) -> list[int]:
        """Of every frame, padding included."""
        return self.column(keys.IMAGE_TIMESTAMP)

    @property
    def images(self) -> list[bytes]:
        """Every stored picture, padding included."""
        return self.column(keys.IMAGE_ENCODED)

    @cached_property
    def frames(self) -> Sequence[FrameFacts]:
        """Facts about every stored picture, padding included; each picture is decoded once."""
        image = self.spec.image
        if image is None:
            return ()
        known: dict[bytes, FrameFacts] = {}
        for data in self.images:
            if data not in known:
                known[data] = examine_frame(data, image)
        return [known[data] for data in self.images]

    def label_strings(self, values: Sequence[bytes]) -> list[str]:
        """Stored strings as text."""
        return [to_text(value) for value in values]


def to_text(data: bytes) -> str:
    """Stored bytes as text; bytes that are not UTF-8 become surrogate escapes, as file names' do."""
    return data.decode("utf-8", "surrogateescape")
