"""Natural order of names: numbers in them compare by value, so that ``2`` comes before ``10``."""

from __future__ import annotations

import re
from decimal import Decimal

# Texts and numbers in turn, starting with a text. A number is stored as its length and its digits without
# leading zeros, which compare like numbers, however long they are.
Natural = tuple["str | tuple[int, str]", ...]

_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,300})?")


def natural_parts(text: str) -> Natural:
    """Returns the texts and numbers of ``text`` in turn; equal for texts that differ in leading zeros."""
    parts: list[str | tuple[int, str]] = []
    for index, part in enumerate(re.split("([0-9]+)", text)):
        digits = part.lstrip("0")
        parts.append((len(digits), digits) if index % 2 else part)
    return tuple(parts)


def natural_key(name: str) -> tuple[bool, Decimal, Natural, str]:
    """Returns a sort key: names that are numbers first, by value, then the others in natural order.

    Example: ``sorted(names, key=natural_key)`` gives ``-1, 0.5, 2, 10, clip2, clip10``.
    """
    is_number = _NUMBER.fullmatch(name) is not None
    return not is_number, Decimal(name if is_number else 0), natural_parts(name), name
