"""Reads CAMM, the telemetry track of 360-degree cameras.

Each sample is a reserved number, a type and its values, little-endian:
https://developers.google.com/streetview/publish/camm-spec.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipelines.labels.cells import TelemetryError
from pipelines.labels.mp4_tracks import Sample
from pipelines.labels.streams import POSITION, POSITION_UNITS, Stream

FORMAT = b"camm"


class _Type(NamedTuple):
    description: str
    form: str
    columns: tuple[str, ...]
    units: tuple[str, ...]


def _axes(description: str, name: str, unit: str) -> _Type:
    return _Type(description, "<3f", tuple(f"{name}_{axis}" for axis in "xyz"), (unit,) * 3)


_TYPES = {
    0: _axes("orientation, angle and axis", "orientation", "rad"),
    1: _Type("exposure", "<2i", ("pixel_exposure", "rolling_shutter"), ("s", "s")),
    2: _axes("gyroscope", "rotation_rate", "rad/s"),
    3: _axes("accelerometer", "acceleration", "m/s2"),
    4: _axes("position", "position", "m"),
    5: _Type("position", "<3d", POSITION[:3], POSITION_UNITS[:3]),
    6: _Type(
        "GPS",
        "<di2d7f",
        (
            *(*POSITION, "velocity_east", "velocity_north", "velocity_up"),
            *("horizontal_accuracy", "vertical_accuracy", "speed_accuracy", "time_gps_epoch"),
        ),
        (*POSITION_UNITS, "m/s", "m/s", "m/s", "m", "m", "m/s", "s"),
    ),
    7: _axes("magnetometer", "magnetic_field", "uT"),
}


def read_camm(samples: Iterable[Sample], name: str) -> Iterator[list[Stream]]:
    """Yields the stream of each sample; types that the specification does not have are skipped.

    The heading is the direction of the velocity over ground. Times of the GPS are as they are written: some
    cameras count from 1970 and not, as specified, from 1980.
    """
    for number, sample in enumerate(samples):
        (kind,) = struct.unpack_from("<2xH", sample.data.ljust(4, b"\xff"))
        found = _TYPES.get(kind)
        if found is None:
            continue
        stream = Stream(f"CAMM{kind}", found.columns, found.units, description=found.description)
        try:
            values = struct.unpack_from(found.form, sample.data, 4)
        except struct.error:
            stream.rows = [
                TelemetryError(
                    f"{name}, sample {number + 1}: expected {struct.calcsize(found.form)} bytes of CAMM type "
                    f"{kind}, got {max(len(sample.data) - 4, 0)}: copy the file again"
                )
            ]
        else:
            stream.rows = [_row(kind, values)]
        stream.spread(sample.start, sample.duration)
        yield [stream]


def _row(kind: int, values: tuple[float, ...]) -> tuple[float, ...] | None:
    """Returns the values in the units of their columns; None for a GPS without a fix."""
    if kind == 1:
        return tuple(value / 1e9 for value in values)
    if kind != 6:
        return values
    seconds, fix, *place, horizontal, vertical, east, north, up, accuracy = values
    if fix == 0:
        return None
    speed = math.hypot(east, north)
    heading = math.degrees(math.atan2(east, north)) % 360 if speed else math.nan
    motion = (speed, heading, east, north, up)
    return (*place, *motion, horizontal, vertical, accuracy, seconds)
