"""Forged records: the reader gives what protobuf holds, or refuses the record and says where and why."""

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from tests.hostile import forge
from tests.trainer.conftest import SPECS
from tfrecords_schema import spec as keys
from tfrecords_schema.examples import decode_record, parse_example
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.records import CorruptRecordError, frame_record, read_file
from tfrecords_schema.spec import SpecError
from trainer.data.corrupt import SkippedRecords, located_errors
from trainer.data.read_options import Loading
from trainer.data.reader import read_sequences


def write(folder, info, records):
    """Puts records in place of those of the only shard; returns its path."""
    shard = info.splits["train"].shards[0]
    path = folder / shard.file
    path.write_bytes(b"".join(map(frame_record, records)))
    shard = replace(shard, records=len(records), bytes=path.stat().st_size)
    replace(info, splits={"train": replace(info.splits["train"], shards=(shard,))}).save(folder)
    return path


def read(folder, skipped=None):
    loading = Loading(ignore_errors=skipped or False)
    return list(read_sequences(str(folder), "train", batch_size=1, loading=loading))


def check_element(element, data, spec):
    """Checks the values of an element against those that protobuf finds in the record."""
    example, label = parse_example(data), spec.label
    context, lists = example.context.feature, example.feature_lists.feature_list

    def floats(steps):
        return np.array([step.float_list.value for step in steps], np.float32)

    features, *labels = element if isinstance(element, tuple) else (element,)
    assert features["valid_frames"] == context[keys.VALID_FRAMES].int64_list.value
    assert 1 <= features["valid_frames"] <= spec.num_frames
    for signal in spec.signals:
        held = floats(lists[keys.signal_floats_key(signal.name)].feature)
        np.testing.assert_array_equal(features[signal.name][0], held)
        assert np.isfinite(held).all()
    if not labels:
        return
    truth = labels[0].numpy()[0]
    if label.task == "regression":
        steps = lists[keys.FRAME_LABEL_VALUE].feature
        held = floats(steps if label.per_frame else [context[keys.LABEL_VALUE]])
        np.testing.assert_array_equal(truth.reshape(held.shape), held)
        assert np.isfinite(held).all()
        return
    present = np.flatnonzero(truth) if label.task == "multilabel" else truth.reshape(-1)
    steps = lists[keys.FRAME_LABEL_STRING].feature
    for own in steps if label.per_frame else [context[keys.LABEL_STRING]]:
        names = {label.class_names[i].encode() for i in present}
        assert names == set(own.bytes_list.value) or label.per_frame
    if label.per_frame:
        held = [step.bytes_list.value[0].decode() for step in steps]
        assert [label.class_names[i] for i in present] == held


def is_sound(data, spec, frames):
    """Returns True if a record matches its spec, with finite numbers and some of ``frames``."""
    try:
        record = decode_record(data, spec)
    except SpecError:
        return False
    rows = [record.label_values, *record.frame_label_values, [record.frame_rate]]
    rows += itertools.chain.from_iterable(record.signals.values())
    numbers = itertools.chain.from_iterable(rows)
    return set(record.frames) <= frames and all(map(math.isfinite, numbers))


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", SPECS)
def test_forged_records_are_read_as_protobuf_does_or_skipped(kind, count, tmp_path):
    spec, chance = SPECS[kind], random.Random(kind)
    info = write_fake_dataset(tmp_path, spec, {"train": 3}, shards=1)
    sound = [record.data for record in read_file(tmp_path / info.splits["train"].shards[0].file)]
    frames = {frame for data in sound for frame in decode_record(data, spec).frames}
    path = write(tmp_path, info, [forge(chance.choice(sound), chance) for _ in range(count)])
    skipped = SkippedRecords()
    elements = iter(read(tmp_path, skipped))
    refused = {offset for _, offset in skipped.places}
    for record in read_file(path):
        if record.offset in refused:
            assert not is_sound(record.data, spec, frames)
        else:
            check_element(next(elements), record.data, spec)
    assert next(elements, None) is None
    assert count / 3 < len(refused) < count
    with pytest.raises(CorruptRecordError) as caught, located_errors(str(tmp_path), "train"):
        read(tmp_path)
    # Lists that no feature is made from, such as times, are not always checked.
    assert caught.value.offset <= min(refused)
    (named,) = (r.data for r in read_file(path) if r.offset == caught.value.offset)
    assert caught.value.file == str(path)
    assert not is_sound(named, spec, frames)
    assert len(str(caught.value)) < 2000
