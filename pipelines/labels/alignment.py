"""Matches telemetry to frames by time or by row: pure arithmetic on rows, no files.

Each column is interpolated separately, over the rows in which it has a value. Between two rows that are more
than ``max_gap`` apart it has none. The first and last value also hold for half a row interval beyond, because
rows represent their neighbourhood and written times are rounded.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.labels.cells import TelemetryError
from pipelines.labels.rows import Telemetry, add_dropped
from pipelines.labels.table import Dropped
from pipelines.options.telemetry import Interpolate

# Times closer than this are equal: a float of seconds since 1970 has no more digits.
_MICROSECOND = 1e-6


@dataclass(frozen=True)
class Aligned:
    """The telemetry of one frame.

    Attributes:
        values: of the requested columns, in order.
        class_name: the class; None if none was requested.
        distance: seconds between the two rows used, the largest of all columns; 0 at a row.
    """

    values: tuple[float, ...]
    class_name: str | None
    distance: float


class Alignment:
    """Looks up numeric ``columns`` of telemetry, and its classes if it has any, at any time or in any row.

    Example: rows at 0, 1 and 2 s with speeds 10, 20 and 40, and ``interpolate="linear"``. At 1.5 s the value
    is 30 and the distance 1.0; at 2.5 s the value is 40 and the distance 0; at 2.6 s there is none.

    ``linear`` interpolates between two rows that are at most ``max_gap`` seconds apart, ``nearest`` takes the
    earlier of two equally near, and ``hold`` the row before. Classes are not interpolated: ``linear`` takes
    the nearest. Columns of degrees turn the shorter way; their values are in [0, 360). Columns that are
    ``ahead``, by so many seconds, are NaN where they have no value then.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        columns: Sequence[str],
        interpolate: Interpolate,
        max_gap: float,
        angle_columns: Collection[str] = (),
        ahead: Sequence[float] = (),
    ):
        self._has_classes = bool(telemetry.classes)
        # Of the columns, then of the classes.
        self._values: list[Sequence[Any]] = [
            array("d", telemetry.columns[column].tobytes()) for column in columns
        ]
        self._ways = [interpolate] * len(columns)
        self._angles = [column in angle_columns for column in columns]
        self._ahead = [*(ahead or [0.0] * len(columns)), 0.0]
        self._axes: list[_Axis] | None = None
        known = [~np.isnan(telemetry.columns[column]) for column in columns]
        if self._has_classes:
            self._values.append(telemetry.classes)
            self._ways.append("hold" if interpolate == "hold" else "nearest")
            self._angles.append(False)
            known.append(np.array([name is not None for name in telemetry.classes]))
        if telemetry.times is not None:
            # Usually each row has all values, so that all columns share one axis.
            axes = {rows.tobytes(): _Axis(telemetry.times, rows, max_gap) for rows in known}
            self._axes = [axes[rows.tobytes()] for rows in known]

    def at_time(self, seconds: float) -> Aligned | None:
        """Returns the telemetry at ``seconds``; None outside of the rows, and in a gap of any column."""
        if self._axes is None:
            raise ValueError(
                "expected telemetry with times, got rows that belong to frames: use at_row"
            )
        found_values, distance = [], 0.0
        columns = zip(self._axes, self._values, self._ways, self._angles, self._ahead, strict=False)
        for axis, values, way, is_angle, ahead in columns:
            found = axis.around(seconds + ahead)
            if found is None and ahead:
                found_values.append(math.nan)
                continue
            if found is None:
                return None
            value = values[found.nearest if way == "nearest" else found.before]
            if way == "linear" and found.gap:
                change = values[found.after] - value
                if is_angle:
                    change = (change + 180.0) % 360.0 - 180.0  # the shorter way
                value += found.fraction * change
            found_values.append(value)
            distance = max(distance, found.gap)
        return self._aligned(found_values, distance)

    def at_row(self, row: int) -> Aligned | None:
        """Returns the telemetry in ``row``; None if it does not exist or lacks a value."""
        if not 0 <= row < len(self._values[0]):
            return None
        values = [column[row] for column in self._values]
        if any(value is None or value != value for value in values):  # NaN is not itself
            return None
        return self._aligned(values, 0.0)

    def _aligned(self, values: list[Any], distance: float) -> Aligned:
        class_name = values.pop() if self._has_classes else None
        columns = zip(values, self._angles, strict=False)
        turned = tuple(_turn(value) if is_angle else value for value, is_angle in columns)
        return Aligned(turned, class_name, distance)


class _Found(NamedTuple):
    """The rows around a time, its fraction of the way between them, and the seconds between them."""

    before: int
    after: int
    nearest: int
    fraction: float
    gap: float


class _Axis:
    """The times of the rows in which one column has a value."""

    def __init__(self, times: NDArray[np.float64], known: NDArray[np.bool_], max_gap: float):
        own = times[known]
        self._times = array("d", own.tobytes())
        self._rows = array("q", np.flatnonzero(known).astype(np.int64).tobytes())
        self._max_gap = max_gap + _MICROSECOND
        interval = float(np.median(np.diff(own))) if len(own) > 1 else 0.0
        self._edge = min(interval, max_gap) / 2 + _MICROSECOND

    def around(self, seconds: float) -> _Found | None:
        """Returns the rows around ``seconds``; None in a gap, and outside of the rows."""
        times = self._times
        after = bisect_right(times, seconds)
        before = after - 1
        if 0 < after < len(times):
            early, late = seconds - times[before], times[after] - seconds
            if min(early, late) > _MICROSECOND:
                gap = times[after] - times[before]
                if gap > self._max_gap:
                    return None
                nearest = after if early - late > _MICROSECOND else before
                rows = self._rows
                return _Found(rows[before], rows[after], rows[nearest], early / gap, gap)
            nearest = before if early <= late else after
        else:
            nearest = min(after, len(times) - 1)
            if nearest < 0 or not abs(seconds - times[nearest]) <= self._edge:
                return None
        row = self._rows[nearest]
        return _Found(row, row, row, 0.0, 0.0)


def combine(
    rows: Sequence[Sequence[float]],
    label_at: Literal["last", "mean", "center"],
    angles: Sequence[bool],
) -> tuple[float, ...]:
    """Combines ``rows[frame][column]`` of a sequence, without padding, into one value per column.

    The mean of angles (degrees) is the direction of the sum of their unit vectors
    (https://en.wikipedia.org/wiki/Circular_mean), in [0, 360). If the vectors cancel out, the angle of the
    center frame, ``len(rows) // 2``, is used.
    """
    if label_at == "last":
        return tuple(rows[-1])
    center = tuple(rows[len(rows) // 2])
    if label_at == "center":
        return center
    columns = zip(zip(*rows, strict=True), center, angles, strict=True)
    return tuple(
        _mean_angle(column, own) if is_angle else math.fsum(column) / len(column)
        for column, own, is_angle in columns
    )


def _mean_angle(degrees: Sequence[float], otherwise: float) -> float:
    radians = [math.radians(angle) for angle in degrees]
    east, north = math.fsum(map(math.sin, radians)), math.fsum(map(math.cos, radians))
    if math.hypot(east, north) < 1e-9 * len(radians):
        return _turn(otherwise)
    return _turn(math.degrees(math.atan2(east, north)))


def _turn(angle: float) -> float:
    """Returns ``angle`` in [0, 360) degrees."""
    turned = angle % 360.0
    return turned if turned < 360.0 else 0.0  # the remainder of a tiny negative angle is 360


def concatenate(pieces: Sequence[tuple[Telemetry, float]]) -> Telemetry:
    """Joins the telemetry of several files of one drive by time.

    If pieces overlap, the later one wins. The overlapping rows of the earlier ones are dropped and counted as
    merged: a recorder may keep writing for a while after its video file has ended.

    Each piece has the seconds to add to its times; all have the same columns.
    """
    dates = {piece.dates for piece, _ in pieces}
    if len(dates) > 1:
        raise TelemetryError(
            "expected times of one kind in all files of a drive, got dates in some and numbers in others: "
            "write all times as dates, or all as numbers"
        )
    shifted = [piece.times + seconds for piece, seconds in pieces if piece.times is not None]
    if len(shifted) != len(pieces):
        raise ValueError(
            "expected telemetry with times in each file, got rows that belong to frames"
        )
    kept: list[NDArray[np.float64]] = []
    end = np.inf
    for own in reversed(shifted):
        kept.insert(0, own[: np.searchsorted(own, end)])
        end = min(end, own[0])
    dropped = sum(map(len, shifted)) - sum(map(len, kept))
    joined = _join([(piece, len(own)) for (piece, _), own in zip(pieces, kept, strict=True)])
    return replace(
        joined,
        times=np.concatenate(kept),
        dates=dates.pop(),
        merged_rows=joined.merged_rows + dropped,
    )


def concatenate_rows(pieces: Sequence[tuple[Telemetry, int]]) -> Telemetry:
    """Joins the telemetry of the files of one drive by row, so that row i belongs to frame i of the drive.

    Each piece has the number of its frames. Missing rows have no values, surplus rows are dropped.
    """
    if any(piece.times is not None for piece, _ in pieces):
        raise ValueError("expected telemetry whose rows belong to frames, got times")
    return _join(pieces)


def _join(pieces: Sequence[tuple[Telemetry, int]]) -> Telemetry:
    """Joins the first rows of each piece, as many as its number says, without their times."""

    def fit(values: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
        return np.concatenate([values[:rows], np.full(max(rows - len(values), 0), np.nan)])

    columns = {
        column: np.concatenate([fit(piece.columns[column], rows) for piece, rows in pieces])
        for column in pieces[0][0].columns
    }
    classes: list[str | None] = []
    if any(piece.classes for piece, _ in pieces):
        for piece, rows in pieces:
            classes += [*piece.classes[:rows], *[None] * (rows - len(piece.classes))]
    merged = sum(piece.merged_rows for piece, _ in pieces)
    dropped: Dropped = {}
    for piece, _ in pieces:
        add_dropped(dropped, piece)
    return Telemetry(None, False, columns, tuple(classes), merged, dropped)
