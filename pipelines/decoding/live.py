"""Reads a camera or a stream while it lasts. Frames are dropped rather than delayed."""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, BinaryIO

import av
from av.container import OutputContainer

from pipelines.decoding.containers import choose_stream, describe_silence, open_live
from pipelines.decoding.damage import capture_errors
from pipelines.decoding.footage import Frame, OnProgress
from pipelines.decoding.overlay import draw_frames
from pipelines.decoding.packets import PacketReader
from pipelines.decoding.protocol import (
    LIVE_STAMP,
    RECORD,
    DecodingFailure,
    LiveRequest,
    SegmentResult,
)
from pipelines.decoding.pyav import DECODING_ERRORS
from pipelines.decoding.record_builder import microseconds
from pipelines.decoding.segments import build_segment
from pipelines.decoding.video import Video
from pipelines.runners.child_process import pack

Requests = queue.SimpleQueue[dict[str, Any]]

_MAX_DELAY = 1.0  # seconds that a packet may wait for the decoder
_MAX_WAITING = 1024  # packets; after that the sender waits
_BEAT = 0.5  # seconds

# FFmpeg takes the end of an HTTP answer without a length for an error with this message.
_NO_LENGTH = f"should be {2**64 - 1}"

# Each frame is a fragment: the video can be played up to where it ends, however it ends.
_FRAGMENTS = {"movflags": "frag_every_frame+empty_moov+default_base_moof", "flush_packets": "1"}


def watch(
    request: LiveRequest, answers: BinaryIO, on_progress: OnProgress, captions: Requests
) -> SegmentResult:
    """Sends the records of a stream, each after a `LIVE_STAMP`, until it ends.

    After an error the process must end: a thread still reads the stream.

    Raises:
        DecodingFailure: if the stream cannot be opened, or fails.
    """
    with capture_errors(), ExitStack() as stack:
        packets = _LivePackets(request, on_progress)
        footage = _LiveVideo(packets, captions)
        if request.overlay is not None:
            video = av.open(request.overlay, "w", format="mp4", options=_FRAGMENTS)
            footage.drawn = stack.enter_context(video)

        def send(record: bytes) -> None:
            first = microseconds(footage.first or 0, footage.time_base)
            stamp = LIVE_STAMP.pack(packets.arrival, first, packets.dropped)
            answers.write(pack(RECORD, stamp + record))
            answers.flush()

        return build_segment(request.build, send, on_progress, footage)


class _LiveVideo(Video):
    """A stream, with the time of its first frame, and a video to which its frames with captions go."""

    first: int | None = None
    drawn: OutputContainer | None = None

    def __init__(self, packets: PacketReader, captions: Requests):
        super().__init__(packets)
        self._captions = captions
        self._lines: Sequence[str] = ()

    def frames(self, **where: Any) -> Iterator[Frame]:
        """See `Footage`."""
        frames = super().frames(**where)
        if self.drawn is not None:
            frames = draw_frames(self.drawn, self.time_base, frames, self._caption)
        for frame in frames:
            self.first = frame.pts if self.first is None else self.first
            yield frame

    def _caption(self, _: Frame) -> Sequence[str]:
        while not self._captions.empty():
            self._lines = self._captions.get()["lines"]
        return self._lines


class _LivePackets(PacketReader):
    """The packets of a stream, received by a thread. Late ones are dropped, up to a keyframe.

    Attributes:
        dropped: number of packets so far.
        arrival: when the last one arrived that was taken.
    """

    def __init__(self, request: LiveRequest, on_progress: OnProgress):
        container = open_live(request.address, request.timeout)
        stream = choose_stream(container)
        super().__init__(container, stream, "", on_progress, spans_restarts=True)
        self.cuttable, self._missing_end = False, None
        self._timeout = request.timeout
        self._waiting = queue.Queue[tuple[float, Any]](_MAX_WAITING)
        self.dropped, self.arrival = 0, time.monotonic()

    def _demux(self) -> Iterator[Any]:
        threading.Thread(target=self._receive, daemon=True).start()
        skips = False
        while True:
            self.on_progress()
            try:
                self.arrival, packet = self._waiting.get(timeout=_BEAT)
            except queue.Empty:
                continue
            if isinstance(packet, DecodingFailure):
                raise packet
            is_late = packet.size > 0 and time.monotonic() - self.arrival > _MAX_DELAY
            if is_late and not skips:
                # Does not decode, so that nothing is used before a keyframe.
                missing = dict.fromkeys(("pts", "dts", "duration", "is_keyframe", "is_discard"))
                yield SimpleNamespace(size=0, is_corrupt=True, decode=iter(()).__next__, **missing)
            skips = is_late or (skips and packet.size > 0 and not packet.is_keyframe)
            self.dropped += skips
            if not skips:
                yield packet
            if not packet.size:
                return

    def _receive(self) -> None:
        """Receives packets until the stream ends; the last one is empty, or a `DecodingFailure`."""
        now = time.monotonic()
        try:
            for packet in self.container.demux(self.stream):
                now = time.monotonic()
                self._waiting.put((now, packet))
        except DECODING_ERRORS as error:
            end: Any = DecodingFailure("decode", describe_silence(error, now, self._timeout))
            message = (av.logging.get_last_error()[1] or (0, "", ""))[2]
            if getattr(error, "errno", 0) == errno.EIO and _NO_LENGTH in message:
                end = av.Packet()
                end.stream = self.stream
            self._waiting.put((now, end))
