"""Tests that `open_dataset` reads the records of other programs as the trainer's reader does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.data.test_foreign import write_records
from tfrecords_schema import CorruptRecordError, adopt, open_dataset
from tfrecords_schema.fake import fake_image
from tfrecords_schema.spec import ImageSpec
from trainer import read_sequences


def write_examples(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example.SerializeToString())


def signal_example(length, label, valid):
    """A record of JPEG and PNG frames of several sizes, with a signal and labels by frame."""
    example = tf.train.SequenceExample()
    for step in range(length):
        image = ImageSpec(height=8 + step, width=12, format="PNG" if step % 2 else "JPEG")
        for key, kind, values in (
            ("image/encoded", "bytes_list", [fake_image(image, step)]),
            ("image/label/index", "int64_list", [(label + step) % 2]),
            ("SPEED/feature/floats", "float_list", [step, label]),
        ):
            added = example.feature_lists.feature_list[key].feature.add()
            getattr(added, kind).value.extend(values)
    example.context.feature["theirs/score"].float_list.value.append(0.5)
    example.context.feature["theirs/names"].bytes_list.value.extend([b"x", b"y"])
    example.context.feature["image/valid_frames"].int64_list.value.append(valid)
    return example


def compare(folder, split):
    """Compares all sequences of a split with those of the trainer's reader; returns ours."""
    ours = list(open_dataset(folder)[split])
    theirs = list(read_sequences(folder, split, batch_size=1))
    assert len(ours) == len(theirs) > 0
    for own, (features, label) in zip(ours, theirs, strict=True):
        valid = own["valid_frames"]
        assert valid == features["valid_frames"][0]
        np.testing.assert_array_equal(own["frames"][:valid], features["image"][0, :valid])
        for name, values in own["signals"].items():
            np.testing.assert_array_equal(values[:valid], features[name][0, :valid], strict=True)
        np.testing.assert_array_equal(np.asarray(own["label"]), label[0], strict=True)
    return ours


def test_adopted_records_equal_the_trainers(tmp_path):
    write_records(tmp_path)
    adopt(tmp_path, num_frames=6, size=(10, 15)).save(tmp_path)
    ours = compare(tmp_path, "train") + compare(tmp_path, "validation")
    assert {int(one["valid_frames"]) for one in ours} == {5, 6}
    assert len({one["metadata"]["example/id"] for one in ours}) == len(ours)


def test_adopted_signals_labels_by_frame_and_own_keys(tmp_path):
    examples = [signal_example(length, length % 2, length) for length in (3, 4, 6)]
    write_examples(tmp_path / "train.tfrecord", examples)
    adopt(tmp_path, num_frames=4).save(tmp_path)
    ours = compare(tmp_path, "train")
    assert [one["metadata"]["theirs/score"] for one in ours] == [0.5] * 3
    assert ours[0]["metadata"]["theirs/names"] == ["x", "y"]
    assert "clip/label/index" not in ours[0]["metadata"]
    assert ours[0]["frames"].shape[1:] == open_dataset(tmp_path)["train"].info.spec.image.shape


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("SPEED/feature/floats", "SPEED/feature/floats must have 4 steps, got 0"),
        ("image/label/index", "image/label/index must have 4 steps, got 0"),
        ("image/encoded", "expected at least one frame"),
    ],
)
def test_adopted_record_that_lacks_what_others_have_is_named(tmp_path, key, reason):
    path = tmp_path / "train.tfrecord"
    examples = [signal_example(4, 0, 4), signal_example(4, 1, 4)]
    write_examples(path, examples)
    info = adopt(tmp_path)
    del examples[1].feature_lists.feature_list[key]
    write_examples(path, examples)
    shard = info.splits["train"].shards[0]
    object.__setattr__(shard, "bytes", path.stat().st_size)
    info.save(tmp_path)
    sequences = open_dataset(tmp_path)["train"]
    assert sequences[0]["label"].shape == (4,)
    with pytest.raises(CorruptRecordError, match=reason):
        sequences[1]
