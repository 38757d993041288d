"""The verbs on a local S3 server, as a user types them: the bytes are those on a disk, nothing is left."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import pytest

from pipelines.decoding.client import check_unchanged
from pipelines.decoding.protocol import DecodingFailure
from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions, SamplingOptions, SplitOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.sources.drives import list_drives
from pipelines.sources.videos import list_videos
from tests.processes import run_python
from tfrecords_schema.codec import to_json

SECRET = "never-to-be-written"  # is in the key with which the store is opened
FLAGS = ("--num_frames", "4", "--frame_rate", "10", "--size", "24x32", "--seed", "1", "--name", "x")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, of the processes of this test alone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def clips(tmp_path, data):
    root = tmp_path / "clips"
    for place in ("concert/demo.mp4", "concert/web/demo.webm", "dog/phone_vfr.mp4"):
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / target.name, target)
    (root / "dog/broken.mp4").write_bytes(b"no video")
    (root / "dog/.hidden.mp4").write_bytes(b"")
    (root / "dog/readme.txt").write_bytes(b"")
    return root


def run(*arguments):
    done = run_python("-m", "pipelines", *arguments)
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def build(*arguments):
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def refuse(*arguments):
    done = run(*arguments)
    assert done.returncode in (1, 2)
    return done.stderr.strip().splitlines()[-1]


# Digests in them cover the times of the sources, which a store sets.
WITH_TIMES = ("dataset_info.json", "sources.jsonl")


def checksums(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name not in WITH_TIMES
    }


def stored_checksums(bucket, prefix):
    found = {
        name.removeprefix(f"{prefix}/"): hashlib.sha256(bucket.read(name)).hexdigest()
        for name in bucket.names(prefix)
    }
    return {name: checksum for name, checksum in found.items() if name not in WITH_TIMES}


def described(listing):
    """A listing without what a copy changes: places and times."""
    fields = [to_json(source) for source in listing.sources]
    text = json.dumps(fields, sort_keys=True)

    def plain(value):
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k not in ("path", "mtime_ns")}
        return [plain(v) for v in value] if isinstance(value, list) else value

    return plain(json.loads(text)), replace(listing, sources=())


class TestListing:
    def videos(self, location, label=None):
        return list_videos(str(location), split=SplitOptions(), label=label or LabelOptions())

    def test_class_folders(self, bucket, clips):
        there = self.videos(bucket.upload(clips, "deep/clips"))
        assert described(there) == described(self.videos(clips))
        assert there.sources[0].path == f"{bucket.url}/deep/clips/concert/demo.mp4"
        assert min(source.mtime_ns for source in there.sources) > 1.6e18

    def test_the_bucket_itself(self, bucket, clips):
        bucket.upload(clips / "dog", "dog")
        listing = self.videos(bucket.url + "/")
        assert listing.name == bucket.name
        assert [source.id for source in listing.sources] == ["dog/broken.mp4", "dog/phone_vfr.mp4"]

    @pytest.mark.parametrize("pattern", ["*/*.mp4", "**/*", "dog/*", "*/web/demo.web[ma]", "c*/*"])
    def test_globs(self, bucket, clips, pattern):
        url = bucket.upload(clips, "clips")
        found = described(self.videos(f"{url}/{pattern}"))
        assert found == described(self.videos(f"{clips}/{pattern}"))

    @pytest.mark.parametrize("pattern", ["", "/**"])
    def test_keys_with_empty_parts_are_failures_by_name(self, bucket, clips, pattern):
        url = bucket.upload(clips, "clips")
        for key in (
            "clips//run/a.mp4",
            "clips/dog//b.mp4",
            "clips/dog/../c.mp4",
            "clips/dog/",
            "clips//",
        ):
            bucket.put(key, b"x")
        listing = self.videos(url + pattern)
        assert {source.labels for source in listing.sources} == {("concert",), ("dog",)}
        assert {"/run/a.mp4", "dog//b.mp4"} <= {failure.source for failure in listing.failures}
        assert all("Rename the object" in failure.reason for failure in listing.failures)
        assert all("a//b" in failure.reason for failure in listing.failures)

    def test_an_input_of_nothing_but_keys_with_empty_parts(self, bucket, tmp_path):
        bucket.put("clips//run/a.mp4", b"x")
        with pytest.raises(
            UserError, match=r"none of 1 objects can be read, for example '/run/a.mp4'"
        ):
            self.videos(f"{bucket.url}/clips")
        with pytest.raises(UserError, match=r"--input: expected a URL without empty folder names"):
            self.videos(f"{bucket.url}/clips//*/*.mp4")
        (tmp_path / "list.csv").write_text(f"path,label\n{bucket.url}/clips//run/a.mp4,run\n")
        with pytest.raises(
            UserError, match=r"list.csv line 2: expected a URL without empty folder"
        ):
            self.videos(tmp_path / "list.csv")

    def test_split_folders(self, bucket, clips):
        for split in ("train", "val"):
            bucket.upload(clips, f"db/{split}")
        for location in (f"{bucket.url}/db", f"{bucket.url}/db/*/*/**"):
            listing = self.videos(location)
            assert {source.split for source in listing.sources} == {"train", "validation"}
            assert listing.label.class_names == ("concert", "dog")

    def test_a_manifest_beside_its_videos(self, bucket, clips):
        rows = "path,label,start,end\nconcert/demo.mp4,a,0,2\n./dog/../dog/phone_vfr.mp4,b,,\n"
        (clips / "list.csv").write_text(rows + "dog/gone.mp4,b,,\n")
        url = bucket.upload(clips, "clips")
        there, here = self.videos(f"{url}/list.csv"), self.videos(clips / "list.csv")
        assert described(replace(there, failures=())) == described(replace(here, failures=()))
        assert [failure.source for failure in there.failures] == ["dog/gone.mp4"]
        assert there.failures[0].reason == "there is no such object"

    def test_a_manifest_of_urls(self, bucket, clips, tmp_path):
        url = bucket.upload(clips, "clips")
        manifest = tmp_path / "list.jsonl"
        manifest.write_text(
            f'{{"path": "{url}/dog/phone_vfr.mp4", "label": "a"}}\n'
            f'{{"path": "{clips}/concert/demo.mp4", "label": "b"}}\n'
        )
        far, near = sorted(self.videos(manifest).sources, key=lambda source: source.labels)
        assert (far.path, far.bytes) == (
            f"{url}/dog/phone_vfr.mp4",
            (clips / "dog/phone_vfr.mp4").stat().st_size,
        )
        assert far.data_path == f"{bucket.name}/clips/dog/phone_vfr.mp4"
        assert near.data_path == "clips/concert/demo.mp4"

    def test_a_manifest_with_credentials(self, bucket, tmp_path):
        (tmp_path / "list.csv").write_text("path,label\ns3://name:hush@bucket/x.mp4,a\n")
        with pytest.raises(UserError, match="line 2: a URL must not hold credentials") as caught:
            self.videos(tmp_path / "list.csv")
        assert "hush" not in str(caught.value)

    @pytest.mark.parametrize(
        ("location", "message"),
        [
            ("{url}/none", "there is nothing at s3://"),
            ("{url}/clips/dog/readme.txt", "readme.txt line 1: expected columns with names"),
            ("{url}/clips/dog", "found 2 videos outside any class folder"),
            ("{url}/clips/*.mp4", "no file does. Check the pattern"),
            ("https://host/clips", "local path or a URL of s3://"),
        ],
    )
    def test_what_cannot_be_listed(self, bucket, clips, location, message):
        bucket.upload(clips, "clips")
        with pytest.raises(UserError, match=message):
            self.videos(location.format(url=bucket.url))

    @pytest.mark.parametrize("stored", [pytest.param(True, marks=pytest.mark.slow), False])
    def test_a_source_that_was_replaced_since_is_noticed(self, stored, request, tmp_path):
        """A video and a folder of frames; the times of objects may have no fractions of a second."""
        root = tmp_path / "clips"
        contents = {"a/v.mp4": b"one", "a/frames/1.jpg": b"x", "a/frames/2.jpg": b"y"}
        for name, data in contents.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        location, write = root, lambda name, data: (root / name).write_bytes(data)
        if stored:
            bucket = request.getfixturevalue("bucket")
            location = bucket.upload(root, "clips")
            write = lambda name, data: bucket.put(f"clips/{name}", data)  # noqa: E731
        listing = list_videos(
            str(location),
            split=SplitOptions(),
            label=LabelOptions(),
            sampling=SamplingOptions(num_frames=2, frame_rate=1),
        )
        frames, video = listing.sources
        check_unchanged(frames)
        check_unchanged(video)
        write("a/v.mp4", b"three")
        write("a/frames/2.jpg", b"yy")
        for source in (frames, video):
            with pytest.raises(DecodingFailure, match="has changed since it was listed"):
                check_unchanged(source)
        write("a/frames/2.jpg", b"y")
        write("a/frames/3.txt", b"y")
        if not stored:
            os.utime(root / "a/frames/2.jpg", ns=(1, frames.mtime_ns))
            check_unchanged(frames)
            os.utime(root / "a/frames/2.jpg", ns=(1, frames.mtime_ns + 1))
            with pytest.raises(DecodingFailure, match="another modification time"):
                check_unchanged(frames)

    def test_a_bucket_that_is_not_there(self, bucket):
        with pytest.raises(FileNotFoundError, match="there is no such bucket"):
            self.videos(f"{bucket.url}-other/clips")

    def test_drives(self, bucket, write_video, tmp_path):
        (tmp_path / "drives").mkdir()
        for name in ("a1", "a2", "b1"):
            write_video(tmp_path / f"drives/{name}.mp4", frames=20)
            (tmp_path / f"drives/{name}.csv").write_text("t,speed\n0,1\n1,2\n")
        url = bucket.upload(tmp_path / "drives", "drives")
        for template in ("{stem}.csv", "./x/../{stem}.csv"):
            telemetry = TelemetryOptions(
                telemetry=template, time_column="t", join=r"(?P<drive>\w)(?P<order>\d)"
            )
            options = {
                "telemetry": telemetry,
                "label": LabelOptions(label_columns=("speed",)),
                "sampling": SamplingOptions(num_frames=4),
            }
            there = list_drives(url, **options)
            assert described(there) == described(list_drives(str(tmp_path / "drives"), **options))
            (part, _) = there.sources[0].parts
            assert part.telemetry.path == f"{url}/a1.csv"


class TestVideos:
    def test_the_bytes_are_those_of_a_local_build(self, bucket, clips, tmp_path, temporary):
        flags = (*FLAGS, "--shards", "2", "--max_failure_rate", "1")
        url, output = bucket.upload(clips, "clips"), f"{bucket.url}/out/ds"
        before = bucket.names()
        build("videos", "--input", clips, "--output", tmp_path / "local", *flags)
        said = build("videos", "--input", url, "--output", output, *flags).stdout
        assert f"x is complete in {output}" in said
        assert stored_checksums(bucket, "out/ds") == checksums(tmp_path / "local")
        assert json.loads(bucket.read("out/ds/failures.jsonl"))["source"] == "dog/broken.mp4"
        written = {*bucket.names()} - {*before}
        assert {name.count("/") for name in written} == {2}
        assert SECRET in os.environ["AWS_SECRET_ACCESS_KEY"]
        assert [name for name in written if SECRET.encode() in bucket.read(name)] == []
        assert bucket.unfinished_uploads() == []
        assert [path.name for path in temporary.glob("reelbeam-scratch-*")] == []

    @pytest.mark.slow
    def test_a_run_that_was_killed_is_gone_on_with(self, bucket, clips, tmp_path, temporary):
        (clips / "dog/broken.mp4").unlink()
        for number in range(6):
            shutil.copy(clips / "dog/phone_vfr.mp4", clips / f"dog/{number}.mp4")
        flags = (*FLAGS, "--shards", "5", "--workers", "1")
        build("videos", "--input", clips, "--output", tmp_path / "local", *flags)
        url, output = bucket.upload(clips, "clips"), f"{bucket.url}/ds"
        command = ["videos", "--input", url, "--output", output, *flags]
        for reports in (1, 3):
            process = subprocess.Popen(
                [sys.executable, "-m", "pipelines", *command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            while len(bucket.names("ds/_build/reports/")) < reports:
                assert process.poll() is None
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # What is there under its own name is whole.
            local = checksums(tmp_path / "local")
            for name in bucket.names("ds/"):
                if name.endswith(".tfrecord"):
                    found = hashlib.sha256(bucket.read(name)).hexdigest()
                    assert found == local[name.removeprefix("ds/")]
            assert "ds/dataset_info.json" not in bucket.names()
        kept = {
            name: bucket.client.head_object(Bucket=bucket.name, Key=name)["LastModified"]
            for name in bucket.names("ds/")
            if name.startswith("ds/_build/reports/")
        }
        time.sleep(1.1)  # the store tells times by the second
        build(*command)
        assert stored_checksums(bucket, "ds") == checksums(tmp_path / "local")
        for report, written in kept.items():
            shard = f"ds/{os.path.basename(report).removesuffix('.json')}"
            found = bucket.client.head_object(Bucket=bucket.name, Key=shard)["LastModified"]
            assert found <= written, "a shard that was complete was built again"
        assert list(temporary.glob("reelbeam-scratch-*")) == []

    @pytest.mark.slow
    def test_an_interrupted_run_leaves_no_copies(self, bucket, clips, temporary):
        for number in range(15):
            shutil.copy(clips / "dog/phone_vfr.mp4", clips / f"dog/{number}.mp4")
        url = bucket.upload(clips, "clips")
        command = ["videos", "--input", url, "--output", f"{bucket.url}/ds", *FLAGS]
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", *command, "--shards", "9"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        while not bucket.names("ds/_build/reports/"):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Type the same command again" in said
        assert list(temporary.glob("reelbeam-scratch-*/staging/*/*")) == []

    @pytest.mark.slow
    def test_little_room_for_copies(self, bucket, clips, tmp_path, temporary):
        url = bucket.upload(clips, "clips")
        largest = max(path.stat().st_size for path in clips.rglob("*"))
        flags = (*FLAGS, "--shards", "2", "--max_failure_rate", "1", "--workers", "4")
        build("videos", "--input", clips, "--output", tmp_path / "local", *flags)
        command = ("videos", "--input", url, "--output", tmp_path / "near", *flags)
        build(*command, "--staging_size", largest)
        assert checksums(tmp_path / "near") == checksums(tmp_path / "local")
        small = tmp_path / "small"
        build(*command[:3], "--output", small, *flags, "--staging_size", largest - 1)
        failures = [
            json.loads(line) for line in (small / "failures.jsonl").read_text().splitlines()
        ]
        (failure,) = [failure for failure in failures if failure["stage"] == "staging"]
        assert f"more than --staging_size {largest - 1}" in failure["reason"]

    def test_errors_are_one_line(self, bucket, clips, tmp_path, monkeypatch):
        url = bucket.upload(clips, "clips")
        output = f"{bucket.url}/ds"
        assert "there is no such bucket" in refuse(
            "videos", "--input", url, "--output", f"{bucket.url}-other/ds"
        )
        assert "must be outside --input" in refuse(
            "videos", "--input", url, "--output", f"{url}/ds"
        )
        hush = refuse("videos", "--input", url, "--output", "s3://name:hush@bucket/ds")
        assert "must not hold credentials" in hush
        assert "hush" not in hush
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
        assert "no credentials that can be used" in refuse(
            "videos", "--input", url, "--output", output
        )

    @pytest.mark.slow
    def test_workers_that_share_nothing_but_the_store(self, bucket, clips, tmp_path, temporary):
        flags = (*FLAGS, "--shards", "2", "--max_failure_rate", "1")
        build("videos", "--input", clips, "--output", tmp_path / "local", *flags)
        url = bucket.upload(clips, "clips")
        runner = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")
        build("videos", "--input", url, "--output", f"{bucket.url}/ds", *flags, *runner)
        assert stored_checksums(bucket, "ds") == checksums(tmp_path / "local")
        assert list(temporary.glob("reelbeam-scratch-*")) == []

    @pytest.mark.slow
    def test_on_google_too(self, google, clips, tmp_path, temporary):
        flags = (*FLAGS, "--shards", "2", "--max_failure_rate", "1")
        build("videos", "--input", clips, "--output", tmp_path / "local", *flags)
        for path in clips.rglob("*.*"):
            google.put(f"clips/{path.relative_to(clips).as_posix()}", path.read_bytes())
        url = f"gs://{google.bucket}"
        command = ("videos", "--input", f"{url}/clips", "--output", f"{url}/ds", *flags)
        build(*command)
        found = {
            name.removeprefix("ds/"): hashlib.sha256(data).hexdigest()
            for name, data in google.objects.items()
            if name.startswith("ds/") and name.removeprefix("ds/") not in WITH_TIMES
        }
        assert found == checksums(tmp_path / "local")
        assert "ds/dataset_info.json" in google.objects


@pytest.mark.slow
class TestOtherVerbs:
    def test_drives_with_telemetry(self, bucket, write_video, tmp_path, temporary):
        (tmp_path / "drives").mkdir()
        for name in ("a1", "a2", "b1"):
            write_video(tmp_path / f"drives/{name}.mp4", frames=40)
            rows = "".join(f"{n / 10},{n}\n" for n in range(20))
            (tmp_path / f"drives/{name}.csv").write_text(f"t,speed\n{rows}")
        flags = (
            *FLAGS,
            *("--telemetry", "{stem}.csv", "--time_column", "t", "--label_columns", "speed"),
            *("--join", r"(?P<drive>\w)(?P<order>\d)", "--shards", "2"),
        )
        url = bucket.upload(tmp_path / "drives", "drives")
        build("dashcam", "--input", tmp_path / "drives", "--output", tmp_path / "local", *flags)
        build("dashcam", "--input", url, "--output", f"{bucket.url}/ds", *flags)
        assert stored_checksums(bucket, "ds") == checksums(tmp_path / "local")

    def test_folders_of_frames(self, bucket, barcode, tmp_path, temporary):
        for name in ("a", "b"):
            (tmp_path / f"frames/{name}/imgs").mkdir(parents=True)
            for number in range(9):
                path = tmp_path / f"frames/{name}/imgs/{number:03}.jpg"
                assert cv2.imwrite(str(path), barcode(number))
            (tmp_path / f"frames/{name}/annotation.json").write_text('[{"velocity": 3.5}]')
        flags = (*FLAGS, "--annotation", "annotation.json", "--label", "[0].velocity")
        url = bucket.upload(tmp_path / "frames", "frames")
        build("dashcam", "--input", tmp_path / "frames", "--output", tmp_path / "local", *flags)
        build("dashcam", "--input", url, "--output", f"{bucket.url}/ds", *flags)
        assert stored_checksums(bucket, "ds") == checksums(tmp_path / "local")

    def test_validate(self, bucket, clips, tmp_path):
        (clips / "dog/broken.mp4").unlink()
        flags = (*FLAGS, "--shards", "2", "--splits", "train=1")
        build("videos", "--input", clips, "--output", tmp_path / "local", *flags)
        url = bucket.upload(tmp_path / "local", "ds")
        report, here = tmp_path / "report.html", tmp_path / "here.json"
        done = run("validate", "--tfrecords", url, "--report", report, "--json", here)
        local = run("validate", "--tfrecords", tmp_path / "local")
        assert (done.returncode, done.stdout.splitlines()[0]) == (
            local.returncode,
            local.stdout.splitlines()[0].replace(str(tmp_path / "local"), url),
        )
        assert SECRET not in report.read_text() + here.read_text()
        shard = next(name for name in bucket.names("ds/") if name.endswith(".tfrecord"))
        data = bytearray(bucket.read(shard))
        data[len(data) // 2] ^= 1
        bucket.put(shard, bytes(data))
        bucket.put("ds/_build/lock")
        done = run("validate", "--tfrecords", url, "--json", here)
        assert done.returncode == 1
        found = here.read_text()
        assert "checksum" in found
        assert "_build" in found
