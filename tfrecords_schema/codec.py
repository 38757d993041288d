"""Converts frozen dataclasses to plain JSON types and back, by their annotations.

Example::

    @dataclass(frozen=True)
    class Clip:
        path: LocalPath
        frame_rate: Fraction
        labels: tuple[str, ...] = ()

    fields = to_json(Clip("a.mp4", Fraction(30000, 1001)))
    # {"path": "a.mp4", "frame_rate": "30000/1001", "labels": ()}
    from_json(Clip, fields)  # the equal clip
    from_json(Clip, {"path": 5})  # ValueError: path: expected str, got int

Text may hold surrogate escapes (`os.fsdecode`), numbers may be infinite or NaN; `json.dumps` keeps both.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Annotated, Any, TypeVar

import msgspec

T = TypeVar("T")

_PLAIN = frozenset({str, int, float, bool, type(None)})

LocalPath = Annotated[str, "path"]
"""Type of a field that says where a file or folder lies: a local path, or a URL until it is staged."""


def to_json(value: Any) -> Any:
    """Returns ``value`` as plain JSON types: a dict for a dataclass, text for a fraction.

    Tuples stay tuples, which `json.dumps` writes as lists.

    Raises:
        TypeError: for a value that JSON has no type for.
    """
    return msgspec.to_builtins(value, enc_hook=_encode)


def from_json(
    cls: type[T], fields: Any, *, error: type[Exception] = ValueError, strict: bool = False
) -> T:
    """Returns the ``cls`` that `to_json` gave ``fields`` for; the inverse of `to_json`.

    Types are checked against the annotations. A whole number passes for a ``float``, a ``bool`` for neither
    ``int`` nor ``float``.

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
    _set_defaults(value)
    if strict and (unknown := next(_unknown_fields(fields, to_json(value)), None)):
        raise error(f"{unknown}: unknown field")
    return value


def check_fields(instance: Any, error: type[Exception]) -> None:
    """Checks each field of a dataclass against its annotation; call it from ``__post_init__``.

    Raises:
        error: naming the first field that holds something else.
    """
    for name, hint in _hints(type(instance)).items():  # type: ignore[arg-type]
        value = getattr(instance, name)
        try:
            fits = _fits(value, hint) or _fits(to_json(value), hint)  # such as NumPy's float64
        except TypeError:
            fits = False
        if not fits:
            cls = type(instance).__name__
            raise error(f"{cls}'s {name} must be {_describe_type(hint)}, got {value!r:.200}")


def paths_in(value: Any) -> Iterator[str]:
    """Yields the `LocalPath` fields of a dataclass, also those of dataclasses inside it."""
    if isinstance(value, tuple):
        for item in value:
            yield from paths_in(item)
    elif dataclasses.is_dataclass(value):
        paths, nested = _path_fields(type(value))  # type: ignore[arg-type]
        yield from (path for name in paths if (path := getattr(value, name)) is not None)
        for name in nested:
            yield from paths_in(getattr(value, name))


def map_paths(value: T, change: Callable[[str], str]) -> T:
    """Returns a dataclass with ``change`` applied to each of its `paths_in`."""
    if isinstance(value, tuple):
        return typing.cast(T, tuple(map_paths(item, change) for item in value))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    paths, nested = _path_fields(type(value))
    own = {name: getattr(value, name) for name in paths}
    changes: dict[str, Any] = {n: change(path) for n, path in own.items() if path is not None}
    changes |= {name: map_paths(getattr(value, name), change) for name in nested}
    return dataclasses.replace(value, **changes) if changes else value


def drop_paths(cls: type, fields: dict[str, Any]) -> None:
    """Deletes the `LocalPath` fields from what `to_json` gave for an instance of ``cls``, in place."""
    paths, nested = _path_fields(cls)
    for name in paths:
        del fields[name]
    for name, inner in nested.items():
        value = fields[name]
        for item in value if isinstance(value, (list, tuple)) else [value] if value else []:
            drop_paths(inner, item)


def _fits(value: Any, hint: Any) -> bool:
    """Returns True if ``value`` has the type, not only one that converts to it, as a list does to a tuple."""
    try:
        return [msgspec.convert(value, hint, dec_hook=_decode)] == [value]
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False


def _encode(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, float):  # NumPy's float64
        return float(value)
    raise TypeError(
        f"expected a value that JSON can hold, got {value!r:.100} of type {type(value).__name__}"
    )


def _decode(cls: type, value: Any) -> Any:
    if isinstance(value, cls):
        return value
    if cls is not Fraction or not isinstance(value, str):
        raise TypeError(f"expected {cls.__name__}, got {type(value).__name__}")
    try:
        return Fraction(value)
    except ZeroDivisionError as error:
        raise ValueError(f"expected a fraction, got {value!r}") from error


def _set_defaults(value: Any) -> None:
    """Sets the fields that msgspec left to the defaults of their class, as `to_json` would leave them out."""
    items: Iterable[Any] = ()
    if isinstance(value, (list, tuple)):
        items = value
    elif isinstance(value, dict):
        items = value.values()
    elif names := _field_names(type(value)):  # type: ignore[arg-type]
        items = [getattr(value, name) for name in names]
        if hasattr(value, "__dict__"):
            vars(value).update(zip(names, items, strict=True))
    for item in items:
        if type(item) not in _PLAIN:
            _set_defaults(item)


def _describe_error(reason: Exception) -> str:
    if isinstance(reason, UnicodeEncodeError):
        return f"unexpected text {reason.object!r:.200}"
    text, _, place = str(reason).partition(" - at `$")
    text, place = text.replace("`", ""), place.rstrip("`").lstrip(".")
    return f"{place}: {text[:1].lower()}{text[1:]}" if place else text


def _unknown_fields(fields: Any, known: Any, place: str = "") -> Iterator[str]:
    if isinstance(fields, dict):
        for key, value in fields.items():
            if key not in known:
                yield f"{place}{key}"
            else:
                yield from _unknown_fields(value, known[key], f"{place}{key}.")
    elif isinstance(fields, list | tuple):
        for index, (own, other) in enumerate(zip(fields, known, strict=True)):
            yield from _unknown_fields(own, other, f"{place}{index}.")


@functools.cache
def _field_names(cls: type) -> tuple[str, ...]:
    """Returns the names of a dataclass's fields; none for another type."""
    is_dataclass = dataclasses.is_dataclass(cls)
    return tuple(field.name for field in dataclasses.fields(cls)) if is_dataclass else ()


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _path_fields(cls: type) -> tuple[tuple[str, ...], dict[str, type]]:
    """Returns the fields that are paths, and those that hold dataclasses with paths, with their types."""
    paths, nested = [], {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        for part in _parts(hint):
            if part == LocalPath:
                paths.append(name)
            elif dataclasses.is_dataclass(part) and any(_path_fields(part)):  # type: ignore[arg-type]
                nested[name] = part
    return tuple(paths), nested  # type: ignore[return-value]


def _parts(hint: Any) -> Iterator[Any]:
    """Yields the types that an optional type, a union or a tuple consists of."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple):
        for part in typing.get_args(hint):
            yield from _parts(part)
    else:
        yield hint


def _describe_type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        *first, last = map(repr, typing.get_args(hint))
        return f"{', '.join(first)} or {last}" if first else last
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
