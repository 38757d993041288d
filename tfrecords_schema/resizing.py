"""How readers resize frames: training and prediction must come to the same pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy.typing as npt


def resize_frame(frame: npt.NDArray[Any], size: tuple[int, int], target: Any = None) -> Any:
    """A decoded frame at another size.

    Args:
        frame: ``[height, width, channels]`` uint8.
        size: the height and width it gets.
        target: an array ``[*size, channels]`` to write it to, instead of a new one.

    Returns:
        ``[*size, channels]`` uint8.
    """
    height, width, channels = frame.shape
    # Linear aliases when it shrinks by much.
    shrinks = height * width > 2 * size[0] * size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # Lets Intel's library do it, where OpenCV is built with it: in half the time, and nearer to what
    # floating point gives. Machines without it differ by a level. It is a setting of the calling thread.
    was_allowed = cv2.ipp.useIPP_NotExact()
    cv2.ipp.setUseIPP_NotExact(True)
    resized = cv2.resize(frame, size[::-1], dst=target, interpolation=how)
    cv2.ipp.setUseIPP_NotExact(was_allowed)
    return resized.reshape(*size, channels)  # OpenCV drops the axis of a single channel
