"""Reads and checks the telemetry of a drive: rising times, and columns of numbers.

The file extension tells the format: CSV (``.csv``, ``.tsv``), JSON (``.jsonl``, ``.ndjson``, ``.json``),
NumPy (``.npy``), numbers without a header (``.txt``) and GPX.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from pipelines.labels import gpx
from pipelines.labels.cells import (
    Cell,
    CellError,
    TelemetryError,
    TimeParser,
    parse_class,
    parse_number,
)
from pipelines.labels.json_format import read_json
from pipelines.labels.npy_format import read_npy
from pipelines.labels.table import Table, Wanted, check_known
from pipelines.labels.text_formats import read_csv, read_text
from pipelines.options.telemetry import TelemetryOptions

__all__ = ["EXTENSIONS", "Telemetry", "TelemetryError", "read_telemetry"]

_READERS: dict[str, Callable[[str, str, Wanted], Table]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".npy": read_npy,
    ".txt": read_text,
}
EXTENSIONS = (*_READERS, ".gpx")


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
) -> Telemetry:
    """Reads some ``columns`` of the file at ``path``, its times and its classes.

    Other columns may hold anything. Example: a file with the header ``t,speed`` and the rows ``0,13.5`` and
    ``500,13.75``, read with ``time_column="t"``, ``time_unit="ms"`` and ``columns=["speed"]``, has times
    ``[0.0, 0.5]`` and columns ``{"speed": [13.5, 13.75]}``.

    Args:
        path: of the file.
        name: of the file in messages.
        options: of which ``time_column``, ``time_unit`` and ``telemetry_columns`` are used here, not
            ``time_offset`` and ``time_origin``. GPX has its own times.
        columns: names of numeric columns; each must have at least one value.
        class_column: name of the column of classes.

    Raises:
        TelemetryError: naming file and row, if the file cannot be parsed.
        OSError: if the file cannot be read.
    """
    if not columns and class_column is None:
        raise ValueError("expected columns or a class column to read, got none")
    extension = os.path.splitext(path)[1].lower()
    if extension == ".gpx":
        return _read_gpx(path, name, columns, class_column)
    reader = _READERS.get(extension)
    if reader is None:
        raise TelemetryError(
            f"{name}: expected telemetry in a file of {', '.join(EXTENSIONS)}, got "
            f"{extension or 'no extension'}: convert or rename it"
        )
    times = () if options.time_column is None else (options.time_column,)
    classes = () if class_column is None else (class_column,)
    numbers = tuple(dict.fromkeys(columns))
    wanted = Wanted((*times, *numbers, *classes), options.telemetry_columns, by_row=not times)
    table = reader(path, name, wanted)
    clock = TimeParser(options.time_unit) if times else None
    telemetry = _Rows(wanted.columns, clock, has_classes=bool(classes)).collect(name, table)
    # JSON names its columns row by row, so a missing column is known only after the last row.
    check_known(name, table.known, wanted.columns)
    _check_values(name, telemetry)
    if class_column is not None and not any(telemetry.classes):
        raise TelemetryError(
            f"{name}: expected classes in the column {class_column!r}, got none in any row: "
            "name another --class_column, or leave the file out"
        )
    return telemetry


def _read_gpx(path: str, name: str, columns: Sequence[str], class_column: str | None) -> Telemetry:
    check_known(name, gpx.COLUMNS, columns)
    if class_column is not None:
        raise TelemetryError(
            f"{name}: expected a column {class_column!r} of classes, got GPX, which has none: "
            "convert it to CSV and add one"
        )
    points = gpx.read_points(path, name)
    # Speed and heading are derived from positions; positions are parsed only if they are needed.
    moving = ("lat", "lon") if {"speed", "heading"} & set(columns) else ()
    numbers = tuple(dict.fromkeys((*columns, *moving)))
    indices = [0, *(1 + gpx.COLUMNS.index(column) for column in numbers)]

    def cells() -> Iterator[tuple[int, list[Cell]]]:
        for number, point in enumerate(points, start=1):
            found = point.cells()
            yield number, [found[index] for index in indices]

    def place(number: int) -> str:
        return f"{name} line {points[number - 1].line} (point {number})"

    rows = _Rows(("time", *numbers), TimeParser("s", dates=True))
    found = rows.collect(name, Table(cells(), place))
    values = found.columns
    if moving and found.times is not None:
        none = np.full(len(found.times), np.nan)
        values["speed"], values["heading"] = gpx.fill_motion(
            found.times,
            values["lat"],
            values["lon"],
            segments=np.array([points[number - 1].segment for number in rows.kept]),
            written={key: values.get(key, none) for key in ("speed", "heading")},
        )
    wanted = {column: values[column] for column in dict.fromkeys(columns)}
    telemetry = Telemetry(found.times, True, wanted, merged_rows=found.merged_rows)
    _check_values(name, telemetry)
    return telemetry


class _Rows:
    """Parses the rows of a table: checks that times rise, and merges rows with the same time.

    Args:
        columns: names of the cells of a row: time (with a ``clock``), numbers, class (with ``has_classes``).
        clock: parses times; None if rows have none.
        has_classes: the last cell is a class.
    """

    def __init__(
        self, columns: tuple[str, ...], clock: TimeParser | None, *, has_classes: bool = False
    ):
        self._names = columns
        self._numbers = slice(int(clock is not None), len(columns) - has_classes)
        self._clock = clock
        self._has_classes = has_classes
        self._times = array("d")
        self._values = [array("d") for _ in columns[self._numbers]]
        self._classes: list[str | None] = []
        self._merged = 0
        self.kept: list[int] = []
        """Numbers of the rows that were kept."""

    def collect(self, name: str, table: Table) -> Telemetry:
        for number, cells in table.rows:
            time, values, label = self._parse(table, number, cells)
            if self._clock and self.kept and time <= self._times[-1]:
                self._merge(table, number, time, values, label)
                continue
            self.kept.append(number)
            self._times.append(time)
            for column, value in zip(self._values, values, strict=True):
                column.append(value)
            if self._has_classes:
                self._classes.append(label)
        if not self.kept:
            raise TelemetryError(
                f"{name}: expected rows of telemetry, got none: fill the file or leave it out"
            )
        columns = zip(self._names[self._numbers], self._values, strict=True)
        return Telemetry(
            times=np.array(self._times) if self._clock else None,
            dates=bool(self._clock and self._clock.dates),
            columns={column: np.array(values) for column, values in columns},
            classes=tuple(self._classes),
            merged_rows=self._merged,
        )

    def _parse(
        self, table: Table, number: int, cells: Sequence[Cell]
    ) -> tuple[float, list[float], str | None]:
        values: list[float] = []
        index = 0  # of the current cell
        try:
            time = self._clock.parse(cells[0]) if self._clock else math.nan
            for index in range(self._numbers.start, self._numbers.stop):
                values.append(parse_number(cells[index]))
            index = -1
            return time, values, parse_class(cells[-1]) if self._has_classes else None
        except CellError as error:
            if table.known:  # a JSON object without the time column may have a misspelt one
                check_known(table.place(number), table.known, [self._names[index]])
            hint = "" if self.kept else table.first_hint
            raise TelemetryError(
                f"{table.place(number)}, column {self._names[index]!r}: {error}{hint}"
            ) from error

    def _merge(
        self, table: Table, number: int, time: float, values: list[float], label: str | None
    ) -> None:
        """Merges a row into the one before, which has the same time."""
        before = table.place(self.kept[-1])
        if time < self._times[-1]:
            raise TelemetryError(
                f"{table.place(number)}: expected times that rise, got {time!r} s after "
                f"{self._times[-1]!r} s in {before}: sort the rows, or split the file where a drive ends"
            )
        for column, own, value in zip(
            self._names[self._numbers], self._values, values, strict=True
        ):
            if own[-1] != value and not (math.isnan(own[-1]) or math.isnan(value)):
                self._contradicts(table.place(number), before, column, value, own[-1])
            own[-1] = value if math.isnan(own[-1]) else own[-1]
        if self._has_classes:
            kept = self._classes[-1]
            if None not in (kept, label) and kept != label:
                self._contradicts(table.place(number), before, self._names[-1], label, kept)
            self._classes[-1] = label if kept is None else kept
        self._merged += 1

    def _contradicts(
        self, place: str, before: str, column: str, value: object, kept: object
    ) -> NoReturn:
        raise TelemetryError(
            f"{place}, column {column!r}: expected {kept!r}, as in {before} at the same time, "
            f"got {value!r}: remove one of the rows, or write times with more digits"
        )


def _check_values(name: str, telemetry: Telemetry) -> None:
    for column, values in telemetry.columns.items():
        if np.isnan(values).all():
            raise TelemetryError(
                f"{name}: expected numbers in the column {column!r}, got none in any row: "
                "name another column, or leave the file out"
            )
