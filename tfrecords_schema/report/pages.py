"""Renders HTML pages and Markdown from Jinja2 templates. Text is escaped: anyone may have named the footage.

A page is one file that opens offline: it loads and runs nothing, as its content security policy demands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

EMPTY_CELL = "-"
"""Text of a table cell that has no value."""


@dataclass(frozen=True)
class Cell:
    """A table cell with more than text.

    Attributes:
        text: shown in the cell.
        style: CSS class of the cell; empty for none.
        bar: length of a bar before the text, 0 to 1; None for no bar.
        heat: strength of the background colour, 0 to 1; None for no background.
    """

    text: str
    style: str = ""
    bar: float | None = None
    heat: float | None = None


Row = Sequence[str | Cell]
"""The cells of a table's row; the first is text and names the row."""


class Table(NamedTuple):
    """A table of a page: its caption, the names of its columns, and its rows."""

    caption: str
    heading: Sequence[str]
    rows: Sequence[Row]


def render_page(package: str, template: str, **values: Any) -> str:
    """Renders a template of ``package``, which may extend ``base.html`` and import ``macros.html``.

    Each of ``values`` passes through `printable` and HTML escaping when it is output; a missing one raises
    `jinja2.UndefinedError`: ``render_page("trainer.report", "page.html", title="drives: evaluation")``.
    Templates of Markdown, ``.md``, pass names through the filter ``code`` instead.
    """
    import jinja2  # takes a tenth of a second that runs without a report need not spend

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(name, "") for name in (package, "tfrecords_schema.report")]
        ),
        autoescape=jinja2.select_autoescape(),  # not in Markdown
        # Markup that templates made themselves has been escaped.
        finalize=lambda value: value if hasattr(value, "__html__") else printable(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plural=plural, number=format_number, code=_as_code)
    return environment.get_template(template).render(values) + "\n"


def printable(text: str) -> str:
    """Returns ``text`` with control characters and changes of the direction of text escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _as_code(text: str) -> str:
    """Returns ``text`` as code in Markdown, where nothing but the end of the code has a meaning."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def plural(count: int, noun: str) -> str:
    """Returns ``1 record``, ``2,000 records`` or ``2 classes``."""
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def describe_rows(count: int, shown: int, noun: str) -> str:
    """Returns ``(3 classes)``, or ``(60 sources, 50 shown)`` if a table does not show all."""
    return f"({plural(count, noun)}{'' if shown == count else f', {shown} shown'})"


def format_number(value: float, unit: str = "") -> str:
    """Returns ``0.6132 m/s``, or ``not a number`` for NaN."""
    return "not a number" if math.isnan(value) else f"{value:.4g} {unit}".rstrip()


def format_percentage(fraction: float) -> str:
    """Returns ``61 %``, or a dash for NaN: a fraction of nothing."""
    return EMPTY_CELL if math.isnan(fraction) else f"{100 * fraction:.3g} %"


def format_duration(seconds: float) -> str:
    """Returns ``1 h 5 min``, ``3 min 2 s`` or ``1.5 s``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
