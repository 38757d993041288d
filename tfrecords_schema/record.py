"""Holds and checks one record as Python values."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfrecords_schema import spec as keys
from tfrecords_schema.spec import SequenceSpec, SpecError


@dataclass(frozen=True, kw_only=True)
class SequenceRecord:
    """One labelled sequence of ``num_frames`` frames.

    Example: 16 frames at 10 frames/s from second 2 on, the last 4 of them padding, with class 0 of
    ``("run", "walk")``::

        SequenceRecord(
            id="run/a.mp4@2000000", dataset_name="actions", data_path="run/a.mp4",
            media_id="run/a.mp4", group_id="run/a.mp4",
            timestamps=[2_000_000 + min(i, 11) * 100_000 for i in range(16)],
            frame_rate=10.0, valid_frames=12, frames=[jpeg, ...],
            label_indices=[0], label_strings=["run"],
        )

    Text from file names may hold surrogate escapes (`os.fsdecode`), which are written as the original bytes.

    Attributes:
        id: unique in the dataset: media id and start time.
        dataset_name: the dataset's name.
        data_path: the source's path relative to the input root.
        media_id: the source's id.
        group_id: person, drive or original video; records of one group are in one split.
        timestamps: presentation time of each of ``num_frames`` frames in its source, microseconds.
        frame_rate: frames/s after sampling.
        valid_frames: frames from this index on are padding.
        frames: ``num_frames`` encoded images; empty in a dataset of signals only.
        label_indices, label_strings: the class of the sequence, or its classes (multi-label).
        label_values: regression targets of the sequence.
        frame_label_indices, frame_label_strings: the class of each frame.
        frame_label_values: regression targets of each frame.
        signals: by name, the values of each frame.
        signal_timestamps: by name, the time of each frame's values, microseconds.
    """

    id: str
    dataset_name: str
    data_path: str
    media_id: str
    group_id: str
    timestamps: Sequence[int]
    frame_rate: float
    valid_frames: int
    frames: Sequence[bytes] = ()
    label_indices: Sequence[int] = ()
    label_strings: Sequence[str] = ()
    label_values: Sequence[float] = ()
    frame_label_indices: Sequence[int] = ()
    frame_label_strings: Sequence[str] = ()
    frame_label_values: Sequence[Sequence[float]] = ()
    signals: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    signal_timestamps: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def start_timestamp(self) -> int:
        """Presentation time of the first frame, microseconds."""
        return self.timestamps[0]

    @property
    def end_timestamp(self) -> int:
        """Presentation time of the last frame that is not padding, microseconds."""
        return self.timestamps[self.valid_frames - 1]


def check_record(record: SequenceRecord, spec: SequenceSpec) -> None:
    """Checks that the values of a record agree with each other and with ``spec``, beyond types and shapes.

    Raises:
        SpecError: naming the record and the key, if padding starts outside of the sequence, a class is not in
            the spec, or ``spec`` has no key for some of the values.
    """

    def refuse(key: str, problem: str) -> SpecError:
        return SpecError(f"record {record.id}: {key} {problem}")

    if len(record.timestamps) != spec.num_frames:
        steps = len(record.timestamps)
        raise refuse(keys.IMAGE_TIMESTAMP, f"must have {spec.num_frames} steps, got {steps}")
    if record.valid_frames not in range(1, spec.num_frames + 1):
        raise refuse(
            keys.VALID_FRAMES, f"must be 1 to {spec.num_frames}, got {record.valid_frames}"
        )
    known = _known_keys(spec)
    held: dict[str, Sequence[Any]] = {
        keys.IMAGE_ENCODED: record.frames,
        keys.LABEL_INDEX: record.label_indices,
        keys.LABEL_STRING: record.label_strings,
        keys.LABEL_VALUE: record.label_values,
        keys.FRAME_LABEL_INDEX: record.frame_label_indices,
        keys.FRAME_LABEL_STRING: record.frame_label_strings,
        keys.FRAME_LABEL_VALUE: record.frame_label_values,
        **{keys.signal_floats_key(name): values for name, values in record.signals.items()},
        **{keys.signal_timestamp_key(name): t for name, t in record.signal_timestamps.items()},
    }
    for key, values in held.items():
        if key not in known and len(values):
            raise refuse(key, f"is not in the spec, got {len(values)} values")
    classes = spec.label.class_names
    for index_key, string_key in (
        (keys.LABEL_INDEX, keys.LABEL_STRING),
        (keys.FRAME_LABEL_INDEX, keys.FRAME_LABEL_STRING),
    ):
        for index in held[index_key]:
            if index not in range(len(classes)):
                raise refuse(index_key, f"must be 0 to {len(classes) - 1}, got {index}")
        names = [classes[index] for index in held[index_key]]
        if names != list(held[string_key]):
            raise refuse(string_key, f"must be {names} as the indices say, got {held[string_key]}")


# Usually, consecutive records have the same spec.
@functools.lru_cache(maxsize=4)
def _known_keys(spec: SequenceSpec) -> frozenset[str]:
    return frozenset(feature.key for feature in (*spec.context_features(), *spec.feature_lists()))
