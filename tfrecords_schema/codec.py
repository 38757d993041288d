"""Converts frozen dataclasses to plain JSON types and back, by their annotations.

    fields = to_json(Clip(path="a.mp4", frame_rate=Fraction(30000, 1001)))
    # {"path": "a.mp4", "frame_rate": "30000/1001", "labels": ()}
    from_json(Clip, fields)  # the equal clip
    from_json(Clip, {"path": 5})  # ValueError: path: expected LocalPath, got int

Text may hold surrogate escapes (`os.fsdecode`), numbers may be infinite or NaN; `json.dumps` keeps both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

T = TypeVar("T")

_hints = functools.cache(typing.get_type_hints)
_PLAIN = frozenset({str, int, float, bool, type(None)})
_MAX_DIGITS = 20
_MAX_JSON = 64 << 20  # characters; objects in memory are some 20 times as large
_FRACTION = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40}|/0*[1-9][0-9]{0,39})?")

if TYPE_CHECKING:
    LocalPath = str
else:

    class LocalPath(str):
        """Type of a field that says where a file lies: a local path, or a URL until it is staged."""


def parse_json(text: str | bytes) -> Any:
    """Returns the plain JSON types in ``text``, whose whole numbers must fit into 64 bits.

    Raises:
        ValueError: if it is not JSON, is nested too deeply, or has more than 64 MiB.
    """
    if len(text) > _MAX_JSON:
        raise ValueError(f"expected JSON of at most {_MAX_JSON} characters, got {len(text)}")
    try:
        return json.loads(text, parse_int=_parse_int)
    except RecursionError as error:
        raise ValueError("expected JSON, got too many brackets within brackets") from error


def _parse_int(digits: str) -> int:
    number = int(digits) if len(digits) <= _MAX_DIGITS else None
    if number is None or not -(2**63) <= number < 2**63:
        raise ValueError(f"expected a number of at most 64 bits, got {digits:.30}")
    return number


def to_json(value: Any) -> Any:
    """Returns ``value`` as plain JSON types: a dict for a dataclass, text for a fraction. Tuples stay tuples.

    Raises:
        TypeError: for a value that JSON has no type for.
    """
    return msgspec.to_builtins(value, enc_hook=_encode)


def from_json(
    cls: type[T], fields: Any, *, error: type[Exception] = ValueError, strict: bool = False
) -> T:
    """Returns the ``cls`` that `to_json` gave ``fields`` for; the inverse of `to_json`.

    A whole number passes for a ``float``, a ``bool`` for neither ``int`` nor ``float``.

    Args:
        cls: a dataclass, or a generic type of them such as ``list[Clip]``.
        fields: plain JSON types.
        error: raised when they do not fit; its message begins with the name of the field.
        strict: refuse fields that ``cls`` does not have, at any depth, which are ignored otherwise.

    Raises:
        error: for a field that is missing or has another type, or a value that ``cls`` itself refuses.
    """
    try:
        value = msgspec.convert(fields, cls, dec_hook=_decode, str_keys=True)
    # msgspec cannot quote text with surrogate escapes: it raises UnicodeEncodeError in place of its message.
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as reason:
        raise error(_describe_error(reason)) from reason
    unknown = list(_complete(value, fields))
    if strict and unknown:
        raise error(f"{unknown[0]:.300}: unknown field")
    return value


def has_type(value: Any, hint: Any) -> bool:
    """Returns True if ``value`` has the type, not only one that converts to it, as a list does to a tuple."""
    misfits = (msgspec.ValidationError, UnicodeEncodeError, TypeError)
    with contextlib.suppress(*misfits):
        if [msgspec.convert(value, hint, dec_hook=_decode)] == [value]:
            return True
    with contextlib.suppress(*misfits):  # dataclasses, and NumPy's float64
        return [msgspec.convert(to_json(value), hint, dec_hook=_decode)] == [value]
    return False


def check_fields(instance: Any, error: type[Exception]) -> None:
    """Checks in ``__post_init__`` that each field has the annotated type; raises ``error`` for the first."""
    for name, hint in _hints(type(instance)).items():  # type: ignore[arg-type]
        value = getattr(instance, name)
        if not has_type(value, hint):
            cls = type(instance).__name__
            raise error(f"{cls}'s {name} must be {_describe_type(hint)}, got {value!r:.200}")


def map_paths(value: T, change: Callable[[str], str]) -> T:
    """Returns a dataclass with ``change`` applied to its `LocalPath` fields, at any depth."""

    def decode(cls: type, written: Any) -> Any:
        return LocalPath(change(written)) if cls is LocalPath else _decode(cls, written)

    return msgspec.convert(to_json(value), type(value), dec_hook=decode)


def paths_in(value: Any) -> list[str]:
    """Returns the distinct `LocalPath` fields of a dataclass, at any depth."""
    found: dict[str, str] = {}
    map_paths(value, lambda path: found.setdefault(path, path))
    return list(found)


def without_paths(value: Any) -> Any:
    """Returns what `to_json` gives for a dataclass, without its `LocalPath` fields."""
    mark = "\0path"  # which no text holds

    def clean(fields: Any) -> Any:
        if isinstance(fields, dict):
            return {name: clean(own) for name, own in fields.items() if own != mark}
        return type(fields)(map(clean, fields)) if isinstance(fields, (list, tuple)) else fields

    return clean(to_json(map_paths(value, lambda _: mark)))


def _encode(value: Any) -> Any:
    if isinstance(value, Fraction | LocalPath):
        return str(value)
    if isinstance(value, float):  # NumPy's float64
        return float(value)
    raise TypeError(
        f"expected a value that JSON can hold, got {value!r:.100} of type {type(value).__name__}"
    )


def _decode(cls: type, value: Any) -> Any:
    if isinstance(value, cls):
        return value
    if cls is LocalPath and isinstance(value, str):
        return LocalPath(value)
    if cls is not Fraction or not isinstance(value, str):
        raise TypeError(f"expected {cls.__name__}, got {type(value).__name__}")
    # Python would compute all digits of 1e400000000.
    if not _FRACTION.fullmatch(value):
        raise ValueError(f"expected a fraction, got {value!r:.100}")
    return Fraction(value)


def _complete(value: Any, fields: Any, place: str = "") -> Iterator[str]:
    """Sets what msgspec left to the defaults of classes, which `to_json` would leave out.

    Yields the places in ``fields``, of which ``value`` was made, that no class has.
    """
    items: Iterable[tuple[object, Any, Any]] = ()
    if isinstance(value, (list, tuple)):
        items = zip(itertools.count(), value, fields, strict=False)
    elif isinstance(value, dict):
        items = zip(fields, value.values(), fields.values(), strict=True)
    elif dataclasses.is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if hasattr(value, "__dict__"):
            vars(value).update(own)
        yield from (f"{place}{name}" for name in fields if name not in own)
        items = [(name, own[name], fields[name]) for name in own if name in fields]
    for name, item, written in items:
        if type(item) not in _PLAIN:
            yield from _complete(item, written, f"{place}{name}.")


def _describe_error(reason: Exception) -> str:
    if isinstance(reason, UnicodeEncodeError):
        return f"unexpected text {reason.object!r:.200}"
    text, _, place = str(reason).partition(" - at `$")
    text, place = text.replace("`", ""), place.rstrip("`").lstrip(".")
    return f"{place:.300}: {text[:1].lower()}{text[1:300]}" if place else text[:300]


def _describe_type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        *first, last = map(repr, typing.get_args(hint))
        return f"{', '.join(first)} or {last}" if first else last
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
