"""Reading video files with PyAV: frames with their presentation times, from the start or from a keyframe.

Nothing in a header is trusted for counts or times. Files are untrusted input: only local files are opened,
only as one of the container formats listed here, and frames have a limit on pixels.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fractions import Fraction
from itertools import islice
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.decoding.footage import FrameTime
from pipelines.decoding.protocol import DecodingFailure
from pipelines.descriptors import Extent, Probe
from pipelines.frames import Pixels, rotate
from pipelines.options import ImageOptions

# Demuxers that read one file and nothing else. Playlists, concatenation scripts, image-sequence patterns and
# whatever refers to other files or addresses are not among them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,av1,obu,ivf,"
    "flv,asf,gif,ogg,mjpeg,mxf,rm,dv,nut,yuv4mpegpipe,vc1,h263,h261,cavsvideo,wtv,swf"
)

# Containers whose packets carry exact presentation times and that can be entered at any keyframe. Others are
# read from their beginning, always.
_CUTTABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

MAX_PIXELS = 8192 * 8192
"""Most pixels a frame may have: beyond 8K video, far below what would exhaust memory."""

MAX_HOLD_SECONDS = 60
"""A frame is not held on screen for longer: the footage is taken to stop and begin anew."""

_COARSEST_ROUNDED_TICK = Fraction(2, 1000)
"""Time bases up to this round the times of frames; coarser ones (AVI's) are the frame interval itself."""

_MOST_REORDERED = 32
"""Packets within which the first frame to be shown comes: codecs reorder fewer (H.264 and HEVC: 16)."""

_BEGINNING = -(2**62)

_UNTAGGED = (0, 2, 3)  # H.273: RGB or unknown, unspecified, reserved


@dataclass(frozen=True)
class DecodedFrame(FrameTime):
    """A frame as it leaves the decoder; ``image`` is PyAV's, ``pixel_aspect`` of the upright frame."""

    image: av.VideoFrame = field(kw_only=True)
    pixel_aspect: Fraction = field(kw_only=True)


def _ignore() -> None:
    pass


@contextmanager
def open_video(path: str, on_progress: Callable[[], None] = _ignore) -> Iterator[Video]:
    """Opens the first real video stream of a local file.

    Args:
        path: of the file.
        on_progress: called for every packet that is read, whatever becomes of it.

    Raises:
        DecodingFailure: when the file cannot be read, is of no known format, or holds no video.
    """
    try:
        container = av.open(
            f"file:{path}",
            metadata_errors="replace",
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": _FORMATS,
            },
        )
    except (av.FFmpegError, ValueError) as error:
        raise DecodingFailure("open", _reason(error)) from error
    with container:
        yield Video(container, _choose_stream(container), on_progress)


class Video:
    """One video file, opened for one reading; see `open_video`.

    Attributes:
        time_base, cuttable, breaks, unordered, truncated: see `Footage`.
        packets_read: to be shown, since the last ``frames`` began; complete when that has ended.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, on_progress: Callable[[], None]
    ):
        self._on_progress = on_progress
        self._container = container
        self._stream = stream
        self._converter = FrameConverter()
        self.time_base: Fraction = stream.time_base or Fraction(1, 90_000)
        self.cuttable: bool = container.format.name in _CUTTABLE_FORMATS
        # AVI stores when to decode, not when to present. A decoder puts frames out in order of presentation,
        # so its output times are right where presentation times could only be guessed (B-frames in AVI).
        self._decode_times_only = container.format.name == "avi"
        self.breaks = 0
        self.unordered = 0
        self.truncated: str | None = None
        self.packets_read = 0
        _check_pixels(stream.codec_context.width, stream.codec_context.height)
        # One thread a child: the pool has a child for each CPU.
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all

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
                for packet in islice(self._packets(), _MOST_REORDERED)
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
            DecodingFailure: when a frame exceeds the limit on pixels.
        """
        first = None
        if near is not None:
            landed = self._seek(near)
            first = near if exactly else landed
        shown: list[int] = []  # presentation times of packets read whose frames have not come yet
        self.packets_read = 0
        passed = 0  # packets shown before the current frame
        previous: int | None = None
        begun = broken = False
        for image in self._decode(first, shown):
            if image is None or image.is_corrupt:
                # Before the first frame of a file there is nothing to break.
                broken = broken or begun or first is not None
                continue
            if broken and not image.key_frame:
                continue  # built on what is missing
            begun = True
            pts = self._pts(image, previous)
            if first is not None and pts < first:
                broken = False
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
            _check_pixels(image.width, image.height)
            held = 0 if previous is None else (pts - previous) * self.time_base
            after_break = previous is not None and (broken or held > MAX_HOLD_SECONDS)
            self.breaks += after_break
            broken, previous = False, pts
            yield DecodedFrame(
                pts, passed, after_break, image=image, pixel_aspect=self._pixel_aspect(image)
            )

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Presentation times of all packets to be shown, and which are keyframes; nothing is decoded.

        Returns:
            ``[packets]`` int64 in ascending order, and ``[packets]`` bool.
        """
        times, keys = [], []
        for packet in self._packets():
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
        for packet in self._packets():
            time = packet.dts if self._decode_times_only else packet.pts
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
        return self._converter.to_rgb(frame)

    def pixel_aspect(self, frame: DecodedFrame) -> Fraction:
        """Width of a pixel of the upright frame divided by its height."""
        return frame.pixel_aspect

    def as_stored(self, frame: DecodedFrame, options: ImageOptions) -> None:
        """Frames of a video have no files of their own."""

    def _pixel_aspect(self, image: av.VideoFrame) -> Fraction:
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        if aspect <= 0:
            return Fraction(1)
        return 1 / aspect if round(image.rotation / 90) % 2 else aspect

    def _rate(self) -> Fraction:
        return self._stream.average_rate or self._stream.guessed_rate or Fraction(25)

    def _pts(self, image: av.VideoFrame, previous: int | None) -> int:
        time = image.dts if self._decode_times_only else image.pts
        if time is not None:
            return time
        # A raw stream has no times: its frames follow each other at the rate it declares.
        # Its average rate is the demuxer's default, whatever the codec's headers say.
        rate = self._stream.guessed_rate or self._rate()
        step = max(1, round(1 / (rate * self.time_base)))
        return 0 if previous is None else previous + step

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

    def _packets(self) -> Iterator[Any]:
        """Yields packets until the file or what can be read of it ends; the last one is empty."""
        cut = False
        try:
            for packet in self._container.demux(self._stream):
                # Others than these demuxers call packets corrupt in the middle of healthy footage.
                cut = (self.cuttable or self._decode_times_only) and (
                    packet.is_corrupt or (cut and not packet.size)
                )
                self._on_progress()
                yield packet
        except av.FFmpegError as error:
            self.truncated = _reason(error)
        else:
            if cut:
                self.truncated = "the file ends inside a frame"

    def _decode(self, first: int | None, shown: list[int]) -> Iterator[av.VideoFrame | None]:
        """Yields frames as the decoder gives them, None where a packet did not decode.

        The presentation times of packets to be shown from ``first`` on are pushed onto the heap ``shown``.
        """
        for packet in self._packets():
            pts = packet.pts
            counts = self.cuttable and pts is not None and not packet.is_discard
            if counts and (first is None or pts >= first):
                heapq.heappush(shown, pts)
                self.packets_read += 1
            try:
                images = packet.decode()
            except av.FFmpegError:
                yield None
            else:
                yield from images


class FrameConverter:
    """Decoded frames to pixels; keeps what the conversion of like frames has in common."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: DecodedFrame) -> Pixels:
        """``[height, width, 3]`` uint8 RGB, full range, upright.

        The matrix is the one the frame is tagged with; untagged YUV is BT.601, as ffmpeg takes it to be.
        """
        image = frame.image
        converted = self._reformatter.reformat(
            image,
            format="rgb24",
            src_colorspace=Colorspace.ITU601 if image.colorspace in _UNTAGGED else None,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        return rotate(cast(Pixels, converted.to_ndarray()), image.rotation)


def _choose_stream(container: InputContainer) -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise DecodingFailure("open", "the file holds no video stream")
    if streams[0].codec_context is None:
        raise DecodingFailure("open", "the video's codec is unknown")
    return streams[0]


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


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodingFailure(
            "limits", f"a frame of {width}x{height} pixels exceeds the limit of {MAX_PIXELS}"
        )


def _reason(error: Exception) -> str:
    # PyAV appends the path, which says nothing new and may be private.
    return str(getattr(error, "strerror", None) or error)
