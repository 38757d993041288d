"""Options that check themselves: what a field must be, and what a wrong one is told.

Each option is a field of a frozen dataclass and a flag of the same name; its help is in its metadata.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from trainer.errors import TrainerError


class ConfigError(TrainerError):
    """An option outside what it may be."""


def option(
    default: Any, help: str, *, of_images: bool = False, also: str = "", metavar: str = ""
) -> Any:
    """A field that is also a flag.

    Args:
        default: of both.
        help: what the flag's help says.
        of_images: it is about frames, and idle where records hold none.
        also: another name of the flag.
        metavar: what the help shows for a value, where its type does not say.
    """
    metadata = {"help": help, "of_images": of_images, "also": also, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def options_of(config: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass, or of its instance, that are flags."""
    return [field for field in dataclasses.fields(config) if "help" in field.metadata]


def shown(value: Any) -> str:
    """The value of an option as it is typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def typed(config: Any, names: Sequence[str]) -> str:
    """Options as they are typed: ``--filters 8,16, --batch_norm on``."""
    return ", ".join(f"--{name} {shown(getattr(config, name))}" for name in names)


def check_whole(config: Any, name: str, *, least: int, bits: int = 31) -> None:
    """Checks for an integer of at least ``least`` and below ``2**bits``."""
    value = getattr(config, name)
    if not _is_whole(value, least):
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if value >= 2**bits:
        raise ConfigError(f"{name} must be below 2**{bits}, got {value}")


def check_sizes(config: Any, name: str, *, empty: bool) -> None:
    """Checks for positive integers below ``2**31``; for none at all only where ``empty``."""
    values = getattr(config, name)
    if (not values and not empty) or not all(
        _is_whole(value, 1) and value < 2**31 for value in values
    ):
        example = "16,32,64, or 0 for none" if empty else "16,32,64"
        got = ",".join(map(str, values)) or "none"
        raise ConfigError(
            f"{name} must be positive whole numbers below 2**31, as in {example}; got {got}"
        )


def check_choice(config: Any, name: str, choices: Sequence[str]) -> None:
    """Checks for one of ``choices``."""
    value = getattr(config, name)
    if value not in choices:
        expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise ConfigError(f"{name} must be {expected}, got {value!r}")


def check_share(config: Any, name: str) -> None:
    """Checks for a number of at least 0 and below 1."""
    value = getattr(config, name)
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must be at least 0 and below 1, got {value}")


def check_positive(config: Any, name: str, usual: str) -> None:
    """Checks for a finite number above 0."""
    value = getattr(config, name)
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be above 0, and is mostly {usual}; got {value}")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
