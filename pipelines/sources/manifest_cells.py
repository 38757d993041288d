"""Parses the cells of a manifest: text, numbers, times, labels and splits."""

from __future__ import annotations

import ast
import contextlib
import math
import re
import sys
from decimal import Decimal
from typing import Any

from pipelines.labels.cells import MAX_FLOAT32, CellError, parse_class, show
from pipelines.options.dataset import SPLIT_NAME_RULE, split_name

_CLOCK = re.compile(r"(?:(\d{1,9}):([0-5]\d)|(\d{1,9})):([0-5]\d(?:[.,]\d+)?)", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
# File names may hold bytes as surrogate escapes, U+DC80 to U+DCFF.
_NOT_STORABLE = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")


def parse_text(value: Any, column: str) -> str:
    """Returns text that records can hold."""
    if not isinstance(value, str) or _NOT_STORABLE.search(value):
        raise CellError(f"{column} must be Unicode text without zero bytes, got {show(value)}")
    return value


class CellParser:
    """Parses cells that are not empty, and notes which of two possible ways it took.

    Attributes:
        notes: lines for the user, by subject.
    """

    def __init__(self, *, decimal_comma: bool):
        self._decimal_comma = decimal_comma
        self._marks: dict[str, str] = {}  # the first number with each decimal mark
        self.notes: dict[str, str] = {}

    def number(self, value: Any, column: str, expected: str = "a finite float32") -> float:
        """Returns a finite number that fits into a float32."""
        is_text = isinstance(value, str)
        text = self._with_point(value) if is_text and self._decimal_comma else value
        try:
            number = math.nan if isinstance(value, bool) else float(text)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= MAX_FLOAT32 or (is_text and "_" in value):
            raise CellError(f"{column} must be {expected}, got {show(value)}")
        return number

    def _with_point(self, text: str) -> str:
        """Returns a number that may have a decimal comma, with a point instead."""
        comma = _DECIMAL_COMMA.fullmatch(text.strip())
        if comma or "." in text:
            self._marks.setdefault("," if comma else ".", text)
        if len(self._marks) > 1:
            both = " and ".join(map(repr, self._marks.values()))
            raise CellError(
                f"expected one decimal mark in a file, got both {both}. Write all numbers with a point"
            )
        if comma:
            self.notes.setdefault(",", f"numbers such as {text!r} have a decimal comma")
        return text.replace(",", ".") if comma else text

    def seconds(self, value: Any, column: str) -> float:
        """Returns the seconds in a number, ``hh:mm:ss`` or ``mm:ss``."""
        match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            return self.number(value, column, "a finite number of seconds, hh:mm:ss or mm:ss")
        if match[1] is None:
            self.notes.setdefault("mm:ss", f"times such as {value!r} are minutes and seconds")
        minutes = int(match[3] or match[2]) + 60 * int(match[1] or 0)
        return float(60 * minutes + Decimal(match[4].replace(",", ".")))

    def split(self, value: Any) -> str:
        """Returns the name of a split; the standard one for usual names such as ``Val``."""
        text = parse_text(value, "split").strip()
        split = split_name(text)
        if split is None:
            raise CellError(f"split must be {SPLIT_NAME_RULE}, got {value!r}")
        if split != text:
            self.notes.setdefault(f"split {text}", f"the split {text!r} is taken as {split!r}")
        return split


def parse_labels(value: Any) -> tuple[str, ...]:
    """Returns the sorted classes in a cell: one, several separated by ``|``, or a list, also as text."""
    items = value if isinstance(value, list) else [value]
    if isinstance(value, str):
        items = value.split("|")
        if value.startswith("["):  # a list of Python or JSON
            with contextlib.suppress(
                ValueError, SyntaxError, TypeError, RecursionError, MemoryError
            ):
                items = ast.literal_eval(value)
    names = [
        parse_text(v, "label").strip() if isinstance(v, str) else parse_class(v) for v in items
    ]
    labels = sorted(filter(None, names))
    if len(set(labels)) != len(labels):
        raise CellError(f"the labels of a clip must be distinct, got {labels}")
    return tuple(map(sys.intern, labels))
