"""Progress bars, which move on a terminal or in a notebook; in a log they are a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import auto, std

_LINE_SECONDS = 30
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} elapsed, {remaining} left{postfix}"


def progress_bar(items: Iterable[Any] | None = None, **settings: Any) -> auto.tqdm[Any]:
    """Returns tqdm's bar over ``items``, or one that `update` moves, with its ``settings``.

    If standard error is neither a terminal nor in a notebook, a line says every 30 seconds how far it is.
    Work that takes less time prints none.
    """
    if not sys.stderr.isatty() and auto.notebook_tqdm is std.tqdm:  # type: ignore[attr-defined]
        interval = dict.fromkeys(("mininterval", "maxinterval", "delay"), _LINE_SECONDS)
        settings |= {**interval, "miniters": 0, "bar_format": _LINE, "file": _Lines(sys.stderr)}
    return auto.tqdm(items, **{"file": sys.stderr, **settings})


class _Lines:
    """A stream on which the states of a bar, which would overwrite each other, become lines."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()
