"""Reads video files with PyAV: frames with presentation times, from the start or from a keyframe.

Counts and times in headers are not trusted, and frames that the decoder reports as damaged are left out.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from fractions import Fraction
from itertools import islice

import av
import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.containers import (
    check_pixels,
    choose_stream,
    open_container,
    states_rate,
    use_threads,
)
from pipelines.decoding.conversion import VideoPicture
from pipelines.decoding.damage import Damage, capture_errors
from pipelines.decoding.decoder import Picture, Skipped
from pipelines.decoding.footage import Footage, Frame
from pipelines.decoding.lookahead import MAX_REORDERED_PACKETS, IsUsed
from pipelines.decoding.packets import PacketReader
from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.pyav import to_fraction
from pipelines.decoding.stream import StreamReader
from pipelines.options.dataset import FootageOptions
from pipelines.plan.descriptors import Extent, Probe

_MAX_ROUNDING_TICK = Fraction(2, 1000)
"""Time bases up to this round the times of frames. Coarser ones (AVI) are the frame interval itself."""


@contextlib.contextmanager
def open_video(
    path: str,
    on_progress: Callable[[], None] = lambda: None,
    threads: int = 1,
    *,
    header_only: bool = False,
    spans_restarts: bool = False,
    options: FootageOptions = FootageOptions(),  # noqa: B008 (frozen)
) -> Iterator[Video]:
    """Opens a video stream of a local file.

    Args:
        path: path of the file.
        on_progress: called for each packet that is read.
        threads: decoding threads, used if they do not change the frames; see `use_threads`.
        header_only: nothing will be decoded.
        spans_restarts: see `PacketReader`.
        options: the number of the stream, and its rate if it states none.

    Raises:
        DecodingFailure: if the file cannot be read, has no known format, or contains no video.
    """
    with (
        capture_errors(),
        open_container(path, header_only=header_only, rate=options.source_rate) as container,
    ):
        stream = choose_stream(container, options.video_stream)
        packets = PacketReader(container, stream, path, on_progress, spans_restarts=spans_restarts)
        video = Video(packets, options)
        if video.cuttable:
            use_threads(stream, threads)
        try:
            yield video
        finally:
            # Waits for the codec's threads: their messages need the interpreter lock, which closing holds.
            stream.codec_context.flush_buffers()


class Video(Footage):
    """A video file, opened for one reading as `Footage`; see `open_video`."""

    def __init__(self, packets: PacketReader, options: FootageOptions = FootageOptions()):  # noqa: B008
        self._packets = packets
        self._options = options
        self._stream = packets.stream
        self._reader = StreamReader(packets)
        self.time_base: Fraction = to_fraction(self._stream.time_base) or Fraction(1, 90_000)
        self.tolerance = self.time_base if self.time_base <= _MAX_ROUNDING_TICK else Fraction(0)
        self.cuttable = packets.cuttable
        self.declared_seconds = self._declared_seconds()

    @property
    def damage(self) -> Damage | None:
        """See `Footage`."""
        return self._reader.damage.damage

    @property
    def truncated(self) -> str | None:
        """See `Footage`."""
        return self._packets.truncated

    @property
    def packets_read(self) -> int:
        """Packets to be shown since the last call of `frames`; complete when that has ended."""
        return self._reader.packets_read

    def probe(self) -> Probe:
        """Returns the hints of the header."""
        return Probe(
            duration=self._file_seconds(),
            frame_rate=float(self._rate()),
            cuttable=self.cuttable,
            created=_created(self._packets.container.metadata, self._stream.metadata),
            states_rate=states_rate(self._packets.container, self._stream),
        )

    def origin_pts(self) -> int:
        """See `Footage`. For a video that was just opened: the packets are read from the current one on."""
        if self.cuttable:
            times = [
                packet.pts
                for packet in islice(self._packets, MAX_REORDERED_PACKETS)
                if packet.pts is not None and not packet.is_discard
            ]
            if times:
                return min(times)
        return self.first_pts()

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[Frame]:
        """Yields frames in order of presentation, from the start or from a keyframe; see `Footage`.

        Raises:
            DecodingFailure: if a frame exceeds the limit on pixels; or with several threads, if frames and
                packets do not correspond: packets are read further ahead then, which would change ranks.
        """
        start = None
        if near is not None:
            keyframe = self._packets.seek(near)
            start = near if exactly else keyframe
        aspect = to_fraction(self._stream.sample_aspect_ratio)
        if aspect is None or aspect <= 0:
            aspect = Fraction(1)
        is_threaded = self._stream.codec_context.thread_count > 1
        max_hold = self.max_hold // self.time_base
        rank = 0  # packets shown before the current frame
        count = 0
        first: int | None = None
        previous: int | None = None
        for picture, missing in self._reader.pictures(start):
            shown = self._reader.shown
            pts = self._pts(picture, previous, missing)
            if self._packets.restarts and pts > self._packets.restarts[0]:
                self._packets.restarts.pop(0)
                self._reader.damage.add_restart()
                missing += 1
            if previous is not None and pts <= previous:
                self.unordered += 1
                self._reader.damage.add_unordered()
                continue
            self._reader.damage.last_good = pts
            if start is not None and pts < start:
                continue
            if self.cuttable:
                while shown and shown[0] < pts:
                    heapq.heappop(shown)
                    rank += 1
            elif self._packets.decode_times_only:
                # In AVI the time is the number of the frame, and null frames, which repeat one, count.
                first = pts if first is None else first
                rank = pts - first
            else:
                rank = count
            if is_threaded and rank != count:
                raise DecodingFailure(
                    "decode", "frames and packets do not correspond: decode on one thread"
                )
            decoded: av.VideoFrame | Callable[[], av.VideoFrame]
            if isinstance(picture, Skipped):
                decoded = functools.partial(self._decode_alone, pts)
            else:
                check_pixels(picture.width, picture.height)
                decoded = picture
            after_break = previous is not None and (missing > 0 or pts - previous > max_hold)
            self.breaks += after_break
            count += 1
            previous = pts
            yield Frame(pts, rank, after_break, VideoPicture(decoded, aspect))

    def skip_unused(self, is_used: IsUsed) -> None:
        """See `Footage`."""
        self._reader.skip_unused(is_used)

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """See `Footage`: the times of all packets to be shown."""
        times, keys = [], []
        for packet in self._packets:
            if packet.pts is not None and not packet.is_discard:
                times.append(packet.pts)
                keys.append(packet.is_keyframe)
        order = np.argsort(np.asarray(times, np.int64), kind="stable")
        return np.asarray(times, np.int64)[order], np.asarray(keys, np.bool_)[order]

    def extent(self) -> Extent:
        """Returns the span of the footage in time; reads all packets and decodes nothing."""
        times: list[int] = []
        last = end = 0
        for packet in self._packets:
            time = packet.dts if self._packets.decode_times_only else packet.pts
            if time is None or packet.is_discard or not packet.size:
                continue
            if not times or time > last:
                # A packet without a duration is shown for as long as the one before.
                end = time + (packet.duration or (time - last if times else 0))
                last = time
            times.append(time)
        if not times:
            raise DecodingFailure("open", "no frame in the file has a timestamp")
        probe = self.probe()
        return Extent(
            time_base=self.time_base.as_integer_ratio(),
            first_pts=min(times),
            seconds=((end - min(times)) * self.time_base).as_integer_ratio(),
            frames=len(times),
            cuttable=self.cuttable,
            tolerance=self.tolerance.as_integer_ratio(),
            created=probe.created,
            truncated=self.truncated is not None,
            states_rate=probe.states_rate,
        )

    def _decode_alone(self, pts: int) -> av.VideoFrame:
        """Decodes the picture of a frame that was skipped."""
        packets = self._packets
        with open_video(packets.path, packets.on_progress, options=self._options) as video:
            for frame in video.frames(near=pts):
                if frame.pts == pts and isinstance(frame.picture, VideoPicture):
                    return frame.picture.image
        raise DecodingFailure(
            "decode", f"the frame at {float(pts * self.time_base):.6g} s does not decode"
        )

    def _declared_seconds(self) -> float:
        """Returns the duration that the header states for this stream; 0 if it states that of all only."""
        stream, is_alone = self._stream, len(self._packets.container.streams) == 1
        if is_alone:
            return self._file_seconds()
        if (tag := stream.metadata.get("DURATION")) is not None:
            with contextlib.suppress(ValueError):
                hours, minutes, seconds = map(float, tag.split(":"))
                end = max(0.0, hours * 3600 + minutes * 60 + seconds - self._file_start())
                return min(end, self._file_seconds())
        # Of ASF, FFmpeg gives the duration of the file to each stream.
        if stream.duration is None or self._packets.format_name == "asf":
            return 0.0
        return max(0.0, float(stream.duration * self.time_base))

    def _file_seconds(self) -> float:
        container, duration = self._packets.container, 0.0
        if self._stream.duration is not None:
            duration = float(self._stream.duration * self.time_base)
        elif container.duration is not None:
            duration = container.duration / av.time_base - self._file_start()
        return max(0.0, duration)

    def _file_start(self) -> float:
        """Returns the seconds that a Matroska file starts later than 0: its durations count from 0."""
        container = self._packets.container
        return (
            (container.start_time or 0) / av.time_base
            if "matroska" in container.format.name
            else 0.0
        )

    def _rate(self) -> Fraction:
        stream = self._stream
        return to_fraction(stream.average_rate) or to_fraction(stream.guessed_rate) or Fraction(25)

    def _pts(self, picture: Picture, previous: int | None, missing: int) -> int:
        if isinstance(picture, Skipped):
            return picture.pts
        time = picture.dts if self._packets.decode_times_only else picture.pts
        if time is not None:
            return time
        # A raw stream has no times. Its frames follow each other at the rate that the codec declares; its
        # average rate is only the demuxer's default.
        rate = to_fraction(self._stream.guessed_rate) or self._rate()
        step = max(1, round(1 / (rate * self.time_base)))
        return 0 if previous is None else previous + (1 + missing) * step


def _created(*metadata: dict[str, str]) -> float | None:
    """Returns the start of the recording by the file's metadata, in seconds since 1970."""
    for tags in metadata:
        text = tags.get("creation_time")
        if text is None:
            continue
        try:
            created = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            continue
        if created.year > 1970:  # cameras without a clock write 1904 or 1970
            return created.replace(tzinfo=created.tzinfo or timezone.utc).timestamp()
    return None
