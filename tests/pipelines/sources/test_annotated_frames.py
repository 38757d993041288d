"""Folders of frames with an annotation file: what becomes a source, and what is said of the others."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import AnnotationOptions
from pipelines.plan.descriptors import Listing, SideFile
from pipelines.sources.annotated_frames import list_annotated_frames
from tfrecords_schema.spec import LabelSpec

VELOCITY = [{"velocity": [9.5, -0.1]}]


def fill(folder: Path, frames=range(1, 9), annotation=VELOCITY, *, sub="imgs", name="{:03d}.jpg"):
    """A sample folder; no test here opens its images. ``annotation`` None makes no file."""
    images = folder / sub if sub else folder
    images.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        (images / name.format(frame)).write_bytes(bytes(int(frame) if frame != "" else 0))
    if annotation is not None:
        (folder / "annotation.json").write_text(json.dumps(annotation))


def listed(root, expression="[0].velocity", *, annotation="annotation.json", **options) -> Listing:
    sampling = {"num_frames": 8, "frame_rate": Fraction(20)}
    sampling |= {key: options.pop(key) for key in list(options) if not key.startswith("label_")}
    return list_annotated_frames(
        str(root),
        annotation=AnnotationOptions(annotation=annotation, label=expression),
        label=LabelOptions(**options),
        sampling=SamplingOptions(**sampling),
    )


def ids(listing: Listing) -> list[str]:
    return [source.id for source in listing.sources]


def failures(listing: Listing) -> dict[str, str]:
    assert {failure.stage for failure in listing.failures} <= {"list"}
    assert not any("\n" in failure.reason for failure in listing.failures)
    return {failure.source: failure.reason for failure in listing.failures}


class TestLayout:
    def test_train_id_imgs(self, tmp_path) -> None:
        root = tmp_path / "Train"
        fill(root / "1")
        fill(root / "2", annotation=[{"velocity": [3, 4]}])
        (root / "1/imgs/002.jpg").write_bytes(bytes(100))
        os.utime(root / "1/imgs/004.jpg", ns=(0, 2**61))
        found = listed(root)
        assert found.name == "Train"
        assert found.failures == found.notes == ()
        assert found.label == LabelSpec(
            task="regression", target_names=("velocity_0", "velocity_1")
        )
        first, second = found.sources
        assert first.id == first.data_path == first.group == "1"
        assert first.path == str(root / "1/imgs")
        assert first.kind == "frames"
        assert first.seconds == 8 / 20
        assert first.bytes == sum(range(1, 9)) - 2 + 100
        assert first.mtime_ns == 2**61
        assert (first.values, first.labels, first.telemetry) == ((9.5, -0.1), (), None)
        assert second.values == (3.0, 4.0)
        assert second.mtime_ns == max(
            path.stat().st_mtime_ns for path in (root / "2").rglob("*.*") if path.is_file()
        )

    def test_frames_directly_beside_the_annotation_win(self, tmp_path) -> None:
        fill(tmp_path / "a", sub="")
        fill(tmp_path / "a", sub="thumbnails", frames=[1])
        fill(tmp_path / "b/c", sub="")
        found = listed(tmp_path)
        assert {source.id: source.path for source in found.sources} == {
            "a": str(tmp_path / "a"),
            "b/c": str(tmp_path / "b/c"),
        }
        assert found.failures == ()

    def test_the_root_may_itself_be_a_sample_folder(self, tmp_path, monkeypatch) -> None:
        fill(tmp_path / "Drive")
        assert ids(listed(tmp_path / "Drive")) == ["Drive"]
        monkeypatch.chdir(tmp_path / "Drive")
        (source,) = listed(".").sources
        assert (source.id, source.data_path) == ("Drive", "Drive")
        assert source.path == str(tmp_path / "Drive/imgs")
        fill(tmp_path / "Drive/Drive", sub="")  # ids stay unique
        assert ids(listed(".")) == [".", "Drive"]

    def test_images_of_every_kind_count_and_hidden_ones_do_not(self, tmp_path) -> None:
        fill(tmp_path / "a", frames=[])
        images = ["1.jpg", "2.JPEG", "3.png", "4.bmp", "5.webp", "6.tif", "7.TIFF", "8.jpg"]
        for name in [*images, ".9.jpg", "notes.txt"]:
            (tmp_path / "a/imgs" / name).touch()
        fill(tmp_path / ".hidden")
        found = listed(tmp_path)
        assert [source.seconds for source in found.sources] == [8 / 20]
        assert found.notes == ("1 files that are not named as images were left out",)

    def test_links_are_followed_but_not_round_and_round(self, tmp_path) -> None:
        fill(tmp_path / "root/a")
        (tmp_path / "root/a/up").symlink_to(tmp_path / "root")
        fill(tmp_path / "elsewhere", sub="")
        (tmp_path / "root/b").mkdir()
        (tmp_path / "root/b/imgs").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "root/self").symlink_to("self")
        found = listed(tmp_path / "root")
        assert ids(found) == ["a", "b/imgs"]

    def test_names_that_are_not_utf8_are_taken(self, tmp_path) -> None:
        fill(tmp_path / os.fsdecode(b"caf\xe9"))
        (source,) = listed(tmp_path).sources
        assert source.id == "caf\udce9"
        assert os.path.isdir(source.path)

    def test_frames_without_numbers_are_noted(self, tmp_path) -> None:
        fill(tmp_path / "a", name="{}.jpg", frames=[100, 149, 201, 250, 299, 352, 401, 449])
        (note,) = listed(tmp_path).notes
        assert note == (
            "frames are not numbered in 1 folders (for example a), so missing ones cannot be noticed there"
        )


class TestNoDataset:
    def test_no_folder(self, tmp_path) -> None:
        with pytest.raises(UserError, match=r"--input must be a folder .*, got .*/none"):
            listed(tmp_path / "none")

    def test_nothing(self, tmp_path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "notes.txt").touch()
        with pytest.raises(
            UserError,
            match=r"expected a file annotation.json .* and 0 folders have images. Check --input",
        ):
            listed(tmp_path)

    def test_no_annotation_at_all(self, tmp_path) -> None:
        fill(tmp_path / "a")
        fill(tmp_path / "b")
        with pytest.raises(
            UserError,
            match=r"a file labels.json beside .* and 2 folders have images. Check .* --annotation",
        ):
            listed(tmp_path, annotation="labels.json")

    def test_no_folder_that_can_be_used(self, tmp_path) -> None:
        fill(tmp_path / "a", frames=range(7))
        with pytest.raises(
            UserError,
            match=r"none of 1 folders of frames can be used, for example 'a': 7 frames, but --num",
        ):
            listed(tmp_path)
        fill(tmp_path / "a")
        with pytest.raises(
            UserError, match=r"for example 'a': a/annotation.json: 'x' found nothing"
        ):
            listed(tmp_path, "x")


class TestFailures:
    """Failures of one folder, beside one without."""

    @pytest.fixture
    def root(self, tmp_path):
        fill(tmp_path / "well")
        return tmp_path

    def reason(self, root, **options) -> str:
        found = listed(root, **options)
        assert "well" in ids(found)
        (reason,) = failures(found).values()
        return reason

    def test_no_annotation_by_the_folder_that_lacks_it(self, root) -> None:
        fill(root / "a", annotation=None)
        fill(root / "b", annotation=None, sub="")
        fill(root / "c", annotation=None, sub="pictures")
        assert failures(listed(root)) == {
            "a": "no annotation.json beside the folder imgs with its frames",
            "b": "no annotation.json in this folder of frames",
            "c/pictures": "no annotation.json in this folder of frames",
        }

    def test_no_annotation_in_the_root(self, root) -> None:
        fill(root, annotation=None, sub="", frames=[1])
        assert failures(listed(root)) == {root.name: "no annotation.json in this folder of frames"}

    def test_no_frames(self, root) -> None:
        fill(root / "a", frames=[])
        assert self.reason(root) == (
            "no images (by file name), neither in this folder nor in its sub-folders"
        )

    def test_frames_in_several_folders(self, root) -> None:
        fill(root / "a", sub="left")
        fill(root / "a", sub="right")
        assert (
            self.reason(root)
            == "expected frames in one folder, but found them in several (left, right)"
        )

    def test_a_short_folder(self, root) -> None:
        fill(root / "a", frames=range(7))
        assert self.reason(root) == "7 frames, but --num_frames needs 8: see --short_clips"
        assert ids(listed(root, short_clips="pad")) == ["a", "well"]
        (root / "a/imgs").rename(root / "gone")
        fill(root / "a", frames=[5])
        fill(root / "gone", annotation=VELOCITY, sub="")
        assert failures(listed(root))["a"].startswith("1 frame, but --num_frames needs 8")

    def test_a_hole(self, root) -> None:
        fill(root / "a", frames=[1, 2, 3, 5, 6, 7, 8])
        hole = "frame 004 is missing between 003.jpg and 005.jpg, which leaves no 8 frames in a row"
        assert self.reason(root) == hole
        assert self.reason(root, short_clips="pad") == hole
        assert ids(listed(root, num_frames=3)) == ["a", "well"]
        assert ids(listed(root, sampling="uniform")) == ["a", "well"]
        (source, _) = listed(root, num_frames=3).sources
        assert source.seconds == 8 / 20

    def test_several_holes(self, root) -> None:
        fill(root / "a", frames=[*range(1, 4), *range(6, 10), *range(11, 15), *range(16, 20)])
        assert self.reason(root) == (
            "frames 004 to 005 are missing between 003.jpg and 006.jpg (the first of 3 holes), "
            "which leaves no 8 frames in a row"
        )

    def test_a_hole_that_leaves_no_sequence_where_one_would_begin(self, root) -> None:
        fill(root / "a", frames=[1, 2, 3, *range(5, 14)])
        assert self.reason(root) == (
            "frame 004 is missing between 003.jpg and 005.jpg, which leaves no 8 frames in a row "
            "that begin at a multiple of --stride 8"
        )
        assert ids(listed(root, stride=2)) == ["a", "well"]
        assert ids(listed(root, sampling="last")) == ["a", "well"]
        fill(root / "a", frames=[15])
        assert self.reason(root, sampling="last").endswith("leaves no 8 frames in a row at the end")

    def test_one_frame_twice(self, root) -> None:
        fill(root / "a")
        (root / "a/imgs/001.png").touch()
        assert self.reason(root) == "001.jpg and 001.png are the same frame: keep one"

    def test_files_that_are_not_there_or_no_files(self, root) -> None:
        fill(root / "a")
        (root / "a/imgs/008.jpg").unlink()
        (root / "a/imgs/008.jpg").symlink_to("nowhere")
        assert self.reason(root) == "008.jpg: No such file or directory"
        (root / "a/imgs/008.jpg").unlink()
        os.mkfifo(root / "a/imgs/008.jpg")
        assert (
            self.reason(root) == "008.jpg: it is a folder, a device or a pipe, not a regular file"
        )

    def test_an_annotation_that_is_not_there_or_cannot_be_read(self, root, monkeypatch) -> None:
        fill(root / "a", annotation=None)
        (root / "a/annotation.json").symlink_to("nowhere")
        assert self.reason(root) == "annotation.json: No such file or directory"
        (root / "a/annotation.json").unlink()
        (root / "a/annotation.json").write_text("{")
        assert self.reason(root).startswith(
            "a/annotation.json: expected JSON, got an error in line 1, column 2"
        )

    def test_a_label_of_another_kind_than_most(self, root) -> None:
        fill(root / "also_well")
        fill(root / "a", annotation=[{"velocity": 3}])
        fill(root / "b", annotation=[{"velocity": "fast"}])
        fill(root / "c", annotation=[{"velocity": ["fast"]}])
        fill(root / "d", annotation=[{"velocity": [[1]] * 8}])
        assert failures(listed(root)) == {
            "a": "the label is 1 number, but most other labels are 2 numbers",
            "b": "the label is a class, but most other labels are 2 numbers",
            "c": "the label is a list of classes, but most other labels are 2 numbers",
            "d": "the label is 1 number per frame, but most other labels are 2 numbers",
        }

    def test_two_kinds_that_are_equally_common(self, root) -> None:
        fill(root / "a", annotation=[{"velocity": 3}])
        with pytest.raises(
            UserError,
            match=r"one kind at '\[0\].velocity', got 1 number in 'a' and 2 numbers in 'well', in 1",
        ):
            listed(root)


class TestLabels:
    def sources(self, root, *annotations, **options) -> Listing:
        for index, annotation in enumerate(annotations):
            fill(root / str(index), annotation=annotation)
        found = listed(root, **options)
        assert found.failures == ()
        return found

    def test_one_number(self, tmp_path) -> None:
        found = self.sources(tmp_path, {"speed": 3}, {"speed": [4]}, expression="speed")
        assert found.label == LabelSpec(task="regression", target_names=("speed",))
        assert [source.values for source in found.sources] == [(3.0,), (4.0,)]

    def test_names_and_units_of_the_user(self, tmp_path) -> None:
        options = {"label_names": ("forward", "left"), "label_units": ("m/s", "m/s")}
        found = self.sources(tmp_path, VELOCITY, **options)
        assert found.label == LabelSpec(
            task="regression", target_names=("forward", "left"), target_units=("m/s", "m/s")
        )

    @pytest.mark.parametrize("flag", ["label_names", "label_units"])
    def test_a_wrong_count_of_them_is_refused(self, tmp_path, flag) -> None:
        with pytest.raises(
            UserError,
            match=rf"--{flag} must have one entry per number .*'\[0\].velocity' \(2\), got x$",
        ):
            self.sources(tmp_path, VELOCITY, **{flag: ("x",)})

    def test_classes(self, tmp_path) -> None:
        found = self.sources(tmp_path, {"c": "run"}, {"c": "fall"}, {"c": "run"}, expression="c")
        assert found.label == LabelSpec(task="classification", class_names=("fall", "run"))
        assert [source.labels for source in found.sources] == [("run",), ("fall",), ("run",)]
        with pytest.raises(
            UserError, match="--label_names and --label_units need labels that are numbers, got"
        ):
            listed(tmp_path, "c", label_names=("x",))

    def test_classes_are_in_natural_order(self, tmp_path) -> None:
        contents = [{"c": f"level {number}"} for number in (10, 2)]
        found = self.sources(tmp_path, *contents, expression="c")
        assert found.label.class_names == ("level 2", "level 10")

    def test_several_classes(self, tmp_path) -> None:
        found = self.sources(tmp_path, {"c": ["run", "fall"]}, {"c": ["wave"]}, expression="c")
        assert found.label == LabelSpec(task="multilabel", class_names=("fall", "run", "wave"))
        assert found.sources[0].labels == ("fall", "run")

    def test_a_class_of_true_and_false(self, tmp_path) -> None:
        found = self.sources(tmp_path, {"c": True}, {"c": False}, expression="c")
        assert found.label.class_names == ("false", "true")

    def test_rows_are_by_frame(self, tmp_path) -> None:
        rows = [{"velocity": [i, -i]} for i in range(8)]
        found = self.sources(tmp_path, rows, expression="[*].velocity")
        assert found.label.target_names == ("velocity_0", "velocity_1")
        assert not found.label.per_frame
        (source,) = found.sources
        path = tmp_path / "0/annotation.json"
        assert (source.values, source.labels) == ((), ())
        assert source.telemetry == SideFile(
            path=str(path),
            data_path="0/annotation.json",
            bytes=path.stat().st_size,
            mtime_ns=path.stat().st_mtime_ns,
        )

    @pytest.mark.parametrize("label_at", ["mean", "center", "each"])
    def test_a_flat_list_is_by_frame_where_a_frame_is_asked_for(self, tmp_path, label_at) -> None:
        found = self.sources(tmp_path, list(range(8)), expression="@", label_at=label_at)
        assert found.label == LabelSpec(
            task="regression", target_names=("label",), per_frame=label_at == "each"
        )
        assert found.sources[0].telemetry is not None

    def test_classes_by_frame(self, tmp_path) -> None:
        lists = (["run"] * 7 + ["fall"], ["wave"] * 8)
        found = self.sources(tmp_path, *lists, expression="@", label_at="each")
        assert found.label == LabelSpec(
            task="classification", class_names=("fall", "run", "wave"), per_frame=True
        )
        assert [source.labels for source in found.sources] == [(), ()]
        with pytest.raises(
            UserError, match="--label_at mean needs labels that are numbers, got a class per frame"
        ):
            listed(tmp_path, "@", label_at="mean")

    def test_another_number_of_entries_than_frames(self, tmp_path) -> None:
        fill(tmp_path / "a", annotation=[1] * 7)
        fill(tmp_path / "b", annotation=[1] * 8)
        fill(tmp_path / "c", annotation=3)
        assert failures(listed(tmp_path, "@", label_at="each")) == {
            "a": "a/annotation.json: expected a label for each frame, got 7 entries for 8 frames",
            "c": "c/annotation.json: expected a list with an entry for each frame, got 3.0",
        }
