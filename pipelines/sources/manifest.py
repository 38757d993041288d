"""A list of clips in a file: CSV with a header line, or JSON lines.

Columns: ``path`` (a URL, or relative to the manifest's folder), ``label`` (a class, or several separated by
``|``), and optionally ``start`` and ``end`` in seconds after the file's first frame, ``split`` and ``group``.
Instead of ``label``, numeric columns named by ``--label_columns`` are regression targets.
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
from pipelines.sources.files import LOCAL_FILES, Files, absolute, joined, relative
from pipelines.sources.listing import class_label, describe_file, list_failure
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.store_clients import StorageError, UrlError, check_url, is_url

EXTENSIONS = (".csv", ".jsonl", ".ndjson", ".json")
_LONGEST_SECONDS = 1e8  # three years: more is another unit
_MAX_FLOAT32 = (2 - 2**-23) * 2.0**127  # records hold float32
_COLUMNS = ("path", "label", "start", "end", "split", "group")


@dataclass(frozen=True)
class _Row:
    """One line of a manifest: where it stands and its fields, without the empty ones."""

    place: str
    fields: dict[str, Any]

    def text(self, column: str) -> str | None:
        value = self.fields.get(column)
        if value is None:
            return None
        if not isinstance(value, str):
            raise UserError(f"{self.place}: {column} must be text, got {value!r}")
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise UserError(f"{self.place}: {column} must be Unicode, got {value!r}") from None
        if "\0" in value:
            raise UserError(f"{self.place}: {column} must not hold a zero byte, got {value!r}")
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
            raise UserError(f"{self.place}: {column} must be a finite number, got {value!r}")
        return number


def list_manifest(
    path: str, label_options: LabelOptions, *, labelled: bool = True, files: Files = LOCAL_FILES
) -> Listing:
    """Lists the clips in the manifest at ``path``; without their labels, if they are not wanted.

    Raises:
        UserError: naming file and line, for whatever is missing, ill-typed or contradictory.
    """
    rows = list(_read_rows(path, files))
    if not rows:
        raise UserError(f"expected clips in the manifest {path}, but it lists none")
    known = {*_COLUMNS, *label_options.label_columns}
    if label_options.label_columns:
        known -= {"label"} - {*label_options.label_columns}
    ignored = sorted({column for row in rows for column in row.fields} - known)
    sources: dict[str, Source] = {}
    places: dict[str, str] = {}
    failures: list[SourceFailure] = []
    root = os.path.dirname(absolute(path))
    described = [_describe(row, root, label_options) for row in rows]
    files.look_up(source.path for source in described)
    for row, source in zip(rows, described, strict=True):
        if not labelled:
            source = replace(source, labels=())
        if source.id in places:
            raise UserError(
                f"{row.place}: a clip must be listed once, but {source.id!r} is also at "
                f"{places[source.id]}: merge the lines (labels are separated by '|')"
            )
        places[source.id] = row.place
        try:
            found = describe_file(source.path, source.data_path, files)
        except StorageError:
            raise  # a store that does not answer says nothing of a source
        except OSError as error:
            failures.append(list_failure(source.id, error))
        else:
            sources[source.id] = replace(source, bytes=found.bytes, mtime_ns=found.mtime_ns)
    return Listing(
        name=Path(path).stem,
        sources=tuple(sources[source_id] for source_id in sorted(sources)),
        label=_label_spec(path, rows, label_options) if labelled else LabelSpec(),
        failures=tuple(failures),
        notes=tuple(_notes(sources.values(), root, ignored if labelled else [])),
    )


def _notes(sources: Iterable[Source], root: str, ignored: list[str]) -> Iterator[str]:
    if ignored:
        yield f"columns of the manifest that were not used: {', '.join(map(repr, ignored))}"
    prefix = root.rstrip("/") + "/"
    outside = sorted({source.path for source in sources if not source.path.startswith(prefix)})
    if outside:
        lie = "file of the manifest lies" if len(outside) == 1 else "files of the manifest lie"
        yield f"{len(outside)} {lie} outside its folder (such as {outside[0]!r})"


def _read_rows(path: str, files: Files) -> Iterator[_Row]:
    try:
        with files.local(path) as local, open(local, encoding="utf-8-sig", newline="") as file:
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
                f"{path} line 1: must name the columns, each once and one of them 'path', got {columns}"
            )
        for fields in reader:
            place = f"{path} line {reader.line_num}"
            if None in fields:
                raise UserError(f"{place}: expected {len(columns)} columns, got more")
            yield _Row(place, {key: value for key, value in fields.items() if value})
    except csv.Error as error:
        line = reader.reader.line_num  # the DictReader's own counts only what it returned
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
    """The source a row describes; whether its file exists is not looked at."""
    written = row.text("path")
    if written is None:
        raise UserError(f"{row.place}: 'path' must name a video, but it is empty")
    path = _located(row, joined(root, written))
    data_path = relative(path, root)
    start, end = row.number("start"), row.number("end")
    if max(start or 0, end or 0) > _LONGEST_SECONDS:
        raise UserError(
            f"{row.place}: start and end must be seconds, at most {_LONGEST_SECONDS:g}, "
            f"got start {start} and end {end}"
        )
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise UserError(
            f"{row.place}: a clip must have 0 <= start < end in seconds, got start {start} and end {end}"
        )
    source_id = data_path
    if start is not None or end is not None:
        source_id += f"#t={_seconds_text(start)}" + (f",{_seconds_text(end)}" if end else "")
    values = []
    for column in label_options.label_columns:
        value = row.number(column)
        if value is None:
            raise UserError(f"{row.place}: --label_columns names {column!r}, but it is empty")
        if abs(value) > _MAX_FLOAT32:
            raise UserError(f"{row.place}: {column} must fit into a float32, got {value:g}")
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


def _located(row: _Row, path: str) -> str:
    try:
        return check_url(path) if is_url(path) else path
    except UrlError as error:
        raise UserError(f"{row.place}: {error}") from error


def _seconds_text(seconds: float | None) -> str:
    """All digits that were written: two spans may differ in the last one."""
    return "" if seconds is None else repr(seconds).removesuffix(".0")


def _split(row: _Row) -> str | None:
    split = row.text("split")
    if split is not None and not is_split_name(split):
        raise UserError(f"{row.place}: split must be {SPLIT_NAME_RULE}, got {split!r}")
    return split


def _labels(row: _Row) -> tuple[str, ...]:
    labels = [label.strip() for label in (row.text("label") or "").split("|")]
    labels = [label for label in labels if label]
    if len(set(labels)) != len(labels):
        raise UserError(f"{row.place}: the labels of a clip must be distinct, got {labels}")
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
            f"{path}: expected a 'label' column with classes, or --label_columns naming columns "
            "of numbers, got neither"
        )
    if any(len(own) > 1 for own in labels):
        return LabelSpec(task="multilabel", class_names=names)
    for row, own in zip(rows, labels, strict=True):
        if not own:
            raise UserError(f"{row.place}: 'label' must name a class, but it is empty")
    return class_label(names)
