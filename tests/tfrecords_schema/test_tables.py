"""Tables of classes and targets by split, and the sentences about what is missing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecords_schema import tables
from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo, TargetStatistics
from tfrecords_schema.moments import Moments
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from tfrecords_schema.tables import (
    Cell,
    class_cells,
    class_table,
    class_warnings,
    describe_dropped,
    value_warnings,
)


@pytest.fixture(autouse=True, scope="module")
def no_terminal():
    """Lines are whole, whatever width the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        yield


@given(
    st.lists(
        st.lists(st.text("ab", min_size=1, max_size=9), min_size=4, max_size=4),
        min_size=1,
        max_size=3,
    ),
    st.integers(10, 60),
)
def test_format_table_fits_the_terminal(rows, width):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        narrow = tables.format_table(*rows)
        patch.setenv("COLUMNS", "999")
        (*wide,) = tables.format_table(*rows)
    assert len(wide) == len(rows)
    if max(map(len, wide)) <= width:
        assert narrow == wide
    parts = [narrow[i : i + len(rows)] for i in range(0, len(narrow), len(rows))]
    # Each part repeats the first column; together they hold the others, in order.
    for index, row in enumerate(rows):
        cells = [part[index].split() for part in parts]
        assert [own[0] for own in cells] == [row[0]] * len(parts)
        assert [cell for own in cells for cell in own[1:]] == row[1:]
    for part in parts:
        assert max(map(len, part)) <= width or len(part[0].split()) == 2


def make_info(splits, names=("jump", "run", "wave"), **fields) -> DatasetInfo:
    """Returns a dataset with the sources and sequences of each class by split."""
    label = LabelSpec(task="classification", class_names=names)
    return DatasetInfo(
        name="actions",
        spec=SequenceSpec(num_frames=4, image=ImageSpec(height=4, width=4), label=label),
        splits={
            split: SplitInfo(
                shards=(
                    ShardInfo(file=f"{split}.tfrecord", records=sum(counts), bytes=9, sha256=""),
                ),
                label_counts=counts,
                class_sources=sources,
            )
            for split, (sources, counts) in splits.items()
        },
        **fields,
    )


INFO = make_info(
    {"train": ((12, 3, 0), (340, 40, 0)), "validation": ((2, 0, 0), (50, 0, 0))},
    dropped={"short_clips": (1, 4, 24), "failed": (0, 0, 2)},
)


def test_class_table_shows_sources_and_sequences() -> None:
    assert class_table(INFO.spec.label, class_cells(INFO)) == [
        "  sources / sequences     train  validation",
        "  jump                 12 / 340      2 / 50",
        "  run                    3 / 40        none",
        "  wave                     none        none",
    ]


def test_class_table_without_known_sources_shows_sequences() -> None:
    """An older description has no sources by class."""
    older = make_info({"train": ((), (340, 40, 0))})
    assert class_table(older.spec.label, class_cells(older))[:2] == [
        "  sequences  train",
        "  jump         340",
    ]


def test_labels_by_frame_are_counted_in_frames() -> None:
    label = dataclasses.replace(INFO.spec.label, per_frame=True)
    assert class_table(label, class_cells(INFO))[0].split()[:3] == ["sources", "/", "frames"]


def test_warnings_name_lost_classes_and_empty_cells() -> None:
    keep = "--short_clips pad or loop, or a smaller --num_frames, keeps them"
    assert class_warnings(INFO) == [
        "no record is of class 'wave' (26 sources dropped): shorter than --num_frames "
        f"({keep}); failed or damaged (failures.jsonl says why)",
        f"no record of 'run' is in validation: {tables.ADD_SOURCES}",
    ]
    assert describe_dropped(INFO) == [
        f"29 sources shorter than --num_frames, so dropped: wave 24, run 4, jump 1 ({keep})",
        "2 sources failed or damaged, so dropped: wave 2 (failures.jsonl says why)",
    ]
    assert tables.empty_classes(INFO, "train") == [2]


def test_complete_classes_give_no_warning() -> None:
    whole = {"train": ((1, 1, 1), (4, 4, 4)), "test": ((1, 1, 1), (4, 4, 4))}
    assert class_warnings(make_info(whole)) == []
    # A split without any record is reported by split, not by class.
    assert class_warnings(make_info({**whole, "test": ((0, 0, 0), (0, 0, 0))})) == []


names = st.lists(st.text(max_size=60), min_size=1, max_size=30, unique=True).filter(all)
counts = st.integers(0, 3) | st.integers(0, 10**7)


def test_splits_that_lack_the_same_classes_share_a_line() -> None:
    both, one = ((1, 1), (4, 4)), ((1, 0), (4, 0))
    splits = {"train": both, "validation": one, "test": one}
    assert class_warnings(make_info(splits, ("a", "b"))) == [
        f"no record of 'b' is in validation or test: {tables.ADD_SOURCES}"
    ]
    names = tuple(map(str, range(9)))
    diagonal = {f"fold_{i}": (tuple(int(i == k) for k in range(9)),) * 2 for i in range(9)}
    lines = class_warnings(make_info(diagonal, names))
    assert lines[0].startswith("no record of '1', '2', '3' and 5 more is in fold_0: ")


@given(names=names, splits=st.lists(st.text(max_size=40), min_size=1, max_size=9), data=st.data())
@settings(max_examples=60, deadline=None)
def test_class_table_shows_the_worst_classes(names, splits, data) -> None:
    """The lines against a count of the classes by hand."""
    label = LabelSpec(task="classification", class_names=tuple(names))
    cells = {
        split: [
            Cell(min(n, 99), n)
            for n in data.draw(st.lists(counts, min_size=len(names), max_size=len(names)))
        ]
        for split in splits
    }
    lines = class_table(label, cells, max_rows=20)
    assert all(line.isprintable() for line in lines)
    shown = min(len(names), 20)
    assert len(lines) == 1 + shown + (len(names) > 20)
    columns = [column for column in cells.values() if any(cell.sequences for cell in column)]
    order = range(len(names))
    if len(names) > 20:
        assert lines[-1].split()[:2] == ["and", str(len(names) - 20)]
        order = sorted(
            order,
            key=lambda i: (
                not any(column[i].sequences == 0 for column in columns),
                sum(column[i].sequences for column in columns),
            ),
        )
    for i, line in zip(order, lines[1:], strict=False):
        assert line.split()[-1] == str(list(cells.values())[-1][i]).split()[-1]


def test_many_classes_are_shown_in_full_on_demand() -> None:
    many = 700
    info = make_info(
        {"train": ((1,) * many, (1,) * many)}, tuple(f"class {i:03d}" for i in range(many))
    )
    assert len(tables.label_table(info)) == tables.MAX_ROWS + 2
    assert tables.label_table(info)[-1] == "  and 680 larger classes"
    assert len(tables.label_table(info, max_rows=many)) == many + 1


def test_names_are_escaped() -> None:
    info = make_info({"train": ((1, 0), (1, 0)), "a\x1b[2J": ((0, 1), (0, 1))}, ("\x1b[31m", "b"))
    text = "\n".join([*tables.label_table(info), *class_warnings(info), *tables.split_table(info)])
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_target_table_has_a_line_for_each_target_and_split() -> None:
    label = LabelSpec(task="regression", target_names=("speed", "turn"))
    own = TargetStatistics(mean=12.5, std=3.25, min=0.0, max=31.0)
    lines = tables.target_table(label, {"train": (own, own), "test": (own,), "dev": ()})
    assert lines == [
        "  target  split  mean   std  min  max",
        "  speed   train  12.5  3.25    0   31",
        "  speed    test  12.5  3.25    0   31",
        "  turn    train  12.5  3.25    0   31",
    ]
    assert tables.target_table(label, {"train": ()}) == []


@pytest.mark.parametrize(("sources", "first"), [((), "5"), ((1,), "1 / 5")])
def test_an_edited_description_does_not_break_the_table(sources, first) -> None:
    info = make_info({"train": (sources, (5,))}, dropped={"short_clips": (2,)})
    assert [str(cell) for cell in class_cells(info)["train"]] == [first, "none", "none"]
    assert "'run', 'wave'" in class_warnings(info)[0]


def describe_values(values: list[float]) -> DatasetInfo:
    """Returns a dataset whose train split has these values of its one target."""
    info = make_info({"train": ((), ())}, names=("a",))
    moments = Moments.of(values)
    statistics = TargetStatistics(
        mean=moments.mean, std=moments.std, min=moments.min, max=moments.max, count=len(values)
    )
    label = LabelSpec(task="regression", target_names=("speed",))
    return dataclasses.replace(
        info,
        spec=dataclasses.replace(info.spec, label=label),
        splits={"train": dataclasses.replace(info.splits["train"], targets=(statistics,))},
    )


@given(
    st.lists(st.floats(-100, 100), min_size=10, max_size=60).filter(lambda v: np.std(v) > 1),
    st.floats(-5000, 5000),
)
def test_value_warnings_find_one_value_far_from_the_others(others: list[float], far: float) -> None:
    spreads = abs(far - np.mean(others)) / np.std(others)
    is_extreme = abs(far - np.mean([*others, far])) >= max(
        abs(v - np.mean([*others, far])) for v in others
    )
    warnings = value_warnings(describe_values([*others, far]))
    if is_extreme and abs(spreads - 12) > 1e-3:
        assert bool(warnings) == (spreads > 12)
        assert all(f"speed in train reaches {far:g}, {spreads:.0f} " in text for text in warnings)


def test_value_warnings_name_constant_targets_and_outliers_beyond_precision() -> None:
    assert value_warnings(describe_values([3.0] * 7)) == ["speed in train is 3 in all 7 values"]
    (warning,) = value_warnings(describe_values([*map(float, range(20)), 1e30]))
    assert "reaches 1e+30, 1000000000 standard deviations" in warning
