"""The notebooks are those of the tutorials, and each runs from beginning to end and learns."""

import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
notebooks = runpy.run_path(str(EXAMPLES / "notebooks.py"))
# By tutorial: its parameters here (no network, and less time), and what holds at its end.
TUTORIALS = {
    "moving_line": ("", "accuracy.model > 0.9"),
    "echo": ("", "min(one_to_one, many_to_one, many_to_many) > 0.95"),
    "shapes": ("", "len(history.history['loss']) == 2"),
    "transfer_learning": ("weights, epochs = 'none', 1", "0 <= accuracy.model <= 1"),
    "competition": ("epochs = 6", "len(answers) == len(truth) and error < 0.6 * baseline"),
}


def make(name):
    return notebooks["make_notebook"](EXAMPLES.parent / "docs" / f"{name}.md")


@pytest.mark.parametrize("name", TUTORIALS)
def test_notebook_is_that_of_its_page(name):
    assert tuple(TUTORIALS) == notebooks["TUTORIALS"]
    stored = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert stored == make(name), "renew it: python examples/notebooks.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_notebook_runs_and_each_cell_twice(name, tmp_path):
    notebook = make(name)
    parameters, holds = TUTORIALS[name]
    found = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    assert len(found) == bool(parameters)
    for cell in found:
        cell.source = parameters
    cells = [c for c in notebook.cells if "install" not in c.metadata.get("tags", ())]
    # A reader runs a cell again; what it has made is in the folder then.
    notebook.cells = [
        nbformat.v4.new_code_cell(c.source)
        for c in cells
        if c.cell_type == "code"
        for _ in range(2)
    ]
    notebook.cells.append(nbformat.v4.new_code_cell(f"assert {holds}"))
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=place).execute()
