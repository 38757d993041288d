"""Reads and checks the telemetry of a drive: rising times, and columns of numbers.

The file extension tells the format: CSV (``.csv``, ``.tsv``), JSON (``.jsonl``, ``.ndjson``, ``.json``),
NumPy (``.npy``), numbers without a header (``.txt``), GPX, NMEA (``.nmea``, and ``.txt`` that begins so) and
videos with telemetry.
"""

from __future__ import annotations

import functools
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.labels import gpx
from pipelines.labels.array_pairs import is_pairs
from pipelines.labels.cells import (
    Cell,
    CellError,
    TelemetryError,
    TimeParser,
    parse_class,
    parse_number,
)
from pipelines.labels.embedded import NO_FIX, read_embedded
from pipelines.labels.json_format import read_json
from pipelines.labels.nmea import is_nmea
from pipelines.labels.npy_format import read_npy
from pipelines.labels.streams import POSITION, TIME
from pipelines.labels.table import MAX_ROWS, Dropped, Table, Wanted, check_known, list_names
from pipelines.labels.text_formats import read_csv, read_text
from pipelines.options.telemetry import VIDEO_SUFFIXES, TelemetryOptions

__all__ = ["EXTENSIONS", "Telemetry", "TelemetryError", "match_columns", "read_telemetry"]

_READERS: dict[str, Callable[[str, str, Wanted], Table]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".npy": read_npy,
    ".txt": read_text,
}
EXTENSIONS = (*_READERS, ".gpx", ".nmea", *VIDEO_SUFFIXES)
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
    """

    times: NDArray[np.float64] | None
    dates: bool
    columns: dict[str, NDArray[np.float64]]
    classes: tuple[str | None, ...] = ()
    merged_rows: int = 0
    dropped: Dropped = field(default_factory=dict)
    start: float | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.classes) or len(next(iter(self.columns.values())))


def add_dropped(dropped: Dropped, telemetry: Telemetry) -> None:
    """Adds the rows that ``telemetry`` dropped to those of others."""
    for reason, (rows, first) in telemetry.dropped.items():
        before, earlier = dropped.get(reason, (0, first))
        dropped[reason] = (before + rows, earlier)


def read_telemetry(
    path: str,
    name: str,
    options: TelemetryOptions,
    *,
    columns: Sequence[str],
    class_column: str | None = None,
    on_progress: Callable[[], object] = lambda: None,
) -> Telemetry:
    """Reads some numeric ``columns`` of the file at ``path``, its times and its classes.

    Other columns may hold anything. Example: a file with the header ``t,speed`` and the rows ``0,13.5`` and
    ``500,13.75``, read with ``time_column="t"``, ``time_unit="ms"`` and ``columns=["speed"]``, has times
    ``[0.0, 0.5]`` and columns ``{"speed": [13.5, 13.75]}``. Neither ``time_offset`` nor ``time_origin`` is
    applied. Each column must have at least one value. ``name`` is the file's name in messages, and
    ``on_progress`` is called now and then while rows are read. Memory holds the numbers that are returned.

    Raises:
        TelemetryError: naming file and row, if the file cannot be parsed.
        OSError: if the file cannot be read.
    """
    if not columns and class_column is None:
        raise ValueError("expected columns or a class column to read, got none")
    extension = os.path.splitext(path)[1].lower()
    numbers = tuple(dict.fromkeys(columns))
    if extension == ".gpx":
        telemetry = _read_gpx(path, name, numbers, class_column, options, on_progress)
    elif _has_streams(path):
        if class_column is not None:
            raise TelemetryError(
                f"{name}: telemetry of this kind has no classes, such as {class_column!r}"
            )
        telemetry = _read_streams(path, name, numbers, options, on_progress)
    elif extension in _READERS:
        clock = None if options.time_column is None else TimeParser(options.time_unit)
        cells = (options.time_column, *numbers, class_column)
        names = tuple(column for column in cells if column is not None)
        wanted = Wanted(
            names,
            options.telemetry_columns,
            by_row=clock is None,
            decimal_mark=options.decimal_mark,
        )
        table = _READERS[extension](path, name, wanted)
        has_classes = class_column is not None
        telemetry, _ = _collect(name, table, names, clock, on_progress, has_classes=has_classes)
        # JSON names its columns row by row, so a missing column is known only after the last row.
        check_known(name, table.known, names)
    else:
        raise TelemetryError(
            f"{name}: expected telemetry in a file of {', '.join(EXTENSIONS)}, got "
            f"{extension or 'no extension'}: convert or rename it"
        )
    for column, values in telemetry.columns.items():
        if np.isnan(values).all():
            raise TelemetryError(
                f"{name}: expected numbers in the column {column!r}, got none in any row: "
                "name another column, or leave the file out"
            )
    if class_column is not None and not any(telemetry.classes):
        raise TelemetryError(
            f"{name}: expected classes in the column {class_column!r}, got none in any row: "
            "name another --class_column, or leave the file out"
        )
    return telemetry


def match_columns(
    patterns: Sequence[str], path: str, name: str, options: TelemetryOptions
) -> tuple[str, ...]:
    """Returns the columns of a file, in its order, in place of patterns: ``x1``, ``x2`` for ``x*``.

    Raises `TelemetryError` or `OSError` if the file cannot be read, or nothing matches.
    """
    extension = os.path.splitext(path)[1].lower()
    known = list(gpx.COLUMNS)
    if _has_streams(path):
        table = read_embedded(path, name, Wanted(()))
        next(table.rows, None)
        known = list(table.known)
    elif extension in _READERS:
        table = _READERS[extension](path, name, Wanted((), options.telemetry_columns))
        next(table.rows, None)  # JSON names its columns in its rows
        known = list(table.known)
    found: dict[str, None] = {}
    for pattern in patterns:
        expression = re.escape(pattern).replace(r"\*", ".*")
        own = [column for column in known if re.fullmatch(expression, column)]
        if "*" not in pattern or pattern in known:
            own = [pattern]
        if not own:
            raise TelemetryError(
                f"{name}: expected columns that match {pattern!r}, got {list_names(known)}: "
                "correct the flag that names the columns"
            )
        found |= dict.fromkeys(own)
    return tuple(found)


def _read_gpx(
    path: str,
    name: str,
    columns: Sequence[str],
    class_column: str | None,
    options: TelemetryOptions,
    on_progress: Callable[[], object],
) -> Telemetry:
    check_known(name, gpx.COLUMNS, columns)
    if class_column is not None:
        raise TelemetryError(
            f"{name}: expected a column {class_column!r} of classes, got GPX, which has none: "
            "convert it to CSV and add one"
        )
    names = ("time", *dict.fromkeys((*columns, "lat", "lon")))
    lines, segments = array("q"), array("q")

    def rows() -> Iterator[tuple[int, list[Cell] | TelemetryError]]:
        for index, point in enumerate(gpx.read_points(path, name)):
            if isinstance(point, TelemetryError):
                lines.append(0)
                segments.append(0)
                yield index, point
            else:
                lines.append(point.line)
                segments.append(point.segment)
                yield index, point.cells(names)

    table = Table(rows(), lambda index: f"{name} line {lines[index]} (point {index + 1})")
    clock = TimeParser("s", dates=True)
    found, kept = _collect(name, table, names, clock, on_progress, one_device=True)
    own = np.array(segments)[kept]
    return _clean(
        found, columns, name, ("lat", "lon"), own, options, lambda i: table.place(int(kept[i]))
    )


def _has_streams(path: str) -> bool:
    extension = os.path.splitext(path)[1].lower()
    return extension in VIDEO_SUFFIXES or is_pairs(path) or is_nmea(path)


def _read_streams(
    path: str,
    name: str,
    columns: Sequence[str],
    options: TelemetryOptions,
    on_progress: Callable[[], object],
) -> Telemetry:
    """Reads the streams of a video, of NMEA or of arrays in pairs; positions are cleaned as those of GPX."""
    place = POSITION[:2] if set(POSITION) & set(columns) else ()
    names = (TIME, *dict.fromkeys((*columns, *place)))
    table = read_embedded(path, name, Wanted(names))
    clock = TimeParser("s", dates=False)
    found, kept = _collect(name, table, names, clock, on_progress)
    check_known(name, table.known, columns)
    found = replace(found, dates=is_nmea(path))
    if place and not np.isnan(found.columns[place[0]]).all():
        own = np.zeros(len(kept), np.int64)
        found = _clean(
            found, columns, name, place, own, options, lambda i: table.place(int(kept[i]))
        )
    return replace(found, columns={column: found.columns[column] for column in columns})


def _clean(
    found: Telemetry,
    columns: Sequence[str],
    name: str,
    position: tuple[str, ...],
    segments: NDArray[np.int64],
    options: TelemetryOptions,
    place: Callable[[int], str],
) -> Telemetry:
    """Drops positions without a fix and after jumps, and derives speed and heading where they are missing.

    Rows of other streams than the position's have none, and stay as they are. ``found`` has the columns of
    ``position``, latitude and longitude. Nothing is derived from one of the ``segments`` of rows to another.
    ``place`` returns the name of a row in messages.
    """
    if found.times is None:
        raise ValueError("positions have times")
    lat, lon = (found.columns[column] for column in position)
    index, own = np.flatnonzero(~np.isnan(lat + lon)), segments[~np.isnan(lat + lon)]
    keep, dropped = np.ones(len(lat), np.bool_), found.dropped
    for reason, clean in (
        ("have no fix (latitude and longitude are 0)", gpx.find_fixes),
        (
            "lie farther away than --max_acceleration allows",
            functools.partial(gpx.split_jumps, max_acceleration=options.max_acceleration),
        ),
    ):
        good, own = clean(found.times[index], lat[index], lon[index], own)
        if not good.all():
            dropped[reason] = (int((~good).sum()), place(int(index[~good][0])))
        keep[index[~good]] = False
        index, own = index[good], own[good]
    if not len(index):
        raise TelemetryError(f"{name}: expected points with a fix, got none: leave the file out")
    values = dict(found.columns)
    if {"speed", "heading"} & set(columns):
        of_position = {"lat": lat[index], "lon": lon[index]}
        of_position |= {
            column: values[column][index] for column in ("speed", "heading") if column in values
        }
        for column, derived in gpx.fill_motion(found.times[index], of_position, own).items():
            values[column] = values.get(column, lat).copy()
            values[column][index] = derived
    columns_read = {column: values[column][keep] for column in columns}
    return replace(found, times=found.times[keep], columns=columns_read, dropped=dropped)


def _collect(
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
