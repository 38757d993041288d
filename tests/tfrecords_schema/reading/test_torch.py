"""Tests of the datasets for PyTorch, in its own loaders and with its own samplers; and of Grain.

`make test-torch` sets up what these need.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections import Counter

import numpy as np
import pytest

from tests.processes import ROOT
from tfrecords_schema import (
    CorruptRecordError,
    ImageSpec,
    LabelSpec,
    SequenceSpec,
    SignalSpec,
    open_dataset,
    write_fake_dataset,
)

torch = pytest.importorskip("torch", reason="make test-torch installs PyTorch")

from torch.utils.data import DataLoader, DistributedSampler  # noqa: E402

from tfrecords_schema.torch import IterableSequenceDataset, SequenceDataset  # noqa: E402

SPEC = SequenceSpec(
    num_frames=4,
    image=ImageSpec(height=18, width=32),
    label=LabelSpec(task="classification", class_names=("a", "b")),
    signals=(SignalSpec(name="SPEED"),),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three shards of 23 sequences."""
    folder = tmp_path_factory.mktemp("torch")
    write_fake_dataset(folder, SPEC, {"train": 23}, shards=3)
    return folder


def ids(batches):
    return [name for batch in batches for name in batch["metadata"]["example/id"]]


def stored_ids(folder):
    return [sequence["metadata"]["example/id"] for sequence in open_dataset(folder)["train"]]


def test_sequence_dataset_gives_batches_of_tensors(dataset):
    (batch, *_) = DataLoader(SequenceDataset(dataset), 4)
    expected = [open_dataset(dataset)["train"][i] for i in range(4)]
    assert batch["frames"].dtype == torch.uint8
    assert batch["label"].dtype == batch["valid_frames"].dtype == torch.int64
    assert batch["signals"]["SPEED"].dtype == torch.float32
    for key in ("frames", "label", "valid_frames", "timestamps"):
        np.testing.assert_array_equal(batch[key].numpy(), np.stack([one[key] for one in expected]))
    speeds = np.stack([one["signals"]["SPEED"] for one in expected])
    np.testing.assert_array_equal(batch["signals"]["SPEED"].numpy(), speeds)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_sequence_dataset_in_workers(dataset, method):
    loader = DataLoader(
        SequenceDataset(dataset), 4, shuffle=True, num_workers=2, multiprocessing_context=method
    )
    assert sorted(ids(loader)) == sorted(stored_ids(dataset))


def test_sequence_dataset_with_distributed_sampler(dataset):
    sequences = SequenceDataset(dataset, transform=lambda one: one["metadata"]["example/id"])
    found = Counter()
    for rank in range(2):
        sampler = DistributedSampler(sequences, num_replicas=2, rank=rank)
        found.update(name for batch in DataLoader(sequences, 4, sampler=sampler) for name in batch)
    assert found.keys() == set(stored_ids(dataset))
    assert found.total() == 24


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_iterable_dataset_in_workers_that_stay(dataset, method):
    sequences = IterableSequenceDataset(dataset, shuffle=True, buffer=5)
    loader = DataLoader(
        sequences, 4, num_workers=2, persistent_workers=True, multiprocessing_context=method
    )
    epochs = []
    for epoch in (0, 1, 0):
        sequences.set_epoch(epoch)
        epochs.append(ids(loader))
    assert all(sorted(found) == sorted(stored_ids(dataset)) for found in epochs)
    assert epochs[0] == epochs[2] != epochs[1] != stored_ids(dataset)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("replicas", "workers"), [(1, 0), (2, 0), (4, 3), (30, 0)])
def test_iterable_dataset_deals_equally_to_ranks(dataset, shuffle, replicas, workers):
    found, batches = Counter(), set()
    for rank in range(replicas):
        own = IterableSequenceDataset(dataset, shuffle=shuffle, rank=rank, num_replicas=replicas)
        if not workers:
            names = [one["metadata"]["example/id"] for one in own]
            assert len(names) == len(own)
            found.update(names)
            batches.add(len(names))
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # more batches than sequences / batch size
            loaded = list(DataLoader(own, 2, num_workers=workers))
        found.update(ids(loaded))
        batches.add(len(loaded))
    assert found.keys() == set(stored_ids(dataset))
    assert len(batches) == 1
    assert found.total() == replicas * -(-23 // replicas)
    if not shuffle and replicas == 1:
        assert list(found) == stored_ids(dataset)


def test_iterable_dataset_skips_damaged_records_or_names_them(tmp_path):
    write_fake_dataset(tmp_path, SPEC, {"train": 5}, shards=1)
    (shard,) = tmp_path.glob("train-*.tfrecord")
    data = bytearray(shard.read_bytes())
    data[40] ^= 255
    shard.write_bytes(data)
    assert len(list(IterableSequenceDataset(tmp_path, skip_damaged=True))) == 4
    for sequences in (IterableSequenceDataset(tmp_path), SequenceDataset(tmp_path)):
        with pytest.raises(CorruptRecordError, match="corrupt record at byte 0"):
            next(iter(DataLoader(sequences)))
        # PyTorch cannot raise it again, and quotes it.
        with pytest.raises(RuntimeError, match=r"tfrecord: corrupt record at byte 0"):
            next(iter(DataLoader(sequences, num_workers=1)))


def test_datasets_refuse_wrong_arguments(dataset):
    for kind in (SequenceDataset, IterableSequenceDataset):
        with pytest.raises(KeyError, match="one of the splits train, got 'val'"):
            kind(dataset, "val")
    with pytest.raises(ValueError, match=r"a rank below num_replicas.*rank=2"):
        IterableSequenceDataset(dataset, rank=2, num_replicas=2)
    with pytest.raises(ValueError, match=r"a buffer of at least 1.*buffer=0"):
        IterableSequenceDataset(dataset, buffer=0)
    assert len(pickle.dumps(SequenceDataset(dataset))) < 4000


def test_grain_takes_the_same_sequences(dataset):
    grain = pytest.importorskip("grain", reason="make test-torch installs Grain")
    source = open_dataset(dataset)["train"]
    batches = grain.MapDataset.source(source).shuffle(seed=0).batch(4)
    found = list(batches.to_iter_dataset())
    assert found[0]["frames"].shape == (4, *SPEC.image_shape)
    assert sorted(ids(found)) == sorted(stored_ids(dataset))


def test_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fake_dataset("dataset", SPEC, {"train": 8, "validation": 4})
    text = (ROOT / "docs/pytorch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert 0 <= names["accuracy"] <= 1
    assert np.isfinite(names["loss"].item())
