"""Local copies of objects: how many bytes lie on the disk at any time, and that none remain."""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from pipelines.decoding.protocol import IndexRequest, ProbeRequest
from pipelines.plan.descriptors import Part, SideFile, Source
from pipelines.storage.staging import Staging, StagingError
from tfrecords_schema import storage
from tfrecords_schema.running import scratch
from tfrecords_schema.store_clients import StorageError


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    """The folder for temporary files, of this test alone."""
    scratch.remove_scratch()
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    scratch.remove_scratch()
    assert list(folder.iterdir()) == []


def staged_bytes(folder):
    total = 0
    for place, _, names in os.walk(folder):
        if "/staging/" in place:
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # another thread has removed it
                    total += os.stat(os.path.join(place, name)).st_size
    return total


@pytest.fixture
def downloads(monkeypatch):
    """URLs, in the order in which they are fetched."""
    urls, download = [], storage.download
    monkeypatch.setattr(
        storage, "download", lambda url, path: (urls.append(url), download(url, path))
    )
    return urls


def read(path):
    with open(path, "rb") as file:
        return file.read()


class TestLocalized:
    def test_localized_replaces_paths_at_any_depth(self, bucket):
        video, rows = bucket.put("v/a.mp4", b"video"), bucket.put("v/a.csv", b"rows")
        part = Part(
            path=video, data_path="a.mp4", telemetry=SideFile(path=rows, data_path="s3://a/name")
        )
        source = Source(id="a", path="/local", data_path="a.mp4", group="a", parts=(part,))
        request = IndexRequest(source=source, segment_length=600.0)
        with Staging().localized(request) as local:
            (copy,) = local.source.parts
            assert read(copy.path) == b"video"
            assert read(copy.telemetry.path) == b"rows"
            assert os.path.basename(copy.telemetry.path) == "a.csv"
            assert (copy.telemetry.data_path, local.source.path) == ("s3://a/name", "/local")
        assert request.source.parts[0].path == video

    def test_localized_returns_request_without_urls(self, temporary):
        request = ProbeRequest("/a")
        with Staging().localized(request) as local:
            assert local is request
        assert list(temporary.iterdir()) == []

    def test_localized_fetches_folder_of_frames(self, bucket):
        for name in ("1.jpg", "2.jpg", "sub/3.jpg"):
            bucket.put(f"frames/{name}", name.encode())
        with Staging().localized(ProbeRequest(f"{bucket.url}/frames")) as local:
            found = {name: read(os.path.join(local.path, name)) for name in ("1.jpg", "2.jpg")}
            assert sorted(os.listdir(local.path)) == ["1.jpg", "2.jpg"]
        assert found == {"1.jpg": b"1.jpg", "2.jpg": b"2.jpg"}


class TestBudget:
    def test_what_was_used_longest_ago_goes(self, bucket, temporary, downloads):
        urls = [bucket.put(name, b"x" * 40) for name in "abc"]
        staging = Staging(100)
        for wanted, fetched in (("a", True), ("b", True), ("a", False), ("c", True), ("b", True)):
            url = urls["abc".index(wanted)]
            before = len(downloads)
            with staging.copies([url]):
                assert staged_bytes(temporary) <= 100
            assert (len(downloads) > before) is fetched, wanted

    @pytest.mark.parametrize("size", [101, 60])
    def test_what_does_not_fit_is_refused_at_once(self, bucket, size, downloads):
        urls = [bucket.put(name, b"x" * size) for name in "ab"][: 1 if size > 100 else 2]
        with (
            pytest.raises(StagingError, match=r"more than --staging_size") as caught,
            Staging(100).copies(urls),
        ):
            pass
        assert str(size * len(urls)) in str(caught.value)
        assert downloads == []

    def test_who_needs_room_waits_for_it(self, bucket, temporary):
        first, second = bucket.put("a", b"x" * 60), bucket.put("b", b"x" * 60)
        staging, entered, events = Staging(100), threading.Event(), []

        def take_second():
            entered.set()
            with staging.copies([second]):
                events.append("second")

        with staging.copies([first]):
            thread = threading.Thread(target=take_second)
            thread.start()
            entered.wait()
            time.sleep(0.2)  # gives it the chance to be wrong
            events.append("first")
        thread.join(60)
        assert events == ["first", "second"]

    def test_many_threads_share_little_room(self, bucket, temporary):
        contents = {f"{n}": bytes([n]) * (10 + 5 * n) for n in range(8)}
        urls = {bucket.put(name, data): data for name, data in contents.items()}
        staging, errors, peak = Staging(100), [], []

        def work(seed):
            draw = random.Random(seed)
            for _ in range(12):
                wanted = draw.sample(sorted(urls), 2)
                if sum(len(urls[url]) for url in wanted) > 100:
                    continue
                with staging.copies(wanted) as paths:
                    peak.append(staged_bytes(temporary))
                    errors.extend(url for url in wanted if read(paths[url]) != urls[url])

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        assert errors == []
        assert 0 < max(peak) <= 100

    def test_one_of_several_fetches(self, bucket, downloads):
        url, staging, start = bucket.put("a", b"x"), Staging(), threading.Barrier(5)

        def take():
            start.wait()
            with staging.copies([url]) as paths:
                assert read(paths[url]) == b"x"

        threads = [threading.Thread(target=take) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert downloads == [url]


class TestFailures:
    def test_what_is_not_there(self, bucket, temporary):
        with (
            pytest.raises(StagingError, match="there is no such object"),
            Staging().copies([f"{bucket.url}/none"]),
        ):
            pass

    def test_a_store_that_fails_once(self, bucket, monkeypatch, temporary):
        url, staging, download = bucket.put("a", b"right"), Staging(), storage.download

        def fail(url, path):
            path.write_bytes(b"ri")
            raise StorageError(5, "cable pulled", url)

        monkeypatch.setattr(storage, "download", fail)
        with pytest.raises(OSError, match="cable pulled"), staging.copies([url]):
            pass
        assert staged_bytes(temporary) == 0
        monkeypatch.setattr(storage, "download", download)
        with staging.copies([url]) as paths:
            assert read(paths[url]) == b"right"

    def test_an_error_of_who_needs_it_gives_the_room_back(self, bucket):
        staging = Staging(100)
        for name in "abc":
            with pytest.raises(RuntimeError), staging.copies([bucket.put(name, b"x" * 60)]):
                raise RuntimeError


class TestScratch:
    def test_what_a_killed_process_left_goes_with_the_next(self, temporary):
        program = (
            "import os, tfrecords_schema.running.scratch as s\n"
            "(s.scratch_folder('staging') / 'x').write_text('x')\n"
            "os._exit(1)"
        )
        environment = {**os.environ, "TMPDIR": str(temporary)}
        subprocess.run([sys.executable, "-c", program], env=environment, timeout=60)
        (left,) = temporary.iterdir()
        assert (left / "staging/x").exists()
        own = scratch.scratch_folder("mine")
        assert list(temporary.iterdir()) == [own.parent]

    def test_a_living_process_keeps_its_own(self, temporary):
        program = (
            "import sys, tfrecords_schema.running.scratch as s\n"
            "s.scratch_folder('staging'); print(flush=True); sys.stdin.read()"
        )
        environment = {**os.environ, "TMPDIR": str(temporary)}
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        child.stdout.readline()
        (other,) = temporary.iterdir()
        scratch.scratch_folder("mine")
        assert (other / "staging").exists()
        child.communicate()
        assert not other.exists()

    def test_strangers_are_left_alone(self, temporary):
        (temporary / "reelbeam-scratch-of-somebody").mkdir()
        scratch.scratch_folder("mine")
        assert (temporary / "reelbeam-scratch-of-somebody").exists()
        (temporary / "reelbeam-scratch-of-somebody").rmdir()
