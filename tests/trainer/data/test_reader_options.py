"""Tests of balancing, caching, hosts, resuming, mixing, memory and skipping corrupt records."""

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.conftest import NO_JPEG, SPECS, fit_run, history, make_spec
from tests.trainer.data.test_reader import order
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import ShardInfo, SplitInfo
from tfrecords_schema.machine import usable_cpus
from tfrecords_schema.records import CorruptRecordError, frame_record, read_file
from trainer.config.clips import Augmentation, Clips
from trainer.config.dataset import DatasetError
from trainer.config.run_folder import RunFolder
from trainer.config.training import ModelConfig, ReadingConfig, TrainingConfig
from trainer.data.batches import share
from trainer.data.buffers import parallel_batches, reading_bytes
from trainer.data.cached_frames import cached_bytes, cached_frames
from trainer.data.corrupt import SkippedRecords, read_sound_records
from trainer.data.read_options import Loading, Outputs, Shuffle
from trainer.data.reader import read_sequences
from trainer.data.shuffling import SHUFFLE_BYTES, balanced_size, plan_shuffle, subsample_classes
from trainer.training import feeds


class TestBalance:
    @settings(max_examples=15)  # each builds a graph
    @given(
        st.lists(st.integers(0, 20), min_size=2, max_size=5).filter(sum),
        st.one_of(st.none(), st.integers(0, 2**40)),
        st.randoms(use_true_random=False),
    )
    def test_subsample_classes_gives_equal_numbers(self, counts, seed, random):
        labels = [label for label, count in enumerate(counts) for _ in range(count)]
        random.shuffle(labels)
        records = list(enumerate(labels))
        dataset = tf.data.Dataset.from_tensor_slices(np.array(records, np.int64))
        balanced = subsample_classes(dataset, lambda record: record[1], counts, seed)
        drawn = [tuple(record) for record in balanced.as_numpy_iterator()]
        size = balanced_size(counts)
        by_class = Counter(label for _, label in drawn)
        present = [label for label, count in enumerate(counts) if count]
        assert dict(by_class) == {label: size for label in present if size}
        for record, times in Counter(drawn).items():
            fair = size / counts[record[1]]
            assert int(fair) <= times <= int(fair) + 1

    def test_balance_classes_repeats_rare_classes(self, tmp_path):
        spec = SPECS["classification"]
        # Classes go round: 10 of class 0, 2 of class 1, none of class 2.
        records = [fake_record(spec, 3 * i) for i in range(10)]
        records += [fake_record(spec, 3 * i + 1) for i in range(2)]
        write_fake_dataset(tmp_path, spec, {"train": 12}, records={"train": records}, shards=3)
        read = {"batch_size": 4, "seed": 1}
        balanced = Shuffle(balance_classes=True)
        dataset = read_sequences(tmp_path, "train", shuffle=balanced, **read)
        assert int(dataset.cardinality()) == 3
        labels = np.concatenate([labels for _, labels in dataset])
        assert np.bincount(labels).tolist() == [6, 6]
        endless = replace(balanced, first_epoch=0)
        epochs = read_sequences(tmp_path, "train", shuffle=endless, **read).take(6)
        labels = np.concatenate([labels for _, labels in epochs])
        assert np.bincount(labels).tolist() == [12, 12]

    @pytest.mark.parametrize("name", ["regression", "multilabel", "classification by frame"])
    def test_balance_classes_refuses_other_tasks(self, name, tmp_path):
        write_fake_dataset(tmp_path, SPECS[name], {"train": 3})
        balanced = Shuffle(balance_classes=True)
        with pytest.raises(ValueError, match="balance_classes needs one class per sequence"):
            read_sequences(tmp_path, "train", batch_size=1, shuffle=balanced)


def as_numpy(dataset):
    return list(dataset.as_numpy_iterator())


def assert_same(batches, expected):
    for mine, theirs in zip(batches, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, mine, theirs)


class TestCache:
    @pytest.mark.parametrize("name", ["multilabel", "png, gray", "regression by frame"])
    @pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
    def test_cache_gives_the_batches_of_the_records(self, name, on_disk, tmp_path, caplog):
        info = write_fake_dataset(tmp_path / "data", SPECS[name], {"train": 7}, shards=3)
        replace(info, mirrored=()).save(tmp_path / "data")
        folder = tmp_path / "cache" if on_disk else None
        with caplog.at_level(logging.INFO, "trainer"):
            cache = cached_frames(tmp_path / "data", "train", folder=folder)
        assert "decoded frames of train: 0 MiB in" in caplog.text
        for options in (
            {},
            {"shuffle": True, "seed": 3},
            {"shuffle": True, "seed": 3, "clips": Clips(num_frames=2)},
            {"seed": 3, "augment": Augmentation(flip=0.5, brightness=0.2)},
        ):
            read = {"batch_size": 3, **options}
            mine = read_sequences(tmp_path / "data", "train", loading=Loading(cache=cache), **read)
            assert_same(
                as_numpy(mine), as_numpy(read_sequences(tmp_path / "data", "train", **read))
            )

    def test_cached_frames_reuses_the_file_for_the_same_records_only(self, tmp_path, caplog):
        spec = SPECS["classification"]
        info = write_fake_dataset(tmp_path / "data", spec, {"train": 3})
        folder = tmp_path / "cache"
        first = cached_frames(tmp_path / "data", "train", folder=folder)
        (file,) = folder.iterdir()
        assert file.stat().st_size >= cached_bytes(info, "train") == 3 * 4 * 12 * 16 * 3
        with caplog.at_level(logging.INFO, "trainer"):
            second = cached_frames(tmp_path / "data", "train", folder=folder)
        assert f"found in {file}" in caplog.text
        np.testing.assert_array_equal(first.frames, second.frames)
        records = {"train": [fake_record(spec, 9)] * 3}
        write_fake_dataset(tmp_path / "data", spec, {"train": 3}, records=records)
        cached_frames(tmp_path / "data", "train", folder=folder)
        assert len(list(folder.iterdir())) == 2

    def test_cached_frames_does_not_reuse_the_file_for_another_spec(self, tmp_path):
        spec = SPECS["classification"]
        info = write_fake_dataset(tmp_path / "data", spec, {"train": 3})
        folder = tmp_path / "cache"
        for size in ((12, 16), (6, 8)):
            image = replace(spec.image, height=size[0], width=size[1])
            described = replace(info, adopted=True, spec=replace(spec, image=image))
            described.save(tmp_path / "data")
            cache = cached_frames(tmp_path / "data", "train", folder=folder)
            assert cache.frames.shape == (3, 4, *size, 3)
        assert len(list(folder.iterdir())) == 2

    @pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda _: b"", lambda _: b"frames"])
    def test_cached_frames_refuses_corrupt_file(self, damage, tmp_path):
        write_fake_dataset(tmp_path / "data", SPECS["classification"], {"train": 3})
        cached_frames(tmp_path / "data", "train", folder=tmp_path / "cache")
        (file,) = (tmp_path / "cache").iterdir()
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(DatasetError, match=r"must hold uint8 of \(3, 4, 12, 16, 3\), found .*"):
            cached_frames(tmp_path / "data", "train", folder=tmp_path / "cache")

    def test_cached_frames_refuses_frames_that_do_not_fit(self, tmp_path, monkeypatch):
        write_fake_dataset(tmp_path, SPECS["classification"], {"train": 3})
        monkeypatch.setattr("trainer.data.cached_frames.cached_bytes", lambda *_: 2**62)
        for folder in (None, tmp_path / "cache"):
            with pytest.raises(DatasetError, match=r"take 4398046511104 MiB, and .* MiB are free"):
                cached_frames(tmp_path, "train", folder=folder)

    def test_cached_frames_respects_control_groups(self, tmp_path, monkeypatch):
        write_fake_dataset(tmp_path, SPECS["classification"], {"train": 3})
        monkeypatch.setattr("trainer.data.cached_frames.usable_memory", lambda: 0)
        with pytest.raises(DatasetError, match="and 0 MiB are free in memory"):
            cached_frames(tmp_path, "train")

    def test_cached_frames_locates_corrupt_frame(self, tmp_path):
        spec = SPECS["classification"]
        damaged = replace(fake_record(spec, 0), frames=[NO_JPEG] * spec.num_frames)
        records = {"train": [damaged]}
        write_fake_dataset(tmp_path, spec, {"train": 1}, records=records, shards=1)
        with pytest.raises(CorruptRecordError, match="corrupt record at byte 0: a frame is no JP"):
            cached_frames(tmp_path, "train")

    def test_cached_frames_refuses_dataset_without_images(self, tmp_path):
        write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 1})
        with pytest.raises(DatasetError, match="no images: there is nothing to cache"):
            cached_frames(tmp_path, "train")


class TestSeveralHosts:
    @given(st.integers(0, 40), st.integers(1, 7))
    def test_share_is_fair_and_monotonic(self, count, parts):
        bounds = [tuple(map(int, share(count, parts, part))) for part in range(parts)]
        assert [first for first, _ in bounds] == [0, *(end for _, end in bounds[:-1])]
        sizes = [end - first for first, end in bounds]
        assert sum(sizes) == count
        assert max(sizes) - min(sizes) <= 1
        more = [share(count + 1, parts, part) for part in range(parts)]
        assert all(int(end - first) >= size for (first, end), size in zip(more, sizes, strict=True))

    @pytest.mark.parametrize("drop", [False, True], ids=["", "full batches only"])
    @pytest.mark.parametrize(("hosts", "replicas"), [(1, 2), (2, 2), (2, 4), (3, 3), (5, 5)])
    def test_input_context_divides_each_batch_among_hosts(self, hosts, replicas, drop, tmp_path):
        write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 31}, shards=3)
        read = {"batch_size": 12, "shuffle": True, "seed": 1}
        loading = Loading(drop_remainder=drop)
        whole = order(read_sequences(tmp_path, "train", loading=loading, **read))
        parts = []
        for host in range(hosts):
            context = tf.distribute.InputContext(hosts, host, replicas)
            part = replace(loading, input_context=context)
            dataset = read_sequences(tmp_path, "train", loading=part, **read)
            parts.append(order(dataset))
        assert len(whole) == 2 + (not drop)  # the last of 7
        each = replicas // hosts
        for step, batch in enumerate(whole):
            shared = [v for part in parts for b in part[step * each : (step + 1) * each] for v in b]
            assert shared == batch
            if len(batch) >= replicas:
                assert all(b for part in parts for b in part[step * each : (step + 1) * each])
        assert all(len(part) == each * len(whole) for part in parts)

    def test_input_context_refuses_small_batches_and_several_clips(self, tmp_path):
        write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 4})
        loading = Loading(input_context=tf.distribute.InputContext(1, 0, 3))
        with pytest.raises(ValueError, match="must be at least the 3 replicas, got 2"):
            read_sequences(tmp_path, "train", batch_size=2, loading=loading)
        clips = Clips(num_frames=2, at=2)
        with pytest.raises(ValueError, match="several clips per sequence cannot be combined"):
            read_sequences(tmp_path, "train", batch_size=4, loading=loading, clips=clips)


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": Shuffle(buffer=5, first_epoch=2)},
        {"clips": Clips(num_frames=2), "augment": Augmentation(crop=0.5, brightness=0.1)},
        {"shuffle": Shuffle(buffer=5, balance_classes=True, first_epoch=0)},
    ],
    ids=["endless", "augmented", "balanced"],
)
def test_iterator_checkpoint_resumes_within_an_epoch(options, tmp_path):
    write_fake_dataset(tmp_path / "data", SPECS["classification"], {"train": 23}, shards=4)
    read = {"batch_size": 2, "shuffle": Shuffle(buffer=5), "seed": 1, **options}

    def begin():
        return iter(read_sequences(tmp_path / "data", "train", **read))

    iterator = begin()
    for _ in range(4):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).write(str(tmp_path / "checkpoint"))
    expected = [next(iterator) for _ in range(5)]
    resumed = begin()
    tf.train.Checkpoint(iterator=resumed).read(path).assert_consumed()
    assert_same([next(resumed) for _ in range(5)], expected)


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": True}, {"shuffle": Shuffle(first_epoch=0), "seed": 1}]
)
def test_read_sequences_disables_autotune(options, tmp_path):
    """TensorFlow's tuner is a thread that an iterator joins when it ends, and that may sleep for a minute."""
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 8})
    dataset = read_sequences(tmp_path, "train", batch_size=2, **options)
    assert dataset.options().autotune.enabled is False
    # Nor where users go on with it.
    assert dataset.map(lambda *batch: batch).options().autotune.enabled is False


class TestMixing:
    """A few shards that each hold one long drive, of one class: the hardest to mix."""

    @pytest.fixture
    def read(self, tmp_path):
        spec, drives, count = SPECS["signals only"], 6, 240
        # Records are dealt to the shards in turn, and classes go round.
        records = [
            replace(fake_record(spec, i), media_id=f"drive{i % drives}") for i in range(count)
        ]
        assert drives % len(spec.label.class_names) == 0
        split = {"train": count}
        write_fake_dataset(tmp_path, spec, split, records={"train": records}, shards=drives)

        def read(what, **options):
            batches = read_sequences(
                tmp_path, "train", batch_size=12, outputs=Outputs(metadata=True), **options
            )
            labelled = ({**features, "class": labels} for features, labels in batches)
            return np.concatenate([batch[what] for batch in labelled]).astype(str)

        return read

    @pytest.mark.parametrize("what", ["source", "class"])
    def test_shuffle_mixes_nearly_as_a_perfect_shuffle(self, what, read):
        mixed, in_order = read(what, shuffle=Shuffle(buffer=60), seed=0), read(what)
        random = np.random.default_rng(0)
        perfect = [spread(random.permutation(mixed), 12) for _ in range(200)]
        assert spread(mixed, 12) <= np.quantile(perfect, 0.99)
        assert spread(in_order, 12) > 2 * max(perfect)


def spread(names, batch):
    """How far batches are from the mix of all, on average: half the sum of differences of shares."""
    distinct = np.unique(names)
    shares = np.array([[np.mean(part == d) for d in distinct] for part in names.reshape(-1, batch)])
    return np.abs(shares - shares.mean(axis=0)).sum(axis=1).mean() / 2


def split_of(records, record_bytes, shards=100):
    each = records // shards
    return SplitInfo(
        shards=tuple(
            ShardInfo(file=f"{i}", records=each, bytes=each * record_bytes, sha256="")
            for i in range(shards)
        )
    )


class TestMemory:
    @pytest.mark.parametrize("record_bytes", [10_000, 400_000, 50_000_000])
    def test_reading_bytes_does_not_depend_on_the_number_of_records(self, record_bytes):
        spec, gib = SPECS["classification"], 2**30
        held = {
            records: reading_bytes(spec, contents, plan_shuffle(contents), batch_size=8)
            for records in (100_000, 1_000_000)
            for contents in [split_of(records, record_bytes)]
        }
        # Beside the buffers, what cannot be less: the batches that are made.
        made = (8 * (parallel_batches(8) + 1) + usable_cpus()) * record_bytes
        assert held[100_000] == held[1_000_000] < gib + made
        plan = plan_shuffle(split_of(100_000, record_bytes))
        assert plan.buffer == max(1, SHUFFLE_BYTES // record_bytes)

    def test_reading_bytes_bounds_prefetched_batches(self):
        large = replace(
            make_spec(num_frames=64),
            image=replace(SPECS["classification"].image, height=1080, width=1920),
        )
        contents = split_of(100_000, 10_000)
        held = reading_bytes(large, contents, plan_shuffle(contents), batch_size=4)
        sequence = 64 * 1080 * 1920 * 3
        assert held < SHUFFLE_BYTES * 2 + sequence * 4 * 8 + sequence * 64


class TestTraining:
    """What the flags change in a training, and that a training without them is as it was."""

    def fit(self, data, folder, **options):
        config = TrainingConfig(
            epochs=2,
            batch_size=8,
            reading=ReadingConfig(**options),
            model=ModelConfig(filters=(4,)),
        )
        fit_run(data, RunFolder(folder), config)
        return history(folder)

    def test_fit_with_cached_frames_has_equal_losses(self, bright_dataset, tmp_path):
        plain = self.fit(bright_dataset, tmp_path / "plain")
        cache = str(tmp_path / "cache")
        assert self.fit(bright_dataset, tmp_path / "cached", cache_frames=cache) == plain
        assert len(list((tmp_path / "cache").iterdir())) == 2  # of train and validation
        assert self.fit(bright_dataset, tmp_path / "memory", cache_frames="memory") == plain

    def test_fit_augments_training_but_not_validation(self, bright_dataset, tmp_path, monkeypatch):
        reads = []

        def note(directory, split, **options):
            balances = options.get("shuffle", Shuffle()).balance_classes
            reads.append((split, options.get("augment"), balances))
            return read_sequences(directory, split, **options)

        monkeypatch.setattr(feeds, "read_sequences", note)
        augment = "crop=0.5,brightness=0.3"
        augmented = self.fit(
            bright_dataset, tmp_path / "augmented", augment=augment, balance_classes=True
        )
        expected = Augmentation(crop=0.5, brightness=0.3)
        assert set(reads) == {("train", expected, True), ("validation", None, False)}
        assert augmented != self.fit(bright_dataset, tmp_path / "plain")


class TestDamage:
    def write(self, folder, spec, count=8):
        info = write_fake_dataset(folder, spec, {"train": count}, shards=2)
        return [folder / shard.file for shard in info.splits["train"].shards]

    @given(
        st.lists(st.binary(max_size=60), max_size=6),
        st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 7)), max_size=3),
    )
    def test_read_sound_records_skips_records_with_flipped_bits(
        self, tmp_path_factory, contents, flips
    ):
        records = [frame_record(data) for data in contents]
        starts = np.cumsum([0, *map(len, records)])
        data = bytearray(b"".join(records))
        for place, bit in flips if data else ():
            data[place % len(data)] ^= 1 << bit
        sound = [
            (start, content)
            for start, record, content in zip(starts, records, contents, strict=False)
            if data[start : start + len(record)] == record
        ]
        touched = len(records) - len(sound)
        path = tmp_path_factory.mktemp("damage") / "a.tfrecord"
        path.write_bytes(data)
        skipped = SkippedRecords()
        assert list(read_sound_records(str(path), skipped)) == sound
        assert (touched > 0) == (skipped.count > 0)
        assert skipped.count <= touched

    def test_ignore_errors_skips_counts_and_logs_corrupt_records(self, tmp_path, caplog):
        spec = SPECS["classification"]
        first, second = self.write(tmp_path, spec)
        offsets = [record.offset for record in read_file(first)]
        data = bytearray(first.read_bytes())
        data[offsets[1] + 100] ^= 1  # of its data
        data[offsets[2] + 1] ^= 1  # of its length
        first.write_bytes(data)
        records = list(read_file(second))
        broken = records[3].data.replace(b"\xff\xd8\xff", b"\x00\x00\x00")
        second.write_bytes(
            b"".join(frame_record(record.data) for record in records[:3]) + frame_record(broken)
        )
        skipped = SkippedRecords()
        for options in ({}, {"shuffle": True, "seed": 0, "augment": Augmentation(flip=0.5)}):
            with caplog.at_level(logging.WARNING, "trainer"):
                loading = Loading(ignore_errors=skipped)
                dataset = read_sequences(
                    tmp_path, "train", batch_size=2, loading=loading, **options
                )
                assert sum(len(labels) for _, labels in dataset) == 5
        assert skipped.count == 6
        expected = {
            (str(first), offsets[1]),
            (str(first), offsets[2]),
            (str(second), records[3].offset),
        }
        assert set(skipped.places) == expected
        assert len(caplog.messages) == 3
        assert any(
            line.startswith(f"skipped: {second}: corrupt record at byte {records[3].offset}: ")
            for line in caplog.messages
        )

    def test_ignore_errors_changes_nothing_without_corruption(self, tmp_path):
        self.write(tmp_path, SPECS["regression by frame"])
        read = {"batch_size": 3, "shuffle": True, "seed": 1}
        skipped = SkippedRecords()
        loading = Loading(ignore_errors=skipped)
        mine = read_sequences(tmp_path, "train", loading=loading, **read)
        assert_same(as_numpy(mine), as_numpy(read_sequences(tmp_path, "train", **read)))
        assert skipped.count == 0

    def test_crop_refuses_frame_of_another_size(self, tmp_path):
        spec = SPECS["classification"]
        larger = fake_record(replace(spec, image=replace(spec.image, height=24)), 0)
        odd = replace(fake_record(spec, 0), frames=larger.frames)
        write_fake_dataset(tmp_path, spec, {"train": 1}, records={"train": [odd]}, shards=1)
        dataset = read_sequences(tmp_path, "train", batch_size=1, augment=Augmentation(crop=0.5))
        with pytest.raises(tf.errors.InvalidArgumentError, match="a frame is not 12x16"):
            next(iter(dataset))
