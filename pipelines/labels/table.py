"""Rows of cells, as every format of telemetry gives them; what the cells mean is not looked at here.

A reader gives the cells of the columns that are asked for, row by row, and nothing of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipelines.labels.cells import Cell, TelemetryError, show

R = TypeVar("R")  # a row as the format gives it

_LONGEST_LINE = 2**20  # bytes: what is longer is no text of rows
_MOST_SHOWN = 30  # names of columns that a message lists


@dataclass(frozen=True)
class Wanted:
    """The columns that are asked of a file.

    Attributes:
        columns: in the order in which cells are given; the same one may be asked for twice.
        given: names for the columns of a file without a header, ``--telemetry_columns``.
        by_row: rows have no times, but belong to frames in order.
    """

    columns: tuple[str, ...]
    given: tuple[str, ...] = ()
    by_row: bool = False


@dataclass(frozen=True)
class Table:
    """Rows as they come: their number in the file, and the cells that are wanted.

    Attributes:
        rows: to be read once.
        place: from a row's number to what messages call it, such as ``a.csv line 3``.
        first_hint: what may be wrong when it is the first row that cannot be read.
        known: columns that were seen; complete when the rows have been read.
    """

    rows: Iterator[tuple[int, Sequence[Cell]]]
    place: Callable[[int], str]
    first_hint: str = ""
    known: Iterable[str] = ()


def check_known(place: str, known: Iterable[str], columns: Iterable[str]) -> None:
    """Raises `TelemetryError` for the first of ``columns`` that is not ``known``."""
    for column in columns:
        if column not in known:
            raise TelemetryError(
                f"{place}: expected a column {column!r}, got {list_names(known)}: "
                "correct the flag that names the column"
            )


def list_names(names: Iterable[str]) -> str:
    """``names`` as messages list them, not without end."""
    shown = [show(name) for name in names]
    more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    return ", ".join(shown[:_MOST_SHOWN]) + more if shown else "none"


def name_columns(place: str, count: int, wanted: Wanted) -> list[str]:
    """Names for the ``count`` columns of a file without a header.

    They are those that were given. A single column is the one that is wanted; several are "0", "1", ....
    """
    if wanted.given:
        if len(wanted.given) != count:
            raise TelemetryError(
                f"{place}: expected the {len(wanted.given)} columns that --telemetry_columns names, "
                f"got {count}: name each column of the file once, in order"
            )
        return list(wanted.given)
    if count == 1 and len(set(wanted.columns)) == 1:
        return [wanted.columns[0]]
    return [str(index) for index in range(count)]


def find_columns(place: str, columns: Sequence[str], wanted: Wanted) -> list[int]:
    """Where each wanted column stands."""
    check_known(place, columns, wanted.columns)
    for column in wanted.columns:
        if columns.count(column) > 1:
            raise TelemetryError(
                f"{place}: expected one column {column!r}, got {columns.count(column)}: rename them"
            )
    return [columns.index(column) for column in wanted.columns]


def skip_blank_rows(
    rows: Iterable[tuple[int, R | None]], place: Callable[[int], str], wanted: Wanted
) -> Iterator[tuple[int, R]]:
    """Leaves out rows that are None. By row, only those at the end: all that follow one would be shifted."""
    blank: int | None = None
    for number, row in rows:
        if row is None:
            blank = number if blank is None else blank
            continue
        if blank is not None and wanted.by_row:
            raise TelemetryError(
                f"{place(blank)}: expected a row for each frame, got a blank one: "
                "write nan where there is no value, or name the times with --time_column"
            )
        yield number, row


def read_lines(path: str, name: str) -> Iterator[str]:
    """The lines of UTF-8 text, with their ends, without a byte order mark.

    They are read as bytes, so that no line is endless and what is not UTF-8 is found in its line.
    """
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            if len(line) > _LONGEST_LINE or b"\0" in line:
                received = "a zero byte" if b"\0" in line else f"more than {_LONGEST_LINE} bytes"
                raise TelemetryError(
                    f"{name} line {number}: expected a line of text, got {received}: "
                    "name a file of telemetry, in UTF-8"
                )
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TelemetryError(
                    f"{name} line {number}: expected UTF-8 text, got the byte "
                    f"0x{error.object[error.start]:02x}: save the file as UTF-8"
                ) from error
