"""Draws lines of text on frames, in each script that OpenCV or a font of this machine has."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from pipelines.images.frames import Pixels

if TYPE_CHECKING:
    from PIL import ImageFont

_TEXT_HEIGHT = 0.05  # of the frame's height
_FONT, _FONT_HEIGHT = cv2.FONT_HERSHEY_SIMPLEX, 22  # pixels of a capital letter at scale 1
_FACE, _WEIGHT = "sans", 600
_FACE_SIZE = 1.4  # of a font, in heights of its capital letters
_GAP = 0.4  # between words of different fonts, in heights of a capital letter
_SIZE = 100  # at which text is measured
HAS_FACE = hasattr(cv2, "FontFace")
"""True from OpenCV 5 on, whose own font has more letters than those of ASCII."""
_WHITE = (255, 255, 255)
_ANY_LETTERS = "last resort"  # in the names of fonts that have a box for each letter


class _Part(NamedTuple):
    """Words of a line that are drawn with one font: the font's file, or None for OpenCV's own."""

    text: str
    font: str | None


def draw_lines(pixels: Pixels, lines: Sequence[str]) -> Pixels:
    """Returns ``pixels``, ``[height, width, 3]`` RGB, with white text on black in the upper left corner.

    Letters that no font has are drawn as question marks; `undrawable` finds them.
    """
    if not lines:
        return pixels
    height, width = pixels.shape[:2]
    rows = [list(_parts(line)) for line in lines]
    widths = [[_width(part) + _GAP for part in parts] for parts in rows]
    capital = height * _TEXT_HEIGHT
    margin = max(1, round(capital / 2))
    widest = max(map(sum, widths)) - _GAP
    capital = min(capital, max(1, width - 4 * margin) / max(1, widest))
    step = round(capital * 1.8)
    box = pixels.copy()
    right = min(width, round(widest * capital) + 3 * margin)
    cv2.rectangle(box, (0, 0), (right, step * len(rows) + margin), (0, 0, 0), -1)
    for number, (parts, own) in enumerate(zip(rows, widths, strict=True), start=1):
        left = float(margin)
        for part, part_width in zip(parts, own, strict=True):
            _draw(box, part, (round(left), step * number), capital)
            left += part_width * capital
    return box


def undrawable(texts: Iterable[str]) -> list[str]:
    """Returns the texts with letters that are drawn as question marks."""
    return [text for text in texts if any(_lacks_font(part) for part in _parts(text))]


def _lacks_font(part: _Part) -> bool:
    return part.font is None and not _is_plain(part.text)


def _parts(line: str) -> Iterator[_Part]:
    """Yields the parts of a line; words that OpenCV cannot draw stay together, in their own direction."""
    words = unicodedata.normalize("NFC", line).split(" ")
    for is_plain, own in groupby(words, _is_plain):
        text = " ".join(own)
        yield _Part(text, None if is_plain else _find_font(text))


@functools.lru_cache(maxsize=1024)
def _is_plain(text: str) -> bool:
    """Returns True if OpenCV draws a text: from left to right, letter by letter, with its own font."""
    return text.isascii() or (HAS_FACE and all(map(_has_letter, text)))


@functools.lru_cache(maxsize=1024)
def _has_letter(letter: str) -> bool:
    if unicodedata.bidirectional(letter) in ("R", "AL") or unicodedata.combining(letter):
        return False
    shapes = np.zeros((2, 2 * _SIZE, 2 * _SIZE, 3), np.uint8)
    for shape, text in zip(shapes, (letter, "?"), strict=True):
        cv2.putText(shape, text, (0, _SIZE), _WHITE, cv2.FontFace(_FACE), _SIZE, weight=_WEIGHT)
    return letter in " ?" or bool((shapes[0] != shapes[1]).any())  # others are question marks


@functools.lru_cache(maxsize=1024)
def _find_font(text: str) -> str | None:
    """Returns the file of a font of this machine that has all letters of a text; None without one."""
    try:
        from matplotlib import font_manager, ft2font, get_data_path
        from PIL import features
    except ImportError:
        return None
    if not features.check("raqm"):  # joins letters, and orders them by their direction
        return None
    wanted = {ord(letter) for letter in text if letter != " "}
    own = os.path.join(get_data_path(), "fonts", "ttf")
    found = font_manager.findSystemFonts() + font_manager.findSystemFonts([own])
    for path in sorted(found, key=_font_order):
        try:
            font = ft2font.FT2Font(path)
        except (OSError, RuntimeError):
            continue
        has_letters = wanted <= font.get_charmap().keys()
        if has_letters and font.scalable and _ANY_LETTERS not in font.family_name.lower():
            return path
    return None


def _font_order(path: str) -> tuple[bool, bool, int, str]:
    name = os.path.basename(path)
    return "Sans" not in name, "Mono" in name, len(name), path


def _draw(box: Pixels, part: _Part, place: tuple[int, int], capital: float) -> None:
    size = max(1, round(capital * _FACE_SIZE))
    if part.font is not None:
        from PIL import Image, ImageDraw

        rows = box[: place[1] + size]
        image = Image.fromarray(rows)
        font = _load(part.font, size)
        ImageDraw.Draw(image).text(place, part.text, _WHITE, font=font, anchor="ls")
        rows[:] = np.asarray(image)
    elif HAS_FACE:
        text = _replaced(part.text)
        cv2.putText(box, text, place, _WHITE, cv2.FontFace(_FACE), size, weight=_WEIGHT)
    else:
        scale = capital / _FONT_HEIGHT
        thickness = max(1, round(scale * 2))
        text = _replaced(part.text)
        cv2.putText(box, text, place, _FONT, scale, _WHITE, thickness, cv2.LINE_AA)


def _replaced(text: str) -> str:
    """Returns a text with question marks in place of what OpenCV cannot draw."""
    return "".join(letter if _is_plain(letter) else "?" for letter in text)


def _width(part: _Part) -> float:
    """Returns the width of a part, in heights of a capital letter."""
    if part.font is not None:
        return float(_load(part.font, _SIZE).getlength(part.text)) / _SIZE * _FACE_SIZE
    text = _replaced(part.text)
    if not HAS_FACE:
        return cv2.getTextSize(text, _FONT, 1.0, 1)[0][0] / _FONT_HEIGHT
    face = cv2.FontFace(_FACE)
    _, _, width, _ = cv2.getTextSize((1, 1), text, (0, 0), face, _SIZE, weight=_WEIGHT)
    return width / _SIZE * _FACE_SIZE


@functools.lru_cache(maxsize=16)
def _load(font: str, size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(font, size)
