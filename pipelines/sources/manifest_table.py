"""Reads manifests as tables of cells that are not parsed yet, and finds their columns by usual names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UserError
from pipelines.labels.cells import TelemetryError
from pipelines.labels.json_format import json_records
from pipelines.labels.table import list_names
from pipelines.labels.text_formats import csv_records
from tfrecords_schema import storage
from tfrecords_schema.running.scratch import scratch_folder

_JSON = (".jsonl", ".ndjson", ".json")
EXTENSIONS = (".csv", ".tsv", ".txt", *_JSON)
_FORMS = (
    "A manifest is CSV with a header line, for example 'path,label' and below it 'clips/a.mp4,run', or JSON "
    'objects, one per line or in an array, for example {"path": "clips/a.mp4", "label": "run"}'
)
_UNIT = "(?:time(?:stamp)?|s|secs?|seconds?|ms|msec|milliseconds?|frames?)?"
# Names without case and separators: "Start Time" and "startTime" are "starttime".
_NAMES = {
    "path": "path|(?:file|video|clip)(?:file)?(?:name|path)?",
    "label": "labels?|labelname|class(?:es|name)?|category(?:name)?|action|activity",
    "start": f"(?:time|t)?(?:start|begin){_UNIT}|firstframe",
    "end": f"(?:time|t)?(?:end|stop){_UNIT}|lastframe",
    "duration": f"duration{_UNIT}",
    "split": "split|subset|set|partition",
    "group": "group(?:id)?",
}
# Of a name with another unit. A column such as "stop_sign" has no time.
_OTHER_UNIT = {"start": re.compile(r"(?:start|begin)[\W_]"), "end": re.compile(r"end[\W_]")}


@dataclass(frozen=True)
class ManifestTable:
    """The rows of a manifest.

    Attributes:
        columns: their names as written.
        rows: an iterator over the number of each row, for messages, and its cells by column.
        head, unit: number of the row that names the columns, and what numbers count: ``line`` or ``index``.
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
    read = _read_json if path.lower().endswith(_JSON) else _read_csv
    try:
        with storage.local_copy(path, scratch=scratch_folder("listing")) as local:
            yield read(str(local), path)
    except TelemetryError as error:
        raise UserError(f"{error}. {_FORMS}") from error


def _read_csv(local: str, path: str) -> ManifestTable:
    mark, records = csv_records(local, path)
    head, names = next((record for record in records if record[1]), (1, None))
    columns = tuple(name.strip() for name in names or ())
    named = [name for name in columns if name]
    if len(set(named)) != len(named):
        raise TelemetryError(
            f"{path} line {head}: must name each column once, got {list_names(columns)}"
        )

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        for number, cells in records:
            if cells and any(cells[len(columns) :]):
                raise TelemetryError(
                    f"{path} line {number}: expected {len(columns)} columns, got more ({len(cells)}): "
                    f"write a cell that holds {mark!r} in double quotes"
                )
            if cells:
                yield number, dict(zip(columns, cells, strict=False))

    return ManifestTable(path, columns, rows(), head, mark=mark)


def _read_json(local: str, path: str) -> ManifestTable:
    # Rows are read twice, because only the last one completes the names of the columns.
    _, records = json_records(local, path)
    columns = tuple(dict.fromkeys(name for _, fields in records for name in fields or ()))
    unit, records = json_records(local, path)
    rows = ((number, fields) for number, fields in records if fields is not None)
    return ManifestTable(path, columns, rows, head=int(unit == "line"), unit=unit)


def find_columns(
    place: str, names: Sequence[str], roles: Collection[str], others: Collection[str]
) -> dict[str, str]:
    """Returns the columns for those of ``roles`` that the manifest has; ``others`` have another use.

    A column that is named like its role is taken before all others.
    """
    found: dict[str, str] = {}
    for role in roles:
        free = [name for name in names if name not in others and name not in roles]
        likely = [n for n in free if re.fullmatch(_NAMES[role], _plain(n))]
        likely = [role] if role in names else likely
        if len(likely) > 1:
            raise TelemetryError(
                f"{place}: expected one column for the {role}, but {' and '.join(map(repr, likely))} could "
                f"each be it. Rename the right one to {role!r}"
            )
        if likely:
            found[role] = likely[0]
        elif odd := [n for n in free if role in _OTHER_UNIT and _OTHER_UNIT[role].match(n.lower())]:
            raise TelemetryError(
                f"{place}: the column {odd[0]!r} may hold the {role} of clips, in an unknown unit. Rename it "
                f"to {role!r} if it holds seconds or hh:mm:ss, or else to another word"
            )
    if "path" not in found:
        raise TelemetryError(
            f"{place}: expected columns with names, one of them 'path', got {list_names(names)}"
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def unit_of(name: str) -> str:
    """Returns the unit of a column of times: s, ms, frame or last frame."""
    plain = _plain(name)
    if "frame" in plain:
        return "last frame" if plain == "lastframe" else "frame"
    return "ms" if plain.endswith(("ms", "msec", "millisecond", "milliseconds")) else "s"
