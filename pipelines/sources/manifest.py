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
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.labels.cells import MAX_FLOAT32
from pipelines.options.dataset import SPLIT_NAME_RULE, LabelOptions, split_name
from pipelines.plan.descriptors import Listing, Source, SourceFailure
from pipelines.sources.files import Files
from pipelines.sources.listing import list_failure
from pipelines.storage.scratch import scratch_folder
from tfrecords_schema import storage
from tfrecords_schema.paths import UrlError, absolute, check_path, relative, resolve
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.store_clients import StorageError

EXTENSIONS = (".csv", ".jsonl", ".ndjson", ".json")
_MAX_SECONDS = 1e8  # three years; a larger number has another unit


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


def list_manifest(path: str, label_options: LabelOptions, *, labelled: bool = True) -> Listing:
    """Lists the clips in the manifest at ``path``, without their labels if ``labelled`` is False."""
    rows = list(_read_rows(path))
    if not rows:
        raise UserError(f"{path}: expected clips in this manifest, but it lists none")
    root = os.path.dirname(absolute(path))
    clips: dict[str, tuple[_Row, Source]] = {}
    for row in rows:
        source = _describe(row, root, label_options)
        if source.id in clips:
            raise UserError(
                f"{row.line}: a clip must be listed once, but {source.id!r} is also at "
                f"{clips[source.id][0].line}. Merge the lines (labels are separated by '|')"
            )
        clips[source.id] = row, source
    label = _label_spec(path, clips.values(), label_options) if labelled else LabelSpec()
    files = Files()
    files.look_up(source.path for _, source in clips.values())
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for _, (_, source) in sorted(clips.items()):
        try:
            status = files.status(source.path)
        except StorageError:
            raise  # the store fails, not the source
        except OSError as error:
            failures.append(list_failure(source.id, error))
        else:
            labels = source.labels if labelled else ()
            sources.append(
                replace(source, labels=labels, bytes=status.bytes, mtime_ns=status.mtime_ns)
            )
    notes = []
    used = {"path", "start", "end", "split", "group", *(label_options.label_columns or ["label"])}
    unused = sorted({column for row in rows for column in row.fields} - used)
    if unused and labelled:
        notes.append(f"columns of the manifest that are not used: {', '.join(map(repr, unused))}")
    prefix = root.rstrip("/") + "/"
    outside = sorted({source.path for source in sources if not source.path.startswith(prefix)})
    if outside:
        lie = "file of the manifest lies" if len(outside) == 1 else "files of the manifest lie"
        notes.append(f"{len(outside)} {lie} outside its folder, for example {outside[0]}")
    return Listing(
        name=Path(path).stem,
        sources=tuple(sources),
        label=label,
        failures=tuple(failures),
        notes=tuple(notes),
    )


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
        # All digits that were written, because two spans may differ in the last one.
        first, last = ("" if t is None else repr(t).removesuffix(".0") for t in (start, end))
        source_id += f"#t={first},{last}".rstrip(",")
    values = []
    for column in label_options.label_columns:
        value = row.number(column)
        if value is None:
            raise UserError(f"{row.line}: --label_columns names {column!r}, but it is empty")
        if abs(value) > MAX_FLOAT32:
            raise UserError(f"{row.line}: {column} must fit into a float32, got {value:g}")
        values.append(value)
    typed = row.text("split")
    split = None if typed is None else split_name(typed)
    if typed is not None and split is None:
        raise UserError(f"{row.line}: split must be {SPLIT_NAME_RULE}, got {typed!r}")
    labels: list[str] = []
    if not values:
        names = (name.strip() for name in (row.text("label") or "").split("|"))
        labels = [name for name in names if name]
    if len(set(labels)) != len(labels):
        raise UserError(f"{row.line}: the labels of a clip must be distinct, got {labels}")
    return Source(
        id=source_id,
        path=path,
        data_path=data_path,
        group=row.text("group") or data_path,
        split=split,
        labels=tuple(sorted(labels)),
        values=tuple(values),
        start=start,
        end=end,
    )


def _label_spec(
    path: str, clips: Collection[tuple[_Row, Source]], options: LabelOptions
) -> LabelSpec:
    if options.label_columns:
        return LabelSpec(
            task="regression", target_names=options.label_columns, target_units=options.label_units
        )
    names = tuple(sorted({name for _, source in clips for name in source.labels}))
    if not names:
        raise UserError(
            f"{path}: expected a column 'label' with classes, or --label_columns with the names of numeric "
            "columns, got neither"
        )
    if any(len(source.labels) > 1 for _, source in clips):
        return LabelSpec(task="multilabel", class_names=names)
    for row, source in clips:
        if not source.labels:
            raise UserError(f"{row.line}: 'label' must name a class, but it is empty")
    return LabelSpec(task="classification", class_names=names)
