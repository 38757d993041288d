"""Describes what a complete dataset holds, from its ``dataset_info.json``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.options.telemetry import TelemetryOptions
from tfrecords_schema import tables
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.running.terminal import printable_name as printable

_MAX_ROWS = 1000
_MAX_VALUE_LENGTH = 2000
_MAX_LINE_LENGTH = 10_000


def load_dataset(directory: str) -> DatasetInfo:
    """Returns the description of a complete dataset; raises UserError if there is none."""
    try:
        return DatasetInfo.load(directory)
    except DatasetInfoError as error:
        raise UserError(f"--tfrecords: {error}") from error


def describe_contents(info: DatasetInfo, directory: str) -> str:
    """Returns lines about frames, splits, classes or targets, and how the dataset was built."""
    spec, image = info.spec, info.spec.image
    images = f" of {'x'.join(map(str, image.shape))}, {image.format}" if image else ", no images"
    rate = info.build_options.frame_rate or spec.frame_rate
    signals = (
        f"{s.name}{f' ({s.unit})' if s.unit else ''}{f' x {s.size}' if s.size > 1 else ''}"
        for s in spec.signals
    )
    lines = [
        printable(f"{info.name} in {directory}{', written by another program' * info.adopted}"),
        f"  sequences of {spec.num_frames} frames{images}{f', {rate} frames/s' if rate else ''}",
        f"  {tables.describe_label(spec.label)}",
        *([f"  signals {', '.join(map(printable, signals))}"] if spec.signals else []),
        *tables.split_table(info),
        *tables.label_table(info, max_rows=_MAX_ROWS),
        *tables.describe_dropped(info),
    ]
    for title, values in {
        "counts: ": (f"{name.replace('_', ' ')} {n:,}" for name, n in info.counts.items() if n),
        "options (others have their defaults): ": _changed_options(info.options),
        "built with ": (f"{name} {version}" for name, version in info.versions.items()),
        "fingerprint ": filter(None, [info.fingerprint]),
    }.items():
        if text := ", ".join(values):
            lines.append(printable(title + text))
    lines += [f"warning: {text}" for text in tables.class_warnings(info)]
    return "\n".join(tables.shorten(line, _MAX_LINE_LENGTH) for line in lines)


def _changed_options(options: Mapping[str, Any]) -> Iterator[str]:
    """Yields the options of a build that have other values than the defaults of today."""
    defaults = {field.name: field.default for field in dataclasses.fields(TelemetryOptions)}
    defaults |= DatasetOptions().to_json()
    for name, value in options.items():
        default = defaults.get(name)
        if value != (list(default) if isinstance(default, tuple) else default):
            yield f"{name} {format_value(value)}"


def format_value(value: Any) -> str:
    """Returns an option's value as text, cut if it is very long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]} ..."
