"""Options of dash-cam footage: places of labels and signals, and their assignment to frames."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from decimal import Decimal
from string import Formatter
from typing import Literal

from pipelines.errors import UsageError
from pipelines.options.base import PipelineOptions, has_pattern, names
from pipelines.options.formulas import Formula, FormulaError, parse_formula
from tfrecords_schema.options import REQUIRED, option
from tfrecords_schema.spec import SignalSpec, SpecError

TimeUnit = Literal["s", "ms", "us", "hhmmss"]
TimeOrigin = Literal["file", "first_row", "clock"]
Interpolate = Literal["linear", "nearest", "hold"]

EMBEDDED = "embedded"
VIDEO_SUFFIXES = (".mp4", ".mov", ".360", ".m4v", ".3gp")
"""Videos that may hold telemetry."""
_TIMED = (".gpx", ".nmea", *VIDEO_SUFFIXES)  # telemetry whose form has times
TELEMETRY_DEFAULTS = {
    "decimal_mark": "point",
    "min_overlap": 0.1,
    "max_acceleration": 10.0,
    "label_ahead": (),
    "derive": (),
}
"""Options that descriptions of datasets leave out unless they are changed, as before there were any."""

_MAX_STEPS = 1000
_TEMPLATE_FIELDS = {(name, "", None) for name in ("stem", "name", "parent", "drive")}
_TIME_OPTIONS = (
    *("time_unit", "time_offset", "time_origin", "interpolate", "max_gap"),
    *("min_overlap", "max_acceleration", "label_ahead"),
)


def _parse_ahead(text: str) -> tuple[float, ...]:
    """Returns the seconds in ``"0.5"``, ``"0.5,1"`` or ``"0.1:1.0:0.1"``, whose end is included."""
    if ":" not in text:
        return tuple(map(float, text.split(",")))
    start, end, step = map(Decimal, text.split(":"))
    if not 0 < step <= end - start <= _MAX_STEPS * step:
        raise ValueError(text)
    return tuple(float(start + step * index) for index in range(int((end - start) / step) + 1))


@dataclass(frozen=True, kw_only=True)
class AnnotationOptions(PipelineOptions):
    """Place of the label of a folder of frames."""

    annotation: str = option(
        REQUIRED, "Name of the JSON file in each folder of frames", metavar="FILE.json"
    )
    label: str = option(
        REQUIRED,
        "JMESPath expression (https://jmespath.org) that finds the label in --annotation, such as "
        "'[0].velocity'. Numbers are targets, text is a class",
        metavar="EXPRESSION",
    )

    def check_combination(self) -> None:
        """Checks the name of the file and the expression."""
        self.require(
            bool(self.annotation) and "/" not in self.annotation,
            "--annotation must be the name of a file in each folder, such as annotation.json, "
            f"got {self.annotation!r}",
        )
        import jmespath  # takes a tenth of the start of the command line

        try:
            jmespath.compile(self.label)
        except jmespath.exceptions.JMESPathError as error:
            reason = " ".join(str(error).split())
            raise UsageError(
                "--label must be a JMESPath expression, such as '[0].velocity', "
                f"got {self.label!r}: {reason}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class TelemetryOptions(PipelineOptions):
    """Measurements of a drive, and the assignment of their rows to frames."""

    telemetry: str | None = option(
        None,
        "Telemetry file of a video (.csv .tsv .jsonl .json .gpx .nmea .npy .txt), relative to the video's "
        "folder, such as '{stem}.csv' or '{parent}/gps.gpx'. {stem} is the video's name without its "
        "extension, {name} with it, {parent} its folder and {drive} its drive. embedded: in the video itself",
        metavar="TEMPLATE",
    )
    telemetry_columns: tuple[str, ...] = names("Names of the columns, for files without a header")
    time_column: str | None = option(
        None,
        "Column of times",
        default_text="none, and row i belongs to frame i",
        metavar="COLUMN",
    )
    time_unit: TimeUnit = option(
        "s",
        "Unit of numbers in --time_column. hhmmss: times of day, such as 095959.25 or 09:59:59.25, which "
        "count from the first row",
    )
    decimal_mark: Literal["point", "comma"] = option(
        "point", "Decimal mark of numbers in text, 13.5 or 13,5"
    )
    time_offset: float = option(0.0, "Seconds added to the times of the telemetry", metavar="S")
    time_origin: TimeOrigin = option(
        "file",
        "What times count from. file: the first frame, and dates count from the first date; first_row: the "
        "first row, which was taken with the first frame; clock: times are dates or seconds since 1970 "
        "(UTC), and the first frame was taken at the video's creation time",
    )
    interpolate: Interpolate = option("linear", "How a value between two rows is computed")
    max_gap: float = option(
        2.0,
        "Seconds between two rows beyond which there are no values, and sequences end",
        above=0,
        unit="s",
        metavar="S",
    )
    min_overlap: float = option(
        0.1,
        "Share of the footage, or of the telemetry if that is shorter, that must have both. With less, the "
        "drive is left out, and an offset that would fit is named",
        min=0,
        max=1,
        metavar="SHARE",
    )
    max_acceleration: float = option(
        10.0,
        "Change of speed in a second that positions of GPX may show. Single points that lie 3 m farther away "
        "are left out, and nothing is derived across other jumps",
        above=0,
        unit="m/s2",
        metavar="M/S2",
    )
    label_ahead: tuple[float, ...] = option(
        (),
        "Seconds after the last frame of a sequence at which --label_columns are taken, such as 0.5, or a "
        "forecast of several times: 0.5,1 or 0.1:1.0:0.1 (start, end and step). The targets are named "
        "speed@0.5 and so on",
        default_text="none, and --label_at says which frame's value is taken",
        parse=_parse_ahead,
        metavar="S|START:END:STEP",
        expected="seconds such as 0.5, 0.5,1 or 0.1:1.0:0.1 (start, end and step, at most 1000 steps)",
    )
    angle_columns: tuple[str, ...] = names("Columns of degrees, where 359 and 1 are 2 apart")
    derive: tuple[str, ...] = option(
        (),
        "Columns that are computed from those of the file, such as 'accel=d(speed),kmh=speed*3.6': names, "
        "numbers, + - * /, parentheses, and d(x), the change of x per second",
        metavar="NAME=FORMULA",
    )
    signal_columns: tuple[str, ...] = names(
        "Columns of the telemetry that become input signals, or patterns such as 'x*'"
    )
    signal_units: tuple[str, ...] = option(
        (), "Units of the signals, in their order, such as m/s,rad/s", metavar="UNIT"
    )
    no_images: bool = option(
        False, "Build sequences of signals alone. --input holds telemetry, and no video is read"
    )
    join: str | None = option(
        None,
        r"Regular expression, such as '(\w+)_(\d+)\.mp4', that finds the drive of a file and the order of "
        "the file in it. The files of a drive are read as one. The groups may be named drive and order, "
        "and the order may be left out",
        default_text="each video is a drive",
        metavar="REGEX",
    )

    def check_combination(self) -> None:
        """Checks that the options fit the telemetry, its times and each other."""
        if self.telemetry is None and not self.no_images:
            changed = self.changed()
            raise UsageError(
                f"--{changed[0]} needs --telemetry, which names the telemetry file of a drive"
                if changed
                else "--telemetry must name the telemetry file of a video, such as '{stem}.csv', got none"
            )
        self._check_template()
        self.require(
            not self.signal_units
            or len(self.signal_units) == len(self.signal_columns)
            or has_pattern(self.signal_columns),
            f"--signal_units must name one unit for each of the {len(self.signal_columns)} in "
            f"--signal_columns, got {len(self.signal_units)}",
        )
        has_times = self.telemetry is None or self.has_times(self.telemetry)
        self.require(
            self.time_unit != "hhmmss" or self.time_origin != "clock",
            "--time_origin clock needs dates, but --time_unit hhmmss gives times of day without them. "
            "Use --time_origin file",
        )
        if not has_times and (changed := self.changed(_TIME_OPTIONS)):
            raise UsageError(
                f"--{changed[0]} needs --time_column, which names the column of times, "
                f"got {self.typed(changed[:1])}"
            )
        self.require(
            len(set(self.label_ahead)) == len(self.label_ahead)
            and all(0 <= seconds < math.inf for seconds in self.label_ahead),
            f"--label_ahead must name times from 0 s on, each once, got {self.typed(('label_ahead',))}",
        )
        formulas = self.formulas
        if timed := [name for name, own in formulas.items() if own.needs_times and not has_times]:
            raise UsageError(
                f"--derive {timed[0]} has a change per second, which needs --time_column"
            )
        self.require(
            len(formulas) == len(self.derive),
            f"--derive must name each column once, got {self.typed(('derive',))}",
        )
        self.require(
            not self.no_images or bool(self.signal_columns),
            "--no_images needs --signal_columns to make sequences of, got none",
        )
        if self.join is not None:
            self._check_join()
        try:
            if not has_pattern(self.signal_columns):
                self.signals  # noqa: B018 (raises for names that cannot be keys of a record)
        except SpecError as error:
            raise UsageError(f"--signal_columns: {error}. Rename the column") from error

    def has_times(self, path: str) -> bool:
        """Returns True if the rows of the telemetry at ``path`` have times, False if row i is frame i."""
        return self.time_column is not None or path == EMBEDDED or path.lower().endswith(_TIMED)

    @property
    def formulas(self) -> dict[str, Formula]:
        """The formulas by the names of their columns; raises `UsageError` for what is none."""
        found = {}
        for text in self.derive:
            name, mark, formula = text.partition("=")
            try:
                if not (mark and name.strip()):
                    raise FormulaError("it does not begin with a name and =")
                found[name.strip()] = parse_formula(formula)
            except FormulaError as error:
                raise UsageError(
                    f"--derive must hold formulas such as accel=d(speed), got {text!r}: {error}"
                ) from error
        return found

    def source_of(self, target: str) -> tuple[str, float]:
        """Returns the column that a target or signal is read from, and the seconds ahead of the frame."""
        column, mark, seconds = target.rpartition("@")
        return (column, float(seconds)) if self.label_ahead and mark else (target, 0.0)

    @property
    def angle_sources(self) -> frozenset[str]:
        """The columns of angles in the file, whose values ahead of a frame may be targets."""
        return frozenset(self.source_of(name)[0] for name in self.angle_columns)

    @property
    def template(self) -> str:
        """The template of the telemetry file of a video: of the video itself if its own is read."""
        return "{name}" if self.telemetry == EMBEDDED else self.telemetry or ""

    @property
    def signals(self) -> tuple[SignalSpec, ...]:
        """The specs of the signal columns."""
        named = itertools.zip_longest(self.signal_columns, self.signal_units, fillvalue="")
        return tuple(SignalSpec(name=name, unit=unit) for name, unit in named)

    def _check_template(self) -> None:
        try:
            fields = {f[1:] for f in Formatter().parse(self.telemetry or "") if f[1] is not None}
        except ValueError:
            fields = {("{", "", None)}
        self.require(
            fields <= _TEMPLATE_FIELDS,  # without format or conversion
            "--telemetry may hold {stem}, {name}, {parent} and {drive}, such as '{stem}.csv', "
            f"got {self.telemetry!r}",
        )

    def _check_join(self) -> None:
        self.require(
            not self.no_images,
            f"--join is for videos. Leave it out for --no_images, got --join {self.join!r}",
        )
        pattern = self.compile_pattern("join")
        groups, names = pattern.groups, set(pattern.groupindex)
        self.require(
            not names or names == {"drive", "order"} or (names == {"drive"} and groups == 1),
            f"the groups of --join must be named drive and order, or not be named, got {self.join!r}",
        )
        self.require(
            groups in (1, 2),
            r"--join must capture the drive, and the order of the file in it, such as '(\w+)_(\d+)\.mp4', "
            f"got {self.join!r} with {groups} groups",
        )
