"""Writes the missing ``dataset_info.json`` of TFRecords that another program wrote, by scanning them."""

from __future__ import annotations

from pathlib import Path

from pipelines.datasets.show import describe_contents
from pipelines.errors import UserError
from pipelines.options.verbs import AdoptOptions
from tfrecords_schema.info import FILE_NAME, DatasetInfo
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SpecError, load_spec
from tfrecords_schema.split_names import split_of_file


def adopt_folder(options: AdoptOptions) -> DatasetInfo:
    """Scans the records of a folder, writes its ``dataset_info.json`` and returns the description."""
    target = Path(options.tfrecords) / FILE_NAME
    if target.exists():
        raise UserError(f"{target} is there already. Delete it to scan the records again")
    if not target.parent.is_dir():
        raise UserError(f"--tfrecords must be a folder, got {options.tfrecords}")
    # With OpenCV, which other verbs start without.
    from tfrecords_schema.scan import AdoptError, adopt

    try:
        spec = None if options.spec is None else load_spec(options.spec)
        info = adopt(options.tfrecords, spec, num_frames=options.num_frames, size=options.size)
    except (AdoptError, CorruptRecordError, SpecError) as error:
        raise UserError(str(error)) from error
    info.save(options.tfrecords)
    return info


def describe_adopted(info: DatasetInfo, directory: str) -> str:
    """Returns the contents of an adopted dataset, and the files whose split had to be guessed."""
    lines = [describe_contents(info, directory)]
    files = [shard.file for split in info.splits.values() for shard in split.shards]
    if unnamed := [file for file in files if split_of_file(file) is None]:
        lines.append(
            f"note: {len(unnamed)} of {len(files)} files name no split and were taken as train, for example "
            f"{unnamed[0]}. If they are not, rename them, such as test-{unnamed[0]}"
        )
    return "\n".join(lines)
