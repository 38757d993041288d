"""What the last lines of a run say of its failures."""

import dataclasses
import types

from pipelines.build.summary import describe_dataset, describe_failures, describe_plan
from pipelines.plan.descriptors import Listing, SourceFailure
from tests.pipelines.build.test_output import INFO
from tfrecords_schema.spec import LabelSpec


def failure(source, reason, stage="open", truncated=False):
    return SourceFailure(source=source, stage=stage, reason=reason, truncated=truncated)


def test_nothing_is_said_of_nothing():
    assert describe_failures([]) == []


def test_failures_are_counted_by_reason_the_most_frequent_first():
    lines = describe_failures(
        [
            failure("a", "no video"),
            *(
                failure(f"b{i}", f"the decoder was killed after {i}.5 s", "process")
                for i in range(4)
            ),
            failure("c", "frames end after 3.2 s", "decode", truncated=True),
        ]
    )
    assert lines == [
        "1 source not whole, but used:",
        "  1 at decode: frames end after N s ('c')",
        "5 sources failed:",
        "  4 at process: the decoder was killed after N s ('b0', 'b1', 'b2' and 1 more)",
        "  1 at open: no video ('a')",
        "see failures.jsonl for each",
    ]


def test_many_reasons_are_not_all_named():
    lines = describe_failures([failure(c, f"reason {c}") for c in "abcdefghijklmno"])
    assert lines[0] == "15 sources failed:"
    assert lines[-2:] == ["  and 5 more reasons", "see failures.jsonl for each"]


def test_a_plan_names_the_first_sources_that_cannot_be_used():
    totals = types.SimpleNamespace(sources=100, failures=[failure(str(i), "x") for i in range(100)])
    listing = Listing(name="a", sources=(), label=LabelSpec())
    plan = types.SimpleNamespace(
        listing=listing, totals=totals, estimates={}, growth=None, notes=(), unmeasured=()
    )
    lines = describe_plan(plan).splitlines()
    assert lines[-21:-19] == [f"cannot be used: '{i}': open: x" for i in range(2)]
    assert lines[-1] == "  and 80 more failed sources"


def test_a_name_with_a_line_break_stays_on_its_line():
    (line,) = describe_failures([failure("a\nb", "no video")])[1:-1]
    assert line == "  1 at open: no video ('a\\nb')"


def test_describe_dataset_names_the_libraries_that_decided_the_bytes():
    versions = {"reelbeam": "0.1.0", "av": "18.1.0"}
    described = describe_dataset(dataclasses.replace(INFO, versions=versions), "out")
    assert described.splitlines()[-1] == "built with reelbeam 0.1.0, av 18.1.0"
    assert "built with" not in describe_dataset(dataclasses.replace(INFO, versions={}), "out")
