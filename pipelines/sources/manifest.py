"""Lists of clips in a file: CSV with a header line, or JSON lines.

Columns: ``path`` (a URL, or relative to the manifest's folder), ``label`` (a class, or several separated by
``|``), and optionally ``start`` and ``end`` in seconds after the file's first frame, ``split`` and ``group``.
In place of ``label``, the numeric columns that ``--label_columns`` names are regression targets.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.options.dataset import SPLIT_NAME_RULE, LabelOptions, is_split_name
from pipelines.plan.descriptors import Listing, Source, SourceFailure
from pipelines.sources.files import LOCAL_FILES, Files
from pipelines.sources.listing import class_label, list_failure
from pipelines.storage.scratch import scratch_folder
from tfrecords_schema import storage
from tfrecords_schema.paths import UrlError, absolute, check_path, relative, resolve
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.store_clients import StorageError

EXTENSIONS = (".csv", ".jsonl", ".ndjson", ".json")
_MAX_SECONDS = 1e8  # three years; a larger number has another unit
_MAX_FLOAT32 = (2 - 2**-23) * 2.0**127  # records hold float32
_COLUMNS = ("path", "label", "start", "end", "split", "group")


@dataclass(frozen=True)
class _Row:
    """A row of a manifest: its file and line number for messages, and its fields that are not empty."""

    line: str
    fields: dict[str, Any]

    def text(self, column: str) -> str | None:
        value = self.fields.get(column)
        if value is None:
            return None
        if not isinstance(value, str):
            raise UserError(f"{self.line}: {column} must be text, got {value!r}")
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise UserError(
                f"{self.line}: {column} must be valid Unicode, got half a surrogate pair in {value!r}"
            ) from None
        if "\0" in value:
            raise UserError(f"{self.line}: {column} must not hold a zero byte, got {value!r}")
        return value

    def number(self, column: str) -> float | None:
        value = self.fields.get(column)
        if value is None:
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{self.line}: {column} must be a finite number, got {value!r}")
        return number


def list_manifest(
    path: str, label_options: LabelOptions, *, labelled: bool = True, files: Files = LOCAL_FILES
) -> Listing:
    """Lists the clips in the manifest at ``path``, without their labels if ``labelled`` is False.

    Raises:
        UserError: with file and line, for fields that are missing, invalid or contradictory.
    """
    rows = list(_read_rows(path))
    if not rows:
        raise UserError(f"{path}: expected clips in this manifest, but it lists none")
    root = os.path.dirname(absolute(path))
    described: dict[str, Source] = {}
    lines: dict[str, str] = {}
    for row in rows:
        source = _describe(row, root, label_options)
        if source.id in described:
            raise UserError(
                f"{row.line}: a clip must be listed once, but {source.id!r} is also at {lines[source.id]}. "
                "Merge the lines (labels are separated by '|')"
            )
        described[source.id] = source if labelled else replace(source, labels=())
        lines[source.id] = row.line
    files.look_up(source.path for source in described.values())
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for _, source in sorted(described.items()):
        try:
            status = files.status(source.path)
        except StorageError:
            raise  # the store fails, not the source
        except OSError as error:
            failures.append(list_failure(source.id, error))
        else:
            sources.append(replace(source, bytes=status.bytes, mtime_ns=status.mtime_ns))
    return Listing(
        name=Path(path).stem,
        sources=tuple(sources),
        label=_label_spec(path, rows, label_options) if labelled else LabelSpec(),
        failures=tuple(failures),
        notes=tuple(_notes(sources, root, _unused(rows, label_options) if labelled else [])),
    )


def _unused(rows: Iterable[_Row], options: LabelOptions) -> list[str]:
    """Returns the columns that are not read."""
    known = {*_COLUMNS, *options.label_columns}
    if options.label_columns:
        known -= {"label"} - {*options.label_columns}
    return sorted({column for row in rows for column in row.fields} - known)


def _notes(sources: Iterable[Source], root: str, ignored: list[str]) -> Iterator[str]:
    if ignored:
        yield f"columns of the manifest that are not used: {', '.join(map(repr, ignored))}"
    prefix = root.rstrip("/") + "/"
    outside = sorted({source.path for source in sources if not source.path.startswith(prefix)})
    if outside:
        lie = "file of the manifest lies" if len(outside) == 1 else "files of the manifest lie"
        yield f"{len(outside)} {lie} outside its folder, for example {outside[0]}"


def _read_rows(path: str) -> Iterator[_Row]:
    try:
        with (
            storage.local_copy(path, scratch=scratch_folder("listing")) as local,
            open(local, encoding="utf-8-sig", newline="") as file,
        ):
            if path.lower().endswith(".csv"):
                yield from _read_csv(file, path)
            else:
                yield from _read_json_lines(file, path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a manifest must be UTF-8 text: {error}") from error


def _read_csv(file: Any, path: str) -> Iterator[_Row]:
    reader = csv.DictReader(file, strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        if "path" not in columns or len(set(columns)) != len(columns):
            raise UserError(
                f"{path} line 1: must name each column once, and one of them 'path', got {columns}"
            )
        for fields in reader:
            place = f"{path} line {reader.line_num}"
            if None in fields:
                raise UserError(f"{place}: expected {len(columns)} columns, got more")
            yield _Row(place, {key: value for key, value in fields.items() if value})
    except csv.Error as error:
        line = reader.reader.line_num  # DictReader.line_num counts only returned rows
        raise UserError(f"{path} line {line}: not valid CSV: {error}") from error


def _read_json_lines(file: Any, path: str) -> Iterator[_Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: expected a JSON object, got {line[:50]!r}") from error
        if not isinstance(fields, dict):
            raise UserError(f"{place}: expected a JSON object, got {line.strip()[:50]}")
        yield _Row(place, {key: value for key, value in fields.items() if value not in (None, "")})


def _describe(row: _Row, root: str, label_options: LabelOptions) -> Source:
    """Returns the source that a row describes. The file is not looked at."""
    written = row.text("path")
    if written is None:
        raise UserError(f"{row.line}: 'path' must name a video, but it is empty")
    try:
        path = check_path(resolve(root, written))
    except UrlError as error:
        raise UserError(f"{row.line}: {error}") from error
    data_path = relative(path, root)
    start, end = row.number("start"), row.number("end")
    if max(start or 0, end or 0) > _MAX_SECONDS:
        raise UserError(
            f"{row.line}: start and end must be seconds, at most {_MAX_SECONDS:g}, "
            f"got start {start} and end {end}"
        )
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise UserError(
            f"{row.line}: a clip must have 0 <= start < end in seconds, got start {start} and end {end}"
        )
    source_id = data_path
    if start is not None or end is not None:
        source_id += f"#t={_seconds_text(start)}" + (f",{_seconds_text(end)}" if end else "")
    values = []
    for column in label_options.label_columns:
        value = row.number(column)
        if value is None:
            raise UserError(f"{row.line}: --label_columns names {column!r}, but it is empty")
        if abs(value) > _MAX_FLOAT32:
            raise UserError(f"{row.line}: {column} must fit into a float32, got {value:g}")
        values.append(value)
    return Source(
        id=source_id,
        path=path,
        data_path=data_path,
        group=row.text("group") or data_path,
        split=_split(row),
        labels=() if values else _labels(row),
        values=tuple(values),
        start=start,
        end=end,
    )


def _seconds_text(seconds: float | None) -> str:
    """Returns all digits that were written, because two spans may differ in the last one."""
    return "" if seconds is None else repr(seconds).removesuffix(".0")


def _split(row: _Row) -> str | None:
    split = row.text("split")
    if split is not None and not is_split_name(split):
        raise UserError(f"{row.line}: split must be {SPLIT_NAME_RULE}, got {split!r}")
    return split


def _labels(row: _Row) -> tuple[str, ...]:
    labels = [label.strip() for label in (row.text("label") or "").split("|")]
    labels = [label for label in labels if label]
    if len(set(labels)) != len(labels):
        raise UserError(f"{row.line}: the labels of a clip must be distinct, got {labels}")
    return tuple(sorted(labels))


def _label_spec(path: str, rows: list[_Row], options: LabelOptions) -> LabelSpec:
    if options.label_columns:
        return LabelSpec(
            task="regression", target_names=options.label_columns, target_units=options.label_units
        )
    labels = [_labels(row) for row in rows]
    names = tuple(sorted({name for own in labels for name in own}))
    if not names:
        raise UserError(
            f"{path}: expected a column 'label' with classes, or --label_columns with the names of numeric "
            "columns, got neither"
        )
    if any(len(own) > 1 for own in labels):
        return LabelSpec(task="multilabel", class_names=names)
    for row, own in zip(rows, labels, strict=True):
        if not own:
            raise UserError(f"{row.line}: 'label' must name a class, but it is empty")
    return class_label(names)
