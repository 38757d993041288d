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
from pipelines.labels.cells import CellError, TelemetryError, parse_class
from pipelines.labels.rounding import Rounding, add_rows, check_targets
from pipelines.labels.table import check_known, list_names
from pipelines.options.dataset import LabelOptions
from pipelines.plan.descriptors import FrameSpan, Listing, Source
from pipelines.sources.classes import order_classes
from pipelines.sources.files import Files
from pipelines.sources.listing import describe_all
from pipelines.sources.manifest_cells import CellParser, parse_labels, parse_text
from pipelines.sources.manifest_table import (
    EXTENSIONS,
    ManifestTable,
    find_columns,
    open_table,
    unit_of,
)
from tfrecords_schema.paths import UrlError, absolute, check_path, is_url, relative, resolve
from tfrecords_schema.spec import LabelSpec

__all__ = ["EXTENSIONS", "list_manifest"]

_MAX_SECONDS = 1e8  # three years; a larger number has another unit
_WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ODD_CLASS = re.compile(r"[;,[]|\A(?:nan|n/?a|null|none)\Z", re.IGNORECASE)


def list_manifest(path: str, label_options: LabelOptions, *, labelled: bool = True) -> Listing:
    """Lists the clips in the manifest at ``path``, without their labels if ``labelled`` is False."""
    numbers: dict[str, int] = {}  # of rows, by source id
    listed: list[Source] = []
    with open_table(path) as table:
        reader = _RowReader(table, label_options, labelled=labelled)
        for number, cells in table.rows:
            try:
                source = reader.describe(cells)
            except (CellError, UrlError) as error:
                raise UserError(f"{table.place(number)}: {error}") from error
            if numbers.setdefault(source.id, number) != number:
                raise UserError(
                    f"{table.place(number)}: a clip must be listed once, but {source.id!r} is also at "
                    f"{table.place(numbers[source.id])}. Merge the lines (labels are separated by '|')"
                )
            listed.append(source)
        if not listed:
            raise TelemetryError(f"{path}: expected clips in this manifest, but it lists none")
    label = _label_spec(table, listed, numbers, label_options) if labelled else LabelSpec()
    roundings = [*map(Rounding, label.target_names, label.offsets)]
    add_rows(roundings, [source.values for source in listed if source.values])
    check_targets(path, roundings)
    files = Files()
    files.look_up(source.path for source in listed)

    def look_at(_: str, source: Source) -> Source:
        status = files.status(source.path)
        return replace(source, bytes=status.bytes, mtime_ns=status.mtime_ns)

    listed.sort(key=lambda source: source.id)
    sources, failures = describe_all(((source.id, source) for source in listed), look_at)
    return Listing(
        name=Path(path).stem,
        sources=tuple(sources),
        label=label,
        failures=tuple(failures),
        notes=tuple(reader.notes(label, sources)),
    )


class _RowReader:
    """Describes the rows of a manifest as sources. Raises `CellError` or `UrlError` for one that is wrong."""

    def __init__(self, table: ManifestTable, options: LabelOptions, *, labelled: bool):
        self._root = os.path.dirname(absolute(table.path))
        self._table, self._labelled = table, labelled
        self._targets = options.label_columns if labelled else ()
        head = table.place(table.head)
        check_known(head, table.columns, self._targets)
        roles = ["path", "start", "end", "duration"]
        roles += ["split", "group"] if labelled else []
        roles += ["label"] if labelled and not self._targets else []
        self._columns = find_columns(head, table.columns, roles, self._targets)
        if "end" in self._columns or "start" not in self._columns:
            self._columns.pop("duration", None)  # of the file, or known from start and end
        spans = [own for own in self._columns.items() if own[0] in ("start", "end", "duration")]
        self._units = {role: unit_of(name) for role, name in spans}
        by_frame = ["frame" in unit for unit in self._units.values()]
        self._by_frame = any(by_frame)
        if self._by_frame and not all(by_frame):
            names = " and ".join(repr(name) for _, name in spans)
            raise TelemetryError(
                f"{head}: expected spans in seconds or in frames, but {names} mix both"
            )
        self._parser = CellParser(decimal_comma=table.mark != ",")
        self._locate = functools.lru_cache(maxsize=1 << 12)(self._find_file)

    def describe(self, cells: Mapping[str, Any]) -> Source:
        """Returns the source that a row describes. The file is not looked at."""
        written = self._cell(cells, "path")
        if written is None:
            raise CellError("'path' must name a video, but it is empty")
        path, data_path = self._locate(parse_text(written, "path"))
        start, end = self._span(cells)
        source_id, frame_span = data_path, None
        if start is not None or end is not None:
            # All digits that were written, because two spans may differ in the last one.
            first, last = ("" if t is None else repr(t).removesuffix(".0") for t in (start, end))
            unit = "frame:" if self._by_frame else ""
            source_id += f"#t={unit}{first},{last}".rstrip(",")
            if self._by_frame:
                frame_span = FrameSpan(
                    first=int(start or 0), stop=None if end is None else int(end)
                )
                start = end = None
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
            labels=() if label is None else parse_labels(label),
            values=tuple(self._parser.number(cells.get(name), name) for name in self._targets),
            start=start,
            end=end,
            frame_span=frame_span,
        )

    def _cell(self, cells: Mapping[str, Any], role: str) -> Any:
        """Returns the cell for a role; None if it is empty."""
        value = cells.get(self._columns[role]) if role in self._columns else None
        return None if value == "" else value

    def _find_file(self, written: str) -> tuple[str, str]:
        """Returns the absolute path of a file, and its path relative to the manifest."""
        if _WINDOWS_ROOT.match(written):
            raise CellError(
                f"path must lead to a file on this machine, got {written!r} of another one. "
                "Write it relative to the manifest's folder, for example 'clips/a.avi'"
            )
        path, plain = resolve(self._root, written), written.strip().replace("\\", "/")
        is_odd = plain != written and not is_url(written)
        if is_odd and (is_url(path) or not os.path.isfile(path)):
            self._parser.notes.setdefault(
                "path", f"paths such as {written!r} are taken as {plain!r}"
            )
            path = resolve(self._root, plain)
        path = check_path(path)
        return path, relative(path, self._root)

    def _span(self, cells: Mapping[str, Any]) -> tuple[float | None, float | None]:
        start, end, duration = (self._time(cells, role) for role in ("start", "end", "duration"))
        if duration is not None:
            end = float(Decimal(repr(start or 0.0)) + Decimal(repr(duration)))
        unit = "frames" if self._by_frame else "seconds"
        is_empty = end is not None and end <= (start or 0)
        if is_empty or (start or 0) < 0 or max(start or 0, end or 0) > _MAX_SECONDS:
            raise CellError(
                f"a clip must have 0 <= start < end in {unit}, at most {_MAX_SECONDS:g}, "
                f"got start {start} and end {end}"
            )
        return start, end

    def _time(self, cells: Mapping[str, Any], role: str) -> float | None:
        value = self._cell(cells, role)
        if value is None:
            return None
        name, unit = self._columns[role], self._units[role]
        if self._by_frame:
            frame = self._parser.number(value, name, "the number of a frame")
            if not frame.is_integer():
                raise CellError(f"{name} must be the number of a frame, got {value!r}")
            return frame + (unit == "last frame")
        if unit == "ms":
            return float(Decimal(repr(self._parser.number(value, name))) / 1000)
        return self._parser.seconds(value, name)

    def notes(self, label: LabelSpec, sources: Sequence[Source]) -> list[str]:
        """Returns how the manifest was read where there is another way, and which columns were not read."""
        table, columns, notes = self._table, self._columns, []
        if table.mark != ("\t" if table.path.lower().endswith(".tsv") else ","):
            notes.append(f"the columns of the manifest are separated by {table.mark!r}")
        renamed = [f"{name!r} as {role}" for role, name in columns.items() if name != role]
        if renamed:
            notes.append(f"columns of the manifest are taken: {', '.join(renamed)}")
        if self._by_frame:
            is_last = self._units.get("end") == "last frame"
            which = "the last frame of" if is_last else "the first frame after"
            name = columns.get("end", "end_frame")
            notes.append(f"frames count from 0, and {name!r} is {which} a clip")
        notes += self._parser.notes.values()
        if odd := [name for name in label.class_names if _ODD_CLASS.search(name)]:
            notes.append(
                f"classes are taken as written: {list_names(odd)}. Several classes of a clip are separated "
                "by '|', and the cell of a clip without one is empty"
            )
        used = {"", *columns.values(), *self._targets}
        if self._labelled and (unused := sorted(set(table.columns) - used)):
            notes.append(f"columns of the manifest that are not used: {list_names(unused)}")
        prefix = self._root.rstrip("/") + "/"
        if outside := sorted({s.path for s in sources if not s.path.startswith(prefix)}):
            lie = "file of the manifest lies" if len(outside) == 1 else "files of the manifest lie"
            notes.append(f"{len(outside)} {lie} outside its folder, for example {outside[0]}")
        return notes


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
    several = any(len(source.labels) > 1 for source in sources)
    bare = next((source for source in sources if not source.labels), None)
    if bare and not several:
        raise UserError(
            f"{table.place(numbers[bare.id])}: 'label' must name a class, but it is empty"
        )
    return LabelSpec(task="multilabel" if several else "classification", class_names=names)
