"""Defines the records and the folder of a dataset: the contract between `pipelines` and `trainer`.

A dataset is a folder of TFRecord shards and one ``dataset_info.json``. Each record is a ``SequenceExample``
with a fixed-length sequence of encoded frames and its labels, under the keys of MediaSequence::

    from tfrecords_schema import DatasetInfo, read_records

    info = DatasetInfo.load("dataset")
    info.spec.image_shape  # (16, 180, 320, 3)
    for record in read_records("dataset", "train"):
        record.label_strings, len(record.frames)  # ["run"], 16

Importing this package loads neither OpenCV nor TensorFlow. The first use of `adopt` or of the fake data loads
OpenCV, the first use of the parsers TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfrecords_schema.codec import from_json, to_json
    from tfrecords_schema.examples import SequenceRecord, decode_record, encode_record, read_records
    from tfrecords_schema.fake import fake_record, write_fake_dataset
    from tfrecords_schema.foreign.scan import adopt
    from tfrecords_schema.info import (
        BuildOptions,
        DatasetInfo,
        DatasetInfoError,
        ShardInfo,
        SplitInfo,
    )
    from tfrecords_schema.parse import parse_and_decode, parse_sequence
    from tfrecords_schema.reading.dataset import SequenceSplit, open_dataset
    from tfrecords_schema.records import CorruptRecordError, frame_record, read_file
    from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec, SpecError

_NAMES = {
    "codec": ("from_json", "to_json"),
    "examples": ("SequenceRecord", "decode_record", "encode_record", "read_records"),
    "fake": ("fake_record", "write_fake_dataset"),
    "info": ("BuildOptions", "DatasetInfo", "DatasetInfoError", "ShardInfo", "SplitInfo"),
    "parse": ("parse_and_decode", "parse_sequence"),
    "reading.dataset": ("SequenceSplit", "open_dataset"),
    "records": ("CorruptRecordError", "frame_record", "read_file"),
    "foreign.scan": ("adopt",),
    "spec": ("ImageSpec", "LabelSpec", "SequenceSpec", "SignalSpec", "SpecError"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports the module of a public name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
