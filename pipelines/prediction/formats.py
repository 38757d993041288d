"""Writes rows of predictions as JSON lines, CSV, Parquet or plain values, by the suffix of ``--output``."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipelines.errors import UsageError, UserError
from pipelines.prediction.columns import (
    INTEGERS,
    TEXTS,
    Column,
    fields_of,
    make_columns,
    target_field,
)
from pipelines.prediction.lines import ModelOutput, json_line
from pipelines.prediction.rows import Per, Row

SUFFIXES = (".jsonl", ".csv", ".parquet", ".txt")

_PARQUET_ROWS = 50_000  # per row group


def suffix_of(output: str) -> str:
    """Returns the suffix of a file of predictions; raises UsageError for an unknown one."""
    suffix = next((known for known in SUFFIXES if output.lower().endswith(known)), None)
    if suffix is None:
        raise UsageError(f"--output must end in {', '.join(SUFFIXES)}, got {output}")
    return suffix


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """The format of an output: by its suffix, with the columns of a table.

    Attributes:
        columns: of a table, or keys of each JSON object; None for whole objects.
    """

    suffix: str
    columns: tuple[Column, ...] | None
    output: ModelOutput

    @classmethod
    def of(cls, path: str, wanted: Sequence[str], per: Per, output: ModelOutput) -> RowFormat:
        """Returns the format of the file ``path`` for rows of a model.

        Raises:
            UsageError: if the rows have no such columns, or do not fit the format.
        """
        suffix, label = suffix_of(path), output.label
        if label.per_frame and per == "sequence" and (suffix != ".jsonl" or wanted):
            raise UsageError(
                "the model predicts each frame, and a table has a row for each. Give --every_frame, "
                "--per source or --segments, or an --output that ends in .jsonl without --columns"
            )
        if suffix == ".jsonl" and not wanted:
            return cls(suffix=suffix, columns=None, output=output)
        if suffix == ".txt" and not wanted:
            is_regression = label.task == "regression"
            names = tuple(map(target_field, label.target_names)) if is_regression else ("class",)
            if len(names) != 1:
                raise UsageError(
                    f"--output {path}: a .txt has one value a line, and the model predicts "
                    f"{', '.join(names)}. Choose one with --columns, or write a .csv"
                )
            wanted = names
        columns = make_columns(wanted, per, label)
        if suffix == ".txt" and len(columns) > 1:
            raise UsageError("a .txt has one value a line. Give one of --columns, or write a .csv")
        if suffix == ".parquet":
            _pyarrow()
        return cls(suffix=suffix, columns=tuple(columns), output=output)

    def write(self, rows: Iterable[Row], file: BinaryIO) -> None:
        """Writes the rows as they come."""
        if self.columns is None:
            for row in rows:
                file.write(json.dumps(json_line(row, self.output)).encode() + b"\n")
            return
        names = [column.name for column in self.columns]
        cells = (self._cells(row, self.columns) for row in rows)
        if self.suffix == ".parquet":
            self._write_parquet(names, cells, file)
        elif self.suffix == ".jsonl":
            for values in cells:
                file.write(json.dumps(dict(zip(names, values, strict=True))).encode() + b"\n")
        elif self.suffix == ".txt":
            for (value,) in cells:
                file.write(b"\n" if value is None else f"{value}\n".encode())
        else:
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            table = csv.writer(text, lineterminator="\n")
            table.writerow(names)
            table.writerows(cells)
            text.detach()

    def _cells(self, row: Row, columns: Sequence[Column]) -> list[Any]:
        fields = fields_of(row, self.output)
        return [column.cell(fields) for column in columns]

    def _write_parquet(
        self, names: Sequence[str], cells: Iterable[Sequence[Any]], file: BinaryIO
    ) -> None:
        pa, parquet = _pyarrow()
        types = dict.fromkeys(INTEGERS, pa.int64())
        kinds = []
        for column in self.columns or ():
            is_number = column.field not in (None, *TEXTS)
            kinds.append(types.get(str(column.field), pa.float64()) if is_number else pa.string())
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        with parquet.ParquetWriter(file, schema) as writer:
            cells = iter(cells)
            while block := list(itertools.islice(cells, _PARQUET_ROWS)):
                columns = [
                    pa.array(values, kind)
                    for values, kind in zip(zip(*block, strict=True), kinds, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"writing .parquet needs pyarrow, which is not installed ({error}): pip install "
            "'reelbeam[parquet]', or write a .csv"
        ) from error
    return pyarrow, pyarrow.parquet
