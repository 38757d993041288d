"""Joins the files of a drive, and cuts a drive into splits. Pure.

Dash-cams cut a drive into files of a few minutes. A gap between two files shows in their presentation times
if those continue from file to file, else in their creation times, else in a number that is missing among
their names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from pipelines.plan.descriptors import Extent, Part, SideFile, Source, SourceFailure

CLOCK_TOLERANCE = Fraction(2)
"""Seconds by which a creation time, a whole second, may be late without showing a gap."""

MAX_OVERLAP = Fraction(5)
"""Seconds of the file before that a file may repeat."""

_MIN_PIECE = 0.1  # seconds: a shorter piece may hold no frame

_MAX_COUNT_DIGITS = 4  # longer numbers are dates and times of day


@dataclass(frozen=True)
class Gap:
    """Missing footage before a file.

    Attributes:
        seconds: length of the gap; None if unknown.
        footage_lost: footage was recorded and is missing; otherwise nothing was recorded.
    """

    seconds: Fraction | None
    footage_lost: bool = False


@dataclass
class _Run:
    """Consecutive files without a gap between them.

    Attributes:
        parts: the files, with their shifts.
        seconds, frames: position of the run in the drive, by time and by frame; None if unknown.
    """

    parts: list[Part]
    seconds: Fraction | None = Fraction(0)
    frames: int | None = 0

    def followed_by(self, part: Part, gap: Gap | None) -> _Run:
        """Returns the run that starts with ``part``, after a gap or after an unreadable file (None)."""
        seconds, frames = None, None
        if self.seconds is not None and gap is not None and gap.seconds is not None:
            seconds = self.seconds + self.parts[-1].end - self.parts[0].start + gap.seconds
        if self.frames is not None and gap is not None and not gap.footage_lost:
            frames = self.frames + sum(map(_frames, self.parts))
        return _Run([part], seconds, frames)


def place_parts(
    source: Source, *, by_time: bool, by_clock: bool
) -> tuple[list[Source], list[SourceFailure]]:
    """Puts the files of a drive on one time scale; files that a gap separates become separate sources.

    Args:
        source: a drive; parts without an extent could not be read.
        by_time: telemetry of the whole drive is matched to frames by time, not by row.
        by_clock: these times are clock times.

    Returns:
        The sources, and the failures of files that could not be used.
    """
    runs = _find_runs(source.parts, may_overlap=by_time)
    shared = source.telemetry is not None
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for run in runs:
        own = _run_source(source, run.parts)
        place = run.seconds if by_time else run.frames
        if shared and place is None and not (by_time and by_clock):
            failures.append(_unplaced(own, source.telemetry))
            continue
        if shared:
            own = replace(
                own, telemetry_start=float(run.seconds or 0), telemetry_row=run.frames or 0
            )
        sources.append(replace(own, telemetry_shared=len(own.parts) < len(source.parts)))
    return sources, failures


def _find_runs(parts: Sequence[Part], *, may_overlap: bool) -> list[_Run]:
    missing = missing_before([part.order for part in parts])
    runs: list[_Run] = []
    previous: Part | None = None
    is_lost = False  # an unreadable file came before
    for part, number_missing in zip(parts, missing, strict=True):
        if part.extent is None:
            previous, is_lost = None, True
            continue
        gap = None
        if previous is not None and previous.extent is not None:
            gap = gap_between(previous.extent, part.extent, number_missing=number_missing)
            if gap is None and not may_overlap:
                # The rows of frames that occur twice cannot be told apart.
                gap = _overlap(previous.extent, part.extent)
        if previous is not None and gap is None:
            previous = replace(part, shift=_shift(previous, part.extent).as_integer_ratio())
            runs[-1].parts.append(previous)
            continue
        previous = replace(part, shift=(0, 1))
        if runs:
            runs.append(runs[-1].followed_by(previous, gap))
        else:
            runs.append(_Run([previous], *((None, None) if is_lost else ())))
    return runs


def _unplaced(source: Source, telemetry: SideFile | None) -> SourceFailure:
    name = telemetry.data_path if telemetry else "the telemetry"
    return SourceFailure(
        source=source.id,
        stage="telemetry",
        reason=f"a file is missing before {source.data_path}, so its position in {name} is unknown: "
        "give each file its own telemetry, or use --time_origin clock",
    )


def gap_between(previous: Extent, following: Extent, *, number_missing: bool) -> Gap | None:
    """Returns the gap between two files of a drive, or None if there is no sign of one."""
    seconds, frame = Fraction(*previous.seconds), _frame_seconds(previous)
    lost = number_missing or previous.truncated
    if _runs_on(previous, following):
        apart = _first(following) - (_first(previous) + seconds)
        # One missing frame is no gap, as within a file.
        return Gap(apart, lost) if apart > frame else None
    if previous.created is not None and following.created is not None:
        late = Fraction(following.created) - Fraction(previous.created) - seconds
        if late > CLOCK_TOLERANCE:
            return Gap(late, lost)
    return Gap(None, footage_lost=True) if lost else None


def _overlap(previous: Extent, following: Extent) -> Gap | None:
    """Returns a negative gap if a file repeats more than a frame of the one before, else None."""
    apart = _first(following) - (_first(previous) + Fraction(*previous.seconds))
    repeats = _runs_on(previous, following) and apart < -_frame_seconds(previous)
    return Gap(apart) if repeats else None


def _runs_on(previous: Extent, following: Extent) -> bool:
    """Returns True if presentation times continue from file to file instead of restarting.

    Some cameras start a file with the last moments of the file before. Times that restart go back by the
    length of a whole file.
    """
    seconds = Fraction(*previous.seconds)
    return _first(following) - (_first(previous) + seconds) > -min(seconds / 2, MAX_OVERLAP)


def missing_before(orders: Sequence[str]) -> list[bool]:
    """Returns True for each file before which a number is missing, by the ``orders`` in their names.

    ``missing_before(["1", "2", "5"]) == [False, False, True]``. Only small numbers that count (two neighbours
    differ by one, or the first is 0 or 1) can show that a file is missing; times of day and dates cannot.
    """
    if not all(order.isdecimal() and len(order) <= _MAX_COUNT_DIGITS for order in orders):
        return [False] * len(orders)
    numbers = [int(order) for order in orders]
    steps = [0, *(b - a for a, b in pairwise(numbers))]
    counts = 1 in steps or numbers[:1] in ([0], [1])
    return [counts and step > 1 for step in steps]


def cut_by_time(
    runs: Sequence[tuple[Source, float]], splits: Sequence[tuple[str, float]], guard: float
) -> list[Source]:
    """Cuts a drive into one block per split, in the order of ``splits``.

    Example: 100 s, splits of 0.8 and 0.2 and a guard of 1 s give ``train`` 0 to 79.2 s, and ``test`` from
    80.2 s on.

    Args:
        runs: the sources of the drive, in order, and the seconds of each.
        splits: names and fractions; a fraction of 0 gets no block.
        guard: seconds of footage to drop between blocks, so that similar frames are not in two splits.

    Returns:
        A source for each part of a run that lies in one block; each block is one group. Empty if the drive is
        too short for the guards.
    """
    wanted = [(name, fraction) for name, fraction in splits if fraction > 0]
    usable = sum(seconds for _, seconds in runs) - guard * (len(wanted) - 1)
    if usable <= 0:
        return []
    shortest = _MIN_PIECE if len(runs) > 1 else 0.0
    pieces: list[Source] = []
    start = 0.0  # of the block, in seconds
    for place, (name, fraction) in enumerate(wanted):
        end = math.inf if place == len(wanted) - 1 else start + fraction * usable
        begin = 0.0  # of the run, in seconds
        for source, seconds in runs:
            if min(end, begin + seconds) - max(start, begin) > shortest:
                first = start - begin if start > begin else None
                last = end - begin if end < begin + seconds else None
                pieces.append(_cut_out(source, name, first, last))
            begin += seconds
        start = end + guard
    return pieces


def _cut_out(source: Source, split: str, first: float | None, last: float | None) -> Source:
    """Returns the part of ``source`` from ``first`` to ``last`` seconds after its start."""
    offset = source.start or 0.0
    # Rounded, because the span becomes part of the id.
    start = source.start if first is None else round(offset + first, 6)
    end = source.end if last is None else round(offset + last, 6)
    whole = source.start is None and source.end is None
    span = _seconds_text(start or 0.0) + ("" if end is None else f",{_seconds_text(end)}")
    return replace(
        source,
        id=f"{source.id if whole else source.data_path}#t={span}",
        group=f"{source.group}#{split}",
        split=split,
        start=start,
        end=end,
    )


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _first(extent: Extent) -> Fraction:
    return extent.first_pts * Fraction(*extent.time_base)


def _frames(part: Part) -> int:
    return part.extent.frames if part.extent else 0


def _frame_seconds(extent: Extent) -> Fraction:
    return Fraction(*extent.seconds) / max(extent.frames, 1)


def _shift(previous: Part, following: Extent) -> Fraction:
    """Returns the seconds that convert the times of a file to the scale of the drive."""
    if previous.extent is not None and _runs_on(previous.extent, following):
        return Fraction(*previous.shift)
    return previous.end - _first(following)


def _run_source(source: Source, run: Sequence[Part]) -> Source:
    first = run[0]
    is_whole = len(run) == len(source.parts)
    return replace(
        source,
        id=source.id if is_whole else f"{source.id}#from={first.order or first.data_path}",
        path=first.path,
        data_path=first.data_path,
        group=source.id if source.group == source.data_path else source.group,
        bytes=sum(part.bytes for part in run),
        mtime_ns=max(part.mtime_ns for part in run),
        parts=tuple(run),
        clock_start=first.extent.created if first.extent else None,
    )
