"""Hides the differences between the major versions of PyAV that setup.py allows (17 to 19).

The rest of the package uses only what these versions have in common.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
from av.video.reformatter import Interpolation

# Flags of swscale by number, because PyAV 17 has no names for them.
_ACCURATE_RND = 1 << 18
_BITEXACT = 1 << 19

# Rounded, not truncated, and the same on every processor. It adds a tenth to the time of scaling, but would
# make a mere conversion, which keeps the size, four times as slow.
AVERAGING = int(Interpolation.AREA) | _ACCURATE_RND | _BITEXACT
CONVERTING = int(Interpolation.BICUBIC)
"""Interpolation of chroma for frames that keep their size."""

_UNSPECIFIED = 2  # H.273

# Metadata that is not UTF-8 must not make a file unreadable. From PyAV 19 on it never does.
LENIENT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""Arguments of `av.open`."""

DECODING_ERRORS = (av.FFmpegError, ArithmeticError, AttributeError, LookupError, ValueError)
"""Exceptions that PyAV may raise while it demuxes or decodes. Some files lead to errors of Python's own:
IndexError for a stream that appears in mid-file, OverflowError for a time of more than 64 bits."""


def to_fraction(value: Any) -> Fraction | None:
    """Returns a rational as a Fraction, None if it is not set (0 in PyAV 19)."""
    return Fraction(value.numerator, value.denominator) if value else None


def forget_transfer(image: av.VideoFrame) -> None:
    """Removes the tags of a frame's transfer curve and primaries, which no conversion here uses.

    PyAV 17 hands them to swscale, which refuses frames with reserved values.
    """
    image.color_trc = image.color_primaries = _UNSPECIFIED
