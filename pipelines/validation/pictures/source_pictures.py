"""Compares records with their sources, which a decoder process decodes again."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.errors import UserError
from pipelines.images.frame_names import is_image
from pipelines.options.dataset import FootageOptions, ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.validation.pictures.thumbnails import FrameError, decode_frame
from pipelines.validation.times import MICROSECONDS, format_seconds
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.examples import decode_record
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import LabelSpec, SequenceSpec

_GRID = (16, 16)
_CODING_NOISE = 3.0
"""Mean difference, in levels, of the grids of a picture that two versions of an encoder coded."""
_ALIKE = 3.0
"""A picture is another one, or has red and blue swapped, if that is so many times more alike."""
_ROUNDING_MARGIN = 2e-6
"""Seconds after a frame's time at which it is looked for, as stored times are rounded to microseconds."""

Grid = NDArray[np.int16]


class Comparison(NamedTuple):
    """A record compared with its source: what was found, in words.

    ``swapped`` is a frame with red and blue swapped, ``unlike`` one that is not the source's, ``missing`` the
    reason why the record could not be compared.
    """

    kind: Literal["alike", "swapped", "unlike", "missing"]
    message: str = ""


class SourceReader:
    """Decodes frames of the sources below ``root`` again; for one thread."""

    def __init__(self, root: str, info: DatasetInfo):
        self._root = root
        self._info = info
        self._decoder = DecoderProcess(timeout=60)
        self._origins: dict[str, int] = {}

    def close(self) -> None:
        """Ends the decoder process."""
        self._decoder.close()

    def compare(self, record: RecordView) -> Comparison:
        """Compares a record that has every key of its spec."""
        image, times = record.spec.image, record.shown_times
        path = _find_source(self._root, record.text(keys.DATA_PATH))
        if image is None or not times or path is None:
            return Comparison("missing", "its source does not exist")
        try:
            shown = self._decode_at(path, record)
            stored = {
                index: _to_grid(decode_frame(record.images[index], image))
                for index, time in enumerate(times)
                if time in shown
            }
        except (DecodingFailure, FrameError, UserError) as error:
            return Comparison("missing", f"it cannot be decoded: {error}")
        if stored:
            return _compare_grids(stored, times, shown)
        if not record.text(keys.MEDIA_ID).startswith(record.text(keys.DATA_PATH)):
            return Comparison("missing", "it is not from the first file of its drive")
        return Comparison("unlike", f"its source has no frame at {format_seconds(times[0])}")

    def _decode_at(self, path: str, record: RecordView) -> dict[int, Grid]:
        """Returns the source's frames at the record's times, by timestamp; only the first of uneven times."""
        is_windows, rate = record.expected.by_windows, record.spec.frame_rate
        start = record.timestamps[0]
        if not is_windows and not os.path.isdir(path):
            rate = None  # uneven times of a video are looked for among all of its frames
        if rate is not None:
            # An id is "SOURCE@MICROSECONDS": the time asked for, which a frame's own may lie behind.
            source, _, asked_for = record.text(keys.EXAMPLE_ID).rpartition("@")
            if source == record.text(keys.MEDIA_ID) and asked_for.isdecimal():
                start = int(asked_for)
        if path not in self._origins:
            first = self._decode(path, None, count=1, rate=rate)
            self._origins[path] = first[0][0] if first else 0
        seconds = (start - self._origins[path]) / MICROSECONDS
        start_time = seconds + _ROUNDING_MARGIN if seconds > 0 else None
        count = record.valid_frames if is_windows else 1
        decoded = self._decode(path, start_time, count=count, rate=rate)
        return {time: _to_grid(pixels) for time, pixels in decoded}

    def _decode(
        self, path: str, start: float | None, *, count: int, rate: float | None
    ) -> list[tuple[int, NDArray[np.uint8]]]:
        """Returns timestamps and frames of a source from ``start`` on, in seconds after its first frame."""
        options, image = self._info.build_options, _image_options(self._info)
        exact = None
        if rate is not None:
            exact = options.frame_rate or Fraction(rate).limit_denominator(10_000)
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
                frame_rate=exact,
                frame_times="names" if options.frame_times == "names" else "rate",
                short_clips="pad",
            ),
            footage=FootageOptions(
                source_rate=options.source_rate, video_stream=options.video_stream
            ),
            image=image,
        )
        return [
            (time, decode_frame(frame, image.spec))
            for data in self._decoder.records(request)
            for record in [decode_record(data, request.spec)]
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


def _compare_grids(stored: dict[int, Grid], times: list[int], shown: dict[int, Grid]) -> Comparison:
    """Compares stored frames, by index, with those of the source, by timestamp."""
    for index, grid in stored.items():
        own = _difference(grid, shown[times[index]])
        if own <= _CODING_NOISE / 2:
            continue
        if grid.shape[-1] == 3:
            swapped = _difference(grid[:, :, ::-1], shown[times[index]])
            if swapped * _ALIKE < own:
                message = f"frame {index} has red and blue of its source swapped"
                return Comparison("swapped", message)
        nearest, time = min((_difference(grid, other), time) for time, other in shown.items())
        if nearest * _ALIKE < own:
            place = format_seconds(time)
            return Comparison("unlike", f"frame {index} is what its source shows at {place}")
        if own > _CODING_NOISE:
            difference = f"frame {index} differs by {own:.0f} levels from its source at that time"
            return Comparison("unlike", difference)
    return Comparison("alike")


def _difference(one: Grid, other: Grid) -> float:
    return float(np.abs(one - other).mean())


def _to_grid(pixels: NDArray[np.uint8]) -> Grid:
    """Returns a picture shrunk to ``[16, 16, channels]``."""
    small = cv2.resize(pixels, _GRID, interpolation=cv2.INTER_AREA)
    return small.reshape(*_GRID, -1).astype(np.int16)


def _image_options(info: DatasetInfo) -> ImageOptions:
    """Returns how the pictures were made; defaults for what a dataset of another writer does not say."""
    options, spec = info.build_options, info.spec.image
    assert spec is not None
    names = ("resize", "interpolation", "jpeg_quality", "crop_region", "mask")
    return ImageOptions(
        size=(spec.height, spec.width),
        image_format="jpeg" if spec.format == "JPEG" else "png",
        grayscale=spec.channels == 1,
        **{name: own for name in names if (own := getattr(options, name)) is not None},
    )
