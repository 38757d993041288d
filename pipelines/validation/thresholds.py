"""The numbers that decide between right and suspicious."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What checks compare with; the defaults raise nothing on footage that is all right.

    Attributes:
        timestamp_tolerance: seconds by which containers round presentation times (1 ms in WebM, 1/90 ms
            in MPEG), and readers of them a little more.
        rate_tolerance: fraction by which ``image/frame_rate`` may differ from what the timestamps show.
        black_mean: a picture whose mean over all channels, 0 to 255, is below this is black when it is flat.
        flat_std: a picture whose every channel's standard deviation, 0 to 255, is below this is flat.
        statistics_tolerance: fraction of a target's scale by which its statistics in
            ``dataset_info.json`` may differ from the records, which hold float32.
    """

    timestamp_tolerance: float = 0.002
    rate_tolerance: float = 0.1
    black_mean: float = 24.0
    flat_std: float = 2.0
    statistics_tolerance: float = 1e-3


DEFAULTS = Thresholds()
