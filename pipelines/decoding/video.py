"""Reading video files with PyAV: frames with their presentation times, from the start or from a keyframe.

Nothing in a header is trusted for counts or times, and no frame that the decoder knows to be damaged is used.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fractions import Fraction
from itertools import islice
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.decoding.containers import (
    check_pixels,
    choose_stream,
    describe_error,
    open_container,
)
from pipelines.decoding.conversion import FrameConverter, read_orientation
from pipelines.decoding.damage import Damage, DamageWatch, complaints_counted
from pipelines.decoding.endings import find_missing_end
from pipelines.decoding.footage import FrameTime
from pipelines.decoding.gate import FrameGate
from pipelines.decoding.protocol import DecodingFailure
from pipelines.descriptors import Extent, Probe
from pipelines.frames import Pixels
from pipelines.options import ImageOptions

# Containers whose packets carry exact presentation times and that can be entered at any keyframe. Others are
# read from their beginning, always.
_CUTTABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

MAX_HOLD_SECONDS = 60
"""A frame is not held on screen for longer: the footage is taken to stop and begin anew."""

_COARSEST_ROUNDED_TICK = Fraction(2, 1000)
"""Time bases up to this round the times of frames; coarser ones (AVI's) are the frame interval itself."""

_MOST_REORDERED = 32
"""Packets within which the first frame to be shown comes: codecs reorder fewer (H.264 and HEVC: 16)."""

_BEGINNING = -(2**62)


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
    with complaints_counted(), open_container(path) as container:
        yield Video(container, choose_stream(container), path, on_progress)


class Video:
    """One video file, opened for one reading; see `open_video`.

    Attributes:
        time_base, cuttable, breaks, unordered, damage, truncated: see `Footage`.
        packets_read: to be shown, since the last ``frames`` began; complete when that has ended.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        path: str,
        on_progress: Callable[[], None],
    ):
        self._on_progress = on_progress
        self._container = container
        self._stream = stream
        self._path = path
        self._converter = FrameConverter()
        self.time_base: Fraction = stream.time_base or Fraction(1, 90_000)
        self.cuttable: bool = container.format.name in _CUTTABLE_FORMATS
        # AVI stores when to decode, not when to present. A decoder puts frames out in order of presentation,
        # so its output times are right where presentation times could only be guessed (B-frames in AVI).
        self._decode_times_only = container.format.name == "avi"
        self._tells_of_cuts = self.cuttable or self._decode_times_only
        self.breaks = 0
        self.unordered = 0
        self.truncated: str | None = None
        self.packets_read = 0
        self._watch = DamageWatch()
        self._entered = False  # whether a packet was read from which decoding should have begun
        self._first_shown: int | None = None  # presentation time of the first packet
        # After damage, dav1d calls frames keyframes that are none.
        self._keys_by_packet = stream.codec_context.name == "libdav1d"
        self._no_keys: set[int] = (
            set()
        )  # indices of packets that hold no keyframe, for such decoders
        self._last_good: int | None = None  # presentation time of the last frame that was whole

    @property
    def damage(self) -> Damage | None:
        """See `Footage`."""
        return self._watch.damage

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

    @functools.cached_property
    def _ends_early(self) -> str | None:
        return find_missing_end(self._path, self._container.format.name)

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
        for image, missing in self._whole_frames(first, shown):
            pts = self._pts(image, previous, missing)
            self._last_good = pts
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
            check_pixels(image.width, image.height)
            held = 0 if previous is None else (pts - previous) * self.time_base
            after_break = previous is not None and (missing > 0 or held > MAX_HOLD_SECONDS)
            self.breaks += after_break
            previous = pts
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
        return self._converter.to_rgb(frame.image)

    def pixel_aspect(self, frame: DecodedFrame) -> Fraction:
        """Width of a pixel of the upright frame divided by its height."""
        return frame.pixel_aspect

    def as_stored(self, frame: DecodedFrame, options: ImageOptions) -> None:
        """Frames of a video have no files of their own."""

    def _pixel_aspect(self, image: av.VideoFrame) -> Fraction:
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        if aspect <= 0 or aspect == 1:
            return Fraction(1)
        return 1 / aspect if read_orientation(image).quarter_turns % 2 else aspect

    def _rate(self) -> Fraction:
        return self._stream.average_rate or self._stream.guessed_rate or Fraction(25)

    def _pts(self, image: av.VideoFrame, previous: int | None, missing: int) -> int:
        time = image.dts if self._decode_times_only else image.pts
        if time is not None:
            return time
        # A raw stream has no times: its frames follow each other at the rate it declares.
        # Its average rate is the demuxer's default, whatever the codec's headers say.
        rate = self._stream.guessed_rate or self._rate()
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

    def _packets(self) -> Iterator[Any]:
        """Yields packets until the file or what can be read of it ends; the last one is empty."""
        cut = False
        try:
            for packet in self._container.demux(self._stream):
                # Others than these demuxers call packets corrupt in the middle of healthy footage.
                cut = self._tells_of_cuts and (packet.is_corrupt or (cut and not packet.size))
                self._on_progress()
                yield packet
        except av.FFmpegError as error:
            self.truncated = describe_error(error)
        else:
            if cut:
                self.truncated = "the file ends inside a frame"
        if self.truncated is None:
            self.truncated = self._ends_early

    def _whole_frames(
        self, first: int | None, shown: list[int]
    ) -> Iterator[tuple[av.VideoFrame, int]]:
        """Yields frames that are not damaged, and how many others are missing before each."""
        gate = FrameGate()
        begun = first is not None
        for index, image in self._decode(first, shown):
            if image is None or image.is_corrupt:
                # A recording may begin between keyframes: what comes before the first one misses nothing.
                if begun or (self._entered if image is None else image.key_frame):
                    self._watch.miss(self._last_good)
                    gate.lose(index)
                else:
                    gate.ignore(index)
                continue
            if begun:
                self._watch.listen(self._last_good)
            elif self._first_shown is not None and self._first_shown < (image.pts or 0):
                self._watch.miss(None)
            else:
                self._watch.ignore()
            begun = True
            gate.put(index, image, is_key=image.key_frame and index not in self._no_keys)
            yield from gate.passing()
        yield from gate.rest()
        if begun:
            self._watch.listen(self._last_good)

    def _decode(
        self, first: int | None, shown: list[int]
    ) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Yields frames as the decoder gives them, None where a packet did not decode, each with its index.

        The presentation times of packets to be shown from ``first`` on are pushed onto the heap ``shown``.
        """
        packets = self._packets()
        if self._ends_early is not None and not self._tells_of_cuts:
            packets = _without_last(packets)  # what is left of it may decode, and look wrong
        for index, packet in enumerate(packets):
            pts = packet.pts
            counts = self.cuttable and pts is not None and not packet.is_discard
            if counts and (first is None or pts >= first):
                heapq.heappush(shown, pts)
                self.packets_read += 1
            # These files begin with a keyframe; parsers do not know a damaged one.
            self._entered |= packet.is_keyframe or self._tells_of_cuts
            if counts and self._first_shown is None:
                self._first_shown = pts
            if packet.is_corrupt and self._tells_of_cuts:
                continue  # the file ends within it
            if self._keys_by_packet and not packet.is_keyframe:
                self._no_keys.add(index)
            # An object of its own: PyAV knows it by its address, and numbers are shared between readings.
            packet.opaque = (index,)
            try:
                with self._watch.decoding():
                    images = packet.decode()
            except av.FFmpegError:
                yield index, None
                continue
            if packet.is_corrupt and self._container.format.name == "mpegts":
                yield index, None  # packets of the stream were lost hereabouts
            for image in images:
                yield (image.opaque or (index,))[0], image


def _without_last(packets: Iterator[Any]) -> Iterator[Any]:
    """All packets but the last one that is not empty."""
    waiting = None
    for packet in packets:
        if not packet.size:
            yield packet
            continue
        if waiting is not None:
            yield waiting
        waiting = packet


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
