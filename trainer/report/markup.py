"""HTML in small pieces. Whatever comes from data passes `escape`, which every function here does itself."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

NOTHING = "-"
"""What stands in a cell that has nothing to say."""


def escape(text: str) -> str:
    """``text`` for HTML; what cannot be shown, and what would turn the direction of text, as escapes."""
    return html.escape(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    )


def section(name: str, title: str, body: str, *, level: int = 2) -> str:
    """A part of the page with a heading; ``body`` is HTML."""
    return (
        f'<section aria-labelledby="{escape(name)}">\n'
        f'<h{level} id="{escape(name)}">{escape(title)}</h{level}>\n{body}\n</section>'
    )


def table(caption: str, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls when it is wide; its rows hold HTML of `cell`, `name_cell` and the like."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heading)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n"
        "</tbody></table></div>"
    )


def cell(text: str, *, style: str = "") -> str:
    """A cell of text; ``style`` is the name of a class."""
    return f'<td class="{style}">{escape(text)}</td>' if style else f"<td>{escape(text)}</td>"


def name_cell(text: str) -> str:
    """The cell that names its row."""
    return f'<th scope="row">{escape(text)}</th>'


def bar_cell(value: float, most: float, text: str) -> str:
    """A cell with a bar as long as ``value`` is of ``most``, and ``text`` behind it."""
    share = value / most if most > 0 and math.isfinite(value) else 0.0
    # Room is left for the number behind it.
    return (
        f'<td class="chart"><span class="bar" style="width:calc((100% - 5.5rem) * {share:.4f})"></span> '
        f"{escape(text)}</td>"
    )


def number(value: float, unit: str = "") -> str:
    """``0.6132 m/s``; what is not a number is said."""
    if math.isnan(value):
        return "not a number"
    return f"{value:.4g} {unit}".rstrip()


def share(value: float) -> str:
    """``61 %``; a dash for a share of nothing."""
    return NOTHING if math.isnan(value) else f"{100 * value:.3g} %"


def figure(picture: str, caption: str, detail: str = "") -> str:
    """``picture``, HTML, above what it is."""
    return (
        f"<figure>{picture}<figcaption><strong>{escape(caption)}</strong> "
        f"<small>{escape(detail)}</small></figcaption></figure>"
    )


def plural(count: int, what: str) -> str:
    """``1 record``, ``2 records``; ``2 classes``."""
    return f"1 {what}" if count == 1 else f"{count:,} {what}{'es' if what.endswith('s') else 's'}"
