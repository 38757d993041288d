"""Options of dash-cam footage: where labels and signals stand, and how they meet the frames."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from string import Formatter
from typing import Literal

import jmespath

from pipelines.errors import UsageError
from pipelines.options.checks import check, check_choice, check_names
from tfrecords_schema.spec import SignalSpec, SpecError

TimeUnit = Literal["s", "ms", "us"]
TimeOrigin = Literal["file", "clock"]
Interpolate = Literal["linear", "nearest", "hold"]


@dataclass(frozen=True, kw_only=True)
class AnnotationOptions:
    """Where the label of a folder of frames stands.

    Attributes:
        annotation: name of a JSON file in each folder.
        label: JMESPath expression (https://jmespath.org) that finds the label in it.
    """

    annotation: str
    label: str

    def __post_init__(self) -> None:
        check(
            bool(self.annotation) and "/" not in self.annotation,
            "--annotation must be the name of a file in each folder, such as annotation.json",
            repr(self.annotation),
        )
        try:
            jmespath.compile(self.label)
        except jmespath.exceptions.JMESPathError as error:
            reason = " ".join(str(error).split())
            raise UsageError(
                "--label must be a JMESPath expression, such as '[0].velocity', "
                f"got {self.label!r}: {reason}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class TelemetryOptions:
    """What is measured along a drive, where it stands and how it meets the frames.

    Attributes:
        telemetry: path of a video's telemetry, relative to the video's folder, with ``{stem}`` (the file's
            name without its extension), ``{name}`` (with it), ``{parent}`` (its folder) and ``{drive}``.
        telemetry_columns: names of the columns, for files without a header.
        time_column: column of times; None: row i belongs to frame i.
        time_unit: of numbers in it.
        time_offset: seconds added to the telemetry's times.
        time_origin: ``file``: times count from the first frame, and dates from the telemetry's first;
            ``clock``: times are dates or seconds since 1970 (UTC), and the video's creation time is its first
            frame's.
        interpolate: how a value between two rows is found.
        max_gap: seconds between two rows beyond which nothing is interpolated.
        angle_columns: columns of degrees, which go around: 359 and 1 are 2 apart.
        signal_columns: columns that become input signals, one each.
        signal_units: of the signals.
        no_images: sequences of signals alone, from the telemetry alone.
        join: regular expression with two groups (named ``drive`` and ``order``, or not), the drive's name and
            the order of the file in it (or one, the drive's name), searched in each video's path relative to
            the input; None: a video is a drive.
    """

    telemetry: str | None = None
    telemetry_columns: tuple[str, ...] = ()
    time_column: str | None = None
    time_unit: TimeUnit = "s"
    time_offset: float = 0.0
    time_origin: TimeOrigin = "file"
    interpolate: Interpolate = "linear"
    max_gap: float = 2.0
    angle_columns: tuple[str, ...] = ()
    signal_columns: tuple[str, ...] = ()
    signal_units: tuple[str, ...] = ()
    no_images: bool = False
    join: str | None = None

    def __post_init__(self) -> None:
        check(
            self.telemetry is not None or self.no_images,
            "--telemetry must say where a video's telemetry lies, such as '{stem}.csv'",
            "none",
        )
        _check_template(self.telemetry or "")
        for flag in ("telemetry_columns", "angle_columns", "signal_columns"):
            check_names(f"--{flag}", getattr(self, flag))
        check(
            not self.signal_units or len(self.signal_units) == len(self.signal_columns),
            f"--signal_units must name as many units as --signal_columns names columns "
            f"({len(self.signal_columns)})",
            len(self.signal_units),
        )
        check_choice("--time_unit", self.time_unit, TimeUnit)
        check_choice("--time_origin", self.time_origin, TimeOrigin)
        check_choice("--interpolate", self.interpolate, Interpolate)
        check(math.isfinite(self.time_offset), "--time_offset must be finite", self.time_offset)
        check(0 < self.max_gap < math.inf, "--max_gap must be above 0 s, and finite", self.max_gap)
        self._check_times()
        check(
            not (self.no_images and self.join),
            "--join is for videos; leave it out for --no_images",
            f"--join {self.join!r}",
        )
        check(
            not self.no_images or bool(self.signal_columns),
            "--no_images needs --signal_columns to make sequences of",
            "none",
        )
        if self.join is not None:
            try:
                pattern = re.compile(self.join)
            except (re.error, OverflowError, RecursionError) as error:
                raise UsageError(
                    f"--join must be a regular expression, got {self.join!r}: {error}"
                ) from error
            groups, names = pattern.groups, set(pattern.groupindex)
            check(
                not names or names == {"drive", "order"} or (names == {"drive"} and groups == 1),
                "the groups of --join must be named drive and order, or not be named",
                repr(self.join),
            )
            check(
                groups in (1, 2),
                r"--join must capture the drive, and the order of the file in it, such as '(\w+)_(\d+)\.mp4'",
                f"{self.join!r} with {groups} groups",
            )
        try:
            self.signals  # noqa: B018 - names that cannot be keys of a record are refused
        except SpecError as error:
            raise UsageError(f"--signal_columns: {error}: rename the column") from error

    def has_times(self, path: str) -> bool:
        """Whether the rows of the telemetry at ``path`` have times; else they belong to frames in order."""
        return self.time_column is not None or path.lower().endswith(".gpx")

    def _check_times(self) -> None:
        """Times that are not read cannot be shifted."""
        may_have_times = self.telemetry is None or self.has_times(self.telemetry)
        plain = TelemetryOptions.__dataclass_fields__
        for flag in ("time_unit", "time_offset", "time_origin", "interpolate", "max_gap"):
            check(
                may_have_times or getattr(self, flag) == plain[flag].default,
                f"--{flag} goes with --time_column, which names the column of times",
                f"--{flag} {getattr(self, flag)}",
            )

    @property
    def signals(self) -> tuple[SignalSpec, ...]:
        """What the signal columns become in records."""
        units = self.signal_units or ("",) * len(self.signal_columns)
        return tuple(
            SignalSpec(name=name, unit=unit)
            for name, unit in zip(self.signal_columns, units, strict=True)
        )


_TEMPLATE_FIELDS = ("stem", "name", "parent", "drive")


def _check_template(template: str) -> None:
    expected = "--telemetry may hold {stem}, {name}, {parent} and {drive}, such as '{stem}.csv'"
    try:
        parsed = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError:
        parsed = [("", "{", "", None)]
    plain = all(
        name in _TEMPLATE_FIELDS and not specification and conversion is None
        for _, name, specification, conversion in parsed
    )
    check(plain, expected, repr(template))
