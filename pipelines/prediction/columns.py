"""The columns of a table of predictions, from ``--columns id={source},vx`` or by default."""

from __future__ import annotations

import math
import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

from pipelines.errors import UsageError
from pipelines.prediction.lines import ModelOutput, describe
from pipelines.prediction.rows import Per, Row
from tfrecords_schema.options import did_you_mean
from tfrecords_schema.spec import LabelSpec

Cell = str | int | float | None

INTEGERS = ("frame", "first_frame", "last_frame", "sequences")
"""Fields with whole numbers."""
TEXTS = ("source", "stem", "class", "reason")
"""Fields with text."""

_PLACES: dict[Per, tuple[str, ...]] = {
    "sequence": ("source", "start", "end"),
    "frame": ("source", "frame", "time"),
    "source": ("source", "sequences"),
    "segment": ("source", "start", "end", "first_frame", "last_frame", "class", "score"),
}
_PROBABILITY = "p"
_RESERVED = {"stem", "reason", *chain.from_iterable(_PLACES.values())}
# Inside of braces, a comma belongs to the name of a class.
_COMMA = re.compile(r",(?![^{}]*\})")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        name: in the header.
        field: whose value a cell is, such as ``frame`` or ``p:run``; None for text made of ``parts``.
        parts: of the text in turn: what stands before a field, the field, and its format; at the end, text
            without a field.
    """

    name: str
    field: str | None = None
    parts: tuple[tuple[str, str | None, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Column:
        """Returns the column that ``NAME`` or ``NAME={FIELD}...`` asks for; raises ValueError."""
        name, has_template, template = text.partition("=")
        name = name.strip()
        if not has_template:
            return cls(name=name, field=name)
        parts = []
        for before, field, spec, conversion in string.Formatter().parse(template):
            if conversion:
                raise ValueError("a field cannot be converted with '!'")
            # The class of a probability is written where others have a format.
            is_probability = field == _PROBABILITY
            key = f"{field}:{spec}" if is_probability else field
            parts.append((before, key, "" if is_probability else spec or ""))
        if len(parts) == 1 and parts[0][0] == parts[0][2] == "" and parts[0][1] is not None:
            return cls(name=name, field=parts[0][1])
        return cls(name=name, parts=tuple(parts))

    @property
    def fields(self) -> list[str]:
        """The fields that the column shows."""
        return [self.field] if self.field is not None else [f for _, f, _ in self.parts if f]

    def cell(self, values: Mapping[str, Cell]) -> Cell:
        """Returns the cell of a row with ``values``; None if one of them is missing."""
        if self.field is not None:
            return values.get(self.field)
        if any(values.get(field) is None for field in self.fields):
            return None
        return "".join(
            before + (format(values[field], spec) if field else "")
            for before, field, spec in self.parts
        )


def make_columns(wanted: Sequence[str], per: Per, label: LabelSpec) -> list[Column]:
    """Returns the columns that ``--columns`` asks for; the usual ones if it is empty.

    Raises:
        UsageError: for a field that such rows do not have.
    """
    known = [*_PLACES[per], "stem", *_answer_fields(per, label), "reason"]
    if not wanted:
        return [Column(name=name, field=name) for name in known if name != "stem"]
    columns = []
    words = ([word] if word in known else _COMMA.split(word) for word in wanted)
    wanted = [text.strip() for texts in words for text in texts]
    example = {name: "" if name in TEXTS else 0 if name in INTEGERS else 0.0 for name in known}
    for text in wanted:
        try:
            column = Column(name=text, field=text) if text in known else Column.parse(text)
            if set(column.fields) <= example.keys():
                column.cell(example)  # raises for a format that does not fit
        except ValueError as error:
            raise UsageError(
                f"--columns {text}: {error}. Write NAME, or NAME={{FIELD}} as in id={{source}}"
            ) from None
        for field in column.fields:
            if field not in known:
                raise UsageError(
                    f"--columns {text}: no field is called {field!r}{did_you_mean(field, known)}; there are "
                    f"{', '.join(known)}"
                )
        columns.append(column)
    if len({column.name for column in columns}) < len(columns):
        raise UsageError(f"--columns must have distinct names, got {', '.join(wanted)}")
    return columns


def fields_of(row: Row, output: ModelOutput) -> dict[str, Cell]:
    """Returns the fields that templates may name, with their values for a row."""
    path = PurePosixPath(str(row.place["source"]).partition("#t=")[0])
    fields: dict[str, Cell] = {**row.place, "stem": os.path.splitext(path.name)[0]}
    if row.values is not None:
        said = describe(row.values, output)
        fields |= {target_field(name): v for name, v in said.get("values", {}).items()}
        fields |= {f"{_PROBABILITY}:{name}": p for name, p in said.get("probabilities", {}).items()}
        if output.label.task != "regression":
            fields["class"] = "|".join(said["classes"]) if "classes" in said else said["class"]
    return {**fields, "reason": row.reason or None}


def filled(row: Row, fill: Sequence[float] | None) -> Row:
    """Returns a row whose missing values are those of ``fill``, by target."""
    if fill is None or row.frames:
        return row
    values = row.values or (math.nan,) * len(fill)
    whole = tuple(v if math.isfinite(v) else own for v, own in zip(values, fill, strict=True))
    return Row(place=row.place, values=whole, reason=row.reason)


def target_field(name: str) -> str:
    """Returns the field of a target: its name, or ``predicted_NAME`` if another field is called so."""
    return f"predicted_{name}" if name in _RESERVED else name


def _answer_fields(per: Per, label: LabelSpec) -> list[str]:
    if per == "segment":
        return []
    if label.task == "regression":
        return list(map(target_field, label.target_names))
    return ["class", *(f"{_PROBABILITY}:{name}" for name in label.class_names)]
