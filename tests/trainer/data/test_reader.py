import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import SPECS, make_spec
from tfrecords_schema.examples import decode_record, parse_example
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import CorruptRecordError, frame_record, masked_crc32c, read_file
from tfrecords_schema.spec import LABEL_INDEX, LabelSpec
from trainer.config.dataset import DatasetError
from trainer.data.corrupt import SkippedRecords, located_errors
from trainer.data.labels import read_labels
from trainer.data.parsed_records import labels_of
from trainer.data.read_options import Loading, Outputs, Shuffle
from trainer.data.reader import read_sequences
from trainer.errors import ConfigError

RECORDS = 7


@pytest.fixture(params=SPECS.values(), ids=SPECS)
def spec(request):
    return request.param


def stored(directory, split="train"):
    """The records of a split in stored order, read without TensorFlow."""
    info = DatasetInfo.load(directory)
    return [
        decode_record(record.data, info.spec)
        for shard in info.splits[split].shards
        for record in read_file(Path(directory) / shard.file)
    ]


def decoded(record, image):
    flag = cv2.IMREAD_GRAYSCALE if image.channels == 1 else cv2.IMREAD_COLOR_RGB
    frames = [cv2.imdecode(np.frombuffer(f, np.uint8), flag) for f in record.frames]
    return np.stack(frames).reshape(len(frames), *image.shape)


def expected_label(record, label):
    if label.task == "regression":
        return np.float32(record.frame_label_values if label.per_frame else record.label_values)
    if label.task == "multilabel":
        return np.isin(np.arange(label.num_classes), record.label_indices).astype(np.float32)
    if label.per_frame:
        return np.int64(record.frame_label_indices)
    return np.int64(record.label_indices[0])


def elements(dataset, spec):
    return [e if spec.label.task != "none" else (e, None) for e in dataset.as_numpy_iterator()]


def test_read_sequences_matches_opencv_and_protobuf_in_stored_order(spec, tmp_path):
    write_fake_dataset(tmp_path, spec, {"train": RECORDS})
    batches = elements(read_sequences(tmp_path, "train", batch_size=3), spec)
    records = stored(tmp_path)
    assert [len(features["valid_frames"]) for features, _ in batches] == [3, 3, 1]
    for i, record in enumerate(records):
        features, labels = batches[i // 3]
        assert features["valid_frames"][i % 3] == record.valid_frames
        assert ("image" in features) == (spec.image is not None)
        if spec.image is not None:
            # Two JPEG decoders may differ in how they round colours, by a few levels.
            difference = features["image"][i % 3].astype(int) - decoded(record, spec.image)
            assert np.abs(difference).max() <= (3 if spec.image.format == "JPEG" else 0)
        for signal in spec.signals:
            np.testing.assert_array_equal(features[signal.name][i % 3], record.signals[signal.name])
        if labels is not None:
            expected = expected_label(record, spec.label)
            np.testing.assert_array_equal(labels[i % 3], expected)
            assert labels.dtype == expected.dtype


def test_read_sequences_has_static_shapes_and_cardinality(spec, tmp_path):
    write_fake_dataset(tmp_path, spec, {"train": RECORDS})
    dataset = read_sequences(
        tmp_path, "train", batch_size=3, shuffle=True, loading=Loading(drop_remainder=True)
    )
    assert int(dataset.cardinality()) == 2
    assert int(read_sequences(tmp_path, "train", batch_size=3).cardinality()) == 3
    element = dataset.element_spec
    features, labels = (element, None) if spec.label.task == "none" else element
    shapes = {name: tuple(feature.shape) for name, feature in features.items()}
    frames = spec.num_frames
    expected = {"valid_frames": (3,), **{s.name: (3, frames, s.size) for s in spec.signals}}
    if spec.image is not None:
        expected["image"] = (3, *spec.image_shape)
        assert features["image"].dtype == tf.uint8
    assert shapes == expected
    if labels is not None:
        tail = {
            "classification": (),
            "multilabel": (spec.label.num_classes,),
            "regression": (len(spec.label.target_names),),
        }[spec.label.task]
        time = (frames,) if spec.label.per_frame else ()
        assert tuple(labels.shape) == (3, *time, *tail)


def test_multilabel_record_without_classes_is_all_zeros(tmp_path):
    spec = make_spec("multilabel")
    record = replace(fake_record(spec, 0), label_indices=(), label_strings=())
    write_fake_dataset(tmp_path, spec, {"train": 1}, records={"train": [record]}, shards=1)
    _, labels = next(iter(read_sequences(tmp_path, "train", batch_size=1)))
    assert labels.numpy().tolist() == [[0.0, 0.0, 0.0]]


def order(dataset):
    return [features["SPEED"][:, 0, 0].tolist() for features, _ in dataset.as_numpy_iterator()]


def test_shuffle_depends_on_seed_and_epoch(tmp_path):
    write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 24}, shards=3)
    read = {"batch_size": 4, "shuffle": True}
    dataset = read_sequences(tmp_path, "train", seed=1, **read)
    first, second = order(dataset), order(dataset)
    assert first != second
    again = read_sequences(tmp_path, "train", seed=1, **read)
    assert [order(again), order(again)] == [first, second]
    other = order(read_sequences(tmp_path, "train", seed=2, **read))
    assert other != first
    plain = order(read_sequences(tmp_path, "train", batch_size=4))
    assert plain == order(read_sequences(tmp_path, "train", batch_size=4))
    flat = itertools.chain.from_iterable
    assert sorted(flat(first)) == sorted(flat(other)) == sorted(flat(plain))


def test_first_epoch_starts_at_any_epoch(tmp_path):
    write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 22}, shards=3)

    def epochs(first, count, seed=1):
        dataset = read_sequences(
            tmp_path, "train", batch_size=4, shuffle=Shuffle(first_epoch=first), seed=seed
        )
        batches = order(dataset.take(6 * count))
        return [batches[6 * i : 6 * i + 6] for i in range(count)]

    keras.utils.set_random_seed(0)  # as training does: the orders do not depend on it
    three = epochs(0, 3)
    keras.utils.set_random_seed(3)
    assert [sum(map(len, epoch)) for epoch in three] == [22] * 3  # batches end with their epoch
    values = [sorted(itertools.chain.from_iterable(epoch)) for epoch in three]
    assert values[0] == values[1] == values[2]
    assert three[0] != three[1] != three[2]
    assert epochs(1, 2) == three[1:]
    assert epochs(0, 1, seed=2) != three[:1]
    with pytest.raises(ValueError, match="first_epoch needs a seed"):
        read_sequences(tmp_path, "train", batch_size=4, shuffle=Shuffle(first_epoch=1))


def test_shuffle_with_buffer_of_one_mixes_shards(tmp_path):
    write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 12}, shards=3)
    shard_of = {r.signals["SPEED"][0][0]: i // 4 for i, r in enumerate(stored(tmp_path))}
    mixed = order(
        read_sequences(tmp_path, "train", batch_size=3, shuffle=Shuffle(buffer=1), seed=0)
    )
    assert {shard_of[value] for value in mixed[0]} == {0, 1, 2}


def test_weights_by_frame_exclude_padding(tmp_path):
    spec = SPECS["classification by frame"]
    records = [replace(fake_record(spec, i), valid_frames=i + 1) for i in range(3)]
    write_fake_dataset(tmp_path, spec, {"train": 3}, records={"train": records}, shards=1)
    weighted = read_sequences(tmp_path, "train", batch_size=3, outputs=Outputs(sample_weights=True))
    *_, weights = next(iter(weighted))
    assert weights.numpy().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    balanced = read_sequences(
        tmp_path, "train", batch_size=3, outputs=Outputs(class_weights=[2.0, 3.0, 4.0])
    )
    *_, weights = next(iter(balanced))
    assert weights.numpy().tolist() == [[2, 0, 0, 0], [3, 3, 0, 0], [4, 4, 4, 0]]
    labels = read_labels(tmp_path, "train")
    assert labels.valid.sum(axis=1).tolist() == [1, 2, 3]
    assert labels.values.tolist() == [[i] * 4 for i in range(3)]


def test_class_weights_by_sequence(tmp_path):
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 3}, shards=1)
    *_, weights = next(
        iter(
            read_sequences(
                tmp_path, "train", batch_size=3, outputs=Outputs(class_weights=[0.5, 1.0, 2.0])
            )
        )
    )
    assert weights.numpy().tolist() == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (
            {"outputs": Outputs(class_weights=[1.0])},
            "class_weights must hold one weight .* got 1 for task 'classification' with 3",
        ),
    ],
)
def test_read_sequences_refuses_options_that_contradict_the_dataset(options, message, tmp_path):
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 3})
    with pytest.raises(ValueError, match=message):
        read_sequences(tmp_path, "train", **{"batch_size": 1, **options})


@pytest.mark.parametrize(
    ("group", "options", "message"),
    [
        (Shuffle, {"buffer": 0}, "buffer must be at least 1, got 0"),
        (Shuffle, {"first_step": 2}, "first_step needs first_epoch"),
        (Outputs, {"image_dtype": "int32"}, "image_dtype must be uint8 or float32, got 'int32'"),
        (
            Loading,
            {"ignore_errors": True, "input_context": tf.distribute.InputContext()},
            "ignore_errors cannot be combined with cache or input_context",
        ),
    ],
)
def test_option_groups_refuse_invalid_values(group, options, message):
    with pytest.raises(ConfigError, match=message):
        group(**options)


def test_read_sequences_refuses_to_balance_without_every_record(tmp_path):
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 3})
    with pytest.raises(ValueError, match="ignore_errors cannot be combined with balance_classes"):
        read_sequences(
            tmp_path,
            "train",
            batch_size=1,
            shuffle=Shuffle(balance_classes=True),
            loading=Loading(ignore_errors=True),
        )


def test_read_sequences_refuses_absent_or_empty_split(tmp_path):
    write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 3, "test": 0})
    for split in ("validation", "test"):
        message = rf"no records in a split '{split}', but in train \(3 records\)"
        with pytest.raises(DatasetError, match=message):
            read_sequences(tmp_path, split, batch_size=1)


def test_read_sequences_refuses_missing_shard(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 3})
    missing = tmp_path / info.splits["train"].shards[1].file
    missing.unlink()
    with pytest.raises(DatasetError, match=f"{missing} is missing.*lists it with 1 records"):
        read_sequences(tmp_path, "train", batch_size=1)


def test_read_sequences_refuses_truncated_shard(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 3})
    path = tmp_path / info.splits["train"].shards[0].file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=f"{path} has .* bytes, and dataset_info.json says"):
        read_sequences(tmp_path, "train", batch_size=1)


def read_all(directory, skipped=None):
    loading = Loading(ignore_errors=skipped or False)
    with located_errors(directory, "train"):
        return list(read_sequences(directory, "train", batch_size=2, loading=loading))


def test_located_errors_names_flipped_bit(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["classification"], {"train": 6})
    path = tmp_path / info.splits["train"].shards[1].file
    offset = list(read_file(path))[1].offset
    data = bytearray(path.read_bytes())
    data[offset + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptRecordError, match="checksum") as caught:
        read_all(tmp_path)
    assert (caught.value.file, caught.value.offset) == (str(path), offset)


def test_located_errors_names_frame_that_does_not_decode(tmp_path):
    # The same bytes in number, so that only decoding can tell; the checksums are right.
    info = write_fake_dataset(tmp_path, SPECS["classification"], {"train": 2}, shards=1)
    path = tmp_path / info.splits["train"].shards[0].file
    records = list(read_file(path))
    broken = records[1].data.replace(b"\xff\xd8\xff", b"\x00\x00\x00")
    path.write_bytes(frame_record(records[0].data) + frame_record(broken))
    with pytest.raises(CorruptRecordError, match="JPEG") as caught:
        read_all(tmp_path)
    assert (caught.value.file, caught.value.offset) == (str(path), records[1].offset)


@pytest.mark.parametrize(
    ("task", "key", "number", "message"),
    [
        ("classification", "clip/label/index", -1, "clip/label/index must be 0 to 2, got -1"),
        (
            "classification",
            "clip/label/index",
            2**63 - 1,
            "clip/label/index must be 0 to 2, got 9",
        ),
        ("multilabel", "clip/label/index", 3, "clip/label/index must be 0 to 2, got 3"),
        (
            "classification by frame",
            "image/label/index",
            3,
            "image/label/index must be 0 to 2, got 3",
        ),
        ("regression", "image/valid_frames", 0, "image/valid_frames must be 1 to 4, got"),
        ("regression", "image/valid_frames", 2**63 - 1, "image/valid_frames must be 1 to 4, got"),
    ],
)
def test_located_errors_names_number_out_of_range(task, key, number, message, tmp_path):
    info = write_fake_dataset(tmp_path, SPECS[task], {"train": 2}, shards=1)
    path = tmp_path / info.splits["train"].shards[0].file
    records = list(read_file(path))
    example = parse_example(records[1].data)
    context, lists = example.context.feature, example.feature_lists.feature_list
    feature = context[key] if key in context else lists[key].feature[0]
    feature.int64_list.value[:] = [number]
    path.write_bytes(frame_record(records[0].data) + frame_record(example.SerializeToString()))
    resized = replace(info.splits["train"].shards[0], bytes=path.stat().st_size)
    replace(info, splits={"train": replace(info.splits["train"], shards=(resized,))}).save(tmp_path)
    with pytest.raises(CorruptRecordError, match=message) as caught:
        read_all(tmp_path)
    assert (caught.value.file, caught.value.offset) == (str(path), records[1].offset)


@pytest.mark.parametrize("task", ["classification", "multilabel", "classification by frame"])
def test_located_errors_names_class_whose_name_is_another(task, tmp_path):
    info = write_fake_dataset(tmp_path, SPECS[task], {"train": 1}, shards=1)
    path = tmp_path / info.splits["train"].shards[0].file
    (record,) = read_file(path)
    example = parse_example(record.data)
    context, lists = example.context.feature, example.feature_lists.feature_list
    if "frame" in task:
        lists["image/label/string"].feature[1].bytes_list.value[:] = [b"b"]
    elif task == "classification":
        context["clip/label/string"].bytes_list.value[:] = [b"b"]
        context["clip/label/text"].bytes_list.value[:] = [b"b"]
    else:
        context.pop("clip/label/index")  # one class, not none
    path.write_bytes(frame_record(example.SerializeToString()))
    resized = replace(info.splits["train"].shards[0], bytes=path.stat().st_size)
    replace(info, splits={"train": replace(info.splits["train"], shards=(resized,))}).save(tmp_path)
    with pytest.raises(CorruptRecordError, match=r"label/(string must be|index)"):
        read_all(tmp_path)


@pytest.mark.parametrize("length", [100 << 20, 2**40])
def test_lengths_of_records_are_checked_before_memory_is_taken(length, tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["classification"], {"train": 2}, shards=1)
    path = tmp_path / info.splits["train"].shards[0].file
    data = bytearray(path.read_bytes())
    header = length.to_bytes(8, "little")
    data[:12] = header + masked_crc32c(header).to_bytes(4, "little")
    path.write_bytes(data)
    reason = rf"the length is {length} bytes, but the maximum is 67\d+"
    with pytest.raises(CorruptRecordError, match=reason):  # TensorFlow's reader crashes
        read_all(tmp_path)
    skipped = SkippedRecords()
    assert len(read_all(tmp_path, skipped)) == 1
    assert skipped.places == [(str(path), 0)]


def test_labels_of_takes_memory_for_classes_and_labels_not_for_their_product():
    names = tuple(map(str, range(100_000)))
    spec = replace(SPECS["multilabel"], label=LabelSpec(task="multilabel", class_names=names))
    marks = labels_of({LABEL_INDEX: tf.constant([7, 99_999, 7] * 100_000, tf.int64)}, spec)
    assert np.flatnonzero(marks).tolist() == [7, 99_999]
    assert marks.numpy()[7] == 1


def test_located_errors_names_missing_records(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 4}, shards=1)
    train = info.splits["train"]
    shard = replace(train.shards[0], records=5)
    replace(info, splits={"train": replace(train, shards=(shard,))}).save(tmp_path)
    with pytest.raises(
        CorruptRecordError, match=r"ends after 4 records, but dataset_info\.json says 5"
    ):
        read_all(tmp_path)


def test_located_errors_passes_other_errors(tmp_path):
    write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 2})
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="the model's"),
        located_errors(tmp_path, "train"),
    ):
        raise tf.errors.InvalidArgumentError(None, None, "the model's")
