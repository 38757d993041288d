"""One cell of telemetry: the number, the time or the class that it holds.

A cell is text from a CSV, GPX or text file, or a value from JSON or NumPy. Whoever knows where the cell
stands turns a `CellError` into a `TelemetryError`.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pipelines.options.telemetry import TimeUnit

Cell = object

_NO_VALUE = frozenset({"", "nan", "null", "none", "na", "n/a", "-"})
_NO_CLASS = _NO_VALUE - {"none"}  # 'none' may well be a class: no event, no lead vehicle
_MAX_FLOAT32: Final = (2 - 2**-23) * 2.0**127  # records hold float32
_UNITS_PER_SECOND: Final[dict[TimeUnit, float]] = {"s": 1.0, "ms": 1e3, "us": 1e6}
_LONGEST_SHOWN = 60

# Python 3.10's own `datetime.fromisoformat` knows neither Z nor fractions of other than 3 or 6 digits.
_DATE_TIME = re.compile(
    r"(?P<minute>\d{4}-\d\d-\d\d[T ]\d\d:\d\d)"
    r"(?: : (?P<second>[0-5]\d|60) (?: [.,] (?P<fraction>\d+) )? )?"
    r"\ ? (?: Z | (?P<sign>[+-]) (?P<hours>[01]\d|2[0-3]) (?: :? (?P<minutes>[0-5]\d) )? )?",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)


class TelemetryError(Exception):
    """Telemetry that cannot be read.

    The message is one line: file and row, what was expected, what came, what to do.
    """


class CellError(ValueError):
    """The end of such a line: what was expected of a cell, what it holds, what to do."""


def show(received: object) -> str:
    """``received`` as messages quote it: on one line, and not without end."""
    text = repr(received)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def parse_number(cell: Cell) -> float:
    """The number in ``cell``, NaN where there is no value.

    Raises:
        CellError: for other text, for infinities, and for what does not fit into a float32.
    """
    number = _as_float(cell)
    if number is None:
        raise CellError(
            f"expected a number, with a decimal point, got {show(cell)}: "
            "correct it, or leave it empty where there is no value"
        )
    if abs(number) > _MAX_FLOAT32:
        raise CellError(
            f"expected a finite number that fits into a float32, got {show(cell)}: "
            "correct it, or leave it empty where there is no value"
        )
    return number


def parse_class(cell: Cell) -> str | None:
    """The name of the class in ``cell``, None where there is none. Whole numbers are names too.

    Raises:
        CellError: for anything else, and for text that cannot be stored.
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int) or (isinstance(cell, float) and cell.is_integer()):
        return str(int(cell))
    name = cell.strip() if isinstance(cell, str) else ""
    if not isinstance(cell, str) or "\0" in name or not _is_unicode(name):
        raise CellError(
            f"expected the name of a class, got {show(cell)}: "
            "write text or a whole number, or leave it empty where there is no class"
        )
    return None if name.lower() in _NO_CLASS else name


class TimeParser:
    """Reads the times of one file, which must be all numbers or all dates.

    Args:
        unit: of numbers.
        dates: whether times are dates; None lets the file's first time decide.
    """

    def __init__(self, unit: TimeUnit, *, dates: bool | None = None):
        self._per_second = _UNITS_PER_SECOND[unit]
        self.dates = dates

    def parse(self, cell: Cell) -> float:
        """The seconds in ``cell``: since 1970 (UTC) when it holds a date.

        Raises:
            CellError: for anything else, also when there is no time.
        """
        number = _as_float(cell)
        seconds = None if number is None else number / self._per_second
        is_date = number is None and isinstance(cell, str)
        if is_date:
            seconds = _parse_date_time(str(cell).strip())
        if seconds is None or not math.isfinite(seconds) or self.dates not in (None, is_date):
            received = "no time" if number is not None and math.isnan(number) else show(cell)
            raise CellError(
                f"expected {self._expected()}, got {received}: correct or remove the row"
            )
        self.dates = is_date
        return seconds

    def _expected(self) -> str:
        if self.dates:
            return "a date and time such as 2024-05-31T09:30:00.25Z"
        if self.dates is None:
            return "a time: a finite number, or a date and time such as 2024-05-31T09:30:00.25Z"
        return "a time: a finite number, as in the rows before"


def is_data(cells: Sequence[str]) -> bool:
    """Whether a line of text holds numbers and dates alone, so that it names no columns."""
    numbers = [_as_float(cell) for cell in cells]
    dates = [_parse_date_time(cell.strip()) for cell in cells]
    found = [
        date is not None or not (n is None or math.isnan(n))
        for n, date in zip(numbers, dates, strict=True)
    ]
    return any(found) and all(here or n is not None for here, n in zip(found, numbers, strict=True))


def _as_float(cell: Cell) -> float | None:
    """``cell`` as a float, NaN where there is no value; None when it is no number."""
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        try:
            number = float(cell)
        except ValueError:
            return math.nan if cell.strip().lower() in _NO_VALUE else None
        return None if "_" in cell else number  # Python's digit separators are nobody else's
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    return None


def _parse_date_time(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 date and time; UTC when it has no offset. None when it is none."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    try:
        minute = datetime.fromisoformat(match["minute"])
    except ValueError:  # there is no such day, or no such hour
        return None
    seconds = calendar.timegm(minute.timetuple()) + int(match["second"] or 0)
    if match["sign"]:
        offset = 60 * (60 * int(match["hours"]) + int(match["minutes"] or 0))
        seconds += offset if match["sign"] == "-" else -offset
    # One sum, so that all digits that a float can hold are kept.
    return seconds + float(f"0.{match['fraction'] or 0}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
