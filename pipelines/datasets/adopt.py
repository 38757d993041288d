"""``pipelines adopt``: the missing ``dataset_info.json`` of TFRecords that others wrote, by scanning them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pipelines.errors import UserError
from pipelines.options.flags import checked, parse_size
from tfrecords_schema.info import FILE_NAME, DatasetInfo
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SequenceSpec, SpecError


def add_adopt_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `run_adopt` reads."""
    parser.add_argument(
        "--tfrecords", required=True, metavar="DIR", help="folder of TFRecords of SequenceExamples"
    )
    parser.add_argument(
        "--spec",
        metavar="FILE.json",
        help="what records hold, as the spec in a dataset_info.json; None is what most of them do",
    )
    parser.add_argument("--num_frames", type=int, help="of a sequence; None is the median")
    parser.add_argument(
        "--size", type=checked(parse_size), metavar="HxW", help="of frames; None is the commonest"
    )


def run_adopt(flags: argparse.Namespace) -> str:
    """Scans the folder, writes its ``dataset_info.json`` and says what is in it.

    Raises:
        UserError: when the folder is described already, or its records cannot be.
    """
    from tfrecords_schema.scan import (
        AdoptError,
        adopt,
    )  # with OpenCV, which other verbs start without

    target = Path(flags.tfrecords) / FILE_NAME
    if target.exists():
        raise UserError(f"{target} is there already: delete it to scan the records again")
    if not target.parent.is_dir():
        raise UserError(f"--tfrecords must be a folder, got {flags.tfrecords}")
    try:
        spec = None if flags.spec is None else _load_spec(flags.spec)
        info = adopt(flags.tfrecords, spec, num_frames=flags.num_frames, size=flags.size)
    except (AdoptError, CorruptRecordError, SpecError) as error:
        raise UserError(str(error)) from error
    info.save(flags.tfrecords)
    return _describe(info, target)


def _load_spec(path: str) -> SequenceSpec:
    try:
        fields = json.loads(Path(path).read_bytes())
        return SequenceSpec.from_json(fields)
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} must hold the JSON of a sequence spec: {error}") from error


def _describe(info: DatasetInfo, target: Path) -> str:
    spec, label = info.spec, info.spec.label
    image = spec.image
    lines = [
        f"{target} describes",
        f"  sequences of {spec.num_frames} frames"
        + (f" of {image.height}x{image.width}x{image.channels}, {image.format}" if image else ""),
        f"  task {label.task}{' by frame' if label.per_frame else ''}: "
        f"{', '.join(label.class_names or label.target_names) or 'no labels'}",
    ]
    if spec.signals:
        lines.append(f"  signals {', '.join(f'{s.name} ({s.size})' for s in spec.signals)}")
    lines += [
        f"  {name}: {split.num_records} records in {len(split.shards)} files"
        for name, split in info.splits.items()
    ]
    return "\n".join(lines)
