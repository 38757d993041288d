"""Writes the notebooks in this folder, each from the tutorial of the same name in docs/.

    python examples/notebooks.py

A tutorial is Markdown, as Jupytext reads it: its Python blocks become cells, and a block's ``tags`` those of
its cell. A test compares the notebooks with the pages, and runs them.
"""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat

EXAMPLES = Path(__file__).parent
DOCS = EXAMPLES.parent / "docs"
TUTORIALS = ("moving_line", "echo", "shapes", "transfer_learning", "competition")


def make_notebook(page: Path) -> nbformat.NotebookNode:
    """Returns the notebook of a page, without outputs."""
    text = re.sub(r"\]\(([\w-]+\.md)", r"](../docs/\1", page.read_text(encoding="utf-8"))
    notebook = jupytext.reads(text, fmt="md")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return notebook


if __name__ == "__main__":
    for name in TUTORIALS:
        nbformat.write(make_notebook(DOCS / f"{name}.md"), EXAMPLES / f"{name}.ipynb")
