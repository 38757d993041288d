"""Orders frames that are stored as image files by the times in their names. Reads no file."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

# Digits of a whole number of such units since 1970, from 2001 to 2286.
_UNITS = {
    10: ("seconds", 6),
    13: ("milliseconds", 3),
    16: ("microseconds", 0),
    19: ("nanoseconds", -3),
}
_NUMBER = re.compile(r"(?:|.*[^0-9.])([0-9]{1,20})(\.[0-9]{1,12})?[^0-9]*", re.DOTALL)
_HOLE = 1.5
"""Steps between two frames from which on a frame is missing between them."""


class FrameTimeError(ValueError):
    """A name does not hold a time that can be understood; the message names it."""


@dataclass(frozen=True)
class TimedFrames:
    """Image files as the frames of one recording, by the times in their names.

    Attributes:
        names: file names in order of their times.
        slots: time of each in microseconds after the first, strictly increasing.
        step: usual time from a frame to the next, in microseconds: the median.
        unit: of the times, in words.
        start: time of the first frame in seconds since 1970; None if times count from elsewhere.
    """

    names: tuple[str, ...]
    slots: tuple[int, ...]
    step: int
    unit: str
    start: float | None

    @property
    def seconds(self) -> float:
        """The duration; the last frame takes a usual step."""
        return (self.slots[-1] + self.step) / 1e6

    def is_hole_before(self, index: int) -> bool:
        """Returns True if frames are missing between those at ``index - 1`` and ``index``."""
        return index > 0 and self.slots[index] - self.slots[index - 1] > _HOLE * self.step

    def describe_hole(self, index: int) -> str:
        """Describes the frames missing before the one at ``index``."""
        gap = (self.slots[index] - self.slots[index - 1]) / 1e6
        between = f"{self.names[index - 1]} and {self.names[index]}"
        return f"frames are missing for {gap:.6g} s between {between}"


def order_by_time(names: Iterable[str]) -> TimedFrames:
    """Returns frames in order of the times in their names, the last number of each.

    It is seconds if it has a fraction, ``cam_12.033.jpg``. A whole number counts from 1970, in seconds,
    milliseconds, microseconds or nanoseconds by its 10, 13, 16 or 19 digits: ``1533151423512404.jpg``.

    Raises:
        FrameTimeError: if a name holds no such number, units differ, or two frames have one time.
    """
    found: list[tuple[Decimal, str]] = []
    first_unit = ""
    for name in names:
        number = _NUMBER.fullmatch(os.path.splitext(name)[0])
        whole, fraction = number.groups() if number else ("", None)
        unit, power = (
            ("seconds with a fraction", 6) if fraction else _UNITS.get(len(whole), ("", 0))
        )
        if not unit:
            raise FrameTimeError(
                f"expected a time in the name {name!r}: seconds with a fraction, or seconds, milliseconds, "
                "microseconds or nanoseconds since 1970 as 10, 13, 16 or 19 digits"
            )
        if first_unit not in ("", unit):
            raise FrameTimeError(
                f"expected times in {first_unit}, as in {found[0][1]!r}, got {name!r}"
            )
        first_unit = unit
        found.append((Decimal(whole + (fraction or "")).scaleb(power), name))
    found.sort()
    first = found[0][0]
    slots = tuple(int(time - first) for time, _ in found)
    for (before, one), (after, other) in pairwise(
        zip(slots, (name for _, name in found), strict=True)
    ):
        if after == before:
            raise FrameTimeError(f"{one} and {other} are frames of one time: keep one")
    steps = [after - before for before, after in pairwise(slots)]
    since_1970 = not first_unit.endswith("fraction") or first >= Decimal(10**15)
    return TimedFrames(
        names=tuple(name for _, name in found),
        slots=slots,
        step=int(statistics.median_low(steps)) if steps else 0,
        unit=first_unit,
        start=float(first / 10**6) if since_1970 else None,
    )
