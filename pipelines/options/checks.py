"""How options check what they are given: a `UsageError` says what was expected and what came."""

from __future__ import annotations

from typing import Any, get_args

from pipelines.errors import UsageError


def check(holds: bool, expected: str, received: object) -> None:
    """Raises `UsageError` unless something holds."""
    if not holds:
        raise UsageError(f"{expected}, got {received}")


def check_choice(flag: str, value: str, choices: Any) -> None:
    """Checks that ``value`` is one of a `Literal`'s."""
    check(
        value in get_args(choices), f"{flag} must be one of {', '.join(get_args(choices))}", value
    )


def check_names(flag: str, names: tuple[str, ...]) -> None:
    """Checks that names are not empty, and distinct."""
    text = ",".join(names)
    check(all(names), f"{flag} must be names, separated by commas", f"an empty one in {text!r}")
    check(len(set(names)) == len(names), f"{flag} must be distinct", text)
