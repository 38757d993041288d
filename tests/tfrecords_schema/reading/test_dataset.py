"""Tests of reading without TensorFlow: equal to TensorFlow's parser, for all shards, workers and damage."""

from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processes import run_python
from tests.tfrecords_schema.test_parse import CLASSIFICATION, EACH_VARIANT
from tfrecords_schema import CorruptRecordError, DatasetInfoError, open_dataset, write_fake_dataset
from tfrecords_schema.parse import parse_and_decode
from tfrecords_schema.reading import offsets
from tfrecords_schema.reading.offsets import RecordOffsets, load_offsets
from tfrecords_schema.records import frame_record, read_file

LABEL_KEYS = ("clip/label/index", "clip/label/value", "image/label/index", "LABEL/feature/floats")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def dataset(tmp_path):
    """Three shards of a split with 8 records."""
    write_fake_dataset(tmp_path / "dataset", CLASSIFICATION, {"train": 8, "test": 0}, shards=3)
    return tmp_path / "dataset"


def ids(sequences):
    return [sequence["metadata"]["example/id"] for sequence in sequences]


def stored_ids(folder):
    parse = tf.io.parse_single_sequence_example
    key = {"example/id": tf.io.FixedLenFeature((), tf.string)}
    files = tf.data.TFRecordDataset(sorted(map(str, folder.glob("train-*"))))
    return [parse(record, key)[0]["example/id"].numpy().decode() for record in files]


@EACH_VARIANT
def test_open_dataset_equals_tensorflows_parser(tmp_path, spec, own):
    info = write_fake_dataset(tmp_path, spec, {"train": 4}, shards=1)
    sequences = open_dataset(tmp_path)["train"]
    files = tf.data.TFRecordDataset(str(tmp_path / info.splits["train"].shards[0].file))
    expected = [parse_and_decode(record, spec) for record in files]
    assert len(sequences) == len(expected) == 4
    for sequence, parsed in zip(sequences, expected, strict=True):
        held = {key: value.numpy() for key, value in parsed.items()}
        if spec.image is not None:
            np.testing.assert_array_equal(sequence["frames"], held["image"], strict=True)
        else:
            assert "frames" not in sequence
        assert sequence["valid_frames"] == held["image/valid_frames"]
        np.testing.assert_array_equal(sequence["timestamps"], held["image/timestamp"], strict=True)
        label = next((held[key] for key in LABEL_KEYS if key in held), None)
        if spec.label.task == "multilabel":
            label = np.isin(np.arange(spec.label.num_classes), label).astype(np.float32)
        if label is None:
            assert "label" not in sequence
        else:
            np.testing.assert_array_equal(np.asarray(sequence["label"]), label, strict=True)
        assert list(sequence["signals"]) == [signal.name for signal in spec.signals]
        for name, values in sequence["signals"].items():
            np.testing.assert_array_equal(values, held[f"{name}/feature/floats"], strict=True)
        for key in [f.key for f in spec.context_features() if "/label/" not in f.key]:
            value = sequence["metadata"].pop(key)
            assert (value.encode() if isinstance(value, str) else value) == held[key]
        assert sequence["metadata"] == {}


def test_sequence_split_takes_any_index_within_bounds(dataset):
    sequences = open_dataset(dataset)["train"]
    expected = stored_ids(dataset)
    assert len(sequences) == 8
    assert ids(sequences) == ids(map(sequences.__getitem__, np.arange(-8, 0))) == expected
    assert ids([sequences[-1], sequences[7]]) == [expected[-1]] * 2
    for index in (8, -9):
        with pytest.raises(IndexError, match="has 8 sequences, got index"):
            sequences[index]
    with pytest.raises(TypeError, match="slice"):
        sequences[0:2]
    assert list(open_dataset(dataset)["test"]) == []
    with pytest.raises(KeyError, match="one of the splits train, test, got 'val'"):
        open_dataset(dataset)["val"]


def test_offsets_are_made_once_and_again_if_they_do_not_fit(dataset, monkeypatch):
    expected = ids(open_dataset(dataset)["train"])
    file = dataset / "train.offsets"
    assert file.stat().st_size == 32 + 8 * 8
    kept, made = file.read_bytes(), []
    spans = offsets.record_spans
    monkeypatch.setattr(offsets, "record_spans", lambda *a: made.append(a) or spans(*a))
    assert ids(open_dataset(dataset)["train"]) == expected
    assert not made
    for spoilt in (b"", kept[:-8], kept[:-1] + b"\1", bytes(len(kept))):
        file.write_bytes(spoilt)
        assert ids(open_dataset(dataset)["train"]) == expected
        assert file.read_bytes() == kept
    # Another dataset in its place, whose index has the same size.
    write_fake_dataset(dataset, CLASSIFICATION, {"test": 8, "train": 8}, shards=3)
    assert ids(open_dataset(dataset)["train"]) == stored_ids(dataset) != expected


def test_offsets_are_cached_elsewhere_or_nowhere_if_the_folder_cannot_be_written(
    dataset, cache, caplog
):
    (dataset / "train.offsets").mkdir()
    expected = stored_ids(dataset)
    assert ids(open_dataset(dataset)["train"]) == expected
    (kept,) = (cache / "reelbeam").iterdir()
    assert kept.stat().st_size == 32 + 8 * 8
    kept.unlink()
    kept.mkdir()
    assert ids(open_dataset(dataset)["train"]) == expected
    assert "train.offsets cannot be written, nor" in caplog.text


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=6), data=st.data())
@settings(max_examples=50)
def test_record_offsets_span(counts, data):
    sizes = [[data.draw(st.integers(16, 99)) for _ in range(count)] for count in counts]
    bounds = [sum(counts[:i]) for i in range(len(counts) + 1)]
    starts = [sum(own[:i]) for own in sizes for i in range(len(own))]
    places = RecordOffsets(
        [f"{i}" for i in range(len(counts))],
        [sum(own) for own in sizes],
        bounds,
        np.array(starts, np.uint64),
    )
    expected = [
        (f"{shard}", sum(own[:i]), sum(own[: i + 1]))
        for shard, own in enumerate(sizes)
        for i in range(len(own))
    ]
    assert [places.span(i) for i in range(sum(counts))] == expected


def test_damaged_records_are_named_and_skipped(dataset, caplog):
    first, second = sorted(dataset.glob("train-*"))[:2]
    places = [record.offset for record in read_file(second)]
    expected = ids(open_dataset(dataset)["train"])
    for path, place in ((first, 40), (second, places[1] + 3)):  # in the data, in a length
        data = bytearray(path.read_bytes())
        data[place] ^= 255
        path.write_bytes(data)
    for kept in (True, False):  # an index made before the damage, and one made after it
        sequences = open_dataset(dataset)["train"]
        with pytest.raises(CorruptRecordError, match="byte 0: the data's checksum") as error:
            sequences[0]
        assert error.value.file == str(first)
        damaged = []
        assert ids(sequences.intact(damaged=damaged)) == [*expected[1:4], *expected[5:]]
        assert [(one.file, one.offset) for one in damaged] == [
            (str(first), 0),
            (str(second), places[1]),
        ]
        assert "length's checksum does not match: skipped" in caplog.text
        if kept:
            (dataset / "train.offsets").unlink()


def test_offsets_of_damaged_shards_that_lack_records_are_not_kept(dataset):
    shard = sorted(dataset.glob("train-*"))[1]
    intact, places = shard.read_bytes(), [record.offset for record in read_file(shard)]
    expected = stored_ids(dataset)
    data = bytearray(intact)
    for place in places[1:3]:  # both lengths, so that one place is damaged
        data[place] ^= 255
    shard.write_bytes(data)
    damaged = []
    sequences = open_dataset(dataset)["train"]
    assert ids(sequences.intact(damaged=damaged)) == [*expected[:4], *expected[6:]]
    assert len(sequences) == 7
    assert [one.offset for one in damaged] == [places[1]]
    assert not (dataset / "train.offsets").exists()
    shard.write_bytes(intact)
    assert ids(open_dataset(dataset)["train"]) == expected
    assert (dataset / "train.offsets").exists()


def test_records_that_do_not_fit_are_named(dataset):
    path = dataset / "test-00000-of-00003.tfrecord"
    path.write_bytes(frame_record(b"\x0a\x00"))
    info = json.loads((dataset / "dataset_info.json").read_text())
    shard = info["splits"]["test"]["shards"][0]
    shard["bytes"], shard["records"] = path.stat().st_size, 1
    (dataset / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(CorruptRecordError, match="byte 0: missing context key example/id"):
        open_dataset(dataset)["test"][0]
    path.write_bytes(b"")
    with pytest.raises(DatasetInfoError, match=r"has 0 bytes, and dataset_info\.json says"):
        len(open_dataset(dataset)["test"])
    path.unlink()
    with pytest.raises(DatasetInfoError, match=r"is missing, and dataset_info\.json lists it"):
        len(open_dataset(dataset)["test"])


def test_sequence_split_is_shared_by_threads_and_pickled(dataset):
    sequences = open_dataset(dataset)["train"]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(sequences.__getitem__, [*range(8)] * 20))
    expected = list(sequences)
    for place, sequence in enumerate(found):
        np.testing.assert_array_equal(sequence["frames"], expected[place % 8]["frames"])
    assert len(pickle.dumps(sequences)) < 3000
    assert ids(pickle.loads(pickle.dumps(sequences))) == ids(expected)


READ_IN_FORKS = """
import multiprocessing, sys
from tfrecords_schema import open_dataset

if __name__ == "__main__":
    sequences = open_dataset(sys.argv[1])["train"]
    print(sequences[0]["metadata"]["example/id"])
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            for sequence in pool.map(sequences.__getitem__, [1, 7]):
                print(sequence["metadata"]["example/id"], sequence["frames"].sum())
    assert not {"tensorflow", "apache_beam"} & set(sys.modules)
"""


@pytest.mark.slow
def test_forks_and_other_processes_read_from_a_store(dataset, bucket, cache, tmp_path):
    url = bucket.upload(dataset, "made")
    (tmp_path / "read.py").write_text(READ_IN_FORKS)
    run = run_python(str(tmp_path / "read.py"), url, timeout=120)
    assert run.returncode == 0, run.stderr
    sequences = open_dataset(dataset)["train"]
    parts = [f"{ids([sequences[i]])[0]} {sequences[i]['frames'].sum()}" for i in (1, 7)]
    assert run.stdout.split("\n")[:-1] == [ids(sequences)[0], *parts, *parts]
    assert len(list((cache / "reelbeam").iterdir())) == 1
    assert "made/train.offsets" not in bucket.names()
    # An index that lies beside the shards is used.
    sequences = open_dataset(bucket.upload(dataset, "copied"))["train"]
    assert ids(sequences) == stored_ids(dataset)
    assert len(list((cache / "reelbeam").iterdir())) == 1


MEASURE_MEMORY = """
import dataclasses, sys
from tfrecords_schema import DatasetInfo, open_dataset
from tfrecords_schema.reading import offsets

def resident():
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmHWM"].split()[0])

info = DatasetInfo.load(sys.argv[1])
offsets.record_spans = lambda path, most: ((i * 16, i * 16 + 16) for i in range(5_000_000))
before = resident()
for made in range(2):
    places = offsets.load_offsets(sys.argv[1], info, "train")
    assert places.span(9_999_999)[1:] == (4_999_999 * 16, 5_000_000 * 16)
    print((resident() - before) // 1024)
"""


@pytest.mark.slow
def test_offsets_of_ten_million_records_take_under_200_mb(tmp_path):
    write_fake_dataset(tmp_path, CLASSIFICATION, {"train": 2})
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    for shard in info["splits"]["train"]["shards"]:
        shard["records"], shard["bytes"] = 5_000_000, 5_000_000 * 16
        os.truncate(tmp_path / shard["file"], shard["bytes"])
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    run = run_python("-c", MEASURE_MEMORY, str(tmp_path), timeout=300)
    assert run.returncode == 0, run.stderr
    made, read = map(int, run.stdout.split())
    assert 70 < made < 200
    assert read < 200


def test_load_offsets_reads_only_lengths(dataset):
    info_file = dataset / "dataset_info.json"
    before = info_file.read_bytes()
    places = load_offsets(dataset, open_dataset(dataset)["train"].info, "train")
    expected = [
        record.offset for path in sorted(dataset.glob("train-*")) for record in read_file(path)
    ]
    assert places.starts.tolist() == expected
    assert info_file.read_bytes() == before
