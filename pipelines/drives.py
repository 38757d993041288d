"""Drives: the files of one put together, and one cut into splits. Pure.

Dash-cams cut a drive into files of a few minutes. Whether a file goes on where the one before ended shows in
their presentation times, where those run on; else in the times at which they say they were begun; else in a
number that is missing among their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from pipelines.descriptors import Extent, Part, Source
from pipelines.sources.listing import SourceFailure

CLOCK_TOLERANCE = Fraction(2)
"""Seconds by which creation times, which are whole seconds, may be late without showing a gap."""

_LONGEST_COUNT = 4  # digits: more are dates and times of day


@dataclass(frozen=True)
class Gap:
    """Footage is missing before a file; ``seconds`` of it, None when nobody can tell how much."""

    seconds: Fraction | None


def place_parts(
    source: Source, *, by_time: bool, by_clock: bool
) -> tuple[list[Source], list[SourceFailure]]:
    """Puts the files of a drive on one scale of time; files that a gap separates become sources of their own.

    Args:
        source: a drive; each of its parts has an extent, or could not be read.
        by_time: telemetry of the whole drive meets the frames by time, not by row.
        by_clock: and by the time of the clock.

    Returns:
        The sources, and why files could not be used.
    """
    runs: list[list[Part]] = []
    starts: list[
        tuple[Fraction, int] | None
    ] = []  # of each run on the drive's scale: seconds, frames
    missing = missing_before([part.order for part in source.parts])
    place: tuple[Fraction, int] | None = (Fraction(0), 0)
    previous: Part | None = None
    for part, number_missing in zip(source.parts, missing, strict=True):
        extent = part.extent
        if extent is None:
            previous, place = None, None
            continue
        gap = None
        if previous is not None and previous.extent is not None:
            gap = gap_between(previous.extent, extent, number_missing=number_missing)
        if previous is None or gap is not None:
            if gap is not None:
                known = place is not None and gap.seconds is not None
                place = (place[0] + gap.seconds, place[1]) if known else None  # type: ignore[index,operator]
            runs.append([])
            starts.append(place)
            part = replace(part, shift=(0, 1))
        else:
            part = replace(part, shift=_shift(previous, extent).as_integer_ratio())
        runs[-1].append(part)
        if place is not None:
            place = (place[0] + Fraction(*extent.seconds), place[1] + extent.frames)
        previous = part
    sources, failures = [], []
    for run, start in zip(runs, starts, strict=True):
        own = _run_source(source, run, alone=len(runs) == 1 and len(run) == len(source.parts))
        if source.telemetry is not None and not (by_time and by_clock):
            if start is None:
                failures.append(
                    SourceFailure(
                        source=own.id,
                        stage="telemetry",
                        reason=f"a file is missing before {run[0].data_path}, so that nobody can tell "
                        f"where in {source.telemetry.data_path} it begins: give each file its own "
                        "telemetry, or use --time_origin clock",
                    )
                )
                continue
            own = replace(own, telemetry_start=float(start[0]), telemetry_row=start[1])
        sources.append(own)
    return sources, failures


def gap_between(previous: Extent, following: Extent, *, number_missing: bool) -> Gap | None:
    """The gap between two files of a drive; None when nothing shows one."""
    seconds = Fraction(*previous.seconds)
    frame = seconds / max(previous.frames, 1)
    apart = _first(following) - (_first(previous) + seconds)
    if apart > -frame:
        # Times run on. A single frame may be lost, as it may within a file.
        return Gap(apart) if apart > frame else None
    if previous.created is not None and following.created is not None:
        late = Fraction(following.created) - Fraction(previous.created) - seconds
        if late > CLOCK_TOLERANCE:
            return Gap(late)
    return Gap(None) if number_missing else None


def missing_before(orders: Sequence[str]) -> list[bool]:
    """Which files follow a number that is missing, by the ``orders`` in their names.

    Only small numbers that count (some two neighbours are one apart, or they begin with 0 or 1) can show that
    one is missing; times of day and dates cannot.
    """
    if not all(order.isdecimal() and len(order) <= _LONGEST_COUNT for order in orders):
        return [False] * len(orders)
    numbers = [int(order) for order in orders]
    steps = [0, *(b - a for a, b in pairwise(numbers))]
    counts = 1 in steps or numbers[:1] in ([0], [1])
    return [counts and step > 1 for step in steps]


def cut_by_time(
    source: Source, seconds: float, splits: Sequence[tuple[str, float]], guard: float
) -> list[Source]:
    """Cuts a drive of ``seconds`` into a block a split, in the order of ``splits``.

    Args:
        source: the drive.
        seconds: that it lasts.
        splits: names and fractions; those of 0 get no block.
        guard: seconds left out between blocks, so that what is hard to tell apart is not in two splits.

    Returns:
        A source a block, each a group of its own; none when the drive is too short for the guards.
    """
    wanted = [(name, fraction) for name, fraction in splits if fraction > 0]
    usable = seconds - guard * (len(wanted) - 1)
    if usable <= 0:
        return []
    blocks = []
    start = source.start or 0.0
    for place, (name, fraction) in enumerate(wanted):
        last = place == len(wanted) - 1
        # Decimals that are written as they are: the span is part of the block's name.
        end = round(start + fraction * usable, 6)
        span = f"{start:.6f}".rstrip("0").rstrip(".") + ("" if last else f",{end:.6f}".rstrip("0"))
        blocks.append(
            replace(
                source,
                id=f"{source.id}#t={span.rstrip('.')}",
                group=f"{source.group}#{name}",
                split=name,
                start=start or None,
                end=source.end if last else end,
            )
        )
        start = round(end + guard, 6)
    return blocks


def _first(extent: Extent) -> Fraction:
    return extent.first_pts * Fraction(*extent.time_base)


def _shift(previous: Part, following: Extent) -> Fraction:
    """What brings the times of a file onto the scale of the drive."""
    if previous.extent is None:
        raise ValueError(f"{previous.data_path} has no extent")
    shift = Fraction(*previous.shift)
    frame = Fraction(*previous.extent.seconds) / max(previous.extent.frames, 1)
    own_end = _first(previous.extent) + Fraction(*previous.extent.seconds)
    if _first(following) - own_end > -frame:
        return shift
    return shift + own_end - _first(following)


def _run_source(source: Source, run: Sequence[Part], *, alone: bool) -> Source:
    first = run[0]
    extent = first.extent
    return replace(
        source,
        id=source.id if alone else f"{source.id}#from={first.order or first.data_path}",
        path=first.path,
        data_path=first.data_path,
        group=source.id if source.group == source.data_path else source.group,
        bytes=sum(part.bytes for part in run),
        mtime_ns=max(part.mtime_ns for part in run),
        parts=tuple(run),
        clock_start=extent.created if extent else None,
    )
