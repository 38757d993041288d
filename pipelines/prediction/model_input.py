"""Selects the part of a record that a model takes, as the trainer wrote it to ``reading.json``.

Frames are selected before anything is decoded, as in the trainer's reader.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfrecords_schema.clip_positions import MAX_CLIPS, clip_span, clip_start
from tfrecords_schema.examples import SequenceRecord
from tfrecords_schema.spec import SequenceSpec

READING_FILE = "reading.json"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The part of a sequence that a model takes: clips of its frames, at a size.

    Attributes:
        num_frames: frames per clip; None for the whole sequence.
        frame_step: distance from one of its frames to the next, in frames.
        at: position of the clip: ``first``, ``center`` or ``last``; or a number of clips, spread evenly,
            whose answers are averaged. Clips lie before the padding if they fit.
        image_size: height and width that frames are resized to; None keeps the stored size.

    Raises:
        ValueError: for a number below 1, another position, or too many clips.
    """

    num_frames: int | None = None
    frame_step: int = 1
    at: str | int = "first"
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        at = 1 if self.at in ("first", "center", "last") else self.at
        counts = [1 if self.num_frames is None else self.num_frames, self.frame_step]
        sizes = (*counts, *(self.image_size or ()))
        if isinstance(at, str) or min(sizes) < 1 or not 1 <= at <= MAX_CLIPS:
            raise ValueError(f"{READING_FILE} holds an invalid value: {self!s:.300}")

    @property
    def count(self) -> int:
        """Clips per sequence."""
        return self.at if isinstance(self.at, int) else 1

    def seen(self, spec: SequenceSpec) -> SequenceSpec:
        """Returns the spec of the model's input, for records of ``spec``."""
        spec = self.clip_spec(spec)
        if self.image_size is None or spec.image is None:
            return spec
        height, width = self.image_size
        image = dataclasses.replace(spec.image, height=height, width=width)
        return dataclasses.replace(spec, image=image)

    def clip_spec(self, spec: SequenceSpec) -> SequenceSpec:
        """Returns the spec of a clip, with the stored frame size, for records of ``spec``.

        Raises:
            ValueError: if a clip is longer than the records.
        """
        if self.num_frames is None:
            return spec
        if self._span > spec.num_frames:
            raise ValueError(
                f"{READING_FILE}: clips span {self._span} frames, but records have {spec.num_frames}"
            )
        return dataclasses.replace(spec, num_frames=self.num_frames)

    def clips(self, whole: SequenceRecord) -> list[SequenceRecord]:
        """Returns the clips of a record in order."""
        if self.num_frames is None:
            return [whole]
        return [
            _take(whole, [start + i * self.frame_step for i in range(self.num_frames)])
            for start in self.starts(whole.valid_frames)
        ]

    def starts(self, valid_frames: int) -> list[int]:
        """Returns the first frame of each clip of a sequence whose padding begins at ``valid_frames``."""
        room = max(valid_frames - self._span, 0)
        return [clip_start(room, self.at, clip) for clip in range(self.count)]

    @property
    def _span(self) -> int:
        return clip_span(self.num_frames or 1, self.frame_step)


def _take(whole: SequenceRecord, indices: Sequence[int]) -> SequenceRecord:
    """Returns a copy of a record without labels that holds only the frames at ``indices``."""

    def taken(steps: Sequence[Any]) -> list[Any]:
        return [steps[i] for i in indices] if steps else []

    return dataclasses.replace(
        whole,
        timestamps=taken(whole.timestamps),
        valid_frames=sum(i < whole.valid_frames for i in indices),
        frames=taken(whole.frames),
        signals={name: taken(steps) for name, steps in whole.signals.items()},
        signal_timestamps={name: taken(steps) for name, steps in whole.signal_timestamps.items()},
    )
