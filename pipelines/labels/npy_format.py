"""Reads telemetry from a NumPy array: ``[rows]``, ``[rows, columns]``, or a structured array ``[rows]``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.labels.cells import Cell, TelemetryError
from pipelines.labels.table import MAX_ROWS, Table, Wanted, find_columns, name_columns

_MAGIC = b"\x93NUMPY"
_EXPECTED = "expected a NumPy array of numbers, [rows] or [rows, columns]"
_BLOCK_ROWS = 65_536
_REMEDY = "save it again with numpy.save"


def read_npy(path: str, name: str, wanted: Wanted) -> Table:
    """Reads the rows of an array. The columns of a structured array are its fields."""
    array = load_array(path, name)
    if array.dtype.names:
        columns = list(array.dtype.names)
        by_index = [array[column] for column in columns]
    else:
        by_index = list(np.atleast_2d(array.T))
        columns = name_columns(name, len(by_index), wanted)
    indices = find_columns(name, columns, wanted)
    chosen = [by_index[index] for index in indices]

    def rows() -> Iterator[Sequence[Cell]]:
        for start in range(0, len(array), _BLOCK_ROWS):
            cells = [
                _cells(column[start : start + _BLOCK_ROWS], f"{name}, column {columns[index]!r}")
                for index, column in zip(indices, chosen, strict=True)
            ]
            yield from zip(*cells, strict=True)

    return Table(enumerate(rows()), lambda row: f"{name} index {row}", known=columns)


def load_array(path: str, name: str) -> NDArray[Any]:
    """Returns a checked array of one or two dimensions, which is mapped; raises `TelemetryError`."""
    with open(path, "rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise TelemetryError(f"{name}: {_EXPECTED}, got another kind of file: {_REMEDY}")
        try:
            # Mapped, because a sparse file of a few bytes may declare a terabyte.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # the header is parsed as Python: any kind of error
            reason = " ".join(str(error).split())
            raise TelemetryError(
                f"{name}: {_EXPECTED}, got an invalid file: {reason}: {_REMEDY}"
            ) from error
    if array.ndim and len(array) > MAX_ROWS:
        raise TelemetryError(
            f"{name}: expected at most {MAX_ROWS} rows, got {len(array)}: split the array, or thin it out"
        )
    named = bool(array.dtype.names)
    if array.ndim not in ((1,) if named else (1, 2)) or not (named or array.dtype.kind in "biuf"):
        raise TelemetryError(
            f"{name}: {_EXPECTED}, got {array.dtype} of shape {array.shape}: {_REMEDY}"
        )
    return array


def _cells(column: NDArray[Any], place: str) -> list[Cell]:
    kind = column.dtype.kind
    if column.ndim != 1 or kind not in "biufUSM":
        raise TelemetryError(
            f"{place}: expected one number or text per row, got {column.dtype} of shape "
            f"{column.shape}: {_REMEDY}"
        )
    if kind == "S":
        return [cell.decode("utf-8", "backslashreplace") for cell in column.tolist()]
    if kind == "f":
        column = column.astype(np.float64)
    elif kind == "M":
        column = column.astype(str)  # dates, as ISO 8601
    return column.tolist()
