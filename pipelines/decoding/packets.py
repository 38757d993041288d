"""Demuxing: reads the packets of one video stream, seeks to keyframes, and notices where the file was cut."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from av.container import InputContainer
from av.video.stream import VideoStream

from pipelines.decoding.containers import describe_error
from pipelines.decoding.pyav import DECODING_ERRORS, to_fraction
from pipelines.decoding.truncation import find_missing_end

# Containers whose packets carry exact presentation times and where decoding can start at any keyframe.
# Others are always read from their beginning.
_SEEKABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

_BEGINNING = -(2**62)

_MAX_STEP_BACK = 1
"""Seconds by which times may go back without a restart. Frames are reordered by less."""


class PacketReader:
    """Reads the packets of a video stream once, from the start or from where `seek` led.

    Attributes:
        on_progress: called for each packet that is read.
        cuttable: packets carry exact times, and decoding may start at any keyframe.
        decode_times_only: packets carry decoding times but no presentation times.
        reports_cuts: the demuxer marks a packet in which the file ends as corrupt. Others also mark packets
            in the middle of healthy files.
        truncated: reason why the file is incomplete, as far as it was read; None if it is complete.
        restarts: presentation times after which the file's own times went back to an earlier one, as they do
            where files were concatenated.

    Args:
        spans_restarts: footage after a restart follows directly on the footage before it. If not, or if
            decoding may start at any keyframe, reading ends at a restart: times after it are ambiguous.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        path: str,
        on_progress: Callable[[], None],
        *,
        spans_restarts: bool = False,
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
        self._spans_restarts = spans_restarts and not self.cuttable
        self.restarts: list[int] = []
        self._max_step_back = int(_MAX_STEP_BACK / (to_fraction(stream.time_base) or 1))
        self._shift = 0  # added to the file's times
        self._last: int | None = None  # decoding time of the packet before
        self._latest = 0  # presentation time so far

    def __iter__(self) -> Iterator[Any]:
        """Yields packets until the end of the file or of its readable part; the last one is empty."""
        cut = False
        for packet in self._continuous():
            cut = self.reports_cuts and (packet.is_corrupt or (cut and not packet.size))
            yield packet
        if self.truncated is None:
            self.truncated = "the file ends inside a frame" if cut else self._missing_end

    def _demux(self) -> Iterator[Any]:
        """Yields the packets that can be read; sets `truncated` if these are not all."""
        ended = False
        try:
            for packet in self.container.demux(self.stream):
                self.on_progress()
                ended = not packet.size
                yield packet
        except DECODING_ERRORS as error:
            # A stream that appears in mid-file has no place in PyAV's list, which is noticed at the end.
            if not (ended and isinstance(error, IndexError)):
                self.truncated = describe_error(error)

    def _continuous(self) -> Iterator[Any]:
        """Yields packets; where times restart, ends or moves the following ones behind those before."""
        packets = self._demux()
        self._last = None
        for packet in packets:
            group = [packet]
            ends = self.cuttable and packet.size and packet.pts is None
            if ends:
                self._leave_out(
                    "a frame has no time",
                    " (Matroska lacing without a default duration). mkvmerge --default-duration sets them",
                )
            elif self._steps_back(packet):
                group += islice(packets, 1)  # a single packet with a wrong time is no restart
                ends = all(map(self._steps_back, group)) and not self._restart(packet)
            if ends:
                # The packet that makes the decoder give its last frames.
                yield from (rest for rest in packets if not rest.size)
                return
            try:
                for each in group:
                    self._follow(each)
            except OverflowError as error:
                self.truncated = describe_error(error)
                return
            yield from group

    def _steps_back(self, packet: Any) -> bool:
        time = _time(packet)
        if self._last is None or time is None:
            return False
        return self._last - (time + self._shift) > self._max_step_back

    def _restart(self, packet: Any) -> bool:
        """Returns False if times restart at a packet and reading ends there."""
        if not self._spans_restarts:
            self._leave_out("timestamps restart", ". Cut the file there")
            return False
        self._shift = (self._last or 0) + max(packet.duration or 0, 1) - (_time(packet) or 0)
        self.restarts.append(self._latest)
        return True

    def _leave_out(self, reason: str, advice: str) -> None:
        at = float(self._latest * (to_fraction(self.stream.time_base) or 1))
        self.truncated = (
            f"{reason} after {at:.6g} s, and the footage after that is left out because its time is "
            f"unknown{advice}"
        )

    def _follow(self, packet: Any) -> None:
        """Moves a packet by the shift, and keeps the latest times."""
        if self._shift:
            if packet.dts is not None:
                packet.dts += self._shift
            if packet.pts is not None:
                packet.pts += self._shift
        if (time := _time(packet)) is not None:
            self._last = time
            if (shown := packet.pts) is not None and shown > self._latest:
                self._latest = shown

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
            for packet in self.container.demux(self.stream):
                return packet.pts if packet.is_keyframe else None
        except DECODING_ERRORS:
            pass  # before the first keyframe
        return None


def _time(packet: Any) -> int | None:
    """Returns the decoding time of a packet with a frame; presentation times may go back by seconds."""
    time: int | None = packet.dts
    return time if packet.size and not packet.is_discard else None
