"""Escaping, number formats and templates of the reports."""

from __future__ import annotations

import runpy
import sys
import uuid
from fnmatch import fnmatch
from importlib import resources
from types import SimpleNamespace

import jinja2
import pytest

from tests.processes import ROOT
from tfrecords_schema.report.filmstrips import choose_frames
from tfrecords_schema.report.pages import (
    describe_rows,
    format_duration,
    format_number,
    format_percentage,
    plural,
    printable,
    render_page,
)

HOSTILE = '<a href="x">\'&\n\x00\u202e'


@pytest.fixture
def render(tmp_path, monkeypatch):
    """Renders a template with the given body in a package of its own."""
    package = tmp_path / f"report_{uuid.uuid4().hex}"  # a name that is not imported yet
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def render(body, **values):
        (package / "page.html").write_text(
            '{% extends "base.html" %}{% from "macros.html" import section %}{% block header %}'
            "{% endblock %}{% block main %}" + body + "{% endblock %}"
        )
        return render_page(package.name, "page.html", title="t", **values)

    return render


ESCAPED = "&lt;a href=&#34;x&#34;&gt;&#39;&amp;\\n\\x00\\u202e"


@pytest.mark.parametrize("body", ["{{ x }}", '<p id="{{ x }}">', "{{ x ~ '' }}", "{{ [x][0] }}"])
def test_render_page_escapes_text(render, body):
    assert ESCAPED in render(body, x=HOSTILE)


def test_render_page_escapes_macro_arguments_once(render):
    page = render("{% call section('a', x) %}<b>{{ x }}</b>{% endcall %}", x=HOSTILE)
    assert f'<h2 id="a">{ESCAPED}</h2>' in page
    assert f"<b>{ESCAPED}</b>" in page


def test_render_page_escapes_the_text_of_objects(render):
    class Place:
        def __str__(self):
            return HOSTILE

    assert ESCAPED in render("{{ x }}", x=Place())


def test_render_page_shows_names_as_code_in_markdown(render, tmp_path):
    render("")  # makes the package
    (package,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (package / "card.md").write_text("| {{ x|code }} |")
    page = render_page(package.name, "card.md", x="a|b` <img> [c](d)\n# e")
    assert page == "| `a\\|b' <img> [c](d)\\n# e` |\n"


def test_render_page_refuses_missing_variables(render):
    with pytest.raises(jinja2.UndefinedError, match="'x' is undefined"):
        render("{{ x }}")


def test_printable_escapes_what_cannot_be_shown():
    assert printable("a\nb\x00\udc80é\u202e") == "a\\nb\\x00\\udc80é\\u202e"


def test_plural_counts_with_separators():
    said = [plural(1, "record"), plural(0, "record"), plural(2000, "class")]
    assert said == ["1 record", "0 records", "2,000 classes"]


def test_formats_name_missing_values():
    assert (format_number(0.61321, "m/s"), format_number(float("nan"))) == (
        "0.6132 m/s",
        "not a number",
    )
    assert (format_percentage(0.614), format_percentage(float("nan"))) == ("61.4 %", "-")
    assert describe_rows(60, 50, "source") == "(60 sources, 50 shown)"
    assert describe_rows(3, 3, "class") == "(3 classes)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.5 s"), (182, "3 min 2 s"), (3900, "1 h 5 min")]
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (3, [0, 1, 2]), (15, [0, 2, 4, 6, 8, 10, 12, 14])]
)
def test_choose_frames_spreads_evenly(count, chosen):
    assert choose_frames(count) == chosen


@pytest.mark.parametrize(
    "package", ["tfrecords_schema.report", "pipelines.validation.report", "trainer.report"]
)
def test_package_data_of_setup_names_every_template(package, monkeypatch):
    declared = {}
    setuptools = SimpleNamespace(setup=declared.update, find_packages=lambda **_: [])
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    runpy.run_path(str(ROOT / "setup.py"))
    files = [file.name for file in resources.files(package).iterdir()]
    templates = [name for name in files if name.endswith((".html", ".css", ".md"))]
    assert templates
    for name in templates:
        assert any(fnmatch(name, glob) for glob in declared["package_data"][package])
