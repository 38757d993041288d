"""`JoinedVideos`: the files of one drive read one after the other, as if they were one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.conversion import FrameConverter
from pipelines.decoding.damage import Damage
from pipelines.decoding.footage import DecodedFrame
from pipelines.decoding.lookahead import Wanted
from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.video import open_video
from pipelines.images.frames import Pixels
from pipelines.images.yuv import YuvPixels
from pipelines.options.dataset import ImageOptions
from pipelines.plan.descriptors import Extent, Part


@dataclass(frozen=True)
class _PlacedPart:
    """A part and its place in the drive, in the drive's ticks."""

    part: Part
    extent: Extent
    scale: int  # of the drive's ticks a tick of the file's
    shift: int

    @property
    def first_pts(self) -> int:
        return self.to_drive(self.extent.first_pts)

    def to_drive(self, pts: int) -> int:
        return pts * self.scale + self.shift


class JoinedVideos:
    """`Footage` of several video files whose places in time are known. One file is open at a time.

    The presentation times are those of the first file, carried on.
    """

    def __init__(self, parts: Sequence[Part], on_progress: Callable[[], None], threads: int = 1):
        self._on_progress = on_progress
        self._threads = threads
        known = [(part, part.extent) for part in parts if part.extent is not None]
        fractions = [Fraction(*extent.time_base) for _, extent in known]
        fractions += [Fraction(*part.shift) for part, _ in known]
        self.time_base = Fraction(1, math.lcm(*(f.denominator for f in fractions)))
        self._parts = [
            _PlacedPart(
                part,
                extent,
                scale=int(Fraction(*extent.time_base) / self.time_base),
                shift=int(Fraction(*part.shift) / self.time_base),
            )
            for part, extent in known
        ]
        self.tolerance = max(Fraction(*extent.tolerance) for _, extent in known)
        self.cuttable = all(extent.cuttable for _, extent in known)
        self.declared_seconds = float(parts[-1].end - parts[0].start)
        self.breaks = 0
        self.unordered = 0
        self.truncated: str | None = None
        self.damage: Damage | None = None
        self._wanted: Wanted | None = None
        self._converter = FrameConverter()

    @property
    def begins_at(self) -> None:
        """See `Video`."""

    def origin_pts(self) -> int:
        """See `Footage`."""
        return self._parts[0].first_pts

    def first_pts(self) -> int:
        """See `Footage`."""
        for frame in self.frames():
            return frame.pts
        raise DecodingFailure("decode", self.truncated or "no frame could be decoded")

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[DecodedFrame]:
        """See `Footage`."""
        first = 0
        if near is not None:
            first = max((i for i, p in enumerate(self._parts) if p.first_pts <= near), default=0)
        passed = 0  # frames of the files before
        last_pts: int | None = None
        ended_early = False
        for place, placed in enumerate(self._parts[first:]):
            missing = ended_early
            with open_video(placed.part.path, self._on_progress, self._threads) as video:
                local = None
                if near is not None and not place:
                    local = (near - placed.shift) // placed.scale
                video.want(functools.partial(self._wants, placed))
                read = repeated = 0
                try:
                    for frame in video.frames(near=local, exactly=exactly and local is not None):
                        pts = placed.to_drive(frame.pts)
                        is_first, read = not read, frame.rank + 1
                        if last_pts is not None and pts <= last_pts:
                            # Some cameras begin a file with the end of the one before.
                            repeated = read
                            self.unordered += 1
                            continue
                        # Where times are exact: what should have come first did not decode.
                        late = video.cuttable and pts > placed.first_pts
                        missing = missing or (place > 0 and is_first and late)
                        self.breaks += missing and not frame.after_break
                        last_pts = pts
                        yield replace(
                            frame,
                            pts=pts,
                            rank=passed + frame.rank - repeated,
                            after_break=frame.after_break or missing,
                        )
                        missing = False
                finally:
                    self.breaks += video.breaks
                    self.unordered += video.unordered
                    self._note_damage(placed, video.damage)
                passed += (video.packets_read if video.cuttable else read) - repeated
                ended_early = video.truncated is not None
                if video.truncated and not self.truncated:
                    self.truncated = f"{placed.part.data_path}: {video.truncated}"

    def want(self, wanted: Wanted) -> None:
        """See `Footage`."""
        self._wanted = wanted

    def _wants(self, placed: _PlacedPart, pts: int, until: int | None) -> bool:
        if self._wanted is None:
            return True
        end = None if until is None else placed.to_drive(until)
        return self._wanted(placed.to_drive(pts), end)

    def _note_damage(self, placed: _PlacedPart, damage: Damage | None) -> None:
        if damage is None or self.damage is not None:
            return
        pts = placed.first_pts if damage.pts is None else placed.to_drive(damage.pts)
        self.damage = Damage(pts, f"{placed.part.data_path}: {damage.reason}")

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """See `Footage`."""
        times, keys = [], []
        last: int | None = None
        for placed in self._parts:
            with open_video(placed.part.path, self._on_progress) as video:
                own_times, own_keys = video.packet_times()
            own_times = own_times * placed.scale + placed.shift
            new = np.ones(len(own_times), np.bool_) if last is None else own_times > last
            times.append(own_times[new])
            keys.append(own_keys[new])
            last = int(own_times[-1]) if len(own_times) else last
        return np.concatenate(times), np.concatenate(keys)

    def to_rgb(self, frame: DecodedFrame) -> Pixels:
        """See `Footage`."""
        return self._converter.to_rgb(frame.image)

    def to_scaled(self, frame: DecodedFrame, options: ImageOptions) -> Pixels | YuvPixels:
        """See `Footage`."""
        return self._converter.to_scaled(frame.image, options, frame.pixel_aspect)

    def pixel_aspect(self, frame: DecodedFrame) -> Fraction:
        """See `Footage`."""
        return frame.pixel_aspect

    def as_stored(self, frame: DecodedFrame, options: ImageOptions) -> None:
        """Frames of a video have no files of their own."""
