"""Reads and checks the telemetry of a drive: rising times, and columns of numbers.

The file extension tells the format: CSV (``.csv``, ``.tsv``), JSON (``.jsonl``, ``.ndjson``, ``.json``),
NumPy (``.npy``), numbers without a header (``.txt``) and GPX.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.labels import gpx, mp4_tracks
from pipelines.labels.cells import (
    Cell,
    CellError,
    TelemetryError,
    TimeParser,
    parse_class,
    parse_number,
)
from pipelines.labels.gpmf import TIME, read_gpmf
from pipelines.labels.json_format import read_json
from pipelines.labels.npy_format import read_npy
from pipelines.labels.table import MAX_ROWS, Table, Wanted, check_known, list_names
from pipelines.labels.text_formats import read_csv, read_text
from pipelines.options.telemetry import TelemetryOptions

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
EXTENSIONS = (*_READERS, ".gpx", *mp4_tracks.SUFFIXES)
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
    """

    times: NDArray[np.float64] | None
    dates: bool
    columns: dict[str, NDArray[np.float64]]
    classes: tuple[str | None, ...] = ()
    merged_rows: int = 0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.classes) or len(next(iter(self.columns.values())))


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
        telemetry = _read_gpx(path, name, numbers, class_column, on_progress)
    elif extension in mp4_tracks.SUFFIXES:
        if class_column is not None:
            raise TelemetryError(
                f"{name}: the telemetry of a video has no classes, such as {class_column!r}"
            )
        names = (TIME, *numbers)
        table = read_gpmf(path, name, Wanted(names))
        telemetry, _ = _collect(name, table, names, TimeParser("s", dates=False), on_progress)
        check_known(name, table.known, names)
    elif extension in _READERS:
        clock = None if options.time_column is None else TimeParser(options.time_unit)
        cells = (options.time_column, *numbers, class_column)
        names = tuple(column for column in cells if column is not None)
        wanted = Wanted(names, options.telemetry_columns, by_row=clock is None)
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
    if extension in mp4_tracks.SUFFIXES:
        table = read_gpmf(path, name, Wanted(()))
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
    on_progress: Callable[[], object],
) -> Telemetry:
    check_known(name, gpx.COLUMNS, columns)
    if class_column is not None:
        raise TelemetryError(
            f"{name}: expected a column {class_column!r} of classes, got GPX, which has none: "
            "convert it to CSV and add one"
        )
    # Speed and heading are derived from positions; positions are parsed only if they are needed.
    moving = ("lat", "lon") if {"speed", "heading"} & set(columns) else ()
    names = ("time", *dict.fromkeys((*columns, *moving)))
    lines, segments = array("q"), array("q")

    def rows() -> Iterator[tuple[int, list[Cell]]]:
        for index, point in enumerate(gpx.read_points(path, name)):
            lines.append(point.line)
            segments.append(point.segment)
            yield index, point.cells(names)

    table = Table(rows(), lambda index: f"{name} line {lines[index]} (point {index + 1})")
    found, kept = _collect(name, table, names, TimeParser("s", dates=True), on_progress)
    values = found.columns
    if moving and found.times is not None:
        values |= gpx.fill_motion(found.times, values, np.array(segments)[kept])
    return replace(found, columns={column: values[column] for column in columns})


def _collect(
    name: str,
    table: Table,
    columns: Sequence[str],
    clock: TimeParser | None,
    on_progress: Callable[[], object],
    *,
    has_classes: bool = False,
) -> tuple[Telemetry, NDArray[np.int64]]:
    """Parses the rows of a table: checks that times rise, and merges rows with the same time.

    The cells of a row are in the order of ``columns``: time (with a ``clock``), numbers, class (with
    ``has_classes``). Returns the numbers of the rows that were not merged into the one before, too.
    """
    parsers: list[Callable[[Any], Any]] = [parse_number] * len(columns)
    if clock:
        parsers[0] = clock.parse
    if has_classes:
        parsers[-1] = parse_class
    held: list[Any] = [[] if parse is parse_class else array("d") for parse in parsers]
    kept = array("q")
    merged = 0
    for count, (number, cells) in enumerate(table.rows):
        if count % _PROGRESS_ROWS == 0:
            on_progress()
        if count == MAX_ROWS:
            raise TelemetryError(
                f"{name}: expected at most {MAX_ROWS} rows, got more: split the file, or thin it out"
            )
        row: list[Any] = []
        try:
            for parse, cell in zip(parsers, cells, strict=True):
                row.append(parse(cell))
        except CellError as error:
            column = columns[len(row)]
            if table.known:  # a JSON object without the time column may have a misspelt one
                check_known(table.place(number), table.known, [column])
            hint = "" if kept else table.first_hint
            place = table.place(number)
            raise TelemetryError(f"{place}, column {column!r}: {error}{hint}") from error
        if clock and kept and row[0] <= held[0][-1]:
            _merge(row, held, columns, place=table.place(number), before=table.place(kept[-1]))
            merged += 1
            continue
        kept.append(number)
        for values, value in zip(held, row, strict=True):
            values.append(value)
    if not kept:
        raise TelemetryError(
            f"{name}: expected rows of telemetry, got none: fill the file or leave it out"
        )
    numbers = slice(1 if clock else 0, -1 if has_classes else None)
    telemetry = Telemetry(
        times=np.frombuffer(held[0]) if clock else None,
        dates=bool(clock and clock.dates),
        columns=dict(zip(columns[numbers], map(np.frombuffer, held[numbers]), strict=True)),
        classes=tuple(held[-1]) if has_classes else (),
        merged_rows=merged,
    )
    return telemetry, np.frombuffer(kept, np.int64)


def _merge(
    row: Sequence[Any], held: Sequence[Any], columns: Sequence[str], *, place: str, before: str
) -> None:
    """Merges a row into the last of the ``held`` ones, if it has the same time and contradicts no value."""
    if row[0] < held[0][-1]:
        raise TelemetryError(
            f"{place}: expected times that rise, got {row[0]!r} s after {held[0][-1]!r} s in {before}: "
            "sort the rows, or split the file where a drive ends"
        )
    for column, values, value in zip(columns[1:], held[1:], row[1:], strict=True):
        if _is_missing(values[-1]):
            values[-1] = value
        elif value != values[-1] and not _is_missing(value):
            raise TelemetryError(
                f"{place}, column {column!r}: expected one value at one time, got {value!r} here and "
                f"{values[-1]!r} in {before}: remove one of the rows, or write times with more digits"
            )


def _is_missing(value: float | str | None) -> bool:
    return value is None or value != value  # NaN
