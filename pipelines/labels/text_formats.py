"""Reads telemetry from text: CSV with a header line, and numbers without one."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from pipelines.labels.cells import TelemetryError, is_data
from pipelines.labels.table import (
    Table,
    Wanted,
    find_columns,
    list_names,
    name_columns,
    read_lines,
    skip_blank_rows,
)

_SEPARATOR = re.compile(r"\s*,\s*|\s+")


def read_csv(path: str, name: str, wanted: Wanted) -> Table:
    """Reads rows separated by commas, semicolons or tabs, below a line that names the columns."""

    def place(line: int) -> str:
        return f"{name} line {line}"

    records = _csv_records(path, name, wanted)
    head: list[tuple[int, list[str] | None]] = []  # the first line, and blank ones before it
    while not (head and head[-1][1]):
        record = next(records, None)
        if record is None:
            return Table(iter(()), place)
        head.append(record)
    line, top = head[-1][0], [cell.strip() for cell in head[-1][1] or ()]
    columns, hint = top, ""
    if wanted.given and not set(wanted.given) <= set(top):
        columns = name_columns(place(line), len(top), wanted)
        hint = "; if this line names the columns, leave out --telemetry_columns"
        records = chain(head, records)
    elif not wanted.given and is_data(top):
        if len(top) > 1 or len(set(wanted.columns)) > 1:
            raise TelemetryError(
                f"{place(line)}: expected the names of the columns, got {list_names(top)}: "
                "add a line with them, or name them with --telemetry_columns"
            )
        columns = name_columns(place(line), 1, wanted)
        records = chain(head, records)
    indices = find_columns(place(line), columns, wanted)
    rows = _select(skip_blank_rows(records, place, wanted), len(columns), indices, place)
    return Table(rows, place, hint, columns)


def read_text(path: str, name: str, wanted: Wanted) -> Table:
    """Reads numbers separated by blanks or commas, without a header.

    The speeds of comma.ai's speed challenge are such a file (https://github.com/commaai/speedchallenge).
    """

    def place(line: int) -> str:
        return f"{name} line {line}"

    def records() -> Iterator[tuple[int, list[str] | None]]:
        for number, line in enumerate(read_lines(path, name), start=1):
            text = line.strip()
            yield number, _SEPARATOR.split(text) if text else None

    found = skip_blank_rows(records(), place, wanted)
    first = next(found, None)
    if first is None:
        return Table(iter(()), place)
    columns = name_columns(place(first[0]), len(first[1]), wanted)
    indices = find_columns(place(first[0]), columns, wanted)
    rows = _select(chain([first], found), len(columns), indices, place)
    return Table(rows, place, "; if this line names the columns, call the file .csv", columns)


def _csv_records(path: str, name: str, wanted: Wanted) -> Iterator[tuple[int, list[str] | None]]:
    """Yields the cells of each row, or None for a blank one, with the number of its last line."""
    lines = read_lines(path, name)
    leading = []
    for line in lines:
        leading.append(line)
        if line.strip():
            break
    reader = csv.reader(
        chain(leading, lines),
        delimiter=_delimiter(leading[-1] if leading else ""),
        skipinitialspace=True,
        strict=True,
    )
    try:
        for cells in reader:
            # Spreadsheets end in rows of separators. By row, such a row is a frame without values.
            blank = not cells or not (wanted.by_row or "".join(cells).strip())
            yield reader.line_num, None if blank else cells
    except csv.Error as error:
        raise TelemetryError(
            f"{name} line {reader.line_num}: expected valid CSV, but {error}: correct the line"
        ) from error


def _delimiter(header: str) -> str:
    unquoted = re.sub(r'"[^"]*"', "", header).strip(" \r\n")
    return next((mark for mark in "\t;" if mark in unquoted), ",")


def _select(
    records: Iterable[tuple[int, list[str]]],
    count: int,
    indices: Sequence[int],
    place: Callable[[int], str],
) -> Iterator[tuple[int, list[str]]]:
    """Yields the requested cells of each row. Rows must be as long as the first, not counting empty cells."""
    for number, cells in records:
        if len(cells) < count or any(cell.strip() for cell in cells[count:]):
            raise TelemetryError(
                f"{place(number)}: expected {count} columns, as in the first line, got {len(cells)}: "
                "correct or remove the row"
            )
        yield number, [cells[index] for index in indices]
