"""Objects on a real client's S3 server, read and written by our functions and judged by that client."""

import hashlib
import logging
import re
import threading

import pytest
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import LocalFileSystem

from tests.processes import run_python
from tfrecords_schema import paths, storage, store_clients
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import UrlError, check_path, is_url
from tfrecords_schema.records import read_file
from tfrecords_schema.spec import ImageSpec, SequenceSpec
from tfrecords_schema.store_clients import StorageError


class TestUrls:
    @pytest.mark.parametrize(
        "path", ["s3://b/x", "gs://b", "hdfs://host:8020/x", "ftp://x", "s3://"]
    )
    def test_a_url_is_told_from_a_path(self, path):
        assert is_url(path)

    @pytest.mark.parametrize(
        "path", ["", "/data/x", "s3:/b", "a/b://c", "://x", "C:\\x", "1s3://x"]
    )
    def test_a_path_is_told_from_a_url(self, path):
        assert not is_url(path)

    def test_slashes_at_the_end_mean_nothing(self):
        assert check_path("s3://b/x//") == "s3://b/x"

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("http://b/x", r"local path or a URL of s3://, gs://, hdfs://, got http://b"),
            ("s3:///x", "Name the bucket"),
            ("s3://", "Name the bucket"),
        ],
    )
    def test_others_are_refused(self, url, message):
        with pytest.raises(UrlError, match=message):
            check_path(url)

    @pytest.mark.parametrize("scheme", ["s3", "gs", "hdfs", "https"])
    def test_credentials_are_refused_and_not_repeated(self, scheme):
        with pytest.raises(UrlError, match="must not hold credentials") as caught:
            check_path(f"{scheme}://name:hush@bucket/x@y")
        assert "hush" not in str(caught.value)
        assert "name" not in str(caught.value)

    def test_an_at_sign_in_a_key_is_a_key(self):
        assert check_path("s3://b/x@y") == "s3://b/x@y"


class TestReading:
    def test_an_object(self, bucket):
        url = bucket.put("a/b c+é.txt", b"one\ntwo\n")
        found = storage.status(url)
        assert storage.read_bytes(url) == b"one\ntwo\n"
        assert found.bytes == 8
        assert found.mtime_ns > 1.6e18
        assert found.version == hashlib.md5(b"one\ntwo\n").hexdigest()

    def test_a_stream_of_several_blocks(self, bucket):
        data = bytes(range(256)) * (9 << 12)
        with storage.open_stream(bucket.put("x", data)) as file:
            assert file.read(7) + file.read() == data
            file.seek(5 << 20)
            assert file.read(9) == data[5 << 20 :][:9]

    @pytest.mark.parametrize("length", [0, 10, (1 << 18) - 1, 1 << 18, 1 << 19, 1_500_000])
    def test_a_line_however_long(self, bucket, length):
        line = b"x" * length + b"\n"
        url = bucket.put("lines", b"first\n" + line + b"last")
        assert storage.read_line(url, 6) == line
        assert storage.read_line(url, 6 + len(line)) == b"last"

    def test_a_folder_and_what_is_below_it(self, bucket):
        for key in ("d/a", "d/sub/b", "d/sub/deep/c", "dd/x", "d/", "d//odd", "d/sub/../up"):
            bucket.put(key)
        folder = f"{bucket.url}/d"
        assert list(storage.list_folder(folder)) == ["a"]
        found = ["/odd", "a", "sub/../up", "sub/b", "sub/deep/c"]
        assert list(storage.find_below(folder)) == found
        assert storage.is_folder(folder)
        assert not storage.is_folder(f"{folder}/a")
        assert not storage.is_file(folder)
        assert storage.is_file(f"{folder}/a")

    def test_a_pattern(self, bucket):
        for key in ("c/x/1.mp4", "c/y/2.mp4", "c/y/deep/3.mp4", "c/y/2.txt"):
            bucket.put(key)
        one = [f"{bucket.url}/c/x/1.mp4", f"{bucket.url}/c/y/2.mp4"]
        assert list(storage.find_matching(f"{bucket.url}/c/*/*.mp4")) == one
        every = [*one, f"{bucket.url}/c/y/deep/3.mp4"]
        assert list(storage.find_matching(f"{bucket.url}/c/**/*.mp4")) == every

    def test_more_objects_than_an_answer_holds(self, bucket, monkeypatch):
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
        names = [f"{number:02}" for number in range(10)]
        for name in names:
            bucket.put(f"many/{name}")
        answer = bucket.client.list_objects_v2(Bucket=bucket.name)
        assert (answer["KeyCount"], answer["IsTruncated"]) == (3, True)
        assert list(storage.find_below(f"{bucket.url}/many")) == names
        storage.remove_folder(f"{bucket.url}/many")
        assert bucket.names() == []


class TestWriting:
    def test_an_object_is_replaced(self, bucket):
        url = f"{bucket.url}/a/x"
        for data in (b"one", b"two"):
            storage.write_bytes(url, data)
            assert bucket.read("a/x") == data

    def test_one_of_two_creates_it(self, bucket):
        url = f"{bucket.url}/lock"
        assert storage.create(url, b"mine")
        assert not storage.create(url, b"yours")
        assert bucket.read("lock") == b"mine"

    def test_one_of_many_at_once_creates_it(self, bucket):
        url, start, won = f"{bucket.url}/lock", threading.Barrier(8), []

        def create(number):
            start.wait()
            if storage.create(url, str(number).encode()):
                won.append(str(number).encode())

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [bucket.read("lock")]

    @pytest.mark.parametrize("size", [0, 1000, pytest.param(110 << 20, marks=pytest.mark.slow)])
    def test_files_small_and_in_parts(self, bucket, tmp_path, size):
        local = tmp_path / "big"
        with local.open("wb") as file:
            file.truncate(size)
            file.write(b"the end")
        storage.upload(local, f"{bucket.url}/big")
        storage.download(f"{bucket.url}/big", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == local.read_bytes()
        assert bucket.unfinished_uploads() == []

    def test_removing_what_is_not_there_is_no_error(self, bucket):
        bucket.put("a")
        storage.remove([f"{bucket.url}/none", f"{bucket.url}/a"])
        storage.remove([])
        storage.remove_folder(f"{bucket.url}/folder")
        assert bucket.names() == []


class TestErrors:
    @pytest.mark.parametrize(
        "ask", [storage.read_bytes, storage.status, storage.find_below, storage.list_folder]
    )
    def test_no_such_bucket(self, bucket, ask):
        url = f"s3://{bucket.name}-other/x"
        with pytest.raises(FileNotFoundError, match="there is no such bucket") as caught:
            ask(url)
        assert caught.value.filename == url

    def test_no_such_object(self, bucket):
        with pytest.raises(FileNotFoundError, match="there is no such object"):
            storage.read_bytes(f"{bucket.url}/none")

    def test_a_folder_that_is_not_there_is_empty(self, bucket):
        assert storage.list_folder(f"{bucket.url}/none") == {}
        assert storage.find_below(f"{bucket.url}/none") == {}

    @pytest.mark.parametrize(
        ("environment", "expected"),
        [
            ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials"),
            pytest.param(
                {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
                "connect to the endpoint",
                marks=pytest.mark.slow,  # the client tries again and again
            ),
        ],
    )
    def test_a_store_that_cannot_be_asked(self, bucket, monkeypatch, environment, expected):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        program = (
            "from tfrecords_schema import storage\n"
            "try: storage.read_bytes('s3://bucket/x')\n"
            "except OSError as error: print(error.filename, error.strerror)"
        )
        run = run_python("-c", program)
        assert run.stdout.startswith("s3://bucket/x"), run.stderr
        assert expected in run.stdout

    @pytest.mark.parametrize(
        ("url", "package", "extra"), [("s3://b/x", "s3fs", "aws"), ("gs://b/x", "gcsfs", "gcp")]
    )
    def test_a_package_that_is_not_installed(self, url, package, extra):
        program = (
            f"import sys; sys.modules[{package!r}] = None\n"
            "from tfrecords_schema import storage\n"
            f"try: storage.read_bytes({url!r})\n"
            "except OSError as error: print(error.strerror)"
        )
        run = run_python("-c", program)
        scheme = url.split(":")[0]
        assert run.stdout.strip() == (
            f"{scheme}:// needs the package {package}: pip install 'reelbeam[{extra}]'"
        ), run.stderr


class TestGoogle:
    """The other client answers in its own words; what we make of them is the same."""

    def test_writing_and_reading(self, google, tmp_path):
        url = f"gs://{google.bucket}/a/x.txt"
        storage.write_bytes(url, b"one\ntwo\n")
        assert google.objects == {"a/x.txt": b"one\ntwo\n"}
        found = storage.status(url)
        assert (found.bytes, found.version) == (8, google.described["a/x.txt"]["etag"])
        assert found.mtime_ns > 1.6e18
        assert storage.read_bytes(url) == b"one\ntwo\n"
        assert storage.read_line(url, 4) == b"two\n"
        assert storage.create(f"{url}.lock", b"mine")
        assert not storage.create(f"{url}.lock", b"yours")
        assert google.objects["a/x.txt.lock"] == b"mine"

    @pytest.mark.parametrize("size", [0, 1000, 11 << 20])
    def test_files_small_and_in_parts(self, google, tmp_path, size):
        (tmp_path / "big").write_bytes(bytes(range(256)) * (size // 256) + b"end")
        url = f"gs://{google.bucket}/big"
        storage.upload(tmp_path / "big", url)
        assert google.objects["big"] == (tmp_path / "big").read_bytes()
        storage.download(url, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == google.objects["big"]
        with storage.open_stream(url) as file:
            assert file.read() == google.objects["big"]

    def test_folders_and_patterns(self, google):
        root = f"gs://{google.bucket}"
        for name in ("d/a", "d/sub/b", "dd/x.mp4"):
            google.put(name, b"")
        assert list(storage.list_folder(f"{root}/d")) == ["a"]
        assert list(storage.find_below(f"{root}/d")) == ["a", "sub/b"]
        assert list(storage.find_matching(f"{root}/*/*.mp4")) == [f"{root}/dd/x.mp4"]
        assert storage.is_folder(f"{root}/d")
        assert not storage.is_folder(f"{root}/d/a")
        assert not storage.is_file(f"{root}/d")
        storage.remove([f"{root}/d/a", f"{root}/d/none"])
        storage.remove_folder(f"{root}/d")
        storage.remove_folder(f"{root}/d")
        assert list(google.objects) == ["dd/x.mp4"]

    def test_what_is_not_there(self, google):
        with pytest.raises(FileNotFoundError, match="there is no such object"):
            storage.read_bytes(f"gs://{google.bucket}/none")
        for ask in (storage.list_folder, lambda url: storage.write_bytes(url, b"")):
            with pytest.raises(FileNotFoundError, match="there is no such bucket"):
                ask("gs://another-bucket/x")

    def test_its_client_keeps_its_tracebacks_to_itself(self, google):
        storage.is_file(f"gs://{google.bucket}/none")
        assert not logging.getLogger("gcsfs").isEnabledFor(logging.ERROR)


class TestHadoop:
    """Its client is Arrow's, which has the same functions for local files."""

    @pytest.fixture
    def root(self, monkeypatch, tmp_path):
        client = ArrowFSWrapper(LocalFileSystem())
        monkeypatch.setattr(store_clients, "file_system", lambda scheme, host: client)
        return f"hdfs://name-node:8020{tmp_path}"

    def test_writing_and_reading(self, root, tmp_path):
        storage.write_bytes(f"{root}/new/x.txt", b"one\ntwo\n")
        assert (tmp_path / "new/x.txt").read_bytes() == b"one\ntwo\n"
        found = storage.status(f"{root}/new/x.txt")
        assert (found.bytes, found.mtime_ns > 1.6e18) == (8, True)
        assert storage.read_line(f"{root}/new/x.txt", 4) == b"two\n"
        with storage.open_stream(f"{root}/new/x.txt") as file:
            assert file.read() == b"one\ntwo\n"
        assert storage.create(f"{root}/made/lock", b"mine")
        assert not storage.create(f"{root}/made/lock", b"yours")

    def test_a_file_gets_its_name_when_it_is_complete(self, root, tmp_path, monkeypatch):
        (tmp_path / "local").write_bytes(b"data")
        storage.upload(tmp_path / "local", f"{root}/ds/shard")
        assert (tmp_path / "ds/shard").read_bytes() == b"data"

        def fail(_, local, path):
            assert re.search(r"/ds/\.other\.[0-9a-f]{32}\.partial$", path)  # hidden
            (tmp_path / "ds" / path.rsplit("/", 1)[1]).write_bytes(b"da")
            raise OSError("cable pulled")

        monkeypatch.setattr(ArrowFSWrapper, "put_file", fail)
        with pytest.raises(StorageError, match="cable pulled"):
            storage.upload(tmp_path / "local", f"{root}/ds/other")
        assert [path.name for path in (tmp_path / "ds").iterdir()] == ["shard"]

    def test_folders_and_patterns(self, root, tmp_path):
        for name in ("d/a", "d/sub/b", "dd/x.mp4"):
            storage.write_bytes(f"{root}/{name}", b"")
        assert list(storage.list_folder(f"{root}/d")) == ["a"]
        assert list(storage.list_folder(f"{root}/none")) == []
        assert list(storage.find_below(f"{root}/d")) == ["a", "sub/b"]
        assert list(storage.find_matching(f"{root}/*/*.mp4")) == [f"{root}/dd/x.mp4"]
        assert storage.is_folder(f"{root}/d")
        assert not storage.is_folder(f"{root}/none")
        assert not storage.is_file(f"{root}/d")
        storage.remove([f"{root}/d/a", f"{root}/d/none"])
        storage.remove_folder(f"{root}/d")
        storage.remove_folder(f"{root}/d")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["dd"]


class TestDatasets:
    def test_description_and_records(self, bucket, tmp_path):
        info = write_fake_dataset(
            tmp_path / "ds",
            SequenceSpec(num_frames=2, image=ImageSpec(height=8, width=8)),
            {"train": 5},
        )
        url = bucket.upload(tmp_path / "ds", "ds")
        assert DatasetInfo.load(url) == info
        for shard in info.splits["train"].shards:
            local = list(read_file(tmp_path / "ds" / shard.file))
            assert list(read_file(f"{url}/{shard.file}")) == local

    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ("{url}/none", "expected the folder of a dataset, found none"),
            ("{url}-other/none", "expected the folder of a dataset, found none"),
            ("s3://name:hush@bucket/x", "must not hold credentials"),
        ],
    )
    def test_no_dataset(self, bucket, place, message):
        with pytest.raises(DatasetInfoError, match=message):
            DatasetInfo.load(place.format(url=bucket.url))


def test_local_files_import_no_client():
    program = (
        "import sys, tfrecords_schema.info, tfrecords_schema.records, pipelines.build.output\n"
        "print(sorted({'fsspec', 's3fs', 'gcsfs', 'botocore'} & sys.modules.keys()))"
    )
    run = run_python("-c", program)
    assert run.stdout.strip() == "[]", run.stderr


class TestLocalPaths:
    """The calls for object stores do the same for local paths."""

    def test_files_are_written_listed_read_and_removed(self, tmp_path):
        (tmp_path / "folder").mkdir()
        storage.write_bytes(tmp_path / "b", b"one\ntwo\n")
        storage.write_bytes(paths.join(tmp_path, "a"), b"")
        assert storage.is_file(tmp_path / "b")
        assert not storage.is_file(tmp_path / "folder")
        assert storage.is_folder(tmp_path / "folder")
        assert storage.exists(tmp_path / "folder")
        assert {name: file.bytes for name, file in storage.list_folder(tmp_path).items()} == {
            "a": 0,
            "b": 8,
        }
        assert storage.read_bytes(tmp_path / "b") == b"one\ntwo\n"
        assert storage.read_line(tmp_path / "b", 4) == b"two\n"
        with storage.open_stream(tmp_path / "b") as file:
            assert list(file) == [b"one\n", b"two\n"]
        storage.remove([tmp_path / "a", tmp_path / "none"])
        storage.remove_folder(tmp_path / "folder")
        storage.remove_folder(tmp_path / "folder")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]

    def test_status_is_that_of_the_file_and_refuses_devices(self, tmp_path):
        storage.write_bytes(tmp_path / "a", b"12345")
        assert storage.status(tmp_path / "a").bytes == 5
        assert storage.status(tmp_path / "a").mtime_ns == (tmp_path / "a").stat().st_mtime_ns
        with pytest.raises(OSError, match="not a regular file"):
            storage.status(tmp_path)

    def test_replacing_keeps_the_old_file_when_writing_fails(self, tmp_path):
        target = tmp_path / "report.html"
        storage.write_bytes(target, b"old")

        def write_half():
            with storage.replacing(target) as partial:
                partial.write_bytes(b"half")
                raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            write_half()
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    def test_replacing_names_the_partial_file_by_the_suffix(self, tmp_path):
        with storage.replacing(tmp_path / "model.keras", suffix=".keras") as partial:
            assert partial.name.endswith(".partial.keras")
            assert not (tmp_path / "model.keras").exists()
            partial.write_bytes(b"whole")
        assert (tmp_path / "model.keras").read_bytes() == b"whole"
