"""One reading of a video stream: its packets, and the frames of them that are not damaged."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterator
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipelines.decoding.containers import describe_error
from pipelines.decoding.damage import Damage, DamageWatch
from pipelines.decoding.endings import find_missing_end
from pipelines.decoding.gate import FrameGate

# Containers whose packets carry exact presentation times and that can be entered at any keyframe. Others are
# read from their beginning, always.
_CUTTABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


class StreamReader:
    """Reads a stream once, from its start or from where its container was led to.

    Args:
        container, stream: which.
        path: of the file.
        on_progress: called for every packet that is read, whatever becomes of it.

    Attributes:
        cuttable: packets carry exact times, and decoding may begin at any keyframe.
        decode_times_only: packets say when to decode, and not when to present.
        packets_read: to be shown; complete when reading has ended.
        truncated: why the file is not whole, as far as it was read; None while it is.
        last_good: presentation time of the last frame that was taken.
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
        self.cuttable: bool = container.format.name in _CUTTABLE_FORMATS
        # A decoder puts frames out in order of presentation, so its output times are right where presentation
        # times could only be guessed (B-frames in AVI).
        self.decode_times_only: bool = container.format.name == "avi"
        self._tells_of_cuts = self.cuttable or self.decode_times_only
        self.packets_read = 0
        self.truncated: str | None = None
        self.last_good: int | None = None
        self._watch = DamageWatch()
        self._entered = False  # whether a packet was read from which decoding should have begun
        self._first_shown: int | None = None  # presentation time of the first packet
        # After damage, dav1d calls frames keyframes that are none: there, packets are asked.
        self._keys_by_packet = stream.codec_context.name == "libdav1d"
        self._no_keys: set[int] = set()

    @property
    def damage(self) -> Damage | None:
        """The first place so far where frames did not decode, or may be wrong."""
        return self._watch.damage

    @functools.cached_property
    def _ends_early(self) -> str | None:
        return find_missing_end(self._path, self._container.format.name)

    def packets(self) -> Iterator[Any]:
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

    def whole_frames(
        self, first: int | None, shown: list[int]
    ) -> Iterator[tuple[av.VideoFrame, int]]:
        """Yields frames that are not damaged, and how many others are missing before each.

        Args:
            first: presentation time from which on frames are wanted; None is the start of the file.
            shown: takes the presentation times of packets to be shown from then on: a heap.
        """
        gate = FrameGate()
        begun = first is not None
        for index, image in self._decode(first, shown):
            if image is None or image.is_corrupt:
                # A recording may begin between keyframes: what comes before the first one misses nothing.
                if begun or (self._entered if image is None else image.key_frame):
                    self._watch.miss(self.last_good)
                    gate.lose(index)
                else:
                    gate.ignore(index)
                continue
            if begun:
                self._watch.listen(self.last_good)
            elif self._first_shown is not None and self._first_shown < (image.pts or 0):
                self._watch.miss(None)
            else:
                self._watch.ignore()
            begun = True
            gate.put(index, image, is_key=image.key_frame and index not in self._no_keys)
            yield from gate.passing()
        yield from gate.rest()
        if begun:
            self._watch.listen(self.last_good)

    def _decode(
        self, first: int | None, shown: list[int]
    ) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Yields frames as the decoder gives them, None where a packet did not decode, each with its index.

        The presentation times of packets to be shown from ``first`` on are pushed onto the heap ``shown``.
        """
        packets = self.packets()
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
