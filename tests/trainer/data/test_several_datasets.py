"""Several datasets are read, trained on and evaluated as one, without a copy on disk."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.processes import run_python
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from trainer.config.dataset import check_separate, load_dataset, shard_paths
from trainer.data.cached_frames import cached_frames
from trainer.data.labels import read_labels
from trainer.data.read_options import Loading, Outputs, Shuffle
from trainer.data.reader import read_sequences


def spec(*classes, task="classification", per_frame=False):
    label = LabelSpec(task=task, class_names=classes, per_frame=per_frame)
    return SequenceSpec(num_frames=2, image=ImageSpec(height=8, width=8), label=label)


def write(folder, own, splits, first):
    """Writes a dataset with ids of its own and a table of sources."""
    records, rows = {}, []
    for split, count in splits.items():
        seeds = range(first, first + count)
        first += count
        records[split] = [
            replace(fake_record(own, seed), id=f"{seed}@0", media_id=str(seed), group_id=str(seed))
            for seed in seeds
        ]
        rows += [{"id": str(s), "group": str(s), "split": split, "digest": ""} for s in seeds]
    info = write_fake_dataset(folder, own, splits, records=records)
    (folder / "sources.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    replace(info, counts={"sources_built": len(rows)}).save(folder)
    return {record.id: record for split_records in records.values() for record in split_records}


@pytest.fixture(params=["classification", "by frame", "multilabel"])
def pair(request, tmp_path):
    """Two folders with classes in other orders, and their records by id."""
    fields = {"task": "multilabel" if request.param == "multilabel" else "classification"}
    fields["per_frame"] = request.param == "by frame"
    records = write(tmp_path / "a", spec("run", "walk", **fields), {"train": 6, "test": 3}, 0)
    records |= write(
        tmp_path / "b", spec("jump", "run", **fields), {"train": 5, "validation": 2}, 50
    )
    return [tmp_path / "a", tmp_path / "b"], records


def expected_label(record, info):
    names = info.spec.label.class_names
    if info.spec.label.per_frame:
        return [names.index(name) for name in record.frame_label_strings]
    if info.spec.label.task == "multilabel":
        return [float(name in record.label_strings) for name in names]
    return names.index(record.label_strings[0])


@pytest.mark.parametrize(("shuffle", "cached"), [(Shuffle(buffer=4), False), (False, True)])
def test_labels_are_those_of_the_united_classes(pair, shuffle, cached):
    folders, records = pair
    info = load_dataset(folders)
    assert info.spec.label.class_names == ("run", "walk", "jump")
    cache = cached_frames(folders, "train") if cached else None
    batches = read_sequences(
        *(folders, "train"),
        batch_size=4,
        shuffle=shuffle,
        seed=0,
        outputs=Outputs(metadata=True),
        loading=Loading(cache=cache),
    )
    found = {}
    for features, labels in batches:
        for name, label in zip(features["id"].numpy(), labels.numpy(), strict=True):
            found[name.decode()] = label.tolist()
    assert len(found) == 11
    assert found == {name: expected_label(records[name], info) for name in found}


def test_labels_alone_and_skipping_reader_are_the_same(pair):
    folders, records = pair
    info = load_dataset(folders)
    values = read_labels(folders, "train").values
    assert len(values) == info.splits["train"].num_records == 11
    skipping = Loading(ignore_errors=True)
    batches = list(read_sequences(folders, "train", batch_size=11, loading=skipping))
    assert np.array_equal(batches[0][1].numpy(), values)
    assert {label for row in values.tolist() for label in np.ravel(row)} == {
        label
        for name in ("0", "1", "50")
        for label in np.ravel(expected_label(records[f"{name}@0"], info))
    }


def test_a_split_of_one_of_them_is_read_alone(pair):
    folders, _ = pair
    info = load_dataset(folders)
    assert [path.split("/")[-2] for path in shard_paths(folders, info, "test")] == ["a", "a"]
    assert len(shard_paths(folders, info, "train")) == 4


def test_equal_classes_give_the_order_of_one_dataset(tmp_path):
    write(tmp_path / "a", spec("run", "walk"), {"train": 4}, 0)
    alone = [
        labels.numpy().tolist()
        for _, labels in read_sequences(tmp_path / "a", "train", batch_size=2)
    ]
    listed = [
        labels.numpy().tolist()
        for _, labels in read_sequences([tmp_path / "a"], "train", batch_size=2)
    ]
    assert alone == listed
    assert load_dataset([tmp_path / "a"]) == DatasetInfo.load(tmp_path / "a")


def test_shared_sources_and_leaks_are_errors_and_unknown_ones_a_note(tmp_path):
    for name, split in (("a", "train"), ("b", "test"), ("c", "train")):
        write(tmp_path / name, spec("run", "walk"), {split: 2}, 0)
    with pytest.raises(DatasetInfoError, match=r"'0' is in train of .*a and in test of .*b"):
        check_separate([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(DatasetInfoError, match="a source must occur once"):
        check_separate([tmp_path / "a", tmp_path / "c"])
    write_fake_dataset(tmp_path / "d", spec("run", "walk"), {"train": 2})
    assert "were not compared" in check_separate([tmp_path / "a", tmp_path / "d"])
    assert check_separate(tmp_path / "a") is None


@pytest.mark.slow
def test_trainer_trains_resumes_and_evaluates_on_several(tmp_path):
    write(tmp_path / "a", spec("run", "walk"), {"train": 8, "test": 4}, 0)
    write(tmp_path / "b", spec("jump", "run"), {"train": 8, "validation": 4}, 50)
    model = ("--filters", "4", "--lstm_units", "4", "--batch_size", "4", "--stack_frames", "1")
    words = ("--tfrecords", "a", "b", "--output", "run", "--allow_empty_classes", *model)

    def trainer(*arguments):
        return run_python("-m", "trainer", *arguments, cwd=tmp_path)

    done = trainer(*words, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "dataset: a, b" in done.stdout
    assert json.loads((tmp_path / "run/config.json").read_text())["tfrecords"] == ["a", "b"]
    assert DatasetInfo.load(tmp_path / "run").spec.label.class_names == ("run", "walk", "jump")
    done = trainer(*words, "--epochs", "2", "--resume")
    assert done.returncode == 0, done.stderr
    done = trainer("evaluate", "--model", "run", "--tfrecords", "a", "b", "--output", "m.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "m.json").read_text())["tfrecords"] == "a, b"
    done = trainer("--tfrecords", "a", "a")
    assert done.returncode == 2
    assert "different folders" in done.stderr
