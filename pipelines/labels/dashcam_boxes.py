"""Reads the GPS that dash-cams write into boxes of an MP4 file of their own: Novatek's and BlackVue's.

Cameras with chips of Novatek (Viofo, Kenwood, ...) list in the box ``gps `` of the index where blocks of one
fix each lie among the pictures. A block has six numbers of the date, three letters, and four floats of the
position, speed and course. BlackVue writes sentences of NMEA with the milliseconds of the camera's clock into
a box ``gps `` in a box ``free``. Neither is published by its maker; ExifTool's tag tables and mapillary_tools
describe them (https://exiftool.org/TagNames/QuickTime.html, https://github.com/mapillary/mapillary_tools).
"""

from __future__ import annotations

import itertools
import re
import struct
from calendar import timegm
from collections.abc import Iterator
from datetime import datetime

from pipelines.labels.cells import TelemetryError
from pipelines.labels.mp4_tracks import read_box, read_places
from pipelines.labels.nmea import nmea_stream, read_epochs
from pipelines.labels.streams import KNOT, POSITION, POSITION_UNITS, Row, Stream

_FIX = re.compile(rb"(.{24})([AV])([NS\0])([EW\0])\0?", re.DOTALL)
_STARTS = (16, 48)  # bytes before the date, in blocks of two generations of cameras
_COLUMNS = tuple(column for column in POSITION if column != "altitude")
_UNITS = tuple(
    unit for column, unit in zip(POSITION, POSITION_UNITS, strict=True) if column in _COLUMNS
)
_LINE = re.compile(rb"\[(\d{1,15})\]\s*(\$[^\r\n\[\0]*)")


def read_novatek(path: str, name: str) -> Iterator[list[Stream]]:
    """Yields the stream of the blocks that the box ``gps `` of the index lists.

    A block is written each second from the start of the video. So the first fix is as many seconds after it
    as blocks lie before, and the others follow by the clock of the GPS.
    """
    listed = read_box(path, name, (b"moov", b"gps "))
    places = itertools.islice(
        struct.iter_unpack(">II", listed[8 : len(listed) // 8 * 8]), 1_000_000
    )
    rows: list[Row] = []
    clocks: list[float | None] = []
    for number, data in enumerate(read_places(path, places)):
        clock, row = _parse_block(data, f"{name}, GPS block {number + 1}")
        rows.append(row)
        clocks.append(clock if isinstance(row, list) else None)
    known = [(index, clock) for index, clock in enumerate(clocks) if clock is not None]
    if not rows:
        return
    first, start = known[0] if known else (0, 0.0)
    times = [
        float(index) if clock is None else first + clock - start
        for index, clock in enumerate(clocks)
    ]
    yield [Stream("GPS", _COLUMNS, _UNITS, rows, times, float(len(rows)), "Novatek")]


def _parse_block(data: bytes, place: str) -> tuple[float, Row]:
    """Returns the time (seconds since 1970) of a block and its row; times without a fix are 0."""
    for start in _STARTS:
        match = _FIX.match(data, start)
        if data[4:12] == b"freeGPS " and match is not None and len(data) >= start + 44:
            break
    else:
        return 0.0, TelemetryError(
            f"{place}: expected a fix in a form that is known, got {len(data)} bytes of another: convert the "
            "GPS log of the camera to GPX, and name that with --telemetry"
        )
    if match[2] == b"V":
        return 0.0, None
    hour, minute, second, year, month, day = struct.unpack("<6I", match[1])
    latitude, longitude, speed, course = struct.unpack_from("<4f", data, start + 28)
    try:
        year += 2000 if year < 100 else 0
        seconds = timegm(datetime(year, month, day, hour, minute, second).timetuple())
        row = [
            _degrees(latitude, 90, negative=match[3] == b"S"),
            _degrees(longitude, 180, negative=match[4] == b"W"),
            speed * KNOT,
            course,
        ]
    except (ValueError, OverflowError) as error:
        return 0.0, TelemetryError(
            f"{place}: expected a date and a position, but {error}: leave it out"
        )
    return float(seconds), row


def _degrees(written: float, limit: int, *, negative: bool) -> float:
    """Returns the degrees of ``dddmm.mmmm``, degrees and minutes in one number."""
    whole, minutes = divmod(abs(written), 100)
    degrees = whole + minutes / 60
    if not (degrees <= limit and minutes < 60):
        raise ValueError(f"{written:.7g} is no latitude or longitude in degrees and minutes")
    return -degrees if negative else degrees


def read_blackvue(path: str, name: str) -> Iterator[list[Stream]]:
    """Yields the stream of the sentences in the box ``free``; times count from the first line of it."""
    lines = [
        (int(clock), line)
        for clock, line in _LINE.findall(read_box(path, name, (b"free", b"gps ")))
    ]
    if not lines:
        return
    start = lines[0][0]
    sentences = (((clock - start) / 1000, line) for clock, line in lines)
    epochs = list(read_epochs(sentences, lambda at: f"{name}, GPS after {at} s"))
    stream = nmea_stream(*epochs)
    stream.times = [epoch.at for epoch in epochs]
    stream.description = "BlackVue"
    yield [stream] if epochs else []
