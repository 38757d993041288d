"""Reading video files with PyAV: frames with their presentation times, from the start or from a keyframe.

Nothing in a header is trusted for counts or times, and no frame that the decoder knows to be damaged is used.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from fractions import Fraction
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.decoding.containers import (
    check_pixels,
    choose_stream,
    open_container,
    use_threads,
)
from pipelines.decoding.conversion import FrameConverter
from pipelines.decoding.damage import Damage, complaints_counted
from pipelines.decoding.footage import DecodedFrame
from pipelines.decoding.lookahead import MOST_REORDERED_PACKETS, Wanted
from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.pyav import to_fraction
from pipelines.decoding.stream import Picture, StreamReader, Unseen
from pipelines.images.frames import Pixels
from pipelines.images.yuv import YuvPixels
from pipelines.options.dataset import ImageOptions
from pipelines.plan.descriptors import Extent, Probe

MAX_HOLD_SECONDS = 60
"""A frame is not held on screen for longer: the footage is taken to stop and begin anew."""

_COARSEST_ROUNDED_TICK = Fraction(2, 1000)
"""Time bases up to this round the times of frames; coarser ones (AVI's) are the frame interval itself."""

_BEGINNING = -(2**62)


def _ignore() -> None:
    pass


@contextmanager
def open_video(
    path: str,
    on_progress: Callable[[], None] = _ignore,
    threads: int = 1,
    *,
    header_only: bool = False,
) -> Iterator[Video]:
    """Opens the first real video stream of a local file.

    Args:
        path: of the file.
        on_progress: called for every packet that is read, whatever becomes of it.
        threads: to decode with, where that makes no difference; see `use_threads`.
        header_only: nothing will be decoded.

    Raises:
        DecodingFailure: when the file cannot be read, is of no known format, or holds no video.
    """
    with complaints_counted(), open_container(path, header_only=header_only) as container:
        stream = choose_stream(container)
        video = Video(container, stream, path, on_progress)
        if video.cuttable:
            use_threads(stream, threads)
        try:
            yield video
        finally:
            # Waits for the codec's threads: to complain they need the interpreter, which closing holds.
            stream.codec_context.flush_buffers()


class Video:
    """One video file, opened for one reading; see `open_video`.

    Attributes:
        time_base, cuttable, breaks, unordered, damage, truncated: see `Footage`.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        path: str,
        on_progress: Callable[[], None],
    ):
        self._container = container
        self._stream = stream
        self._path = path
        self._on_progress = on_progress
        self._reader = StreamReader(container, stream, path, on_progress)
        self._converter = FrameConverter()
        self.time_base: Fraction = to_fraction(stream.time_base) or Fraction(1, 90_000)
        self.cuttable: bool = self._reader.cuttable
        self.breaks = 0
        self.unordered = 0

    @property
    def damage(self) -> Damage | None:
        """See `Footage`."""
        return self._reader.damage

    @property
    def truncated(self) -> str | None:
        """See `Footage`."""
        return self._reader.truncated

    @property
    def packets_read(self) -> int:
        """Packets to be shown, since the last ``frames`` began; complete when that has ended."""
        return self._reader.packets_read

    @property
    def begins_at(self) -> None:
        """What packets say is the first frame need not decode."""

    def probe(self) -> Probe:
        """The header's hints."""
        return Probe(
            duration=self.declared_seconds,
            frame_rate=float(self._rate()),
            cuttable=self.cuttable,
            created=_created(self._container.metadata, self._stream.metadata),
        )

    @property
    def declared_seconds(self) -> float:
        """Duration by the header's word, 0 when it has none."""
        duration = 0.0
        if self._stream.duration is not None:
            duration = float(self._stream.duration * self.time_base)
        elif self._container.duration is not None:
            duration = self._container.duration / av.time_base
            if "matroska" in self._container.format.name:
                # There, it is the time at which the file ends.
                duration -= (self._container.start_time or 0) / av.time_base
        return max(0.0, duration)

    @property
    def tolerance(self) -> Fraction:
        """How much later than its true time a frame's presentation time may be, seconds."""
        return self.time_base if self.time_base <= _COARSEST_ROUNDED_TICK else Fraction(0)

    def origin_pts(self) -> int:
        """See `Footage`. Reads on from where it stands: for a video that was just opened."""
        if self.cuttable:
            times = [
                packet.pts
                for packet in islice(self._reader.packets(), MOST_REORDERED_PACKETS)
                if packet.pts is not None and not packet.is_discard
            ]
            if times:
                return min(times)
        return self.first_pts()

    def first_pts(self) -> int:
        """Presentation time of the file's first frame.

        Raises:
            DecodingFailure: when no frame decodes.
        """
        for frame in self.frames():
            return frame.pts
        raise DecodingFailure("decode", self.truncated or "no frame could be decoded")

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[DecodedFrame]:
        """Yields frames in order of presentation, from the file's start or from a keyframe.

        Args:
            near: begin with the last keyframe at or before this presentation time. Only in a cuttable file.
            exactly: ``near`` is the time of a keyframe: begin there, and count ranks from there.

        Raises:
            DecodingFailure: when a frame exceeds the limit on pixels; or with several threads, when frames
                and packets do not correspond: packets are read further ahead then, which ranks would show.
        """
        frames = self._frames(near, exactly)
        if self._stream.codec_context.thread_count == 1:
            yield from frames
            return
        for place, frame in enumerate(frames):
            if frame.rank != place:
                raise DecodingFailure("decode", "packets are not in order, or give no frame")
            yield frame

    def _frames(self, near: int | None, exactly: bool) -> Iterator[DecodedFrame]:
        first = None
        if near is not None:
            landed = self._seek(near)
            first = near if exactly else landed
        aspect = self._stored_aspect()
        shown: list[int] = []  # presentation times of packets read whose frames have not come yet
        self._reader.packets_read = 0
        longest = MAX_HOLD_SECONDS // self.time_base
        passed = 0  # packets shown before the current frame
        previous: int | None = None
        for image, missing in self._reader.whole_frames(first, shown):
            pts = self._pts(image, previous, missing)
            self._reader.last_good = pts
            if first is not None and pts < first:
                continue
            if previous is not None and pts <= previous:
                self.unordered += 1
                continue
            if self.cuttable:
                while shown and shown[0] < pts:
                    heapq.heappop(shown)
                    passed += 1
            elif previous is not None:
                passed += 1
            decoded: av.VideoFrame | Callable[[], av.VideoFrame]
            if isinstance(image, Unseen):
                decoded = functools.partial(self._decode_alone, pts)
            else:
                check_pixels(image.width, image.height)
                decoded = image
            held = 0 if previous is None else pts - previous
            after_break = previous is not None and (missing > 0 or held > longest)
            self.breaks += after_break
            previous = pts
            yield DecodedFrame(pts, passed, after_break, decoded=decoded, stored_aspect=aspect)

    def want(self, wanted: Wanted) -> None:
        """See `Footage`."""
        self._reader.want(wanted)

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Presentation times of all packets to be shown, and which are keyframes; nothing is decoded.

        Returns:
            ``[packets]`` int64 in ascending order, and ``[packets]`` bool.
        """
        times, keys = [], []
        for packet in self._reader.packets():
            if packet.pts is not None and not packet.is_discard:
                times.append(packet.pts)
                keys.append(packet.is_keyframe)
        order = np.argsort(np.asarray(times, np.int64), kind="stable")
        return np.asarray(times, np.int64)[order], np.asarray(keys, np.bool_)[order]

    def extent(self) -> Extent:
        """Where the footage lies in time; all packets are read, nothing is decoded.

        Raises:
            DecodingFailure: when the file holds no packet with a time.
        """
        first = last = end = None
        frames = 0
        for packet in self._reader.packets():
            time = packet.dts if self._reader.decode_times_only else packet.pts
            if time is None or packet.is_discard or not packet.size:
                continue
            frames += 1
            first = time if first is None else min(first, time)
            if last is None or time > last:
                # A packet without a duration is shown for as long as the one before.
                length = packet.duration or (time - last if last is not None else 0)
                last, end = time, time + length
        if first is None or end is None:
            raise DecodingFailure("open", "the file holds no frame with a time")
        return Extent(
            time_base=self.time_base.as_integer_ratio(),
            first_pts=first,
            seconds=((end - first) * self.time_base).as_integer_ratio(),
            frames=frames,
            cuttable=self.cuttable,
            tolerance=self.tolerance.as_integer_ratio(),
            created=self.probe().created,
            truncated=self.truncated is not None,
        )

    def to_rgb(self, frame: DecodedFrame) -> Pixels:
        """See `FrameConverter`."""
        return self._converter.to_rgb(frame.image)

    def to_scaled(self, frame: DecodedFrame, options: ImageOptions) -> Pixels | YuvPixels:
        """See `Footage`."""
        return self._converter.to_scaled(frame.image, options, frame.pixel_aspect)

    def pixel_aspect(self, frame: DecodedFrame) -> Fraction:
        """Width of a pixel of the upright frame divided by its height."""
        return frame.pixel_aspect

    def as_stored(self, frame: DecodedFrame, options: ImageOptions) -> None:
        """Frames of a video have no files of their own."""

    def _decode_alone(self, pts: int) -> av.VideoFrame:
        """The picture of a frame that was passed over."""
        with open_video(self._path, self._on_progress) as video:
            for frame in video.frames(near=pts):
                if frame.pts == pts:
                    return frame.image
        raise DecodingFailure(
            "decode", f"the frame at {float(pts * self.time_base):.6g} s does not decode"
        )

    def _stored_aspect(self) -> Fraction:
        aspect = to_fraction(self._stream.sample_aspect_ratio) or Fraction(1)
        return aspect if aspect > 0 else Fraction(1)

    def _rate(self) -> Fraction:
        return (
            to_fraction(self._stream.average_rate)
            or to_fraction(self._stream.guessed_rate)
            or Fraction(25)
        )

    def _pts(self, image: Picture, previous: int | None, missing: int) -> int:
        if isinstance(image, Unseen):
            return image.pts
        time = image.dts if self._reader.decode_times_only else image.pts
        if time is not None:
            return time
        # A raw stream has no times: its frames follow each other at the rate it declares.
        # Its average rate is the demuxer's default, whatever the codec's headers say.
        rate = to_fraction(self._stream.guessed_rate) or self._rate()
        step = max(1, round(1 / (rate * self.time_base)))
        return 0 if previous is None else previous + (1 + missing) * step

    def _seek(self, pts: int) -> int | None:
        """Goes to where decoding yields every frame from the returned time on as it would from the start.

        That time is of the last keyframe at or before ``pts``; decoding begins at the keyframe before it, as
        the frames of an open group of pictures refer to the group before. None is the file's start.
        """
        landed = self._land(pts)
        if landed is None or landed > pts:
            self._container.seek(_BEGINNING, stream=self._stream)
            return None
        before = self._land(landed - 1)
        if before is None or before >= landed:
            self._container.seek(_BEGINNING, stream=self._stream)
        else:
            self._container.seek(landed - 1, stream=self._stream)
        return landed

    def _land(self, pts: int) -> int | None:
        """Presentation time of the packet that a seek to ``pts`` leads to; None when there is none."""
        try:
            self._container.seek(pts, stream=self._stream)
        except av.FFmpegError:
            return None  # before the first keyframe
        for packet in self._container.demux(self._stream):
            return packet.pts if packet.is_keyframe else None
        return None


def _created(*metadata: dict[str, str]) -> float | None:
    """When recording began, as the file says; seconds since 1970."""
    for tags in metadata:
        text = tags.get("creation_time")
        if text is None:
            continue
        try:
            created = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            continue
        if created.year > 1970:  # cameras without a clock say 1904 or 1970
            return created.replace(tzinfo=created.tzinfo or timezone.utc).timestamp()
    return None
