"""Parses a cell of telemetry as a number, a time or a class.

A cell is text from a CSV, GPX or text file, or a value from JSON or NumPy. The caller, which knows the row
and column, turns a `CellError` into a `TelemetryError`.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.options.telemetry import TimeUnit

Cell = object

MAX_FLOAT32: Final = (2 - 2**-23) * 2.0**127  # records hold float32
_NO_VALUE = frozenset({"", "nan", "null", "none", "na", "n/a", "-"})
_NO_CLASS = _NO_VALUE - {"none"}  # 'none' may be a class, such as no lead vehicle
_UNITS_PER_SECOND: Final = {"s": 1.0, "ms": 1e3, "us": 1e6}
_PADDED = re.compile(r"0\d{5}(\.|$)", re.ASCII)
MAX_SHOWN = 60
"""Characters of a value that a message quotes."""

# `datetime.fromisoformat` of Python 3.10 parses neither Z nor fractions of other than 3 or 6 digits.
_CLOCK = re.compile(
    r"([01]?\d|2[0-3])(:?)([0-5]\d)\2([0-5]\d|60)(?:[.,](\d+))?", re.ASCII
)  # hh:mm:ss.ss or hhmmss.ss
_DATE_TIME = re.compile(
    r"(?P<minute>\d{4}-\d\d-\d\d[T ]\d\d:\d\d)"
    r"(?: : (?P<second>[0-5]\d|60) (?: [.,] (?P<fraction>\d+) )? )?"
    r"\ ? (?: Z | (?P<sign>[+-]) (?P<hours>[01]\d|2[0-3]) (?: :? (?P<minutes>[0-5]\d) )? )?",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)


class TelemetryError(Exception):
    """Telemetry that cannot be read; the message is one line: place, expected, found, what to do."""


class CellError(ValueError):
    """An invalid cell; the message ends that of a `TelemetryError`: expected, found, what to do."""


def show(received: object) -> str:
    """Returns ``received`` as messages quote it: on one line, of limited length."""
    text = repr(received)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def parse_number(cell: Cell) -> float:
    """Returns the number in ``cell``; NaN if it has no value. It must fit into a float32."""
    number = _as_float(cell)
    if number is None or abs(number) > MAX_FLOAT32:
        kind = "number (a decimal mark must be a point, or see --decimal_mark)"
        if number is not None:
            kind = "finite number that fits into a float32"
        raise CellError(
            f"expected a {kind}, got {show(cell)}: "
            "correct it, or leave it empty where there is no value"
        )
    return number


def parse_class(cell: Cell) -> str | None:
    """Returns the class name in ``cell``; None if it has none. Whole numbers are names too."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int) or (isinstance(cell, float) and cell.is_integer()):
        return str(int(cell))
    name = cell.strip() if isinstance(cell, str) else ""
    if not isinstance(cell, str) or not is_storable(name):
        raise CellError(
            f"expected the name of a class, got {show(cell)}: "
            "write text or a whole number, or leave it empty where there is no class"
        )
    return None if name.lower() in _NO_CLASS else name


class TimeParser:
    """Parses the times of one file, which must be all dates, or all numbers of a ``unit``.

    With ``dates`` None, the first time decides which they are.

    Attributes:
        dates: times are dates; or times of day, which count from midnight and go on after the next one.
        first: seconds of the first time so far, which its row may have been dropped with; None before it.
        is_padded: a number so far begins with a zero as 095959 does, so it is a time of day.
    """

    def __init__(self, unit: TimeUnit, *, dates: bool | None = None):
        self._per_second = _UNITS_PER_SECOND.get(unit)  # None for times of day
        self.dates = dates
        self.first: float | None = None
        self.is_padded = False
        self._midnight, self._latest = 0.0, 0.0

    def parse(self, cell: Cell) -> float:
        """Returns the seconds in ``cell``; since 1970 (UTC) if it holds a date.

        The first cell decides whether the others must be dates or numbers.
        """
        seconds = self._parse(cell)
        self.first = seconds if self.first is None else self.first
        return seconds

    def _parse(self, cell: Cell) -> float:
        if self._per_second is None:
            return self._parse_clock(cell)
        number = _as_float(cell)
        if number is not None and isinstance(cell, str) and _PADDED.match(cell):
            self.is_padded = True
        is_date = number is None and isinstance(cell, str)
        seconds = _parse_date_time(str(cell).strip()) if is_date else None
        if number is not None:
            seconds = number / self._per_second
        if seconds is None or not math.isfinite(seconds) or self.dates not in (None, is_date):
            received = "no time" if number is not None and math.isnan(number) else show(cell)
            date = "a date and time such as 2024-05-31T09:30:00.25Z"
            expected = {
                True: date,
                False: "a time: a finite number, as in the rows before",
                None: f"a time: a finite number, or {date}",
            }
            raise CellError(
                f"expected {expected[self.dates]}, got {received}: correct or remove the row"
            )
        self.dates = is_date
        return seconds

    def _parse_clock(self, cell: Cell) -> float:
        """Returns the seconds since midnight of ``hhmmss.ss`` or ``hh:mm:ss.ss``, rising over midnight."""
        text = str(cell).strip()
        if isinstance(cell, (int, float)):
            text = f"{cell:013.6f}"
        elif (whole := text.partition("."))[0].isdecimal():  # leading zeros may be missing
            text = "".join((whole[0].zfill(6), *whole[1:]))
        match = _CLOCK.fullmatch(text)
        if match is None:
            raise CellError(
                "expected a time of day such as 095959.25 or 09:59:59.25 (--time_unit hhmmss), got "
                f"{show(cell)}: correct or remove the row"
            )
        hours, minutes, seconds = (int(match[group]) for group in (1, 3, 4))
        clock = 3600 * hours + 60 * minutes + seconds + float(f"0.{match[5] or 0}")
        if clock + self._midnight < self._latest - 43_200:
            self._midnight += 86_400
        self._latest = clock + self._midnight
        self.dates = True
        return self._latest

    def check(self, times: NDArray[np.float64], name: str) -> None:
        """Raises `TelemetryError` if the ``times`` of a file, read as seconds, are times of day (hhmmss)."""
        if self.dates or self._per_second != 1 or len(times) < 2:
            return
        is_clock = (times >= 0) & (times < 240_000) & (times % 100 < 61) & (times // 100 % 100 < 60)
        if not is_clock.all() or times.max() < 100:
            return
        steps = np.diff(times)
        clock = times // 10_000 * 3600 + times // 100 % 100 * 60 + times % 100
        usual = float(np.median(steps))
        leaps = (steps >= 40) & (steps > 3 * usual) & (np.diff(clock) <= 2 * usual)
        if self.is_padded or leaps.any() or times.min() >= 10_000:
            raise TelemetryError(
                f"{name}: expected seconds in --time_column, got {times[0]:.15g} to {times[-1]:.15g}, which "
                "may be times of day (hhmmss): use --time_unit hhmmss, or if they are seconds, write them "
                "from the start of the drive"
            )


def is_data(cells: Sequence[str]) -> bool:
    """Returns True if a line of text holds only numbers and dates, so it is not a header."""
    values: list[float] = []
    for cell in cells:
        date = _parse_date_time(cell.strip())
        value = _as_float(cell) if date is None else date
        if value is None:
            return False
        values.append(value)
    return not all(map(math.isnan, values))


def _as_float(cell: Cell) -> float | None:
    """Returns ``cell`` as a float; NaN if it has no value, None if it is not a number."""
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        try:
            number = float(cell)
        except ValueError:
            return math.nan if cell.strip().lower() in _NO_VALUE else None
        return None if "_" in cell else number  # only Python has such digit separators
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    return None


def _parse_date_time(text: str) -> float | None:
    """Returns the seconds since 1970 of an ISO 8601 date, by default UTC; None for other text."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    try:
        minute = datetime.fromisoformat(match["minute"])
    except ValueError:  # the day or hour does not exist
        return None
    seconds = calendar.timegm(minute.timetuple()) + int(match["second"] or 0)
    if match["sign"]:
        offset = 60 * (60 * int(match["hours"]) + int(match["minutes"] or 0))
        seconds += offset if match["sign"] == "-" else -offset
    # A single addition keeps all digits that fit into a float.
    return seconds + float(f"0.{match['fraction'] or 0}")


def is_storable(text: str) -> bool:
    """Returns True if records can hold ``text``."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return "\0" not in text
