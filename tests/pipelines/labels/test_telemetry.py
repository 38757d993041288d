"""Telemetry from CSV, JSON, text and NumPy files: what is read, and what is said of what cannot be."""

from __future__ import annotations

import json
import math
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.labels.cells import CellError, TimeParser, parse_class, parse_number
from pipelines.labels.rows import Telemetry, _longest_rise
from pipelines.labels.telemetry import EXTENSIONS, TelemetryError, read_telemetry
from pipelines.options.telemetry import TelemetryOptions

NAN = math.nan


def options(**changes: Any) -> TelemetryOptions:
    return TelemetryOptions(telemetry="{stem}.csv", **changes)


TIMED = options(time_column="t")
BY_ROW = options()


@pytest.fixture
def read(tmp_path):
    """Reads a file of this content; wants the column ``speed`` unless told otherwise."""

    def make(
        content: str | bytes,
        *,
        name: str = "a.csv",
        given: TelemetryOptions = TIMED,
        columns: tuple[str, ...] = ("speed",),
        class_column: str | None = None,
    ) -> Telemetry:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_telemetry(str(path), name, given, columns=columns, class_column=class_column)

    return make


@pytest.fixture
def error(read):
    """The message for a file that cannot be read, which is one line."""

    def make(content: str | bytes, **how: Any) -> str:
        with pytest.raises(TelemetryError) as caught:
            read(content, **how)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return make


def save(tmp_path: Path, values: object, name: str = "a.npy") -> bytes:
    np.save(tmp_path / name, values)
    return (tmp_path / name).read_bytes()


def same(found: Telemetry, times: list[float] | None, **columns: list[float]) -> None:
    if times is None:
        assert found.times is None
    else:
        assert found.times is not None
        assert found.times.dtype == np.float64
        assert found.times.tolist() == times
    assert list(found.columns) == list(columns)
    for name, values in columns.items():
        assert found.columns[name].dtype == np.float64
        np.testing.assert_array_equal(found.columns[name], values)


class TestCsv:
    def test_returns_requested_columns(self, read) -> None:
        found = read("t, note ,speed\n0,fast!,1.5\n0.5,,2\n", columns=("speed",))
        same(found, [0.0, 0.5], speed=[1.5, 2.0])
        assert (found.dates, found.classes, found.merged_rows) == (False, (), 0)

    @pytest.mark.parametrize(
        "text",
        [
            "t,speed\r\n0,1.5\r\n1,2\r\n",
            "\ufefft,speed\n0,1.5\n1,2\n",
            "t;speed\n0;1.5\n1;2\n",
            "t\tspeed\n0\t1.5\n1\t2\n",
            '"t", "speed"\n"0", "1.5"\n1,2',
            "\n\nt,speed\n\n0,1.5\n1,2\n\n,\n",
            "t,speed,\n0,1.5,\n1,2,\n",
            '"a;b",t,speed\n,0,1.5\nx,1,2\n',
        ],
        ids=["DOS", "BOM", "semicolons", "tabs", "quoted", "blank lines", "last comma", "quoted ;"],
    )
    def test_ways_of_writing(self, read, text) -> None:
        same(read(text), [0.0, 1.0], speed=[1.5, 2.0])

    @pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.tsv"])
    def test_extensions(self, read, name) -> None:
        same(read("t\tspeed\n0\t1\n", name=name), [0.0], speed=[1.0])

    @pytest.mark.parametrize("text", ["", "nan", "NaN", "null", "None", "NA", "n/a", "-", "  "])
    def test_empty_cells_have_no_value(self, read, text) -> None:
        same(read(f"t,speed\n0,{text}\n1,2\n"), [0.0, 1.0], speed=[NAN, 2.0])

    def test_without_a_header(self, read) -> None:
        named = options(time_column="t", telemetry_columns=("t", "x", "speed"))
        same(read("0,a,1\n1,b,2\n", given=named), [0.0, 1.0], speed=[1.0, 2.0])

    def test_given_names_match_header(self, read) -> None:
        named = options(time_column="t", telemetry_columns=("t", "speed"))
        same(read("speed,t\n1,0\n2,1\n", given=named), [0.0, 1.0], speed=[1.0, 2.0])

    def test_single_column_without_header_is_the_requested_one(self, read) -> None:
        same(read("1\n2\n", given=BY_ROW), None, speed=[1.0, 2.0])

    def test_rows_without_times(self, read) -> None:
        found = read('speed\n1\n""\n3\n\n\n', given=BY_ROW)
        same(found, None, speed=[1.0, NAN, 3.0])
        same(read("a,speed\n,1\n,\n,3\n", given=BY_ROW), None, speed=[1.0, NAN, 3.0])

    def test_time_units(self, read) -> None:
        text = "t,speed\n1001,1\n2003,2\n"
        same(
            read(text, given=options(time_column="t", time_unit="ms")), [1.001, 2.003], speed=[1, 2]
        )
        microseconds = options(time_column="t", time_unit="us")
        same(read(text, given=microseconds), [0.001001, 0.002003], speed=[1, 2])

    def test_time_column_may_be_a_signal(self, read) -> None:
        found = read("t,speed\n0,1\n500,2\n", columns=("speed", "t", "speed"))
        same(found, [0.0, 500.0], speed=[1.0, 2.0], t=[0.0, 500.0])

    def test_classes(self, read) -> None:
        found = read("t,turn\n0, left\n1,\n2,none\n3,2\n4,n/a\n", columns=(), class_column="turn")
        assert found.classes == ("left", None, "none", "2", None)
        assert found.columns == {}

    @given(
        rows=st.lists(
            st.tuples(
                st.floats(-1e6, 1e6),
                st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
            ),
            min_size=1,
            max_size=20,
            unique_by=lambda row: row[0],
        ).filter(lambda rows: any(value is not None for _, value in rows))
    )
    def test_read_telemetry_inverts_writing(self, tmp_path_factory, rows) -> None:
        rows = sorted(rows, key=lambda row: row[0])
        folder = tmp_path_factory.mktemp("written")
        text = "".join(f"{t!r},{'' if v is None else repr(v)}\n" for t, v in rows)
        (folder / "a.csv").write_text("t,speed\n" + text)
        objects = [{"t": t} | ({} if v is None else {"speed": v}) for t, v in rows]
        (folder / "a.jsonl").write_text("\n".join(map(json.dumps, objects)))
        (folder / "a.json").write_text(json.dumps(objects))
        values = [NAN if v is None else v for _, v in rows]
        pairs = list(zip([t for t, _ in rows], values, strict=True))
        np.save(folder / "a.npy", np.array(pairs, [("t", "f8"), ("speed", "f8")]))
        np.save(folder / "b.npy", np.array(pairs))
        (folder / "a.txt").write_text("".join(f"{t!r}  {v!r}\n" for t, v in pairs))
        for name in ("a.csv", "a.jsonl", "a.json", "a.npy", "b.npy", "a.txt"):
            headless = ("t", "speed") if name in ("b.npy", "a.txt") else ()
            given = options(time_column="t", telemetry_columns=headless)
            found = read_telemetry(str(folder / name), name, given, columns=["speed"])
            same(found, [t for t, _ in rows], speed=values)


class TestForeignTables:
    GOOD = "0,1\n1,2\n2,3\n3,4\n"

    @pytest.mark.parametrize(
        ("text", "changes"),
        [
            ("t;speed\n0;1,0\n1;2,0\n2;3,0\n3;4,0\n", {"decimal_mark": "comma"}),
            ('speed;t\n"1,0";"0,0"\n2;1\n3;2\n4;3\n', {"decimal_mark": "comma"}),
            (f"t,speed\n{GOOD}".encode("utf-16-le"), {}),
            (f"t,speed\n{GOOD}".encode("utf-16-be"), {}),
            (f"Device: X, 1;2\nOwner\n\nt,speed\n{GOOD}", {}),
            (f"# logger 3\n# t,speed\n{GOOD}", {}),
            ("t,speed,x (m/s; GPS)\n0,1,\n1,2,\n2,3,\n3,4,\n", {}),
            ("t,speed\n095958.5,1\n095959.5,2\n100000.5,3\n100001.5,4\n", {"time_unit": "hhmmss"}),
            ("t,speed\n23:59:58,1\n23:59:59,2\n0:00:00,3\n0:00:01,4\n", {"time_unit": "hhmmss"}),
        ],
    )
    def test_ways_of_writing(self, read, text, changes) -> None:
        found = read(text, given=options(time_column="t", **changes))
        assert (found.times - found.times[0]).tolist() == [0.0, 1.0, 2.0, 3.0]
        assert found.columns["speed"].tolist() == [1.0, 2.0, 3.0, 4.0]

    @pytest.mark.parametrize(
        ("bad", "reason", "place"),
        [
            ("s,m/s\n", "cannot be read", "line 2, column 't'"),
            ("# kept\n", "cannot be read", "line 2: expected 2 columns"),
            ("0.5,1,7\n", "cannot be read", "line 2: expected 2 columns"),
        ],
    )
    def test_bad_rows_cost_themselves(self, read, bad, reason, place) -> None:
        found = read(f"t,speed\n{bad}{self.GOOD}")
        same(found, [0.0, 1.0, 2.0, 3.0], speed=[1.0, 2.0, 3.0, 4.0])
        ((told, (rows, first)),) = found.dropped.items()
        assert (told, rows, place in first) == (reason, 1, True)

    def test_a_file_that_was_cut_off(self, read) -> None:
        found = read(f't,speed\n{self.GOOD}4,"5')
        assert found.dropped["cannot be read"][0] == 1
        found = read('{"t": 0, "speed": 1}\n{"t": 1, "speed": 2}\n{"t": 2, "spe', name="a.jsonl")
        same(found, [0.0, 1.0], speed=[1.0, 2.0])

    @given(times=st.lists(st.integers(0, 9), min_size=1, max_size=9))
    def test_longest_rise_is_rising_and_longest(self, times) -> None:
        rise = _longest_rise(np.asarray(times, float))
        assert np.all(np.diff(rise) > 0)
        assert np.all(np.diff(np.asarray(times)[rise]) > 0)
        best = [1] * len(times)  # by quadratic search
        for i, time in enumerate(times):
            best[i] = 1 + max((best[j] for j in range(i) if times[j] < time), default=0)
        assert len(rise) == max(best)


class TestCsvErrors:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("t,speed\n0,fast\n", ["a.csv line 2, column 'speed'", "'fast'", "leave it empty"]),
            ("t,speed\n\n0,1_0\n", ["a.csv line 3, column 'speed'", "'1_0'"]),
            ("t;speed\n0;1,5\n", ["line 2", "a decimal mark must be a point", "'1,5'"]),
            ("t,speed\n0,inf\n", ["line 2", "float32", "'inf'"]),
            ("t,speed\n0,3.5e38\n", ["line 2", "float32", "'3.5e38'"]),
            ("t,speed\n0," + "9" * 4000 + "\n", ["line 2", "float32", "'999", "..."]),
            ("t,speed\n0,1\n,2\n", ["line 3, column 't'", "got no time", "remove the row"]),
            ("t,speed\n0,1\ninf,2\n", ["line 3, column 't'", "finite number", "'inf'"]),
            ("t,speed\nnoon,2\n", ["line 2, column 't'", "2024-05-31T", "'noon'"]),
            (
                "t,speed\n0,1\n2024-05-31 09:00:00,2\n",
                ["line 3, column 't'", "as in the rows before", "'2024-05-31 09:00:00'"],
            ),
            (
                "t,speed\n2024-05-31 09:00:00,2\n7,1\n",
                ["line 3, column 't'", "expected a date", "'7'"],
            ),
            ("t,speed\n2,1\n1.5,1\n", ["line 3", "got 1.5 s after 2.0 s", "line 2", "sort"]),
            ("t,speed\n" + "0,1\n1,1\n2,1\n" * 9, ["line 5", "got 0.0 s after 2.0 s", "24 such"]),
            ("t,speed\n" + "0,1\n0,2\n1,1\n" * 1 + "2,1\n2,5\n", ["line 3", "one value at one"]),
            ("t,speed\n095959.00,1\n100000.00,2\n", ["a.csv: expected seconds", "--time_unit hhmmss"]),
            ("t,speed\n95959,1\n100000,2\n100001,2\n100002,2\n", ["--time_unit hhmmss"]),
            ("t,speed\n120000,1\n120001,2\n", ["120000 to 120001", "write them from the start"]),
            ("t,speed\n0,1\n0,2\n", ["line 3, column 'speed'", "1.0", "line 2", "got 2.0"]),
            ("t,speed\n", ["a.csv: expected rows", "got none"]),
            ("", ["a.csv: expected rows", "got none"]),
            ("t,speed\n0,\n1,nan\n", ["a.csv", "column 'speed'", "none in any row"]),
            ("t,velo\n0,1\n", ["line 1", "expected a column 'speed'", "got 't', 'velo'", "flag"]),
            ("speed\n1\n", ["line 1", "expected a column 't'", "got 'speed'"]),
            ("t,speedd\n0,1\n", ["got 't', 'speedd', did you mean speedd?: correct the flag"]),
            ("0,1\n1,2\n", ["line 1", "'0', '1'", "--telemetry_columns"]),
            ("2024-05-31T09:00:00Z,nan\n", ["line 1", "--telemetry_columns"]),
            ("t,speed,speed\n0,1,2\n", ["line 1", "one column 'speed'", "got 2", "rename"]),
            ("t,speed\n0,1\n1\n", ["line 3", "expected 2 columns", "got 1"]),
            ("t,speed\n0,1,2\n", ["line 2", "expected 2 columns", "got 3"]),
            ('t,speed\n0,"1\n', ["line 2", "expected valid CSV", "unexpected end of data"]),
            ('t,speed\n0,"1"2\n', ["line 2", "expected valid CSV"]),
            ("t,speed\n0,1\x00\n", ["line 2", "zero byte"]),
            (b"\x89PNG\r\n\x1a\n\xff\xd8", ["line 1", "UTF-8", "0x89", "save"]),
            (b"t,speed\n0,1\n1,\xb0\n", ["line 3", "UTF-8", "0xb0"]),
            (b"t,speed\n" + b"1" * (2**20 + 9), ["line 2", "more than 1048576 characters"]),
            (b"t,speed\n" + b"1" * 200_000, ["line 2", "field limit"]),
        ],
    )  # fmt: skip
    def test_errors(self, error, text, parts) -> None:
        message = error(text)
        for part in parts:
            assert part in message

    def test_given_names_contradict_header(self, error) -> None:
        named = options(time_column="t", telemetry_columns=("t", "speed"))
        message = error("time,v\n0,1\n", given=named)
        assert "line 1, column 't'" in message
        assert "leave out --telemetry_columns" in message

    def test_given_names_do_not_match_number_of_columns(self, error) -> None:
        named = options(time_column="t", telemetry_columns=("t", "x", "speed"))
        message = error("0,1\n", given=named)
        assert "line 1: expected the 3 columns that --telemetry_columns names, got 2" in message

    @pytest.mark.parametrize("text", ["speed\n1\n\n3\n", "\n1\n3\n", "1\n\n\n3\n\n"])
    def test_blank_line_by_row_is_refused(self, error, text) -> None:
        message = error(text, given=BY_ROW)
        assert "got a blank one" in message
        assert "write nan" in message

    def test_message_lists_a_limited_number_of_columns(self, error) -> None:
        message = error(",".join(f"c{i}" for i in range(99)) + "\n")
        assert "'c29' and 69 more" in message

    def test_column_without_classes_is_refused(self, error) -> None:
        message = error("t,turn\n0,\n", columns=(), class_column="turn")
        assert "a.csv: expected classes in the column 'turn', got none in any row" in message

    def test_class_that_cannot_be_stored_is_refused(self, error) -> None:
        message = error(
            '{"t": 0, "turn": "\\ud800"}', name="a.jsonl", columns=(), class_column="turn"
        )
        assert "a.jsonl line 1, column 'turn': expected the name of a class" in message


class TestMergedRows:
    def test_equal_rows_are_merged(self, read) -> None:
        text = "t,speed,turn,x\n0,1,,a\n0,,left,b\n0.0,1,left,c\n1,2,,d\n"
        found = read(text, class_column="turn")
        same(found, [0.0, 1.0], speed=[1.0, 2.0])
        assert found.classes == ("left", None)
        assert found.merged_rows == 2

    def test_missing_value_is_filled_from_merged_row(self, read) -> None:
        found = read("t,speed\n0,\n0,2\n")
        same(found, [0.0], speed=[2.0])
        assert found.merged_rows == 1

    def test_different_classes_are_refused(self, error) -> None:
        message = error("t,turn\n0,left\n0,right\n", columns=(), class_column="turn")
        assert "line 3, column 'turn': expected one value at one time" in message
        assert "got 'right' here and 'left' in a.csv line 2" in message


class TestDates:
    @pytest.mark.parametrize(
        "text",
        [
            "2024-05-31T09:30:00.25Z",
            "2024-05-31 09:30:00.250",
            "2024-05-31t09:30:00,25z",
            "2024-05-31T11:30:00.2500000000+02:00",
            "2024-05-31T11:30:00.25 +0200",
            "2024-05-31T04:00:00.25-05:30",
            "2024-05-31T10:30:00.25+01",
        ],
    )
    def test_ways_of_writing(self, text) -> None:
        clock = TimeParser("ms")  # which is for numbers alone
        assert clock.parse(text) == 1717147800.25
        assert clock.dates is True

    def test_minutes_and_leap_seconds(self) -> None:
        clock = TimeParser("s")
        assert clock.parse("1970-01-01T00:01") == 60.0
        assert clock.parse("2016-12-31T23:59:60Z") == clock.parse("2017-01-01T00:00:00Z")
        assert clock.parse("1969-12-31T23:59:59.75Z") == -0.25

    @pytest.mark.parametrize(
        "text",
        [
            "2024-02-30T00:00:00", "2024-13-01T00:00:00", "2024-01-01", "2024-01-01T24:00:00",
            "2024-01-01T00:60:00", "2024-01-01T00:00:61", "2024-01-01T00:00:00.", "12:00:00",
            "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00Zulu", "0000-01-01T00:00:00",
            "٢٠٢٤-01-01T00:00:00",
        ],
    )  # fmt: skip
    def test_other_text_is_refused(self, text) -> None:
        with pytest.raises(CellError, match="expected a time"):
            TimeParser("s").parse(text)

    @given(
        when=st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)),
        offset=st.integers(-14 * 60, 14 * 60),
        separator=st.sampled_from("T "),
    )
    def test_any_time_in_any_zone(self, when, offset, separator) -> None:
        zone = timezone(timedelta(minutes=offset))
        written = when.replace(tzinfo=zone)
        # Not datetime.timestamp(): a difference of whole microseconds is exact.
        micros = (written - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
        assert TimeParser("s").parse(written.isoformat(separator)) == pytest.approx(
            micros / 1e6, abs=5e-7, rel=0
        )

    def test_in_a_file(self, read) -> None:
        found = read("t,speed\n2024-05-31T09:30:00Z,1\n2024-05-31T11:30:01+02:00,2\n")
        same(found, [1717147800.0, 1717147801.0], speed=[1.0, 2.0])
        assert found.dates


class TestJson:
    def test_lines(self, read) -> None:
        text = (
            '{"t": 0, "speed": 1}\n\n{"t": 1, "x": [], "speed": null}\r\n'
            '{"t": 2}\n{"t": "3", "speed": "4"}\n'
        )
        for name in ("a.jsonl", "a.NDJSON", "a.json"):
            same(read(text, name=name), [0, 1, 2, 3], speed=[1, NAN, NAN, 4])

    def test_a_list(self, read) -> None:
        text = '\ufeff [{"t": 0, "speed": 1},\n {"t": 1, "speed": NaN}]'
        same(read(text, name="a.json"), [0, 1], speed=[1, NAN])

    def test_column_missing_in_first_rows(self, read) -> None:
        rows = [{"t": 0, **{f"c{i}": i for i in range(50)}}, {"t": 1, "speed": 5}]
        text = "\n".join(map(json.dumps, rows))
        same(read(text, name="a.jsonl"), [0, 1], speed=[NAN, 5])

    def test_classes(self, read) -> None:
        rows = [{"c": "left"}, {"c": 3}, {"c": None}, {"c": 2.0}, {"c": True}, {"c": NAN}, {}]
        text = "\n".join(map(json.dumps, rows))
        found = read(text, name="a.jsonl", given=BY_ROW, columns=(), class_column="c")
        assert found.classes == ("left", "3", None, "2", "true", None, None)

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ('{"t": 0, "speed": true}', ["line 1, column 'speed'", "expected a number", "True"]),
            ('{"t": 0, "speed": [1]}', ["line 1, column 'speed'", "[1]"]),
            ('{"t": 0, "speed": Infinity}', ["line 1, column 'speed'", "float32", "inf"]),
            ('{"t": 0, "speed": 1%s}' % ("0" * 400), ["line 1, column 'speed'", "float32"]),
            ('{"t": 0, "speed": 1%s}' % ("0" * 9000), ["line 1"]),
            ('{"t": false, "speed": 1}', ["line 1, column 't'", "False"]),
            ('{"t": 0, "speed": 1}\n[]', ["line 2", "expected a JSON object", "got []"]),
            ('{"t": 0, "speed": 1}\nnull', ["line 2", "expected a JSON object", "got None"]),
            ('{"t": 0, "speed": 1}\n{"t":', ["line 2", "expected JSON", "correct it"]),
            ("[" * 100_000, ["line 1", "expected JSON"]),
            ('{"t": 0, "v": 1}', ["expected a column 'speed'", "got 't', 'v'"]),
            ('{"time": 0, "speed": 1}', ["line 1: expected a column 't'", "got 'time', 'speed'"]),
            ('{"t": 0, "speed": 1}\n{}', ["line 2, column 't'", "got no time"]),
            ("\n\n", ["expected rows", "got none"]),
        ],
    )  # fmt: skip
    def test_errors_in_lines(self, error, text, parts) -> None:
        message = error(text, name="a.jsonl")
        assert message.startswith("a.jsonl")
        for part in parts:
            assert part in message

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ('[{"t": 0, "speed": 1}, 7]', ["a.json index 1", "expected a JSON object", "got 7"]),
            ('[{"t": 0, "speed": "x"}]', ["a.json index 0, column 'speed'", "'x'"]),
            ('[{"t": 0}', ["a.json: expected JSON"]),
            (b'[{"t": 0, "\xff": 1}]', ["a.json: expected JSON"]),
            ("[]", ["a.json: expected rows"]),
        ],
    )
    def test_errors_in_a_list(self, error, text, parts) -> None:
        message = error(text, name="a.json")
        for part in parts:
            assert part in message


class TestText:
    def test_one_number_per_line(self, read) -> None:
        same(
            read("28.1\n 28.2 \r\nnan\n\n\n", name="train.txt", given=BY_ROW),
            None,
            speed=[28.1, 28.2, NAN],
        )

    def test_several_columns(self, read) -> None:
        text = "0 1.5, x\n1,\t2.5 ,\n"
        found = read(text, name="a.txt", given=options(time_column="0"), columns=("1",))
        same(found, [0.0, 1.0], **{"1": [1.5, 2.5]})

    def test_names(self, read) -> None:
        named = options(time_column="t", telemetry_columns=("t", "speed"))
        same(read("0 1\n1 2\n", name="a.txt", given=named), [0.0, 1.0], speed=[1.0, 2.0])

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("speed\n1\n", ["a.txt line 1, column 'speed'", "'speed'", "call the file .csv"]),
            ("1\nx\n", ["a.txt line 2, column 'speed'", "'x'"]),
            ("1\n\n2\n", ["a.txt line 2", "blank", "nan"]),
            ("1\n2 3\n", ["a.txt line 2", "expected 1 columns", "got 2"]),
            ("1 2\n", ["a.txt line 1", "expected a column 'speed'", "got '0', '1'"]),
            ("\n \n", ["a.txt: expected rows"]),
        ],
    )
    def test_errors(self, error, text, parts) -> None:
        message = error(text, name="a.txt", given=BY_ROW)
        for part in parts:
            assert part in message


class TestNumpy:
    @pytest.mark.parametrize(
        "values",
        [
            np.array([1.0, 2.5]),
            np.array([[1.0], [2.5]], np.float32),
            np.array([(7, 1.0), (8, 2.5)], [("x", "i4"), ("speed", "f2")]),
            np.array([("a", 1.0), ("b", 2.5)], [("x", "U3"), ("speed", ">f8")]),
        ],
        ids=["1-D", "2-D", "structured", "structured with text"],
    )
    def test_arrays(self, read, tmp_path, values) -> None:
        found = read(save(tmp_path, values), name="a.npy", given=BY_ROW)
        same(found, None, speed=[1.0, 2.5])

    def test_numbered_and_named_columns(self, read, tmp_path) -> None:
        data = save(tmp_path, np.array([[0, 1], [500, 2]], order="F"))
        numbered = options(time_column="0", time_unit="ms")
        found = read(data, name="a.npy", given=numbered, columns=("1",), class_column="1")
        same(found, [0.0, 0.5], **{"1": [1.0, 2.0]})
        assert found.classes == ("1", "2")
        named = options(time_column="t", telemetry_columns=("t", "speed"))
        same(read(data, name="a.npy", given=named), [0.0, 500.0], speed=[1.0, 2.0])

    def test_dates_and_text(self, read, tmp_path) -> None:
        rows = [(np.datetime64("2024-05-31T09:30:00.25"), 1, b"left")]
        values = np.array(rows, [("t", "M8[ms]"), ("speed", "u1"), ("turn", "S8")])
        found = read(save(tmp_path, values), name="a.npy", class_column="turn")
        same(found, [1717147800.25], speed=[1.0])
        assert found.dates
        assert found.classes == ("left",)

    @pytest.mark.parametrize(
        ("values", "parts"),
        [
            (np.float64(1), ["shape ()"]),
            (np.zeros((2, 2, 2)), ["shape (2, 2, 2)"]),
            (np.zeros(3, complex), ["complex128"]),
            (np.array(["1"]), ["<U1"]),
            (np.zeros(2, [("speed", "f8", 3)]), ["column 'speed'", "shape (2, 3)"]),
            (np.zeros(0), ["expected rows", "got none"]),
            (np.zeros((0, 1)), ["expected rows", "got none"]),
            (np.array([1.0, np.inf]), ["index 1, column 'speed'", "float32", "inf"]),
            (np.array([True]), ["index 0, column 'speed'", "expected a number", "True"]),
            (np.zeros((3, 2)), ["expected a column 'speed'", "got '0', '1'"]),
            (np.zeros(3, [("v", "f8")]), ["expected a column 'speed'", "got 'v'"]),
            (np.full(2, np.nan), ["column 'speed'", "none in any row"]),
        ],
    )
    def test_errors(self, error, tmp_path, values, parts) -> None:
        message = error(save(tmp_path, values), name="a.npy", given=BY_ROW)
        for part in ["a.npy", *parts]:
            assert part in message

    def test_invalid_files_are_refused(self, error, tmp_path) -> None:
        whole = save(tmp_path, np.zeros(100))
        # A shape of 80 TB, in as many bytes as the true one and blanks behind it.
        huge = whole.replace(b"(100,), }" + b" " * 11, b"(10000000000000,), }")
        assert len(huge) == len(whole)
        assert huge != whole
        broken = [b"", b"1,2\n", b"PK\x03\x04zip", whole[:7], whole[:60], whole[:-8], huge]
        broken.append(whole.replace(b"'descr'", b"'de\xffcr'"))
        for data in broken:
            message = error(data, name="a.npy", given=BY_ROW)
            assert message.startswith("a.npy: expected a NumPy array of numbers")
            assert "save it again" in message

    def test_objects_are_not_unpickled(self, error, tmp_path) -> None:
        np.save(tmp_path / "o.npy", np.array([{}, []], object), allow_pickle=True)
        message = error((tmp_path / "o.npy").read_bytes(), name="a.npy", given=BY_ROW)
        assert "invalid file" in message


class TestFiles:
    def test_unknown_extension_is_refused(self, error) -> None:
        message = error("", name="a.mat")
        assert message.startswith("a.mat: expected telemetry in a file of .csv, .tsv, ")
        assert "got .mat: convert" in message
        assert "got no extension" in error("", name="mat")

    @pytest.mark.parametrize("extension", EXTENSIONS)
    def test_unreadable_file_is_os_error(self, tmp_path, extension) -> None:
        path = tmp_path / f"a{extension}"
        columns = ["lat"] if extension == ".gpx" else ["speed"]
        with pytest.raises(FileNotFoundError):
            read_telemetry(str(path), "a", TIMED, columns=columns)
        path.mkdir()
        with pytest.raises(IsADirectoryError):
            read_telemetry(str(path), "a", TIMED, columns=columns)

    @given(data=st.binary(max_size=200), extension=st.sampled_from(EXTENSIONS))
    def test_garbage_is_an_error_of_one_line(self, tmp_path_factory, data, extension) -> None:
        path = tmp_path_factory.mktemp("garbage") / f"a{extension}"
        for prefix in (b"", b"t,lat\n", b"[", b"\x93NUMPY\x01\x00", b"<gpx>"):
            path.write_bytes(prefix + data)
            message = ""
            try:
                read_telemetry(str(path), "a", TIMED, columns=["lat"])
            except TelemetryError as error:
                message = str(error)
            assert "\n" not in message

    def test_no_columns_are_refused(self, read) -> None:
        with pytest.raises(ValueError, match="expected columns or a class column"):
            read("t\n0\n", columns=())


class TestCells:
    @given(number=st.floats(width=32, allow_nan=False, allow_infinity=False))
    def test_parse_number_takes_any_float32(self, number) -> None:
        assert parse_number(repr(number)) == number == parse_number(number)

    @given(cell=st.text() | st.integers() | st.floats() | st.binary() | st.booleans())
    def test_parse_number_returns_number_or_error(self, cell) -> None:
        for parse in (parse_number, parse_class, TimeParser("us").parse):
            message = ""
            try:
                parse(cell)
            except CellError as error:
                message = str(error)
            assert "\n" not in message
            assert len(message) < 250


class TestSize:
    def test_npy_is_not_loaded_for_more_rows_than_allowed(self, tmp_path: Path) -> None:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 2)}
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 16 * 10**9)  # sparse
        options = replace(BY_ROW, telemetry_columns=("speed", "yaw"))
        with pytest.raises(TelemetryError, match="expected at most 50000000 rows, got 1000000000"):
            read_telemetry(str(tmp_path / "a.npy"), "a.npy", options, columns=["speed"])

    @pytest.mark.parametrize("name", ["a.csv", "a.gpx", "a.npy"])
    def test_long_files_show_progress_within_bounded_memory(
        self, tmp_path: Path, name: str
    ) -> None:
        rows, options = 20_000, TelemetryOptions(telemetry="{stem}", time_column="t")
        path = tmp_path / name
        if name == "a.csv":
            path.write_text("t,speed\n" + "".join(f"{i},{i % 7}\n" for i in range(rows)))
        elif name == "a.npy":
            values = np.arange(rows, dtype=np.float64)
            np.save(path, np.rec.fromarrays([values, values % 7], names="t,speed"))
        else:
            point = '<trkpt lat="0" lon="0"><speed>{}</speed><time>{}</time></trkpt>'
            start = np.datetime64("2024-01-01")
            times = (start + np.arange(rows).astype("m8[s]")).astype(str)
            points = "".join(point.format(i % 7, f"{time}Z") for i, time in enumerate(times))
            path.write_text(f"<gpx><trk><trkseg>{points}</trkseg></trk></gpx>")
        calls = []
        tracemalloc.start()
        found = read_telemetry(
            str(path), name, options, columns=["speed"], on_progress=lambda: calls.append(1)
        )
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.rows == rows
        assert found.columns["speed"][10] == 3
        assert len(calls) >= 2
        # A row takes 16 bytes, and for a moment ten times as many where speed is derived from positions.
        assert peak < 300 * rows + 2**21
