"""The checks that look at one record; those of its frames, pictures and labels have modules of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.validation.checks.frames import FRAME_CHECKS
from pipelines.validation.checks.labels import LABEL_CHECKS
from pipelines.validation.checks.pictures import PICTURE_CHECKS
from pipelines.validation.findings import Check, Problem, check, error, warning
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import decode_record
from tfrecords_schema.spec import SpecError


@check(
    "format.schema",
    reason="Readers parse every record by the spec in dataset_info.json; one that lacks a key, "
    "or has it with another type or shape, ends the training that meets it.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not mix shards of two builds.",
)
def schema(record: RecordView) -> Iterator[Problem]:
    """It parses, and has every key of the spec with its type and shape."""
    for problem in record.problems:
        yield error(problem)


@check(
    "format.agreement",
    reason="A record says some things twice, and programs that read one of the two would see "
    "another record.",
    remedy="Build the dataset again with `pipelines --overwrite`.",
)
def agreement(record: RecordView) -> Iterator[Problem]:
    """Its values agree with the spec and with each other."""
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
    if record.text(keys.DATASET_NAME) not in ("", record.expected.dataset_name):
        yield warning(
            f"{keys.DATASET_NAME} is {record.text(keys.DATASET_NAME)!r}, and the dataset is called "
            f"{record.expected.dataset_name!r}: a shard may come from another build"
        )
    if record.text(keys.DATA_PATH).startswith("/"):
        yield warning(
            f"{keys.DATA_PATH} must be relative to the input, got {record.text(keys.DATA_PATH)!r}"
        )


@check(
    "format.decode",
    reason="What reads the dataset in Python is `tfrecords_schema.decode`; a record that it "
    "refuses cannot be used.",
    remedy="Build the dataset again with `pipelines --overwrite`.",
)
def decodes(record: RecordView) -> Iterator[Problem]:
    """The package's own decoder takes it; asked last, of records in which nothing else is wrong."""
    try:
        decode_record(record.data, record.spec)
    except SpecError as problem:
        yield error(str(problem))


RECORD_CHECKS: tuple[Check[RecordView], ...] = (
    schema,
    agreement,
    *FRAME_CHECKS,
    *LABEL_CHECKS,
    *PICTURE_CHECKS,
)
"""All but `decodes`, which depends on what these find."""
