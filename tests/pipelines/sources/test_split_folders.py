"""Folders that are splits: when they are recognised, and what is said or asked otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions, SamplingOptions, SplitOptions
from pipelines.plan.descriptors import Listing, Part, Source
from pipelines.sources.split_folders import apply_split_folders, find_split_folders
from pipelines.sources.videos import list_videos
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.split_names import standard_split


def fill(root: Path, *files: str) -> str:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode())
    return str(root)


def listed(location: object, *, rate: int | None = None, **split: object) -> Listing:
    sampling = SamplingOptions(num_frames=2, frame_rate=rate)
    options = SplitOptions(**split)
    return list_videos(str(location), split=options, label=LabelOptions(), sampling=sampling)


def places(listing: Listing) -> dict[str, tuple[str | None, str]]:
    return {source.id: (source.split, source.labels[0]) for source in listing.sources}


TWO = ("train/run/a.avi", "train/walk/x/b.avi", "Test/run/a.avi", "Test/walk/c.avi")
PLACED = {
    "Test/run/a.avi": ("test", "run"),
    "Test/walk/c.avi": ("test", "walk"),
    "train/run/a.avi": ("train", "run"),
    "train/walk/x/b.avi": ("train", "walk"),
}
SAID = "folders taken as splits: Test (test), train; --split_folders off takes them as classes"


class TestClassFolders:
    @pytest.mark.parametrize("pattern", ["", "*/*/**/*.avi", "**"])
    def test_folders_above_the_classes_are_splits(self, tmp_path, pattern) -> None:
        found = listed(Path(fill(tmp_path, *TWO)) / pattern)
        assert places(found) == PLACED
        assert found.label.class_names == ("run", "walk")
        assert found.notes[0] == SAID

    @pytest.mark.parametrize("place", ["train", "train/*/*", "train.csv"])
    def test_an_input_that_is_named_like_a_split_is_not_divided_in_silence(
        self, place, tmp_path
    ) -> None:
        fill(tmp_path, "train/run/a.avi", "train/walk/b.avi", "clips/a.avi")
        (tmp_path / "train.csv").write_text("path,label\nclips/a.avi,run\n")
        (said,) = (n for n in listed(tmp_path / place).notes if "named like a split" in n)
        assert "--splits train=1 puts them all into train" in said
        for options in ({"splits": (("train", 1.0),)}, {"split_folders": "off"}):
            assert not listed(tmp_path / place, **options).notes

    def test_a_name_like_a_split_means_nothing_where_splits_are_given(self, tmp_path) -> None:
        fill(tmp_path / "train", *TWO)
        assert listed(tmp_path / "train").notes[0] == SAID
        assert "named like" not in str(listed(tmp_path / "train").notes)

    def test_off_takes_them_as_classes(self, tmp_path) -> None:
        found = listed(fill(tmp_path, *TWO), split_folders="off")
        assert {source.split for source in found.sources} == {None}
        assert found.label.class_names == ("Test", "train")

    def test_folders_below_the_classes_are_splits(self, tmp_path) -> None:
        root = fill(tmp_path, "run/train/a.avi", "run/val/b.avi", "walk/train/x/a.avi")
        found = listed(root)
        assert places(found) == {
            "run/train/a.avi": ("train", "run"),
            "run/val/b.avi": ("validation", "run"),
            "walk/train/x/a.avi": ("train", "walk"),
        }
        assert found.notes[0] == (
            "folders taken as splits: train, val (validation), below other folders; --split_folders off "
            "takes them as ordinary folders"
        )

    def test_two_names_of_one_split_are_united_and_said(self, tmp_path) -> None:
        found = listed(fill(tmp_path, "val/run/a.avi", "Validation/run/a.avi", "train/run/b.avi"))
        assert sorted(source.split for source in found.sources) == [
            "train",
            "validation",
            "validation",
        ]
        assert "Validation (validation), train, val (validation);" in found.notes[0]

    def test_one_such_name_among_classes_is_a_class_and_said(self, tmp_path) -> None:
        found = listed(fill(tmp_path, "car/a.avi", "bus/a.avi", "train/a.avi"))
        assert found.label.class_names == ("bus", "car", "train")
        assert found.notes[0].startswith("folder not taken as a split, because")
        assert found.notes[0].endswith(": train")

    @pytest.mark.parametrize(
        "extra",
        ["car/a.avi", "labels/run/x.jpg"],
        ids=["class", "images"],
    )
    def test_two_such_names_among_others_are_asked_about(self, tmp_path, extra) -> None:
        root = fill(tmp_path, *TWO, extra)
        with pytest.raises(
            UserError,
            match=r"like splits: Test \(test\), train; but others beside them are not: .*off",
        ):
            listed(root, rate=5)

    def test_some_classes_with_split_folders_are_asked_about(self, tmp_path) -> None:
        root = fill(tmp_path, "run/train/a.avi", "run/test/a.avi", "walk/a.avi")
        with pytest.raises(UserError, match=r"test, train, below other .* are not: walk/a.avi. So"):
            listed(root)

    def test_videos_without_a_class_are_refused(self, tmp_path) -> None:
        root = fill(tmp_path, "train/a.avi", "train/run/b.avi", "test/run/a.avi")
        with pytest.raises(UserError, match=r"found 1 videos outside any class .*train/a.avi"):
            listed(root)

    def test_a_folder_around_the_splits_is_not_taken_for_the_class(self, tmp_path) -> None:
        root = fill(tmp_path, *(f"UCF101/{path}" for path in TWO))
        with pytest.raises(UserError, match=r"of the one class UCF101.* give UCF101 as --input"):
            listed(root)
        assert "one class UCF101. If" in listed(root, split_folders="off").notes[0]

    def test_a_list_beside_split_folders_is_refused(self, tmp_path) -> None:
        root = fill(tmp_path, *TWO)
        (tmp_path / "list").write_text("train/run/a.avi\n")
        with pytest.raises(UserError, match=r"both name the split of .*--split_folders off"):
            listed(root, split_lists=(f"test={tmp_path}/list",))

    def test_a_class_that_is_empty_in_every_split_is_refused(self, tmp_path) -> None:
        root = fill(tmp_path, *TWO, "train/jump/readme.txt")
        with pytest.raises(UserError, match=r"train/jump: expected videos in this class"):
            listed(root)
        fill(tmp_path, "Test/jump/a.avi")
        assert listed(root).label.class_names == ("jump", "run", "walk")

    def test_a_class_linked_into_two_splits_is_refused(self, tmp_path) -> None:
        root = fill(tmp_path, *TWO)
        (tmp_path / "Test/jump").symlink_to(tmp_path / "train/run")
        with pytest.raises(UserError, match="are the same folder, by a link"):
            listed(root)

    def test_a_manifest_without_splits_is_read_likewise(self, tmp_path) -> None:
        fill(tmp_path, *TWO)
        rows = "".join(f"{path},run\n" for path in TWO)
        (tmp_path / "list.csv").write_text(f"path,label\n{rows}")
        found = listed(tmp_path / "list.csv")
        assert {id: split for id, (split, _) in places(found).items()} == {
            id: split for id, (split, _) in PLACED.items()
        }
        (tmp_path / "list.csv").write_text("path,label,split\ntrain/run/a.avi,run,test\n")
        assert listed(tmp_path / "list.csv").sources[0].split == "test"


class TestFindSplitFolders:
    @given(
        st.lists(
            st.lists(
                st.sampled_from(["train", "VAL", "dev", "test", "run"]), min_size=1, max_size=3
            ),
            min_size=1,
            max_size=6,
        )
    )
    def test_against_every_folder_of_a_level(self, folders) -> None:
        paths = ["/".join([*own, "x.mp4"]) for own in folders]
        expected: object = None
        for level in (0, 1):
            names = [own[level] if len(own) > level else "" for own in folders]
            splits = {name for name in names if standard_split(name)}
            if splits and all(map(standard_split, names)):
                expected = level
            elif len(splits) > 1:
                expected = "asked"
            if expected is not None:
                break
        try:
            found: object = find_split_folders(paths, SplitOptions(), as_folders="x").level
        except UserError:
            found = "asked"
        assert found == expected


class TestDrives:
    def listing(self, *drives: tuple[str, ...]) -> Listing:
        sources = []
        for files in drives:
            parts = tuple(Part(path=f"/x/{file}", data_path=file) for file in files)
            fields = {"id": files[0], "path": f"/x/{files[0]}", "data_path": files[0]}
            sources.append(Source(group=files[0], parts=parts if len(files) > 1 else (), **fields))
        return Listing(name="x", sources=tuple(sources), label=LabelSpec())

    def test_drives_of_several_files_lie_in_one_split(self) -> None:
        found = self.listing(("train/a1.mp4", "train/a2.mp4"), ("val/b.mp4",))
        done = apply_split_folders(found, SplitOptions())
        assert [source.split for source in done.sources] == ["train", "validation"]
        assert "off takes them as ordinary folders" in done.notes[0]
        found = self.listing(("train/a1.mp4", "test/a2.mp4"))
        with pytest.raises(
            UserError, match=r"'train/a1.mp4' has files in the folders of test and train"
        ):
            apply_split_folders(found, SplitOptions())

    def test_folders_of_frames_may_be_the_splits_themselves(self) -> None:
        def frames(*names: str) -> Listing:
            sources = [
                Source(id=name, path=f"/x/{name}", data_path=name, group=name, kind="frames")
                for name in names
            ]
            return Listing(name="train", sources=tuple(sources), label=LabelSpec())

        for names in (("train", "Test"), ("a/train", "b/test")):
            done = apply_split_folders(frames(*names), SplitOptions())
            assert [source.split for source in done.sources] == ["train", "test"]
        with pytest.raises(UserError, match="others beside them are not: c/"):
            apply_split_folders(frames("a/train", "b/test", "c"), SplitOptions())
        only = frames("train")  # the input itself, whose id is its name
        assert apply_split_folders(only, SplitOptions()) == only

    def test_a_drive_outside_the_splits_is_asked_about(self) -> None:
        found = self.listing(("train/a.mp4",), ("test/a.mp4",), ("b.mp4",))
        with pytest.raises(UserError, match=r"others beside them are not: b.mp4"):
            apply_split_folders(found, SplitOptions())
        off = apply_split_folders(found, SplitOptions(split_folders="off"))
        assert off == found
