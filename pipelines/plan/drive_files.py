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

from pipelines.plan.descriptors import Extent, Part, Source, SourceFailure

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


def place_parts(
    source: Source, *, by_time: bool, by_clock: bool
) -> tuple[list[Source], list[SourceFailure]]:
    """Puts the files of a drive on one time scale; files that a gap separates become separate sources.

    Telemetry of the whole drive is matched to frames ``by_time``, else by row; ``by_clock``, these times are
    clock times. Parts without an extent could not be read. Returns failures of files that cannot be placed.
    """
    shared = source.telemetry
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for run in _find_runs(source.parts, may_overlap=by_time):
        first, is_whole = run.parts[0], len(run.parts) == len(source.parts)
        source_id = source.id if is_whole else f"{source.id}#from={first.order or first.data_path}"
        place = run.seconds if by_time else run.frames
        if shared is not None and place is None and not (by_time and by_clock):
            reason = (
                f"a file is missing before {first.data_path}, so its position in {shared.data_path} is "
                "unknown: give each file its own telemetry, or use --time_origin clock"
            )
            failures.append(SourceFailure(source=source_id, stage="telemetry", reason=reason))
            continue
        own = replace(
            source,
            id=source_id,
            path=first.path,
            data_path=first.data_path,
            group=source.id if source.group == source.data_path else source.group,
            bytes=sum(part.bytes for part in run.parts),
            mtime_ns=max(part.mtime_ns for part in run.parts),
            parts=tuple(run.parts),
            clock_start=first.extent.created if first.extent else None,
            telemetry_shared=not is_whole,
            telemetry_start=float(run.seconds or 0) if shared else 0.0,
            telemetry_row=(run.frames or 0) if shared else 0,
        )
        sources.append(own)
    return sources, failures


@dataclass
class _Run:
    """Consecutive files without a gap between them.

    Attributes:
        parts: the files, with their shifts.
        seconds, frames: position of the run in the drive, by time and by frame; None if unknown.
    """

    parts: list[Part]
    seconds: Fraction | None
    frames: int | None


def _find_runs(parts: Sequence[Part], *, may_overlap: bool) -> list[_Run]:
    missing = missing_before([part.order for part in parts])
    runs: list[_Run] = []
    previous: Extent | None = None  # of the file before; None if that is unreadable
    for index, (part, number_missing) in enumerate(zip(parts, missing, strict=True)):
        own = part.extent
        if own is None:
            previous = None
            continue
        gap = None
        if previous is not None:
            gap = gap_between(previous, own, number_missing=number_missing, may_overlap=may_overlap)
        if previous is not None and gap is None:
            before = runs[-1].parts[-1]
            shift = Fraction(*before.shift) if _runs_on(previous, own) else before.end - own.start
            runs[-1].parts.append(replace(part, shift=shift.as_integer_ratio()))
        else:
            seconds, frames = (Fraction(0), 0) if index == 0 else (None, None)
            if gap is not None:
                last = runs[-1]
                if last.seconds is not None and gap.seconds is not None:
                    seconds = last.seconds + last.parts[-1].end - last.parts[0].start + gap.seconds
                if last.frames is not None and not gap.footage_lost:
                    frames = last.frames + sum(p.extent.frames for p in last.parts if p.extent)
            runs.append(_Run([part], seconds, frames))
        previous = own
    return runs


def gap_between(
    previous: Extent, following: Extent, *, number_missing: bool, may_overlap: bool = True
) -> Gap | None:
    """Returns the gap between two files of a drive, or None if there is no sign of one.

    Unless they ``may_overlap``, frames that occur twice are a negative gap: their rows cannot be told apart.
    """
    lost = number_missing or previous.truncated
    seconds = Fraction(*previous.seconds)
    if _runs_on(previous, following):
        apart = following.start - previous.end
        frame = seconds / max(previous.frames, 1)
        if apart > frame:  # one missing frame is no gap, as within a file
            return Gap(apart, lost)
        return None if may_overlap or apart >= -frame else Gap(apart)
    if previous.created is not None and following.created is not None:
        late = Fraction(following.created) - Fraction(previous.created) - seconds
        if late > CLOCK_TOLERANCE:
            return Gap(late, lost)
    return Gap(None, footage_lost=True) if lost else None


def _runs_on(previous: Extent, following: Extent) -> bool:
    """Returns True if presentation times continue from file to file instead of restarting.

    Some cameras start a file with the last moments of the file before. Times that restart go back by the
    length of a whole file.
    """
    max_overlap = min(Fraction(*previous.seconds) / 2, MAX_OVERLAP)
    return following.start - previous.end > -max_overlap


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

    ``runs`` are the sources of the drive, in order, with the seconds of each. A split with a fraction of 0
    gets no block. ``guard`` seconds of footage are dropped between blocks, so that similar frames are not in
    two splits. Returns a source for each part of a run that lies in one block, which is one group; none if
    the drive is too short for the guards.
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
    span = [f"{t:.6f}".rstrip("0").rstrip(".") for t in (start or 0.0, end) if t is not None]
    return replace(
        source,
        id=f"{source.id if whole else source.data_path}#t={','.join(span)}",
        group=f"{source.group}#{split}",
        split=split,
        start=start,
        end=end,
    )
