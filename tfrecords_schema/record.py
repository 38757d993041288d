"""Holds one record as Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


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
