"""Lists of clips in a file: CSV with a header line, or JSON.

Columns: ``path`` (a URL, or relative to the manifest's folder), ``label`` (a class, or several separated by
``|``), and optionally ``start`` and ``end`` in seconds after the file's first frame, ``split`` and ``group``.
In place of ``label``, the numeric columns that ``--label_columns`` names are regression targets. Other forms
that programs export are accepted, and notes say how they were read (docs/manifests.md).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.labels.cells import MAX_FLOAT32, CellError, parse_class
from pipelines.labels.rounding import add_rows, check_targets, make_roundings
from pipelines.options.dataset import LabelOptions
from pipelines.plan.descriptors import FrameSpan, Listing, Source, SourceFailure
from pipelines.sources.classes import order_classes
from pipelines.sources.files import Files
from pipelines.sources.listing import list_failure
from pipelines.sources.manifest_cells import CellParser, parse_text
from pipelines.sources.manifest_columns import Column, find_columns
from pipelines.sources.manifest_table import EXTENSIONS, ManifestTable, read_table
from tfrecords_schema.paths import UrlError, absolute, check_path, is_url, relative, resolve
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.store_clients import StorageError

__all__ = ["EXTENSIONS", "list_manifest"]

_MAX_SECONDS = 1e8  # three years; a larger number has another unit
_WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_NO_CLASS = frozenset({"nan", "na", "n/a", "null", "none"})


def list_manifest(path: str, label_options: LabelOptions, *, labelled: bool = True) -> Listing:
    """Lists the clips in the manifest at ``path``, without their labels if ``labelled`` is False."""
    table = read_table(path)
    reader = _RowReader(table, label_options, labelled=labelled)
    numbers: dict[str, int] = {}  # by source id
    listed: list[Source] = []
    for number, cells in table.rows:
        try:
            source = reader.describe(cells)
        except (CellError, UrlError) as error:
            raise UserError(f"{table.place(number)}: {error}") from error
        if source.id in numbers:
            raise UserError(
                f"{table.place(number)}: a clip must be listed once, but {source.id!r} is also at "
                f"{table.place(numbers[source.id])}. Merge the lines (labels are separated by '|')"
            )
        numbers[source.id] = number
        listed.append(source)
    label = _label_spec(table, listed, numbers, label_options) if labelled else LabelSpec()
    roundings = make_roundings(label.target_names, label.target_offsets)
    add_rows(roundings, [source.values for source in listed if label.target_names])
    check_targets(path, roundings)
    listed.sort(key=lambda source: source.id)
    files = Files()
    files.look_up(source.path for source in listed)
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for source in listed:
        try:
            status = files.status(source.path)
        except StorageError:
            raise  # the store fails, not the source
        except OSError as error:
            failures.append(list_failure(source.id, error))
        else:
            sources.append(replace(source, bytes=status.bytes, mtime_ns=status.mtime_ns))
    notes = [*table.notes, *reader.notes(label)]
    prefix = reader.root.rstrip("/") + "/"
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


class _RowReader:
    """Describes the rows of a manifest as sources. Raises `CellError` or `UrlError` for one that is wrong."""

    def __init__(self, table: ManifestTable, options: LabelOptions, *, labelled: bool):
        self.root = os.path.dirname(absolute(table.path))
        self._table, self._labelled = table, labelled
        roles = ["path", "start", "end", "duration"]
        roles += ["split", "group"] if labelled else []
        targets = options.label_columns if labelled else ()
        roles += ["label"] if labelled and not targets else []
        self._columns = find_columns(table.path, table.columns, roles, targets)
        if "end" in self._columns or "start" not in self._columns:
            self._columns.pop("duration", None)  # of the file, or known from start and end
        self._by_frame = self._counts_frames()
        self._targets = [Column(_index_of(name, table), name, "") for name in targets]
        self._parser = CellParser(decimal_comma=table.decimal_comma)
        self._locate = functools.lru_cache(maxsize=1 << 12)(self._find_file)

    def _counts_frames(self) -> bool:
        """Returns True if spans are in frames, False if they are in seconds."""
        spans = [self._columns[r] for r in ("start", "end", "duration") if r in self._columns]
        by_frame = ["frame" in column.unit for column in spans]
        if any(by_frame) and not all(by_frame):
            names = " and ".join(repr(column.name) for column in spans)
            raise UserError(
                f"{self._table.path}: expected spans in seconds or in frames, but {names} mix both"
            )
        return any(by_frame)

    def describe(self, cells: Sequence[Any]) -> Source:
        """Returns the source that a row describes. The file is not looked at."""
        written = self._cell(cells, "path")
        if written is None:
            raise CellError("'path' must name a video, but it is empty")
        path, data_path = self._locate(parse_text(written, "path"))
        start, end = self._span(cells)
        source_id = data_path
        if start is not None or end is not None:
            # All digits that were written, because two spans may differ in the last one.
            first, last = ("" if t is None else repr(t).removesuffix(".0") for t in (start, end))
            unit = "frame:" if self._by_frame else ""
            source_id += f"#t={unit}{first},{last}".rstrip(",")
        split, group = self._cell(cells, "split"), self._cell(cells, "group")
        if isinstance(group, (int, float)):
            group = parse_class(group)
        label = self._cell(cells, "label")
        return Source(
            id=source_id,
            path=path,
            data_path=data_path,
            group=data_path if group is None else parse_text(group, "group").strip() or data_path,
            split=None if split is None else self._parser.split(split),
            labels=() if label is None else self._parser.labels(label),
            values=tuple(self._target(cells, column) for column in self._targets),
            start=None if self._by_frame else start,
            end=None if self._by_frame else end,
            frame_span=FrameSpan(first=int(start or 0), stop=None if end is None else int(end))
            if self._by_frame and (start or end is not None)
            else None,
        )

    def _cell(self, cells: Sequence[Any], role: str) -> Any:
        """Returns the cell for a role; None if it is empty."""
        column = self._columns.get(role)
        if column is None or column.place >= len(cells):
            return None
        value = cells[column.place]
        return None if value == "" else value

    def _find_file(self, written: str) -> tuple[str, str]:
        """Returns the absolute path of a file, and its path relative to the manifest."""
        path = resolve(self.root, written)
        plain = written.strip().replace("\\", "/")
        is_odd = plain != written or _WINDOWS_ROOT.match(written)
        if is_odd and not is_url(written) and (is_url(path) or not os.path.isfile(path)):
            if _WINDOWS_ROOT.match(written):
                raise CellError(
                    f"path must lead to a file on this machine, got {written!r} of another one. "
                    "Write it relative to the manifest's folder, for example 'clips/a.avi'"
                )
            self._parser.notes.setdefault(
                "path", f"paths such as {written!r} are taken as {plain!r}"
            )
            path = resolve(self.root, plain)
        path = check_path(path)
        return path, relative(path, self.root)

    def _span(self, cells: Sequence[Any]) -> tuple[float | None, float | None]:
        start, end = self._time(cells, "start"), self._time(cells, "end")
        duration = self._time(cells, "duration")
        if duration is not None:
            end = float(Decimal(repr(start or 0.0)) + Decimal(repr(duration)))
        unit, got = "frames" if self._by_frame else "seconds", f"got start {start} and end {end}"
        if max(start or 0, end or 0) > _MAX_SECONDS:
            raise CellError(f"start and end must be {unit}, at most {_MAX_SECONDS:g}, {got}")
        if (start or 0) < 0 or (end is not None and end <= (start or 0)):
            raise CellError(f"a clip must have 0 <= start < end in {unit}, {got}")
        return start, end

    def _time(self, cells: Sequence[Any], role: str) -> float | None:
        value = self._cell(cells, role)
        if value is None:
            return None
        column = self._columns[role]
        if self._by_frame:
            frame = self._parser.number(value, column.name, "the number of a frame")
            if not frame.is_integer():
                raise CellError(f"{column.name} must be the number of a frame, got {value!r}")
            return frame + (column.unit == "last frame")
        if column.unit == "ms":
            return float(Decimal(repr(self._parser.number(value, column.name))) / 1000)
        return self._parser.seconds(value, column.name)

    def _target(self, cells: Sequence[Any], column: Column) -> float:
        value = cells[column.place] if column.place < len(cells) else None
        if value in (None, ""):
            raise CellError(f"--label_columns names {column.name!r}, but it is empty")
        number = self._parser.number(value, column.name)
        if abs(number) > MAX_FLOAT32:
            raise CellError(f"{column.name} must fit into a float32, got {number:g}")
        return number

    def notes(self, label: LabelSpec) -> list[str]:
        """Returns how the manifest was read where there is another way, and which columns were not read."""
        parser, columns = self._parser, self._columns
        renamed = [
            f"{column.name!r} as {role}" for role, column in columns.items() if column.name != role
        ]
        notes = [f"columns of the manifest are taken: {', '.join(renamed)}"] if renamed else []
        if self._by_frame:
            end = columns.get("end", Column(0, "end_frame", "frame"))
            which = "the first frame after" if end.unit == "frame" else "the last frame of"
            notes.append(f"frames count from 0, and {end.name!r} is {which} a clip")
        notes += parser.notes.values()
        if parser.commas and parser.points:
            raise UserError(
                f"{self._table.path}: expected one decimal mark, got both {parser.commas!r} and "
                f"{parser.points!r}. Write all numbers with a point"
            )
        if parser.commas:
            notes.append(f"numbers such as {parser.commas!r} have a decimal comma")
        if odd := [name for name in label.class_names if re.search("[;,[]", name)]:
            notes.append(f"{odd[0]!r} is one class. Separate several classes of a clip by '|'")
        if odd := [name for name in label.class_names if name.lower() in _NO_CLASS]:
            notes.append(f"{odd[0]!r} is a class. Remove its clips if it means that they have none")
        used = {column.place for column in (*columns.values(), *self._targets)}
        names = enumerate(self._table.columns)
        unused = sorted(name for place, name in names if name and place not in used)
        if unused and self._labelled:
            notes.append(
                f"columns of the manifest that are not used: {', '.join(map(repr, unused))}"
            )
        return notes


def _index_of(name: str, table: ManifestTable) -> int:
    if name not in table.columns:
        raise UserError(
            f"{table.path}: expected a column {name!r}, which --label_columns names, got "
            f"{', '.join(map(repr, table.columns))}"
        )
    return table.columns.index(name)


def _label_spec(
    table: ManifestTable,
    sources: Sequence[Source],
    numbers: Mapping[str, int],
    options: LabelOptions,
) -> LabelSpec:
    if options.label_columns:
        return LabelSpec(
            task="regression",
            target_names=options.label_columns,
            target_units=options.label_units,
            target_offsets=options.offsets_of(options.label_columns),
        )
    names = order_classes({name for source in sources for name in source.labels}, options)
    if not names:
        raise UserError(
            f"{table.path}: expected a column 'label' with classes, or --label_columns with the names of "
            "numeric columns, got neither"
        )
    if any(len(source.labels) > 1 for source in sources):
        return LabelSpec(task="multilabel", class_names=names)
    for source in sources:
        if not source.labels:
            raise UserError(
                f"{table.place(numbers[source.id])}: 'label' must name a class, but it is empty"
            )
    return LabelSpec(task="classification", class_names=names)
