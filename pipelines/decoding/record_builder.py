"""Windows of frames to records, and what is counted on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from operator import add
from typing import Any, NamedTuple, TypeVar

from pipelines.decoding.clip import Clip
from pipelines.decoding.footage import Footage, FrameTime
from pipelines.decoding.measuring import MeasuredFrame, measured_columns
from pipelines.decoding.protocol import DISTANCES, BuildRequest, DecodingFailure
from pipelines.images import frames
from pipelines.images.frames import Pixels
from pipelines.images.headers import ImageError, decode_rgb, read_header
from pipelines.images.yuv import YuvPixels
from pipelines.labels.alignment import combine
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.sampling import Window
from tfrecords_schema.moments import Moments, add_each, moments_by_column
from tfrecords_schema.record import SequenceRecord

_ROWS = 24
_ONE_IN = 32
_FIRST = 4
_STEP, _ALL = 0x9E3779B1, 2**32  # their ratio is the golden one


class PixelSums(NamedTuple):
    """How many pixels, and sums of their values and of the squares of these, by channel."""

    pixels: int = 0
    values: tuple[int, ...] = ()
    squares: tuple[int, ...] = ()

    @classmethod
    def of(cls, pixels: Pixels | YuvPixels) -> PixelSums:
        """Of a picture: of some 24 of its rows or more, evenly spread, and of all of one with fewer.

        Of YUV, a pixel for each sample of chroma stands for four. All pictures of a size weigh the same.
        """
        if isinstance(pixels, YuvPixels):
            size, rows = pixels.y.size, pixels.rgb_sample(max(1, len(pixels.u) // _ROWS))
        else:
            size = pixels.shape[0] * pixels.shape[1]
            rows = pixels[:: max(1, len(pixels) // _ROWS)]
        looked_at = rows.shape[0] * rows.shape[1]
        return cls(looked_at, *frames.pixel_sums(rows)).times(size, looked_at)

    def plus(self, other: PixelSums) -> PixelSums:
        """Of the pixels of both."""
        if not self.pixels or not other.pixels:
            return self if self.pixels else other
        return PixelSums(
            self.pixels + other.pixels,
            tuple(map(add, self.values, other.values)),
            tuple(map(add, self.squares, other.squares)),
        )

    def times(self, count: int, divisor: int) -> PixelSums:
        """Of ``count / divisor`` times as many pixels that are like these."""
        half = divisor // 2
        return PixelSums(
            (self.pixels * count + half) // divisor,
            tuple((total * count + half) // divisor for total in self.values),
            tuple((total * count + half) // divisor for total in self.squares),
        )


def is_sampled(slot: int) -> bool:
    """Whether the frame at ``slot`` of a folder is in the sample: one in 32, from slot 4 on.

    Multiples of the golden ratio spread evenly between whole numbers, at whatever step they are taken. So do
    the samples among the frames that are used, though this asks for nothing but the frame's own place.
    """
    return (slot - _FIRST) * _STEP % _ALL < _ALL // _ONE_IN


class PixelTally:
    """Adds up the pixels of the frames in records.

    Attributes:
        frames: whose pixels were looked at.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._encoded = PixelSums()
        self._sampled = PixelSums()
        self._sampled_frames = 0
        self._passed_on = 0

    @property
    def lacks_sample(self) -> bool:
        """Whether frames were passed on and none of them was looked at."""
        return self._passed_on > 0 and not self._sampled_frames

    def add_encoded(self, sums: PixelSums) -> None:
        """Counts a frame that was encoded."""
        self.frames += 1
        self._encoded = self._encoded.plus(sums)

    def add_passed_on(self, sums: PixelSums | None) -> None:
        """Counts a frame that was passed on; None where it is not in the sample."""
        self._passed_on += 1
        if sums is not None:
            self.add_sample(sums)

    def add_sample(self, sums: PixelSums) -> None:
        """Takes a frame that was counted into the sample."""
        self.frames += 1
        self._sampled_frames += 1
        self._sampled = self._sampled.plus(sums)

    def total(self) -> PixelSums:
        """Of all frames: those passed on are taken to be like the sample of them."""
        if not self._sampled_frames:
            return self._encoded
        return self._encoded.plus(self._sampled.times(self._passed_on, self._sampled_frames))


F = TypeVar("F", bound=FrameTime)


@dataclass(frozen=True)
class EncodedFrame:
    """A frame as it goes into records: made once, however many sequences use it.

    Attributes:
        timestamp: microseconds.
        data: the encoded image; empty in a dataset of signals alone.
        passed_on: whether that is the frame's own file.
        pixels: sums over them; None where there are none, or the file passed on is not in the sample.
        values: measured, in the order of `measured_columns`.
        class_name: measured.
        distance_class: see `MeasuredFrame`.
    """

    timestamp: int
    data: bytes = b""
    passed_on: bool = False
    pixels: PixelSums | None = None
    values: tuple[float, ...] = ()
    class_name: str | None = None
    distance_class: int = 0


def encode_frame(
    footage: Footage[F], item: MeasuredFrame[F], request: BuildRequest
) -> EncodedFrame:
    """Scales and encodes a frame, or passes its own file on."""
    frame, measured = item.frame, item.measured
    fields: dict[str, Any] = {
        "timestamp": _microseconds(frame.pts, footage.time_base),
        "values": measured.values if measured else (),
        "class_name": measured.class_name if measured else None,
        "distance_class": item.distance_class,
    }
    if request.spec.image is None:
        return EncodedFrame(**fields)
    options = request.image
    stored = footage.as_stored(frame, options)
    if stored is not None and not is_sampled(frame.pts):
        return EncodedFrame(data=stored, passed_on=True, **fields)
    pixels = footage.to_scaled(frame, options)
    if options.grayscale:
        pixels = frames.to_gray(pixels)
    return EncodedFrame(
        data=stored or frames.encode(pixels, options),
        passed_on=stored is not None,
        pixels=PixelSums.of(pixels),
        **fields,
    )


class RecordMaker:
    """Makes the records of one clip."""

    def __init__(self, request: BuildRequest, clip: Clip):
        self._request = request
        self._clip = clip
        self._spec = request.spec
        telemetry = request.telemetry
        self._signals = telemetry.signal_columns if telemetry else ()
        columns = measured_columns(request)
        self._target_places = [columns.index(name) for name in self._spec.label.target_names]
        self._signal_places = [columns.index(name) for name in self._signals]
        angles = telemetry.angle_columns if telemetry else ()
        self._angles = [name in angles for name in self._spec.label.target_names]

    def record(self, window: Window[EncodedFrame]) -> SequenceRecord:
        """The record of a window."""
        request, source = self._request, self._request.segment.source
        timestamps = [frame.timestamp for frame in window.frames]
        start = timestamps[0]
        if request.sampling.frame_rate is not None and request.sampling.sampling == "windows":
            # Several sequences may begin while one frame is on screen; they are told apart by their slots.
            start = self._clip.slot_timestamp(window.first_slot, request.sampling.frame_rate)
        return SequenceRecord(
            id=f"{source.id}@{start}",
            dataset_name=request.dataset_name,
            data_path=source.data_path,
            media_id=source.id,
            group_id=source.group,
            timestamps=timestamps,
            frame_rate=_frame_rate(timestamps[: window.valid], request.sampling),
            valid_frames=window.valid,
            frames=[frame.data for frame in window.frames] if self._spec.image else [],
            signals={
                name: [(frame.values[place],) for frame in window.frames]
                for name, place in zip(self._signals, self._signal_places, strict=True)
            },
            signal_timestamps=dict.fromkeys(self._signals, timestamps),
            **self._labels(window),
        )

    def _labels(self, window: Window[EncodedFrame]) -> dict[str, Any]:
        label, source = self._spec.label, self._request.segment.source
        names = label.class_names
        # What is measured by frame outweighs nothing: a source has one or the other.
        if any(frame.class_name is not None for frame in window.frames):
            indices = [names.index(frame.class_name or "") for frame in window.frames]
            if label.per_frame:
                return {
                    "frame_label_indices": indices,
                    "frame_label_strings": [names[index] for index in indices],
                }
            center = self._request.label.label_at == "center"
            index = indices[window.valid // 2 if center else window.valid - 1]
            return {"label_indices": [index], "label_strings": [names[index]]}
        if source.values or not label.target_names:
            indices = list(self._request.label_indices)
            return {
                "label_indices": indices,
                "label_strings": [names[index] for index in indices],
                "label_values": source.values,
            }
        rows = [[frame.values[place] for place in self._target_places] for frame in window.frames]
        label_at = self._request.label.label_at
        if label_at == "each":
            return {"frame_label_values": rows}
        return {"label_values": combine(rows[: window.valid], label_at, self._angles)}


class Tally:
    """Sums over the sequences of a segment; see `SegmentResult`."""

    def __init__(self, num_classes: int) -> None:
        self.sequences = 0
        self.repeated_frames = 0
        self.padded_frames = 0
        self.pixels = PixelTally()
        self.label_counts = [0] * num_classes
        self.targets: tuple[Moments, ...] = ()
        self.signals: tuple[Moments, ...] = ()
        self.distances = [0] * (len(DISTANCES) + 1)
        self._example: EncodedFrame | None = None

    def add(self, window: Window[EncodedFrame], record: SequenceRecord) -> None:
        """Counts a window and its record."""
        shown = window.frames[: window.valid]
        self.sequences += 1
        self.padded_frames += len(window.frames) - window.valid
        self.repeated_frames += sum(a is b for a, b in pairwise(shown))
        for index, count in Counter(
            [*record.label_indices, *record.frame_label_indices[: window.valid]]
        ).items():
            self.label_counts[index] += count
        targets = [record.label_values] if record.label_values else []
        targets += record.frame_label_values[: window.valid]
        self.targets = add_each(self.targets, moments_by_column(targets))
        signals = [
            [value for (value,) in values[: window.valid]] for values in record.signals.values()
        ]
        self.signals = add_each(self.signals, tuple(map(Moments.of, signals)))
        for frame in shown:
            self.distances[frame.distance_class] += 1
            if frame.passed_on:
                self.pixels.add_passed_on(frame.pixels)
            elif frame.pixels is not None:
                self.pixels.add_encoded(frame.pixels)
        if self._example is None:
            passed_on = [frame for frame in shown if frame.passed_on]
            self._example = passed_on[len(passed_on) // 2] if passed_on else None

    def total_pixels(self, options: ImageOptions) -> PixelSums:
        """Sums over the pixels of all frames.

        Raises:
            DecodingFailure: when the only frame that could be looked at, of those passed on, does not decode.
        """
        if self._example is not None and self.pixels.lacks_sample:
            self.pixels.add_sample(_look_at(self._example.data, options))
        return self.pixels.total()


def _look_at(data: bytes, options: ImageOptions) -> PixelSums:
    header = read_header(data)
    try:
        if header is None:
            raise ImageError("is no image file")
        pixels = decode_rgb(data, header)
    except ImageError as error:
        raise DecodingFailure("decode", f"a frame does not decode: it {error}") from error
    return PixelSums.of(frames.to_gray(pixels) if options.grayscale else pixels)


def _microseconds(pts: int, time_base: Fraction) -> int:
    """``pts`` ticks, rounded as `round` does, at a tenth of the time that takes a `Fraction`."""
    whole, rest = divmod(pts * time_base.numerator * 1_000_000, time_base.denominator)
    twice = 2 * rest
    return whole + (twice > time_base.denominator or (twice == time_base.denominator and whole % 2))


def _frame_rate(timestamps: list[int], sampling: SamplingOptions) -> float:
    if sampling.frame_rate is not None:
        return float(sampling.frame_rate)
    # Every frame was used, at whatever rate they really came.
    elapsed = timestamps[-1] - timestamps[0]
    return (len(timestamps) - 1) * 1e6 / elapsed if elapsed > 0 else 0.0
