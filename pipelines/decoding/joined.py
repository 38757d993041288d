"""Reads the files of one drive one after the other, as one footage."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.damage import Damage
from pipelines.decoding.footage import Footage, Frame
from pipelines.decoding.lookahead import IsUsed
from pipelines.decoding.video import open_video
from pipelines.options.dataset import FootageOptions
from pipelines.plan.descriptors import Part


@dataclass(frozen=True)
class _PlacedPart:
    """A file and its position in the drive. A time in the drive is ``pts * scale + shift``."""

    part: Part
    scale: int  # ticks of the drive per tick of the file
    shift: int
    first_pts: int  # in the drive

    def to_drive(self, pts: int) -> int:
        return pts * self.scale + self.shift


class JoinedVideos(Footage):
    """`Footage` of several video files whose positions in time are known; opens one file at a time.

    Presentation times continue those of the first file. All parts must have extents.
    """

    damage: Damage | None = None
    truncated: str | None = None

    def __init__(
        self,
        parts: Sequence[Part],
        on_progress: Callable[[], None],
        threads: int = 1,
        options: FootageOptions = FootageOptions(),  # noqa: B008 (frozen)
    ):
        self._on_progress = on_progress
        self._options = options
        self._threads = threads
        extents = [part.extent for part in parts if part.extent is not None]
        bases = [Fraction(*extent.time_base) for extent in extents]
        shifts = [Fraction(*part.shift) for part in parts]
        self.time_base = Fraction(1, math.lcm(*(f.denominator for f in [*bases, *shifts])))
        self._parts = []
        for part, extent, base, shift in zip(parts, extents, bases, shifts, strict=True):
            scale, ticks = int(base / self.time_base), int(shift / self.time_base)
            first_pts = extent.first_pts * scale + ticks
            self._parts.append(_PlacedPart(part, scale, ticks, first_pts))
        self.tolerance = max(Fraction(*extent.tolerance) for extent in extents)
        self.cuttable = all(extent.cuttable for extent in extents)
        self.declared_seconds = float(parts[-1].end - parts[0].start)
        self._is_used: IsUsed = lambda pts, until: True

    def origin_pts(self) -> int:
        """See `Footage`."""
        return self._parts[0].first_pts

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[Frame]:
        """See `Footage`."""
        first = 0
        if near is not None:
            first = max((i for i, p in enumerate(self._parts) if p.first_pts <= near), default=0)
        passed = 0  # frames of the files before
        last_pts: int | None = None
        ended_early = False
        for place, placed in enumerate(self._parts[first:]):
            missing = ended_early
            path, options = placed.part.path, self._options
            with open_video(path, self._on_progress, self._threads, options=options) as video:
                local = None
                if near is not None and not place:
                    local = (near - placed.shift) // placed.scale
                video.max_hold = self.max_hold
                # `skip_unused` may still come while the file is read.
                video.skip_unused(functools.partial(self._is_used_in, placed))
                read = repeated = 0
                try:
                    for frame in video.frames(near=local, exactly=exactly and local is not None):
                        pts = placed.to_drive(frame.pts)
                        is_first, read = not read, frame.rank + 1
                        if last_pts is not None and pts <= last_pts:
                            # Some cameras start a file with the end of the one before.
                            repeated = read
                            self.unordered += 1
                            continue
                        # If times are exact: the first frames did not decode.
                        late = video.cuttable and pts > placed.first_pts
                        missing = missing or (place > 0 and is_first and late)
                        self.breaks += missing and not frame.after_break
                        last_pts = pts
                        yield frame._replace(
                            pts=pts,
                            rank=passed + frame.rank - repeated,
                            after_break=frame.after_break or missing,
                        )
                        missing = False
                finally:
                    self.breaks += video.breaks
                    self.unordered += video.unordered
                    if video.damage and not self.damage:
                        at, reason = video.damage.pts, video.damage.reason
                        at = placed.first_pts if at is None else placed.to_drive(at)
                        self.damage = Damage(at, f"{placed.part.data_path}: {reason}")
                passed += (video.packets_read if video.cuttable else read) - repeated
                ended_early = video.truncated is not None
                if video.truncated and not self.truncated:
                    self.truncated = f"{placed.part.data_path}: {video.truncated}"

    def skip_unused(self, is_used: IsUsed) -> None:
        """See `Footage`."""
        self._is_used = is_used

    def _is_used_in(self, placed: _PlacedPart, pts: int, until: int | None) -> bool:
        end = None if until is None else placed.to_drive(until)
        return self._is_used(placed.to_drive(pts), end)

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """See `Footage`."""
        times, keys = [], []
        last = np.iinfo(np.int64).min
        for placed in self._parts:
            path, options = placed.part.path, self._options
            with open_video(path, self._on_progress, options=options) as video:
                own_times, own_keys = video.packet_times()
            own_times = own_times * placed.scale + placed.shift
            new = own_times > last
            times.append(own_times[new])
            keys.append(own_keys[new])
            last = own_times.max(initial=last)
        return np.concatenate(times), np.concatenate(keys)
