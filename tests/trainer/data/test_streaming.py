"""Tests that datasets on an object store are read like local ones."""

import itertools

import numpy as np
import pytest

from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import CorruptRecordError, read_file, scan_file
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from tfrecords_schema.store_clients import StorageError
from trainer.cli import main
from trainer.config.dataset import DatasetError
from trainer.data import corrupt
from trainer.data import stored_records as storage
from trainer.data.corrupt import SkippedRecords, located_errors
from trainer.data.labels import read_labels
from trainer.data.read_options import Loading
from trainer.data.reader import read_sequences

SPEC = SequenceSpec(
    num_frames=3,
    frame_rate=10.0,
    image=ImageSpec(height=16, width=16),
    label=LabelSpec(task="classification", class_names=("a", "b")),
)


@pytest.fixture
def local(tmp_path):
    write_fake_dataset(tmp_path / "ds", SPEC, {"train": 13, "validation": 6, "test": 6}, shards=3)
    return tmp_path / "ds"


@pytest.fixture
def url(bucket, local):
    return bucket.upload(local, "deep/ds")


def batches(place, **options):
    dataset = read_sequences(place, "train", batch_size=4, **options)
    return [
        (features["image"], labels) for features, labels in dataset.as_numpy_iterator()
    ], dataset.cardinality()


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "seed": 3}], ids=["stored", "shuffled"])
def test_streamed_records_equal_local_ones(local, url, options):
    near, count = batches(local, **options)
    far, far_count = batches(url, **options)
    assert len(near) == len(far) == 4
    assert count == far_count
    for (image, label), (far_image, far_label) in zip(near, far, strict=True):
        np.testing.assert_array_equal(image, far_image)
        np.testing.assert_array_equal(label, far_label)


def test_read_labels_from_object_store(local, url):
    np.testing.assert_array_equal(
        read_labels(local, "train").values, read_labels(url, "train").values
    )


def test_read_sequences_refuses_missing_or_truncated_remote_shard(bucket, url):
    shard = DatasetInfo.load(url).splits["train"].shards[1].file
    data = bucket.read(f"deep/ds/{shard}")
    bucket.put(f"deep/ds/{shard}", data[:-1])
    with pytest.raises(DatasetError, match=f"{url}/{shard} has {len(data) - 1} bytes"):
        batches(url)
    bucket.client.delete_object(Bucket=bucket.name, Key=f"deep/ds/{shard}")
    with pytest.raises(DatasetError, match=f"{url}/{shard} is missing"):
        batches(url)


def test_located_errors_names_corrupt_remote_record(bucket, url):
    shard = DatasetInfo.load(url).splits["train"].shards[1].file
    data = bytearray(bucket.read(f"deep/ds/{shard}"))
    data[-30] ^= 1
    bucket.put(f"deep/ds/{shard}", bytes(data))
    with (
        pytest.raises(CorruptRecordError, match=f"{url}/{shard}: corrupt record at byte"),
        located_errors(url, "train"),
    ):
        batches(url)


def test_located_errors_reports_failing_store_in_one_line(url, monkeypatch):
    def fail(path, *_):
        yield from itertools.islice(read_file(path), 1)
        raise StorageError(5, "cable pulled", path)

    monkeypatch.setattr(storage, "read_file", fail)
    with pytest.raises(OSError, match=r"^cable pulled: 's3://.*'$"), located_errors(url, "train"):
        batches(url)


def test_ignore_errors_skips_corrupt_remote_records(bucket, url, monkeypatch):
    sound = read_labels(url, "train").values.tolist()
    file = DatasetInfo.load(url).splits["train"].shards[1].file
    data = bytearray(bucket.read(f"deep/ds/{file}"))
    second = [record.offset for record in read_file(f"{url}/{file}")][1]
    data[second + 100] ^= 1
    bucket.put(f"deep/ds/{file}", bytes(data))
    skipped = SkippedRecords()
    read, _ = batches(url, loading=Loading(ignore_errors=skipped))
    labels = np.concatenate([labels for _, labels in read])
    assert (skipped.count, skipped.places) == (1, [(f"{url}/{file}", second)])
    assert skipped.to_json() == {"places": [{"file": file, "byte": second}]}
    first = DatasetInfo.load(url).splits["train"].shards[0].records
    assert labels.tolist() == sound[: first + 1] + sound[first + 2 :]
    found = read_labels(url, "train", ignore_errors=skipped)
    np.testing.assert_array_equal(found.values, labels)

    def fail(path, *_):
        yield from itertools.islice(scan_file(path), 1)
        raise StorageError(5, "cable pulled", path)

    # A store that fails is no corrupt record.
    monkeypatch.setattr(corrupt, "scan_file", fail)
    for read in (
        lambda: batches(url, loading=Loading(ignore_errors=True)),
        lambda: read_labels(url, "train", ignore_errors=skipped),
    ):
        with (
            pytest.raises(OSError, match=r"^cable pulled: 's3://.*'$"),
            located_errors(url, "train"),
        ):
            read()


@pytest.mark.slow
def test_train_and_evaluate_from_object_store(url, tmp_path, capsys):
    flags = ["--epochs", "1", "--batch_size", "4", "--ignore_errors", "on"]
    assert main(["--tfrecords", url, "--output", str(tmp_path / "run"), *flags]) == 0
    assert main(["evaluate", "--tfrecords", url, "--model", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["--tfrecords", f"{url}-other", "--output", str(tmp_path / "none")]) == 2
    assert "expected the folder of a dataset, found none" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
