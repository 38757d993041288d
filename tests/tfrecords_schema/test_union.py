"""Several descriptions as one, and the table of sources."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.info import (
    DatasetInfo,
    DatasetInfoError,
    ShardInfo,
    SplitInfo,
    TargetStatistics,
    statistics_of,
)
from tfrecords_schema.moments import moments_by_column
from tfrecords_schema.sources import SourceRow, check_distinct, read_sources
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec
from tfrecords_schema.union import DIFFERS, unite

IMAGE = ImageSpec(height=4, width=4)


def described(label, rows=(), *, signals=(), name="a", split="train", pixels=(), **fields):
    """Returns the description of one shard with ``rows``: classes, or lists of target values."""
    classes = label.task == "classification"
    spec = SequenceSpec(num_frames=2, image=IMAGE, label=label, signals=signals)
    contents = SplitInfo(
        shards=(ShardInfo(file="x", records=len(rows), bytes=1, sha256="s"),),
        label_counts=tuple(rows.count(c) for c in label.class_names) if classes else (),
        targets=() if classes else statistics_of(moments_by_column(rows)),
        pixel_mean=(float(np.mean(pixels)),) * 3 if len(pixels) else (),
        pixel_std=(float(np.std(pixels)),) * 3 if len(pixels) else (),
        pixel_frames=len(pixels),
        sources=1,
        groups=1,
    )
    return DatasetInfo(name=name, spec=spec, splits={split: contents}, **fields)


def classes(*names):
    return LabelSpec(task="classification", class_names=names)


NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)


@given(st.lists(st.tuples(NAMES, st.integers(0, 2**32)), min_size=1, max_size=4))
def test_unite_keeps_the_class_of_every_record(datasets):
    infos, rows, first_seen = [], [], []
    for names, seed in datasets:
        own = [names[i] for i in np.random.default_rng(seed).integers(0, len(names), 7)]
        infos.append(described(classes(*names), own))
        rows += own
        first_seen += [name for name in names if name not in first_seen]
    united = unite(infos, [str(i) for i in range(len(infos))])
    assert list(united.info.spec.label.class_names) == first_seen
    for (names, _), remap in zip(datasets, united.remaps, strict=True):
        indices = range(len(names)) if remap is None else remap
        assert [first_seen[i] for i in indices] == names
        assert (remap is None) == (first_seen[: len(names)] == names)
    counts = united.info.splits["train"].label_counts
    assert counts == tuple(rows.count(name) for name in first_seen)


NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=4))
def test_unite_gives_the_statistics_of_all_values(datasets):
    label = LabelSpec(task="regression", target_names=("speed",))
    infos = [described(label, [[v] for v in values], pixels=pixels) for values, pixels in datasets]
    split = unite(infos, ["x"] * len(infos)).info.splits["train"]
    values = np.concatenate([values for values, _ in datasets])
    pixels = np.concatenate([pixels for _, pixels in datasets])
    (found,) = split.targets
    assert (found.min, found.max, found.count) == (values.min(), values.max(), len(values))
    near = {"rel": 1e-9, "abs": 1e-6}
    assert found.mean == pytest.approx(values.mean(), **near)
    assert found.std == pytest.approx(values.std(), **near)
    assert split.pixel_mean == pytest.approx((pixels.mean(),) * 3, **near)
    assert split.pixel_std == pytest.approx((pixels.std(),) * 3, **near)
    assert split.pixel_frames == len(pixels)


def test_statistics_without_a_count_weigh_as_many_records():
    old = TargetStatistics(mean=1.0, std=0.0, min=1.0, max=1.0)
    label = LabelSpec(task="regression", target_names=("speed",))
    info = described(label, [[1.0]] * 3)
    split = dataclasses.replace(info.splits["train"], targets=(old,))
    info = dataclasses.replace(info, splits={"train": split})
    (found,) = unite([info, described(label, [[5.0]])], "ab").info.splits["train"].targets
    assert found.mean == 2.0


def test_splits_names_options_versions_and_counts_are_put_together():
    first = described(classes("a"), ["a"], counts={"sources": 2}, versions={"av": "1", "x": "1"})
    first = dataclasses.replace(first, options={"seed": 0, "num_frames": 2}, mirrored=())
    second = described(classes("b"), ["b"], name="b", split="test", counts={"sources": 3})
    second = dataclasses.replace(second, options={"seed": 1, "num_frames": 2}, versions={"av": "2"})
    united = unite([first, second], ["one", "two"])
    assert united.info.name == "a + b"
    assert list(united.info.splits) == ["train", "test"]
    assert united.info.splits["test"].label_counts == (0, 1)
    assert united.info.counts == {"sources": 5}
    # Not left out, since a missing option would be read as its default.
    assert united.info.options == {"seed": DIFFERS, "num_frames": 2}
    assert united.info.versions == {"av": "1, 2", "x": "1"}
    assert united.info.mirrored is None
    assert united.remaps == (None, (1,))


def test_measured_labels_stay_so_whichever_files_they_came_from():
    """One dataset has ``{stem}.csv``, the other ``{stem}.json``."""
    infos = [
        described(classes("a"), ["a"], options={"telemetry": name, "label_at": "center"})
        for name in ("{stem}.csv", "{stem}.json")
    ]
    found = unite(infos, "ab").info.build_options
    assert (found.label_at, found.labels_whole_sources) == ("center", False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"spec": {"num_frames": 3}}, "num_frames: 2 in one, 3 in two"),
        ({"spec": {"signals": (SignalSpec(name="speed"),)}}, "signals"),
        ({"options": {"label_at": "mean", "telemetry": "{stem}.csv"}}, "label_at"),
        ({"options": {"resize": "crop"}}, "resize: None in one, crop in two"),
        ({"mirrored": ()}, None),
        ({"adopted": True}, "another program"),
    ],
)
def test_unite_names_what_differs(changes, expected):
    first = described(classes("a"), ["a"])
    spec = dataclasses.replace(first.spec, **changes.pop("spec", {}))
    second = dataclasses.replace(first, spec=spec, **changes)
    if expected is None:
        unite([first, second], ["one", "two"])
        return
    with pytest.raises(DatasetInfoError, match=expected):
        unite([first, second], ["one", "two"])


def row(name, group=None, split="train"):
    return SourceRow(id=name, group=group or name, split=split)


def test_check_distinct_counts_shared_groups():
    tables = [[row("a", "g"), row("b", "g")], [row("c", "g"), row("d", "h", None)], [row("e", "g")]]
    assert check_distinct(tables, "xyz") == {"train": 2}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (row("a", "g"), "'a' of x and y"),
        (row("b", "g", "test"), "'g' is in train of x and in test of y"),
    ],
)
def test_check_distinct_names_sources_and_leaks(second, expected):
    with pytest.raises(DatasetInfoError, match=expected):
        check_distinct([[row("a", "g")], [second]], "xy")


def test_read_sources_needs_the_table(tmp_path):
    info = write_fake_dataset(tmp_path, SequenceSpec(num_frames=2, image=IMAGE), {"train": 1})
    with pytest.raises(DatasetInfoError, match="earlier version"):
        list(read_sources(tmp_path, info))
    info = dataclasses.replace(info, counts={"sources_built": 2})
    line = '{"id": "a", "group": "g", "split": null, "digest": ""}\n'
    (tmp_path / "sources.jsonl").write_text(line * 3)
    assert list(read_sources(tmp_path, info)) == [row("a", "g", None)] * 2
    (tmp_path / "sources.jsonl").write_text(line)
    with pytest.raises(DatasetInfoError, match="must have 2 lines"):
        list(read_sources(tmp_path, info))
