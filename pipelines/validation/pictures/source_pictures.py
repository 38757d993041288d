"""Records beside their sources: what each shows at its times is decoded again, in a decoder process."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.errors import UserError
from pipelines.images.frame_names import is_image
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.validation.pictures.thumbnails import FrameError, decode_frame
from pipelines.validation.times import MICROSECONDS
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import decode_record
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec

_GRID = (16, 16)
_CODED_TWICE = 3.0
"""Levels by which sixteenths of a picture may differ, on average, when another version coded it."""
_ALIKE = 3.0
"""What is another picture, or has red and blue swapped, is as many times less like the one than the other."""
_LATE = 2e-6
"""Seconds after a sample's time, which is rounded to microseconds, at which it is asked for."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a record shows beside what its source shows.

    Attributes:
        frames: that were compared.
        swapped: the first frame that is like the source's once red and blue are exchanged; None for none.
        unlike: the first frame that is not the source's at its time, and what is known of it.
        absent: why there is nothing to compare with; empty when there is.
    """

    frames: int = 0
    swapped: int | None = None
    unlike: tuple[int, str] | None = None
    absent: str = ""


@dataclass
class SourceReader:
    """Makes records again of sources below ``root``; for use by one thread, as a context."""

    root: str
    info: DatasetInfo
    timeout: float = 60.0
    _decoder: DecoderProcess = field(init=False, repr=False)
    _origins: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> SourceReader:
        self._decoder = DecoderProcess(timeout=self.timeout)
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def compare(self, record: RecordView) -> Compared:
        """Looks at a record in which no key is missing."""
        image, times = record.spec.image, record.timestamps[: record.valid_frames]
        path = _find(self.root, record.text(keys.DATA_PATH))
        if image is None or not times or path is None:
            return Compared(absent="its source is not there")
        try:
            shown = self._decode(path, record)
            stored = {
                place: _grid(decode_frame(record.images[place], image))
                for place, time in enumerate(times)
                if time in shown
            }
        except (DecodingFailure, FrameError, UserError) as error:
            return Compared(absent=f"it cannot be compared: {error}")
        if not stored:
            if not record.text(keys.MEDIA_ID).startswith(record.text(keys.DATA_PATH)):
                return Compared(absent="it is not of the first of its drive's files")
            said = f"its source has no frame at {times[0] / MICROSECONDS:.3f} s, as it says"
            return Compared(unlike=(0, said))
        return _compare(stored, times, shown)

    def _decode(self, path: str, record: RecordView) -> dict[int, NDArray[np.int16]]:
        """By timestamp, what the source shows there, at the dataset's size."""
        windows, rate = record.expected.sampling == "windows", record.spec.frame_rate
        by_rate = rate is not None and (windows or os.path.isdir(path))
        start = _start(record) if by_rate else record.timestamps[0]
        if path not in self._origins:
            first = self._ask(path, None, 1, by_rate=by_rate)
            self._origins[path] = first[0][0] if first else 0
        seconds = (start - self._origins[path]) / MICROSECONDS
        # One frame, where frames are not at even times.
        count = record.valid_frames if windows else 1
        shown = self._ask(path, seconds + _LATE if seconds > 0 else None, count, by_rate=by_rate)
        return {time: _grid(pixels) for time, pixels in shown}

    def _ask(
        self, path: str, start: float | None, count: int, *, by_rate: bool
    ) -> list[tuple[int, NDArray[np.uint8]]]:
        """Frames of a source from ``start`` on, seconds after its first, and their timestamps."""
        options, spec = self.info.options, self.info.spec
        image = _image_options(options, spec.image)
        rate = spec.frame_rate if by_rate else None
        request = BuildRequest(
            segment=Segment(
                source=Source(
                    id="source",
                    path=path,
                    data_path="source",
                    group="source",
                    start=start,
                    kind="frames" if os.path.isdir(path) else "video",
                ),
                end_slot=1,
            ),
            spec=SequenceSpec(
                num_frames=count, frame_rate=rate, image=image.spec, label=LabelSpec()
            ),
            dataset_name="source",
            sampling=SamplingOptions(
                num_frames=count,
                frame_rate=None if rate is None else _exact_rate(options, rate),
                short_clips="pad",
            ),
            image=image,
        )
        made: list[bytes] = []
        self._decoder.build(request, made.append)
        records = [decode_record(data, request.spec) for data in made]
        return [
            (time, decode_frame(frame, image.spec))
            for own in records
            for time, frame in zip(own.timestamps, own.frames, strict=True)
        ]


def _find(root: str, data_path: str) -> str | None:
    """The file that a record is of, or the folder that holds its frames; None when it is not there."""
    path = os.path.normpath(os.path.join(root, data_path))
    if os.path.isabs(data_path) or os.pardir in data_path.split("/") or not os.path.exists(path):
        return None
    if not os.path.isdir(path):
        return path
    # A sample is its annotation and a folder of frames (see `pipelines.sources.image_folders`).
    for folder in (path, *(entry.path for entry in os.scandir(path) if entry.is_dir())):
        if any(is_image(name) for name in os.listdir(folder)):
            return folder
    return None


def _start(record: RecordView) -> int:
    """When the record's first sample was taken, by its id; its first timestamp, where that does not say."""
    source, _, stated = record.text(keys.EXAMPLE_ID).rpartition("@")
    named = source == record.text(keys.MEDIA_ID) and stated.isdecimal()
    return int(stated) if named else record.timestamps[0]


def _compare(
    stored: dict[int, NDArray[np.int16]], times: list[int], shown: dict[int, NDArray[np.int16]]
) -> Compared:
    for place, grid in stored.items():
        apart = _apart(grid, shown[times[place]])
        if apart <= _CODED_TWICE / 2:
            continue
        if grid.shape[-1] == 3 and _apart(grid[:, :, ::-1], shown[times[place]]) * _ALIKE < apart:
            return Compared(frames=len(stored), swapped=place)
        time, nearest = min(
            ((time, _apart(grid, other)) for time, other in shown.items()), key=lambda pair: pair[1]
        )
        if nearest * _ALIKE < apart:
            said = f"is what its source shows at {time / MICROSECONDS:.3f} s"
            return Compared(frames=len(stored), unlike=(place, said))
        if apart > _CODED_TWICE:
            said = f"differs by {apart:.0f} levels from what its source shows then"
            return Compared(frames=len(stored), unlike=(place, said))
    return Compared(frames=len(stored))


def _apart(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    return float(np.abs(one - other).mean())


def _grid(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    small = cv2.resize(pixels, _GRID, interpolation=cv2.INTER_AREA)
    return small.reshape(*_GRID, -1).astype(np.int16)


def _image_options(options: dict[str, Any], spec: ImageSpec | None) -> ImageOptions:
    """How pictures were made; the usual way, where a dataset from elsewhere does not say."""
    assert spec is not None
    said = {
        name: options[name]
        for name in ("resize", "interpolation", "jpeg_quality")
        if name in options
    }
    return ImageOptions(
        height=spec.height,
        width=spec.width,
        image_format="jpeg" if spec.format == "JPEG" else "png",
        grayscale=spec.channels == 1,
        **said,
    )


def _exact_rate(options: dict[str, Any], rate: float | None) -> Fraction:
    said = options.get("frame_rate")
    return (
        Fraction(said) if isinstance(said, str) else Fraction(rate or 0).limit_denominator(10_000)
    )
