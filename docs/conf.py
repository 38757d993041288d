"""The site of the documentation, which `make docs` builds: these pages, and a reference from the code."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module, metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipelines.cli import PROGRAM as PIPELINES
from pipelines.validation.checks.catalogue import ALL_CHECKS
from tfrecords_schema.command_line import Parser, Program
from tfrecords_schema.options import REQUIRED, all_options
from trainer.config.flags import PROGRAM as TRAINER

project, author = "Reelbeam", "the Reelbeam authors"
release = metadata.version("reelbeam")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
smartquotes = False  # `--flag` stays as it is typed
exclude_patterns = ["_site"]
html_theme = "alabaster"
html_theme_options = {"description": "Videos to records, and a CNN-LSTM trained on them"}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_use_rtype = False

PACKAGES = ("tfrecords_schema", "trainer", "pipelines.verbs")
REFERENCE = Path(__file__).parent / "reference"


def flags(program: Program) -> str:
    """Returns the page of a program's flags."""
    parts = [f"# Flags of `{program.name}`"]
    for make in program.parsers.values():
        parser = make()
        parts += [f"## `{parser.prog}`", f"{parser.description}\n", f"    {parser.example}\n"]
        parts += _flag_lists(parser)
    return "\n\n".join(parts) + "\n"


def _flag_lists(parser: Parser) -> list[str]:
    lists: dict[str, list[str]] = {}
    for title, item in all_options(parser.options):
        if item.has_flag:
            needed = " Required." if item.default is REQUIRED else ""
            line = f"- `--{item.flag}`: {_plain(item.help)}{needed}"
            lists.setdefault(title, []).append(line)
    return [
        f"{f'### {title}' if title else ''}\n\n" + "\n".join(own) for title, own in lists.items()
    ]


def checks() -> str:
    """Returns the page of the checks of a dataset."""
    parts = ["# Checks of `pipelines validate`"]
    for check in ALL_CHECKS:
        texts = (check.summary, check.reason, check.remedy)
        parts += [f"## `{check.name}`", *map(_plain, texts)]
    return "\n\n".join(parts) + "\n"


def api(package: str) -> str:
    """Returns the page of a package's public names."""
    module = import_module(package)
    names = getattr(module, "_MODULES", None) or [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == package
    ]
    blocks = []
    for name in sorted(names):
        value = getattr(module, name)
        kind = "autoclass" if inspect.isclass(value) else "autofunction"
        members = "   :members:\n" if inspect.isclass(value) else ""
        blocks.append(f".. {kind}:: {package}.{name}\n{members}")
    return (
        f"# `{package}`\n\n```{{eval-rst}}\n.. automodule:: {package}\n\n"
        + "\n".join(blocks)
        + "```\n"
    )


def _plain(text: str) -> str:
    """Returns text in which Markdown sees no markup."""
    return text.replace("*", "\\*").replace("<", "\\<").replace("_", "\\_")


REFERENCE.mkdir(exist_ok=True)
(REFERENCE / "pipelines.md").write_text(flags(PIPELINES), encoding="utf-8")
(REFERENCE / "trainer.md").write_text(flags(TRAINER), encoding="utf-8")
(REFERENCE / "checks.md").write_text(checks(), encoding="utf-8")
for package in PACKAGES:
    (REFERENCE / f"api-{package}.md").write_text(api(package), encoding="utf-8")
