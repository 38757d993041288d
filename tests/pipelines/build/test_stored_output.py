"""A dataset folder on an object store, at every moment of a build."""

import json
import os
import socket
import subprocess
import sys
import uuid

import pytest

from pipelines.build.output import OutputFolder
from pipelines.errors import UsageError, UserError
from pipelines.plan.descriptors import Segment, Shard, Source
from tfrecords_schema import storage
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.running import lock, scratch
from tfrecords_schema.spec import ImageSpec, SequenceSpec

SHARD = "train-00000-of-00001.tfrecord"
OPTIONS = {"seed": 1, "splits": {"train": 1.0}}
REPORT = {"fingerprint": "f", "sha256": "not looked at"}


@pytest.fixture
def output(bucket):
    yield OutputFolder(f"{bucket.url}/out/ds/")
    scratch.remove_scratch()


def make_shard(*sources, index=0, count=1):
    segments = tuple(
        Segment(source=Source(id=name, path="/a", data_path="a", group="a")) for name in sources
    )
    return Shard(split="train", index=index, count=count, segments=segments)


def begin(output, *shards):
    return output.begin(OPTIONS, {}, shards or [make_shard()])


def build(output, data=b"records"):
    with output.new_shard(SHARD) as file:
        file.write(data)
    output.store_report(SHARD, REPORT)


class TestPlaces:
    def test_slashes_at_the_end_of_a_url_are_ignored(self, bucket):
        assert OutputFolder(f"{bucket.url}/out//") == OutputFolder(f"{bucket.url}/out")

    @pytest.mark.parametrize("url", ["s3://", "ftp://host/x", "s3://name:hush@bucket/x"])
    def test_a_url_that_cannot_be_is_refused(self, url):
        with pytest.raises(UsageError, match=r"--output: ") as caught:
            OutputFolder(url)
        assert "hush" not in str(caught.value)

    def test_an_object_is_no_folder(self, bucket):
        with pytest.raises(UserError, match="is a file"):
            OutputFolder(bucket.put("x")).check_free_for(OPTIONS, overwrite=True)

    def test_shards_of_another_dataset_are_kept(self, bucket, output):
        bucket.put("out/ds/test-00007-of-00009.tfrecord")
        with pytest.raises(UserError, match="holds shards of another dataset"):
            output.check_free_for(OPTIONS, overwrite=False)
        output.check_free_for(OPTIONS, overwrite=True)

    def test_another_build_is_kept(self, output):
        begin(output)
        output.check_free_for(OPTIONS, overwrite=False)
        with pytest.raises(UserError, match=r"another build \(seed 1 there and 2 here\)"):
            output.check_free_for({**OPTIONS, "seed": 2}, overwrite=False)


class TestBuilding:
    def test_the_plan_is_read_line_by_line(self, output):
        shards = [make_shard("x" * 300_000, count=2), make_shard("last", index=1, count=2)]
        first, second = begin(output, *shards)
        assert (first, second > 300_000) == (3, True)
        assert output.planned(Shard, first) == shards[0]
        assert output.planned(Shard, second) == shards[1]
        with pytest.raises(ValueError, match="Expecting value"):
            output.planned(Shard, second - 2)

    def test_what_is_left_of_other_builds_goes(self, bucket, output):
        left = [
            "dataset_info.json",
            "failures.jsonl",
            "_build/error.txt",
            "old-00000-of-00001.tfrecord",
        ]
        for name in (*left, SHARD, "notes.txt"):
            bucket.put(f"out/ds/{name}")
        bucket.put("out/ds2/dataset_info.json")
        begin(output)
        assert bucket.names() == [
            "out/ds/_build/options.json",
            "out/ds/_build/plan.jsonl",
            "out/ds/_build/sources.jsonl",
            "out/ds/notes.txt",
            f"out/ds/{SHARD}",
            "out/ds2/dataset_info.json",
        ]

    def test_a_shard_appears_when_it_is_complete(self, bucket, output):
        begin(output)
        with output.new_shard(SHARD) as file:
            file.write(b"recXX")
            file.seek(3)
            file.truncate()
            file.write(b"ords")
            assert f"out/ds/{SHARD}" not in bucket.names()
        assert bucket.read(f"out/ds/{SHARD}") == b"records"

    def test_half_a_shard_is_nowhere(self, bucket, output):
        begin(output)
        before = bucket.names()

        def break_off():
            with output.new_shard(SHARD) as file:
                file.write(b"rec")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            break_off()
        assert bucket.names() == before
        assert bucket.unfinished_uploads() == []
        assert list(scratch.scratch_folder("output").iterdir()) == []

    def test_the_end(self, bucket, output, tmp_path):
        info = write_fake_dataset(
            tmp_path, SequenceSpec(num_frames=1, image=ImageSpec(height=8, width=8)), {"train": 1}
        )
        with output.locked():
            begin(output)
            build(output)
            output.finish([{"source": "x"}], info)
        assert bucket.names() == [
            "out/ds/dataset_info.json",
            "out/ds/failures.jsonl",
            f"out/ds/{SHARD}",
        ]
        assert output.complete_info() == info
        assert bucket.read("out/ds/failures.jsonl") == b'{"source": "x"}\n'

    def test_why_it_could_not_end(self, output):
        begin(output)
        assert output.stored_error() is None
        output.store_error("too many failures: é")
        assert output.stored_error() == "too many failures: é"


class TestKeptShards:
    def test_a_shard_that_is_as_it_was_sent_is_kept_unread(self, output, monkeypatch):
        begin(output)
        build(output)
        begin(output)
        monkeypatch.setattr(storage, "open_stream", None)
        assert output.kept_report(SHARD, "f") == REPORT
        assert output.kept_report(SHARD, "g") is None

    def test_others_are_not(self, bucket, output):
        begin(output)
        assert output.kept_report(SHARD, "f") is None
        build(output)
        bucket.put(f"out/ds/{SHARD}", b"sdrocer")
        assert output.kept_report(SHARD, "f") is None
        build(output)
        storage.remove([f"{output.path}/{SHARD}"])
        assert output.kept_report(SHARD, "f") is None

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": "f"}'])
    def test_a_damaged_report_is_none(self, bucket, output, text):
        begin(output)
        build(output)
        bucket.put(f"out/ds/_build/reports/{SHARD}.json", text.encode())
        assert output.kept_report(SHARD, "f") is None


class TestLock:
    LOCK = "out/ds/_build/lock"

    def hold(self, bucket, **fields):
        own = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid(), **fields}
        bucket.put(self.LOCK, json.dumps(own).encode())

    def test_one_run_at_a_time(self, bucket, output):
        with output.locked():
            other = OutputFolder(output.path)
            with pytest.raises(UserError, match="another run is building in s3://"), other.locked():
                pass
            assert self.LOCK in bucket.names()
        assert bucket.names() == []

    def test_that_of_a_run_elsewhere_is_believed(self, bucket, output):
        self.hold(bucket, host="elsewhere", pid=1)
        with pytest.raises(UserError, match=r"\(elsewhere, process 1\)"), output.locked():
            pass
        assert self.LOCK in bucket.names()

    def test_that_of_a_run_that_was_killed_here_is_not(self, bucket, output, monkeypatch):
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        self.hold(bucket, pid=child.pid)
        monkeypatch.setattr(lock, "_SETTLE_SECONDS", 0)
        with output.locked():
            assert json.loads(bucket.read(self.LOCK))["pid"] == os.getpid()
        assert bucket.names() == []

    def test_one_that_was_not_heard_of_for_long_is_not(self, bucket, output, monkeypatch):
        self.hold(bucket, host="elsewhere")
        monkeypatch.setattr(lock, "_SETTLE_SECONDS", 0)
        monkeypatch.setattr(lock, "EXPIRY_SECONDS", -3600)
        with output.locked():
            pass
        assert bucket.names() == []

    def test_of_two_that_find_it_left_one_gets_it(self, bucket, output, monkeypatch):
        bucket.put(self.LOCK, b"garbage")
        monkeypatch.setattr(
            lock.time, "sleep", lambda _: self.hold(bucket, host="elsewhere", pid=7)
        )
        with pytest.raises(UserError, match=r"\(elsewhere, process 7\)"), output.locked():
            pass

    def test_it_is_kept_fresh(self, bucket, output, monkeypatch):
        monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
        beats, write_bytes = [], storage.write_bytes

        def count(url, data):
            beats.append(url)
            if len(beats) == 1:
                raise OSError("a store that is out of reach for a moment")
            write_bytes(url, data)

        monkeypatch.setattr(storage, "write_bytes", count)
        with output.locked():
            while len(beats) < 3:
                pass
        assert set(beats) == {f"{bucket.url}/{self.LOCK}"}
        assert bucket.names() == []
