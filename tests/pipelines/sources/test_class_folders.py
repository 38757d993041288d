"""Class folders and globs."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions, LabelOptions, SamplingOptions, SplitOptions
from pipelines.plan.descriptors import Listing, SourceFailure
from pipelines.sources import listing as listing_module
from pipelines.sources.class_folders import list_class_folders, list_glob
from pipelines.sources.files import Files
from pipelines.sources.listing import find_files, is_glob, is_video
from pipelines.sources.videos import list_videos
from tfrecords_schema.spec import LabelSpec


def fill(root: Path, *files: str) -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode("utf-8", "surrogateescape"))


def ids(listing: Listing) -> list[str]:
    return [source.id for source in listing.sources]


def classes(listing: Listing) -> dict[str, tuple[str, ...]]:
    return {source.id: source.labels for source in listing.sources}


class TestClassFolders:
    def test_a_folder_is_a_class_at_any_depth(self, tmp_path) -> None:
        root = tmp_path / "actions"
        fill(root, "walk/b.mp4", "run/x/y/a.AVI", "run/c.webm", "run/notes.txt")
        found = list_class_folders(str(root))
        assert found.name == "actions"
        assert classes(found) == {
            "run/c.webm": ("run",),
            "run/x/y/a.AVI": ("run",),
            "walk/b.mp4": ("walk",),
        }
        assert found.label == LabelSpec(task="classification", class_names=("run", "walk"))
        assert found.failures == ()
        (note,) = found.notes
        assert note.startswith("1 files")
        source = found.sources[0]
        assert source.path == str(root / "run/c.webm")
        assert source.data_path == source.group == source.id
        assert source.split is None
        status = os.stat(source.path)
        assert (source.bytes, source.mtime_ns) == (status.st_size, status.st_mtime_ns)

    def test_a_relative_root_gives_absolute_paths_and_relative_data_paths(
        self, tmp_path, monkeypatch
    ) -> None:
        fill(tmp_path, "actions/run/a.mp4")
        monkeypatch.chdir(tmp_path)
        (source,) = list_class_folders("actions").sources
        assert (source.path, source.data_path) == (str(tmp_path / "actions/run/a.mp4"), "run/a.mp4")
        monkeypatch.chdir(tmp_path / "actions")
        assert list_class_folders(".").name == "actions"

    def test_hidden_files_and_folders_are_left_out(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4", "run/.b.mp4", "run/.cache/c.mp4", ".git/d.mp4", ".e.mp4")
        assert ids(list_class_folders(str(tmp_path))) == ["run/a.mp4"]

    def test_links_are_followed_but_not_round_and_round(self, tmp_path) -> None:
        root = tmp_path / "root"
        fill(root, "run/x/a.mp4", "walk/b.mp4")
        fill(tmp_path, "elsewhere/c.mp4")
        (root / "run/x/up").symlink_to(root / "run")
        (root / "run/top").symlink_to(root)  # would make every class part of "run"
        (root / "run/linked").symlink_to(tmp_path / "elsewhere")
        (root / "jump").symlink_to(tmp_path / "elsewhere")  # a class elsewhere
        assert classes(list_class_folders(str(root))) == {
            "jump/c.mp4": ("jump",),
            "run/linked/c.mp4": ("run",),
            "run/x/a.mp4": ("run",),
            "walk/b.mp4": ("walk",),
        }

    def test_a_link_that_leads_nowhere_is_a_failure_of_that_source(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4")
        (tmp_path / "run/gone.mp4").symlink_to("nowhere.mp4")
        (tmp_path / "walk").mkdir()
        (tmp_path / "walk/gone.mp4").symlink_to("nowhere.mp4")
        found = list_class_folders(str(tmp_path))
        assert ids(found) == ["run/a.mp4"]
        assert found.failures == tuple(
            SourceFailure(
                source=f"{name}/gone.mp4", stage="list", reason="No such file or directory"
            )
            for name in ("run", "walk")
        )
        assert found.label.class_names == ("run", "walk")

    @pytest.mark.parametrize(
        ("locked", "pattern"),
        [
            *[("run/locked", pattern) for pattern in ("", "**", "**/*.mp4", "r*/*/*", "[rw]*/**")],
            *[("walk", pattern) for pattern in ("", "**", "*/*.mp4", "[rw]*/*.mp4")],
        ],
    )
    def test_a_folder_that_cannot_be_read_is_a_failure(
        self, locked, pattern, tmp_path, monkeypatch
    ) -> None:
        fill(tmp_path, "run/a.mp4", "run/x/d.mp4", f"{locked}/b.mp4", "walk/c.mp4")
        (tmp_path / ".hidden/locked/run/locked").mkdir(parents=True)
        scandir = os.scandir

        def refuse(path: str):
            if os.fspath(path).endswith(locked):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(listing_module.os, "scandir", refuse)
        listing = (
            list_glob(f"{tmp_path}/{pattern}") if pattern else list_class_folders(str(tmp_path))
        )
        assert [(f.source, f.stage, f.reason) for f in listing.failures] == [
            (f"{locked}/", "list", "Permission denied")
        ]
        assert {"run/a.mp4", "run/x/d.mp4"} & set(ids(listing))
        if pattern != "r*/*/*":  # whether or not a class could be read
            assert listing.label.class_names == ("run", "walk")

    def test_a_glob_whose_root_cannot_be_read_is_an_error(self, tmp_path, monkeypatch) -> None:
        fill(tmp_path, "run/a.mp4")
        scandir = os.scandir

        def refuse(path: str):
            if os.fspath(path).rstrip("/") == str(tmp_path):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(listing_module.os, "scandir", refuse)
        with pytest.raises(PermissionError, match="Permission denied"):
            list_glob(f"{tmp_path}/*/*.mp4")

    def test_names_that_are_not_utf8_are_taken(self, tmp_path) -> None:
        name = os.fsdecode(b"caf\xe9")
        fill(tmp_path, f"{name}/{name}.mp4", "\u96ea/a b.mp4")
        found = list_class_folders(str(tmp_path))
        assert ids(found) == ["caf\udce9/caf\udce9.mp4", "\u96ea/a b.mp4"] or ids(found) == sorted(
            ["caf\udce9/caf\udce9.mp4", "\u96ea/a b.mp4"]
        )
        assert found.label.class_names == tuple(sorted(["caf\udce9", "\u96ea"]))
        assert all(os.path.exists(source.path) for source in found.sources)

    def test_a_video_outside_the_classes_is_refused(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4", "stray.mp4", "readme.txt")
        with pytest.raises(
            UserError, match=r"one folder per class, but found 1 videos .*stray.mp4.* Move"
        ):
            list_class_folders(str(tmp_path))

    def test_other_files_beside_the_classes_do_not_matter(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4", "readme.txt")
        assert ids(list_class_folders(str(tmp_path))) == ["run/a.mp4"]

    def test_a_class_without_a_video_is_refused(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4", "walk/notes.txt")
        with pytest.raises(
            UserError,
            match=r"/walk: expected videos in this class folder, .* Fill the folder or remove it",
        ):
            list_class_folders(str(tmp_path))

    def test_a_folder_without_a_class_is_refused(self, tmp_path) -> None:
        with pytest.raises(
            UserError, match=r"videos per class, but found no folder. Give the folder"
        ):
            list_class_folders(str(tmp_path))

    def test_files_are_walked_in_order(self, tmp_path) -> None:
        fill(tmp_path, "b/2", "b/1", "a/9", "c")
        _, paths = find_files(str(tmp_path), "a folder", Files())
        walked = [os.path.relpath(path, tmp_path) for path in paths]
        assert walked == ["c", "a/9", "b/1", "b/2"]

    @pytest.mark.parametrize("name", ["a.mp4", "A.MP4", "a.b.WebM", "dir.txt/a.mts"])
    def test_videos_are_known_by_name(self, name) -> None:
        assert is_video(name)

    @pytest.mark.parametrize("name", ["a", "mp4", ".mp4", "a.mp4.txt", "a.mp3", "dir.mp4/a"])
    def test_other_files_are_not(self, name) -> None:
        assert not is_video(name)

    def test_links_of_two_classes_to_one_folder_are_refused(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4")
        (tmp_path / "walk").symlink_to(tmp_path / "run")
        with pytest.raises(UserError, match=r"/run and .*/walk are the same folder, by a link"):
            list_class_folders(str(tmp_path))

    def test_folders_of_operating_systems_are_left_out(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4", "run/@eaDir/a/thumb.jpg", "__MACOSX/run/a.mp4", ".DS_Store")
        found = list_class_folders(str(tmp_path))
        assert (ids(found), found.notes) == (["run/a.mp4"], ())

    def test_names_of_classes_are_taken_as_they_are(self, tmp_path) -> None:
        fill(tmp_path, "a|b/a.mp4", "a,b/a.mp4", "A,B/a.mp4")
        assert list_class_folders(str(tmp_path)).label.class_names == ("A,B", "a,b", "a|b")


FRAMES = DatasetOptions(sampling=SamplingOptions(num_frames=2, frame_rate=Fraction(12)))


class TestFolderFrames:
    CLIPS = tuple(
        f"{clip}/{i:05d}.jpg" for clip in ("run/c1", "run/c2", "walk/x/c1") for i in (1, 2, 3)
    )

    @pytest.mark.parametrize("pattern", ["", "*/**/*.*"])
    def test_folders_of_images_are_clips_beside_videos(self, tmp_path, pattern) -> None:
        fill(tmp_path, *self.CLIPS, "walk/b.mp4", "walk/b.jpg", "run/poster.jpg")
        find = list_glob if pattern else list_class_folders
        found = find(os.path.join(tmp_path, pattern).rstrip("/"), FRAMES)
        assert {source.id: (source.kind, source.labels) for source in found.sources} == {
            "run/c1": ("frames", ("run",)),
            "run/c2": ("frames", ("run",)),
            "walk/b.mp4": ("video", ("walk",)),
            "walk/x/c1": ("frames", ("walk",)),
        }
        assert [source.seconds for source in found.sources] == [0.25, 0.25, None, 0.25]
        assert found.notes == (
            "3 folders of images are clips of 12 frames per second (--frame_rate)",
            "2 files that are neither videos nor in folders of frames were left out",
        )

    def test_a_frame_rate_is_needed(self, tmp_path) -> None:
        fill(tmp_path, *self.CLIPS)
        with pytest.raises(
            UserError, match=r"run/c1 holds frames, which have no times. Give .* --frame_rate"
        ):
            list_class_folders(str(tmp_path))

    def test_images_directly_in_the_classes_are_no_clips(self, tmp_path) -> None:
        fill(tmp_path, "run/1.jpg", "run/2.jpg", "walk/1.jpg", "walk/2.jpg")
        with pytest.raises(UserError, match="no folder below it holds images"):
            list_class_folders(str(tmp_path), FRAMES)
        with pytest.raises(UserError, match=r"or folders of frames to match .* Check the pattern"):
            list_glob(f"{tmp_path}/run/*.jpg", FRAMES)

    def test_clips_in_the_root_of_a_glob_are_of_its_class_and_said(self, tmp_path) -> None:
        fill(tmp_path, *(f"db/{clip}" for clip in self.CLIPS if "/c" in clip))
        found = list_glob(f"{tmp_path}/db/run/*/*.jpg", FRAMES)
        assert classes(found) == {"c1": ("run",), "c2": ("run",)}
        assert (
            "all clips are of the one class run. If the folders in it are the classes ('c1', 'c2')"
            in found.notes[0]
        )

    def test_frames_and_optical_flow_in_one_folder_are_a_failure(self, tmp_path) -> None:
        names = [f"{kind}_{i:05d}.jpg" for kind in ("img", "flow_x") for i in (1, 2, 3)]
        fill(tmp_path, *(f"run/v/{name}" for name in names), "walk/v.mp4")
        (failure,) = list_class_folders(str(tmp_path), FRAMES).failures
        assert "flow_x_00001.jpg and img_00001.jpg are frames of two recordings" in failure.reason
        found = list_glob(f"{tmp_path}/*/*/img_*.jpg", FRAMES)
        assert found.sources == ()
        assert "the glob matches 3 of 6 images, but all images" in found.failures[0].reason

    def test_a_relative_glob_finds_folders_of_images(self, tmp_path, monkeypatch) -> None:
        fill(tmp_path, *self.CLIPS[:6])
        monkeypatch.chdir(tmp_path)
        for pattern in ("*/*/*.jpg", ".//*/*/*.jpg"):
            assert classes(list_glob(pattern, FRAMES)) == {"run/c1": ("run",), "run/c2": ("run",)}

    def test_frames_without_numbers_are_said(self, tmp_path) -> None:
        fill(tmp_path, "run/c/a.jpg", "run/c/b.jpg", "walk/d.mp4")
        assert "not numbered in 1 folders" in list_class_folders(str(tmp_path), FRAMES).notes[1]


class TestGlob:
    def test_the_folder_below_the_fixed_part_is_the_class(self, tmp_path) -> None:
        fill(tmp_path, "set/run/a.mp4", "set/walk/x/b.mp4", "set/walk/n.txt", "other/c.mp4")
        found = list_glob(f"{tmp_path}/set/**/*.*")
        assert classes(found) == {"run/a.mp4": ("run",), "walk/x/b.mp4": ("walk",)}
        assert found.name == "set"
        assert found.notes == (
            "1 files that are neither videos nor in folders of frames were left out",
        )
        everything = list_glob(f"{tmp_path}/*/**/*.mp4")
        assert ids(everything) == ["other/c.mp4", "set/run/a.mp4", "set/walk/x/b.mp4"]

    def test_videos_directly_in_the_root_are_of_the_root_s_class(
        self, tmp_path, monkeypatch
    ) -> None:
        fill(tmp_path, "run/a.mp4", "run/b.mp4")
        expected = {"a.mp4": ("run",), "b.mp4": ("run",)}
        assert classes(list_glob(f"{tmp_path}/run/*.mp4")) == expected
        monkeypatch.chdir(tmp_path / "run")
        found = list_glob("*.mp4")
        assert classes(found) == expected
        assert found.name == "run"
        assert found.sources[0].path == str(tmp_path / "run/a.mp4")

    def test_a_video_beside_class_folders_is_refused(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4", "stray.mp4")
        with pytest.raises(UserError, match=r"found 1 videos outside any class .*stray.mp4"):
            list_glob(f"{tmp_path}/**/*.mp4")

    def test_folders_of_operating_systems_are_left_out(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4", "run/@eaDir/a.mp4/THUMB.jpg", "__MACOSX/run/a.mp4")
        assert ids(list_glob(f"{tmp_path}/**/*.*")) == ["run/a.mp4"]

    def test_a_link_in_a_circle_gives_each_video_once(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4", "walk/b.mp4")
        (tmp_path / "run/again").symlink_to(tmp_path / "run")
        assert ids(list_glob(f"{tmp_path}/**/*.mp4")) == ["run/a.mp4", "walk/b.mp4"]

    def test_a_video_that_a_pattern_matches_twice_is_listed_once(self, tmp_path) -> None:
        fill(tmp_path, "run/x/a.mp4")
        found = list_glob(f"{tmp_path}/**/**/*.mp4")
        assert ids(found) == ["run/x/a.mp4"]

    def test_a_link_that_leads_nowhere_is_a_failure(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4")
        (tmp_path / "run/gone.mp4").symlink_to("nowhere.mp4")
        found = list_glob(f"{tmp_path}/run/*.mp4")
        assert ids(found) == ["a.mp4"]
        assert [failure.source for failure in found.failures] == ["gone.mp4"]

    def test_when_nothing_matches_the_pattern_is_named(self, tmp_path) -> None:
        with pytest.raises(UserError, match=r"to match '.*\*.mp4', but no file does. Check"):
            list_glob(f"{tmp_path}/*.mp4")
        fill(tmp_path, "a.txt", "folder.mp4/b.txt")
        with pytest.raises(
            UserError, match="none of the 1 matching files has the extension of a video"
        ):
            list_glob(f"{tmp_path}/*")

    def test_a_name_with_a_glob_character_that_exists_is_a_name(self, tmp_path) -> None:
        (tmp_path / "set[1]").mkdir()
        assert not is_glob(str(tmp_path / "set[1]"))
        assert is_glob(str(tmp_path / "set[2]"))
        assert not is_glob("set")


class TestListVideos:
    @staticmethod
    def list(location: object, **split: object) -> Listing:
        return list_videos(str(location), split=SplitOptions(**split), label=LabelOptions())

    def test_each_kind_of_input_is_known(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4")
        (tmp_path / "list.csv").write_text("path,label\nrun/a.mp4,run\n")
        for location in (tmp_path, tmp_path / "*/*.mp4", tmp_path / "list.csv"):
            assert classes(self.list(location)) == {"run/a.mp4": ("run",)}

    def test_what_is_not_there_or_of_no_known_kind_is_refused(self, tmp_path) -> None:
        with pytest.raises(UserError, match=r"there is nothing at .*/none"):
            self.list(tmp_path / "none")
        with pytest.raises(UserError, match=r"there is nothing at .*/none.csv"):
            self.list(tmp_path / "none.csv")
        fill(tmp_path, "a.mp4")
        with pytest.raises(UserError, match=r"a glob or a manifest .* got the file .*a.mp4"):
            self.list(tmp_path / "a.mp4")

    def test_label_columns_need_a_manifest(self, tmp_path) -> None:
        fill(tmp_path, "run/a.mp4")
        with pytest.raises(UserError, match="--label_columns needs a manifest"):
            list_videos(
                str(tmp_path), split=SplitOptions(), label=LabelOptions(label_columns=("x",))
            )

    def test_groups_are_captured_from_paths(self, tmp_path) -> None:
        fill(tmp_path, "run/v_run_g01_c01.avi", "run/v_run_g01_c02.avi", "walk/v_walk_g02_c01.avi")
        found = self.list(tmp_path, group_by=r"_(g\d+)_")
        assert [source.group for source in found.sources] == ["g01", "g01", "g02"]

    @pytest.mark.parametrize("expression", [r"_(g\d+)_", r"run|(walk)"])
    def test_a_path_without_a_group_is_refused(self, tmp_path, expression) -> None:
        fill(tmp_path, "run/a.avi", "walk/a_g01_.avi")
        with pytest.raises(UserError, match=r"must match the path of every source, .*'run/a.avi'"):
            self.list(tmp_path, group_by=expression)

    def test_max_per_class_counts_sources_that_are_built(self, tmp_path) -> None:
        names = [f"{c}/v_{c}_g{i:02}_c1.avi" for c in ("run", "walk") for i in range(20)]
        fill(tmp_path / "in", *names)
        (tmp_path / "list").write_text("".join(f"{name}\n" for name in names[::2]))
        options = {"split_lists": (f"test={tmp_path}/list",), "unlisted": "leave_out"}
        label = LabelOptions(max_per_class=8)
        found = list_videos(str(tmp_path / "in"), split=SplitOptions(**options), label=label)
        assert [source.labels[0] for source in found.sources] == ["run"] * 8 + ["walk"] * 8
        assert {source.split for source in found.sources} == {"test"}

    def test_limited_classes_do_not_fill_a_listed_split(self, tmp_path) -> None:
        fill(tmp_path / "in", *(f"run/{i:02}.avi" for i in range(41)))
        (tmp_path / "list").write_text("run/00.avi\n")
        split = SplitOptions(split_lists=(f"test={tmp_path}/list",))
        label = LabelOptions(max_per_class=40)
        for seed in range(5):  # the one listed source is seldom among the chosen
            split = replace(split, seed=seed, splits=(("train", 0.5), ("test", 0.5)))
            found = list_videos(str(tmp_path / "in"), split=split, label=label)
            assert {s.id for s in found.sources if s.split != "train"} <= {"run/00.avi"}
            assert len(found.sources) == 40

    def test_split_lists_and_their_notes_are_passed_on(self, tmp_path) -> None:
        fill(tmp_path / "in", "run/a.avi", "run/b.avi", "run/n.txt")
        fill(tmp_path, "list")
        (tmp_path / "list").write_text("run/a.avi 1\n")
        found = self.list(tmp_path / "in", split_lists=(f"test={tmp_path}/list",))
        assert [source.split for source in found.sources] == ["test", "validation"]  # its hash
        assert [note.split(" ")[0] for note in found.notes] == ["1", "listed", "1"]
