"""A dataset spoilt in one way fails the check for it, and no other; a clean one fails none."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.validation.checks.catalogue import ALL_CHECKS
from tfrecords_schema.fake import fake_image, fake_record, write_fake_dataset
from tfrecords_schema.records import frame_record, read_file
from tfrecords_schema.spec import ImageSpec, LabelSpec


def bad(result):
    """Names of the checks with an error or warning, and the worst level of each."""
    return {
        check: "error" if "error" in counts else "warning"
        for check, counts in result.counts.items()
        if set(counts) - {"note"}
    }


def flip(dataset, place, split="train"):
    path = dataset.shard(split)
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
    return path


def context(example, key):
    return example.context.feature[key]


def steps(example, key):
    return example.feature_lists.feature_list[key].feature


def set_image(image):
    def change(example):
        steps(example, "image/encoded")[2].bytes_list.value[0] = image

    return change


def set_times(times, *, rate=None):
    def change(example):
        for step, time in zip(steps(example, "image/timestamp"), times, strict=True):
            step.int64_list.value[0] = time
        context(example, "clip/start/timestamp").int64_list.value[0] = times[0]
        valid = context(example, "image/valid_frames").int64_list.value[0]
        context(example, "clip/end/timestamp").int64_list.value[0] = times[valid - 1]
        if rate is not None:
            context(example, "image/frame_rate").float_list.value[0] = rate

    return change


def set_valid(count):
    def change(example):
        context(example, "image/valid_frames").int64_list.value[0] = count
        end = steps(example, "image/timestamp")[count - 1].int64_list.value[0]
        context(example, "clip/end/timestamp").int64_list.value[0] = end

    return change


def set_bytes(key, value):
    def change(example):
        context(example, key).bytes_list.value[:] = [value]

    return change


def set_float(key, value):
    def change(example):
        context(example, key).float_list.value[0] = value

    return change


def set_int(key, value):
    def change(example):
        context(example, key).int64_list.value[0] = value

    return change


def drop_key(key):
    def change(example):
        del example.context.feature[key]

    return change


def drop_step(example):
    del steps(example, "image/timestamp")[-1]


IMAGE = ImageSpec(height=24, width=32)
PNG = ImageSpec(height=24, width=32, format="PNG")
GRAY = ImageSpec(height=24, width=32, channels=1)


def flat_image(level, width=32):
    pixels = np.full((24, width, 3), level, np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def set_signal(value):
    def change(example):
        steps(example, "IMU/feature/floats")[3].float_list.value[1] = value

    return change


def double_class(example):
    for key in ("clip/label/string", "clip/label/text"):
        values = context(example, key).bytes_list.value
        values[:] = [values[0]] * 2
    indices = context(example, "clip/label/index").int64_list.value
    indices[:] = [indices[0]] * 2


def repeat_first_frame(example):
    frames = steps(example, "image/encoded")
    for frame in frames:
        frame.bytes_list.value[0] = frames[0].bytes_list.value[0]


def all_frames(image):
    def change(example):
        for place, frame in enumerate(steps(example, "image/encoded")):
            frame.bytes_list.value[0] = (
                image + b"\0" * place
            )  # zeros behind a JPEG's end are allowed

    return change


@pytest.mark.parametrize(
    "name",
    [
        "classification",
        "regression",
        "multilabel",
        "classes by frame",
        "targets by frame",
        "gray PNG",
        "every frame",
        "signals only",
        "no label",
    ],
)
def test_clean_dataset_has_no_findings(make, name):
    result = make(name).examine()
    assert result.findings == ()
    assert result.records == 21
    assert not result.fails("warning")


# What is done to one record; framing, checksums and counts in dataset_info.json still hold.
RECORD_FAULTS = [
    ("a missing key", drop_key("clip/media_id"), "format.schema"),
    ("a missing step", drop_step, "format.schema"),
    ("a key of another type", set_bytes("image/height", b"24"), "format.schema"),
    ("another height", set_int("image/height", 25), "format.agreement"),
    ("another start", set_int("clip/start/timestamp", 7), "format.agreement"),
    ("no valid frame", set_int("image/valid_frames", 0), "format.agreement"),
    ("an empty id", set_bytes("example/id", b""), "format.agreement"),
    ("an image of another size", set_image(flat_image(9, width=40)), "frames.decode"),
    ("an image cut short", set_image(fake_image(IMAGE, 1)[:-40]), "frames.decode"),
    ("no image at all", set_image(b"hello"), "frames.decode"),
    ("an empty image", set_image(b""), "frames.decode"),
    ("an image of another format", set_image(fake_image(PNG, 1)), "frames.decode"),
    ("a gray image", set_image(fake_image(GRAY, 1)), "frames.decode"),
    ("times out of order", set_times([0, 200_000, 100_000, 300_000]), "frames.order"),
    ("frames too slow", set_times([0, 400_000, 800_000, 1_200_000]), "frames.rate"),
    ("frames too fast", set_times([0, 10_000, 20_000, 30_000]), "frames.rate"),
    ("a rate that is not the spec's", set_float("image/frame_rate", 12.5), "frames.rate"),
    ("footage said to be padding", set_valid(2), "frames.padding"),
    ("another class's string", set_bytes("clip/label/string", b"swim"), "labels.classes"),
    ("another class's text", set_bytes("clip/label/text", b"fall"), "labels.classes"),
    ("a class out of range", set_int("clip/label/index", 3), "labels.classes"),
]
OTHER_RECORD_FAULTS = [
    ("a NaN target", "regression", set_float("clip/label/value", float("nan")), "labels.finite"),
    ("an infinite signal", "regression", set_signal(float("inf")), "labels.finite"),
    ("a doubled class", "multilabel", double_class, "labels.classes"),
    (
        "padding that is not said",
        "every frame",
        set_times([0, 40_000, 40_000, 40_000], rate=75.0),
        "frames.padding",
    ),
    (
        "a rate that its times do not show",
        "every frame",
        set_float("image/frame_rate", 50.0),
        "frames.rate",
    ),
]
ALL_RECORD_FAULTS = [
    *((name, "classification", *fault) for name, *fault in RECORD_FAULTS),
    *OTHER_RECORD_FAULTS,
]


@pytest.mark.parametrize(
    ("spec", "change", "check"),
    [fault[1:] for fault in ALL_RECORD_FAULTS],
    ids=[fault[0] for fault in ALL_RECORD_FAULTS],
)
def test_spoilt_record_is_found_at_its_place(make, spec, change, check):
    dataset = make(spec)
    dataset.edit(change)
    result = dataset.examine()
    found = [f for f in result.findings if f.check == check]
    offsets = [stored.offset for stored in read_file(dataset.shard())]
    assert {f.where.offset for f in found} == {offsets[1]}
    assert {f.where.shard for f in found} == {dataset.shard().name}
    # A wrong class or target is also missing from the statistics, and a size is not the others', which is
    # as true.
    assert set(bad(result)) - {"labels.statistics", "pictures.sizes"} == {check}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (set_bytes("example/dataset_name", b"other"), "format.agreement"),
        (set_bytes("clip/data_path", b"/home/a.mp4"), "format.agreement"),
        (repeat_first_frame, "pictures.repeated"),
        (all_frames(flat_image(0)), "pictures.flat"),
        (all_frames(flat_image(200)), "pictures.flat"),
    ],
    ids=["another dataset's name", "an absolute path", "one frame repeated", "black", "flat"],
)
def test_suspicious_record_is_a_warning(make, change, check):
    dataset = make("classification")
    dataset.edit(change)
    result = dataset.examine()
    assert bad(result) == {check: "warning"}
    assert result.fails("warning")
    assert not result.fails("error")


def test_pictures_flat_notes_single_black_frame(make):
    dataset = make("classification")
    dataset.edit(set_image(flat_image(0)))
    result = dataset.examine()
    assert bad(result) == {}
    assert [(f.check, f.level) for f in result.findings] == [("pictures.flat", "note")]


def test_framing_finds_flipped_bit_and_reading_continues(make):
    dataset = make("classification")
    offsets = [stored.offset for stored in read_file(dataset.shard())]
    dataset.edit(set_bytes("clip/label/string", b"swim"), record=3)
    flip(dataset, offsets[1] + 200)
    result = dataset.examine()
    assert set(bad(result)) == {"format.framing", "format.checksums", "labels.classes"}
    framing = [f for f in result.findings if f.check == "format.framing"]
    assert [f.where.offset for f in framing] == [offsets[1]]
    assert result.records == 20


@pytest.mark.parametrize("place", [0, 5, 9], ids=["length", "length's high bytes", "length's CRC"])
def test_framing_finds_flipped_bit_in_length_and_reading_continues(make, place):
    dataset = make("classification")
    flip(dataset, place)
    result = dataset.examine()
    assert bad(result) == {"format.framing": "error", "format.checksums": "error"}
    assert result.records == 20


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_framing_finds_truncated_shard(make, cut):
    dataset = make("classification")
    path = dataset.shard("test", 1)
    os.truncate(path, path.stat().st_size - cut)
    result = dataset.examine()
    assert bad(result) == {"format.framing": "error", "format.checksums": "error"}


def test_checksums_finds_shard_cut_between_records(make):
    dataset = make("classification")
    path = dataset.shard("test", 1)
    last = list(read_file(path))[-1].offset
    os.truncate(path, last)
    assert bad(dataset.examine()) == {"format.checksums": "error"}


def test_checksums_finds_other_sha256(make):
    dataset = make("classification")

    def change(fields):
        fields["splits"]["train"]["shards"][0]["sha256"] = "0" * 64

    dataset.edit_info(change)
    result = dataset.examine()
    assert bad(result) == {"format.checksums": "error"}
    assert [f.where.shard for f in result.findings] == [dataset.shard().name]


def test_shard_files_finds_missing_shard(make):
    dataset = make("classification")
    dataset.shard("test", 1).unlink()
    result = dataset.examine()
    assert bad(result) == {"format.shards": "error"}
    assert [f.where.shard for f in result.findings] == [dataset.shard("test", 1).name]


def test_shard_files_finds_all_shards_missing(make):
    dataset = make("classification")
    for path in dataset.path.glob("*.tfrecord"):
        path.unlink()
    assert bad(dataset.examine()) == {"format.shards": "error"}


def test_framing_reports_shard_that_is_a_folder(make):
    dataset = make("classification")
    path = dataset.shard()
    path.unlink()
    path.mkdir()
    assert bad(dataset.examine()) == {"format.framing": "error"}


def test_shard_files_finds_extra_shard(make):
    dataset = make("classification")
    shutil.copy(dataset.shard(), dataset.path / "train-00002-of-00003.tfrecord")
    assert bad(dataset.examine()) == {"format.shards": "error"}


def test_shard_files_finds_shard_named_twice(make):
    dataset = make("classification")

    def change(fields):
        shards = fields["splits"]["train"]["shards"]
        shards.append(shards[0])

    dataset.edit_info(change)
    assert bad(dataset.examine()) == {"format.shards": "error"}


@pytest.mark.parametrize("name", ["_build", ".dataset_info.json.123", "train.partial"])
def test_shard_files_warns_of_build_leftovers(make, name):
    dataset = make("classification")
    (dataset.path / name).mkdir()
    assert bad(dataset.examine()) == {"format.shards": "warning"}


def test_shard_files_ignores_other_files(make):
    dataset = make("classification")
    for name in ("README.md", "report.html", "failures.jsonl", "notes"):
        (dataset.path / name).write_text("")
    assert dataset.examine().findings == ()


def test_unique_ids_names_both_places(make):
    dataset = make("classification")
    dataset.edit(set_bytes("example/id", b"fake/12.mp4@0"))
    result = dataset.examine()
    assert bad(result) == {"format.unique_ids": "error", "frames.start": "error"}
    (finding,) = [f for f in result.findings if f.check == "format.unique_ids"]
    assert "'fake/12.mp4@0'" in finding.message
    places = {finding.where.shard, finding.message.rsplit(" of ", 1)[1]}
    assert len(places) == 2


def test_unique_ids_counts_all_and_names_some(make):
    dataset = make("classification")
    path = dataset.shard()
    record = next(iter(read_file(path))).data
    dataset.rewrite(path, [record] * 50)
    result = dataset.examine()
    ids = [f.message for f in result.findings if f.check == "format.unique_ids"]
    assert len(ids) == 21
    assert ids[-1].startswith("29 more")


@pytest.mark.parametrize(
    ("key", "value", "check", "others"),
    [
        ("clip/group_id", b"fake/9.mp4", "leaks.groups", {}),
        (
            "clip/media_id",
            b"fake/16.mp4",
            "leaks.sources",
            {"leaks.spans": "error", "frames.start": "error"},
        ),
    ],
)
def test_leaks_find_group_or_source_in_two_splits(make, key, value, check, others):
    dataset = make("classification")
    dataset.edit(set_bytes(key, value))
    result = dataset.examine()
    assert bad(result) == {check: "error", **others}
    (finding,) = [f for f in result.findings if f.check == check]
    assert value.decode() in finding.message
    assert "train" in finding.message


def test_leaked_groups_allows_many_records_in_one_split(make):
    dataset = make("classification")
    for record in range(4):
        dataset.edit(set_bytes("clip/group_id", b"one"), record=record)
    dataset.edit_info(lambda fields: fields["splits"]["train"].update(groups=6))
    assert dataset.examine().findings == ()


def test_label_statistics_finds_wrong_label_counts(make):
    dataset = make("classification")

    def change(fields):
        fields["splits"]["validation"]["label_counts"] = [3, 2, 1]

    dataset.edit_info(change)
    result = dataset.examine()
    assert bad(result) == {"labels.statistics": "error"}
    assert "[2, 2, 2]" in result.findings[0].message


@pytest.mark.parametrize("field", ["mean", "std", "min", "max"])
def test_label_statistics_finds_wrong_target_statistics(make, field):
    dataset = make("regression")

    def change(fields):
        fields["splits"]["train"]["targets"][0][field] += 0.1

    dataset.edit_info(change)
    assert bad(dataset.examine()) == {"labels.statistics": "error"}


def test_label_statistics_warns_of_labels_that_float32_rounded(make):
    # As of a build that stored clocks: dataset_info.json has statistics of what was measured.
    dataset = make("regression")

    def change(fields):
        target = fields["splits"]["train"]["targets"][0]
        target["mean"] += 3e-4 * target["std"]

    dataset.edit_info(change)
    result = dataset.examine()
    assert bad(result) == {"labels.statistics": "warning"}
    assert "differences are lost. Build again with --target_offset" in result.findings[0].message


def test_label_statistics_finds_missing_statistics(make):
    dataset = make("regression")
    dataset.edit_info(lambda fields: fields["splits"]["train"].update(targets=[]))
    assert bad(dataset.examine()) == {"labels.statistics": "error"}


def test_constant_targets_finds_constant_target(make, specs):
    spec = specs["regression"]
    dataset = make("regression")
    records = [fake_record(spec, seed) for seed in range(8)]
    records = [dataclasses.replace(record, label_values=[2.5]) for record in records]
    write_fake_dataset(dataset.path, spec, {"train": 8}, records={"train": records})
    for path in (*dataset.path.glob("test-*"), *dataset.path.glob("validation-*")):
        path.unlink()
    assert bad(dataset.examine()) == {"labels.constant": "warning"}


def test_label_coverage_finds_class_without_records(make, specs):
    dataset = make("classification")

    def change(fields):
        fields["spec"]["label"]["class_names"].append("zoom")
        for split in fields["splits"].values():
            split["label_counts"].append(0)

    dataset.edit_info(change)
    result = dataset.examine()
    assert bad(result) == {"labels.coverage": "warning"}
    assert "'zoom'" in result.findings[0].message


def test_label_coverage_and_empty_splits_note_partial_gaps(tmp_path, specs, open_dataset):
    folder = tmp_path / "few"
    spec = specs["classification"]
    write_fake_dataset(folder, spec, {"train": 3, "validation": 1, "test": 0}, shards=1)
    result = open_dataset(folder).examine()
    assert bad(result) == {}
    assert {(f.check, f.level) for f in result.findings} == {
        ("labels.coverage", "note"),
        ("balance.empty_splits", "note"),
    }


def test_empty_splits_finds_dataset_without_records(tmp_path, specs, open_dataset):
    folder = tmp_path / "empty"
    write_fake_dataset(folder, specs["classification"], {"train": 0}, shards=1)
    assert bad(open_dataset(folder).examine()) == {"balance.empty_splits": "error"}


def test_constant_targets_finds_single_class(tmp_path, specs, open_dataset):
    folder = tmp_path / "one"
    label = LabelSpec(task="classification", class_names=("only",))
    spec = dataclasses.replace(specs["classification"], label=label)
    write_fake_dataset(folder, spec, {"train": 4}, shards=1)
    assert bad(open_dataset(folder).examine()) == {"labels.constant": "warning"}


def test_findings_are_bounded_but_all_counted(make):
    dataset = make("classification")
    path = dataset.shard()
    dataset.edit(set_bytes("clip/label/string", b"swim"))
    spoilt = list(read_file(path))[1].data
    dataset.rewrite(path, [spoilt] * 120)
    result = dataset.examine()
    assert result.count("error", "labels.classes") == 120
    assert len([f for f in result.findings if f.check == "labels.classes"]) == 50


def test_schema_finds_garbage_in_framed_records(make):
    dataset = make("classification")
    path = dataset.shard()
    data = b"".join(frame_record(b"\xff" * n) for n in (1, 30)) + path.read_bytes()
    path.write_bytes(data)
    dataset.redescribe(path, 7)
    result = dataset.examine()
    assert bad(result) == {"format.schema": "error"}
    assert result.count("error", "format.schema") == 2


def test_every_check_has_unique_name_reason_and_remedy():
    names = [check.name for check in ALL_CHECKS]
    assert len(set(names)) == len(names)
    for check in ALL_CHECKS:
        family, _, rest = check.name.partition(".")
        assert family in ("format", "frames", "labels", "leaks", "pictures", "balance", "drift")
        assert rest
        for text in (check.reason, check.remedy, check.summary):
            assert len(text) > 20
            assert text.endswith((".", ")."))


def test_every_check_fails_in_some_test():
    source = "".join(
        path.read_text(encoding="utf-8").split("def test_every_check", 1)[0]
        for path in Path(__file__).parent.glob("test_spoilt*.py")
    )
    unproven = [check.name for check in ALL_CHECKS if f'"{check.name}"' not in source]
    # It guards against what the other checks forget; see test_record_checks.
    assert unproven == ["format.decode"]
