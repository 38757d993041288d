"""Reads telemetry from text: CSV with a header line, and numbers without one."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

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

# Line number and cells; None for a blank line, an error for one that is not CSV.
Records = Iterator[tuple[int, Any]]
_MAX_PREAMBLE = 100  # lines before the one that names the columns


def read_csv(path: str, name: str, wanted: Wanted) -> Table:
    """Reads rows separated by commas, semicolons, tabs or ``|``, below a line that names the columns."""
    # By row, a blank row is a frame without values.
    mark, records = csv_records(path, name, keep_blank=wanted.by_row, wanted=wanted)
    if wanted.decimal_mark == "comma" and mark == ",":
        raise TelemetryError(
            f"{name}: expected columns separated by semicolons or tabs with --decimal_mark comma, "
            "got commas: quote the numbers, and separate them by semicolons"
        )
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
        if isinstance(record[1], TelemetryError):
            raise record[1]
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

    comma = wanted.decimal_mark == "comma"

    def rows() -> Iterator[tuple[int, list[str] | TelemetryError]]:
        count = len(columns)
        for number, cells in skip_blank_rows(records, place, wanted):
            if isinstance(cells, TelemetryError):
                yield number, cells
            elif len(cells) < count or any(cell.strip() for cell in cells[count:]):
                yield (
                    number,
                    TelemetryError(
                        f"{place(number)}: expected {count} columns, as in the first line, got {len(cells)}: "
                        "correct or remove the row"
                    ),
                )
            else:
                own = [cells[index] for index in indices]
                yield number, [cell.replace(",", ".") for cell in own] if comma else own

    return Table(rows(), place, hint, columns)


def csv_records(
    path: str, name: str, *, keep_blank: bool = False, wanted: Wanted | None = None
) -> tuple[str, Records]:
    """Returns the mark that separates the columns, and the records below.

    It is what a first line ``sep=;`` names, which Excel writes and reads, or else the first of tab, ``;``,
    ``,`` and ``|`` that the header line holds outside quotes. Records of blank cells are None, because
    spreadsheets end in such rows, unless they are kept.

    With ``wanted``, the header line is the first with all wanted columns, which may begin with ``#``. Lines
    before it, such as the name of a device, are skipped. A record that is not CSV is then an error.
    """
    lines = read_lines(path, name)
    first = next(lines, "")
    named = re.fullmatch(r'"?sep=([\t;,|])"?\s*', first, re.IGNORECASE)
    leading = ["\n" if named else first]
    marks = named[1] if named else "\t;,|"
    found = None
    if wanted is not None and wanted.columns and not wanted.given:
        leading += islice(lines, _MAX_PREAMBLE - 1)
        found = _find_header(leading, marks, wanted)
    if found is not None:
        place, mark = found
        leading[:place] = ["\n"] * place
        leading[place] = leading[place].lstrip("# ")
    else:
        start = next((place for place, line in enumerate(leading) if line.strip()), None)
        while start is None and leading[-1]:
            leading.append(next(lines, ""))
            start = len(leading) - 1 if leading[-1].strip() else None
        header = re.sub(r'"[^"]*"', "", leading[start or 0]).strip(" \r\n")
        mark = named[1] if named else next((mark for mark in marks if mark in header), ",")

    def records() -> Records:
        reader = csv.reader(
            chain(leading, lines), delimiter=mark, skipinitialspace=True, strict=True
        )
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                bad = TelemetryError(
                    f"{name} line {reader.line_num}: expected valid CSV, but {error}: correct the line"
                )
                if wanted is None:
                    raise bad from error
                yield reader.line_num, bad
                continue
            if cells is None:
                return
            blank = not cells or not (keep_blank or "".join(cells).strip())
            yield reader.line_num, None if blank else cells

    return mark, records()


def _find_header(lines: Sequence[str], marks: str, wanted: Wanted) -> tuple[int, str] | None:
    """Returns the index of the first line that names all wanted columns, and the mark that separates them."""
    for place, line in enumerate(lines):
        for mark in marks:
            try:
                cells = next(
                    csv.reader([line.lstrip("# ")], delimiter=mark, skipinitialspace=True), []
                )
            except csv.Error:
                continue
            if set(wanted.columns) <= {cell.strip() for cell in cells}:
                return place, mark
    return None
