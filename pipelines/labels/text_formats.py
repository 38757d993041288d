"""Reads telemetry from text: CSV with a header line, and numbers without one."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
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

Records = Iterator[tuple[int, "list[str] | None"]]  # line number and cells; None for a blank line


def read_csv(path: str, name: str, wanted: Wanted) -> Table:
    """Reads rows separated by commas, semicolons, tabs or ``|``, below a line that names the columns."""
    # By row, a blank row is a frame without values.
    _, records = csv_records(path, name, keep_blank=wanted.by_row)
    return _read_table(name, records, wanted)


def read_text(path: str, name: str, wanted: Wanted) -> Table:
    """Reads numbers separated by blanks or commas, without a header.

    The speeds of comma.ai's speed challenge are such a file (https://github.com/commaai/speedchallenge).
    """
    lines = enumerate(map(str.strip, read_lines(path, name)), start=1)
    records = ((number, _SEPARATOR.split(text) if text else None) for number, text in lines)
    return _read_table(name, records, wanted, may_have_header=False)


def _read_table(
    name: str, records: Records, wanted: Wanted, *, may_have_header: bool = True
) -> Table:
    def place(line: int) -> str:
        return f"{name} line {line}"

    head: list[tuple[int, list[str] | None]] = []  # the first line, and blank ones before it
    while not (head and head[-1][1]):
        record = next(records, None)
        if record is None:
            return Table(iter(()), place)
        head.append(record)
    line, columns = head[-1][0], [cell.strip() for cell in head[-1][1] or ()]
    has_header, hint = False, ""
    if not may_have_header:
        hint = "; if this line names the columns, call the file .csv"
    elif wanted.given:
        has_header = set(wanted.given) <= set(columns)
        hint = (
            "" if has_header else "; if this line names the columns, leave out --telemetry_columns"
        )
    else:
        has_header = not is_data(columns)
        if not has_header and (len(columns) > 1 or len(set(wanted.columns)) > 1):
            raise TelemetryError(
                f"{place(line)}: expected the names of the columns, got {list_names(columns)}: "
                "add a line with them, or name them with --telemetry_columns"
            )
    if not has_header:
        columns = name_columns(place(line), len(columns), wanted)
        records = chain(head, records)
    indices = find_columns(place(line), columns, wanted)

    def rows() -> Iterator[tuple[int, list[str]]]:
        count = len(columns)
        for number, cells in skip_blank_rows(records, place, wanted):
            if len(cells) < count or any(cell.strip() for cell in cells[count:]):
                raise TelemetryError(
                    f"{place(number)}: expected {count} columns, as in the first line, got {len(cells)}: "
                    "correct or remove the row"
                )
            yield number, [cells[index] for index in indices]

    return Table(rows(), place, hint, columns)


def csv_records(path: str, name: str, *, keep_blank: bool = False) -> tuple[str, Records]:
    """Returns the mark that separates the columns, and the records below.

    It is what a first line ``sep=;`` names, which Excel writes and reads, or else the first of tab, ``;``,
    ``,`` and ``|`` that the header line holds outside quotes. Records of blank cells are None, because
    spreadsheets end in such rows, unless they are kept.
    """
    lines = read_lines(path, name)
    first = next(lines, "")
    named = re.fullmatch(r'"?sep=([\t;,|])"?\s*', first, re.IGNORECASE)
    leading = ["\n" if named else first]
    while leading[-1] and not leading[-1].strip():
        leading.append(next(lines, ""))
    header = re.sub(r'"[^"]*"', "", leading[-1]).strip(" \r\n")
    mark = named[1] if named else next((mark for mark in "\t;,|" if mark in header), ",")

    def records() -> Records:
        reader = csv.reader(
            chain(leading, lines), delimiter=mark, skipinitialspace=True, strict=True
        )
        try:
            for cells in reader:
                blank = not cells or not (keep_blank or "".join(cells).strip())
                yield reader.line_num, None if blank else cells
        except csv.Error as error:
            raise TelemetryError(
                f"{name} line {reader.line_num}: expected valid CSV, but {error}: correct the line"
            ) from error

    return mark, records()
