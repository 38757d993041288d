"""Reads track points of GPX 1.0 and 1.1 files, and derives speed and heading from positions.

GPX 1.0 has ``speed`` (m/s) and ``course`` (degrees) in a point (https://www.topografix.com/GPX/1/0/gpx.xsd).
GPX 1.1 dropped them, and devices write them into ``extensions``, in namespaces of their own
(https://www8.garmin.com/xmlschemas/TrackPointExtensionv2.xsd). So elements are identified by local name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from pipelines.labels.cells import Cell, CellError, TelemetryError, parse_number, show

COLUMNS = ("lat", "lon", "ele", "speed", "heading")

EARTH_RADIUS = 6_371_008.8
"""Metres: the mean radius R1 of GRS 80 (Moritz 2000, https://doi.org/10.1007/s001900050278)."""

_CHUNK = 2**16  # bytes
_MAX_TOKEN = 2**20  # bytes: expat keeps a tag or a comment in memory until it ends
_MAX_TEXT = 100  # characters of a number or a time
_MAX_DEPTH = 50  # nested elements
# The best first: a vehicle's nose may point elsewhere than it moves.
_HEADINGS = ("course", "cog", "heading")
_FIELDS = frozenset({"ele", "time", "speed", *_HEADINGS})

Floats = NDArray[np.float64]


@dataclass
class Point:
    """A track point: ``lat`` and ``lon`` in degrees, and texts by the local name of their element."""

    line: int
    segment: int
    fields: dict[str, Cell]

    def cells(self, names: Iterable[str]) -> list[Cell]:
        """Returns the cells with these ``names``: ``time`` and `COLUMNS`, None where the file has none."""
        motion = {"speed": self._motion("speed"), "heading": self._motion(*_HEADINGS)}
        fields = self.fields | motion
        return [fields.get(name) for name in names]

    def _motion(self, *names: str) -> str | None:
        """Returns the first of ``names`` that is known; phones write negative numbers for unknown values."""
        written = (str(self.fields.get(name, "")) for name in names)
        return next((text for text in written if text and not text.startswith("-")), None)


def read_points(path: str, name: str) -> Iterator[Point | TelemetryError]:
    """Yields the track points of the file at ``path``, in order; there is at least one.

    A point without a position is an error, and so is the end of a file that was cut off.
    """
    parser = _Parser(name)
    yield from parser.read(path)
    if not parser.count:
        raise TelemetryError(
            f"{name}: expected track points (trkpt), got none: waypoints and routes are not a drive"
        )


class _Parser:
    """Makes points from expat's events. Refuses a document type, which could declare entities.

    Memory does not grow with the file: texts, tags and depth are limited.

    Attributes:
        count: number of points so far.
    """

    def __init__(self, name: str):
        self._name = name
        self.count = 0
        self._points: list[Point | TelemetryError] = []  # of the current chunk
        self._error_in_point: TelemetryError | None = None
        self._segment = 0
        self._depth = 0
        self._point: Point | None = None
        self._point_depth = 0
        self._text: str | None = None  # of the current field
        # Without namespaces, so that an undeclared prefix is not an error.
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.StartDoctypeDeclHandler = self._refuse_doctype
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters

    def read(self, path: str) -> Iterator[Point | TelemetryError]:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield from self._parse(chunk)
                if file.tell() - self._expat.CurrentByteIndex > _MAX_TOKEN:
                    raise self._error(f"a tag of more than {_MAX_TOKEN} bytes")
        try:
            yield from self._parse(b"", is_last=True)
        except TelemetryError as error:
            if not self.count:
                raise
            yield error  # what was written before the file was cut off is intact

    def _parse(self, chunk: bytes, *, is_last: bool = False) -> list[Point | TelemetryError]:
        """Returns the points that end in ``chunk``."""
        self._points = []
        try:
            self._expat.Parse(chunk, is_last)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise self._error(f"invalid XML ({' '.join(str(error).split())})") from error
        return self._points

    def _error(self, received: str) -> TelemetryError:
        line = self._expat.CurrentLineNumber
        return TelemetryError(
            f"{self._name} line {line}: expected a GPX file, got {received}: export the track again"
        )

    def _refuse_doctype(self, *_: object) -> None:
        raise self._error("a document type (<!DOCTYPE>), which GPX does not have")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        local = tag.rpartition(":")[2]
        if self._depth > _MAX_DEPTH:
            raise self._error(f"more than {_MAX_DEPTH} nested elements")
        if self._depth == 1 and local != "gpx":
            raise self._error(f"<{tag[:50]}>")
        if self._point is not None:
            self._text = "" if local in _FIELDS else None
        elif local == "trkseg":
            self._segment += 1
        elif local == "trkpt":
            self._point = Point(self._expat.CurrentLineNumber, self._segment, fields={})
            self._error_in_point = None
            for name, limit in (("lat", 90), ("lon", 180)):
                self._point.fields[name] = self._degrees(attributes, name, limit)
            self._point_depth = self._depth

    def _degrees(self, attributes: dict[str, str], name: str, limit: int) -> float:
        written = attributes.get(name)
        try:
            degrees = parse_number(written)
        except CellError:
            degrees = np.nan
        if not abs(degrees) <= limit:
            self._error_in_point = TelemetryError(
                f"{self._name} line {self._expat.CurrentLineNumber} (point {self.count + 1}): "
                f"expected {name} in degrees, -{limit} to {limit}, got "
                f"{'none' if written is None else show(written)}: correct or remove the point"
            )
        return degrees

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text += text
            if len(self._text) > _MAX_TEXT:
                raise self._error(f"a value of more than {_MAX_TEXT} characters")

    def _end(self, tag: str) -> None:
        local = tag.rpartition(":")[2]
        if self._point is not None and self._text is not None:
            text = self._text.strip()
            if self._depth == self._point_depth + 1:
                self._point.fields[local] = text
            elif local not in ("ele", "time"):  # an extension's are not the point's
                self._point.fields.setdefault(local, text)
        self._text = None
        if self._point is not None and self._depth == self._point_depth:
            self._points.append(self._error_in_point or self._point)
            self.count += 1
            self._point = None
        self._depth -= 1


_NOISE = 3.0
"""Metres by which positions may be off from one point to the next."""
_MAX_SPEED = 350.0  # m/s: faster than airliners
_MIN_RUN = 5  # points between two jumps that are kept


def find_degrees(
    times: Floats, lat: Floats, lon: Floats, segments: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Returns which points are on the globe; some loggers write degrees times 1e7, or degrees and minutes."""
    return (np.abs(lat) <= 90) & (np.abs(lon) <= 180), segments


def find_fixes(
    times: Floats, lat: Floats, lon: Floats, segments: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Returns which points have a fix: receivers without one write 0, 0.

    That is a place like others if most of the other points are within a degree of it, or if there are none.
    """
    has_fix = (lat != 0) | (lon != 0)
    size = np.hypot(lat[has_fix], lon[has_fix])
    return has_fix | bool(not len(size) or np.median(size) < 1), segments


def split_jumps(
    times: Floats,
    lat: Floats,
    lon: Floats,
    segments: NDArray[np.int64],
    *,
    max_acceleration: float,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Returns which points to keep, and segments that end where positions jump.

    A step from point to point jumps if it is longer, by more than `_NOISE`, than a vehicle gets that has the
    speed of the slower of the two steps beside it and gains ``max_acceleration`` (m/s2). Fewer points than
    `_MIN_RUN` beside a jump are dropped. If the rest fits together, it remains one segment.
    """
    good = np.ones(len(times), np.bool_)
    if len(times) < 2:
        return good, segments
    distance, seconds = _distance(lat[:-1], lon[:-1], lat[1:], lon[1:]), np.diff(times)
    inside = segments[1:] == segments[:-1]
    speed = np.where(inside, distance / seconds, np.inf)
    around = np.concatenate([[np.inf], speed, [np.inf]])
    slower, span = np.minimum(around[:-2], around[2:]), np.concatenate([[0.0], seconds, [0.0]])
    reach = slower * seconds + max_acceleration * seconds * (
        seconds + np.maximum(span[:-2], span[2:])
    )
    jumps = inside & ((distance > reach + _NOISE) | (distance > _MAX_SPEED * seconds + _NOISE))
    if not jumps.any():
        return good, segments
    edges = np.flatnonzero(np.concatenate([[True], jumps | ~inside, [True]]))
    at_jump = np.concatenate([[False], jumps, [False]])
    runs = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    enough = min(_MIN_RUN, max(end - start for start, end in runs))
    own, count, last = segments.copy(), 0, -1  # index of the last point that is kept
    for start, end in runs:
        if end - start < enough and (at_jump[start] or at_jump[end]):
            good[start:end] = False
            continue
        if last >= 0:
            gap, metres = (
                times[start] - times[last],
                float(_distance(*_ends(lat, lon, last, start))),
            )
            beside = [v for v in (speed[last - 1 : last], speed[start : start + 1]) if len(v)]
            slower_one = min((float(v[0]) for v in beside if np.isfinite(v[0])), default=_MAX_SPEED)
            reachable = slower_one * gap + 2 * max_acceleration * gap * gap + _NOISE
            same = segments[start] == segments[last] and metres <= min(
                reachable, _MAX_SPEED * gap + _NOISE
            )
            count += not same
        own[start:end] = count
        last = end - 1
    return good, own


def _ends(lat: Floats, lon: Floats, one: int, other: int) -> tuple[Floats, ...]:
    return lat[one], lon[one], lat[other], lon[other]


def fill_motion(
    times: Floats, columns: Mapping[str, Floats], segments: NDArray[np.int64]
) -> dict[str, Floats]:
    """Returns ``speed`` (m/s) and ``heading`` (degrees clockwise from north), derived where missing.

    Both are central differences, one-sided at the ends of a segment: the distance along the track from the
    point before to the point after divided by the time, and the initial bearing between the two points. If
    both are at one place, the heading is the last known one of the segment, or the next. A segment of one
    point has neither. The times (seconds) and the numbers of the points' segments rise.
    """
    lat, lon, none = columns["lat"], columns["lon"], np.full(len(times), np.nan)
    index = np.arange(len(times))
    first = np.searchsorted(segments, segments, side="left")
    last = np.searchsorted(segments, segments, side="right") - 1
    before, after = np.maximum(index - 1, first), np.minimum(index + 1, last)
    distance = np.concatenate([[0.0], np.cumsum(_distance(lat[:-1], lon[:-1], lat[1:], lon[1:]))])
    with np.errstate(invalid="ignore"):  # 0 / 0 in a segment of one point
        speed = (distance[after] - distance[before]) / (times[after] - times[before])
    ends = lat[before], lon[before], lat[after], lon[after]
    heading = np.where(_distance(*ends) > 0, _bearing(*ends), np.nan)
    written_speed, written_heading = columns.get("speed", none), columns.get("heading", none)
    heading = np.where(np.isnan(written_heading), heading, np.mod(written_heading, 360.0))
    known = ~np.isnan(heading)
    previous = np.maximum.accumulate(np.where(known, index, -1))
    following = np.minimum.accumulate(np.where(known, index, len(times))[::-1])[::-1]
    held = np.where(previous >= first, previous, np.where(following <= last, following, index))
    return {
        "speed": np.where(np.isnan(written_speed), speed, written_speed),
        "heading": heading[held],
    }


def _distance(lat1: Floats, lon1: Floats, lat2: Floats, lon2: Floats) -> Floats:
    """Returns metres on the great circle, by the haversine formula (Sinnott 1984, Virtues of the Haversine).

    See https://www.movable-type.co.uk/scripts/latlong.html for this and for the bearing.
    """
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    half_phi, half_lambda = (phi2 - phi1) / 2, np.radians(lon2 - lon1) / 2
    a = np.sin(half_phi) ** 2 + np.cos(phi1) * np.cos(phi2) * np.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.minimum(a, 1.0)))


def _bearing(lat1: Floats, lon1: Floats, lat2: Floats, lon2: Floats) -> Floats:
    """Returns the initial bearing on the great circle, in [0, 360) degrees clockwise from north."""
    phi1, phi2, delta = np.radians(lat1), np.radians(lat2), np.radians(lon2 - lon1)
    east = np.sin(delta) * np.cos(phi2)
    north = np.cos(phi1) * np.sin(phi2) - np.sin(phi1) * np.cos(phi2) * np.cos(delta)
    degrees = np.mod(np.degrees(np.arctan2(east, north)), 360.0)
    # The remainder of a tiny negative angle is 360.
    return np.where(degrees < 360.0, degrees, 0.0)
