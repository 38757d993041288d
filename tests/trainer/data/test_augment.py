"""Tests of clips and augmentation: random draws, and their effect on pixels, labels and signals."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.conftest import IMAGE, SIGNALS, SPECS, make_spec
from tests.trainer.data.test_reader import decoded, stored
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import LabelSpec
from trainer.config.clips import Augmentation, Clips, default_augmentation, parse_augmentation
from trainer.config.dataset import DatasetError
from trainer.data.augment import RandomNumbers, colour_matrix, crop_window
from trainer.data.clips import choose_frames, jitter_frames, reverse_frames
from trainer.data.read_options import Outputs, Shuffle
from trainer.data.reader import read_sequences
from trainer.errors import ConfigError

HALF = {name: tf.constant(0.5) for name in RandomNumbers._fields}


def numbers(**given):
    return RandomNumbers(**{**HALF, **{name: tf.constant(value) for name, value in given.items()}})


class TestClips:
    @given(
        num_frames=st.integers(1, 6),
        step=st.integers(1, 4),
        valid=st.integers(1, 30),
        at=st.sampled_from(["first", "center", "last", "random", 1, 2, 3, 5]),
        data=st.data(),
    )
    def test_choose_frames_is_evenly_spaced_and_avoids_padding(
        self, num_frames, step, valid, at, data
    ):
        clips = Clips(num_frames=num_frames, frame_step=step, at=at)
        clip = data.draw(st.integers(0, clips.count - 1))
        number = data.draw(st.floats(0, 1, exclude_max=True, width=32))
        indices, kept = choose_frames(tf.constant(valid, tf.int64), clips, clip, number)
        indices = indices.numpy().tolist()
        assert indices == [indices[0] + i * step for i in range(num_frames)]
        assert kept.numpy() == sum(i < valid for i in indices) >= 1
        room = max(0, valid - clips.span)
        assert 0 <= indices[0] <= room
        wanted = {"first": 0, "center": room // 2, "last": room, 1: room // 2}.get(at)
        if at in (2, 3, 5):
            wanted = int(clip * room / (at - 1) + 0.5)
        if wanted is not None:
            assert indices[0] == wanted

    def test_choose_frames_places_random_clips_uniformly(self):
        clips = Clips(num_frames=3, frame_step=2)
        grid = np.linspace(0, 1, 600, endpoint=False)
        starts = [
            int(choose_frames(tf.constant(8, tf.int64), clips, 0, c)[0][0])
            for c in grid.astype(np.float32)
        ]
        assert np.bincount(starts).tolist() == [150, 150, 150, 150]

    @given(
        st.integers(1, 12).flatmap(
            lambda n: st.tuples(
                st.integers(1, n),
                st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=n, max_size=n),
            )
        ),
        st.integers(0, 4),
    )
    def test_jitter_frames_keeps_order_and_padding(self, drawn, most):
        valid, numbers = drawn
        before = np.arange(len(numbers))
        after = jitter_frames(
            tf.constant(before), tf.constant(valid, tf.int64), most, tf.constant(numbers)
        ).numpy()
        assert (np.diff(after) >= 0).all()
        assert (np.abs(after - before)[:valid] <= most).all()
        assert (after[:valid] < valid).all()
        assert (after[valid:] == before[valid:]).all()

    def test_reverse_frames_keeps_padding_at_the_end(self):
        backwards = reverse_frames(tf.constant([2, 4, 6, 8], tf.int64), tf.constant(3, tf.int64))
        assert backwards.numpy().tolist() == [6, 4, 2, 8]

    def test_clips_apply_to_every_feature_by_frame(self, tmp_path):
        spec = SPECS["regression by frame"]
        records = [replace(fake_record(spec, i), valid_frames=3 - i) for i in range(2)]
        write_fake_dataset(tmp_path, spec, {"train": 2}, records={"train": records}, shards=1)
        clips = Clips(num_frames=2, frame_step=2, at="first")
        features, labels, weights = next(
            iter(
                read_sequences(
                    tmp_path,
                    "train",
                    batch_size=2,
                    clips=clips,
                    outputs=Outputs(sample_weights=True, metadata=True, padding_mask=True),
                )
            )
        )
        assert features["valid_frames"].numpy().tolist() == [2, 1]
        assert features["padding_mask"].numpy().tolist() == [[True, True], [True, False]]
        assert weights.numpy().tolist() == [[1, 1], [1, 0]]
        for i, record in enumerate(records):
            assert features["timestamps"][i].numpy().tolist() == record.timestamps[::2]
            assert features["id"][i].numpy().decode() == record.id
            assert features["source"][i].numpy().decode() == record.media_id
            np.testing.assert_array_equal(labels[i], np.float32(record.frame_label_values)[::2])
            speed = features["SPEED"][i]
            np.testing.assert_array_equal(speed, np.float32(record.signals["SPEED"])[::2])
            difference = features["image"][i].numpy().astype(int) - decoded(record, spec.image)[::2]
            assert np.abs(difference).max() <= 3

    def test_clips_of_a_sequence_follow_each_other(self, tmp_path):
        write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 5}, shards=2)
        clips = Clips(num_frames=2, at=3)
        dataset = read_sequences(
            tmp_path, "train", batch_size=4, clips=clips, outputs=Outputs(metadata=True)
        )
        times = np.concatenate([features["timestamps"] for features, _ in dataset])
        step = 100_000
        assert times.tolist() == [[s * step, (s + 1) * step] for _ in range(5) for s in (0, 1, 2)]

    def test_clips_refuse_records_that_are_too_short(self, tmp_path):
        write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 1})
        with pytest.raises(ConfigError, match="hold 4 frames, and num_frames 3 with frame_step 2"):
            read_sequences(tmp_path, "train", batch_size=1, clips=Clips(num_frames=3, frame_step=2))


class TestPixels:
    def test_colour_matrix_by_hand(self):
        def change(augment, rgb, **drawn):
            matrix = colour_matrix(augment, numbers(**drawn)).numpy()
            return matrix[:, :3] @ np.float32(rgb) + matrix[:, 3]

        brighter = change(Augmentation(brightness=0.2), [10, 20, 30], brightness=1.0)
        np.testing.assert_allclose(brighter, [61, 71, 81], atol=0.1)
        flatter = change(Augmentation(contrast=1.0), [0, 127.5, 255], contrast=0.0)
        np.testing.assert_allclose(flatter, [63.75, 127.5, 191.25], atol=0.1)
        gray = change(Augmentation(saturation=0.5, hue=0.5), [90, 90, 90], saturation=1.0, hue=1.0)
        np.testing.assert_allclose(gray, [90, 90, 90], atol=0.1)
        turned = change(Augmentation(hue=0.5), [200, 50, 100], hue=1.0)  # half the circle
        luma = np.float32([0.299, 0.587, 0.114]) @ np.float32([200, 50, 100])
        np.testing.assert_allclose(turned, 2 * luma - np.float32([200, 50, 100]), atol=0.5)

    @given(st.floats(0, 1, exclude_max=True, width=32), st.floats(0, 1, exclude_max=True, width=32))
    def test_crop_window_lies_in_frame_and_is_large_enough(self, size, place):
        drawn = numbers(size=size, top=place, left=1 - place if place else 0.0)
        top, left, height, width = crop_window(0.4, IMAGE, drawn).numpy()
        assert 0 <= top <= IMAGE.height - height
        assert 0 <= left <= IMAGE.width - width
        assert 0.4 * IMAGE.height * IMAGE.width - 1e-3 <= height * width

    @pytest.mark.parametrize("name", ["classification", "png, gray"])
    def test_crop_shows_the_same_part_of_all_frames(self, name, tmp_path):
        spec = SPECS[name]
        write_fake_dataset(tmp_path, spec, {"train": 4}, shards=1)
        read = {"batch_size": 4, "seed": 3, "augment": Augmentation(crop=0.3)}
        (features, _), *_ = read_sequences(tmp_path, "train", **read)
        whole = np.stack([decoded(record, spec.image) for record in stored(tmp_path)])
        assert features["image"].shape == whole.shape
        # Some part of each frame fits; all frames of a sequence show the same part.
        for seen, frames in zip(features["image"].numpy(), whole, strict=True):
            found = [
                set(np.flatnonzero(best_parts(frame, image) < 6))
                for frame, image in zip(frames, seen, strict=True)
            ]
            assert set.intersection(*found)

    def test_float32_images_range_from_0_to_1(self, tmp_path):
        write_fake_dataset(tmp_path, SPECS["classification"], {"train": 2}, shards=1)
        (whole, _), *_ = read_sequences(tmp_path, "train", batch_size=2)
        outputs = Outputs(image_dtype="float32")
        (floats, _), *_ = read_sequences(tmp_path, "train", batch_size=2, outputs=outputs)
        assert floats["image"].dtype == tf.float32
        np.testing.assert_allclose(floats["image"] * 255, whole["image"], atol=1e-3)

    def test_image_size_resizes_frames(self, tmp_path):
        write_fake_dataset(tmp_path, SPECS["classification"], {"train": 1}, shards=1)
        outputs = Outputs(image_size=(6, 8))
        (features, _), *_ = read_sequences(tmp_path, "train", batch_size=1, outputs=outputs)
        assert features["image"].shape == (1, 4, 6, 8, 3)
        frame = decoded(stored(tmp_path)[0], IMAGE)[0]
        expected = cv2.resize(frame, (8, 6), interpolation=cv2.INTER_AREA)
        assert np.abs(features["image"][0, 0].numpy().astype(int) - expected).max() <= 3


def best_parts(frame, seen):
    """For each part that a crop may be, how far on average it is from what is seen."""
    height, width = frame.shape[:2]
    distances = []
    for side in range(1, height + 1):
        high, wide = side, -(-side * width // height)
        for top in range(height - high + 1):
            for left in range(width - wide + 1):
                part = frame[top : top + high, left : left + wide]
                resized = cv2.resize(part, (width, height)).reshape(frame.shape)
                distances.append(np.abs(resized.astype(float) - seen).mean())
    return np.array(distances)


MIRRORING = {
    "targets": make_spec("regression", signals=SIGNALS),
    "targets by frame": SPECS["regression by frame"],
}


class TestFlips:
    @pytest.mark.parametrize("spec", MIRRORING.values(), ids=MIRRORING)
    def test_flip_negates_mirrored_values_only(self, spec, tmp_path):
        info = write_fake_dataset(tmp_path, spec, {"train": 3}, shards=1)
        replace(info, mirrored=("turn", "ACCELERATION")).save(tmp_path)
        assert DatasetInfo.load(tmp_path).mirrored == ("turn", "ACCELERATION")
        (plain, labels), *_ = read_sequences(tmp_path, "train", batch_size=3)
        (flipped, negated), *_ = read_sequences(
            tmp_path, "train", batch_size=3, augment=Augmentation(flip=1.0)
        )
        np.testing.assert_array_equal(flipped["image"], plain["image"][:, :, :, ::-1])
        np.testing.assert_array_equal(negated, labels * [1, -1])
        np.testing.assert_array_equal(flipped["SPEED"], plain["SPEED"])
        np.testing.assert_array_equal(flipped["ACCELERATION"], -plain["ACCELERATION"])

    @pytest.mark.parametrize("name", ["classification", "classification by frame", "multilabel"])
    def test_flip_swaps_mirrored_classes(self, name, tmp_path):
        write_fake_dataset(tmp_path, SPECS[name], {"train": 3}, shards=1)
        augment = Augmentation(flip=1.0, mirrored_classes=(("a", "c"),))
        (_, labels), *_ = read_sequences(tmp_path, "train", batch_size=3)
        (_, swapped), *_ = read_sequences(tmp_path, "train", batch_size=3, augment=augment)
        labels = labels.numpy()
        expected = labels[:, ::-1] if name == "multilabel" else 2 - labels
        np.testing.assert_array_equal(swapped, expected)

    @pytest.mark.parametrize("by_frame", [False, True])
    def test_flip_swaps_classes_of_flipped_records_only(self, by_frame, tmp_path):
        label = LabelSpec(
            task="classification", class_names=("left", "right", "stop"), per_frame=by_frame
        )
        spec = replace(SPECS["classification"], label=label)
        write_fake_dataset(tmp_path, spec, {"train": 40}, shards=1)
        read = {"batch_size": 40, "seed": 3}
        (plain, labels), *_ = read_sequences(tmp_path, "train", **read)
        augment = Augmentation(flip=0.5, mirrored_classes=(("left", "right"),))
        (frames, swapped), *_ = read_sequences(tmp_path, "train", augment=augment, **read)
        is_flipped = (frames["image"].numpy() != plain["image"].numpy()).any(axis=(1, 2, 3, 4))
        assert 5 < is_flipped.sum() < 35
        labels = labels.numpy().reshape(40, -1)
        expected = np.where(is_flipped[:, None], np.array([1, 0, 2])[labels], labels)
        np.testing.assert_array_equal(swapped.numpy().reshape(40, -1), expected)

    def test_flip_refuses_classes_with_sides_until_said(self, tmp_path):
        names = ("Turn left", "straight", "turn right", "look_left")
        spec = replace(
            SPECS["classification"], label=LabelSpec(task="classification", class_names=names)
        )
        write_fake_dataset(tmp_path, spec, {"train": 1})

        def read(pairs, flip=0.5):
            augment = Augmentation(flip=flip, mirrored_classes=pairs)
            read_sequences(tmp_path, "train", batch_size=1, augment=augment)

        said = "--mirrored_classes 'Turn left=turn right,look_left=look_left'"
        with pytest.raises(DatasetError, match=rf"'Turn left' and 'turn right' seem .*{said}"):
            read(None)
        pair = ("Turn left", "turn right")
        with pytest.raises(DatasetError, match=r"'look_left' seems to become .* Name them too"):
            read((pair,))
        read((pair, ("look_left", "look_left")))
        read(())
        read(None, flip=0.0)

    def test_flip_applies_to_half_of_the_sequences(self, tmp_path):
        info = write_fake_dataset(tmp_path, SPECS["regression"], {"train": 200}, shards=1)
        replace(info, mirrored=("speed", "turn")).save(tmp_path)
        read = {"batch_size": 200, "seed": 0}
        (_, labels), *_ = read_sequences(tmp_path, "train", **read)
        (_, half), *_ = read_sequences(tmp_path, "train", augment=Augmentation(flip=0.5), **read)
        flipped = (labels.numpy() != half.numpy()).all(axis=1)
        np.testing.assert_array_equal(half, labels * np.where(flipped, -1, 1)[:, None])
        assert 60 < flipped.sum() < 140

    def test_flip_refuses_dataset_without_mirrored_columns(self, tmp_path):
        write_fake_dataset(tmp_path, SPECS["regression"], {"train": 1})
        with pytest.raises(
            DatasetError, match=r"may change the sign of speed, turn.*--mirrored_col"
        ):
            read_sequences(tmp_path, "train", batch_size=1, augment=Augmentation(flip=0.5))

    def test_reverse_refuses_targets_and_signals(self, tmp_path):
        write_fake_dataset(tmp_path, SPECS["regression"], {"train": 1})
        with pytest.raises(
            DatasetError, match="values of speed, turn would be wrong for a reversed sequence"
        ):
            read_sequences(tmp_path, "train", batch_size=1, augment=Augmentation(reverse=0.5))


def test_augmentation_depends_on_seed_and_epoch(tmp_path):
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 12}, shards=3)
    augment = Augmentation(crop=0.5, flip=0.5, hue=0.2, jitter=1, reverse=0.5)
    read = {"batch_size": 4, "augment": augment, "clips": Clips(num_frames=3)}

    def images(seed, first_epoch=None, count=3):
        order = Shuffle(first_epoch=first_epoch)
        dataset = read_sequences(tmp_path, "train", shuffle=order, seed=seed, **read)
        return np.stack([features["image"] for features, _ in dataset.take(count)])

    np.testing.assert_array_equal(images(1), images(1))
    assert (images(1) != images(2)).any()
    endless = images(1, first_epoch=0, count=6)
    np.testing.assert_array_equal(endless[3:], images(1, first_epoch=1))
    assert (endless[:3] != endless[3:]).any()
    dataset = read_sequences(tmp_path, "train", batch_size=12, seed=1, augment=augment)
    first, second = (next(iter(dataset))[0]["image"].numpy() for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop", "augment must be like crop=0.7,flip=0.5, got 'crop'"),
        ("zoom=1", "augment takes crop, flip, .*, got 'zoom'"),
        ("crop=small", "crop must be a number above 0 and at most 1, got 'small'"),
        ("jitter=0.5", "jitter must be a whole number of at least 0, got '0.5'"),
        ("crop=0", "crop must be a number above 0 and at most 1, got 0"),
        ("flip=2", "flip must be a number from 0 to 1, got 2"),
        ("hue=nan", "hue must be a number from 0 to 0.5, got nan"),
        ("flip=0.5,flip=1", "augment must name each once"),
    ],
)
def test_parse_augmentation_refuses_invalid_text(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_augmentation(text)


def test_parse_augmentation():
    assert parse_augmentation("crop=0.7, flip=0.5,jitter=2", "a=b,c=d") == Augmentation(
        crop=0.7, flip=0.5, jitter=2, mirrored_classes=(("a", "b"), ("c", "d"))
    )


@pytest.mark.parametrize(
    ("name", "augment", "message"),
    [
        ("signals only", {"crop": 0.5}, "no images for crop"),
        ("png, gray", {"hue": 0.1}, "gray frames have neither saturation nor hue"),
        (
            "classification",
            {"mirrored_classes": (("a", "z"),)},
            r"must name classes \(a, b, c\), got z",
        ),
    ],
)
def test_augmentation_refuses_dataset_without_its_subject(name, augment, message, tmp_path):
    write_fake_dataset(tmp_path, SPECS[name], {"train": 1})
    with pytest.raises(ConfigError, match=message):
        read_sequences(tmp_path, "train", batch_size=1, augment=Augmentation(**augment))


@pytest.mark.parametrize(
    ("names", "flips"),
    [
        (("run", "walk"), True),
        (("get up", "sit_down", "Clap2"), True),
        (("turn_left", "turn_right"), False),
        (("wave", "LookLeft"), False),
        (("0", "1"), False),
        (("class a", "class b"), False),
        (("East", "north"), False),
    ],
)
def test_default_augmentation_of_classes(names, flips, tmp_path):
    label = LabelSpec(task="classification", class_names=names)
    info = write_fake_dataset(tmp_path, replace(make_spec(), label=label), {"train": 2})
    assert (default_augmentation(info) is not None) == flips


@pytest.mark.parametrize(
    ("targets", "mirrored", "flips"),
    [
        (("speed",), None, True),
        (("speed", "yaw_rate"), None, False),
        (("speed", "yaw_rate"), ("yaw_rate",), True),
        (("steering",), None, False),
        (("height",), (), True),
    ],
)
def test_default_augmentation_of_targets(targets, mirrored, flips, tmp_path):
    units = ("m",) * len(targets)
    label = LabelSpec(task="regression", target_names=targets, target_units=units)
    info = write_fake_dataset(tmp_path, replace(make_spec(), label=label), {"train": 2})
    found = default_augmentation(replace(info, mirrored=mirrored))
    assert (found is not None) == flips
    if found is not None:
        found.check_for(replace(info, mirrored=mirrored))
