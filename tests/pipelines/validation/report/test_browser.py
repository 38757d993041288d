"""The report in a real browser: nothing is fetched, nothing complains, filters work, it fits a phone."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation
from pipelines.validation.report.page import render_report
from pipelines.validation.thresholds import ValidationOptions
from tests import chromium

pytestmark = pytest.mark.skipif(
    chromium.find_chromium() is None,
    reason="no Chromium is installed (apt-get install chromium); the report is not looked at",
)


@pytest.fixture(scope="module")
def report(clean, open_dataset, tmp_path_factory):
    """A report with findings of two levels and two families, in three splits."""

    folder = tmp_path_factory.mktemp("report")
    dataset = open_dataset(Path(shutil.copytree(clean["classification"], folder / "dataset")))

    def spoil(example):
        example.feature_lists.feature_list["image/encoded"].feature[2].bytes_list.value[0] = b"x"

    dataset.edit(spoil)
    (dataset.path / "_build").mkdir()
    options = ValidationOptions(tfrecords=str(dataset.path))
    validation = Validation(options, dataset.info, dataset.examine(), 1.5)
    path = folder / "report.html"
    path.write_text(render_report(validation, DatasetFolder(str(dataset.path))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    with chromium.Page(str(tmp_path_factory.mktemp("profile"))) as page:
        page.resize(1200)
        page.open(report.as_uri())
        yield page


def shown(page, selector):
    return page.evaluate(
        f"[...document.querySelectorAll({selector!r})].filter(e => e.checkVisibility()).length"
    )


def test_page_fetches_nothing_without_complaints(page):
    assert page.evaluate("document.images.length") > 10
    assert page.complaints() == []


def test_page_shows_every_picture(page):
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert page.evaluate(broken) == 0


@pytest.mark.parametrize(
    ("box", "selector"),
    [
        ("show-level-1", "[data-level='1']"),
        ("show-family-0", "[data-family='0']"),
        ("show-split-2", "[data-split='2']"),
    ],
)
def test_box_hides_its_elements_by_mouse_and_keyboard(page, box, selector):
    before = shown(page, selector)
    assert before
    page.evaluate(f"document.getElementById({box!r}).click()")
    assert shown(page, selector) == 0
    page.evaluate(f"document.getElementById({box!r}).focus()")
    page.press("Space", 32)
    assert shown(page, selector) == before


def test_class_is_chosen_by_keyboard(page):
    every, walks = (shown(page, s) for s in ("[data-class]", "[data-class~='2']"))
    assert 0 < walks < every
    page.evaluate("document.getElementById('class').focus()")
    for key in "ArrowDown", "ArrowDown", "ArrowDown":
        page.press(key, 40)
    assert page.evaluate("document.getElementById('class').selectedOptions[0].text") == "walk"
    assert (shown(page, "[data-class]"), shown(page, "[data-class~='2']")) == (walks, walks)
    page.evaluate("document.getElementById('class').value = ''")
    assert shown(page, "[data-class]") == every


def test_film_plays_enlarged_once_it_is_opened(page):
    film = "[...document.querySelectorAll('.film')].at(-1)"
    position = f"{film}.firstChild.getBoundingClientRect()"
    assert shown(page, ".film") == 0
    page.evaluate(f"{film}.parentElement.open = true")
    assert shown(page, ".film") == 1
    width = page.evaluate(f"{film}.clientWidth")
    assert width > page.evaluate("document.querySelector('.strip img').clientWidth")
    assert page.evaluate(f"{position}.width") == pytest.approx(4 * width, abs=1)
    places = set()
    for time in range(0, 1000, 10):
        page.evaluate(f"{film}.firstChild.getAnimations()[0].currentTime = {time}")
        places.add(round(page.evaluate(f"{position}.left")))
    assert len(places) == 4
    page.evaluate(f"{film}.parentElement.open = false")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wide_table_has_shadow_at_the_side_that_has_more(page, scheme):
    page.resize(320, scheme=scheme)
    box = page.evaluate(
        "(e => (e.scrollIntoView(), {...e.getBoundingClientRect().toJSON(),"
        " wide: e.scrollWidth > e.clientWidth}))(document.querySelector('.scroll'))"
    )
    assert box["wide"]
    row = int(box["top"]) + 3  # above the text

    def sides():
        pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
        line = pixels[row].astype(int)
        left, right = int(box["left"]), int(box["right"])
        ground = line[(left + right) // 2]
        return abs(line[left + 1] - ground) > 20, abs(line[right - 2] - ground) > 20

    assert sides() == (False, True)
    page.evaluate("document.querySelector('.scroll').scrollLeft = 9999")
    assert sides() == (True, False)
    page.evaluate("document.querySelector('.scroll').scrollLeft = 0")
    page.resize(1200)


def test_tab_reaches_boxes_details_and_strips(page):
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        page.press("Tab", 9)
        reached.add(page.evaluate("document.activeElement.tagName"))
    assert {"INPUT", "SUMMARY", "UL", "DIV"} <= reached


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_page_fits_the_window(page, width):
    page.resize(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(page, scheme):
    page.resize(390, scheme=scheme)
    pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (np.median(pixels) < 60) == (scheme == "dark")
    assert np.ptp(pixels) > 150
    contrasts = page.evaluate(CONTRASTS)
    assert contrasts
    assert min(contrasts) >= 4.5


CONTRASTS = """(() => {
  const light = c => c.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const parse = s => s.match(/[\\d.]+/g).map(Number);
  const behind = e => { while (e) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3]) return c.slice(0, 3); e = e.parentElement; } return [255, 255, 255]; };
  return [...document.querySelectorAll('.level, .dim, .verdict strong, small, p, code, summary, th, .why')]
    .filter(e => e.offsetParent && e.textContent.trim()).map(e => {
      const [a, b] = [light(parse(getComputedStyle(e).color).slice(0, 3)), light(behind(e))];
      return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); });
})()"""


def test_headings_are_ordered_and_elements_are_named(page):
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    unnamed = (
        "[...document.querySelectorAll('img:not([alt]), svg:not([aria-label]), "
        "[tabindex]:not([aria-label]), html:not([lang])')].length"
    )
    assert page.evaluate(unnamed) == 0
    assert page.evaluate("[...document.querySelectorAll('input')].every(i => i.labels.length)")
