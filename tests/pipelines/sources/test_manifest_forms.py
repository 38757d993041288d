"""Manifests in the forms that spreadsheets, pandas and people write."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions
from pipelines.plan.descriptors import FrameSpan, Listing
from pipelines.sources.manifest import list_manifest
from pipelines.sources.manifest_table import find_columns

ROWS = [("sub/a.avi", ("run",), 1.5, 4.0, "train"), ("sub/b.avi", ("walk",), None, None, "test")]


@pytest.fixture
def manifest(tmp_path):
    """Lists a manifest with this content, next to the videos sub/a.avi and sub/b.avi."""
    (tmp_path / "sub").mkdir()
    for name in "ab":
        (tmp_path / f"sub/{name}.avi").write_bytes(b"x")

    def make(content: object, name: str = "clips.csv", **options: Any) -> Listing:
        if not isinstance(content, (bytes, str)):
            content = json.dumps(content, indent=1)
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        labels = LabelOptions(label_columns=options.pop("label_columns", ()))
        return list_manifest(str(tmp_path / name), labels, **options)

    return make


def rows(listing: Listing) -> list[tuple[Any, ...]]:
    return [(s.data_path, s.labels, s.start, s.end, s.split) for s in listing.sources]


SEMICOLONS = "path;label;start;end;split\nsub/a.avi;run;1,5;4;train\nsub/b.avi;walk;;;test\n"
TAKEN = "columns of the manifest are taken: "


class TestCsv:
    @pytest.mark.parametrize(
        ("content", "name", "notes"),
        [
            (
                SEMICOLONS,
                "clips.csv",
                [
                    "the columns of the manifest are separated by ';'",
                    "numbers such as '1,5' have a decimal comma",
                ],
            ),
            (b"\xef\xbb\xbfsep=;\r\n" + SEMICOLONS.replace("\n", "\r\n").encode(), "c.csv", 2),
            ("sep=|\n" + SEMICOLONS.replace(";", "|"), "c.csv", 2),
            (SEMICOLONS.replace(";", "\t").encode("utf-16"), "clips.txt", 2),
            (SEMICOLONS.replace(";", "\t").replace(",", "."), "clips.tsv", []),
            (SEMICOLONS.replace(",", ".").replace(";", ",").replace("\n", "\r"), "c.csv", []),
            (SEMICOLONS.replace(";", "|").replace(",", "."), "c.csv", 1),
            (
                ",Path,Label,Start Time,end-time,Subset\n0,sub/a.avi,run,00:00:01.5,0:04,TRAIN\n"
                "1,sub/b.avi,walk,,,Testing\n,,,,,\n",
                "c.csv",
                [
                    f"{TAKEN}'Path' as path, 'Start Time' as start, 'end-time' as end, "
                    "'Subset' as split, 'Label' as label",
                    "times such as '0:04' are minutes and seconds",
                    "the split 'TRAIN' is taken as 'train'",
                    "the split 'Testing' is taken as 'test'",
                ],
            ),
            (
                "video,class,start_ms,duration_ms,set\nsub\\a.avi,run,1500,2500,training\n"
                "sub\\b.avi ,walk,,,test\n",
                "c.csv",
                [
                    f"{TAKEN}'video' as path, 'start_ms' as start, 'duration_ms' as duration, "
                    "'set' as split, 'class' as label",
                    "paths such as 'sub\\\\a.avi' are taken as 'sub/a.avi'",
                    "the split 'training' is taken as 'train'",
                ],
            ),
        ],
    )
    def test_forms_give_the_same_clips_and_say_how_they_were_read(
        self, manifest, content, name, notes
    ) -> None:
        found = manifest(content, name)
        assert rows(found) == ROWS
        assert (len(found.notes) if isinstance(notes, int) else list(found.notes)) == notes

    def test_names_of_columns_need_no_separators(self, manifest) -> None:
        found = manifest(
            "fileName,ClassName,startTime,End (ms)\nsub/a.avi,run,1.5,4000\nsub/b.avi,walk,,\n"
        )
        assert [row[:4] for row in rows(found)] == [row[:4] for row in ROWS]
        taken = "'fileName' as path, 'startTime' as start, 'End (ms)' as end, 'ClassName' as label"
        assert found.notes == (TAKEN + taken,)

    def test_names_that_only_begin_as_a_time_are_not_used(self, manifest) -> None:
        found = manifest("path,label,stop_sign,endorsed\nsub/a.avi,run,1,2\n")
        assert found.notes == (
            "columns of the manifest that are not used: 'endorsed', 'stop_sign'",
        )

    def test_text_stays_text(self, manifest) -> None:
        found = manifest("path,label\nsub/a.avi,007\nsub/b.avi,7\n")
        assert found.label.class_names == ("007", "7")

    def test_lists_that_pandas_writes_are_labels(self, manifest) -> None:
        found = manifest("path,label\nsub/a.avi,\"['run', 'walk']\"\nsub/b.avi,[]\n")
        assert found.label.task == "multilabel"
        assert [s.labels for s in found.sources] == [("run", "walk"), ()]

    def test_marks_that_others_use_between_labels_are_noted(self, manifest) -> None:
        found = manifest("path,label\nsub/a.avi,run;walk\nsub/b.avi,nan\n")
        assert found.label.class_names == ("nan", "run;walk")
        (note,) = found.notes
        assert note.startswith("classes are taken as written: 'nan', 'run;walk'. Several classes")

    def test_duration_without_start_or_beside_end_is_not_used(self, manifest) -> None:
        found = manifest("path,label,duration\nsub/a.avi,run,9\n")
        assert rows(found) == [("sub/a.avi", ("run",), None, None, None)]
        assert found.notes == ("columns of the manifest that are not used: 'duration'",)
        found = manifest("path,label,start,end,duration\nsub/a.avi,run,0.1,0.3,9\n")
        assert rows(found)[0][2:4] == (0.1, 0.3)
        found = manifest("path,label,start,duration\nsub/a.avi,run,0.1,0.2\n")
        assert found.sources[0].id == "sub/a.avi#t=0.1,0.3"

    @pytest.mark.parametrize(
        ("names", "cells", "span", "note"),
        [
            ("start_frame,end_frame", "2,9", (2, 9), "'end_frame' is the first frame after a clip"),
            ("first_frame,last_frame", "2,9", (2, 10), "'last_frame' is the last frame of a clip"),
            ("Start Frame,duration_frames", "2,9", (2, 11), "is the first frame after a clip"),
            ("start_frame,end_frame", ",9", (0, 9), "frames count from 0"),
            ("start_frame,end_frame", ",", None, "frames count from 0"),
        ],
    )
    def test_spans_in_frames(self, manifest, names, cells, span, note) -> None:
        found = manifest(f"path,label,{names}\nsub/a.avi,x,{cells}\n")
        source = found.sources[0]
        assert (source.start, source.end) == (None, None)
        assert source.frame_span == (span and FrameSpan(first=span[0], stop=span[1]))
        first = cells.split(",")[0]
        assert source.id == (f"sub/a.avi#t=frame:{first},{span[1]}" if span else "sub/a.avi")
        assert any(note in line for line in found.notes)

    def test_a_name_with_backslashes_is_found(self, manifest, tmp_path) -> None:
        (tmp_path / "sub\\a.avi").write_bytes(b"")
        found = manifest("path,label\nsub\\a.avi,run\n")
        assert found.sources[0].data_path == "sub\\a.avi"
        assert found.notes == ()

    def test_predict_needs_no_label(self, manifest) -> None:
        found = manifest("Video;class;category\nsub/a.avi;x;y\n", labelled=False)
        assert [s.data_path for s in found.sources] == ["sub/a.avi"]
        assert f"{TAKEN}'Video' as path" in found.notes

    def test_decimal_commas_of_targets(self, manifest) -> None:
        found = manifest("path;speed\nsub/a.avi;-1,25\n", label_columns=("speed",))
        assert found.sources[0].values == (-1.25,)


OBJECTS = (
    {"path": "sub/a.avi", "label": "run", "start": 1.5, "end": "00:04", "split": "Train"},
    {"path": "sub/b.avi", "label": "walk", "split": "TEST"},
)


class TestJson:
    @pytest.mark.parametrize("indent", [None, 1])
    def test_arrays(self, manifest, indent) -> None:
        text = " \n" + json.dumps(OBJECTS, indent=indent)
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            assert rows(manifest(text.encode(encoding), "c.json")) == ROWS

    @pytest.mark.parametrize(
        ("labels", "task", "classes"),
        [
            ([1, "1"], "classification", [("1",), ("1",)]),
            ([True, 2.0], "classification", [("true",), ("2",)]),
            ([["run", "walk"], []], "multilabel", [("run", "walk"), ()]),
            ([[3], ["a|b"]], "classification", [("3",), ("a|b",)]),
        ],
    )
    def test_labels(self, manifest, labels, task, classes) -> None:
        listed = [
            {"path": f"sub/{name}.avi", "labels": label, "group": 7}
            for name, label in zip("ab", labels, strict=True)
        ]
        found = manifest(listed, "c.json")
        assert found.label.task == task
        assert [s.labels for s in found.sources] == classes
        assert {s.group for s in found.sources} == {"7"}


class TestErrors:
    @pytest.mark.parametrize(
        ("content", "name", "parts"),
        [
            ("a.avi;run\n", "c.csv", ["line 1", "'a.avi', 'run'", "'path,label' and below"]),
            ("Archery/v_g08.avi 1\n", "c.txt", ["line 1", "one of them 'path'"]),
            ("file,video,label\nx,y,z\n", "c.csv", ["'file' and 'video'", "right one to 'path'"]),
            ("path,class,action\nx,y,z\n", "c.csv", ["'class' and 'action'", "one to 'label'"]),
            ("path,label,start_time,begin\na,b,1,1\n", "c.csv", ["'start_time' and 'begin'"]),
            (
                "path,label,start_hour\nsub/a.avi,x,1\n",
                "c.csv",
                ["'start_hour' may hold the start"],
            ),
            (
                "path,label\nC:\\clips\\a.avi,x\n",
                "c.csv",
                ["line 2", "'C:\\\\clips", "clips/a.avi"],
            ),
            ("path,label\nD:/a.avi,x\n", "c.csv", ["line 2", "'D:/a.avi' of another one"]),
            ("path,label\n\\\\nas\\a.avi,x\n", "c.csv", ["line 2", "of another one"]),
            ("path,label,start\nsub/a.avi,run,1,5\n", "c.csv", ["line 2", "holds ','"]),
            ('path,label,start\nsub/a.avi,run,"1,5"\n', "c.csv", ["line 2", "got '1,5'"]),
            (
                "path;label;start;end\nsub/a.avi;x;1,5;1.900\n",
                "c.csv",
                ["line 2", "'1,5' and '1.900'"],
            ),
            ("path,label,start\nsub/a.avi,run,00:00:01:12\n", "c.csv", ["hh:mm:ss"]),
            ("path,label,start\nsub/a.avi,run,1:75\n", "c.csv", ["hh:mm:ss", "'1:75'"]),
            (f"path,label,start\nsub/a.avi,x,{'9' * 5000}:00\n", "c.csv", ["line 2", "hh:mm:ss"]),
            ('sep="\npath"label\n', "c.csv", ["line 1", "one of them 'path'"]),
            ("path,label,start\nsub/a.avi,run,1_0\n", "c.csv", ["'1_0'"]),
            (b"path,label\nsub/a.avi,caf\xe9\n", "c.csv", ["line 2", "0xe9", "UTF-8"]),
            (b"\xff\xfep\x00\n", "c.csv", ["line 1", "UTF-16"]),
            ("path,label,start,end_frame\nsub/a.avi,x,1,9\n", "c.csv", ["'end_frame' mix both"]),
            ("path,label,end_frame\nsub/a.avi,x,1.5\n", "c.csv", ["line 2", "number of a frame"]),
            ("path,label,start_frame,end_frame\nsub/a.avi,x,9,9\n", "c.csv", ["end in frames"]),
            ({"clips": [{"path": "a"}]}, "c.json", ["or in an array", '"path": "clips/a.mp4"']),
            ('{"a.avi": {"label": "x"}}', "c.json", ["line 1", "one of them 'path'", "'a.avi'"]),
            ([{"path": "a"}, 3], "c.json", ["index 1", "expected a JSON object, got 3"]),
            ([{"label": "run"}], "c.json", ["index 0", "one of them 'path'", "'label'"]),
        ],
    )
    def test_one_sentence_says_what_to_do(self, manifest, content, name, parts) -> None:
        with pytest.raises(UserError) as caught:
            manifest(content, name)
        message = str(caught.value)
        assert [part for part in parts if part not in message] == [], message
        assert "\n" not in message

    def test_renaming_the_right_column_chooses_it(self, manifest) -> None:
        found = manifest("file,path,label,class\nx,sub/a.avi,run,y\n")
        assert rows(found) == [("sub/a.avi", ("run",), None, None, None)]
        assert found.notes == ("columns of the manifest that are not used: 'class', 'file'",)


def test_objects_with_keys_of_their_own_take_linear_memory(manifest) -> None:
    listed = [{"path": f"{n}.avi", "label": "x", f"key {n}": n} for n in range(3000)]
    tracemalloc.start()
    try:
        found = manifest(listed, "c.json")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.failures) == 3000
    assert peak < 12e6


def test_find_columns_leaves_targets_alone() -> None:
    found = find_columns("x", ["path", "stop", "end"], ["path", "start", "end"], ["stop", "end"])
    assert found == {"path": "path", "end": "end"}


text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n|"), min_size=1, max_size=9)
words = text.map(str.strip).filter(lambda word: word and not word.startswith("["))


@st.composite
def tables(draw: Any) -> tuple[list[tuple[Any, ...]], bytes, str]:
    """Returns clips, the same as bytes of a CSV file in some dialect, and the file's extension."""
    spans = st.none() | st.tuples(st.integers(0, 50), st.integers(51, 9999)).map(
        lambda span: (span[0] / 8, span[1] / 8)
    )
    splits = st.sampled_from([None, "train", "validation", "test"])
    labels = st.lists(words, min_size=1, max_size=2, unique=True).map(
        lambda names: tuple(sorted(names))
    )
    clips = draw(st.lists(st.tuples(labels, spans, splits), min_size=1, max_size=4))
    mark = draw(st.sampled_from(",;\t|"))
    comma = mark != "," and draw(st.booleans())
    names = draw(
        st.sampled_from(["path label start end split", "Video Class begin stop Subset"])
    ).split()
    index = draw(st.booleans())
    file = io.StringIO()
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    if draw(st.booleans()) and mark != "|":
        file.write(f"sep={mark}{end}")
    writer = csv.writer(file, delimiter=mark, lineterminator=end, quoting=quoting)
    writer.writerow(["", *names] if index else names)
    expected = []
    for number, (classes, span, split) in enumerate(clips):
        times = (
            ["", ""] if span is None else [str(t).replace(".", "," if comma else ".") for t in span]
        )
        row = [f"{number}.mp4", "|".join(classes), *times, split or ""]
        writer.writerow([number, *row] if index else row)
        expected.append((f"{number}.mp4", classes, *(span or (None, None)), split))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return expected, file.getvalue().encode(encoding), draw(st.sampled_from(["csv", "tsv", "txt"]))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tables")
    for number in range(4):
        (directory / f"{number}.mp4").write_bytes(b"")
    return directory


@given(table=tables())
def test_tables_in_any_dialect_are_read_back(directory, table) -> None:
    expected, data, extension = table
    path = directory / f"t.{extension}"
    path.write_bytes(data)
    assert rows(list_manifest(str(path), LabelOptions())) == expected
