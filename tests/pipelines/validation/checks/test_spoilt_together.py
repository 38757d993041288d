"""A dataset spoilt in one way that only several records together show; each check is shown to fail."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from tfrecords_schema import example_pb2
from tfrecords_schema.examples import SequenceRecord
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.records import frame_record, read_file
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec

FRAMES = 6
IMAGE = ImageSpec(height=48, width=64)
SPEC = SequenceSpec(
    num_frames=FRAMES,
    frame_rate=10.0,
    image=IMAGE,
    label=LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",)),
)
CLASSES = LabelSpec(task="classification", class_names=("run", "walk"))


def worlds(seed):
    """A picture wider than a frame, in which a camera may move: a scene of its own for each seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 14, 3), np.uint8)
    coarse[:, :, 0] //= 2  # more red than blue
    return cv2.resize(coarse, (64 * 4, 48), interpolation=cv2.INTER_CUBIC)


def view(seed, place, *, quality=92):
    pixels = worlds(seed)[:, place : place + 64]
    return encode(pixels, quality)


def encode(pixels, quality=92):
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def footage(seed, *, count=3, spec=SPEC, **changes):
    """Records of one drive of its own, which adjoin; its speed changes little from one to the next."""
    records = []
    for number in range(count):
        start = number * FRAMES
        base = fake_record(dataclasses.replace(spec, image=IMAGE), seed)
        times = [(start + place) * 100_000 for place in range(FRAMES)]
        name = f"drive{seed}.mp4"
        record = SequenceRecord(
            **{
                **{f.name: getattr(base, f.name) for f in dataclasses.fields(base)},
                "id": f"{name}@{times[0]}",
                "data_path": name,
                "media_id": name,
                "group_id": name,
                "timestamps": times,
                "frames": [view(seed, start + place) for place in range(FRAMES)],
                "label_values": [10 + np.sin(seed) * 5 + number * 0.1]
                if spec.label.target_names
                else (),
                **changes,
            }
        )
        records.append(record)
    return records


def write(path, open_dataset, splits, *, spec=SPEC, shards=1):
    path.mkdir(exist_ok=True)
    write_fake_dataset(
        path, spec, {s: len(r) for s, r in splits.items()}, shards=shards, records=splits
    )
    dataset = open_dataset(path)
    levels = {
        split: pixel_means(records) for split, records in splits.items() if records and spec.image
    }

    def change(fields):
        for split, mean in levels.items():
            fields["splits"][split]["pixel_mean"] = mean

    dataset.edit_info(change)
    return dataset


def pixel_means(records):
    pixels = [decode(frame) for record in records for frame in record.frames]
    return np.mean(pixels, axis=(0, 1, 2)).tolist()


def decode(data):
    """RGB."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def bad(result):
    return {
        check: "error" if "error" in counts else "warning"
        for check, counts in result.counts.items()
        if set(counts) - {"note"}
    }


def drives(*seeds, **options):
    return [record for seed in seeds for record in footage(seed, **options)]


@pytest.fixture
def build(tmp_path, open_dataset):
    def build(splits, **options):
        return write(tmp_path / "spoilt", open_dataset, splits, **options)

    return build


def splits(**changes):
    return {"train": drives(*range(8)), "validation": drives(8, 9), **changes}


def test_clean_footage_has_no_findings(build):
    result = build(splits()).examine()
    assert result.findings == ()
    assert result.records == 30


# --- leaks


def test_duplicate_pictures_finds_window_coded_again(build):
    all_ = splits()
    leaked = all_["train"][7]
    again = [encode(decode(frame)[:, :, ::-1], quality=60) for frame in leaked.frames]
    times = [time + 5_000_000 for time in leaked.timestamps]
    name = "other.mp4"
    all_["validation"].append(
        dataclasses.replace(
            leaked, id=name, media_id=name, group_id=name, frames=again, timestamps=times
        )
    )
    result = build(all_).examine()
    assert bad(result) == {"leaks.duplicates": "error"}
    finding = next(f for f in result.findings if f.check == "leaks.duplicates")
    assert {finding.where.record, finding.other.record} == {leaked.id, name}
    assert finding.level == "error"


def cut(pixels, part):
    rows, columns = (round(length * part) for length in pixels.shape[:2])
    return cv2.resize(pixels[rows:-rows, columns:-columns], (64, 48), interpolation=cv2.INTER_AREA)


COPIES = {
    "brighter": lambda pixels: cv2.convertScaleAbs(pixels, beta=25),
    "of less contrast": lambda pixels: cv2.convertScaleAbs(pixels, alpha=0.7, beta=20),
    "gray": lambda pixels: cv2.cvtColor(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB
    ),
    "scaled": lambda pixels: cv2.resize(cv2.resize(pixels, (32, 24)), (64, 48)),
    "cut": lambda pixels: cut(pixels, 0.03),
    "marked": lambda pixels: cv2.rectangle(pixels.copy(), (58, 1), (62, 4), (255, 255, 255), -1),
}


@pytest.mark.parametrize("kind", COPIES)
def test_duplicate_pictures_finds_changed_copies(build, kind):
    all_ = splits()
    leaked = all_["train"][7]
    again = [
        encode(np.ascontiguousarray(COPIES[kind](decode(frame)))[:, :, ::-1])
        for frame in leaked.frames
    ]
    all_["validation"].append(
        dataclasses.replace(leaked, id="x", media_id="x", group_id="x", data_path="x", frames=again)
    )
    result = build(all_).examine()
    assert set(bad(result)) == {"leaks.duplicates"}
    assert any(
        f.other and {f.where.record, f.other.record} == {leaked.id, "x"} for f in result.findings
    )


def test_duplicate_pictures_notes_two_times_of_one_file(build):
    all_ = splits()
    one, other = all_["train"][3], all_["validation"][0]
    times = [time + 60_000_000 for time in one.timestamps]
    name = f"{one.media_id}#t=60,61"
    still = [*other.frames[:3], one.frames[3], *other.frames[4:]]
    all_["validation"][0] = dataclasses.replace(
        other, id="x", media_id=name, timestamps=times, frames=still
    )
    result = build(all_).examine()
    found = [f for f in result.findings if f.check == "leaks.duplicates"]
    assert found
    for finding in found:
        assert finding.level == "note"
        assert "at another time of the same file" in finding.message


def test_duplicate_pictures_finds_overlapping_window(build):
    all_ = splits()
    frames = [view(3, 2 + place, quality=80) for place in range(FRAMES)]
    own = footage(9)[0]
    all_["validation"] = [
        *footage(8),
        dataclasses.replace(own, id="x", media_id="x", group_id="x", frames=frames),
    ]
    assert bad(build(all_).examine()) == {"leaks.duplicates": "error"}


def test_duplicate_pictures_warns_of_single_picture(build):
    all_ = splits()
    own = all_["validation"][1]
    frames = [*own.frames[:3], all_["train"][4].frames[2], *own.frames[4:]]
    all_["validation"][1] = dataclasses.replace(own, frames=frames)
    result = build(all_).examine()
    assert bad(result)["leaks.duplicates"] == "warning"
    # It does not belong where it is, either.
    assert set(bad(result)) <= {"leaks.duplicates", "pictures.foreign"}


@pytest.mark.parametrize(("start", "expected"), [(12, {"leaks.spans": "error"}), (400, {})])
def test_leaked_spans_finds_overlapping_clips(build, start, expected):
    all_ = splits()
    clip = all_["validation"][0]
    times = [(start + place) * 100_000 for place in range(FRAMES)]
    all_["validation"][0] = dataclasses.replace(
        clip, id="drive5.mp4#t=1,2", media_id="drive5.mp4#t=1,2", timestamps=times
    )
    result = build(all_).examine()
    assert bad(result) == expected
    if expected:
        (finding,) = result.findings
        assert finding.other.record == "drive5.mp4@1200000"
        assert "1.200 s to 1.700 s" in finding.message


# --- pictures


def test_pictures_foreign_finds_foreign_frame(build):
    all_ = splits()
    own = all_["train"][4]
    frames = [*own.frames[:2], view(77, 3), *own.frames[3:]]
    all_["train"][4] = dataclasses.replace(own, frames=frames)
    result = build(all_).examine()
    assert bad(result) == {"pictures.foreign": "warning"}
    assert [f.where.record for f in result.findings] == [own.id]
    assert "frame 2 " in result.findings[0].message


@pytest.mark.parametrize("place", [0, FRAMES - 1])
def test_adjoining_pictures_finds_foreign_frame_at_edge(build, place):
    all_ = splits()
    own = all_["train"][4]
    frames = list(own.frames)
    frames[place] = view(77, 3)
    all_["train"][4] = dataclasses.replace(own, frames=frames)
    assert bad(build(all_).examine()) == {"pictures.adjoining": "warning"}


def test_pictures_foreign_finds_frames_of_two_records_exchanged(build):
    all_ = splits()
    one, other = all_["train"][1], all_["train"][13]
    first, second = list(one.frames), list(other.frames)
    first[3], second[3] = second[3], first[3]
    all_["train"][1] = dataclasses.replace(one, frames=first)
    all_["train"][13] = dataclasses.replace(other, frames=second)
    result = build(all_).examine()
    assert bad(result) == {"pictures.foreign": "warning"}
    assert {f.where.record for f in result.findings} == {one.id, other.id}


def swap(frame):
    return encode(decode(frame))  # RGB is taken for BGR


def test_pictures_colours_finds_swap_within_record(build):
    all_ = splits()
    own = all_["train"][4]
    frames = [*own.frames[:3], *map(swap, own.frames[3:])]
    all_["train"][4] = dataclasses.replace(own, frames=frames)
    assert "pictures.colours" in bad(build(all_).examine())


def test_adjoining_pictures_finds_swap_of_whole_record(build):
    all_ = splits()
    own = all_["train"][4]
    all_["train"][4] = dataclasses.replace(own, frames=list(map(swap, own.frames)))
    result = build(all_).examine()
    assert bad(result) == {"pictures.adjoining": "warning"}
    assert "red and blue" in result.findings[0].message


def test_pixel_statistics_finds_swap_of_all_records(build):
    all_ = splits()
    dataset = build(all_)
    before = dataset.info.splits["train"].pixel_mean
    swapped = [
        dataclasses.replace(record, frames=list(map(swap, record.frames)))
        for record in all_["train"]
    ]
    dataset = build({**all_, "train": swapped})

    def change(fields):
        fields["splits"]["train"]["pixel_mean"] = before

    dataset.edit_info(change)
    red, _, blue = before
    assert abs(red - blue) > 20
    result = dataset.examine()
    assert bad(result) == {"pictures.statistics": "error"}
    assert "as if red and blue were swapped" in result.findings[0].message


@pytest.mark.parametrize(("sampled", "found"), [(0, True), (200, True), (1, False)])
def test_pixel_statistics_allows_more_for_few_pictures(build, sampled, found):
    dataset = build(splits())

    def change(fields):
        own = fields["splits"]["train"]
        own["pixel_mean"] = [level + 40 for level in own["pixel_mean"]]
        own["pixel_frames"] = sampled

    dataset.edit_info(change)
    assert bad(dataset.examine()) == ({"pictures.statistics": "error"} if found else {})


def test_pictures_frozen_finds_frozen_picture(build):
    all_ = splits()
    own = all_["train"][4]
    all_["train"][4] = dataclasses.replace(own, frames=[own.frames[0]] * 5 + [own.frames[5]])
    result = build(all_).examine()
    assert bad(result) == {"pictures.frozen": "warning"}
    assert "frames 0 to 4" in result.findings[0].message


def test_pictures_frozen_notes_single_repeat(build):
    all_ = splits()
    own = all_["train"][4]
    frames = [*own.frames[:3], own.frames[2], *own.frames[4:]]
    all_["train"][4] = dataclasses.replace(own, frames=frames)
    result = build(all_).examine()
    assert [(f.check, f.level) for f in result.findings] == [("pictures.frozen", "note")]


def test_pictures_flat_finds_white_pictures(build):
    all_ = splits()
    white = encode(np.full((48, 64, 3), 255, np.uint8))
    all_["train"].append(
        dataclasses.replace(
            footage(30)[0], frames=[white + b"\0" * place for place in range(FRAMES)]
        )
    )
    result = build(all_).examine()
    assert bad(result) == {"pictures.flat": "warning"}
    assert "white" in result.findings[0].message


def test_pictures_sizes_finds_change_of_size(build):
    all_ = splits()
    own = all_["train"][4]
    small = encode(cv2.resize(decode(own.frames[4]), (32, 24)))
    path = build(all_).shard()
    dataset = build(all_)

    def change(example):
        steps = example.feature_lists.feature_list["image/encoded"].feature
        for step in steps[4:]:
            step.bytes_list.value[0] = small

    dataset.edit(change, record=4)
    result = dataset.examine()
    assert bad(result) == {"frames.decode": "error", "pictures.sizes": "error"}
    (finding,) = [f for f in result.findings if f.check == "pictures.sizes"]
    assert "48x64 from frame 0, 24x32 from frame 4" in finding.message
    assert finding.where.shard == path.name


# --- frames


def test_shared_frames_finds_different_frames(build):
    all_ = splits()
    one = all_["train"][0]
    times = [(3 + place) * 100_000 for place in range(FRAMES)]
    frames = [view(0, 3 + place) for place in range(FRAMES)]
    for spoilt in (False, True):
        if spoilt:
            frames[1] = view(0, 4, quality=50)
        own = dataclasses.replace(one, id="half", timestamps=times, frames=frames)
        result = build({**all_, "train": [one, own, *all_["train"][1:]]}).examine()
        assert bad(result) == ({"frames.shared": "error"} if spoilt else {})
        assert not spoilt or result.findings[0].where.record == "half"


def test_shared_frames_finds_different_times(build):
    all_ = splits()
    one = all_["train"][0]
    times = [(3 + place) * 100_000 for place in range(FRAMES)]
    frames = [view(0, 3 + place) for place in range(FRAMES)]
    for shift, expected in ((0, {}), (40_000, {"frames.shared": "warning"})):
        moved = [time + shift * (place == 1) for place, time in enumerate(times)]
        own = dataclasses.replace(one, id="half", timestamps=moved, frames=frames)
        result = build({**all_, "train": [one, own, *all_["train"][1:]]}).examine()
        assert bad(result) == expected
    assert "only one of them has a frame at 0.400 s" in result.findings[0].message


EVERY = dataclasses.replace(SPEC, frame_rate=None)


@pytest.mark.parametrize(
    ("times", "rate", "check", "level"),
    [
        ([0, 40, 80, 400, 440, 480], 5 / 0.48, "frames.gaps", "warning"),
        ([0, 10, 80, 90, 160, 240], 5 / 0.24, "frames.gaps", "warning"),
        ([0, 40, 40, 80, 120, 160], 5 / 0.16, "frames.order", "error"),
    ],
    ids=["a gap", "jitter", "a time twice"],
)
def test_frame_checks_find_uneven_times(build, times, rate, check, level):
    own = footage(3, count=1, frame_rate=rate)[0]
    own = dataclasses.replace(own, timestamps=[time * 1000 for time in times])
    even = drives(5, 6, timestamps=list(range(0, 600_000, 100_000)), count=1)
    result = build({"train": [own, *even]}, spec=EVERY).examine()
    assert bad(result) == {check: level}


def test_frames_gaps_notes_gap_of_sampled_source(build):
    own = footage(3, count=1)[0]
    times = [0, 100, 100, 100, 100, 500]
    frames = [own.frames[times.index(time)] for time in times]
    own = dataclasses.replace(own, timestamps=[time * 1000 for time in times], frames=frames)
    result = build({"train": [own, *drives(5, 6)]}).examine()
    assert [(f.check, f.level) for f in result.findings] == [("frames.gaps", "note")]


def test_frames_signals_finds_other_time(make):
    dataset = make("signals only")

    def change(example):
        steps = example.feature_lists.feature_list["IMU/feature/timestamp"].feature
        steps[2].int64_list.value[0] += 100_000

    dataset.edit(change)
    assert bad(dataset.examine()) == {"frames.signals": "error"}


# --- labels


def test_labels_frames_finds_missing_label(make):
    dataset = make("targets by frame")

    def change(example):
        del example.feature_lists.feature_list["LABEL/feature/floats"].feature[-1]

    dataset.edit(change)
    result = dataset.examine()
    assert bad(result) == {"format.schema": "error", "labels.frames": "error"}


def test_value_outliers_finds_target(build):
    all_ = splits()
    own = all_["train"][20]
    all_["train"][20] = dataclasses.replace(own, label_values=[1000.0])
    result = build(all_).examine()
    assert bad(result) == {"labels.outliers": "warning"} | (
        {"labels.jumps": "warning"} if "labels.jumps" in bad(result) else {}
    )
    assert result.findings[0].where.record == own.id


def test_value_outliers_finds_signal(make, specs, open_dataset, tmp_path):
    spec = specs["signals only"]
    records = [fake_record(spec, seed) for seed in range(40)]
    records[7].signals["IMU"][2][1] = 4e4
    write_fake_dataset(tmp_path / "signals", spec, {"train": 40}, records={"train": records})
    result = open_dataset(tmp_path / "signals").examine()
    assert bad(result) == {"labels.outliers": "warning"}
    assert [f.where.record for f in result.findings] == ["fake/7.mp4@0"]
    assert "signal IMU[1]" in result.findings[0].message


def test_value_jumps_finds_swapped_targets(build):
    train = drives(*range(20))
    one, other = train[13], train[43]
    train[13] = dataclasses.replace(one, label_values=other.label_values)
    train[43] = dataclasses.replace(other, label_values=one.label_values)
    result = build({"train": train}).examine()
    assert bad(result) == {"labels.jumps": "warning"}
    assert {one.id, other.id} <= {f.where.record for f in result.findings}


def class_footage(label, seed, **changes):
    index = CLASSES.class_names.index(label)
    path = f"clips/{label}/{seed}.mp4"
    spec = dataclasses.replace(SPEC, label=CLASSES)
    return footage(
        seed,
        spec=spec,
        **{
            "data_path": path,
            "media_id": path,
            "label_indices": [index],
            "label_strings": [label],
            "label_values": (),
            **changes,
        },
    )


def class_splits():
    return {
        "train": [
            r for seed in range(12) for r in class_footage(CLASSES.class_names[seed % 2], seed)
        ],
        "validation": [*class_footage("run", 20), *class_footage("walk", 21)],
    }


def fix_ids(all_):
    return {
        split: [
            dataclasses.replace(r, id=f"{r.media_id}@{r.timestamps[0]}", group_id=r.media_id)
            for r in records
        ]
        for split, records in all_.items()
    }


CLASS_SPEC = dataclasses.replace(SPEC, label=CLASSES)


def test_clean_class_folders_have_no_findings(build):
    assert build(fix_ids(class_splits()), spec=CLASS_SPEC).examine().findings == ()


def test_source_labels_finds_swapped_classes(build):
    all_ = fix_ids(class_splits())
    train = all_["train"]
    one, other = train[1], train[4]
    labels = [(r.label_indices, r.label_strings) for r in (one, other)]
    train[1] = dataclasses.replace(one, label_indices=labels[1][0], label_strings=labels[1][1])
    train[4] = dataclasses.replace(other, label_indices=labels[0][0], label_strings=labels[0][1])
    result = build(all_, spec=CLASS_SPEC).examine()
    assert bad(result) == {"labels.sources": "error"}
    assert {f.where.record for f in result.findings} == {one.id, other.id}


def test_source_labels_finds_source_in_other_folder(build):
    all_ = fix_ids(class_splits())
    train = all_["train"]
    for place in range(3):
        train[place] = dataclasses.replace(train[place], label_indices=[1], label_strings=["walk"])
    more = [record for seed in range(40, 60) for record in class_footage("run", seed)]
    all_["train"] = train + fix_ids({"more": more})["more"]
    result = build(all_, spec=CLASS_SPEC).examine()
    assert bad(result) == {"labels.sources": "warning"}
    assert result.count("warning", "labels.sources") == 3


def test_class_imbalance_finds_rare_class(make, specs, open_dataset, tmp_path):
    spec = dataclasses.replace(specs["signals only"], label=CLASSES)
    records = [
        dataclasses.replace(
            fake_record(spec, seed),
            label_indices=[int(seed == 150)],
            label_strings=[CLASSES.class_names[seed == 150]],
        )
        for seed in range(201)
    ]
    write_fake_dataset(tmp_path / "rare", spec, {"train": 201}, records={"train": records})
    assert bad(open_dataset(tmp_path / "rare").examine()) == {"labels.imbalance": "warning"}


@pytest.mark.parametrize(
    ("names", "level"), [(("run", " Run"), "warning"), (("run", " "), "warning")]
)
def test_label_names_finds_similar_and_empty_names(make, names, level):
    dataset = make("no label")

    def change(fields):
        fields["spec"]["label"] |= {"task": "multilabel", "class_names": list(names)}

    dataset.edit_info(change)
    result = dataset.examine()
    assert bad(result)["labels.names"] == level


def test_label_names_notes_missing_unit(make):
    dataset = make("regression")
    dataset.edit_info(lambda fields: fields["spec"]["label"].update(target_units=[]))
    result = dataset.examine()
    assert [(f.check, f.level) for f in result.findings] == [("labels.names", "note")]


# --- balance


def test_shard_sizes_finds_long_shard(build, specs, open_dataset, tmp_path):
    dataset = build({"train": drives(*range(8))}, shards=8)
    path = dataset.shard("train", 3)
    records = [stored.data for stored in read_file(path)]
    # Zeros behind the fields' end would not parse; a key that nobody asks for does.
    example = example_pb2.SequenceExample.FromString(records[0])
    example.context.feature["note"].bytes_list.value[:] = [bytes(2 << 20)]
    dataset.rewrite(path, [example.SerializeToString(), *records[1:]])
    result = dataset.examine()
    assert bad(result) == {"balance.shards": "warning"}
    assert path.name in result.findings[0].message


def labelled(spec, order):
    return [
        dataclasses.replace(
            fake_record(spec, seed), label_indices=[c], label_strings=[CLASSES.class_names[c]]
        )
        for seed, c in enumerate(order)
    ]


def test_shuffle_quality_finds_order_of_classes(specs, open_dataset, tmp_path):
    spec = dataclasses.replace(specs["signals only"], label=CLASSES)
    random = np.random.default_rng(0)
    mixed = random.integers(0, 2, 80).tolist()
    for name, order, expected in (
        ("mixed", mixed, {}),
        ("sorted", sorted(mixed), {"balance.shuffle": "warning"}),
    ):
        records = labelled(spec, order)
        write_fake_dataset(tmp_path / name, spec, {"train": 80}, records={"train": records})
        assert bad(open_dataset(tmp_path / name).examine()) == expected


def test_label_skew_finds_other_classes(specs, open_dataset, tmp_path):
    spec = dataclasses.replace(specs["signals only"], label=CLASSES)
    for name, share, expected in (("like", 2, {}), ("unlike", 10, {"balance.skew": "warning"})):
        random = np.random.default_rng(0)
        train = labelled(spec, random.integers(0, 2, 200).tolist())
        other = labelled(spec, [0] * 200 + (random.random(200) * share < 1).astype(int).tolist())[
            200:
        ]
        write_fake_dataset(
            tmp_path / name,
            spec,
            {"train": 200, "test": 200},
            records={"train": train, "test": other},
        )
        assert bad(open_dataset(tmp_path / name).examine()) == expected


def test_label_skew_finds_other_targets(specs, open_dataset, tmp_path):
    spec = specs["signals only"]
    train = [fake_record(spec, seed) for seed in range(200)]
    test = [fake_record(spec, seed) for seed in range(200, 400)]
    test = [dataclasses.replace(r, label_values=[r.label_values[0] / 9 + 2]) for r in test]
    write_fake_dataset(
        tmp_path / "x", spec, {"train": 200, "test": 200}, records={"train": train, "test": test}
    )
    result = open_dataset(tmp_path / "x").examine()
    assert bad(result) == {"balance.skew": "warning"}
    assert "speed" in result.findings[0].message


# --- drift


def test_drift_of_same_dataset_is_none(build):
    dataset = build(splits())
    assert dataset.examine(against=str(dataset.path)).findings == ()


def test_drift_checks(tmp_path, specs, open_dataset):
    spec = dataclasses.replace(specs["regression"], image=None)

    def write_one(name, records, **changes):
        own = dataclasses.replace(spec, **changes)
        counts = {split: len(r) for split, r in records.items()}
        write_fake_dataset(tmp_path / name, own, counts, records=records)
        return open_dataset(tmp_path / name)

    train = [fake_record(spec, seed) for seed in range(300)]
    test = [fake_record(spec, seed) for seed in range(300, 400)]
    old = write_one("old", {"train": train, "test": test})
    shifted = [dataclasses.replace(r, label_values=[r.label_values[0] + 2]) for r in train]
    for name, records, changes, expected in (
        ("same", {"train": train, "test": test}, {}, {}),
        (
            "moved",
            {"train": train[:299], "test": [*test, train[299]]},
            {},
            {"drift.splits": "warning"},
        ),
        ("lost", {"train": train[:100], "test": test}, {}, {"drift.records": "warning"}),
        (
            "shifted",
            {"train": shifted, "test": test},
            {},
            {"drift.labels": "warning", "drift.values": "warning", "balance.skew": "warning"},
        ),
        ("rate", {"train": train, "test": test}, {"frame_rate": 10.5}, {"drift.spec": "error"}),
    ):
        new = write_one(name, records, **changes)
        found = bad(new.examine(against=str(old.path)))
        if name == "rate":
            found = {c: level for c, level in found.items() if not c.startswith("frames.")}
        assert found == expected, name


def test_drift_classes_finds_lost_class(specs, open_dataset, tmp_path):
    spec = dataclasses.replace(specs["signals only"], label=CLASSES)
    for name, order in (("old", [0, 1] * 5), ("new", [0] * 10)):
        write_fake_dataset(
            tmp_path / name, spec, {"train": 10}, records={"train": labelled(spec, order)}
        )
    result = open_dataset(tmp_path / "new").examine(against=str(tmp_path / "old"))
    assert bad(result)["drift.classes"] == "warning"


def test_duplicate_pictures_ignores_black_frames(build):
    """Black frames in two splits are no leak."""
    black = encode(np.zeros((48, 64, 3), np.uint8))
    all_ = splits()
    for split in all_:
        own = all_[split][0]
        all_[split][0] = dataclasses.replace(own, frames=[black, *own.frames[1:]])
    assert "leaks.duplicates" not in bad(build(all_).examine())


def test_schema_finds_garbage_beside_good_records(build):
    dataset = build(splits())
    path = dataset.shard()
    path.write_bytes(frame_record(b"\xff") + path.read_bytes())
    dataset.redescribe(path, 25)
    assert bad(dataset.examine()) == {"format.schema": "error"}
