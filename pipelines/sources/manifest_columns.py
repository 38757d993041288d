"""Finds the columns of a manifest by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pipelines.labels.cells import TelemetryError
from pipelines.labels.table import list_names

_UNIT = "(?:time(?:stamp)?|s|secs?|seconds?|ms|msec|milliseconds?|frames?)?"
# Names without case and separators: "Start Time" and "startTime" are "starttime".
_NAMES = {
    "path": "path|(?:file|video|clip)(?:file)?(?:name|path)?",
    "label": "labels?|labelname|class(?:es|name)?|category(?:name)?|action|activity",
    "start": f"(?:time|t)?(?:start|begin){_UNIT}|firstframe",
    "end": f"(?:time|t)?(?:end|stop){_UNIT}|lastframe",
    "duration": f"duration{_UNIT}",
    "split": "split|subset|set|partition",
    "group": "group(?:id)?",
}
# Of a name with another unit. A column such as "stop_sign" has no time.
_OTHER_UNIT = {"start": re.compile(r"(?:start|begin)[\W_]"), "end": re.compile(r"end[\W_]")}


class Column(NamedTuple):
    """A column: its name as written, and the unit of its numbers: s, ms, frame or last frame."""

    name: str
    unit: str


def find_columns(
    place: str, names: Sequence[str], roles: Collection[str], others: Collection[str]
) -> dict[str, Column]:
    """Returns the columns for those of ``roles`` that the manifest has; ``others`` have another use.

    A column that is named like its role is taken before all others.
    """
    found: dict[str, Column] = {}
    for role in roles:
        free = [name for name in names if name not in others and name not in roles]
        likely = [n for n in free if re.fullmatch(_NAMES[role], _plain(n))]
        likely = [role] if role in names else likely
        if len(likely) > 1:
            raise TelemetryError(
                f"{place}: expected one column for the {role}, but {' and '.join(map(repr, likely))} could "
                f"each be it. Rename the right one to {role!r}"
            )
        if likely:
            found[role] = Column(likely[0], _unit(_plain(likely[0])))
        elif odd := [n for n in free if role in _OTHER_UNIT and _OTHER_UNIT[role].match(n.lower())]:
            raise TelemetryError(
                f"{place}: the column {odd[0]!r} may hold the {role} of clips, in an unknown unit. Rename it "
                f"to {role!r} if it holds seconds or hh:mm:ss, or else to another word"
            )
    if "path" not in found:
        raise TelemetryError(
            f"{place}: expected columns with names, one of them 'path', got {list_names(names)}"
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _unit(plain: str) -> str:
    if "frame" in plain:
        return "last frame" if plain == "lastframe" else "frame"
    return "ms" if plain.endswith(("ms", "msec", "millisecond", "milliseconds")) else "s"
