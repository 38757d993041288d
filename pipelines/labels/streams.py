"""Defines streams, the common form of all telemetry inside videos and of NMEA: rows with their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.labels.cells import TelemetryError

TIME = "time"
"""Column of the times of rows, in seconds: from the start of the video, or of NMEA files since 1970 (UTC)."""
POSITION = ("latitude", "longitude", "altitude", "speed", "heading")
"""Columns of a GPS, with the units below."""
POSITION_UNITS = ("deg", "deg", "m", "m/s", "deg")
KNOT = 1852 / 3600
"""Metres per second."""

Row = Sequence[float] | TelemetryError | None
"""A sample; None of a GPS without a fix, an error for one that is damaged."""


@dataclass(eq=False)
class Stream:
    """Some samples of one stream of measurements.

    Attributes:
        key: of the samples, such as ``GPS5``.
        columns, units: of a sample; units are empty where none is stated.
        rows: the samples in their units, NaN for no value.
        times: of the rows, in seconds.
        duration: seconds that the rows last; 0 if unknown.
        description: by the camera.
    """

    key: str
    columns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    duration: float = 0.0
    description: str = ""

    def spread(self, start: float, duration: float) -> None:
        """Spreads the rows evenly over ``duration`` seconds from ``start``."""
        step = duration / max(len(self.rows), 1)
        self.times = [start + step * index for index in range(len(self.rows))]
        self.duration = duration
