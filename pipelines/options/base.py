"""The base class of this package's options."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from pipelines.errors import UsageError
from tfrecords_schema.options import Options, option


def names(help: str, *, metavar: str = "COLUMN") -> Any:
    """Declares an option that holds distinct names, none by default."""
    help = f"{help}, separated by commas or spaces"
    return option((), help, distinct=True, metavar=metavar)


def has_pattern(*columns: Iterable[str]) -> bool:
    """Returns True if one of the ``columns`` stands for all that it matches, such as ``x*``."""
    return any("*" in column for names in columns for column in names)


class PipelineOptions(Options):
    """Options whose wrong values are `UsageError`s."""

    error = UsageError

    def compile_pattern(self, flag: str) -> re.Pattern[str]:
        """Returns the regular expression that the option ``flag`` holds, or raises UsageError."""
        text = getattr(self, flag)
        try:
            return re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise UsageError(
                f"--{flag} must be a regular expression, got {text!r}: {error}"
            ) from error


def region_numbers(text: str) -> list[float]:
    """Returns the four numbers of ``"x0,y0,x1,y1"``: fractions of a picture, or whole pixels.

    Raises:
        ValueError: if they are neither.
    """
    numbers = [float(number) for number in text.split(",")]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(text)
    if max(numbers) > 1 and any(number % 1 for number in numbers):
        raise ValueError(text)
    return numbers


def parse_splits(text: str) -> tuple[tuple[str, float], ...]:
    """Returns the fractions by split name in ``"train=0.8,validation=0.2"``."""
    parts = [part.partition("=") for part in text.split(",")]
    return tuple((name.strip(), float(fraction)) for name, _, fraction in parts)


def parse_offsets(text: str) -> tuple[tuple[str, float], ...]:
    """Returns the offsets by target in ``"time=1.7e9,lat=52.1"``; a name may hold ``=``."""
    parts = [part.rpartition("=") for part in text.split(",")]
    return tuple((name.strip(), float(offset)) for name, _, offset in parts)
