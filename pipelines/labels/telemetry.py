"""Reads and checks the telemetry of a drive: rising times, and columns of numbers.

The file extension tells the format: CSV (``.csv``, ``.tsv``), JSON (``.jsonl``, ``.ndjson``, ``.json``),
NumPy (``.npy``), numbers without a header (``.txt``), GPX, NMEA (``.nmea``, and ``.txt`` that begins so) and
videos with telemetry.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.labels import gpx
from pipelines.labels.array_pairs import is_pairs
from pipelines.labels.cells import Cell, TelemetryError, TimeParser
from pipelines.labels.embedded import read_embedded
from pipelines.labels.formulas import compute
from pipelines.labels.json_format import read_json
from pipelines.labels.nmea import is_nmea
from pipelines.labels.npy_format import read_npy
from pipelines.labels.rows import Telemetry, collect_rows
from pipelines.labels.streams import POSITION, TIME
from pipelines.labels.table import Table, Wanted, check_known, list_names
from pipelines.labels.text_formats import read_csv, read_text
from pipelines.options.formulas import Formula
from pipelines.options.telemetry import VIDEO_SUFFIXES, TelemetryOptions

__all__ = ["EXTENSIONS", "TelemetryError", "match_columns", "read_telemetry"]

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
_POSITIONS = (POSITION[:2], ("lat", "lon"))
_MOTION = ("speed", "heading")


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
    extension = _extension(path)
    formulas = {name: own for name, own in options.formulas.items() if name in columns}
    read = [formulas[column].names if column in formulas else (column,) for column in columns]
    numbers = tuple(dict.fromkeys(itertools.chain(*read)))
    if extension == ".gpx":
        telemetry = _read_gpx(path, name, numbers, class_column, options, on_progress)
    elif _has_streams(path):
        if class_column is not None:
            raise TelemetryError(
                f"{name}: telemetry of this kind has no classes, such as {class_column!r}"
            )
        telemetry = _read_streams(path, name, numbers, options, on_progress)
    elif extension in _READERS:
        telemetry = _read_table(path, name, numbers, class_column, options, on_progress)
    else:
        raise TelemetryError(
            f"{name}: expected telemetry in a file of {', '.join(EXTENSIONS)}, got "
            f"{extension or 'no extension'}: convert or rename it"
        )
    if formulas:
        telemetry = _compute(telemetry, columns, formulas, options)
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


def _compute(
    read: Telemetry,
    columns: Sequence[str],
    formulas: Mapping[str, Formula],
    options: TelemetryOptions,
) -> Telemetry:
    """Returns the ``columns`` of telemetry, some of which are computed from those that were ``read``."""
    known = {
        column: compute(
            formulas[column],
            read.columns,
            read.times,
            angles=options.angle_sources,
            max_gap=options.max_gap,
        )
        if column in formulas
        else read.columns[column]
        for column in columns
    }
    derived = [name for name, own in formulas.items() if read.derived & set(own.names)]
    return replace(read, columns=known, derived=read.derived.union(derived))


def match_columns(
    patterns: Sequence[str], path: str, name: str, options: TelemetryOptions
) -> tuple[str, ...]:
    """Returns the columns of a file, in its order, in place of patterns: ``x1``, ``x2`` for ``x*``.

    Raises `TelemetryError` or `OSError` if the file cannot be read, or nothing matches.
    """
    known = _known_columns(path, name, options)
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


def _known_columns(path: str, name: str, options: TelemetryOptions) -> list[str]:
    """Returns the columns that a file names at its beginning."""
    reader = read_embedded if _has_streams(path) else _READERS.get(_extension(path))
    if reader is None:
        return list(gpx.COLUMNS)
    table = reader(path, name, Wanted((), options.telemetry_columns))
    next(table.rows, None)  # JSON names its columns in its rows
    return list(table.known)


def _read_table(
    path: str,
    name: str,
    columns: Sequence[str],
    class_column: str | None,
    options: TelemetryOptions,
    on_progress: Callable[[], object],
) -> Telemetry:
    """Reads columns of text, JSON or NumPy; positions are cleaned as those of GPX."""
    clock = None if options.time_column is None else TimeParser(options.time_unit)
    position, derived = _find_position(path, name, columns, options, on_progress)
    if "heading" in derived and "heading" not in options.angle_sources:
        raise TelemetryError(
            f"{name}: a heading that is derived from positions is an angle: give --angle_columns heading"
        )
    numbers = [column for column in columns if column not in derived]
    cells = (options.time_column, *dict.fromkeys((*numbers, *position)), class_column)
    names = tuple(column for column in cells if column is not None)
    reader = _READERS[_extension(path)]
    table = reader(
        path,
        name,
        Wanted(
            names,
            options.telemetry_columns,
            by_row=clock is None,
            decimal_mark=options.decimal_mark,
        ),
    )
    has_classes = class_column is not None
    found, kept = collect_rows(name, table, names, clock, on_progress, has_classes=has_classes)
    # JSON names its columns row by row, so a missing column is known only after the last row.
    check_known(name, table.known, names)
    if not position:
        return found
    return _clean(found, columns, name, position, options, table, kept, derived=derived)


def _find_position(
    path: str,
    name: str,
    columns: Sequence[str],
    options: TelemetryOptions,
    on_progress: Callable[[], object],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns latitude and longitude of a table, if they are wanted, and what is derived from them.

    Only rows with times can be cleaned.
    """
    wanted = {*_MOTION, *_POSITIONS[0], *_POSITIONS[1]} & set(columns)
    if not wanted or options.time_column is None:
        return (), ()
    known = _known_columns(path, name, options)
    if _READERS[_extension(path)] is read_json and not wanted <= set(known):
        # Any row of JSON may be the first with a column. What a file holds is not derived.
        table = read_json(path, name, Wanted(()))
        for _ in table.rows:
            on_progress()
        known = list(table.known)
    for position in _POSITIONS:
        if set(position) <= set(known):
            derived = tuple(c for c in columns if c in _MOTION and c not in known)
            return (position, derived) if derived or wanted & set(position) else ((), ())
    return (), ()


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
    found, kept = collect_rows(name, table, names, clock, on_progress, one_device=True)
    own = np.array(segments)[kept]
    return _clean(found, columns, name, ("lat", "lon"), options, table, kept, segments=own)


def _has_streams(path: str) -> bool:
    return _extension(path) in VIDEO_SUFFIXES or is_pairs(path) or is_nmea(path)


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


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
    found, kept = collect_rows(name, table, names, clock, on_progress)
    check_known(name, table.known, columns)
    found = replace(found, dates=is_nmea(path))
    if place and not np.isnan(found.columns[place[0]]).all():
        found = _clean(found, columns, name, place, options, table, kept)
    return replace(found, columns={column: found.columns[column] for column in columns})


def _clean(
    found: Telemetry,
    columns: Sequence[str],
    name: str,
    position: tuple[str, ...],
    options: TelemetryOptions,
    table: Table,
    kept: NDArray[np.int64],
    *,
    segments: NDArray[np.int64] | None = None,
    derived: Collection[str] = _MOTION,
) -> Telemetry:
    """Drops positions without a fix and after jumps, and derives speed and heading where they are missing.

    Speed and heading are derived if they are among ``columns`` and ``derived``. Rows of other streams than
    the position's have none, and stay as they are. ``found`` has the columns of ``position``, latitude and
    longitude, and ``kept`` are the numbers of its rows in the ``table``. Nothing is derived from one of the
    ``segments`` of rows to another; by default there is one.
    """
    if found.times is None:
        raise ValueError("positions have times")
    lat, lon = (found.columns[column] for column in position)
    index = np.flatnonzero(~np.isnan(lat + lon))
    own = np.zeros(len(index), np.int64) if segments is None else segments[index]
    keep, dropped = np.ones(len(lat), np.bool_), found.dropped
    for reason, clean in (
        ("have no latitude and longitude in degrees", gpx.find_degrees),
        ("have no fix (latitude and longitude are 0)", gpx.find_fixes),
        (
            "lie farther away than --max_acceleration allows",
            functools.partial(gpx.split_jumps, max_acceleration=options.max_acceleration),
        ),
    ):
        good, own = clean(found.times[index], lat[index], lon[index], own)
        if not good.all():
            dropped[reason] = (int((~good).sum()), table.place(int(kept[index[~good][0]])))
        keep[index[~good]] = False
        index, own = index[good], own[good]
    if not len(index):
        raise TelemetryError(
            f"{name}: expected positions in degrees with a fix, got none: leave the file out"
        )
    values = dict(found.columns)
    incomplete = set()
    if set(derived) & set(columns):
        of_position = {"lat": lat[index], "lon": lon[index]}
        of_position |= {column: values[column][index] for column in _MOTION if column in values}
        motion = gpx.fill_motion(found.times[index], of_position, own)
        for column in set(derived) & set(columns):
            written = values.get(column, np.full(len(lat), np.nan))
            values[column] = written.copy()
            values[column][index] = motion[column]
            if np.isnan(written[index]).any():
                incomplete.add(column)
    columns_read = {column: values[column][keep] for column in columns}
    return replace(
        found,
        times=found.times[keep],
        columns=columns_read,
        classes=tuple(itertools.compress(found.classes, keep)),
        dropped=dropped,
        derived=frozenset(incomplete),
    )
