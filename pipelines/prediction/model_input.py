"""What a model takes of each record, as the trainer left it in ``reading.json``: which frames, at which size.

Frames are taken out of a record before anything is decoded, as the trainer's reader does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfrecords_schema.clip_positions import clip_span, clip_start
from tfrecords_schema.record import SequenceRecord
from tfrecords_schema.spec import SequenceSpec

READING_FILE = "reading.json"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The part of a sequence that a model takes.

    Attributes:
        num_frames: frames of a clip; None for the whole sequence as it is.
        frame_step: from one of its frames to the next.
        at: where it lies: ``first``, ``center`` or ``last``; or a number of clips, spread evenly, over which
            answers are averaged. Clips lie before the padding where they fit.
        image_size: height and width that frames are resized to; None leaves them.

    Raises:
        ValueError: when a value makes no sense.
    """

    num_frames: int | None = None
    frame_step: int = 1
    at: str | int = "first"
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        counts = [self.frame_step, *(self.image_size or ())]
        counts += [] if self.num_frames is None else [self.num_frames]
        counts += [] if self.at in ("first", "center", "last") else [self.at]
        # True is an int too, and no count.
        if any(type(count) is not int or count < 1 for count in counts):
            raise ValueError(f"{READING_FILE} makes no sense: {self}")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Reading:
        """What the file holds; raises TypeError or ValueError for anything else."""
        size = fields.get("image_size")
        return cls(**{**fields, "image_size": None if size is None else tuple(size)})

    @property
    def count(self) -> int:
        """Clips a sequence."""
        return self.at if isinstance(self.at, int) else 1

    def seen(self, spec: SequenceSpec) -> SequenceSpec:
        """The spec of what the model takes, of records of ``spec``."""
        spec = self.clip_spec(spec)
        if self.image_size is None or spec.image is None:
            return spec
        height, width = self.image_size
        image = dataclasses.replace(spec.image, height=height, width=width)
        return dataclasses.replace(spec, image=image)

    def clip_spec(self, spec: SequenceSpec) -> SequenceSpec:
        """The spec of a clip of a record of ``spec``, its frames as they are stored.

        Raises:
            ValueError: when records are too short for one.
        """
        if self.num_frames is None:
            return spec
        if self._span > spec.num_frames:
            raise ValueError(f"{READING_FILE}: records of {spec.num_frames} frames hold no {self}")
        return dataclasses.replace(spec, num_frames=self.num_frames)

    def clips(self, whole: SequenceRecord) -> list[SequenceRecord]:
        """The clips of a record, one after the other."""
        if self.num_frames is None:
            return [whole]
        return [
            _take(whole, [start + i * self.frame_step for i in range(self.num_frames)])
            for start in self.starts(whole.valid_frames)
        ]

    def starts(self, valid_frames: int) -> list[int]:
        """The first frame of each clip of a sequence with so many frames before its padding."""
        room = max(valid_frames - self._span, 0)
        return [clip_start(room, self.at, clip) for clip in range(self.count)]

    @property
    def _span(self) -> int:
        return clip_span(self.num_frames or 1, self.frame_step)


def _take(whole: SequenceRecord, indices: Sequence[int]) -> SequenceRecord:
    """A record without labels of these frames of another."""

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
