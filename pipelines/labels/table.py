"""Defines tables, the common result of all telemetry readers: rows of cells that are not parsed yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pipelines.labels.cells import Cell, TelemetryError, show
from tfrecords_schema.options import did_you_mean

R = TypeVar("R")  # a row in the format of a reader

MAX_ROWS = 50_000_000
"""Maximum rows of a file: a drive of 5 days at 100 rows/s, whose numbers still fit into memory."""

_MAX_LINE = 2**20  # characters: a longer line is not text
_NOT_TEXT = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as a surrogate escape
_MAX_SHOWN = 30  # column names that a message lists


Dropped = dict[str, tuple[int, str]]
"""Rows that were left out, by the reason: their number, and the error or place of the first."""


@dataclass(frozen=True)
class Wanted:
    """The columns to read from a file.

    Attributes:
        columns: in the order of the returned cells; a column may occur twice.
        given: names for the columns of a file without a header, from ``--telemetry_columns``.
        by_row: rows have no times but belong to frames in order.
        decimal_mark: how text writes numbers: "point", or "comma" as in 13,5.
    """

    columns: tuple[str, ...]
    given: tuple[str, ...] = ()
    by_row: bool = False
    decimal_mark: str = "point"


@dataclass(frozen=True)
class Table:
    """The rows of a file: their number in the file, and the requested cells, or why they are unreadable.

    Attributes:
        rows: an iterator, read once.
        place: returns the name of a row in messages, such as ``a.csv line 3``, for its number.
        first_hint: added to the message if the first row cannot be parsed.
        known: columns found so far; complete after all rows have been read.
        dropped: rows that the reader left out so far.
    """

    rows: Iterator[tuple[int, Sequence[Cell] | TelemetryError]]
    place: Callable[[int], str]
    first_hint: str = ""
    known: Iterable[str] = ()
    dropped: Dropped = field(default_factory=dict)


def check_known(place: str, known: Iterable[str], columns: Iterable[str]) -> None:
    """Raises `TelemetryError` for the first of ``columns`` that is not ``known``."""
    for column in columns:
        if column not in known:
            raise TelemetryError(
                f"{place}: expected a column {column!r}, got {list_names(known)}"
                f"{did_you_mean(column, [*known])}: correct the flag that names the column"
            )


def list_names(names: Iterable[str]) -> str:
    """Returns ``names`` as messages list them, at most `_MAX_SHOWN`."""
    shown = [show(name) for name in names]
    more = f" and {len(shown) - _MAX_SHOWN} more" if len(shown) > _MAX_SHOWN else ""
    return ", ".join(shown[:_MAX_SHOWN]) + more if shown else "none"


def name_columns(place: str, count: int, wanted: Wanted) -> list[str]:
    """Returns names for the ``count`` columns of a file without a header.

    Without given ones, a single column has the requested name, and several are named "0", "1", ....
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
    """Returns the index of each requested column."""
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
    """Yields the rows that are not None, with their numbers.

    Rows that are matched to frames by their number (``wanted.by_row``) may be blank only at the end:
    skipping one in the middle would shift the rows after it.
    """
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
    """Yields the lines of text with their line ends, without a byte order mark.

    The text is UTF-8, or UTF-16 if it begins with the mark of that, as "Unicode text" of Excel does, or with
    an ASCII character of two bytes. Reading limits the length of lines, and tells which one is not text.
    """
    with open(path, "rb") as file:
        start = file.read(2)
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if len(start) == 2 and 0 in start and any(start):  # no mark, and the first character is ASCII
        encoding = "utf-16-le" if start[1] == 0 else "utf-16-be"
    number = 0
    with open(path, encoding=encoding, errors="surrogateescape", newline="") as file:
        try:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE + 1), ""), start=1):
                byte = None if line.isascii() else _NOT_TEXT.search(line)
                if byte or len(line) > _MAX_LINE or "\0" in line:
                    received = (
                        "a zero byte" if "\0" in line else f"more than {_MAX_LINE} characters"
                    )
                    received = f"the byte 0x{ord(byte[0]) - 0xDC00:02x}" if byte else received
                    raise TelemetryError(
                        f"{name} line {number}: expected a line of UTF-8 text, got {received}: "
                        "check that this is the right file, and save it as UTF-8 text"
                    )
                yield line
        except UnicodeError as error:
            raise TelemetryError(
                f"{name} line {number + 1}: expected UTF-16 text, as its first bytes say, but {error}: "
                "save the file as UTF-8"
            ) from error
