"""`open_footage`: the footage of a source, whatever kind it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.decoding.footage import Footage
from pipelines.decoding.frame_folder import open_frame_folder
from pipelines.decoding.joined import JoinedVideos
from pipelines.decoding.measuring import clip_telemetry
from pipelines.decoding.protocol import BuildRequest
from pipelines.decoding.rows import TelemetryRows
from pipelines.decoding.video import open_video
from pipelines.descriptors import Source

OnProgress = Callable[[], None]


@contextmanager
def open_footage(request: BuildRequest, on_progress: OnProgress) -> Iterator[Footage[Any]]:
    """Opens the footage of the request's source for one reading.

    Args:
        request: which source, and what to make of it.
        on_progress: called for every packet or frame that is read, whatever becomes of it.

    Raises:
        DecodingFailure: when it cannot be used.
    """
    source, rate = request.segment.source, request.sampling.frame_rate
    if source.kind == "telemetry":
        max_gap = request.telemetry.max_gap if request.telemetry else math.inf
        yield TelemetryRows(clip_telemetry(request).telemetry, rate, max_gap)
    elif source.kind == "frames":
        if rate is None:
            raise ValueError("a folder of frames needs a frame rate")
        yield open_frame_folder(source.path, rate, on_progress, request.image)
    else:
        with open_video_source(source, on_progress, request.threads) as video:
            yield video


@contextmanager
def open_video_source(
    source: Source, on_progress: OnProgress, threads: int = 1
) -> Iterator[Footage[Any]]:
    """Opens a video file, or the several that a drive consists of, to be decoded by ``threads``."""
    if source.parts:
        yield JoinedVideos(source.parts, on_progress, threads)
    else:
        with open_video(source.path, on_progress, threads) as video:
            yield video
