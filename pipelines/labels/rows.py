"""Collects the rows of a table into `Telemetry`: rising times, and columns of numbers."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.labels.cells import (
    Cell,
    CellError,
    TelemetryError,
    TimeParser,
    parse_class,
    parse_number,
)
from pipelines.labels.embedded import NO_FIX
from pipelines.labels.table import MAX_ROWS, Dropped, Table, check_known

_PROGRESS_ROWS = 10_000


@dataclass(frozen=True)
class Telemetry:
    """Rows of numbers along a drive.

    Attributes:
        times: ``[rows]`` seconds, strictly rising; None if row i belongs to frame i.
        dates: the file has dates, so times are seconds since 1970 (UTC); otherwise their origin is unknown.
        columns: by name, ``[rows]``; NaN for no value.
        classes: of each row, None for no class; empty if none was requested.
        merged_rows: number of rows that were merged into the row before, which has the same time.
        start: the first time of the file, whose row may have been dropped; None if it is not known.
        dropped: rows that were left out.
        derived: columns that were computed from positions.
    """

    times: NDArray[np.float64] | None
    dates: bool
    columns: dict[str, NDArray[np.float64]]
    classes: tuple[str | None, ...] = ()
    merged_rows: int = 0
    dropped: Dropped = field(default_factory=dict)
    start: float | None = None
    derived: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.classes) or len(next(iter(self.columns.values())))


def add_dropped(dropped: Dropped, telemetry: Telemetry) -> None:
    """Adds the rows that ``telemetry`` dropped to those of others."""
    for reason, (rows, first) in telemetry.dropped.items():
        before, earlier = dropped.get(reason, (0, first))
        dropped[reason] = (before + rows, earlier)


def collect_rows(
    name: str,
    table: Table,
    columns: Sequence[str],
    clock: TimeParser | None,
    on_progress: Callable[[], object],
    *,
    has_classes: bool = False,
    one_device: bool = False,
) -> tuple[Telemetry, NDArray[np.int64]]:
    """Parses the rows of a table: merges rows with the same time, and drops bad ones.

    The cells of a row are in the order of ``columns``: time (with a ``clock``), numbers, class (with
    ``has_classes``). Returns the numbers of the rows that were not merged into the one before, too.

    Rows without times belong to frames, so that none can be left out. Rows with times are dropped if they
    cannot be parsed, contradict a row with the same time, or go back in time. If these are half of the rows,
    or more than a tenth contradicts or goes back, the first error is raised. Rows of ``one_device`` may
    contradict each other: its times have too few digits, and the first row with a time is nearest to it.
    """
    parsers: list[Callable[[Any], Any]] = [parse_number] * len(columns)
    if clock:
        parsers[0] = clock.parse
    if has_classes:
        parsers[-1] = parse_class
    held: list[Any] = [[] if parse is parse_class else array("d") for parse in parsers]
    kept = array("q")
    merged, count = 0, 0
    bad: list[tuple[str, int, TelemetryError]] = [
        (reason, 0, TelemetryError()) for reason in (_UNREADABLE, _CONTRADICTING, _BACKWARD)
    ]

    def drop(kind: int, error: TelemetryError, rows: int = 1) -> None:
        if clock is None:
            raise error
        reason, before, first = bad[kind]
        bad[kind] = (reason, before + rows, first if before else error)

    for count, (number, cells) in enumerate(table.rows, start=1):
        if count % _PROGRESS_ROWS == 1:
            on_progress()
        if count > MAX_ROWS:
            raise TelemetryError(
                f"{name}: expected at most {MAX_ROWS} rows, got more: split the file, or thin it out"
            )
        try:
            row = _parse_row(cells, parsers, columns, table, number, hint=not kept)
        except TelemetryError as error:
            drop(0, error)
            continue
        if clock and kept and row[0] == held[0][-1]:
            conflict = _merge(row, held, columns, table.place(number), table.place(kept[-1]))
            if conflict is None:
                merged += 1
            else:
                drop(1, conflict)
            continue
        kept.append(number)
        for values, value in zip(held, row, strict=True):
            values.append(value)
    if not kept:
        without = table.dropped.get(NO_FIX, (0, ""))[0]
        received = f"{without} of a GPS without a fix" if without else "none"
        raise (
            bad[0][2]
            if bad[0][1]
            else TelemetryError(
                f"{name}: expected rows of telemetry, got {received}: fill the file or leave it out"
            )
        )
    numbers, arrays = np.frombuffer(kept, np.int64), list(map(_as_array, held))
    if clock:
        clock.check(arrays[0], name)
        rising = _longest_rise(arrays[0])
        if len(rising) < len(numbers):
            at = int(np.flatnonzero(np.diff(arrays[0]) <= 0)[0])
            (before, place), (after, own) = (
                (float(arrays[0][i]), table.place(int(numbers[i]))) for i in (at, at + 1)
            )
            error = TelemetryError(
                f"{own}: expected times that rise, got {after!r} s after {before!r} s in {place}: "
                "sort the rows, or split the file where a drive ends"
            )
            drop(2, error, len(numbers) - len(rising))
            numbers, arrays = numbers[rising], [values[rising] for values in arrays]
    limits = [(0, count / 2 - 0.5), (1, max(1, count / 10)), (2, max(1, count / 10))]
    if one_device:
        limits[1] = (1, count if len(numbers) > 1 else 0)
    total = sum(rows for kind, (_, rows, _) in enumerate(bad) if not (one_device and kind == 1))
    for kind, limit in limits:
        _, rows, first = bad[kind]
        if rows and (rows > limit or 2 * total >= count):
            raise TelemetryError(f"{first} ({rows} such rows of {count})") if rows > 1 else first
    inner = slice(1 if clock else 0, -1 if has_classes else None)
    telemetry = Telemetry(
        times=arrays[0] if clock else None,
        dates=bool(clock and clock.dates),
        columns=dict(zip(columns[inner], arrays[inner], strict=True)),
        classes=tuple(arrays[-1].tolist()) if has_classes else (),
        merged_rows=merged,
        start=clock.first if clock else None,
        dropped=table.dropped | {reason: (rows, str(first)) for reason, rows, first in bad if rows},
    )
    return telemetry, numbers


_UNREADABLE = "cannot be read"
_CONTRADICTING = "have the time of the row before and other values"
_BACKWARD = "go back in time"


def _as_array(values: Any) -> NDArray[Any]:
    return np.array(values, object) if isinstance(values, list) else np.frombuffer(values)


def _parse_row(
    cells: Sequence[Cell] | TelemetryError,
    parsers: Sequence[Callable[[Any], Any]],
    columns: Sequence[str],
    table: Table,
    number: int,
    *,
    hint: bool,
) -> list[Any]:
    """Returns the values of a row; raises `TelemetryError` with its place."""
    if isinstance(cells, TelemetryError):
        raise cells
    row: list[Any] = []
    try:
        for parse, cell in zip(parsers, cells, strict=True):
            row.append(parse(cell))
    except CellError as error:
        column, place = columns[len(row)], table.place(number)
        if table.known:  # a JSON object without the time column may have a misspelt one
            check_known(place, table.known, [column])
        first_hint = table.first_hint if hint else ""
        raise TelemetryError(f"{place}, column {column!r}: {error}{first_hint}") from error
    return row


def _longest_rise(times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the indices of a longest strictly rising subsequence, ``[rows]`` int64.

    Patience sorting, see https://en.wikipedia.org/wiki/Longest_increasing_subsequence.
    """
    if np.all(np.diff(times) > 0):
        return np.arange(len(times))
    # From the end, so that of two rows in wrong order the later one is left out.
    backward = -times[::-1]
    ends, places, before = array("d"), array("q"), np.full(len(times), -1, np.int64)
    for index, time in enumerate(backward.tolist()):
        place = bisect_left(ends, time)
        before[index] = places[place - 1] if place else -1
        ends[place : place + 1] = array("d", [time])
        places[place : place + 1] = array("q", [index])
    rise, index = array("q"), places[-1]
    while index >= 0:
        rise.append(len(times) - 1 - index)
        index = int(before[index])
    return np.frombuffer(rise, np.int64)


def _merge(
    row: Sequence[Any], held: Sequence[Any], columns: Sequence[str], place: str, before: str
) -> TelemetryError | None:
    """Merges a row into the last of the ``held`` ones, which has the same time.

    Returns an error if it contradicts a value; then nothing is merged.
    """
    pairs = list(zip(columns[1:], held[1:], row[1:], strict=True))
    for column, values, value in pairs:
        if not _is_missing(values[-1]) and value != values[-1] and not _is_missing(value):
            return TelemetryError(
                f"{place}, column {column!r}: expected one value at one time, got {value!r} here and "
                f"{values[-1]!r} in {before}: remove one of the rows, or write times with more digits"
            )
    for _, values, value in pairs:
        if _is_missing(values[-1]):
            values[-1] = value
    return None


def _is_missing(value: float | str | None) -> bool:
    return value is None or value != value  # NaN
