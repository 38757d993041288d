"""Reads telemetry from JSON: one object per line, or a list of objects. A missing key means no value."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from pipelines.labels.cells import Cell, TelemetryError, show
from pipelines.labels.table import Table, Wanted, read_lines, skip_blank_rows

_MAX_LIST = 2**28  # bytes: a list can only be read whole


def read_json(path: str, name: str, wanted: Wanted) -> Table:
    """Reads rows from JSON lines or, if the file begins with a bracket, from a list."""
    known: dict[str, None] = {}
    unit, records = json_records(path, name, keep_bad=True)

    def place(number: int) -> str:
        return f"{name} {unit} {number}"

    def rows() -> Iterator[tuple[int, list[Cell] | TelemetryError]]:
        for number, fields in skip_blank_rows(records, place, wanted):
            if isinstance(fields, TelemetryError):
                yield number, fields
                continue
            known.update(dict.fromkeys(fields))
            yield number, [fields.get(column) for column in wanted.columns]

    return Table(rows(), place, known=known.keys())


def json_records(
    path: str, name: str, *, keep_bad: bool = False
) -> tuple[str, Iterator[tuple[int, Any]]]:
    """Returns what the numbers of the records count, and the records: objects, or None for a blank line.

    A record that is no object raises `TelemetryError`, or with ``keep_bad`` is this error.
    """
    is_list = False
    if path.lower().endswith(".json"):
        with open(path, "rb") as file:  # marks of UTF-8 and UTF-16 and blanks may come first
            is_list = file.read(4096).lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"[")
    unit, entries = ("index", _list_entries) if is_list else ("line", _line_entries)

    def records() -> Iterator[tuple[int, Any]]:
        for number, load in entries(path, name):
            try:
                yield number, load(f"{name} {unit} {number}")
            except TelemetryError as error:
                if not keep_bad:
                    raise
                yield number, error

    return unit, records()


def _line_entries(path: str, name: str) -> Iterator[tuple[int, Callable[[str], Any]]]:
    for number, line in enumerate(read_lines(path, name), start=1):
        yield number, functools.partial(_load_line, line)


def _load_line(line: str, place: str) -> dict[str, Any] | None:
    return _checked(_load(line, place), place) if line.strip() else None


def _list_entries(path: str, name: str) -> Iterator[tuple[int, Callable[[str], Any]]]:
    size = os.path.getsize(path)
    if size > _MAX_LIST:
        raise TelemetryError(
            f"{name}: expected a JSON list of at most {_MAX_LIST} bytes, got {size}: "
            "write one object per line, in a .jsonl file"
        )
    with open(path, "rb") as file:
        rows = _load(file.read(), name)
    for index, row in enumerate(rows):
        yield index, functools.partial(_checked, row)


def _load(text: str | bytes, place: str) -> Any:
    """Returns the value of JSON; raises `TelemetryError`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TelemetryError(
            f"{place}: expected JSON, got {show(text.strip()[:40])}: {reason}: correct it"
        ) from error


def _checked(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TelemetryError(f"{place}: expected a JSON object, got {show(row)}: correct it")
    return row
