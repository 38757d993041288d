"""Finds the label of a folder of frames in a JSON file by a JMESPath expression (https://jmespath.org).

The result may be the label of the whole recording or a label per frame; `FoundLabel` can be read as either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import jmespath

from pipelines.labels.cells import MAX_FLOAT32, MAX_SHOWN, is_storable

_EXPECTED = "a number, a text, true or false, a list of these, or a list of lists of numbers"


class AnnotationError(Exception):
    """An annotation file without a usable label; the message is one line that names the file."""


@dataclass(frozen=True)
class FoundLabel:
    """The result of the expression in one file.

    Attributes:
        name: of the file, for messages.
        kind: of each entry; rows are of numbers, and all of one length.
        entries: at least one. True and false become the classes ``true`` and ``false``.
        is_list: the result was a list, which may have an entry per frame; otherwise there is one entry.
    """

    name: str
    kind: Literal["number", "row", "class"]
    entries: tuple[Any, ...]
    is_list: bool

    def of_sequence(self) -> tuple[Any, ...]:
        """Returns the label of the whole recording: regression targets, or its distinct classes, sorted."""
        if self.kind == "row":
            raise AnnotationError(
                f"{self.name}: expected one label of the whole folder, got a list of {len(self.entries)} "
                "rows. Use --label_at each for labels by frame"
            )
        if self.kind == "number":
            return self.entries
        if len(set(self.entries)) != len(self.entries):
            shown = _shorten(self.entries)
            raise AnnotationError(f"{self.name}: expected distinct classes, got {shown}")
        return tuple(sorted(self.entries))

    def by_frame(self, num_frames: int) -> tuple[Any, ...]:
        """Returns the label of each frame: a row of regression targets, or a class.

        A flat list of numbers has one target per frame; a list of texts has one class per frame.
        """
        if not self.is_list:
            shown = _shorten(self.entries[0])
            raise AnnotationError(
                f"{self.name}: expected a list with an entry for each frame, got {shown}"
            )
        if len(self.entries) != num_frames:
            entries = "1 entry" if len(self.entries) == 1 else f"{len(self.entries)} entries"
            frames = "1 frame" if num_frames == 1 else f"{num_frames} frames"
            raise AnnotationError(
                f"{self.name}: expected a label for each frame, got {entries} for {frames}"
            )
        return tuple((entry,) for entry in self.entries) if self.kind == "number" else self.entries


def read_label(path: str, name: str, expression: str) -> FoundLabel:
    """Finds the label in the annotation file at ``path``; ``name`` is its name in messages.

    Raises:
        AnnotationError: if the file is not JSON, or the expression finds no label.
        OSError: if the file cannot be read.
    """
    document = _load(path, name)
    try:
        found = jmespath.search(expression, document)  # which keeps compiled expressions
    except RecursionError:
        raise AnnotationError(f"{name}: JSON is nested too deep for {expression!r}") from None
    # JMESPath's functions raise Python's errors for arguments that they do not check.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AnnotationError(f"{name}: {expression!r} cannot be evaluated: {reason}") from error
    if found is None:
        raise AnnotationError(
            f"{name}: {expression!r} found nothing in {_shorten(document)}: see --label"
        )
    return _classify(found, name, expression)


def name_targets(expression: str, count: int) -> tuple[str, ...]:
    """Returns names for ``count`` numbers that the expression finds, from the names in it.

    ``[0].velocity`` gives ``velocity``, or ``velocity_0`` and ``velocity_1`` for two numbers;
    ``[0].[vx, vy]`` gives ``vx`` and ``vy``.
    """
    names = _last_names(jmespath.compile(expression).parsed) or ["label"]
    if len(names) == count == len(set(names)):
        return tuple(names)
    return tuple(f"{names[-1]}_{index}" for index in range(count)) if count > 1 else (names[-1],)


def _last_names(node: Any) -> list[str]:
    """Returns the last identifier below a JMESPath node; for a multi-select list, one per item."""
    if not isinstance(node, dict):  # an index of a slice
        return []
    if node["type"] == "field":
        return [node["value"]]
    children = [_last_names(child) for child in node["children"]]
    if node["type"] == "filter_projection":
        children.pop()  # the condition of the filter
    if node["type"] == "multi_select_list":
        return [names[-1] for names in children if names]
    return next((names for names in reversed(children) if names), [])


def _load(path: str, name: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise AnnotationError(f"{name}: expected JSON, which has no {constant}")

    with open(path, encoding="utf-8-sig") as file:
        try:
            return json.load(file, parse_constant=refuse)
        except json.JSONDecodeError as error:
            raise AnnotationError(
                f"{name}: expected JSON, got an error in line {error.lineno}, column {error.colno}: "
                f"{error.msg}"
            ) from error
        except UnicodeDecodeError as error:
            raise AnnotationError(
                f"{name}: expected UTF-8 text, got the byte {error.object[error.start]:#04x} "
                f"at offset {error.start}: save the file as UTF-8"
            ) from error
        except ValueError as error:  # an integer of thousands of digits
            raise AnnotationError(f"{name}: expected JSON: {error}") from error
        except RecursionError:
            raise AnnotationError(f"{name}: JSON is nested too deep") from None


def _classify(found: Any, name: str, expression: str) -> FoundLabel:
    def check(holds: bool, expected: str = _EXPECTED) -> None:
        if not holds:
            raise AnnotationError(
                f"{name}: expected {expected} at {expression!r}, got {_shorten(found)}"
            )

    def as_float(value: int | float) -> float:
        check(abs(value) <= MAX_FLOAT32, "finite numbers that fit into float32")
        return float(value)

    def as_class(value: str | bool) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        expected = "names of classes, neither empty nor with a zero byte,"
        check(bool(value) and is_storable(value), expected)
        return value

    entries = found if isinstance(found, list) else [found]
    is_list = entries is found
    check(bool(entries), "at least one entry")
    if all(map(_is_number, entries)):
        return FoundLabel(name, "number", tuple(map(as_float, entries)), is_list)
    if any(all(isinstance(entry, kind) for entry in entries) for kind in (str, bool)):
        return FoundLabel(name, "class", tuple(map(as_class, entries)), is_list)
    check(all(isinstance(row, list) and all(map(_is_number, row)) for row in entries))
    lengths = sorted({len(row) for row in entries})
    check(len(lengths) == 1 and lengths[0] > 0, "lists of numbers of one length")
    rows = tuple(tuple(map(as_float, row)) for row in entries)
    return FoundLabel(name, "row", rows, is_list)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shorten(value: object) -> str:
    try:
        text = json.dumps(value, default=repr)
    except (RecursionError, ValueError):
        return "something that is nested too deep"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
