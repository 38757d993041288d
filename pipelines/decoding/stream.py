"""One reading of a video stream: its packets, and the frames of them that are not damaged."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipelines.decoding.containers import describe_error
from pipelines.decoding.damage import Damage, DamageWatch
from pipelines.decoding.endings import find_missing_end
from pipelines.decoding.gate import FrameGate
from pipelines.decoding.lookahead import MOST_REORDERED_PACKETS, Lookahead, Need, Wanted
from pipelines.decoding.references import find_begins_anew, find_unreferenced

# Containers whose packets carry exact presentation times and that can be entered at any keyframe. Others are
# read from their beginning, always.
_CUTTABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

# Codecs with packets that show nothing: they cannot be told from frames without decoding them.
_HIDING_CODECS = ("vp8",)


class Unseen(NamedTuple):
    """A frame that nobody wants, and that was not decoded; the next one should come at ``until``."""

    pts: int
    key_frame: bool
    until: int | None


Picture = av.VideoFrame | Unseen


@dataclass(order=True)
class _Due:
    """What is to come in order of presentation."""

    pts: int
    place: int
    picture: Picture = field(compare=False)


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
        self._wanted: Wanted | None = None
        self._begun = False  # whether a frame has come
        self._due: list[_Due] = []  # a heap of what the decoder does not put in order
        self._pausing = self._skipping = False
        self._first: int | None = None
        self._keys_until_settled = 0
        self._unreferenced = find_unreferenced(stream.codec_context)
        self._begins_anew = find_begins_anew(stream.codec_context)
        self._entered = False  # whether a packet was read from which decoding should have begun
        self._first_shown: int | None = None  # presentation time of the first packet
        # After damage, dav1d calls frames keyframes that are none: there, packets are asked.
        self._keys_by_packet = stream.codec_context.name == "libdav1d"
        self._no_keys: set[int] = set()

    @property
    def damage(self) -> Damage | None:
        """The first place so far where frames did not decode, or may be wrong."""
        return self._watch.damage

    def want(self, wanted: Wanted) -> None:
        """From now on, frames that are not wanted need not be decoded."""
        if self.cuttable and self._stream.codec_context.name not in _HIDING_CODECS:
            self._wanted = wanted

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

    def whole_frames(self, first: int | None, shown: list[int]) -> Iterator[tuple[Picture, int]]:
        """Yields frames that are not known to be damaged, and how many others are missing before each.

        Args:
            first: presentation time from which on frames are wanted; None is the start of the file.
            shown: takes the presentation times of packets to be shown from then on: a heap.
        """
        due: int | None = None
        for image, missing in self._passing(first, shown):
            if due is not None and image.pts is not None and image.pts > due and not missing:
                # Packets were lost, of which only a decoder would have complained.
                self._watch.miss(self.last_good)
                missing = 1  # at least
            due = image.until if isinstance(image, Unseen) else None
            yield image, missing

    def _passing(self, first: int | None, shown: list[int]) -> Iterator[tuple[Picture, int]]:
        gate = FrameGate[Picture]()
        self._begun = first is not None
        self._first = first
        self._keys_until_settled = int(first is not None)
        for index, image in self._decode(shown):
            if isinstance(image, Unseen):
                gate.put(index, image, is_key=image.key_frame)
            elif image is None or image.is_corrupt:
                # A recording may begin between keyframes: what comes before the first one misses nothing.
                if self._begun or (self._entered if image is None else image.key_frame):
                    self._watch.miss(self.last_good)
                    gate.lose(index)
                else:
                    gate.ignore(index)
                continue
            else:
                self._hear_of(image)
                gate.put(index, image, is_key=image.key_frame and index not in self._no_keys)
            yield from gate.passing()
        yield from gate.rest()
        if self._begun:
            self._watch.listen(self.last_good)

    def _hear_of(self, image: av.VideoFrame) -> None:
        if self._begun:
            self._watch.listen(self.last_good)
        elif self._first_shown is not None and self._first_shown < (image.pts or 0):
            self._watch.miss(None)
        else:
            self._watch.ignore()
        self._begun = True

    def _decode(self, shown: list[int]) -> Iterator[tuple[int, Picture | None]]:
        """Yields frames as the decoder gives them, None where a packet did not decode, each with its index.

        The presentation times of packets to be shown from the first on are pushed onto the heap ``shown``.
        """
        packets = self.packets()
        if self._ends_early is not None and not self._tells_of_cuts:
            packets = _without_last(packets)  # what is left of it may decode, and look wrong
        ahead = Lookahead(
            packets,
            lambda: self._wanted if self._begun else None,
            lambda packet: self._begins_anew(bytes(packet)),
        )
        for index, (packet, need, until) in enumerate(ahead):
            pts = packet.pts
            counts = self.cuttable and pts is not None and not packet.is_discard
            if counts and (self._first is None or pts >= self._first):
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
            if counts and need is not Need.PICTURE:
                unseen = Unseen(pts, packet.is_keyframe, until)
                heapq.heappush(self._due, _Due(pts, index, unseen))
            if need is Need.NOTHING:
                self._pause(index)
                yield from self._all_due_but(MOST_REORDERED_PACKETS)
                continue
            for place, image in self._decode_packet(packet, index, need):
                self._forget(place)
                if image is not None and image.pts is not None:
                    yield from self._due_before(image.pts)
                yield place, image
        yield from self._all_due_but(0)

    def _decode_packet(
        self, packet: Any, index: int, need: Need
    ) -> Iterator[tuple[int, av.VideoFrame | None]]:
        self._pausing = False
        if packet.is_keyframe and (self._first is None or (packet.pts or 0) >= self._first):
            self._settle(packet)
        codec = self._stream.codec_context
        skips = need is Need.REFERENCE and self._unreferenced is not None
        if self._skipping != (skips and self._unreferenced(bytes(packet))):
            self._skipping = not self._skipping
            codec.skip_frame = "NONREF" if self._skipping else "DEFAULT"
        # An object of its own: PyAV knows it by its address, and numbers are shared between readings.
        packet.opaque = (index,)
        try:
            with self._watch.decoding():
                images = packet.decode()
        except av.FFmpegError:
            yield index, None
            return
        if packet.is_corrupt and self._container.format.name == "mpegts":
            yield index, None  # packets of the stream were lost hereabouts
        if self._keys_until_settled:
            # Groups of pictures may refer to what is not there; of these, no frame is used.
            self._watch.ignore()
        for image in images:
            yield (image.opaque or (index,))[0], image

    def _settle(self, key: Any) -> None:
        """With this keyframe, or the next one, frames refer to nothing that was not decoded."""
        if self._keys_until_settled:
            self._keys_until_settled -= 1
            if self._keys_until_settled and self._begins_anew(bytes(key)):
                self._keys_until_settled = 0

    def _pause(self, index: int) -> None:
        """Takes what the decoder still holds before packet ``index``; it will begin anew with a keyframe."""
        if self._pausing:
            return
        self._pausing = True
        self._keys_until_settled = 2
        codec = self._stream.codec_context
        try:
            with self._watch.decoding():
                images = codec.decode(None)
        except av.FFmpegError:
            self._watch.miss(self.last_good)
            images = []
        codec.flush_buffers()
        for image in images:
            (place,) = cast("tuple[int]", image.opaque or (index,))
            self._forget(place)
            heapq.heappush(self._due, _Due(image.pts or 0, place, image))

    def _forget(self, index: int) -> None:
        """The packet is not passed over: its frame has come, or cannot be decoded."""
        if any(due.place == index for due in self._due):
            self._due = [due for due in self._due if due.place != index]
            heapq.heapify(self._due)

    def _pop_due(self) -> tuple[int, Picture]:
        due = heapq.heappop(self._due)
        return due.place, due.picture

    def _due_before(self, pts: int) -> Iterator[tuple[int, Picture]]:
        while self._due and self._due[0].pts < pts:
            yield self._pop_due()

    def _all_due_but(self, most: int) -> Iterator[tuple[int, Picture]]:
        while len(self._due) > most:
            yield self._pop_due()


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
