"""Turns windows of frames into records, and counts what they contain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from pipelines.decoding.clip import Clip
from pipelines.decoding.footage import Frame
from pipelines.decoding.measuring import measured_columns
from pipelines.decoding.protocol import DISTANCES, BuildRequest, DecodingFailure
from pipelines.images import frames
from pipelines.images.headers import Header, ImageError, decode_rgb
from pipelines.images.pixel_sums import PixelSums, PixelTally, is_sampled
from pipelines.images.regions import RegionError
from pipelines.labels.alignment import combine
from pipelines.options.dataset import ImageOptions
from pipelines.plan.sampling import Window
from tfrecords_schema.examples import SequenceRecord
from tfrecords_schema.moments import Moments, add_each, moments_by_column


def encode_frame(frame: Frame, time_base: Fraction, request: BuildRequest) -> Frame:
    """Returns the frame with its timestamp, image file and pixel sums, but without its picture.

    The picture is scaled and encoded, unless its own file can be stored.
    """
    timestamp = microseconds(frame.pts, time_base)
    if abs(timestamp) >= 1 << 62:
        reason = f"a frame has the time {timestamp / 1e6:g} s, and records hold up to 4.6e12 s"
        raise DecodingFailure("decode", reason)
    picture, options = frame.picture, request.image
    if request.spec.image is None:
        return frame._replace(timestamp=timestamp, picture=None)
    if picture is None:
        raise ValueError("the source has no pictures, but the dataset has")
    stored = picture.stored_file(options)
    sums = None
    if stored is None or is_sampled(frame.pts):
        try:
            pixels = picture.to_scaled(options)
        except RegionError as error:
            raise DecodingFailure("decode", str(error)) from error
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


def build_record(window: Window[Frame], request: BuildRequest, clip: Clip) -> SequenceRecord:
    """Returns the record of a window of encoded frames."""
    source, sampling = request.segment.source, request.sampling
    timestamps = [frame.timestamp for frame in window.frames]
    start = timestamps[0]
    if sampling.frame_rate is not None and sampling.sampling == "windows":
        # Several sequences may start while one frame is on screen. The times of their slots differ.
        seconds = clip.time_grid(sampling.frame_rate).seconds(window.first_slot)
        start = round((clip.first_pts * clip.time_base + seconds) * 1_000_000)
    frame_rate, shown = sampling.frame_rate or 0.0, timestamps[: window.valid]
    if not frame_rate and shown[-1] > shown[0]:
        # Every frame is used: the rate is the measured one.
        frame_rate = (len(shown) - 1) * 1e6 / (shown[-1] - shown[0])
    values = {
        name: [frame.measured.values[place] for frame in window.frames if frame.measured]
        for place, name in enumerate(measured_columns(request))
    }
    signals = request.telemetry.signal_columns if request.telemetry else ()
    return SequenceRecord(
        id=f"{source.id}@{start}",
        dataset_name=request.dataset_name,
        data_path=source.data_path,
        media_id=source.id,
        group_id=source.group,
        timestamps=timestamps,
        frame_rate=float(frame_rate),
        valid_frames=window.valid,
        frames=[frame.encoded for frame in window.frames] if request.spec.image else [],
        signals={name: [(value,) for value in values[name]] for name in signals},
        signal_timestamps=dict.fromkeys(signals, timestamps),
        **_labels(window, request, values),
    )


def _labels(
    window: Window[Frame], request: BuildRequest, values: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Returns the fields of the record that are labels; ``values`` are the measured ones by column."""
    label, label_at, source = request.spec.label, request.label.label_at, request.segment.source
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
        index = indices[window.valid // 2 if label_at == "center" else window.valid - 1]
        return {"label_indices": [index], "label_strings": [names[index]]}
    if source.values or not label.target_names:
        indices = list(request.label_indices)
        return {
            "label_indices": indices,
            "label_strings": [names[index] for index in indices],
            "label_values": _less(source.values, label.target_offsets),
        }
    columns = [values[name] for name in label.target_names]
    rows = [list(row) for row in zip(*columns, strict=True)]
    if label_at == "each":
        return {"frame_label_values": [_less(row, label.target_offsets) for row in rows]}
    angles = request.telemetry.angle_columns if request.telemetry else ()
    is_angle = [name in angles for name in label.target_names]
    combined = combine(rows[: window.valid], label_at, is_angle)
    return {"label_values": _less(combined, label.target_offsets)}


def _less(values: Sequence[float], offsets: Sequence[float]) -> Sequence[float]:
    """Returns targets less their offsets, in float64: records hold float32."""
    return [value - own for value, own in zip(values, offsets, strict=True)] if offsets else values


class SequenceTally:
    """Sums over the sequences of a segment; see `SegmentResult`."""

    def __init__(self, num_classes: int) -> None:
        self.sequences = self.repeated_frames = self.padded_frames = 0
        self.pixels = PixelTally()
        self.label_counts = [0] * num_classes
        self.targets: tuple[Moments, ...] = ()
        self.signals: tuple[Moments, ...] = ()
        self.distances = [0] * (len(DISTANCES) + 1)
        self._example: bytes | None = None

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
            self.pixels.add(frame.pixel_sums, is_stored_file=frame.is_stored_file)
        stored = [frame.encoded for frame in shown if frame.is_stored_file]
        if self._example is None and stored:
            self._example = stored[len(stored) // 2]

    def total_pixels(self, options: ImageOptions) -> PixelSums:
        """Returns the sums over the pixels of all frames.

        Raises:
            DecodingFailure: if no stored file is in the sample, and the one decoded instead is damaged.
        """
        if self._example is not None and self.pixels.lacks_sample:
            # A file is stored as it is only if it has the size and format of the dataset.
            header = Header("JPEG", *options.size, 1 if options.grayscale else 3)
            try:
                pixels = decode_rgb(self._example, header)
            except ImageError as error:
                raise DecodingFailure("decode", f"a frame does not decode: it {error}") from error
            pixels = frames.to_gray(pixels) if options.grayscale else pixels
            self.pixels.add_sample(PixelSums.of(pixels))
        return self.pixels.total()


def microseconds(pts: int, time_base: Fraction) -> int:
    """Returns ``pts`` ticks, rounded as `round` does. Ten times as fast as with a `Fraction`."""
    whole, rest = divmod(pts * time_base.numerator * 1_000_000, time_base.denominator)
    twice = 2 * rest
    return whole + (twice > time_base.denominator or (twice == time_base.denominator and whole % 2))
