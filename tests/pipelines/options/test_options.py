"""Options of builds: their checks, and the flags that set them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.cli import VERBS, make_parser
from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import (
    DatasetOptions,
    ImageOptions,
    LabelOptions,
    RunOptions,
    SamplingOptions,
    ShardOptions,
    SplitOptions,
)
from pipelines.options.telemetry import (
    TELEMETRY_DEFAULTS,
    AnnotationOptions,
    TelemetryOptions,
)
from tfrecords_schema.command_line import normalize
from tfrecords_schema.machine import usable_cpus
from tfrecords_schema.options import make_options, parse_bytes, parse_fraction, parse_size
from tfrecords_schema.spec import ImageSpec, SignalSpec

GROUPS = (SamplingOptions, ImageOptions, SplitOptions, ShardOptions, LabelOptions)
NAN, INF = float("nan"), float("inf")


def annotated(**fields: Any) -> AnnotationOptions:
    return AnnotationOptions(**{"annotation": "a.json", "label": "[0].velocity", **fields})


def measured(**fields: Any) -> TelemetryOptions:
    return TelemetryOptions(**{"telemetry": "{stem}.csv", **fields})


class TestOptions:
    @pytest.mark.parametrize(
        ("group", "fields", "expected", "received"),
        [
            (
                SamplingOptions,
                {"num_frames": 0},
                "--num_frames must be a whole number of at least 1",
                "0",
            ),
            (
                SamplingOptions,
                {"num_frames": -3},
                "--num_frames must be a whole number of at least 1",
                "-3",
            ),
            (
                SamplingOptions,
                {"frame_rate": Fraction(0)},
                "--frame_rate must be a number above 0 and",
                "0",
            ),
            (SamplingOptions, {"frame_rate": Fraction(-1, 2)}, "--frame_rate must be", "-1/2"),
            (SamplingOptions, {"frame_rate": Fraction(1001)}, "at most 1000 frames/s", "1001"),
            (SamplingOptions, {"stride": 0}, "--stride must be a whole number of at least 1", "0"),
            (
                SamplingOptions,
                {"sampling": "random"},
                "--sampling must be windows, uniform or last",
                "random",
            ),
            (
                SamplingOptions,
                {"short_clips": "keep"},
                "--short_clips must be drop, pad or loop",
                "keep",
            ),
            (
                SamplingOptions,
                {"sampling": "uniform", "stride": 4},
                "--stride needs --sampling windows. Leave it out for --sampling uniform",
                "--stride 4",
            ),
            (
                SamplingOptions,
                {"sampling": "last", "stride": 1},
                "--stride needs --sampling windows. Leave it out for --sampling last",
                "--stride 1",
            ),
            (
                ImageOptions,
                {"size": (0, 320)},
                "--size must be HEIGHTxWIDTH in pixels, such as 180x320, each from 1 to 16384",
                "0x320",
            ),
            (ImageOptions, {"size": (180, 16385)}, "--size must be", "180x16385"),
            (ImageOptions, {"resize": "fit"}, "--resize must be stretch, crop or letterbox", "fit"),
            (
                ImageOptions,
                {"interpolation": "best"},
                "--interpolation must be area, nearest, linear, cubic or lanczos",
                "best",
            ),
            (ImageOptions, {"image_format": "webp"}, "--image_format must be jpeg or png", "webp"),
            (
                ImageOptions,
                {"jpeg_quality": 0},
                "--jpeg_quality must be a whole number from 1 to 100",
                "0",
            ),
            (
                ImageOptions,
                {"jpeg_quality": 101},
                "--jpeg_quality must be a whole number from 1 to 100",
                "101",
            ),
            (SplitOptions, {"splits": ()}, "--splits must be NAME=FRACTION", "sum 0"),
            (SplitOptions, {"splits": (("a", 0.5), ("a", 0.5))}, "--splits must", "a=0.5,a=0.5"),
            (SplitOptions, {"splits": (("a/b", 1.0),)}, "--splits must", "a/b=1"),
            (SplitOptions, {"splits": (("", 1.0),)}, "--splits must", "=1"),
            (SplitOptions, {"splits": (("Fit", 1.0),)}, "--splits must", "Fit=1"),
            (
                SplitOptions,
                {"splits": (("train", 0.8), ("val", 0.1), ("valid", 0.1))},
                "each split once",
                "train=0.8,val=0.1,valid=0.1",
            ),
            (
                SplitOptions,
                {"split_by": "time", "stratify": True},
                "--split_by time cuts every source into all splits. Leave out flags",
                "--stratify on",
            ),
            (SplitOptions, {"splits": (("a", 1.5), ("b", -0.5))}, "--splits must", "a=1.5,b=-0.5"),
            (SplitOptions, {"splits": (("a", NAN),)}, "--splits must", "a=nan"),
            (SplitOptions, {"splits": (("a", 0.8), ("b", 0.1))}, "sum to 1", "(sum 0.9)"),
            (SplitOptions, {"group_by": "("}, "--group_by must be a regular expression", "'('"),
            (SplitOptions, {"group_by": "a"}, "must capture exactly one group", "'a' with 0"),
            (SplitOptions, {"group_by": "(a)(b)"}, "exactly one group", "'(a)(b)' with 2"),
            (SplitOptions, {"group_by": "(a{9999999999})"}, "a regular expression", "too large"),
            (SplitOptions, {"split_by": "drive"}, "--split_by must be group or time", "drive"),
            (
                SplitOptions,
                {"split_by": "time", "group_by": "(a)"},
                "--split_by time cuts every source into all splits. Leave out flags for groups",
                "--group_by (a)",
            ),
            (
                SplitOptions,
                {"split_by": "time", "split_lists": ("a.txt",)},
                "Leave out flags for groups and lists",
                "--split_list a.txt",
            ),
            (ShardOptions, {"shards": 0}, "--shards must be a whole number from 1 to 99999", "0"),
            (
                ShardOptions,
                {"shards": 100_000},
                "--shards must be a whole number from 1 to 99999",
                "100000",
            ),
            (
                ShardOptions,
                {"shard_size": 0},
                "--shard_size must be a size of at least 1 byte, such as 128MiB",
                "0",
            ),
            (
                ShardOptions,
                {"segment_length": 0.0},
                "--segment_length must be a finite number above 0 s",
                "0",
            ),
            (ShardOptions, {"segment_length": NAN}, "--segment_length must be", "nan"),
            (ShardOptions, {"segment_length": INF}, "--segment_length must be", "inf"),
            (
                LabelOptions,
                {"label_columns": ("a", "a")},
                "--label_columns must be distinct names",
                "a,a",
            ),
            (
                LabelOptions,
                {"label_columns": ("a", "")},
                "--label_columns must be distinct names, separated by commas",
                "a,",
            ),
            (
                LabelOptions,
                {"label_names": ("a", "a")},
                "--label_names must be distinct names",
                "a,a",
            ),
            (LabelOptions, {"label_names": ("",)}, "--label_names must be distinct names", ""),
            (
                LabelOptions,
                {"label_columns": ("a", "b"), "label_names": ("c",)},
                "--label_names needs --annotation. Columns have their own names",
                "--label_columns a,b too",
            ),
            (
                LabelOptions,
                {"label_columns": ("a", "b"), "label_units": ("m",)},
                "--label_units must name one unit for each of the 2 in --label_columns",
                "1",
            ),
            (
                LabelOptions,
                {"label_names": ("a", "b", "c"), "label_units": ("m", "s")},
                "--label_units must name one unit for each of the 3 in --label_names",
                "2",
            ),
            (
                LabelOptions,
                {"label_at": "first"},
                "--label_at must be last, mean, center or each",
                "first",
            ),
            (
                LabelOptions,
                {"class_column": "state", "label_columns": ("a",)},
                "labels must be classes (--class_column) or numbers (--label_columns)",
                "both",
            ),
            (
                LabelOptions,
                {"class_column": "state", "label_at": "mean"},
                "--label_at mean needs numbers. For --class_column take last, center or each",
                "--label_at mean",
            ),
            (annotated, {"annotation": ""}, "--annotation must be the name of a file", "''"),
            (annotated, {"annotation": "a/b.json"}, "such as annotation.json", "'a/b.json'"),
            (annotated, {"label": "[0"}, "--label must be a JMESPath expression", "'[0': "),
            (annotated, {"label": ""}, "such as '[0].velocity'", "'': "),
            (annotated, {"label": "nothing(@"}, "--label must be", "'nothing(@'"),
            (
                measured,
                {"telemetry": None},
                "--telemetry must name the telemetry file of a video, such as '{stem}.csv'",
                "none",
            ),
            (measured, {"telemetry": "{file}.csv"}, "may hold {stem}, {name}", "'{file}.csv'"),
            (measured, {"telemetry": "{}.csv"}, "such as '{stem}.csv'", "'{}.csv'"),
            (measured, {"telemetry": "{0}.csv"}, "--telemetry may hold", "'{0}.csv'"),
            (measured, {"telemetry": "{stem.csv"}, "{parent} and {drive}", "'{stem.csv'"),
            (measured, {"telemetry": "stem}.csv"}, "--telemetry may hold", "'stem}.csv'"),
            (measured, {"telemetry": "{stem.__class__}"}, "may hold", "'{stem.__class__}'"),
            (measured, {"telemetry": "{stem:>10}.csv"}, "such as '{stem}.csv'", "'{stem:>10}.csv'"),
            (measured, {"telemetry": "{stem:{name}}"}, "--telemetry may hold", "'{stem:{name}}'"),
            (measured, {"telemetry": "{drive!r}.csv"}, "--telemetry may hold", "'{drive!r}.csv'"),
            (
                measured,
                {"telemetry_columns": ("t", "")},
                "--telemetry_columns must be distinct names, separated by commas",
                "t,",
            ),
            (measured, {"telemetry_columns": ("t", "t")}, "--telemetry_columns must be d", "t,t"),
            (measured, {"angle_columns": ("h", "h")}, "--angle_columns must be distinct", "h,h"),
            (measured, {"angle_columns": ("",)}, "--angle_columns must be distinct names", ""),
            (measured, {"signal_columns": ("", "a")}, "--signal_columns must be distinct", ",a"),
            (measured, {"signal_columns": ("a", "b", "a")}, "must be distinct names", "a,b,a"),
            (
                measured,
                {"signal_columns": ("a", "b"), "signal_units": ("m",)},
                "--signal_units must name one unit for each of the 2 in --signal_columns",
                "1",
            ),
            (measured, {"signal_units": ("m",)}, "for each of the 0 in --signal_columns", "1"),
            (measured, {"time_unit": "h"}, "--time_unit must be s, ms, us or hhmmss", "h"),
            (
                measured,
                {"time_origin": "gps"},
                "--time_origin must be file, first_row or clock",
                "gps",
            ),
            (
                measured,
                {"interpolate": "cubic"},
                "--interpolate must be linear, nearest or hold",
                "cubic",
            ),
            (measured, {"time_offset": NAN}, "--time_offset must be a finite number", "nan"),
            (measured, {"time_offset": -INF}, "--time_offset must be a finite number", "-inf"),
            (measured, {"max_gap": 0.0}, "--max_gap must be a finite number above 0 s", "0"),
            (measured, {"max_gap": INF}, "--max_gap must be a finite number above 0 s", "inf"),
            (measured, {"max_gap": NAN}, "--max_gap must be a finite number above 0 s", "nan"),
            (
                measured,
                {"no_images": True},
                "--no_images needs --signal_columns to make sequences of",
                "none",
            ),
            (measured, {"join": "("}, "--join must be a regular expression", "'(': "),
            (measured, {"join": "a{9999999999}"}, "--join must be a regular", "too large"),
            (
                measured,
                {"join": "drive"},
                r"must capture the drive, and the order of the file in it, such as '(\w+)_(\d+)\.mp4'",
                "'drive' with 0 groups",
            ),
            (measured, {"join": "(a)(b)(c)"}, "--join must capture", "'(a)(b)(c)' with 3 groups"),
            (
                measured,
                {"join": r"(?P<order>\d+)_(\w+)"},
                "the groups of --join must be named drive and order, or not be named",
                r"'(?P<order>\\d+)_(\\w+)'",
            ),
            (measured, {"join": "(?P<drive>a)(b)"}, "named drive and order", "'(?P<drive>a)(b)'"),
            (measured, {"join": "(?P<trip>a)"}, "named drive and order", "'(?P<trip>a)'"),
            (measured, {"join": "(?P<order>a)"}, "named drive and order", "'(?P<order>a)'"),
            (
                measured,
                {"time_unit": "ms"},
                "--time_unit needs --time_column, which names the column of times",
                "--time_unit ms",
            ),
            (measured, {"time_offset": -1.5}, "needs --time_column", "--time_offset -1.5"),
            (measured, {"time_origin": "clock"}, "needs --time_column", "--time_origin clock"),
            (measured, {"interpolate": "hold"}, "needs --time_column", "--interpolate hold"),
            (measured, {"max_gap": 9.0}, "needs --time_column", "--max_gap 9"),
            (
                measured,
                {"no_images": True, "signal_columns": ("a",), "join": "(a)"},
                "--join is for videos. Leave it out for --no_images",
                "--join '(a)'",
            ),
            (
                LabelOptions,
                {"class_column": "state", "label_units": ("m", "s")},
                "--label_units are units of numbers. Leave them out for --class_column",
                "m,s",
            ),
            (RunOptions, {"workers": 0}, "--workers must be a whole number from 1 to 1024", "0"),
            (
                RunOptions,
                {"workers": 1025},
                "--workers must be a whole number from 1 to 1024",
                "1025",
            ),
            (
                RunOptions,
                {"max_failure_rate": -0.1},
                "--max_failure_rate must be a number from 0 to 1",
                "-0.1",
            ),
            (
                RunOptions,
                {"max_failure_rate": 1.1},
                "--max_failure_rate must be a number from 0 to 1",
                "1.1",
            ),
            (RunOptions, {"max_failure_rate": NAN}, "--max_failure_rate must be", "nan"),
            (
                RunOptions,
                {"decode_timeout": 0.0},
                "--decode_timeout must be a number above 0 and at most 86400 s",
                "0",
            ),
            (
                RunOptions,
                {"decode_timeout": INF},
                "--decode_timeout must be a number above 0 and at most 86400 s",
                "inf",
            ),
            (
                RunOptions,
                {"decode_timeout": NAN},
                "--decode_timeout must be a number above 0 and at most 86400 s",
                "nan",
            ),
            (
                RunOptions,
                {"staging_size": 0},
                "--staging_size must be a size of at least 1 byte",
                "0",
            ),
        ],
    )
    def test_post_init_refuses_wrong_values(self, group, fields, expected, received) -> None:
        with pytest.raises(UserError) as error:
            group(**fields)
        before, got, after = str(error.value).rpartition(", got ")
        assert got
        assert expected in before
        assert received in after
        assert "\n" not in str(error.value)

    def test_to_json_of_defaults(self) -> None:
        assert DatasetOptions(name="a").to_json() == {
            "name": "a",
            "num_frames": 16,
            "frame_rate": None,
            "stride": None,
            "sampling": "windows",
            "short_clips": "drop",
            "height": 180,
            "width": 320,
            "resize": "stretch",
            "interpolation": "area",
            "image_format": "jpeg",
            "jpeg_quality": 95,
            "grayscale": False,
            "splits": {"train": 0.8, "validation": 0.1, "test": 0.1},
            "group_by": None,
            "split_by": "group",
            "split_lists": [],
            "group_scope": "dataset",
            "unlisted": None,
            "stratify": False,
            "split_folders": "auto",
            "seed": 0,
            "shards": None,
            "shard_size": 128 * 2**20,
            "segment_length": 600.0,
            "label_columns": [],
            "label_names": [],
            "label_units": [],
            "label_at": "last",
            "class_column": None,
            "classes": [],
            "max_per_class": None,
            "class_order": "natural",
            "mirrored_columns": None,
        }
        assert TelemetryOptions(telemetry="{stem}.csv") == TelemetryOptions(
            telemetry="{stem}.csv",
            telemetry_columns=(),
            time_column=None,
            time_unit="s",
            time_offset=0.0,
            time_origin="file",
            interpolate="linear",
            max_gap=2.0,
            angle_columns=(),
            signal_columns=(),
            signal_units=(),
            no_images=False,
            join=None,
        )
        assert RunOptions() == RunOptions(
            workers=None,
            max_failure_rate=0.05,
            decode_timeout=60.0,
            staging_size=10 << 30,
            overwrite=False,
            dry_run=False,
            beam_args=(),
        )

    def test_options_are_frozen(self) -> None:
        for group in (*GROUPS, RunOptions, annotated, measured):
            options = group()
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(options, dataclasses.fields(options)[0].name, None)

    def test_splits_have_their_usual_names(self) -> None:
        options = SplitOptions(splits=(("Train", 0.7), ("val", 0.1), ("Testing", 0.1), ("b", 0.1)))
        assert [name for name, _ in options.splits] == ["train", "validation", "test", "b"]
        options = make_options(SplitOptions, {"splits": {"training": 0.5, "dev": 0.5}})
        assert options.splits == (("train", 0.5), ("validation", 0.5))

    def test_window_stride_default_is_num_frames(self) -> None:
        assert SamplingOptions(num_frames=7).window_stride == 7
        assert SamplingOptions(num_frames=7, stride=2).window_stride == 2

    def test_offsets_of_targets(self) -> None:
        options = LabelOptions(target_offset=(("t", 1.7e9),))
        assert options.offsets_of(("x", "t")) == (0.0, 1.7e9)
        assert LabelOptions().offsets_of(("x", "t")) == ()
        stored = DatasetOptions(label=options).to_json()
        assert stored["target_offset"] == {"t": 1.7e9}
        assert make_options(LabelOptions, {"target_offset": {"t": 1.7e9}}) == options
        for names, message in ((("x", "y"), r"targets \(x, y\), got 't'"), ((), "there are none")):
            with pytest.raises(UsageError, match=f"--target_offset must name .*{message}"):
                options.offsets_of(names)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"target_offset": "t"}, "must be NAME=VALUE,... with targets and finite numbers"),
            (
                {"target_offset": "t=nan"},
                "must name each target once, with a finite number, got t=nan",
            ),
            ({"target_offset": "t=1,t=2"}, "must name each target once"),
            ({"target_offset": "t=1", "label_columns": "a"}, r"must name .* \(a\), got 't'"),
            ({"target_offset": "t=1", "class_column": "a"}, "must name .* none, got 't'"),
            ({"target_offset": "t=1", "mirrored_columns": "t"}, "moves the zero of t, about which"),
        ],
    )
    def test_target_offset_is_refused(self, values, message) -> None:
        with pytest.raises(UsageError, match=f"--target_offset {message}"):
            make_options(LabelOptions, values)

    def test_image_options_spec(self) -> None:
        assert ImageOptions(size=(9, 16)).spec == ImageSpec(height=9, width=16)
        gray = ImageOptions(size=(9, 16), grayscale=True, image_format="png").spec
        assert gray == ImageSpec(height=9, width=16, channels=1, format="PNG")

    def test_to_json_is_plain_and_holds_every_field(self) -> None:
        options = DatasetOptions(
            name="caf\udce9",
            sampling=SamplingOptions(frame_rate=Fraction(30000, 1001)),
            split=SplitOptions(split_lists=("a", "b")),
            label=LabelOptions(label_columns=("speed",), label_units=("m/s",)),
        )
        stored = options.to_json()
        assert json.loads(json.dumps(stored, allow_nan=False)) == stored
        fields = [field.name for group in GROUPS for field in dataclasses.fields(group)]
        assert len(fields) == len(set(fields)), "two fields of one name hide one another"
        # An offset that is not given is left out, as by builds before there were any.
        assert stored.keys() == {"name", "height", "width", *fields} - {
            # Left out unless they are given.
            *("size", "target_offset", "frame_times", "crop_region", "mask")
        }
        assert stored["frame_rate"] == "30000/1001"
        assert Fraction(stored["frame_rate"]) == options.sampling.frame_rate

    @pytest.mark.parametrize(
        ("kind", "own"),
        [
            ("annotation", annotated(annotation="caf\udce9.json")),
            (
                "telemetry",
                measured(
                    time_column="t",
                    telemetry_columns=("t", "yaw"),
                    signal_columns=("yaw",),
                    signal_units=("rad/s",),
                ),
            ),
        ],
    )
    def test_to_json_adds_sources_of_labels(self, kind, own) -> None:
        plain = DatasetOptions(name="a").to_json()
        stored = dataclasses.replace(DatasetOptions(name="a"), **{kind: own}).to_json()
        assert json.loads(json.dumps(stored, allow_nan=False)) == stored
        fields = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)}
        assert not fields.keys() & plain.keys(), "two fields of one name hide one another"
        fields = {k: v for k, v in fields.items() if k not in TELEMETRY_DEFAULTS}  # unchanged
        added = {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}
        assert stored == {**plain, **added}

    def test_signals_of_signal_columns(self) -> None:
        assert measured(signal_columns=("yaw", "ax"), signal_units=("rad/s", "m/s2")).signals == (
            SignalSpec(name="yaw", unit="rad/s"),
            SignalSpec(name="ax", unit="m/s2"),
        )
        assert measured(signal_columns=("yaw",)).signals == (SignalSpec(name="yaw", unit=""),)
        assert measured().signals == ()

    @pytest.mark.parametrize("name", ["a/b", "image", "\0"])
    def test_signal_columns_refuse_invalid_record_keys(self, name) -> None:
        with pytest.raises(UserError, match=r"^--signal_columns: .*\. Rename the column$"):
            measured(signal_columns=(name,))

    @pytest.mark.parametrize(
        "join",
        [r"(\w+)_(\d+)\.mp4", r"(\w+)", r"(?P<order>a)(?P<drive>b)", r"(?P<drive>a)\d"],
    )
    def test_join_accepts_drive_and_order(self, join) -> None:
        assert measured(join=join).join == join

    @pytest.mark.parametrize(
        "template", ["{stem}.csv", "{parent}/gps.gpx", "{{}}{name}", "gps.csv"]
    )
    def test_telemetry_accepts_templates(self, template) -> None:
        assert measured(telemetry=template).telemetry == template

    @pytest.mark.parametrize(
        "fields",
        [
            {"time_unit": "us"},
            {"time_offset": -1.5},
            {"time_origin": "clock"},
            {"interpolate": "nearest"},
            {"max_gap": 9.0},
        ],
    )
    def test_time_options_accept_time_column_or_track(self, fields) -> None:
        ((name, value),) = fields.items()
        for where in (
            {"time_column": "t"},
            {"telemetry": "{stem}.GPX"},
            {"telemetry": None, "no_images": True, "signal_columns": ("a",)},
        ):
            assert getattr(measured(**where, **fields), name) == value

    def test_no_images_needs_no_template(self) -> None:
        options = TelemetryOptions(no_images=True, signal_columns=("a",))
        assert options.telemetry is None

    def test_local_workers_default_is_usable_cpus(self) -> None:
        assert RunOptions().local_workers == usable_cpus() >= 1
        assert RunOptions(workers=5).local_workers == 5


def parse(*argv: str, verb: str = "videos") -> tuple[DatasetOptions, RunOptions]:
    words = ["--input", "in", "--output", "out", *argv]
    options = make_options(VERBS[verb].options, make_parser(verb).parse(words))
    return options.dataset, options.run


# For every flag: what to type, and the options' fields that must follow, and no others.
Turns = dict[str, tuple[list[str], dict[str, Any]]]
TURNED: Turns = {
    "--name": (["clips"], {"name": "clips"}),
    "--num_frames": (["5"], {"num_frames": 5}),
    "--frame_rate": (["30000/1001"], {"frame_rate": Fraction(30000, 1001)}),
    "--stride": (["3"], {"stride": 3}),
    "--sampling": (["uniform"], {"sampling": "uniform"}),
    "--frame_times": (["names"], {"frame_times": "names"}),
    "--short_clips": (["loop"], {"short_clips": "loop"}),
    "--size": (["128x171"], {"size": (128, 171)}),
    "--resize": (["crop"], {"resize": "crop"}),
    "--interpolation": (["cubic"], {"interpolation": "cubic"}),
    "--image_format": (["png"], {"image_format": "png"}),
    "--jpeg_quality": (["80"], {"jpeg_quality": 80}),
    "--grayscale": ([], {"grayscale": True}),
    "--crop_region": (["0,0.2,1,0.85"], {"crop_region": "0,0.2,1,0.85"}),
    "--mask": (["0,0.9,1,1"], {"mask": ("0,0.9,1,1",)}),
    "--splits": (["a=0.25,b=0.75"], {"splits": (("a", 0.25), ("b", 0.75))}),
    "--group_by": ([r"_(g\d+)_"], {"group_by": r"_(g\d+)_"}),
    "--split_by": (["time"], {"split_by": "time"}),
    "--split_list": (["train=a.txt", "b.txt"], {"split_lists": ("train=a.txt", "b.txt")}),
    "--group_scope": (["class"], {"group_scope": "class"}),
    "--unlisted": (["leave_out"], {"unlisted": "leave_out"}),
    "--stratify": ([], {"stratify": True}),
    "--split_folders": (["off"], {"split_folders": "off"}),
    "--seed": (["7"], {"seed": 7}),
    "--shards": (["3"], {"shards": 3}),
    "--shard_size": (["1.5GB"], {"shard_size": 1_500_000_000}),
    "--segment_length": (["12.5"], {"segment_length": 12.5}),
    "--label_columns": (["speed", "steer"], {"label_columns": ("speed", "steer")}),
    "--label_units": (["m/s"], {"label_units": ("m/s",)}),
    "--classes": (["run,walk"], {"classes": ("run", "walk")}),
    "--max_per_class": (["5"], {"max_per_class": 5}),
    "--class_order": (["order.txt"], {"class_order": "order.txt"}),
    "--mirrored_columns": (["vy,yaw"], {"mirrored_columns": ("vy", "yaw")}),
    "--target_offset": (["a=-1.5,t=1.7e9"], {"target_offset": (("a", -1.5), ("t", 1.7e9))}),
    "--source_rate": (["20"], {"source_rate": Fraction(20)}),
    "--video_stream": (["1"], {"video_stream": 1}),
    "--workers": (["3"], {"workers": 3}),
    "--max_failure_rate": (["0.5"], {"max_failure_rate": 0.5}),
    "--decode_timeout": (["2.5"], {"decode_timeout": 2.5}),
    "--staging_size": (["2GiB"], {"staging_size": 2 << 30}),
    "--overwrite": ([], {"overwrite": True}),
    "--dry_run": ([], {"dry_run": True}),
}
DASHCAM_TURNED: Turns = {
    **TURNED,
    "--annotation": (["b.json"], {"annotation": "b.json"}),
    "--label": (["speed"], {"label": "speed"}),
    "--label_names": (["vx,vy"], {"label_names": ("vx", "vy")}),
    "--telemetry": (["{parent}/gps.gpx"], {"telemetry": "{parent}/gps.gpx"}),
    "--telemetry_columns": (["t", "v"], {"telemetry_columns": ("t", "v")}),
    "--time_column": (["t"], {"time_column": "t"}),
    "--time_unit": (["ms"], {"time_unit": "ms"}),
    "--time_offset": (["-0.25"], {"time_offset": -0.25}),
    "--time_origin": (["clock"], {"time_origin": "clock"}),
    "--interpolate": (["hold"], {"interpolate": "hold"}),
    "--max_gap": (["0.5"], {"max_gap": 0.5}),
    "--min_overlap": (["0.5"], {"min_overlap": 0.5}),
    "--max_acceleration": (["4"], {"max_acceleration": 4.0}),
    "--label_ahead": (["0.1:0.3:0.1"], {"label_ahead": (0.1, 0.2, 0.3)}),
    "--decimal_mark": (["comma"], {"decimal_mark": "comma"}),
    "--derive": (["x=a"], {"derive": ("x=a",)}),
    "--angle_columns": (["heading"], {"angle_columns": ("heading",)}),
    "--join": ([r"(\w+)_(\d+)\.mp4"], {"join": r"(\w+)_(\d+)\.mp4"}),
    "--class_column": (["state"], {"class_column": "state"}),
    "--label_at": (["each"], {"label_at": "each"}),
    "--signal_columns": (["yaw,accel_x", "ay"], {"signal_columns": ("yaw", "accel_x", "ay")}),
    "--signal_units": (["m/s2"], {"signal_units": ("m/s2",)}),
    "--no_images": ([], {"no_images": True}),
}
EVERY_TURN = [
    *(("videos", flag) for flag in TURNED),
    *(("dashcam", flag) for flag in DASHCAM_TURNED),
]
# A flag that cannot be turned alone.
WITH = {"--label_units": ["--label_columns", "x"]}
FOLDERS = ["--annotation", "a.json", "--label", "velocity"]
DRIVES = ["--telemetry", "{stem}.csv"]
TIMED = [*DRIVES, "--time_column", "t"]
DASHCAM_WITH = {
    **WITH,
    "--annotation": FOLDERS,
    "--label": FOLDERS,
    "--label_names": FOLDERS,
    "--signal_units": [*DRIVES, "--signal_columns", "x"],
    "--no_images": [*DRIVES, "--signal_columns", "x"],
    **dict.fromkeys(
        [
            "--telemetry",
            "--telemetry_columns",
            "--time_column",
            "--angle_columns",
            "--derive",
            "--decimal_mark",
            "--join",
            "--signal_columns",
        ],
        DRIVES,
    ),
    **dict.fromkeys(
        [
            *("--time_unit", "--time_offset", "--time_origin", "--interpolate", "--max_gap"),
            *("--min_overlap", "--max_acceleration", "--label_ahead"),
        ],
        TIMED,
    ),
}


def flat(options: tuple[DatasetOptions, RunOptions]) -> dict[str, Any]:
    dataset, run = options
    groups = [dataset.sampling, dataset.image, dataset.split, dataset.shard, dataset.label, run]
    groups += [dataset.footage]
    groups += [group for group in (dataset.annotation, dataset.telemetry) if group]
    fields = [(f.name, getattr(g, f.name)) for g in groups for f in dataclasses.fields(g)]
    assert len(dict(fields)) == len(fields)
    return {"name": dataset.name, **dict(fields)}


class TestFlags:
    @pytest.mark.parametrize(("verb", "turned"), [("videos", TURNED), ("dashcam", DASHCAM_TURNED)])
    def test_parser_flags_are_all_tested(self, verb, turned) -> None:
        flags = {
            option
            for action in make_parser(verb)._actions
            for option in action.option_strings
            if not isinstance(action, argparse._HelpAction)
        }
        # Of `BuildOptions` itself; tests/pipelines/build/test_append.py turns the last two.
        own = {"--input", "--output", "--append", "--changed_sources"}
        if verb == "dashcam":
            own.add("--layout")  # tests/pipelines/build/test_layouts.py
        assert flags == {*turned, *own}

    @pytest.mark.parametrize(("verb", "flag"), EVERY_TURN)
    def test_flag_changes_its_field_only(self, verb, flag) -> None:
        values, expected = (TURNED if verb == "videos" else DASHCAM_TURNED)[flag]
        needed = (WITH if verb == "videos" else DASHCAM_WITH).get(flag, [])
        before = flat(parse(*needed, verb=verb))
        after = flat(parse(*needed, flag, *values, verb=verb))
        changed = {name for name in after if after[name] != before[name]}
        assert changed == set(expected)
        assert {name: after[name] for name in expected} == expected
        # However it is written.
        dashed = "--" + flag[2:].replace("_", "-")
        assert flat(parse(*needed, dashed, *values, verb=verb)) == after
        if len(values) == 1:
            assert flat(parse(*needed, f"{dashed}={values[0]}", verb=verb)) == after

    def test_every_field_has_a_flag(self) -> None:
        turned = {field for _, expected in DASHCAM_TURNED.values() for field in expected}
        every = flat(parse(*DRIVES, verb="dashcam")) | flat(parse(*FOLDERS, verb="dashcam"))
        assert turned == set(every) - {"beam_args"}

    def test_videos_lack_flags_of_dashcam_labels(self) -> None:
        """Options of dash-cam labels keep their defaults for videos."""
        turned = {field for _, expected in TURNED.values() for field in expected}
        only_dashcam = {"label_names", "label_at", "class_column"}
        assert turned == set(flat(parse())) - {"beam_args"} - only_dashcam

    def test_mirrored_columns_none_is_empty(self) -> None:
        assert parse()[0].label.mirrored_columns is None
        options, _ = parse("--mirrored_columns", "none", verb="dashcam")
        assert options.label.mirrored_columns == ()

    def test_no_flags_give_defaults(self) -> None:
        assert parse() == (DatasetOptions(), RunOptions())
        assert parse(verb="dashcam") == (DatasetOptions(), RunOptions())
        drives, _ = parse("--telemetry", "x.csv", verb="dashcam")
        assert drives.telemetry == TelemetryOptions(telemetry="x.csv")
        assert drives.annotation is None

    @pytest.mark.parametrize("alone", [["--annotation", "a.json"], ["--label", "velocity"]])
    def test_annotation_and_label_need_each_other(self, alone) -> None:
        with pytest.raises(UserError) as error:
            parse(*alone, verb="dashcam")
        assert str(error.value).startswith(f"{alone[0]} also needs --")
        assert {"--annotation", "--label"} <= set(re.findall(r"--\w+", str(error.value)))

    def test_no_images_flag_needs_no_template(self) -> None:
        dataset, _ = parse("--no_images", "--signal_columns", "a", verb="dashcam")
        assert dataset.telemetry == TelemetryOptions(no_images=True, signal_columns=("a",))

    @pytest.mark.parametrize("verb", ["videos", "dashcam"])
    def test_help_lists_flags_of_the_verb(self, verb, capsys) -> None:
        with pytest.raises(SystemExit) as end:
            make_parser(verb).parse(["--help"])
        assert end.value.code == 0
        printed = capsys.readouterr().out
        assert "--num_frames" in printed
        assert ("--telemetry" in printed) == (verb == "dashcam")

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--num_frames", "-3"], "--num_frames must be a whole number of at least 1, got -3"),
            (["--num-frames", "-3"], "--num_frames must be a whole number of at least 1, got -3"),
            (["--frame_rate", "-29.97"], "--frame_rate must be a number above 0 and"),
            (["--frame-rate", "-.5"], "--frame_rate must be"),
            (
                ["--max_failure_rate", "-1"],
                "--max_failure_rate must be a number from 0 to 1, got -1",
            ),
            (["--workers", "-2"], "--workers must be a whole number from 1 to 1024, got -2"),
            (["--shards", "-2"], "--shards must be a whole number from 1 to 99999, got -2"),
            (
                ["--segment_length", "-2"],
                "--segment_length must be a finite number above 0 s, got -2",
            ),
            (["--size", "-180x320"], "--size must be HEIGHTxWIDTH in pixels, such as 180x320"),
            (["--size", "180"], "got '180'"),
            (
                ["--shard_size", "-1MiB"],
                "--shard_size must be a size of at least 1 byte, such as 128MiB",
            ),
            (
                ["--num_frames", "many"],
                "--num_frames must be a whole number of at least 1, got 'many'",
            ),
            (["--num_frames"], "--num_frames: expected one argument"),
            (["--grayscale", "-1"], "--grayscale must be on or off, got '-1'"),
            (["--resize", "fit"], "--resize must be stretch, crop or letterbox, got 'fit'"),
            (["--splits", "train"], "--splits must be NAME=FRACTION,..."),
        ],
    )
    def test_wrong_flag_values_are_refused_in_one_line(self, argv, message) -> None:
        with pytest.raises(UsageError) as error:
            parse(*argv)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_seed_may_be_negative(self) -> None:
        assert parse("--seed", "-3")[0].split.seed == -3

    def test_flags_are_not_abbreviated(self) -> None:
        assert parse("--num", "3")[1].beam_args == ("--num", "3")

    def test_unknown_flags_are_passed_to_beam(self) -> None:
        dataset, run = parse(
            "--runner=FlinkRunner", "--num-frames=2", "--flink-master", "host:1", "--region", "-x"
        )
        assert dataset.sampling.num_frames == 2
        assert run.beam_args == (
            "--runner=FlinkRunner",
            "--flink_master",
            "host:1",
            "--region",
            "-x",
        )

    def test_normalize_keeps_dashes_in_values(self) -> None:
        assert parse("--name=a-b")[0].name == "a-b"
        assert parse("--name", "a-b")[0].name == "a-b"
        assert parse("--group-by=-(a-b)-")[0].split.group_by == "-(a-b)-"
        assert parse("--job-name=a-b=c-d")[1].beam_args == ("--job_name=a-b=c-d",)
        assert normalize(["--", "-1", "x"]) == ["--", "-1", "x"]

    def test_columns_are_split_at_commas_and_spaces(self) -> None:
        dataset, _ = parse("--label_columns", "a,b", "c", "--label_units", "m,s", "kg")
        assert dataset.label == LabelOptions(
            label_columns=("a", "b", "c"), label_units=("m", "s", "kg")
        )

    @pytest.mark.parametrize(
        "written", [["a, b c", "d"], [" a", "b c ", "d "], ["a,", "b c,", "d"], ["a ,b c , d"]]
    )
    def test_columns_are_stripped_of_spaces(self, written) -> None:
        dataset, _ = parse("--label_columns", *written)
        assert dataset.label.label_columns == ("a", "b c", "d")

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (
                [*FOLDERS, "--telemetry", "x.csv"],
                "--annotation is for folders of frames, --telemetry and --no_images are for drives, got both",
            ),
            (
                [*FOLDERS, "--no_images", "--signal_columns", "x"],
                "--annotation is for folders of frames, --telemetry and --no_images are for drives, got both",
            ),
            *(
                (
                    [*(FOLDERS if place % 2 else ()), *stray],
                    f"{stray[0]} needs --telemetry, which names the telemetry file of a drive",
                )
                for place, stray in enumerate(
                    [
                        ["--telemetry_columns", "t,v"],
                        ["--time_column", "t"],
                        ["--time_unit", "ms"],
                        ["--time_offset", "-1"],
                        ["--time_origin", "clock"],
                        ["--interpolate", "hold"],
                        ["--max_gap", "9"],
                        ["--angle_columns", "a"],
                        ["--signal_columns", "a"],
                        ["--signal_units", "m"],
                        ["--join", "(a)"],
                    ]
                )
            ),
        ],
    )
    def test_flags_without_effect_are_refused(self, flags, said) -> None:
        with pytest.raises(UsageError) as error:
            parse(*flags, verb="dashcam")
        assert str(error.value) == said

    def test_split_list_may_be_repeated(self) -> None:
        dataset, _ = parse("--split_list", "train=a", "--split_list", "test=b", "c")
        assert dataset.split.split_lists == ("train=a", "test=b", "c")
        assert parse()[0].split.split_lists == ()  # the default was not added to


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "size"), [("180x320", (180, 320)), (" 1X2 ", (1, 2)), ("0x0", (0, 0))]
    )
    def test_parse_size(self, text, size) -> None:
        assert parse_size(text) == size

    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("1000", 1000),
            ("128MiB", 128 * 2**20),
            ("128 mib", 128 * 2**20),
            ("1.5GB", 1_500_000_000),
            ("2GiB", 2**31),
            ("7kb", 7000),
            ("7KiB", 7168),
            ("7B", 7),
            ("0.1KB", 100),
        ],
    )
    def test_parse_bytes(self, text, count) -> None:
        assert parse_bytes(text) == count

    @pytest.mark.parametrize(
        ("text", "rate"),
        [
            ("10", Fraction(10)),
            ("29.97", Fraction(2997, 100)),
            ("30000/1001", Fraction(30000, 1001)),
            (" 0.5 ", Fraction(1, 2)),
            ("-3", Fraction(-3)),
            ("10/010", Fraction(1)),
        ],
    )
    def test_parse_fraction_is_exact(self, text, rate) -> None:
        assert parse_fraction(text) == rate

    def test_splits_are_parsed(self) -> None:
        options = make_options(SplitOptions, {"splits": "train=0.9, test=0.1"})
        assert options.splits == (("train", 0.9), ("test", 0.1))

    @pytest.mark.parametrize(
        ("options", "flag", "text"),
        [
            (ImageOptions, "size", "1x2x3"),
            (ImageOptions, "size", "-1x2"),
            (ImageOptions, "size", "1.5x2"),
            (ImageOptions, "size", "9999999x1"),
            (ShardOptions, "shard_size", ""),
            (ShardOptions, "shard_size", "1XB"),
            (ShardOptions, "shard_size", "1e3"),
            (ShardOptions, "shard_size", "9" * 5000),
            (SamplingOptions, "frame_rate", "fast"),
            (SamplingOptions, "frame_rate", "1/0"),
            (SamplingOptions, "frame_rate", "nan"),
            (SamplingOptions, "frame_rate", "1e999999999"),
            (SamplingOptions, "frame_rate", "9" * 5000),
            (SplitOptions, "splits", ""),
            (SplitOptions, "splits", "train"),
            (SplitOptions, "splits", "train=lots"),
            (SplitOptions, "splits", "train=1,"),
        ],
    )
    def test_invalid_text_is_refused_and_quoted(self, options, flag, text) -> None:
        with pytest.raises(UserError) as error:
            make_options(options, {flag: text})
        assert str(error.value).startswith(f"--{flag} must be ")
        assert str(error.value).endswith(f", got {text!r}")

    @given(
        st.sampled_from(
            [
                (ImageOptions, "size"),
                (ShardOptions, "shard_size"),
                (SamplingOptions, "frame_rate"),
                (SplitOptions, "splits"),
            ]
        ),
        st.text() | st.text(alphabet="0123456789./-+eExXkKmMgGiIbB=,_ \u0663", max_size=12),
    )
    @example((SplitOptions, "splits"), "a=1_0")
    def test_any_text_is_accepted_or_refused(self, option, text) -> None:
        options, flag = option
        with contextlib.suppress(UserError):
            make_options(options, {flag: text})

    @given(st.text() | st.text(alphabet="(){}[]?*+\\0123456789,|abgd:P<>=!", max_size=12))
    def test_any_group_by_is_accepted_or_refused(self, text) -> None:
        with contextlib.suppress(UserError):
            assert SplitOptions(group_by=text).group_by == text

    @given(st.text() | st.text(alphabet="(){}[]?*+\\0123456789,|abgd:P<>=!", max_size=12))
    def test_any_join_is_accepted_or_refused(self, text) -> None:
        with contextlib.suppress(UserError):
            assert measured(join=text).join == text

    @given(st.text() | st.text(alphabet="{}[].stemnamparentdriv0", max_size=12))
    @example("{stem}{{{drive}}}{{name}}")
    def test_accepted_template_can_be_filled(self, text) -> None:
        with contextlib.suppress(UserError):
            template = measured(telemetry=text).telemetry
            filled = template.format(stem="\0", name="\0", parent="\0", drive="\0")
            fields = re.findall(r"{\w+}", text.replace("{{", "").replace("}}", ""))
            assert filled.count("\0") - text.count("\0") == len(fields)

    @given(st.text() | st.text(alphabet="[]{}().*&|@!<>=?:,'`\"0123456789ab-", max_size=12))
    def test_any_label_is_accepted_or_refused(self, text) -> None:
        with contextlib.suppress(UserError):
            assert annotated(label=text).label == text

    @given(
        st.sampled_from(["videos", "dashcam"]),
        st.lists(st.sampled_from(sorted(DASHCAM_TURNED)) | st.text(max_size=8), max_size=6),
    )
    def test_any_command_line_is_accepted_or_refused(self, verb: str, argv: list[str]) -> None:
        with contextlib.suppress(UserError, SystemExit):
            parse(*argv, verb=verb)


def test_has_times_by_column_or_format() -> None:
    by_row = TelemetryOptions(telemetry="{stem}.csv")
    by_time = dataclasses.replace(by_row, time_column="t")
    assert [by_row.has_times(path) for path in ("a.csv", "in/A.GPX")] == [False, True]
    assert by_time.has_times("a.csv")
