"""Reads GPMF, the telemetry inside the videos of GoPro cameras (Hero 5 to 13, Max, Fusion).

A payload is a tree of elements: a key, a type, a size and a number of samples, then the data. A stream
(``STRM``) holds what describes it (scale, units, name), and its samples last:
https://github.com/gopro/gpmf-parser. The samples of a stream are spread evenly over the time of their
payload.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence

from pipelines.labels.cells import TelemetryError
from pipelines.labels.mp4_tracks import Sample
from pipelines.labels.streams import Stream

FORMAT = b"gpmd"

# Types of numbers as `struct` names them; Q numbers are integers over a power of two.
_NUMBERS = dict(zip("bBdfjJlLsSqQ", "bBdfqQiIhHiq", strict=True))
_FRACTIONS = {"q": 2.0**16, "Q": 2.0**32}
_AXES = "xyz"

_COLUMNS = {
    "GPS5": ("latitude", "longitude", "altitude", "speed", "speed_3d"),
    "GPS9": (
        *("latitude", "longitude", "altitude", "speed", "speed_3d"),
        *("days_since_2000", "seconds_of_day", "dilution", "fix"),
    ),
}
_SENSORS = {"ACCL": "acceleration", "GYRO": "rotation_rate", "MAGN": "magnetic_field"}
_FIX = 2
"""Value of ``GPSF`` from which a position has two dimensions; 0 is no fix."""


def read_gpmf(samples: Iterable[Sample], name: str) -> Iterator[list[Stream]]:
    """Yields the streams of each payload, about one per second. See `parse_streams`."""
    for sample in samples:
        streams = parse_streams(sample.data, name)
        for stream in streams:
            stream.spread(sample.start, sample.duration)
        yield streams


def parse_streams(payload: bytes, name: str = "") -> list[Stream]:
    """Returns the streams of a payload that hold numbers, in order.

    Raises:
        TelemetryError: if it is not GPMF.
    """
    streams: list[Stream] = []
    try:
        for key, kind, _, data in _elements(payload):
            if key == "DEVC" and kind == "\0":
                streams += [
                    stream
                    for inner, _, _, contents in _elements(data)
                    if inner == "STRM" and (stream := _parse_stream(contents)) is not None
                ]
    except (struct.error, ValueError, OverflowError) as error:
        raise TelemetryError(
            f"{name}: expected GPMF telemetry, found a damaged payload ({error}): copy the file again"
        ) from error
    return streams


def _elements(data: bytes) -> Iterator[tuple[str, str, int, bytes]]:
    """Yields key, type, size of a sample and contents of each element on one level."""
    place = 0
    while place + 8 <= len(data):
        key, kind, size, repeat = struct.unpack_from(">4scBH", data, place)
        if key == b"\0\0\0\0":
            return  # the rest is filled up
        length = size * repeat
        if place + 8 + length > len(data):
            raise ValueError(f"{key!r} ends behind its parent")
        yield (
            key.decode("latin-1"),
            kind.decode("latin-1"),
            size,
            data[place + 8 : place + 8 + length],
        )
        place += 8 + _padded(length)


def _parse_stream(data: bytes) -> Stream | None:
    """Returns a stream; None if its last element holds no numbers."""
    said: dict[str, tuple[str, int, bytes]] = {}
    key = ""
    for key, kind, size, contents in _elements(data):
        said[key] = (kind, size, contents)
    if not key:
        return None
    kind, size, contents = said.pop(key)
    types = _text(said, "TYPE") if kind == "?" else kind * (size // _width(kind))
    if not types or any(own not in _NUMBERS for own in types):
        return None
    form = ">" + "".join(_NUMBERS[own] for own in types)
    if struct.calcsize(form) != size:
        raise ValueError(f"samples of {key} have {size} bytes, their types {struct.calcsize(form)}")
    whole = contents[: len(contents) // size * size]
    scales = _scales(said, len(types))
    divisors = [s * _FRACTIONS.get(t, 1.0) for s, t in zip(scales, types, strict=True)]
    rows: list[list[float]] = [
        [value / divisor for value, divisor in zip(row, divisors, strict=True)]
        for row in struct.iter_unpack(form, whole)
    ]
    fix = said.get("GPSF")
    units = _units(said, len(types))
    columns, rows = _name_columns(key, len(types), _text(said, "ORIN"), rows)
    knows_place = fix is None or int.from_bytes(fix[2][:4], "big") >= _FIX
    own = columns.index("fix") if "fix" in columns else None
    return Stream(
        key=key,
        description=_text(said, "STNM"),
        columns=columns,
        units=units,
        rows=[row if knows_place and (own is None or row[own] >= _FIX) else None for row in rows],
    )


def _name_columns(
    key: str, count: int, orientation: str, rows: list[list[float]]
) -> tuple[tuple[str, ...], list[list[float]]]:
    """Returns the names of a stream's columns, and its rows with the signs of its axes.

    ``ORIN`` names the axis of each column, in lower case if it points the other way. Without it, the columns
    are numbered in the order of the camera, which its description tells.
    """
    if (names := _COLUMNS.get(key)) and len(names) == count:
        return names, rows
    name = _SENSORS.get(key, key.lower().strip())
    axes = orientation.lower()
    if key in _SENSORS and count == 3 and sorted(axes) == list(_AXES):
        signs = [-1.0 if own.islower() else 1.0 for own in orientation]
        rows = [[v * sign for v, sign in zip(row, signs, strict=True)] for row in rows]
        return tuple(f"{name}_{axis}" for axis in axes), rows
    return (name,) if count == 1 else tuple(f"{name}_{i + 1}" for i in range(count)), rows


def _scales(said: dict[str, tuple[str, int, bytes]], count: int) -> Sequence[float]:
    if "SCAL" not in said:
        return [1.0] * count
    kind, size, data = said["SCAL"]
    if kind not in _NUMBERS or size != _width(kind):
        raise ValueError(f"the scale has the type {kind!r}")
    scales = [float(value) for (value,) in struct.iter_unpack(">" + _NUMBERS[kind], data)]
    if len(scales) == 1:
        scales *= count
    if len(scales) != count or not all(s and math.isfinite(s) for s in scales):
        raise ValueError(f"{count} columns have the scales {scales[:9]}")
    return scales


def _units(said: dict[str, tuple[str, int, bytes]], count: int) -> tuple[str, ...]:
    _, size, data = said.get("SIUN") or said.get("UNIT") or ("c", 1, b"")
    texts = [data[i : i + size] for i in range(0, len(data), max(size, 1))] if size > 1 else [data]
    units = [text.decode("latin-1").strip("\0 ") for text in texts]
    return tuple(
        units if len(units) == count else units * count if len(units) == 1 else [""] * count
    )


def _text(said: dict[str, tuple[str, int, bytes]], key: str) -> str:
    return said[key][2].decode("latin-1").strip("\0 ") if key in said else ""


def _width(kind: str) -> int:
    return struct.calcsize(">" + _NUMBERS.get(kind, "B"))


def _padded(length: int) -> int:
    return (length + 3) // 4 * 4
