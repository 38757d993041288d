"""`pipelines videos` as a process, on real clips, judged by the bytes it leaves behind."""

import contextlib
import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.processes import ROOT, processes_with, run_python, wait_until

DATA = ROOT / "tests" / "data"
FLAGS = ("--num_frames", "8", "--frame_rate", "10", "--size", "48x64", "--seed", "1")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Class folders: two classes, three clips, one of them nested a level deeper."""
    root = tmp_path / "clips"
    for place in ("concert/demo.mp4", "concert/web/demo.webm", "dog/phone_vfr.mp4"):
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / target.name, target)
    return root


def run(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "pipelines", *arguments, **settings)


def build(clips: Path, output: Path, *flags: object) -> dict:
    done = run("videos", "--input", clips, "--output", output, *FLAGS, *flags)
    assert done.returncode == 0, done.stderr
    return json.loads((output / "dataset_info.json").read_text())


def checksums(output: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.glob("*.tfrecord"))
    }


def read_with_tensorflow(output: Path) -> list[dict]:
    """Every record, by TensorFlow's reader and parser and the keys' literal names."""
    import tensorflow as tf

    records = []
    for path in sorted(output.glob("*.tfrecord")):
        for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            example = tf.train.SequenceExample.FromString(data)
            context = example.context.feature
            lists = example.feature_lists.feature_list
            records.append(
                {
                    "split": path.name.split("-")[0],
                    "bytes": data,
                    "id": context["example/id"].bytes_list.value[0].decode(),
                    "path": context["clip/data_path"].bytes_list.value[0].decode(),
                    "group": context["clip/group_id"].bytes_list.value[0].decode(),
                    "labels": [v.decode() for v in context["clip/label/string"].bytes_list.value],
                    "indices": list(context["clip/label/index"].int64_list.value),
                    "values": list(context["clip/label/value"].float_list.value),
                    "valid": context["image/valid_frames"].int64_list.value[0],
                    "times": [f.int64_list.value[0] for f in lists["image/timestamp"].feature],
                    "frames": [f.bytes_list.value[0] for f in lists["image/encoded"].feature],
                }
            )
    assert records
    return records


def decode(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def assert_one_line_error(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    last = done.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert "error:" in last
    for text in expected:
        assert text in last


class TestBuild:
    def test_records_hold_what_the_clips_hold(self, clips: Path, tmp_path: Path) -> None:
        info = build(clips, tmp_path / "out")
        records = read_with_tensorflow(tmp_path / "out")

        assert (tmp_path / "out/failures.jsonl").read_text() == ""
        assert not (tmp_path / "out/_build").exists()
        # 24 frames/s from 0 to 60 s sampled at 10: 601 slots, 75 whole windows of 8. The phone's clip ends
        # after 133571/90000 s: 15 slots, 1 window.
        by_path = {path: [r for r in records if r["path"] == path] for path in sources(info)}
        assert {path: len(own) for path, own in by_path.items()} == {
            "concert/demo.mp4": 75,
            "concert/web/demo.webm": 75,
            "dog/phone_vfr.mp4": 1,
        }
        assert {tuple(r["labels"]) for r in by_path["dog/phone_vfr.mp4"]} == {("dog",)}
        assert {tuple(r["indices"]) for r in by_path["concert/demo.mp4"]} == {(0,)}
        assert len({r["id"] for r in records}) == len(records)
        for record in records:
            assert len(record["frames"]) == len(record["times"]) == 8
            assert decode(record["frames"][0]).shape == (48, 64, 3)
        # The frame on screen at 0.1 s is the third, presented at 2/24 s.
        first = min(by_path["concert/demo.mp4"], key=lambda r: r["times"][0])
        assert first["times"] == [0, 83333, 166667, 291667, 375000, 500000, 583333, 666667]

    def test_the_description_agrees_with_the_files(self, clips: Path, tmp_path: Path) -> None:
        info = build(clips, tmp_path / "out")
        records = read_with_tensorflow(tmp_path / "out")

        described = {s["file"]: s for split in info["splits"].values() for s in split["shards"]}
        assert {name: s["sha256"] for name, s in described.items()} == checksums(tmp_path / "out")
        for name, split in info["splits"].items():
            own = [record for record in records if record["split"] == name]
            assert split["records"] == len(own)
            assert split["label_counts"] == [
                sum(r["indices"] == [index] for r in own) for index in range(2)
            ]
            pixels = np.concatenate([decode(f).reshape(-1, 3) for r in own for f in r["frames"]])
            # Moments are of the pixels before JPEG, which changes single pixels but hardly their moments.
            np.testing.assert_allclose(split["pixel_mean"], pixels.mean(0), atol=1.5)
            np.testing.assert_allclose(split["pixel_std"], pixels.std(0), atol=1.5)
        assert info["spec"]["label"]["class_names"] == ["concert", "dog"]
        assert info["options"]["frame_rate"] == "10"

    def test_any_number_of_workers_writes_the_same_bytes(self, clips: Path, tmp_path: Path) -> None:
        build(clips, tmp_path / "one", "--workers", 1)
        build(clips, tmp_path / "two", "--workers", 2)
        build(clips, tmp_path / "three", "--workers", 3)

        assert checksums(tmp_path / "one")
        assert checksums(tmp_path / "one") == checksums(tmp_path / "two")
        assert checksums(tmp_path / "one") == checksums(tmp_path / "three")

    @pytest.mark.slow
    @pytest.mark.parametrize("rate", [("--frame_rate", 10), ()])
    def test_any_segment_length_gives_the_same_records(
        self, clips: Path, tmp_path: Path, rate: tuple
    ) -> None:
        def records(length: float) -> list[bytes]:
            output = tmp_path / f"{length}"
            done = run(
                *("videos", "--input", clips, "--output", output, "--num_frames", 16),
                *("--stride", 5, "--size", "24x32", "--segment_length", length, *rate),
            )
            assert done.returncode == 0, done.stderr
            return sorted(record["bytes"] for record in read_with_tensorflow(output))

        whole = records(600)
        assert len(whole) > 200
        assert records(9.5) == whole
        assert records(1.7) == whole

    def test_classes_are_counted_by_split_and_lost_ones_are_named(
        self, tmp_path: Path, write_video
    ) -> None:
        """Sources that are cut into segments, and a class whose clips are all too short."""
        lengths = {"run": (60, 50, 9), "walk": (70, 40), "wave": (9, 9)}
        for name, counts in lengths.items():
            (tmp_path / "clips" / name).mkdir(parents=True)
            for i, frames in enumerate(counts):
                write_video(tmp_path / "clips" / name / f"{i}.mp4", frames=frames)
        flags = ("--num_frames", "10", "--segment_length", "0.5", "--splits", "train=.5,test=.5")
        words = ("--input", tmp_path / "clips", "--output", tmp_path / "out", "--size", "16x16")
        done = run("videos", *words, *flags)
        assert done.returncode == 0, done.stderr
        info = json.loads((tmp_path / "out/dataset_info.json").read_text())
        records = read_with_tensorflow(tmp_path / "out")
        assert len({record["id"] for record in records}) > 7
        names = info["spec"]["label"]["class_names"]
        for split, held in info["splits"].items():
            of_split = [record for record in records if record["split"] == split]
            sources = {(r["labels"][0], r["path"]) for r in of_split}
            assert held["class_sources"] == [
                sum(label == name for label, _ in sources) for name in names
            ]
            assert held["sources"] == len(sources)
        assert info["dropped"] == {"short_clips": [1, 0, 2]}
        plan, summary = done.stdout.split("is complete in")
        assert "warning: all clips of 'wave' look shorter than --num_frames 10" in plan
        assert "wave 2, run 1 (--short_clips pad or loop" in summary
        ending = [line for line in summary.splitlines() if line.startswith("warning: ")]
        *lines, then = summary.splitlines()
        assert lines[-len(ending) :] == ending
        assert (
            then == f"next: pipelines validate --tfrecords {tmp_path / 'out'} --report report.html"
        )
        assert ending[0].startswith("warning: no record is of class 'wave' (2 sources")

    def test_groups_never_straddle_splits(self, tmp_path: Path) -> None:
        for person in range(20):
            for take in range(3):
                target = tmp_path / f"clips/act/v_g{person:02}_c{take}.gif"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(DATA / "demo.gif", target)
        build(
            *(tmp_path / "clips", tmp_path / "out", "--group_by", r"_(g\d+)_"),
            *("--splits", "train=0.5,test=0.5"),
        )
        splits: dict[str, set[str]] = {}
        for record in read_with_tensorflow(tmp_path / "out"):
            splits.setdefault(record["group"], set()).add(record["split"])
        assert len(splits) == 20
        assert {len(own) for own in splits.values()} == {1}
        assert set.union(*splits.values()) == {"train", "test"}

    def test_split_folders_hold_videos_and_folders_of_frames(self, tmp_path: Path) -> None:
        root = tmp_path / "db"
        for split, name in itertools.product(("Train", "testing"), ("2", "10")):
            (root / split / name / "clip_1").mkdir(parents=True)
            shutil.copy(DATA / "phone_vfr.mp4", root / split / name / "a.mp4")
            for frame in range(8):
                image = np.full((48, 64, 3), 20 * frame + int(name), np.uint8)
                cv2.imwrite(str(root / split / name / f"clip_1/{frame}.png"), image)
        output = tmp_path / "out"
        flags = ("--splits", "train=0.5,test=0.5", "--image_format", "png")
        done = run("videos", "--input", root, "--output", output, *FLAGS, *flags)
        assert done.returncode == 0, done.stderr
        assert (
            "folders taken as splits: Train (train), testing (test); --split_folders off"
            in done.stdout
        )
        assert "labels are in natural order, 2 before 10" in done.stdout
        assert "4 folders of images are clips of 10 frames per second" in done.stdout
        records = read_with_tensorflow(output)
        found = {(r["split"], r["path"], *r["labels"], *r["indices"]) for r in records}
        assert found == {
            (split, f"{folder}/{name}/{clip}", name, index)
            for split, folder in (("train", "Train"), ("test", "testing"))
            for index, name in enumerate(("2", "10"))
            for clip in ("a.mp4", "clip_1")
        }
        (frames,) = (r for r in records if r["path"] == "Train/10/clip_1")
        assert frames["times"] == [100_000 * slot for slot in range(8)]
        assert [decode(png).max() for png in frames["frames"]] == [20 * i + 10 for i in range(8)]

    def test_converted_footage_keeps_its_published_splits(self, tmp_path: Path) -> None:
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for name in ("run", "walk"):
            for group in range(1, 7):
                split = "test" if group < 3 else "train"
                lists[split].append(f"UCF-101\\{name}\\v_g{group:02}_c01.avi\t1\r\n")
                target = tmp_path / f"clips/{name}/v_g{group:02}_c01.gif"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(DATA / "demo.gif", target)
        shutil.copy(DATA / "demo.gif", tmp_path / "clips/run/v_g09_c01.gif")  # in no list
        for split, lines in lists.items():
            (tmp_path / f"{split}.txt").write_text("".join(lines))
        build(
            *(tmp_path / "clips", tmp_path / "out", "--splits", "train=.5,val=.5", "--stratify"),
            *("--group_by", r"_(g\d+)_", "--group_scope", "class"),
            *("--split_list", f"train={tmp_path}/train.txt", f"Testing={tmp_path}/test.txt"),
        )
        splits: dict[str, str] = {}
        for record in read_with_tensorflow(tmp_path / "out"):
            assert splits.setdefault(record["group"], record["split"]) == record["split"]
        tests = {f"{name}/g0{group}" for name in ("run", "walk") for group in (1, 2)}
        assert {group for group, split in splits.items() if split == "test"} == tests
        assert len(splits) == 12
        for name in ("run", "walk"):  # by --stratify
            own = {split for group, split in splits.items() if group.startswith(name)}
            assert own == {"train", "validation", "test"}

    def test_a_manifest_gives_spans_splits_and_several_labels(self, tmp_path: Path) -> None:
        shutil.copy(DATA / "demo.mp4", tmp_path / "demo.mp4")
        shutil.copy(DATA / "demo.webm", tmp_path / "other.webm")
        (tmp_path / "list.csv").write_text(
            "path,label,start,end,split\n"
            "demo.mp4,music|stage,10,14,train\ndemo.mp4,music,20,24.8,train\nother.webm,stage,,,test\n"
        )
        info = build(tmp_path / "list.csv", tmp_path / "out")
        records = read_with_tensorflow(tmp_path / "out")

        assert info["spec"]["label"]["task"] == "multilabel"
        train = sorted((r["times"][0], r["labels"]) for r in records if r["split"] == "train")
        # 4 s are 40 slots, 5 windows; 4.8 s are 48 slots, 6 windows, each 0.8 s after the last.
        assert [labels for _, labels in train] == [["music", "stage"]] * 5 + [["music"]] * 6
        assert train[0][0] == 10_000_000
        assert train[5][0] == 20_000_000
        assert {r["path"] for r in records if r["split"] == "test"} == {"other.webm"}

    def test_columns_of_numbers_are_regression_targets(self, tmp_path: Path) -> None:
        shutil.copy(DATA / "demo.gif", tmp_path / "demo.gif")
        shutil.copy(DATA / "demo.webm", tmp_path / "demo.webm")
        (tmp_path / "drives.jsonl").write_text(
            '{"path": "demo.gif", "speed": 3.5, "yaw": -1, "split": "train"}\n'
            '{"path": "demo.webm", "speed": 7, "yaw": 0.25, "split": "test"}\n'
        )
        info = build(
            *(tmp_path / "drives.jsonl", tmp_path / "out"),
            *("--label_columns", "speed", "yaw", "--label_units", "m/s,deg/s"),
        )
        values = {r["path"]: tuple(r["values"]) for r in read_with_tensorflow(tmp_path / "out")}
        assert values == {"demo.gif": (3.5, -1.0), "demo.webm": (7.0, 0.25)}
        assert info["spec"]["label"]["target_units"] == ["m/s", "deg/s"]
        assert info["splits"]["test"]["targets"][0] == {
            **{"mean": 7, "std": 0, "min": 7, "max": 7},
            "count": info["splits"]["test"]["records"],
        }

    def test_the_plan_is_printed_and_nothing_is_written(self, clips: Path, tmp_path: Path) -> None:
        done = run("videos", "--input", clips, "--output", tmp_path / "out", *FLAGS, "--dry_run")

        assert done.returncode == 0, done.stderr
        assert "3 sources, classification of concert, dog" in done.stdout
        assert not (tmp_path / "out").exists()

    def test_tensorflow_is_not_needed(self, clips: Path, tmp_path: Path) -> None:
        program = (
            "import sys\n"
            "for name in ('tensorflow', 'keras', 'matplotlib'):\n"
            "    sys.modules[name] = None\n"
            "from pipelines.cli import main\n"
            "sys.exit(main())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "videos", "--input", clips, "--output", tmp_path / "o"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "o/dataset_info.json").exists()


def sources(info: dict) -> list[str]:
    del info
    return ["concert/demo.mp4", "concert/web/demo.webm", "dog/phone_vfr.mp4"]


class TestContinuing:
    def test_a_complete_dataset_is_left_as_it_is(self, clips: Path, tmp_path: Path) -> None:
        build(clips, tmp_path / "out")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
        build(clips, tmp_path / "out")
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before

    @pytest.mark.slow
    def test_killed_at_random_moments_it_ends_with_the_same_bytes(
        self, clips: Path, tmp_path: Path
    ) -> None:
        flags = ("--segment_length", "4", "--shards", "12", "--workers", "2")
        build(clips, tmp_path / "whole", *flags)
        output = tmp_path / "out"
        command = [sys.executable, "-m", "pipelines", "videos", "--input", str(clips)]
        command += ["--output", str(output), *FLAGS, *flags]
        randomness = random.Random(5)
        kept: dict[Path, int] = {}
        for _ in range(4):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            shards_wanted = len(kept) + randomness.randint(1, 3)
            while child.poll() is None and len(list(output.glob("*.tfrecord"))) < shards_wanted:
                time.sleep(0.01)
            time.sleep(randomness.uniform(0, 0.1))
            child.kill()
            child.wait()
            if not (output / "dataset_info.json").exists():
                # A shard that has its report is complete, and is to stay.
                reports = (output / "_build/reports").glob("*.json")
                shards = [output / report.name.removesuffix(".json") for report in reports]
                assert all(kept[path] == path.stat().st_ino for path in kept)
                kept = {path: path.stat().st_ino for path in shards if path.exists()}
        assert kept
        build(clips, output, *flags)

        assert checksums(output) == checksums(tmp_path / "whole")
        assert all(path.stat().st_ino == inode for path, inode in kept.items())
        assert {path.name for path in output.iterdir()} == {
            path.name for path in (tmp_path / "whole").iterdir()
        }

    @pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_it_says_how_to_go_on_and_leaves_no_process(
        self, tmp_path: Path, by: signal.Signals
    ) -> None:
        for clip in range(8):
            target = tmp_path / f"clips/act/{clip}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(DATA / "demo.mp4", target)
        marker = f"marker-{os.getpid()}-{by}"
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipelines", "videos", "--input", tmp_path / "clips"),
                *("--output", tmp_path / "out", "--size", "480x640", "--image_format", "png"),
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "REELBEAM_TEST": marker},
        )
        while not list((tmp_path / "out").glob("_build/*.partial")):
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(by)
        _, said = child.communicate(timeout=60)

        assert child.returncode == 130
        assert "interrupted. Type the same command again" in said
        assert "Traceback" not in said
        assert not (tmp_path / "out/dataset_info.json").exists()
        wait_until(lambda: not processes_with(marker))

    def test_another_build_in_the_folder_is_refused(self, clips: Path, tmp_path: Path) -> None:
        build(clips, tmp_path / "out")
        before = checksums(tmp_path / "out")
        other = ("videos", "--input", clips, "--output", tmp_path / "out", *FLAGS[2:])
        done = run(*other, "--num_frames", 4)

        assert_one_line_error(done, "holds another build", "num_frames 8", "4 here", "--overwrite")
        assert checksums(tmp_path / "out") == before
        assert run(*other, "--num_frames", 4, "--overwrite").returncode == 0
        assert checksums(tmp_path / "out") != before

    def test_changed_sources_are_noticed(self, clips: Path, tmp_path: Path) -> None:
        build(clips, tmp_path / "out")
        shutil.copy(DATA / "demo.gif", clips / "dog/new.gif")
        done = run("videos", "--input", clips, "--output", tmp_path / "out", *FLAGS)
        assert_one_line_error(done, "other sources", "--overwrite")


class TestErrors:
    def test_a_wrong_path(self, tmp_path: Path) -> None:
        done = run("videos", "--input", tmp_path / "nowhere", "--output", tmp_path / "out")
        assert_one_line_error(done, "there is nothing at")
        assert not (tmp_path / "out").exists()

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        done = run("videos", "--input", tmp_path / "empty", "--output", tmp_path / "out")
        assert_one_line_error(done, "one folder of videos per class", "found no folder")

    def test_a_class_folder_without_a_video(self, clips: Path, tmp_path: Path) -> None:
        (clips / "silence").mkdir()
        done = run("videos", "--input", clips, "--output", tmp_path / "out")
        assert_one_line_error(done, "silence", "Fill the folder or remove it")

    def test_a_text_file_named_mp4(self, clips: Path, tmp_path: Path) -> None:
        (clips / "dog/notes.mp4").write_text("buy dog food\n")
        done = run("videos", "--input", clips, "--output", tmp_path / "out", *FLAGS)

        assert_one_line_error(done, "dog/notes.mp4", "open", "--max_failure_rate")
        assert not (tmp_path / "out/dataset_info.json").exists()
        failures = (tmp_path / "out/failures.jsonl").read_text().splitlines()
        assert [json.loads(line)["source"] for line in failures] == ["dog/notes.mp4"]

        info = build(clips, tmp_path / "out", "--max_failure_rate", 0.5)
        assert info["counts"]["failed"] == 1
        assert info["counts"]["sequences"] == 151

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            (("--size", "-180x320"), "--size must be HEIGHTxWIDTH"),
            (("--size", "0x320"), "--size must be HEIGHTxWIDTH"),
            (("--num-frames", "-3"), "--num_frames must be a whole number of at least 1"),
            (("--frame_rate", "fast"), "1000 frames/s, such as 10 or 30000/1001, got 'fast'"),
            (("--splits", "train=0.5"), "sum to 1"),
            (("--group_by", "("), "--group_by must be a regular expression"),
            (("--no_such_flag", "1"), "--no_such_flag"),
            (("--sampling", "sparse"), "--sampling"),
        ],
    )
    def test_a_wrong_flag(
        self, clips: Path, tmp_path: Path, flags: tuple[str, ...], expected: str
    ) -> None:
        done = run("videos", "--input", clips, "--output", tmp_path / "out", *flags)
        assert_one_line_error(done, expected)
        assert done.returncode == 2
        assert not (tmp_path / "out").exists()

    def test_a_full_disk(self, clips: Path, tmp_path: Path) -> None:
        def limit_file_size() -> None:
            # Writing beyond the limit fails as it does on a full disk, if the signal is ignored.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

        command = ("videos", "--input", clips, "--output", tmp_path / "out", *FLAGS)
        done = run(*command, preexec_fn=limit_file_size)

        assert_one_line_error(done, ".tfrecord", "type the same command again")
        assert not (tmp_path / "out/dataset_info.json").exists()
        assert not list((tmp_path / "out").glob("_build/*.partial"))
        assert run(*command).returncode == 0
        build(clips, tmp_path / "whole")
        assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")

    def test_no_sequence_at_all(self, clips: Path, tmp_path: Path) -> None:
        done = run(
            *("videos", "--input", clips, "--output", tmp_path / "out"),
            *("--frame_rate", 1, "--num_frames", 5000),
        )
        assert_one_line_error(done, "no source gave a sequence", "--short_clips")

    def test_two_runs_at_once(self, clips: Path, tmp_path: Path) -> None:
        import fcntl

        (tmp_path / "out/_build").mkdir(parents=True)
        with (tmp_path / "out/_build/lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = run("videos", "--input", clips, "--output", tmp_path / "out", *FLAGS)
        assert_one_line_error(done, "another run")


def test_the_program_ends_whatever_its_threads_are_doing() -> None:
    program = """
import threading, time
from pipelines import cli
def main():
    threading.Thread(target=time.sleep, args=(600,)).start()
    print("said last", end="")
    return 3
cli.main = main
cli.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "said last", "")


class TestMistakesInManifests:
    @pytest.fixture
    def manifest(self, tmp_path: Path):
        shutil.copy(DATA / "demo.gif", tmp_path / "demo.gif")
        shutil.copy(DATA / "demo.webm", tmp_path / "demo.webm")

        def write(*rows: str) -> Path:
            (tmp_path / "list.csv").write_text("\n".join(["path, label, start, end, group", *rows]))
            return tmp_path / "list.csv"

        return write

    def test_an_end_in_another_unit_does_not_make_a_huge_plan(self, manifest, tmp_path) -> None:
        path = manifest("demo.webm,a,0,10000000,")
        done = run("videos", "--input", path, "--output", tmp_path / "out", *FLAGS, "--dry_run")
        assert done.returncode == 0, done.stderr
        segments = done.stdout.splitlines()[2].split()[3]
        assert segments == "1"

    @pytest.mark.parametrize("sampling", ["windows", "uniform"])
    def test_a_clip_behind_the_end_of_its_file(self, manifest, tmp_path, sampling: str) -> None:
        path = manifest("demo.gif,a,1000,1010,", "demo.webm,b,,,")
        command = ("videos", "--input", path, "--output", tmp_path / "out", *FLAGS)
        done = run(*command, "--sampling", sampling)
        assert_one_line_error(done, "starts at 1000 s, but the last frame is at 4.96 s")

    def test_groups_named_twice(self, manifest, tmp_path) -> None:
        path = manifest("demo.gif,a,,,me", "demo.webm,b,,,you")
        done = run(
            *("videos", "--input", path, "--output", tmp_path / "out", "--group_by", "(demo)")
        )
        assert_one_line_error(done, "--group_by and the manifest's group column", "Use one")

    def test_times_that_are_no_seconds(self, manifest, tmp_path) -> None:
        path = manifest("demo.gif,a,1e300,,")
        done = run("videos", "--input", path, "--output", tmp_path / "out")
        assert_one_line_error(done, "line 2", "must be a finite number of seconds", "'1e300'")


def test_output_inside_input_is_refused(clips: Path) -> None:
    done = run("videos", "--input", clips, "--output", clips / "out", *FLAGS)
    assert_one_line_error(done, "must be outside --input")
    assert not (clips / "out").exists()


def test_a_cut_file_is_reported_by_uniform_sampling_too(tmp_path: Path) -> None:
    (tmp_path / "clips/a").mkdir(parents=True)
    whole = (DATA / "demo.webm").read_bytes()
    (tmp_path / "clips/a/cut.webm").write_bytes(whole[:400_000])
    info = build(tmp_path / "clips", tmp_path / "out", "--sampling", "uniform")
    assert info["counts"]["truncated"] == 1
    (failure,) = map(json.loads, (tmp_path / "out/failures.jsonl").read_text().splitlines())
    assert failure["truncated"]
    assert 5 < failure["seconds"] < 30


def test_a_decoder_killed_by_accident_costs_nothing_the_next_time(tmp_path: Path) -> None:
    for clip in range(2):
        target = tmp_path / f"clips/act/{clip}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / "demo.mp4", target)
    command = [sys.executable, "-m", "pipelines", "videos", "--input", str(tmp_path / "clips")]
    command += ["--output", str(tmp_path / "out"), "--size", "240x320", "--workers", "1"]
    marker = f"marker-{os.getpid()}-accident"
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "REELBEAM_TEST": marker},
    ) as parent:
        wait_until(lambda: list((tmp_path / "out").glob("_build/*.partial")), 30)
        # Again and again: a decoder killed before it was asked for anything is replaced unnoticed.
        while parent.poll() is None:
            for process in processes_with(marker):
                if int(process) != parent.pid:
                    with contextlib.suppress(ProcessLookupError):  # it has just ended
                        os.kill(int(process), signal.SIGKILL)
            time.sleep(0.05)
        _, said = parent.communicate(timeout=60)
    assert parent.returncode == 1
    assert "killed by SIGKILL" in said
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/failures.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "readers",
    [
        "2>&1 | head -c 1",
        *(
            pytest.param(closed, marks=pytest.mark.slow)
            for closed in ("2>&1 >&-", "2>&-", ">&- 2>&-")
        ),
    ],
)
def test_videos_ends_well_when_its_output_is_not_read(
    readers: str, clips: Path, tmp_path: Path
) -> None:
    command = f"{sys.executable} -m pipelines videos --input {clips} --output {tmp_path / 'out'}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} --num_frames 8 {readers}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert not done.stderr
    assert (tmp_path / "out/dataset_info.json").exists()


def test_names_cannot_control_the_terminal(clips: Path, tmp_path: Path) -> None:
    next(clips.iterdir()).rename(clips / "a\x1b[2Jclass\u202e")
    done = run("videos", "--input", clips, "--output", tmp_path / "out", "--num_frames", 8)
    assert done.returncode == 0
    assert "a\\x1b[2Jclass\\u202e" in done.stdout
    assert "\x1b[2J" not in done.stdout + done.stderr
    missing = run("videos", "--input", f"{clips}/\x1b[2J", "--output", tmp_path / "other")
    assert missing.returncode == 2
    assert "\x1b" not in missing.stderr
