"""Tests of the names that ``from tfrecords_schema import ...`` offers, and of reading a dataset by them."""

from __future__ import annotations

import json

import pytest

import tfrecords_schema
from tests.processes import run_python
from tfrecords_schema import (
    DatasetInfoError,
    ImageSpec,
    SequenceSpec,
    fake_record,
    read_records,
    write_fake_dataset,
)

SPEC = SequenceSpec(num_frames=2, image=ImageSpec(height=8, width=8))


def test_every_public_name_exists():
    for name in tfrecords_schema._MODULES:
        assert getattr(tfrecords_schema, name).__name__ == name
        assert name in dir(tfrecords_schema)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'read_record'"):
        tfrecords_schema.read_record  # noqa: B018


def test_import_loads_no_heavy_library():
    program = (
        "import json, sys\n"
        "from tfrecords_schema import DatasetInfo, SequenceSpec, decode_record, encode_record, read_records\n"
        "print(json.dumps([name for name in ('cv2', 'tensorflow', 'apache_beam') if name in sys.modules]))\n"
    )
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == []


def test_read_records_yields_records_of_a_split_or_of_all(tmp_path):
    write_fake_dataset(tmp_path, SPEC, {"train": 3, "test": 1})
    # Two shards: records 0 and 2, then 1.
    assert [record.id for record in read_records(tmp_path, "train")] == [
        fake_record(SPEC, seed).id for seed in (0, 2, 1)
    ]
    assert len(list(read_records(str(tmp_path)))) == 4


def test_read_records_names_missing_split(tmp_path):
    write_fake_dataset(tmp_path, SPEC, {"train": 1})
    with pytest.raises(DatasetInfoError, match="one of the splits train, got 'test'"):
        next(read_records(tmp_path, "test"))
