"""``pipelines dashcam``: options that go together, and what its listing adds to each kind of footage."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import (
    DatasetOptions,
    ImageOptions,
    LabelOptions,
    SamplingOptions,
    SplitOptions,
)
from pipelines.options.telemetry import AnnotationOptions, TelemetryOptions
from pipelines.sources.dashcam import check_dashcam_options, list_dashcam

FOLDERS = {
    "annotation": AnnotationOptions(annotation="a.json", label="[0].speed"),
    "sampling": SamplingOptions(num_frames=2, frame_rate=Fraction(20)),
}
DRIVES = {
    "telemetry": TelemetryOptions(telemetry="{stem}.csv", time_column="t"),
    "label": LabelOptions(label_columns=("speed",)),
}


def options(**fields: Any) -> DatasetOptions:
    return DatasetOptions(name="dash", **fields)


def measured(**fields: Any) -> TelemetryOptions:
    return TelemetryOptions(telemetry="{stem}.csv", **fields)


def test_split_folders_of_sample_folders_and_of_drives(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("1", "2"):
            folder = tmp_path / "frames" / split / name
            folder.mkdir(parents=True)
            (folder / "a.json").write_text(json.dumps([{"speed": 1.5}]))
            for frame in ("1.jpg", "2.jpg"):
                (folder / frame).write_bytes(b"x")
        (tmp_path / "drives" / split).mkdir(parents=True)
        (tmp_path / "drives" / split / "a.mp4").write_bytes(b"x")
        (tmp_path / "drives" / split / "a.csv").write_text("t,speed\n0,1\n1,2\n")
    for fields, place, count in ((FOLDERS, "frames", 2), (DRIVES, "drives", 1)):
        found = list_dashcam(str(tmp_path / place), options(**fields))
        assert [source.split for source in found.sources] == ["test"] * count + ["train"] * count
        assert found.notes[0] == (
            "folders taken as splits: test, train; --split_folders off takes them as ordinary "
            "folders"
        )
        off = options(**fields, split=SplitOptions(split_folders="off"))
        found = list_dashcam(str(tmp_path / place), off)
        assert {source.split for source in found.sources} == {None}


class TestOptions:
    @pytest.mark.parametrize(
        "fields",
        [
            FOLDERS,
            {**FOLDERS, "label": LabelOptions(label_names=("vx", "vy"), label_units=("m/s", "m/s"))},
            {**FOLDERS, "label": LabelOptions(label_at="each")},
            DRIVES,
            {**DRIVES, "split": SplitOptions(split_by="time")},
            {"telemetry": measured(), "label": LabelOptions(class_column="state")},
            {"telemetry": measured(signal_columns=("yaw",))},
            {"telemetry": TelemetryOptions(no_images=True, signal_columns=("yaw",))},
            {
                "telemetry": measured(signal_columns=("heading",), angle_columns=("course", "heading")),
                "label": LabelOptions(label_columns=("course",)),
            },
        ],
    )  # fmt: skip
    def test_that_go_together(self, fields) -> None:
        assert check_dashcam_options(options(**fields)) is None

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            (
                {},
                "labels must come either from annotation files (--annotation and --label, for folders of "
                "frames) or from telemetry (--telemetry, for drives), got neither",
            ),
            (
                {**FOLDERS, "telemetry": measured()},
                "--annotation is for folders of frames, --telemetry and --no_images are for drives, got both",
            ),
            (
                {**FOLDERS, "label": LabelOptions(label_columns=("speed",))},
                "--label_columns and --class_column name columns of telemetry. For folders of frames, "
                "find the label with --label",
            ),
            (
                {**FOLDERS, "label": LabelOptions(class_column="state")},
                "--label_columns and --class_column name columns of telemetry. For folders of frames, "
                "find the label with --label",
            ),
            (
                {**FOLDERS, "split": SplitOptions(split_by="time")},
                "--split_by time is for drives. Folders of frames are never divided",
            ),
            (
                {"telemetry": measured(), "label": LabelOptions(label_names=("vx",))},
                "--label_names needs --annotation. Columns of telemetry already have names",
            ),
            (
                {"telemetry": measured()},
                "--label_columns, --class_column or --signal_columns must name columns of the telemetry, "
                "got none",
            ),
            (
                {
                    "telemetry": TelemetryOptions(no_images=True, signal_columns=("yaw",)),
                    "image": ImageOptions(size=(24, 32)),
                },
                "--no_images excludes the flags for images, such as --size",
            ),
            (
                {
                    "telemetry": measured(angle_columns=("speed", "course")),
                    "label": LabelOptions(label_columns=("speed",)),
                },
                "--angle_columns must be among --label_columns, --signal_columns and the columns in "
                "--derive, got 'course'",
            ),
        ],
    )
    def test_that_contradict_each_other_are_refused(self, fields, said) -> None:
        with pytest.raises(UsageError) as error:
            check_dashcam_options(options(**fields))
        assert str(error.value) == said


@pytest.fixture
def drives(tmp_path) -> Path:
    for name in ("car1_a", "car1_b", "car2_a"):
        (tmp_path / f"{name}.mp4").write_bytes(b"no test opens it")
        (tmp_path / f"{name}.csv").write_text("t,speed\n0,1\n1,2\n")
    return tmp_path


class TestListing:
    def test_drives(self, drives) -> None:
        found = list_dashcam(str(drives), options(**DRIVES))
        assert [source.id for source in found.sources] == ["car1_a.mp4", "car1_b.mp4", "car2_a.mp4"]
        assert [source.group for source in found.sources] == [source.id for source in found.sources]
        assert found.label.target_names == ("speed",)

    def test_groups(self, drives) -> None:
        split = SplitOptions(group_by=r"(car\d)")
        found = list_dashcam(str(drives), options(**DRIVES, split=split))
        assert [source.group for source in found.sources] == ["car1", "car1", "car2"]
        split = SplitOptions(group_by=r"_(b)")
        with pytest.raises(
            UserError, match=r"must match the path of every source, but does not match 'car1_a"
        ):
            list_dashcam(str(drives), options(**DRIVES, split=split))

    def test_split_lists(self, drives, tmp_path) -> None:
        (tmp_path / "test.list").write_text("car2_a.mp4\n")
        split = SplitOptions(split_lists=(f"test={tmp_path}/test.list",))
        found = list_dashcam(str(drives), options(**DRIVES, split=split))
        assert [(source.id, source.split) for source in found.sources] == [
            ("car1_a.mp4", "train"),
            ("car1_b.mp4", "train"),
            ("car2_a.mp4", "test"),
        ]

    def test_folders_of_frames(self, tmp_path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            for frame in (1, 2):
                (tmp_path / name / f"{frame}.jpg").write_bytes(b"no test opens it")
            (tmp_path / name / "a.json").write_text(json.dumps([{"speed": 3}]))
        found = list_dashcam(str(tmp_path), options(**FOLDERS))
        assert [(source.id, source.values) for source in found.sources] == [
            ("a", (3.0,)),
            ("b", (3.0,)),
        ]

    def test_unchecked_options_are_our_own_mistake(self, tmp_path) -> None:
        with pytest.raises(ValueError, match="options must pass check_dashcam_options first"):
            list_dashcam(str(tmp_path), options())
