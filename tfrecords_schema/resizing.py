"""Resizes frames for readers, so that training and prediction get the same pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy.typing as npt


def resize_frame(frame: npt.NDArray[Any], size: tuple[int, int], target: Any = None) -> Any:
    """Resizes a decoded frame: by area if it shrinks to less than half of its pixels, else linearly.

    Args:
        frame: ``[height, width, channels]`` uint8.
        size: the new height and width.
        target: uint8 array ``[*size, channels]`` for the result, instead of a new one.
    """
    height, width, channels = frame.shape
    # Linear interpolation would cause aliasing.
    shrinks = height * width > 2 * size[0] * size[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # If OpenCV is built with Intel's IPP, allow it: half the time, and closer to the exact result. Machines
    # without it differ by one level. The setting belongs to the calling thread.
    was_allowed = cv2.ipp.useIPP_NotExact()
    cv2.ipp.setUseIPP_NotExact(True)
    resized = cv2.resize(frame, size[::-1], dst=target, interpolation=interpolation)
    cv2.ipp.setUseIPP_NotExact(was_allowed)
    return resized.reshape(*size, channels)  # OpenCV drops a single channel's axis
