"""Captions on frames: their letters and their size."""

import cv2
import numpy as np
import pytest

from pipelines.images import text

GRAY = np.full((90, 160, 3), 120, np.uint8)
needs_face = pytest.mark.skipif(not text.HAS_FACE, reason="OpenCV 4 draws ASCII only")


def ink(line):
    """The frame with a caption, and the columns of it that are white."""
    drawn = text.draw_lines(GRAY, [line])
    return drawn, np.flatnonzero((drawn > 150).any(axis=(0, 2)))


@pytest.fixture
def no_fonts(monkeypatch):
    monkeypatch.setattr(text, "_find_font", lambda text: None)


@pytest.mark.parametrize(
    "line", ["speed 12.3 m/s", "a very long name of a class that is not shown 93%", "שלום " * 9]
)
@pytest.mark.parametrize("has_face", [True, False])
def test_a_caption_fits_into_the_frame(line, has_face, monkeypatch):
    monkeypatch.setattr(text, "HAS_FACE", has_face and hasattr(cv2, "FontFace"))
    text._is_plain.cache_clear()
    drawn, columns = ink(line)
    text._is_plain.cache_clear()
    assert columns.size
    assert columns.max() < GRAY.shape[1] - 2
    np.testing.assert_array_equal(drawn[45:], GRAY[45:])


@needs_face
@pytest.mark.parametrize("name", ["Größe", "Gro\u0308ße", "скорость", "速度", "走る", "속도"])
def test_letters_that_opencv_has(name, no_fonts):
    assert text.undrawable([name]) == []
    drawn, _ = ink(name)
    assert not np.array_equal(drawn, ink("".join("?" if c > "~" else c for c in name))[0])


@pytest.mark.parametrize("name", ["כדור", "مشي"])
def test_words_from_right_to_left_are_drawn_with_a_font_of_the_machine(name):
    """OpenCV would draw them from left to right: letters in reverse, and those of Arabic not joined."""
    assert text.undrawable([name]) == []
    (part,) = text._parts(name)
    assert part.font.endswith(".ttf")
    letters = [text._width(text._Part(letter, part.font)) for letter in name]
    is_joined = text._width(part) < 0.95 * sum(letters)
    assert is_joined == (name == "مشي")
    drawn, columns = ink(f"{name} 93%")
    assert columns.max() > ink(name)[1].max() > ink("כ")[1].max()
    np.testing.assert_array_equal(drawn[45:], GRAY[45:])


@pytest.mark.parametrize("name", ["\U0010fffd", "go\U0010fffdl", "😀"])
def test_letters_of_no_font_are_question_marks_and_said(name, no_fonts):
    assert text.undrawable(["run", name]) == [name]
    marks = "".join(c if c.isascii() else "?" for c in name)
    np.testing.assert_array_equal(ink(name)[0], ink(marks)[0])


def test_a_font_of_boxes_for_all_letters_is_not_taken():
    assert text._find_font("\U0010fffd") is None
