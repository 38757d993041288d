"""Writes the missing ``dataset_info.json`` of TFRecords that another program wrote, by scanning them."""

from __future__ import annotations

from pathlib import Path

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
    """Returns lines about an adopted dataset: its frames, labels, signals and splits."""
    spec, label, image = info.spec, info.spec.label, info.spec.image
    images = f" of {'x'.join(map(str, image.shape))}, {image.format}" if image else ""
    lines = [
        f"{Path(directory) / FILE_NAME} describes",
        f"  sequences of {spec.num_frames} frames{images}",
        f"  task {label.task}{' by frame' if label.per_frame else ''}: "
        f"{', '.join(label.class_names or label.target_names) or 'no labels'}",
    ]
    if spec.signals:
        lines.append(f"  signals {', '.join(f'{s.name} ({s.size})' for s in spec.signals)}")
    lines += [
        f"  {name}: {split.num_records} records in {len(split.shards)} files"
        for name, split in info.splits.items()
    ]
    files = [shard.file for split in info.splits.values() for shard in split.shards]
    if unnamed := [file for file in files if split_of_file(file) is None]:
        lines.append(
            f"note: {len(unnamed)} of {len(files)} files name no split and were taken as train, for example "
            f"{unnamed[0]}. If they are not, rename them, such as test-{unnamed[0]}"
        )
    return "\n".join(lines)
