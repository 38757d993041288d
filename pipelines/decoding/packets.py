"""Demuxing: reads the packets of one video stream, seeks to keyframes, and notices where the file was cut."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipelines.decoding.containers import describe_error
from pipelines.decoding.truncation import find_missing_end

# Containers whose packets carry exact presentation times and where decoding can start at any keyframe.
# Others are always read from their beginning.
_SEEKABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

_BEGINNING = -(2**62)


class PacketReader:
    """Reads the packets of a video stream once, from the start or from where `seek` led.

    Attributes:
        on_progress: called for each packet that is read.
        cuttable: packets carry exact times, and decoding may start at any keyframe.
        decode_times_only: packets carry decoding times but no presentation times.
        reports_cuts: the demuxer marks a packet in which the file ends as corrupt. Others also mark packets
            in the middle of healthy files.
        truncated: reason why the file is incomplete, as far as it was read; None if it is complete.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        path: str,
        on_progress: Callable[[], None],
    ):
        self.container = container
        self.stream = stream
        self.path = path
        self.on_progress = on_progress
        self.format_name = container.format.name
        self.cuttable = self.format_name in _SEEKABLE_FORMATS
        # A decoder outputs frames in order of presentation, so that its output has the right times where
        # presentation times could only be guessed (B-frames in AVI).
        self.decode_times_only = self.format_name == "avi"
        self.reports_cuts = self.cuttable or self.decode_times_only
        self.truncated: str | None = None

    def __iter__(self) -> Iterator[Any]:
        """Yields packets until the end of the file or of its readable part; the last one is empty."""
        cut = False
        try:
            for packet in self.container.demux(self.stream):
                cut = self.reports_cuts and (packet.is_corrupt or (cut and not packet.size))
                self.on_progress()
                yield packet
        except av.FFmpegError as error:
            self.truncated = describe_error(error)
        else:
            if cut:
                self.truncated = "the file ends inside a frame"
        if self.truncated is None:
            self.truncated = self._missing_end

    def decodable(self) -> Iterator[Any]:
        """Yields packets without one that was cut and would decode to a wrong picture."""
        if self._missing_end is None or self.reports_cuts:
            yield from self
            return
        waiting = None
        for packet in self:
            if not packet.size:
                yield packet
                continue
            if waiting is not None:
                yield waiting
            waiting = packet

    @functools.cached_property
    def _missing_end(self) -> str | None:
        return find_missing_end(self.path, self.format_name)

    def seek(self, pts: int) -> int | None:
        """Goes to a packet from which decoding yields the same frames as from the start of the file.

        Frames of an open group of pictures refer to the group before. Decoding therefore starts at the
        keyframe before the last keyframe at or before ``pts``.

        Returns:
            The presentation time of that last keyframe, from which on frames are right; None if decoding
            starts at the beginning of the file.
        """
        landed = self._land(pts)
        if landed is None or landed > pts:
            self.container.seek(_BEGINNING, stream=self.stream)
            return None
        before = self._land(landed - 1)
        if before is None or before >= landed:
            self.container.seek(_BEGINNING, stream=self.stream)
        else:
            self.container.seek(landed - 1, stream=self.stream)
        return landed

    def _land(self, pts: int) -> int | None:
        """Returns the presentation time of the keyframe that a seek to ``pts`` leads to; None without one."""
        try:
            self.container.seek(pts, stream=self.stream)
        except av.FFmpegError:
            return None  # before the first keyframe
        for packet in self.container.demux(self.stream):
            return packet.pts if packet.is_keyframe else None
        return None
