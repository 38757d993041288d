"""The checks of a record's format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.validation.findings import Problem, check, error, warning
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.examples import decode_record
from tfrecords_schema.spec import SpecError
from tfrecords_schema.union import NAME_SEPARATOR


@check(
    reason="Readers parse every record by the spec in dataset_info.json. A record that lacks a "
    "key, or has it with another type or shape, ends the training.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not mix shards of two builds.",
)
def format_schema(record: RecordView) -> Iterator[Problem]:
    """The record parses, and has every key of the spec with its type and shape."""
    for problem in record.problems:
        yield error(problem)


@check(
    reason="A record states some facts twice. If they differ, two programs may read two different "
    "records.",
    remedy="Build the dataset again with `pipelines --overwrite`.",
)
def format_agreement(record: RecordView) -> Iterator[Problem]:
    """The values of the record agree with the spec and with each other."""
    image = record.spec.image
    expected: dict[str, Any] = {}
    if image is not None:
        expected |= {
            keys.IMAGE_FORMAT: image.format.encode(),
            keys.IMAGE_COLORSPACE: image.colorspace.encode(),
            keys.IMAGE_HEIGHT: image.height,
            keys.IMAGE_WIDTH: image.width,
            keys.IMAGE_CHANNELS: image.channels,
        }
    valid, times = record.value(keys.VALID_FRAMES), record.timestamps
    if valid is not None and valid not in range(1, record.spec.num_frames + 1):
        yield error(f"{keys.VALID_FRAMES} must be 1 to {record.spec.num_frames}, got {valid}")
    elif times:
        expected[keys.START_TIMESTAMP] = times[0]
        expected[keys.END_TIMESTAMP] = times[record.valid_frames - 1]
    for key, wanted in expected.items():
        value = record.value(key)
        if value is not None and value != wanted:
            yield error(f"{key} must be {wanted!r}, got {value!r}")
    if not record.problems and not record.text(keys.EXAMPLE_ID):
        yield error(f"{keys.EXAMPLE_ID} must not be empty")
    dataset_name, data_path = record.text(keys.DATASET_NAME), record.text(keys.DATA_PATH)
    name = record.expected.info.name
    # In a merged dataset, records keep the name of theirs.
    if dataset_name not in ("", name, *name.split(NAME_SEPARATOR)):
        yield warning(
            f"{keys.DATASET_NAME} is {dataset_name!r}, but the dataset is called "
            f"{name!r}: the shard may come from another build"
        )
    if data_path.startswith("/"):
        yield warning(f"{keys.DATA_PATH} must be relative to the input, got {data_path!r}")


@check(
    reason="Python programs read the dataset with `tfrecords_schema`. A record that it "
    "refuses cannot be used.",
    remedy="Build the dataset again with `pipelines --overwrite`.",
)
def format_decode(record: RecordView) -> Iterator[Problem]:
    """The package's own decoder accepts the record. Runs only on records without other errors."""
    try:
        decode_record(record.data, record.spec)
    except SpecError as problem:
        yield error(str(problem))
