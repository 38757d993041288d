"""Published splits as UCF101 and HMDB51 list them."""

from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.plan.descriptors import Listing, Source
from pipelines.sources import split_lists
from tfrecords_schema.spec import LabelSpec


def apply_split_lists(given: list[Source], lists: list[str]) -> tuple[list[Source], list[str]]:
    listing = Listing(name="in", sources=tuple(given), label=LabelSpec())
    found = split_lists.apply_split_lists(listing, lists)
    return list(found.sources), list(found.notes)


def sources(*paths: str, split: str | None = None) -> list[Source]:
    return [
        Source(id=path, path=f"/in/{path}", data_path=path, group=path, split=split)
        for path in paths
    ]


@pytest.fixture
def lists(tmp_path):
    """Writes a list and returns its path."""

    def write(name: str, text: str, encoding: str = "utf-8") -> str:
        (tmp_path / name).write_text(text, encoding=encoding)
        return str(tmp_path / name)

    return write


def split_of(found: list[Source]) -> dict[str, str | None]:
    return {source.id: source.split for source in found}


def test_without_lists_nothing_changes() -> None:
    given = sources("a.avi", split="train")
    assert apply_split_lists(given, []) == (given, [])


def test_ucf101_has_a_file_a_split(lists) -> None:
    train = lists("train.txt", "Archery/v_g08.avi 1\r\nArchery/v g09.avi 1\n\n")
    test = lists("test.txt", "Archery/v_g01.avi\nArchery/take 2\n")
    given = sources("Archery/v_g08.avi", "Archery/v g09.avi", "Archery/v_g01.avi", "Run/v_g08.avi")
    found, notes = apply_split_lists(given, [f"train={train}", f"test={test}"])
    assert split_of(found) == {
        "Archery/v_g08.avi": "train",
        "Archery/v g09.avi": "train",
        "Archery/v_g01.avi": "test",
        "Run/v_g08.avi": None,
    }
    assert notes == ["1 sources are in no split list and are split by --splits"]


def test_hmdb51_has_a_file_a_class_and_a_code_a_line(lists, tmp_path) -> None:
    lists("wave_test_split1.txt", "a.avi 1 \nb c.avi 2 \nd.avi 0 \n")
    lists("run_test_split1.txt", "e.avi 2\n")
    given = sources("wave/a.avi", "wave/b c.avi", "wave/d.avi", "run/e.avi")
    found, notes = apply_split_lists(given, [f"{tmp_path}/*_test_split1.txt"])
    assert split_of(found) == {"wave/a.avi": "train", "wave/b c.avi": "test", "run/e.avi": "test"}
    assert notes == ["1 sources that the split lists exclude were left out"]


def test_a_path_outweighs_a_name(lists) -> None:
    train, test = lists("train", "a.avi\n"), lists("test", "x/a.avi\n")
    found, _ = apply_split_lists(sources("x/a.avi", "y/a.avi"), [f"train={train}", f"test={test}"])
    assert split_of(found) == {"x/a.avi": "test", "y/a.avi": "train"}


def test_a_manifest_that_names_splits_too_is_refused(lists) -> None:
    with pytest.raises(UserError, match=r"both name the split of 'a\.avi'\. Use one"):
        apply_split_lists(sources("a.avi", split="train"), [f"test={lists('l', 'a.avi')}"])


def test_lists_that_exclude_everything_are_refused(lists) -> None:
    with pytest.raises(UserError, match="exclude all 1"):
        apply_split_lists(sources("a.avi"), [lists("codes", "a.avi 0")])


def test_a_byte_order_mark_is_no_part_of_the_first_name(lists) -> None:
    file = lists("train", "a.avi 1\n", encoding="utf-8-sig")
    assert split_of(apply_split_lists(sources("a.avi"), [f"train={file}"])[0]) == {"a.avi": "train"}


def test_a_video_in_two_splits_is_refused(lists) -> None:
    train, test = lists("train", "a.avi\n"), lists("test", "a.avi\n")
    with pytest.raises(
        UserError, match=r"/test: .* one split, but 'a.avi' is listed as train and as test"
    ):
        apply_split_lists(sources("a.avi"), [f"train={train}", f"test={test}"])
    codes = lists("codes", "a.avi 0\na.avi 1\n")
    with pytest.raises(UserError, match=r"'a.avi' is listed as left out \(0\) and as train"):
        apply_split_lists(sources("a.avi"), [codes])


def test_a_video_may_be_listed_twice_in_one_split(lists) -> None:
    file = lists("train", "a.avi\na.avi\n")
    assert split_of(apply_split_lists(sources("a.avi"), [f"train={file}"])[0]) == {"a.avi": "train"}


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "a.avi train", "1"])
def test_a_line_that_is_not_hmdb51_s_is_named(lists, line) -> None:
    with pytest.raises(UserError, match=r"/codes line 3: expected a video and 0, 1 or 2"):
        apply_split_lists(sources("a.avi"), [lists("codes", f"b.avi 1\n\n{line}\n")])


def test_lists_that_name_no_video_of_the_input_are_refused(lists) -> None:
    with pytest.raises(UserError, match=r"none of their 1 videos is there, for example 'x/b.avi'"):
        apply_split_lists(sources("a.avi"), [f"train={lists('train', 'x/b.avi')}"])
    with pytest.raises(UserError, match="these split lists are empty"):
        apply_split_lists(sources("a.avi"), [f"train={lists('train', ' ')}"])


def test_lists_that_only_exclude_are_heeded(lists) -> None:
    found, notes = apply_split_lists(sources("a.avi", "b.avi"), [lists("codes", "a.avi 0\n")])
    assert split_of(found) == {"b.avi": None}
    assert len(notes) == 2


@pytest.mark.parametrize("name", ["", "Train", "../x", "a b", "9"])
def test_a_name_that_cannot_be_a_split_s_is_refused(lists, name) -> None:
    with pytest.raises(UserError, match="takes a name of small letters"):
        apply_split_lists(sources("a.avi"), [f"{name}={lists('l', 'a.avi')}"])


def test_a_list_that_cannot_be_read_is_named(lists, tmp_path) -> None:
    with pytest.raises(UserError, match=r"must name a local file, but there is none at .*/none"):
        apply_split_lists(sources("a.avi"), [f"train={tmp_path}/none"])
    (tmp_path / "latin").write_bytes(b"caf\xe9.avi 1\n")
    with pytest.raises(UserError, match=r"/latin could not be read"):
        apply_split_lists(sources("a.avi"), [f"train={tmp_path}/latin"])
