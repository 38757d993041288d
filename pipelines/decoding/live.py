"""Reads a camera or a stream while it lasts. Frames are dropped rather than delayed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, BinaryIO

import av

from pipelines.decoding.containers import choose_stream, describe_error, open_live
from pipelines.decoding.damage import capture_errors
from pipelines.decoding.footage import Frame, OnProgress
from pipelines.decoding.packets import PacketReader
from pipelines.decoding.protocol import LIVE_STAMP, RECORD, DecodingFailure, LiveRequest
from pipelines.decoding.pyav import DECODING_ERRORS
from pipelines.decoding.record_builder import microseconds
from pipelines.decoding.segments import build_segment
from pipelines.decoding.video import Video
from pipelines.runners.child_process import pack

_MAX_DELAY = 1.0  # seconds that a packet may wait for the decoder
_MAX_WAITING = 1024  # packets; after that the sender waits
_NO_LENGTH = f"should be {2**64 - 1}"
"""In FFmpeg's message for the end of an HTTP answer without a length, which it takes for an error."""


def watch(request: LiveRequest, answers: BinaryIO, on_progress: OnProgress) -> Any:
    """Sends the records of a stream, each after a `LIVE_STAMP`, until it ends.

    If it raises a `DecodingFailure`, the process must end: a thread may still read the stream.
    """
    with capture_errors():
        packets = _LivePackets(request, on_progress)
        video = _LiveVideo(packets)

        def send(record: bytes) -> None:
            stamp = LIVE_STAMP.pack(packets.arrival, video.first_timestamp, packets.dropped)
            answers.write(pack(RECORD, stamp + record))
            answers.flush()

        return build_segment(request, send, on_progress, video)


class _LiveVideo(Video):
    """A stream, and the time of its first frame in microseconds."""

    first_timestamp = 0

    def frames(self, **where: Any) -> Iterator[Frame]:
        """See `Footage`."""
        frames = super().frames(**where)
        for first in frames:
            self.first_timestamp = microseconds(first.pts, self.time_base)
            yield first
            yield from frames


class _LivePackets(PacketReader):
    """The packets of a stream, received by a thread; late ones are dropped, up to a keyframe."""

    def __init__(self, request: LiveRequest, on_progress: OnProgress):
        container = open_live(request.address, request.timeout)
        stream = choose_stream(container)
        super().__init__(container, stream, "", on_progress, spans_restarts=True)
        self.cuttable, self._missing_end = False, None
        self._waiting = queue.Queue[tuple[float, Any]](_MAX_WAITING)
        self.dropped, self.arrival = 0, time.monotonic()  # of the packet that was taken last

    def _demux(self) -> Iterator[Any]:
        threading.Thread(target=self._receive, daemon=True).start()
        skips = False
        while True:
            self.on_progress()
            try:
                self.arrival, packet = self._waiting.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(packet, DecodingFailure):
                raise packet
            is_late = packet.size > 0 and time.monotonic() - self.arrival > _MAX_DELAY
            if is_late and not skips:
                # Does not decode, so that nothing is used before a keyframe.
                missing = dict.fromkeys(("pts", "dts", "duration", "is_keyframe", "is_discard"))
                yield SimpleNamespace(size=0, is_corrupt=True, decode=[].pop, **missing)
            skips = is_late or (skips and packet.size > 0 and not packet.is_keyframe)
            self.dropped += skips
            if not skips:
                yield packet
            if not packet.size:
                return

    def _receive(self) -> None:
        """Receives packets until the stream ends; the last one is empty, or a `DecodingFailure`."""
        try:
            for packet in self.container.demux(self.stream):
                self._waiting.put((time.monotonic(), packet))
        except DECODING_ERRORS as error:
            (end := av.Packet()).stream = self.stream
            is_end = _NO_LENGTH in str(av.logging.get_last_error())
            failure = DecodingFailure("decode", describe_error(error))
            self._waiting.put((time.monotonic(), end if is_end else failure))
