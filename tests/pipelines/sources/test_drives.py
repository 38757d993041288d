"""Drives with telemetry: what becomes a source, and what is said of the others. No test opens a video."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import DatasetOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Listing, Part, SideFile, Source, SourceFailure
from pipelines.sources.drives import expand_columns, list_drives
from tfrecords_schema.spec import LabelSpec

ROWS = "t,speed,state,yaw\n0,1,go,0\n1,2,stop,0\n2.5,3,go,0\n"


def fill(root: Path, *names: str, rows: str = ROWS) -> Path:
    """Files by name: telemetry holds ``rows``, all else a byte more than the one before."""
    for size, name in enumerate(names, start=1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".csv", ".txt", ".jsonl"):
            path.write_text(rows)
        else:
            path.write_bytes(bytes(size))
        os.utime(path, ns=(0, 10**18 + size))
    return root


def listed(
    location: Any,
    *,
    label: LabelOptions | None = None,
    frame_rate: int | None = None,
    num_frames: int = 4,
    **telemetry: Any,
) -> Listing:
    options = {"telemetry": "{stem}.csv", "time_column": "t", **telemetry}
    return list_drives(
        str(location),
        telemetry=TelemetryOptions(**options),
        label=label or LabelOptions(label_columns=("speed",), label_units=("m/s",)),
        sampling=SamplingOptions(
            num_frames=num_frames, frame_rate=None if frame_rate is None else Fraction(frame_rate)
        ),
    )


def side(root: Path, name: str) -> SideFile:
    status = os.stat(root / name)
    return SideFile(
        path=str(root / name),
        data_path=name,
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def failures(listing: Listing) -> dict[str, tuple[str, str]]:
    assert not any("\n" in failure.reason for failure in listing.failures)
    return {failure.source: (failure.stage, failure.reason) for failure in listing.failures}


class TestVideos:
    def test_each_video_is_a_drive(self, tmp_path) -> None:
        root = fill(
            tmp_path / "drives",
            "b.mp4", "b.csv", "sub/a.MKV", "sub/a.csv", "notes.md", "sub/cover.jpg", ".hidden.mp4",
        )  # fmt: skip
        found = listed(root)
        assert found.name == "drives"
        assert found.failures == found.notes == ()
        assert found.sources == (
            Source(
                id="b.mp4",
                path=str(root / "b.mp4"),
                data_path="b.mp4",
                group="b.mp4",
                bytes=1,
                mtime_ns=10**18 + 1,
                telemetry=side(root, "b.csv"),
            ),
            Source(
                id="sub/a.MKV",
                path=str(root / "sub/a.MKV"),
                data_path="sub/a.MKV",
                group="sub/a.MKV",
                bytes=3,
                mtime_ns=10**18 + 3,
                telemetry=side(root, "sub/a.csv"),
            ),
        )

    @pytest.mark.parametrize(
        ("template", "telemetry"),
        [
            ("{stem}.csv", "one/a.csv"),
            ("{name}.csv", "one/a.mp4.csv"),
            ("{drive}_gps.csv", "one/a_gps.csv"),
            ("{parent}/gps.csv", "one/gps.csv"),
            ("gps.csv", "one/gps.csv"),
            ("../tracks/{stem}.csv", "tracks/a.csv"),
            ("{parent}_tracks/{stem}.csv", "one_tracks/a.csv"),
        ],
    )
    def test_templates_lead_from_the_videos_folder(self, tmp_path, template, telemetry) -> None:
        root = fill(tmp_path, "one/a.mp4", telemetry)
        (source,) = listed(root, telemetry=template).sources
        assert source.telemetry == side(root, telemetry)

    def test_names_with_braces_are_names(self, tmp_path) -> None:
        root = fill(tmp_path, "{stem}.mp4", "{stem}.csv")
        (source,) = listed(root).sources
        assert source.telemetry == side(root, "{stem}.csv")

    def test_telemetry_outside_the_input_has_no_absolute_name(self, tmp_path) -> None:
        root = fill(tmp_path / "in", "a.mp4")
        fill(tmp_path / "out", "a.csv")
        (source,) = listed(root, telemetry="../out/{stem}.csv").sources
        assert source.telemetry.path == str(tmp_path / "out/a.csv")
        assert source.telemetry.data_path == str(tmp_path / "out/a.csv").lstrip("/")

    def test_a_glob_or_a_single_file(self, tmp_path) -> None:
        root = fill(tmp_path / "in", "a.mp4", "a.csv", "b.mp4", "b.csv")
        assert [source.id for source in listed(root / "a.*").sources] == ["a.mp4"]
        found = listed(root / "b.mp4")
        assert [source.id for source in found.sources] == ["b.mp4"]
        assert found.name == "in"

    def test_a_single_file_that_is_no_video_is_refused(self, tmp_path) -> None:
        root = fill(tmp_path, "notes.xyz", "notes.csv", "1.jpg", "1.csv")
        for name in ("notes.xyz", "1.jpg"):
            with pytest.raises(UserError) as error:
                listed(root / name)
            assert str(error.value) == (
                "--input must be a folder of videos, a glob or a video (by file name), "
                f"got {root}/{name}"
            )
        (source,) = listed(root / "notes.csv", **ALONE).sources
        assert source.id == "notes.csv"

    def test_what_lacks_telemetry_or_has_bad_one_is_reported(self, tmp_path) -> None:
        root = fill(tmp_path, "a.mp4", "a.csv", "b.mp4", "c.mp4", "d.mp4", "e.mp4")
        (root / "c.csv").write_text("t,speed\n0,1\n1,fast\n")
        (root / "d.csv").write_text("")
        (root / "e.csv").mkdir()
        found = listed(root)
        assert [source.id for source in found.sources] == ["a.mp4"]
        reported = failures(found)
        (note,) = found.notes
        assert note == (
            "1 of 5 drives have no labels and are left out, because their telemetry is missing: 'b.mp4' "
            "(there is no b.csv)"
        )
        stage, reason = reported["c.mp4"]
        assert stage == "telemetry"
        assert reason.startswith("c.csv line 3, column 'speed': expected a number")
        assert reported["d.mp4"][0] == "telemetry"
        assert reported["d.mp4"][1].startswith("d.csv: expected ")
        assert reported["e.mp4"][0] == "list"
        assert "is a folder, a device or a pipe, not a regular file" in reported["e.mp4"][1]
        assert len(reported) == 3

    def test_where_none_can_be_used_it_is_an_error(self, tmp_path) -> None:
        root = fill(tmp_path, "a.mp4", "b.mp4")
        with pytest.raises(UserError) as error:
            listed(root)
        assert str(error.value) == (
            f"none of 2 drives at {root} can be used, for example 'a.mp4': "
            "its telemetry is missing: there is no a.csv"
        )

    def test_where_nothing_is_there(self, tmp_path) -> None:
        with pytest.raises(UserError) as error:
            listed(tmp_path / "nowhere")
        assert str(error.value) == (
            "--input must be a folder of videos, a glob or a file, but "
            f"there is nothing at {tmp_path}/nowhere"
        )
        fill(tmp_path, "notes.md", "a.csv")
        with pytest.raises(UserError) as error:
            listed(tmp_path)
        assert str(error.value) == (
            f"{tmp_path}: expected videos, but none of 2 files is one (by file name)"
        )


class TestLabels:
    def test_columns_are_targets(self, tmp_path) -> None:
        root = fill(tmp_path, "a.mp4", "a.csv")
        assert listed(root).label == LabelSpec(
            task="regression", target_names=("speed",), target_units=("m/s",)
        )
        each = LabelOptions(label_columns=("yaw", "speed"), label_at="each")
        assert listed(root, label=each).label == LabelSpec(
            task="regression", target_names=("yaw", "speed"), per_frame=True
        )

    def test_classes_are_those_of_all_drives(self, tmp_path) -> None:
        root = fill(tmp_path, "a.mp4", "a.csv", "b.mp4", "c.mp4")
        (root / "b.csv").write_text("t,state\n0,crash\n1,\n")
        # What cannot be read has no say.
        (root / "c.csv").write_text("t,state\n0,zebra\n-1,zebra\n")
        found = listed(root, label=LabelOptions(class_column="state"))
        names = ("crash", "go", "stop")
        assert found.label == LabelSpec(task="classification", class_names=names)
        assert list(failures(found)) == ["c.mp4"]
        each = LabelOptions(class_column="state", label_at="each")
        assert listed(root, label=each).label.per_frame

    def test_classes_are_in_natural_order(self, tmp_path) -> None:
        root = fill(tmp_path, "a.mp4", "a.csv", rows="t,state\n0,10\n1,2\n2,1\n")
        found = listed(root, label=LabelOptions(class_column="state"))
        assert found.label.class_names == ("1", "2", "10")
        found = listed(root, label=LabelOptions(class_column="state", class_order="text"))
        assert found.label.class_names == ("1", "10", "2")

    def test_without_labels_there_are_signals(self, tmp_path) -> None:
        root = fill(tmp_path, "a.mp4", "a.csv")
        assert listed(root, label=LabelOptions(), signal_columns=("yaw",)).label == LabelSpec()

    def test_signals_are_read_too(self, tmp_path) -> None:
        root = fill(tmp_path, "a.mp4", "a.csv")
        with pytest.raises(UserError, match="expected a column 'pitch'"):
            listed(root, signal_columns=("pitch",))


JOIN = r"(\w+)_(\d+)\.mp4"


class TestJoining:
    def test_files_of_a_drive_are_put_in_order(self, tmp_path) -> None:
        names = [f"{drive}_{k}" for drive in ("x", "w") for k in (10, 9, 2)]
        root = fill(tmp_path, *(f"{n}.mp4" for n in names), *(f"{n}.csv" for n in names))
        found = listed(root, join=JOIN)
        assert [source.id for source in found.sources] == ["w", "x"]
        drive = found.sources[1]
        assert [part.order for part in drive.parts] == ["2", "9", "10"]
        assert drive.parts[0] == Part(
            path=str(root / "x_2.mp4"),
            data_path="x_2.mp4",
            bytes=3,
            mtime_ns=10**18 + 3,
            order="2",
            telemetry=side(root, "x_2.csv"),
        )
        # The drive is where its first file is; what it is to be grouped by as well.
        assert (drive.path, drive.data_path, drive.group) == (
            str(root / "x_2.mp4"),
            "x_2.mp4",
            "x_2.mp4",
        )
        assert drive.telemetry is None

    @pytest.mark.parametrize("template", ["{drive}.csv", "gps.csv", "{parent}/gps.csv"])
    def test_telemetry_of_the_whole_drive(self, tmp_path, template) -> None:
        root = fill(tmp_path, "x_1.mp4", "x_2.mp4", "x.csv", "gps.csv")
        (drive,) = listed(root, join=JOIN, telemetry=template).sources
        name = "x.csv" if "drive" in template else "gps.csv"
        assert drive.telemetry == side(root, name)
        assert [part.telemetry for part in drive.parts] == [None, None]

    def test_a_drive_of_one_file(self, tmp_path) -> None:
        root = fill(tmp_path, "x_7.mp4", "x_7.csv")
        (drive,) = listed(root, join=JOIN).sources
        assert (drive.id, len(drive.parts)) == ("x", 1)
        assert drive.telemetry == side(root, "x_7.csv")

    def test_groups_may_be_named(self, tmp_path) -> None:
        root = fill(tmp_path, "02_x.mp4", "01_x.mp4", "x.csv")
        join = r"(?P<order>\d+)_(?P<drive>\w+)\.mp4"
        (drive,) = listed(root, join=join, telemetry="{drive}.csv").sources
        assert (drive.id, [part.order for part in drive.parts]) == ("x", ["01", "02"])

    def test_a_group_that_is_named_drive_leaves_the_order_to_the_path(self, tmp_path) -> None:
        root = fill(tmp_path, "x/GX10.mp4", "x/GX9.mp4", "x/gps.csv")
        (drive,) = listed(root, join=r"^(?P<drive>\w+)/", telemetry="gps.csv").sources
        assert drive.id == "x"
        assert [part.order for part in drive.parts] == ["x/GX9.mp4", "x/GX10.mp4"]

    def test_one_group_names_the_drive_and_the_path_its_order(self, tmp_path) -> None:
        root = fill(tmp_path, "x/GX10.mp4", "x/GX9.mp4", "x/gps.csv")
        (drive,) = listed(root, join=r"^(\w+)/", telemetry="gps.csv").sources
        assert drive.id == "x"
        assert [part.order for part in drive.parts] == ["x/GX9.mp4", "x/GX10.mp4"]

    def test_a_file_without_telemetry_costs_the_drive(self, tmp_path) -> None:
        root = fill(tmp_path, "x_1.mp4", "x_2.mp4", "x_1.csv", "y_1.mp4", "y_1.csv")
        found = listed(root, join=JOIN)
        assert [source.id for source in found.sources] == ["y"]
        assert failures(found) == {"x": ("list", "its telemetry is missing: there is no x_2.csv")}

    @pytest.mark.parametrize(
        ("names", "join", "said"),
        [
            (
                ("x_1.mp4", "other.mp4"),
                JOIN,
                f"--join {JOIN!r} must match the path of every video, but does not match 'other.mp4'. "
                "Adapt the expression, or leave the video out",
            ),
            (
                ("x_1.mp4", "x.mp4"),
                r"([a-z]+)(?:_(\d+))?\.mp4",
                "must match the path of every video, but does not match 'x.mp4'",
            ),
            (
                ("a/x_1.mp4", "b/x_1.mp4"),
                JOIN,
                "--join gives 'a/x_1.mp4' and 'b/x_1.mp4' the same place '1' in the drive 'x'. "
                "Capture the part of the path that distinguishes them",
            ),
        ],
    )
    def test_expressions_that_do_not_fit(self, tmp_path, names, join, said) -> None:
        root = fill(tmp_path, *names)
        with pytest.raises(UserError) as error:
            listed(root, join=join)
        assert said in str(error.value)


ALONE: dict[str, Any] = {
    "telemetry": None,
    "no_images": True,
    "signal_columns": ("yaw",),
    "label": LabelOptions(label_columns=("speed",)),
}


class TestTelemetryAlone:
    def test_each_file_is_a_drive(self, tmp_path) -> None:
        root = fill(tmp_path, "a.csv", "sub/b.CSV", "a.mp4", "notes.txt", "x.json")
        (root / "sub/b.CSV").write_text(ROWS)
        found = listed(root, **ALONE)
        assert [source.id for source in found.sources] == ["a.csv", "sub/b.CSV"]
        first = found.sources[0]
        assert first == Source(
            id="a.csv",
            path=str(root / "a.csv"),
            data_path="a.csv",
            group="a.csv",
            bytes=len(ROWS),
            mtime_ns=10**18 + 1,
            kind="telemetry",
            seconds=2.5,
            frames=3,
            telemetry=side(root, "a.csv"),
        )

    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{stem}.csv", ["a.csv", "a_gps.csv", "sub/gps.csv"]),
            ("{stem}_gps.csv", ["a_gps.csv"]),
            ("{parent}/gps.csv", ["sub/gps.csv"]),
            ("{name}.csv", ["a.csv", "a_gps.csv", "sub/gps.csv"]),
            ("b.csv", []),
        ],
    )
    def test_a_template_tells_telemetry_from_other_files(
        self, tmp_path, template, expected
    ) -> None:
        root = fill(tmp_path, "a.csv", "a_gps.csv", "sub/gps.csv", "b.txt", "acsv")
        found: list[str] = []
        with contextlib.suppress(UserError):
            found = [own.id for own in listed(root, **{**ALONE, "telemetry": template}).sources]
        assert found == expected

    def test_rows_without_times_last_as_long_as_the_rate_says(self, tmp_path) -> None:
        root = fill(tmp_path, "a.csv")
        (source,) = listed(root, **ALONE, time_column=None, frame_rate=20).sources
        assert (source.seconds, source.frames) == (0.15, 3)
        with pytest.raises(UserError) as error:
            listed(root, **ALONE, time_column=None)
        assert str(error.value) == (
            "the telemetry has no times: name its --time_column, or give its rows per second as --frame_rate"
        )

    def test_a_single_row(self, tmp_path) -> None:
        root = fill(tmp_path, "a.csv", rows="t,speed,yaw\n5,1,2\n")
        (source,) = listed(root, **ALONE).sources
        assert (source.seconds, source.frames) == (0.0, 1)

    def test_bad_ones_are_reported(self, tmp_path) -> None:
        root = fill(tmp_path, "a.csv", "b.csv")
        (root / "b.csv").write_text("t,speed,yaw\n1,1,1\n0,1,1\n")
        found = listed(root, **ALONE)
        assert [source.id for source in found.sources] == ["a.csv"]
        (failure,) = found.failures
        assert isinstance(failure, SourceFailure)
        assert (failure.source, failure.stage) == ("b.csv", "telemetry")
        assert failure.reason.startswith("b.csv line 3: expected times that rise")

    def test_where_nothing_is_there(self, tmp_path) -> None:
        fill(tmp_path, "a.mp4")
        with pytest.raises(UserError) as error:
            listed(tmp_path, **ALONE)
        assert str(error.value) == (
            f"{tmp_path}: expected telemetry files, but none of 1 files is one (by file name)"
        )


class TestFoldersOfFrames:
    def test_folders_of_images_are_drives_where_no_video_is(self, tmp_path) -> None:
        images = [f"run/{k:03}.jpg" for k in range(1, 6)]
        root = fill(tmp_path, *images, "run/gps.csv", "run.csv")
        for template, track in (("{stem}.csv", "run.csv"), ("{name}/gps.csv", "run/gps.csv")):
            (source,) = listed(root, telemetry=template, frame_rate=20).sources
            assert (source.id, source.kind, source.seconds) == ("run", "frames", 0.25)
            assert source.telemetry == side(root, track)
        # The name of a folder has no ending, whatever dots it holds.
        dotted = fill(tmp_path / "dots", *(f"run.v2/{k}.jpg" for k in range(1, 6)), "run.v2.csv")
        (source,) = listed(dotted, frame_rate=20).sources
        assert source.telemetry == side(dotted, "run.v2.csv")
        # Beside a video, images are covers and snapshots.
        fill(root, "a.mp4", "a.csv")
        assert [own.id for own in listed(root, frame_rate=20).sources] == ["a.mp4"]

    def test_they_need_a_rate_and_no_join(self, tmp_path) -> None:
        root = fill(tmp_path, "run/1.jpg", "run/2.jpg")
        with pytest.raises(
            UserError, match=r"run holds frames, which have no times. Give .*--frame_rate"
        ):
            listed(root)
        with pytest.raises(UsageError) as error:
            listed(root, frame_rate=20, join=JOIN)
        assert str(error.value) == (
            "--join is for videos, but --input holds folders of frames. Leave it out"
        )


def test_rows_that_are_merged_are_said(tmp_path: Path) -> None:
    rows = ROWS + "2.5,3,go,0\n"
    assert listed(fill(tmp_path, "a.mp4", "a.csv", "b.mp4", "b.csv", rows=rows)).notes == (
        "2 rows of telemetry repeat the row before them and were merged with it",
    )


class TestExpandColumns:
    HEADER = "t,x2,x10,y,x1\n0,1,2,3,4\n1,1,2,3,4\n"

    def expanded(self, root: Path, label: LabelOptions, **telemetry: Any) -> DatasetOptions:
        options = TelemetryOptions(no_images=True, time_column="t", **telemetry)
        return expand_columns(str(root), DatasetOptions(telemetry=options, label=label))

    def test_patterns_are_columns_in_the_order_of_the_file(self, tmp_path) -> None:
        root = fill(tmp_path, "a.csv", "b.csv", rows=self.HEADER)
        label = LabelOptions(label_columns=("y*",), label_units=("m",), mirrored_columns=("x1*",))
        found = self.expanded(
            root, label, signal_columns=("x*", "x10"), signal_units=("m", "m", "m")
        )
        assert found.telemetry.signal_columns == ("x2", "x10", "x1")
        assert found.label.label_columns == ("y",)
        assert found.label.mirrored_columns == ("x10", "x1")

    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npy"])
    def test_every_format_names_its_columns(self, tmp_path, suffix) -> None:
        path = tmp_path / f"a{suffix}"
        if suffix == ".npy":
            np.save(path, np.zeros(2, [("t", float), ("x1", float), ("x2", float)]))
        else:
            is_csv = suffix == ".csv"
            path.write_text("t,x1,x2\n0,1,2\n" if is_csv else '{"t": 0, "x1": 1, "x2": 2}\n')
        found = self.expanded(tmp_path, LabelOptions(), signal_columns=("x*",))
        assert found.telemetry.signal_columns == ("x1", "x2")

    def test_the_heading_of_gpx_is_an_angle(self, tmp_path) -> None:
        telemetry = TelemetryOptions(telemetry="{stem}.gpx", signal_columns=("speed",))
        for columns, angles in (("heading", "speed"), ("heading",)), (("speed",), ()):
            label = LabelOptions(label_columns=columns)
            options = DatasetOptions(telemetry=telemetry, label=label)
            found = expand_columns(str(tmp_path), options).telemetry
            assert found.angle_columns == angles

    def test_names_without_a_star_read_no_file(self, tmp_path) -> None:
        options = DatasetOptions(telemetry=TelemetryOptions(no_images=True, signal_columns=("x",)))
        assert expand_columns(str(tmp_path / "none"), options) is options

    @pytest.mark.parametrize(
        ("label", "columns", "said"),
        [
            (LabelOptions(), ("z*",), r"columns that match 'z\*', got 't', 'x2'"),
            (LabelOptions(label_columns=("x*",), label_units=("m",)), ("y",), "each of the 3"),
        ],
    )
    def test_patterns_that_do_not_fit(self, tmp_path, label, columns, said) -> None:
        root = fill(tmp_path, "a.csv", rows=self.HEADER)
        with pytest.raises(UserError, match=said):
            self.expanded(root, label, signal_columns=columns)
