"""Finds the columns of a manifest by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from pipelines.errors import UserError


class Column(NamedTuple):
    """A column: its place, its name as written, and the unit of its numbers: s, ms, frame."""

    place: int
    name: str
    unit: str


_WORDS = {
    "path": "path file filename file_name filepath file_path video video_path video_file video_filename "
    "video_name clip clip_path clip_name",
    "label": "label labels label_name class classes class_name category category_name action activity",
    "start": "start begin time_start t_start",
    "end": "end stop time_end t_end",
    "duration": "duration",
    "split": "split subset set partition",
    "group": "group group_id",
}
_UNITS = {
    "s": "time timestamp s sec seconds",
    "ms": "ms msec milliseconds",
    "frame": "frame frames",
}
_ROLES = {word: (role, "s") for role, words in _WORDS.items() for word in words.split()}
_ROLES |= {
    f"{stem}_{suffix}": (_ROLES[stem][0], unit)
    for stem in ("start", "begin", "end", "stop", "duration")
    for unit, suffixes in _UNITS.items()
    for suffix in suffixes.split()
}
_ROLES |= {"first_frame": ("start", "frame"), "last_frame": ("end", "last frame")}


def has_path(columns: Iterable[str]) -> bool:
    """Returns True if one of ``columns`` may hold paths."""
    return any(_role(name)[0] == "path" for name in columns)


def find_columns(
    place: str, columns: Sequence[str], roles: Collection[str], others: Collection[str]
) -> dict[str, Column]:
    """Returns the columns for those of ``roles`` that the manifest has; ``others`` have another use.

    A column that is named like its role is taken before all others.
    """
    found: dict[str, Column] = {}
    for role in roles:
        likely = [
            Column(number, name, _role(name)[1])
            for number, name in enumerate(columns)
            if _role(name)[0] == role and (name == role or name not in others)
        ]
        likely = [column for column in likely if column.name == role] or likely
        if len(likely) > 1:
            names = " and ".join(repr(column.name) for column in likely)
            raise UserError(
                f"{place}: expected one column for the {role}, but {names} could each be it. "
                f"Rename the right one to {role!r}"
            )
        if likely:
            found[role] = likely[0]
    for name in columns:
        role = _role(_plain(name).partition("_")[0])[0]
        if role in ("start", "end") and role in roles and role not in found and name not in others:
            raise UserError(
                f"{place}: the column {name!r} may hold the {role} of clips, in an unknown unit. "
                f"Rename it to {role!r} if it holds seconds or hh:mm:ss, or else to another word"
            )
    return found


def _role(name: str) -> tuple[str, str]:
    return _ROLES.get(_plain(name), ("", ""))


def _plain(name: str) -> str:
    return re.sub(r"[\s.-]+", "_", name.strip().lower())
