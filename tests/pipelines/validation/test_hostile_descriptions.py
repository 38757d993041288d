"""Descriptions that are forged: every number in them is bounded before it is used."""

import json
import os
import random

import pytest

from pipelines.errors import UserError
from pipelines.validation.conclude import conclude
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation, describe
from pipelines.validation.pipeline import prepare
from pipelines.validation.report.page import render_report
from pipelines.validation.thresholds import ValidationOptions
from tests.hostile import HOSTILE, places, replaced
from tfrecords_schema.info import FILE_NAME


def examine(path):
    """Validates a dataset without Beam, and renders its report; returns the result."""
    folder = DatasetFolder(str(path))
    info = folder.load_info()
    options = ValidationOptions(tfrecords=str(path))
    examiner, jobs = prepare(folder, info, options)
    result = conclude(examiner, [examiner.examine(job, lambda count: None) for job in jobs])
    validation = Validation(options, info, result, 1.0)
    assert describe(validation)
    assert render_report(validation, folder)
    return result


def test_validate_refuses_or_examines_every_forged_description(make):
    dataset = make("classification")
    file = dataset.path / FILE_NAME
    fields = json.loads(file.read_text())
    fields["options"] |= {"num_frames": 4, "frame_rate": "10", "splits": {"train": 1.0}, "seed": 0}
    cases = [(place, value) for place in places(fields) if place for value in HOSTILE]
    refused = 0
    for place, value in random.Random(0).sample(cases, 150):
        file.write_text(json.dumps(replaced(fields, place, value)))
        try:
            examine(dataset.path)
        except UserError:
            refused += 1
    assert 20 < refused < 150


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("spec", "num_frames"), 10**9, "num_frames must be from 1 to 100000, got 1000000000"),
        (("spec", "image", "height"), 20_000_000, "an image may have at most 67108864 pixels"),
        (("spec", "label", "class_names"), [str(i) for i in range(10**6)], "at most 100000 class"),
    ],
)
def test_validate_bounds_the_spec(make, place, value, message):
    dataset = make("classification")
    file = dataset.path / FILE_NAME
    file.write_text(json.dumps(replaced(json.loads(file.read_text()), place, value)))
    with pytest.raises(UserError, match=message):
        examine(dataset.path)


@pytest.mark.parametrize("replace", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_validate_reads_regular_files_only(make, replace):
    dataset = make("classification")
    dataset.shard().unlink()
    replace(dataset.shard())
    first, *_ = examine(dataset.path).findings
    assert first.check == "format.framing"
    assert "not a regular file" in first.message


def test_validate_reads_no_hole_of_terabytes(make):
    dataset = make("classification")
    os.truncate(dataset.shard(), 1 << 42)
    messages = [finding.message for finding in examine(dataset.path).findings]
    assert any("4398046511104" in message for message in messages), messages


def test_validate_names_a_record_with_more_labels_than_classes(make):
    dataset = make("multilabel")

    def change(example):
        example.context.feature["clip/label/index"].int64_list.value[:] = range(200_000)
        example.context.feature["clip/label/string"].bytes_list.value[:] = [b"run"] * 200_000

    dataset.edit(change)
    found = {f.message: f.check for f in examine(dataset.path).findings}
    for key in ("index", "string"):
        message = f"clip/label/{key} must have at most 3 values, got 200000 values"
        assert found[message] == "format.schema"


@pytest.mark.parametrize("key", ["example/id", "clip/media_id", "clip/label/string"])
def test_validate_names_a_record_with_a_text_of_megabytes(make, key):
    dataset = make("classification")
    dataset.edit(lambda own: own.context.feature[key].bytes_list.value.__setitem__(0, b"x" * 10**6))
    found = {f.message: f for f in examine(dataset.path).findings}
    assert f"{key} must have at most 16384 bytes, got 1000000" in found
    assert len(str(found)) < 10_000
