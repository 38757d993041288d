"""Order and selection of classes: pure functions of a listing."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.sources.classes import limit_classes, order_classes, select_classes
from tfrecords_schema.spec import LabelSpec


def listing(*labels: tuple[str, ...], task: str = "classification") -> Listing:
    sources = [
        Source(id=f"{i:03d}", path=f"/x/{i}", data_path=f"{i}", group=f"{i}", labels=own)
        for i, own in enumerate(labels)
    ]
    names = order_classes({name for own in labels for name in own}, LabelOptions())
    label = LabelSpec(task=task, class_names=names) if names else LabelSpec()
    return Listing(name="x", sources=tuple(sources), label=label)


def select(found: Listing, *, seed: int = 0, **options: object) -> Listing:
    label = LabelOptions(**options)
    return limit_classes(select_classes(found, label), label.max_per_class, seed)


class TestOrder:
    def test_numbers_are_ordered_by_value_and_as_text_on_demand(self) -> None:
        names = list(map(str, range(11)))
        assert order_classes(reversed(names), LabelOptions()) == tuple(names)
        text = order_classes(names, LabelOptions(class_order="text"))
        assert text[:4] == ("0", "1", "10", "2")

    @given(st.sets(st.text("ab01 é", min_size=1, max_size=4).map(str.strip).filter(bool)))
    def test_the_order_does_not_depend_on_that_of_the_names(self, names) -> None:
        for order in ("natural", "text"):
            options = LabelOptions(class_order=order)
            found = order_classes(names, options)
            assert set(found) == names
            assert found == order_classes(sorted(names, reverse=True), options)

    @pytest.mark.parametrize(
        "text", ["walk\nrun\n", "\ufeff1 walk\r\n2 run\r\n", "0\twalk\n\n1\trun", "1,walk\n2,run"]
    )
    def test_a_file_gives_the_order(self, tmp_path, text) -> None:
        path = tmp_path / "classInd.txt"
        path.write_bytes(text.encode())
        options = LabelOptions(class_order=str(path))
        assert order_classes({"run", "walk"}, options) == ("walk", "run")

    def test_lines_that_are_classes_keep_their_numbers(self, tmp_path) -> None:
        (tmp_path / "order").write_text("2 left\n1 right\n")
        options = LabelOptions(class_order=str(tmp_path / "order"))
        assert order_classes({"1 right", "2 left"}, options) == ("2 left", "1 right")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("run\n", "exactly the 2 classes of the input, but it lacks 'walk'. Adapt"),
            ("run\nwalk\njump\nhop", "but it names 'hop', 'jump' without a source"),
            ("run\njump", "it lacks 'walk' and it names 'jump' without"),
            ("2 run\n1 walk", "must count up from 0 or 1"),
            ("run\nwalk\nrun", "must name each class once, got 'run' 2 times"),
        ],
    )
    def test_a_file_must_name_exactly_the_classes(self, tmp_path, text, message) -> None:
        (tmp_path / "order").write_text(text)
        with pytest.raises(UserError, match=message):
            order_classes({"run", "walk"}, LabelOptions(class_order=str(tmp_path / "order")))

    def test_a_file_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"natural, text, or a file .* got none.txt: No such"):
            order_classes({"run"}, LabelOptions(class_order="none.txt"))
        with pytest.raises(UserError, match=r"got /dev/zero: it is a folder, a device"):
            order_classes({"run"}, LabelOptions(class_order="/dev/zero"))

    def test_a_file_that_is_no_text_is_refused(self, tmp_path) -> None:
        (tmp_path / "order").write_bytes(b"\xff\xfe")
        with pytest.raises(UserError, match="order: it is not UTF-8"):
            order_classes({"run"}, LabelOptions(class_order=str(tmp_path / "order")))

    @pytest.mark.parametrize("other", ["cafe\u0301", "caf\u00e9 "])
    def test_names_that_look_the_same_are_refused(self, other) -> None:
        with pytest.raises(UserError, match=r"'caf\\xe9.* look the same"):
            order_classes({"caf\u00e9", other}, LabelOptions())


class TestSelection:
    def test_nothing_is_said_or_changed_without_options(self) -> None:
        found = listing(("run",), ("walk",))
        assert select(found) == found

    def test_the_order_is_said_where_it_matters(self) -> None:
        assert select(listing(("2",), ("10",))).notes == (
            "labels are in natural order, 2 before 10; --class_order text puts 10 first",
        )
        found = replace(listing(), label=LabelSpec(task="multilabel", class_names=("10", "2")))
        assert select(found, class_order="text").notes == ()

    def test_names_that_are_easily_confused_are_said(self) -> None:
        (case,) = select(listing(("Run",), ("run",), (" a",))).notes
        assert case == "classes that differ only in case are classes of their own: 'Run', 'run'"

    def test_classes_are_kept_in_label_order(self) -> None:
        found = select(listing(("10",), ("run",), ("2",), ("10",)), classes=("10", "2"))
        assert [source.labels for source in found.sources] == [("10",), ("2",), ("10",)]
        assert found.label.class_names == ("2", "10")
        assert found.notes[0] == "1 sources of no class in --classes were left out"

    def test_classes_are_found_in_another_unicode_form(self) -> None:
        found = select(listing(("cafe\u0301",), ("run",)), classes=("caf\u00e9",))
        assert found.label.class_names == ("cafe\u0301",)

    def test_other_labels_of_a_source_are_left_out(self) -> None:
        found = listing(("a", "b"), ("b",), ("c",), task="multilabel")
        found = select(found, classes=("a", "c"))
        assert [source.labels for source in found.sources] == [("a",), ("c",)]

    @pytest.mark.parametrize(
        ("typed", "hint"), [("Run", "did you mean run"), ("wakl", "did you mean walk"), ("x", "")]
    )
    def test_an_unknown_class_is_refused(self, typed, hint) -> None:
        with pytest.raises(UserError, match=rf"\('run', 'walk'\), got '{typed}'.*{hint}"):
            select(listing(("run",), ("walk",)), classes=(typed,))

    def test_a_name_with_a_comma_can_be_given_as_a_list(self) -> None:
        found = listing(("a,b",), ("c|d",))
        assert select(found, classes=("a,b", "c|d")).sources == found.sources
        with pytest.raises(UserError, match=r"of the input \('a,b', 'c\|d'\), got 'a'"):
            select(found, classes=("a", "b"))

    @given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 5))
    def test_at_most_so_many_per_class_whatever_the_order(self, labels, count) -> None:
        found = listing(*((name,) for name in labels))
        kept = select(found, max_per_class=count)
        counts = Counter(source.labels[0] for source in kept.sources)
        assert counts == {name: min(count, n) for name, n in Counter(labels).items()}
        shuffled = list(found.sources)
        random.Random(1).shuffle(shuffled)
        again = select(replace(found, sources=tuple(shuffled)), max_per_class=count)
        assert {source.id for source in again.sources} == {source.id for source in kept.sources}

    def test_another_seed_chooses_others_and_the_note_counts(self) -> None:
        found = listing(*[("a",)] * 40, ("b",))
        first, second = (select(found, max_per_class=5, seed=seed) for seed in (0, 1))
        assert first.sources != second.sources
        assert first.notes == (
            "35 sources of 1 classes were left out by --max_per_class 5, chosen by --seed 0",
        )

    def test_sources_without_one_class_are_refused(self) -> None:
        for options in ({"classes": ("a",)}, {"max_per_class": 1}):
            with pytest.raises(UserError, match="no source of this input has one"):
                select(listing((), ()), **options)
        with pytest.raises(UserError, match="needs sources of one class each"):
            select(listing(("a", "b"), task="multilabel"), max_per_class=1)
