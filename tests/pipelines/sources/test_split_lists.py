"""Published splits as UCF101 and HMDB51 list them."""

from __future__ import annotations

from dataclasses import replace

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
    assert notes == ["1 of the 4 videos in the split lists are not in the input: 'Archery/take 2'"]


def test_hmdb51_has_a_file_a_class_and_a_code_a_line(lists, tmp_path) -> None:
    lists("wave_test_split1.txt", "a.avi 1 \nb c.avi 2 \nd.avi 0 \n")
    lists("run_test_split1.txt", "e.avi 2\n")
    given = sources("wave/a.avi", "wave/b c.avi", "wave/d.avi", "run/e.avi")
    found, notes = apply_split_lists(given, [f"{tmp_path}/*_test_split1.txt"])
    assert split_of(found) == {"wave/a.avi": "train", "wave/b c.avi": "test", "run/e.avi": "test"}
    assert notes == ["1 sources that the split lists exclude (0) were left out: 'wave/d.avi'"]


def test_hmdb51_list_stays_within_its_class(lists, tmp_path) -> None:
    lists("wave_test_split1.txt", "a.avi 1\nb.avi 2\nc.avi 2\n")
    lists("run_test_split1.txt", "a.avi 2\n")
    lists("sit_test_split1.txt", "b.avi 1\n")  # a class that the input lacks
    given = sources("wave/a.avi", "wave/b.avi", "run/a.avi", "run/b.avi", "run/c.avi")
    found, notes = apply_split_lists(given, [f"{tmp_path}/*_test_split1.txt"])
    assert split_of(found) == {
        "wave/a.avi": "train",
        "wave/b.avi": "test",
        "run/a.avi": "test",
        "run/b.avi": None,
        "run/c.avi": None,
    }
    assert notes == [
        "2 of the 5 videos in the split lists are not in the input: 'sit/b.avi', 'wave/c.avi'"
    ]


def test_hmdb51_class_may_be_a_label(lists, tmp_path) -> None:
    lists("wave_test_split1.txt", "a.avi 1\n")
    given = [
        replace(s, labels=("wave" if "x" in s.id else "run",))
        for s in sources("x/a.mp4", "y/a.mp4")
    ]
    found, _ = apply_split_lists(given, [f"{tmp_path}/wave_test_split1.txt"])
    assert split_of(found) == {"x/a.mp4": "train", "y/a.mp4": None}


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("Archery/v_g08.avi 1", "Archery/v_g08.mp4"),  # converted
        ("Archery/v_g08.avi", "Archery/v_g08"),  # a folder of frames
        ("Archery/v_g08 250 3", "Archery/v_g08"),  # frames and class, as for folders of frames
        ("air drumming/-x_1_000011", "air drumming/-x_1_000011.mp4"),  # Kinetics
        ("-x_1_000011 17", "air drumming/-x_1_000011.mp4"),
        ("Archery\\v_g08.avi 1", "Archery/v_g08.avi"),
        ("Archery/v_g08.avi\t1", "Archery/v_g08.avi"),
        ("Archery/v_g08.avi,1,Archery", "Archery/v_g08.avi"),
        ("Archery;Archery/v_g08.avi", "Archery/v_g08.mp4"),
        ('"Archery/v g08, 2.avi",1', "Archery/v g08, 2.avi"),
        ("Archery/v_g08,2.avi 1", "Archery/v_g08,2.avi"),
        ("Archery/take 2", "Archery/take 2.mp4"),
        ("./Archery/v_g08.avi", "Archery/v_g08.avi"),
        ("../UCF-101/Archery/v_g08.avi", "Archery/v_g08.avi"),
        ("UCF-101/Archery/v_g08.avi 1", "Archery/v_g08.mp4"),
        ("/home/a/UCF-101/Archery/v_g08.avi", "Archery/v_g08.avi"),
        ("C:\\UCF-101\\Archery\\v_g08.avi", "Archery/v_g08.avi"),
        ("Archery/v_g08.avi", "videos/Archery/v_g08.avi"),
        ("caf\u00e9/a.avi", "cafe\u0301/a.avi"),
    ],
)
def test_listed_path_is_read_as_people_write_it(lists, line, path) -> None:
    for head in ("", "path,label\n", "video\n"):
        file = lists("list", f"{head}{line}\n")
        found, notes = apply_split_lists(sources(path, "other/b.avi"), [f"val={file}"])
        assert split_of(found) == {path: "validation", "other/b.avi": None}
        assert notes == []


def test_listed_path_outweighs_its_other_readings(lists) -> None:
    file = lists("list", "run/a.avi\nrun/b.avi\n")
    given = sources("run/a.avi", "run/a.mp4", "x/run/b.avi", "run/b.mov", "b.avi")
    found, _ = apply_split_lists(given, [f"test={file}"])
    assert {name for name, split in split_of(found).items() if split} == {"run/a.avi", "run/b.mov"}


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("a.avi", ("x/a.avi", "y/a.avi")),
        ("x/a.avi", ("x/a.mp4", "x/a.mov")),
        ("x/take 2", ("x/take.mp4", "x/take 2.mp4")),
    ],
)
def test_listed_name_of_several_sources_is_refused(lists, line, paths) -> None:
    with pytest.raises(
        UserError, match=r"/list line 1: expected .* to mean one source, but"
    ) as error:
        apply_split_lists(sources(*paths), [f"test={lists('list', line)}"])
    assert all(path in str(error.value) for path in paths)


def test_clips_of_a_listed_file_are_listed(lists) -> None:
    given = [replace(s, id=f"{s.id}#t={i}") for i, s in enumerate(sources("a.mp4", "a.mp4"))]
    found, _ = apply_split_lists(given, [f"test={lists('list', 'a.avi')}"])
    assert [source.split for source in found] == ["test", "test"]


def test_file_outside_folders_is_not_that_of_another_class(lists) -> None:
    given = [replace(source, labels=("run",)) for source in sources("a.avi", "b.avi")]
    file = lists("list", "walk/a.avi\nrun/b.avi\n")
    found, notes = apply_split_lists(given, [f"test={file}"])
    assert split_of(found) == {"a.avi": None, "b.avi": "test"}
    assert "'walk/a.avi'" in notes[0]


@pytest.mark.parametrize(
    ("name", "text", "item", "words"),
    [
        ("l", "run/a.avi,test\n", "train={}", "line 1: expected a video in train, such as 'Arch"),
        (
            "l",
            "path,split\nrun/a.avi,test\n",
            "train={}",
            "has a column 'split'. Give the file as --input",
        ),
        ("run_test_split1.txt", "a.avi 1\nb.avi 2\n", "train={}", "it is HMDB51's.* without NAME="),
        ("l", "run/a.avi 1\nrun/b.avi 1\nwalk/a.avi 2\n", "{}", "may be that of its class"),
        ("l", "a.avi\n", "{}", "such as 'a.avi 1', got 'a.avi'"),
        ("l", '{"path": "run/a.avi"}\n', "test={}", r"such as 'run/a.avi', but none .*l line 1\)"),
    ],
)
def test_list_of_another_format_is_refused(lists, name, text, item, words) -> None:
    with pytest.raises(UserError, match=words):
        apply_split_lists(
            sources("run/a.avi", "run/b.avi", "walk/a.avi"), [item.format(lists(name, text))]
        )


def test_split_whose_list_names_no_source_is_refused(lists) -> None:
    train, test = lists("train", "run/a.avi\n"), lists("test", "x/b.avi\n")
    with pytest.raises(UserError, match=r"none of its videos is there, .*'x/b.avi'.*/test line 1"):
        apply_split_lists(sources("run/a.avi"), [f"train={train}", f"test={test}"])


def test_deep_and_long_lines_take_no_time(lists) -> None:
    deep = "/".join("a" * 50_000) + ".avi"
    file = lists("list", f"{deep}\n{'1 ' * 50_000}x\n{'a, ' * 50_000}\nrun/a.avi\n")
    assert apply_split_lists(sources("run/a.avi"), [f"test={file}"])[0][0].split == "test"


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
    train, test = lists("train", "a.avi\n"), lists("test", "a\n")
    with pytest.raises(
        UserError,
        match=r"/test line 1: .* 'a.avi' is listed as train \(.*/train\) and as test",
    ):
        apply_split_lists(sources("a.avi"), [f"train={train}", f"test={test}"])
    codes = lists("codes", "a.avi 0\na.avi 1\n")
    with pytest.raises(UserError, match=r"is listed as left out \(0\) \(.*\) and as train"):
        apply_split_lists(sources("a.avi"), [codes])


def test_a_video_may_be_listed_twice_in_one_split(lists) -> None:
    file = lists("train", "a.avi\na.avi\n")
    assert split_of(apply_split_lists(sources("a.avi"), [f"train={file}"])[0]) == {"a.avi": "train"}


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "a.avi train", "1"])
def test_a_line_that_is_not_hmdb51_s_is_named(lists, line) -> None:
    with pytest.raises(UserError, match=r"/codes line 3: expected a video and 0, 1 or 2"):
        apply_split_lists(sources("a.avi"), [lists("codes", f"b.avi 1\n\n{line}\n")])


def test_lists_that_name_no_video_of_the_input_are_refused(lists) -> None:
    with pytest.raises(UserError, match=r"none of its videos is there, for example 'x/b.avi'"):
        apply_split_lists(sources("a.avi"), [f"train={lists('train', 'x/b.avi')}"])
    with pytest.raises(UserError, match="this split list is empty"):
        apply_split_lists(sources("a.avi"), [f"train={lists('train', ' ')}"])


def test_lists_that_only_exclude_are_heeded(lists) -> None:
    found, notes = apply_split_lists(sources("a.avi", "b.avi"), [lists("codes", "a.avi 0\n")])
    assert split_of(found) == {"b.avi": None}
    assert len(notes) == 1


@pytest.mark.parametrize("name", ["", "Fit", "../x", "a b", "9"])
def test_a_name_that_cannot_be_a_split_s_is_refused(lists, name) -> None:
    with pytest.raises(UserError, match="takes a name of small letters"):
        apply_split_lists(sources("a.avi"), [f"{name}={lists('l', 'a.avi')}"])


def test_a_list_that_cannot_be_read_is_named(lists, tmp_path) -> None:
    with pytest.raises(UserError, match=r"must name a local file, but there is none at .*/none"):
        apply_split_lists(sources("a.avi"), [f"train={tmp_path}/none"])
    (tmp_path / "latin").write_bytes(b"caf\xe9.avi 1\n")
    with pytest.raises(UserError, match=r"/latin could not be read"):
        apply_split_lists(sources("a.avi"), [f"train={tmp_path}/latin"])
