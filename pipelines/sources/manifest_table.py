"""Reads manifests as tables of cells that are not parsed yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UserError
from pipelines.labels.cells import TelemetryError
from pipelines.labels.json_format import json_records
from pipelines.labels.table import list_names
from pipelines.labels.text_formats import Records, csv_records
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
        columns: their names as written.
        rows: an iterator over the number of each row, for messages, and its cells by column.
        head: number of the row that names the columns.
        unit: what the numbers count: ``line`` of the file, or ``index`` in a JSON array.
        mark: separates the columns.
    """

    path: str
    columns: tuple[str, ...]
    rows: Iterable[tuple[int, Mapping[str, Any]]]
    head: int = 1
    unit: str = "line"
    mark: str = ","

    def place(self, number: int) -> str:
        """Returns the name of a row in messages, such as ``clips.csv line 3``."""
        return f"{self.path} {self.unit} {number}"


@contextmanager
def open_table(path: str) -> Iterator[ManifestTable]:
    """Yields the manifest at ``path``, JSON if its name ends so, else CSV, whose rows are read once.

    A `TelemetryError` while it is open is raised as a `UserError` with an example of what is right.
    """
    is_json = path.lower().endswith(_JSON)
    try:
        with storage.local_copy(path, scratch=scratch_folder("listing")) as local:
            yield (_read_json if is_json else _read_csv)(str(local), path)
    except TelemetryError as error:
        raise UserError(
            f"{error}. A manifest is CSV with a header line, or JSON (one object per line, or an array of "
            f"objects), {_JSON_EXAMPLE if is_json else _CSV_EXAMPLE}"
        ) from error


def _read_csv(local: str, path: str) -> ManifestTable:
    mark, records = csv_records(local, path)
    head, names = next((record for record in records if record[1]), (1, None))
    columns = tuple(name.strip() for name in names or ())
    named = [name for name in columns if name]
    if len(set(named)) != len(named):
        raise TelemetryError(
            f"{path} line {head}: must name each column once, got {list_names(columns)}"
        )
    return ManifestTable(path, columns, _csv_rows(path, columns, mark, records), head, mark=mark)


def _csv_rows(
    path: str, columns: tuple[str, ...], mark: str, records: Records
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in records:
        if cells and any(cells[len(columns) :]):
            raise TelemetryError(
                f"{path} line {number}: expected {len(columns)} columns, got more ({len(cells)}): "
                f"write a cell that holds {mark!r} in double quotes"
            )
        if cells:
            yield number, dict(zip(columns, cells, strict=False))


def _read_json(local: str, path: str) -> ManifestTable:
    # Rows are read twice, because only the last one completes the names of the columns.
    _, records = json_records(local, path)
    columns = tuple(dict.fromkeys(name for _, fields in records for name in fields or ()))
    unit, records = json_records(local, path)
    rows = ((number, fields) for number, fields in records if fields is not None)
    return ManifestTable(path, columns, rows, head=int(unit == "line"), unit=unit)
