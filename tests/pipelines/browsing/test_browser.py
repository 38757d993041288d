"""The page in a real browser: its choices, the enlarged sequence, keyboard, width, light and dark."""

from __future__ import annotations

import dataclasses
import time

import cv2
import numpy as np
import pytest

from pipelines import show
from tests import chromium
from tests.tfrecords_schema.test_parse import CLASSIFICATION
from tfrecords_schema import LabelSpec, write_fake_dataset

pytestmark = pytest.mark.skipif(
    chromium.find_chromium() is None,
    reason="no Chromium is installed (apt-get install chromium); the page is not looked at",
)
SPEED = LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.Page(str(tmp_path_factory.mktemp("profile"))) as page:
        yield page


@pytest.fixture
def open_page(browser, tmp_path, monkeypatch):
    def opened(spec, counts, width=1280):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        write_fake_dataset(tmp_path / "dataset", spec, counts, shards=1)
        show(str(tmp_path / "dataset"), page=str(tmp_path / "page.html"))
        browser.resize(width)
        browser.events.clear()
        browser.open((tmp_path / "page.html").as_uri())
        return browser

    return opened


def choose(page, control, value):
    page.evaluate(f"byId({control!r}).value = {value!r}")
    page.evaluate(f"byId({control!r}).dispatchEvent(new Event('input', {{bubbles: true}}))")
    return page.evaluate("found.length")


def wait_until(holds):
    """Waits for what the browser does in its own time."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_choices_and_more(open_page):
    page = open_page(CLASSIFICATION, {"train": 70, "test": 5})
    assert page.evaluate("[byId('count').textContent, byId('list').children.length]") == [
        "75 sequences",
        60,
    ]
    page.evaluate("byId('more').click()")
    assert page.evaluate("[byId('list').children.length, byId('more').hidden]") == [75, True]
    assert choose(page, "split", "test") == 5
    assert page.evaluate("byId('list').children.length") == 5
    choose(page, "split", "")
    by_class = [
        choose(page, "class", str(index)) for index in range(len(CLASSIFICATION.label.class_names))
    ]
    assert sum(by_class) == 75
    assert min(by_class) > 0
    choose(page, "class", "")
    source = page.evaluate("sourceOf(sequences[3])")
    assert choose(page, "source", source) >= 1
    assert choose(page, "source", "nothing of that name") == 0
    assert page.complaints() == []


def test_targets_give_an_order(open_page):
    page = open_page(dataclasses.replace(CLASSIFICATION, label=SPEED), {"train": 12})
    assert page.evaluate("byId('class-choice').offsetParent") is None
    values = page.evaluate("sequences.map(s => s.targets[0])")
    for order, expected in {
        "0 1": sorted(values),
        "0 -1": sorted(values)[::-1],
        "": values,
    }.items():
        choose(page, "order", order)
        assert page.evaluate("found.map(s => s.targets[0])") == expected


def test_a_sequence_is_enlarged_played_and_left_by_keyboard(open_page):
    page = open_page(CLASSIFICATION, {"train": 3})
    page.evaluate("document.querySelector('#list button').focus()")
    page.press("Enter", 13)
    assert page.evaluate("large.open")
    facts = page.evaluate("byId('facts').textContent")
    assert "example/id" in facts
    assert "tail -c +1 SHARD" in facts
    assert page.evaluate("byId('previous').disabled && !byId('next').disabled")
    page.evaluate("byId('next').click(); byId('next').click()")
    assert page.evaluate("[current, byId('next').disabled]") == [2, True]
    places = set()
    page.evaluate("byId('play').focus()")
    page.press("Space", 32)

    def all_frames_were_shown():
        places.add(page.evaluate("byId('film').style.backgroundPosition"))
        return len(places) == CLASSIFICATION.num_frames

    wait_until(all_frames_were_shown)
    assert page.evaluate("getComputedStyle(byId('film')).height") != "0px"
    page.press("Escape", 27)
    wait_until(lambda: page.evaluate("!large.open && timer === null"))
    assert page.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_page_fits_the_window_in_light_and_dark(open_page, width, scheme):
    page = open_page(CLASSIFICATION, {"train": 3}, width)
    page.resize(width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (np.median(pixels) < 60) == (scheme == "dark")
    unnamed = "[...document.querySelectorAll('input, select')].filter(i => !i.labels.length && !i.ariaLabel)"
    assert page.evaluate(f"{unnamed}.length") == 0
