"""Finds classes whose names say that they change in a mirror: ``turn_left``, ``Turning Hand Clockwise``."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OTHER = {"left": "right", "clockwise": "counterclockwise", "cw": "ccw", "l": "r", "lh": "rh"}
_OTHER |= {second: first for first, second in _OTHER.items()}

_JOINTS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|[\W_]+")
_COUNTER = re.compile(r"(?:counter|anti|contra)_?clockwise")
# Whole words first: "bright_left" belongs to "bright_right".
_PATTERNS = (
    re.compile(rf"(?<![^_])(?:{'|'.join(_OTHER)})(?![^_])"),
    re.compile("left|right|counterclockwise|clockwise"),
)
# A letter has other meanings too if no class is its opposite.
_CLEAR = re.compile(r"(?<![^_])(?:(?:left|right)(?!over|eous|ful)|c?cw(?![^_]))|clockwise")


def find_mirrored(names: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Returns the pairs of classes that a flip seems to exchange, and the classes that lack such a partner.

    Case and separators do not matter: ``["Turn_Left", "turn right", "wave", "LookLeft"]`` gives
    ``[("Turn_Left", "turn right")]`` and ``["LookLeft"]``.
    """
    texts = [_COUNTER.sub("counterclockwise", _JOINTS.sub("_", name).casefold()) for name in names]
    name_of = dict(zip(texts, names, strict=True))
    pairs: dict[str, str] = {}
    alone: list[str] = []
    for text, name in zip(texts, names, strict=True):
        mirrored = (pattern.sub(lambda found: _OTHER[found[0]], text) for pattern in _PATTERNS)
        other = name_of.get(next((own for own in mirrored if own != text), ""))
        if name in pairs.values():
            continue
        if other is not None and other not in pairs.values():
            pairs[name] = other
        elif other is not None or _CLEAR.search(text):
            alone.append(name)
    return list(pairs.items()), alone
