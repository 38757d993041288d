"""Parses the cells of a manifest: text, numbers, times, labels and splits."""

from __future__ import annotations

import ast
import functools
import math
import re
from decimal import Decimal
from typing import Any

from pipelines.labels.cells import CellError, parse_class, show
from pipelines.options.dataset import SPLIT_NAME_RULE, split_name

_CLOCK = re.compile(r"(?:(\d+):([0-5]\d)|(\d+)):([0-5]\d(?:[.,]\d+)?)", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)


def parse_text(value: Any, column: str) -> str:
    """Returns text that records can hold; file names may hold bytes as surrogate escapes."""
    if not isinstance(value, str):
        raise CellError(f"{column} must be text, got {show(value)}")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise CellError(
            f"{column} must be valid Unicode, got half a surrogate pair in {value!r}"
        ) from None
    if "\0" in value:
        raise CellError(f"{column} must not hold a zero byte, got {value!r}")
    return value


class CellParser:
    """Parses cells that are not empty, and notes which of two possible ways it took.

    Attributes:
        notes: lines for the user, by subject.
        points: the first number with a decimal point; "" if there is none.
        commas: the first number with a decimal comma; "" if there is none.
    """

    def __init__(self, *, decimal_comma: bool):
        self._decimal_comma = decimal_comma
        self.notes: dict[str, str] = {}
        self.points = self.commas = ""
        # Rows have few labels and splits, and share them.
        self._text_labels = functools.lru_cache(maxsize=1 << 16)(self._parse_labels)

    def number(self, value: Any, column: str, expected: str = "a finite number") -> float:
        """Returns a finite number."""
        text = value
        if self._decimal_comma and isinstance(value, str):
            if _DECIMAL_COMMA.fullmatch(value.strip()):
                text, self.commas = value.replace(",", "."), self.commas or value
            elif "." in value:
                self.points = self.points or value
        try:
            number = math.nan if isinstance(value, bool) else float(text)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or (isinstance(value, str) and "_" in value):
            raise CellError(f"{column} must be {expected}, got {show(value)}")
        return number

    def seconds(self, value: Any, column: str) -> float:
        """Returns the seconds in a number, ``hh:mm:ss`` or ``mm:ss``."""
        match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) and ":" in value else None
        if match is None:
            return self.number(value, column, "a finite number of seconds, hh:mm:ss or mm:ss")
        if match[1] is None:
            self.notes.setdefault("mm:ss", f"times such as {value!r} are minutes and seconds")
        minutes = int(match[3] or match[2]) + 60 * int(match[1] or 0)
        return float(60 * minutes + Decimal(match[4].replace(",", ".")))

    def labels(self, value: Any) -> tuple[str, ...]:
        """Returns the sorted classes in a cell: one, several separated by ``|``, or a list."""
        if isinstance(value, str):
            return self._text_labels(value)
        return _check_labels(value if isinstance(value, list) else [value])

    def _parse_labels(self, text: str) -> tuple[str, ...]:
        items = _parse_list(text) if text.startswith("[") else None
        return _check_labels(text.split("|") if items is None else items)

    def split(self, value: Any) -> str:
        """Returns the name of a split; the standard one for usual names such as ``Val``."""
        text = parse_text(value, "split").strip()
        split = split_name(text)
        if split is None:
            raise CellError(f"split must be {SPLIT_NAME_RULE}, got {value!r}")
        if split != text:
            self.notes.setdefault(f"split {text}", f"the split {text!r} is taken as {split!r}")
        return split


def _check_labels(items: list[Any]) -> tuple[str, ...]:
    names = [
        parse_text(v, "label").strip() if isinstance(v, str) else parse_class(v) for v in items
    ]
    labels = [name for name in names if name]
    if len(set(labels)) != len(labels):
        raise CellError(f"the labels of a clip must be distinct, got {labels}")
    return tuple(sorted(labels))


def _parse_list(text: str) -> list[Any] | None:
    """Returns the list that JSON or pandas wrote as text; None for other text."""
    try:
        items = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return items if isinstance(items, list) else None
