"""Turns windows of frames into records, and counts what they contain."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

from pipelines.decoding.clip import Clip
from pipelines.decoding.footage import Frame
from pipelines.decoding.measuring import measured_columns
from pipelines.decoding.protocol import DISTANCES, BuildRequest, DecodingFailure
from pipelines.images import frames
from pipelines.images.headers import ImageError, decode_rgb, read_header
from pipelines.images.pixel_sums import PixelSums, PixelTally, is_sampled
from pipelines.labels.alignment import combine
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.sampling import Window
from tfrecords_schema.moments import Moments, add_each, moments_by_column
from tfrecords_schema.record import SequenceRecord


def encode_frame(frame: Frame, time_base: Fraction, request: BuildRequest) -> Frame:
    """Returns the frame scaled and encoded, or with its own file, for all sequences that use it.

    Args:
        frame: a frame with its picture and measured values.
        time_base: seconds per tick of ``frame.pts``.
        request: size and format of images.

    Returns:
        The frame with its timestamp, image file and pixel sums, but without its picture.
    """
    timestamp = _microseconds(frame.pts, time_base)
    picture, options = frame.picture, request.image
    if request.spec.image is None:
        return frame._replace(timestamp=timestamp, picture=None)
    if picture is None:
        raise ValueError("the source has no pictures, but the dataset has")
    stored = picture.stored_file(options)
    sums = None
    if stored is None or is_sampled(frame.pts):
        pixels = picture.to_scaled(options)
        if options.grayscale:
            pixels = frames.to_gray(pixels)
        sums = PixelSums.of(pixels)
    return frame._replace(
        timestamp=timestamp,
        picture=None,
        encoded=frames.encode(pixels, options) if stored is None else stored,
        is_stored_file=stored is not None,
        pixel_sums=sums,
    )


class RecordBuilder:
    """Builds the records of one clip."""

    def __init__(self, request: BuildRequest, clip: Clip):
        self._request = request
        self._clip = clip
        self._spec = request.spec
        telemetry = request.telemetry
        self._signals = telemetry.signal_columns if telemetry else ()
        columns = measured_columns(request)
        self._target_columns = [columns.index(name) for name in self._spec.label.target_names]
        self._signal_columns = [columns.index(name) for name in self._signals]
        angles = telemetry.angle_columns if telemetry else ()
        self._angles = [name in angles for name in self._spec.label.target_names]

    def build(self, window: Window[Frame]) -> SequenceRecord:
        """Returns the record of a window."""
        request, source = self._request, self._request.segment.source
        timestamps = [frame.timestamp for frame in window.frames]
        start = timestamps[0]
        if request.sampling.frame_rate is not None and request.sampling.sampling == "windows":
            # Several sequences may start while one frame is on screen. The times of their slots differ.
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
            frames=[frame.encoded for frame in window.frames] if self._spec.image else [],
            signals={
                name: [(value,) for value in self._values(window, column)]
                for name, column in zip(self._signals, self._signal_columns, strict=True)
            },
            signal_timestamps=dict.fromkeys(self._signals, timestamps),
            **self._labels(window),
        )

    def _labels(self, window: Window[Frame]) -> dict[str, Any]:
        label, source = self._spec.label, self._request.segment.source
        names = label.class_names
        # A source has either a class by frame or labels of its own.
        classes = [frame.measured and frame.measured.class_name for frame in window.frames]
        if any(name is not None for name in classes):
            indices = [names.index(name or "") for name in classes]
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
        columns = [self._values(window, column) for column in self._target_columns]
        rows = [list(row) for row in zip(*columns, strict=True)]
        label_at = self._request.label.label_at
        if label_at == "each":
            return {"frame_label_values": rows}
        return {"label_values": combine(rows[: window.valid], label_at, self._angles)}

    def _values(self, window: Window[Frame], column: int) -> list[float]:
        return [frame.measured.values[column] for frame in window.frames if frame.measured]


class SequenceTally:
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
        self._example: Frame | None = None

    def add(self, window: Window[Frame], record: SequenceRecord) -> None:
        """Adds a window and its record."""
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
            distance = frame.measured.distance if frame.measured else 0.0
            self.distances[sum(distance > bound for bound in DISTANCES)] += 1
            if frame.is_stored_file:
                self.pixels.add_stored_file(frame.pixel_sums)
            elif frame.pixel_sums is not None:
                self.pixels.add_encoded(frame.pixel_sums)
        if self._example is None:
            stored = [frame for frame in shown if frame.is_stored_file]
            self._example = stored[len(stored) // 2] if stored else None

    def total_pixels(self, options: ImageOptions) -> PixelSums:
        """Returns the sums over the pixels of all frames.

        Raises:
            DecodingFailure: if no stored file is in the sample, and the one decoded instead is damaged.
        """
        if self._example is not None and self.pixels.lacks_sample:
            self.pixels.add_sample(_read_sums(self._example.encoded, options))
        return self.pixels.total()


def _read_sums(data: bytes, options: ImageOptions) -> PixelSums:
    header = read_header(data)
    try:
        if header is None:
            raise ImageError("is not an image file")
        pixels = decode_rgb(data, header)
    except ImageError as error:
        raise DecodingFailure("decode", f"a frame does not decode: it {error}") from error
    return PixelSums.of(frames.to_gray(pixels) if options.grayscale else pixels)


def _microseconds(pts: int, time_base: Fraction) -> int:
    """Returns ``pts`` ticks, rounded as `round` does. Ten times as fast as with a `Fraction`."""
    whole, rest = divmod(pts * time_base.numerator * 1_000_000, time_base.denominator)
    twice = 2 * rest
    return whole + (twice > time_base.denominator or (twice == time_base.denominator and whole % 2))


def _frame_rate(timestamps: list[int], sampling: SamplingOptions) -> float:
    if sampling.frame_rate is not None:
        return float(sampling.frame_rate)
    # Every frame is used: the rate is the measured one.
    elapsed = timestamps[-1] - timestamps[0]
    return (len(timestamps) - 1) * 1e6 / elapsed if elapsed > 0 else 0.0
