"""Captions on frames: their letters and their size."""

import cv2
import numpy as np
import pytest

from pipelines.decoding import overlay

GRAY = np.full((90, 160, 3), 120, np.uint8)


def ink(line):
    """The columns of a frame that a caption changes to white, and the caption's frame."""
    drawn = overlay.draw_lines(GRAY, [line])
    return drawn, np.flatnonzero((drawn > 150).any(axis=(0, 2)))


@pytest.mark.parametrize(
    "line", ["speed 12.3 m/s", "a very long name of a class that is not shown 93%"]
)
@pytest.mark.parametrize("all_scripts", [True, False])
def test_a_caption_fits_into_the_frame(line, all_scripts, monkeypatch):
    monkeypatch.setattr(overlay, "DRAWS_ALL_SCRIPTS", all_scripts and hasattr(cv2, "FontFace"))
    drawn, columns = ink(line)
    assert columns.size
    assert columns.max() < GRAY.shape[1] - 2
    np.testing.assert_array_equal(drawn[45:], GRAY[45:])


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 draws ASCII only")
@pytest.mark.parametrize("name", ["Größe", "скорость", "速度", "走る", "속도"])
def test_letters_of_other_scripts_are_drawn(name):
    drawn, _ = ink(name)
    replaced, _ = ink(overlay.to_ascii(name))
    assert not np.array_equal(drawn, replaced)


def test_without_a_font_letters_become_question_marks(monkeypatch):
    monkeypatch.setattr(overlay, "DRAWS_ALL_SCRIPTS", False)
    drawn, _ = ink("Größe")
    np.testing.assert_array_equal(drawn, ink("Gr??e")[0])
