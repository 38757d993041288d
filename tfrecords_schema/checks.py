"""Checks that a dataclass holds what its annotations promise, since JSON promises nothing."""

from __future__ import annotations

import functools
import types
import typing
from typing import Any


def check_types(instance: Any, error: type[Exception]) -> None:
    """Checks every field of the dataclass ``instance`` against its annotation.

    Understands plain types, ``X | None``, ``tuple[X, ...]``, ``dict[str, X]``, and nestings of them; an
    ``int`` passes for a ``float``, a ``bool`` for neither. The choices of a ``Literal`` are left to the
    class.

    Raises:
        error: naming the first field that holds something else.
    """
    for name, hint in _hints(instance.__class__).items():
        value = getattr(instance, name)
        if not _fits(value, hint):
            raise error(
                f"{type(instance).__name__}'s {name} must be {_describe(hint)}, got {value!r:.200}"
            )


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or origin is typing.Literal:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, arm) for arm in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if hint is float else hint)


def _describe(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
