"""Reads manifests as tables of cells that are not parsed yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.labels.cells import TelemetryError
from pipelines.labels.json_format import json_records, load_json
from pipelines.labels.text_formats import csv_records
from pipelines.sources.manifest_columns import has_path
from tfrecords_schema import storage
from tfrecords_schema.running.scratch import scratch_folder

_JSON = (".jsonl", ".ndjson", ".json")
EXTENSIONS = (".csv", ".tsv", ".txt", *_JSON)
_CSV_EXAMPLE = "for example 'path,label' and below it 'clips/a.mp4,run'"
_JSON_EXAMPLE = 'for example {"path": "clips/a.mp4", "label": "run"}'


@dataclass(frozen=True)
class ManifestTable:
    """The rows of a manifest.

    Attributes:
        path: of the manifest.
        columns: their names as written; "" for one without a name.
        rows: the number of each, for messages, and its cells. Cells at the end may be missing.
        unit: what the numbers count: ``line`` of the file, or ``index`` in a JSON document.
        decimal_comma: numbers may hold one, because it does not separate the columns.
        notes: lines for the user about how the file was interpreted.
    """

    path: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[int, Sequence[Any]]]
    unit: str = "line"
    decimal_comma: bool = False
    notes: tuple[str, ...] = ()

    def place(self, number: int) -> str:
        """Returns the name of a row in messages, such as ``clips.csv line 3``."""
        return f"{self.path} {self.unit} {number}"


def read_table(path: str) -> ManifestTable:
    """Reads the manifest at ``path``: JSON if its name ends so, else CSV."""
    read, example = _read_csv, _CSV_EXAMPLE
    if path.lower().endswith(_JSON):
        read, example = _read_json, _JSON_EXAMPLE
    try:
        with storage.local_copy(path, scratch=scratch_folder("listing")) as local:
            table = read(str(local), path)
        if not table.rows:
            raise TelemetryError(f"{path}: expected clips in this manifest, but it lists none")
        if not has_path(table.columns):
            raise TelemetryError(
                f"{table.place(table.rows[0][0])}: expected columns with names, one of them 'path', got "
                f"{', '.join(map(repr, table.columns[:30]))}"
            )
        return table
    except TelemetryError as error:
        raise UserError(
            f"{error}. A manifest is CSV with a header line or JSON, {example}"
        ) from error


def _read_csv(local: str, path: str) -> ManifestTable:
    mark, records = csv_records(local, path)
    head, names = next((record for record in records if record[1]), (1, []))
    columns = [name.strip() for name in names or ()]
    named = [name for name in columns if name]
    if not has_path(columns) or len(set(named)) != len(named):
        raise TelemetryError(
            f"{path} line {head}: must name each column once, and one of them 'path', got {columns}"
        )
    rows = []
    for number, cells in records:
        if cells is None:
            continue
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            raise TelemetryError(
                f"{path} line {number}: expected {len(columns)} columns, got more ({len(cells)}): "
                f"write a cell that holds {mark!r} in double quotes"
            )
        rows.append((number, cells))
    expected = "\t" if path.lower().endswith(".tsv") else ","
    note = f"the columns of the manifest are separated by {mark!r}"
    return ManifestTable(
        path,
        tuple(columns),
        rows,
        decimal_comma=mark != ",",
        notes=() if mark == expected or len(columns) == 1 else (note,),
    )


def _read_json(local: str, path: str) -> ManifestTable:
    unit, records = json_records(local, path)
    notes: list[str] = []
    try:
        entries = [(number, fields) for number, fields in records if fields is not None]
        document = entries[0][1] if len(entries) == 1 and unit == "line" else {}
    except TelemetryError:
        if unit == "index" or not path.lower().endswith(".json"):
            raise
        document = load_json(Path(local).read_bytes(), path)  # of several lines
        entries = []
    if rows := _rows_of_object(document, notes):
        unit, entries = "index", list(enumerate(rows))
    elif not entries and document:
        raise TelemetryError(f"{path}: expected a list of objects, got one with other values")
    return _to_table(path, unit, entries, notes)


def _rows_of_object(document: Any, notes: list[str]) -> list[dict[str, Any]] | None:
    """Returns the rows in an object of objects: columns or rows as pandas writes them, or rows by path."""
    inner = list(document.values()) if isinstance(document, dict) else []
    if not inner or not all(isinstance(fields, dict) for fields in inner):
        return None
    if has_path(document):
        keys = dict.fromkeys(key for cells in inner for key in cells)
        return [{name: cells.get(key) for name, cells in document.items()} for key in keys]
    if not any(map(has_path, inner)):
        notes.append("the keys of the JSON object are taken as path")
        return [{"path": path, **fields} for path, fields in document.items()]
    # Of two possible paths, none is chosen. The keys that pandas writes are numbers.
    return inner if all(map(str.isdecimal, document)) else None


def _to_table(
    path: str, unit: str, entries: Iterable[tuple[int, dict[str, Any]]], notes: list[str]
) -> ManifestTable:
    columns: dict[str, int] = {}
    rows = []
    for number, fields in entries:
        cells: list[Any] = [None] * len(columns)
        for name, value in fields.items():
            index = columns.setdefault(name, len(columns))
            if index == len(cells):
                cells.append(value)
            else:
                cells[index] = value
        rows.append((number, cells))
    return ManifestTable(path, tuple(columns), rows, unit=unit, notes=tuple(notes))
