"""Compares records with their sources, which a decoder process decodes again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction

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
from pipelines.validation.times import MICROSECONDS, format_seconds
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.examples import decode_record
from tfrecords_schema.info import BuildOptions, DatasetInfo
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec

_GRID = (16, 16)
_CODING_NOISE = 3.0
"""Mean difference, in levels, of the grids of a picture that two versions of an encoder coded."""
_ALIKE = 3.0
"""A picture is another one, or has red and blue swapped, if that is so many times more alike."""
_DELAY = 2e-6
"""Seconds after a sample's time, which is rounded to microseconds, at which it is asked for."""

Grid = NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A record compared with its source.

    Attributes:
        swapped: first frame that is the source's with red and blue swapped; None for none.
        unlike: what is wrong with the first frame that is not the source's; None if all are.
        missing: why the record could not be compared; empty if it was.
    """

    swapped: int | None = None
    unlike: str | None = None
    missing: str = ""


@dataclass
class SourceReader:
    """Decodes frames of the sources below ``root`` again. A context manager, for one thread."""

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

    def compare(self, record: RecordView) -> Comparison:
        """Compares a record that has every key of its spec."""
        image, times = record.spec.image, record.timestamps[: record.valid_frames]
        path = _find_source(self.root, record.text(keys.DATA_PATH))
        if image is None or not times or path is None:
            return Comparison(missing="its source does not exist")
        try:
            shown = self._decode_at(path, record)
            stored = {
                index: _to_grid(decode_frame(record.images[index], image))
                for index, time in enumerate(times)
                if time in shown
            }
        except (DecodingFailure, FrameError, UserError) as error:
            return Comparison(missing=f"it cannot be decoded: {error}")
        if stored:
            return _compare_grids(stored, times, shown)
        if not record.text(keys.MEDIA_ID).startswith(record.text(keys.DATA_PATH)):
            return Comparison(missing="it is not from the first file of its drive")
        return Comparison(unlike=f"its source has no frame at {format_seconds(times[0])}")

    def _decode_at(self, path: str, record: RecordView) -> dict[int, Grid]:
        """Returns the source's frames at the record's times, by timestamp."""
        is_windows, rate = record.expected.options.sampling == "windows", record.spec.frame_rate
        by_rate = rate is not None and (is_windows or os.path.isdir(path))
        start = _start_time(record) if by_rate else record.timestamps[0]
        if path not in self._origins:
            first = self._decode(path, None, 1, by_rate=by_rate)
            self._origins[path] = first[0][0] if first else 0
        seconds = (start - self._origins[path]) / MICROSECONDS
        # If frames are not at even times, only the first time is known.
        count = record.valid_frames if is_windows else 1
        start_time = seconds + _DELAY if seconds > 0 else None
        return {
            time: _to_grid(pixels)
            for time, pixels in self._decode(path, start_time, count, by_rate=by_rate)
        }

    def _decode(
        self, path: str, start: float | None, count: int, *, by_rate: bool
    ) -> list[tuple[int, NDArray[np.uint8]]]:
        """Returns timestamps and frames of a source from ``start`` on, in seconds after its first frame."""
        options, spec = self.info.build_options, self.info.spec
        image = _image_options(options, spec.image)
        rate = spec.frame_rate if by_rate else None
        source = Source(
            id="source",
            path=path,
            data_path="source",
            group="source",
            start=start,
            kind="frames" if os.path.isdir(path) else "video",
        )
        request = BuildRequest(
            segment=Segment(source=source, end_slot=1),
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
        built: list[bytes] = []
        self._decoder.build(request, built.append)
        return [
            (time, decode_frame(frame, image.spec))
            for record in (decode_record(data, request.spec) for data in built)
            for time, frame in zip(record.timestamps, record.frames, strict=True)
        ]


def _find_source(root: str, data_path: str) -> str | None:
    """Returns a record's source: a file, or a folder of frames; None if it does not exist below ``root``."""
    path = os.path.normpath(os.path.join(root, data_path))
    if os.path.isabs(data_path) or os.pardir in data_path.split("/") or not os.path.exists(path):
        return None
    if not os.path.isdir(path):
        return path
    # A sample is an annotation and a folder of frames (see `pipelines.sources.sample_folders`).
    for folder in (path, *(entry.path for entry in os.scandir(path) if entry.is_dir())):
        if any(is_image(name) for name in os.listdir(folder)):
            return folder
    return None


def _start_time(record: RecordView) -> int:
    """Returns the time of the record's first sample by its id, or else its first timestamp."""
    source, _, start = record.text(keys.EXAMPLE_ID).rpartition("@")
    is_named = source == record.text(keys.MEDIA_ID) and start.isdecimal()
    return int(start) if is_named else record.timestamps[0]


def _compare_grids(stored: dict[int, Grid], times: list[int], shown: dict[int, Grid]) -> Comparison:
    """Compares stored frames, by index, with those of the source, by timestamp."""
    for index, grid in stored.items():
        own = _difference(grid, shown[times[index]])
        if own <= _CODING_NOISE / 2:
            continue
        if grid.shape[-1] == 3:
            swapped = _difference(grid[:, :, ::-1], shown[times[index]])
            if swapped * _ALIKE < own:
                return Comparison(swapped=index)
        nearest, time = min((_difference(grid, other), time) for time, other in shown.items())
        if nearest * _ALIKE < own:
            place = format_seconds(time)
            return Comparison(unlike=f"frame {index} is what its source shows at {place}")
        if own > _CODING_NOISE:
            difference = f"frame {index} differs by {own:.0f} levels from its source at that time"
            return Comparison(unlike=difference)
    return Comparison()


def _difference(one: Grid, other: Grid) -> float:
    return float(np.abs(one - other).mean())


def _to_grid(pixels: NDArray[np.uint8]) -> Grid:
    """Returns a picture shrunk to ``[16, 16, channels]``."""
    small = cv2.resize(pixels, _GRID, interpolation=cv2.INTER_AREA)
    return small.reshape(*_GRID, -1).astype(np.int16)


def _image_options(options: BuildOptions, spec: ImageSpec | None) -> ImageOptions:
    """Returns how the pictures were made; defaults for what a dataset of another writer does not say."""
    assert spec is not None
    names = ("resize", "interpolation", "jpeg_quality")
    return ImageOptions(
        size=(spec.height, spec.width),
        image_format="jpeg" if spec.format == "JPEG" else "png",
        grayscale=spec.channels == 1,
        **{name: own for name in names if (own := getattr(options, name)) is not None},
    )


def _exact_rate(options: BuildOptions, rate: float) -> Fraction:
    return options.frame_rate or Fraction(rate).limit_denominator(10_000)
