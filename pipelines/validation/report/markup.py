"""Pieces of HTML. Whatever comes from a dataset passes `escape`."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

from pipelines.validation.outcome import printable

_LONGEST = 2000


def escape(text: str) -> str:
    """``text`` for HTML; what cannot be shown, and what would turn the direction of text, as escapes."""
    return html.escape(printable(text))


def section(name: str, title: str, body: str) -> str:
    """A part of the page under a heading."""
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(title)}</h2>\n{body}\n</section>'


def fold(title: str, body: str) -> str:
    """What is shown when its title is opened."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values."""
    items = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in pairs
    )
    return f"<dl>{items}</dl>" if items else ""


def table(name: str, heading: str, rows: str) -> str:
    """A table that may be scrolled on narrow screens."""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}"><table><thead>'
        f"<tr>{heading}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def row(tag: str, cells: Iterable[str]) -> str:
    """Cells of a table, ``th`` or ``td``."""
    tag_and_scope = 'th scope="col"' if tag == "th" else tag
    return "".join(f"<{tag_and_scope}>{escape(cell)}</{tag}>" for cell in cells)


def plain(value: Any) -> str:
    """An option as text, cut when it is very long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def duration(seconds: float) -> str:
    """``1 h 5 min``, ``3 min 2 s`` or ``1.5 s``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
