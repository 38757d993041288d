"""Describes what a complete dataset holds, from its ``dataset_info.json``."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any

from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.options.telemetry import TelemetryOptions
from tfrecords_schema import tables
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.terminal import printable_name as printable

_MAX_VALUE_LENGTH = 2000
_MAX_LINE_LENGTH = 10_000


def load_dataset(directory: str) -> DatasetInfo:
    """Returns the description of a complete dataset; raises UserError if there is none."""
    try:
        return DatasetInfo.load(directory)
    except DatasetInfoError as error:
        raise UserError(f"--tfrecords: {error}") from error


def describe_contents(info: DatasetInfo, directory: str) -> str:
    """Returns lines about frames, splits, all classes or targets, and how the dataset was built."""
    spec, image = info.spec, info.spec.image
    images = f" of {'x'.join(map(str, image.shape))}, {image.format}" if image else ", no images"
    rate = info.build_options.frame_rate or spec.frame_rate
    lines = [
        printable(f"{info.name} in {directory}{', written by another program' * info.adopted}"),
        f"  sequences of {spec.num_frames} frames{images}{f', {rate} frames/s' if rate else ''}",
        f"  {tables.describe_label(spec.label)}",
    ]
    if spec.signals:
        named = ", ".join(
            f"{s.name}{f' ({s.unit})' if s.unit else ''}{f' x {s.size}' if s.size > 1 else ''}"
            for s in spec.signals
        )
        lines.append(printable(f"  signals {named}"))
    lines += [
        *tables.split_table(info),
        *tables.label_table(info, max_rows=None),
        *tables.describe_dropped(info),
    ]
    counts = [f"{name.replace('_', ' ')} {count:,}" for name, count in info.counts.items() if count]
    lines += [printable(f"counts: {', '.join(counts)}")] if counts else []
    if command := build_command(_changed_options(info.options)):
        lines.append(printable(f"built by {command} (defaults left out)"))
    if info.versions:
        named = ", ".join(f"{name} {version}" for name, version in info.versions.items())
        lines.append(printable(f"built with {named}"))
    if info.fingerprint:
        lines.append(printable(f"fingerprint {info.fingerprint}"))
    lines += [f"warning: {text}" for text in tables.class_warnings(info)]
    return "\n".join(tables.shorten(line, _MAX_LINE_LENGTH) for line in lines)


def _changed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a build without those that have their defaults of today."""
    defaults = {field.name: field.default for field in dataclasses.fields(TelemetryOptions)}
    defaults |= DatasetOptions().to_json()
    return {
        name: value
        for name, value in options.items()
        if name in ("num_frames", "height", "width") or value != _as_json(defaults.get(name))
    }


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def build_command(options: Mapping[str, Any]) -> str:
    """Returns the command that has these options, without paths; empty if they are not those of a build."""
    if "num_frames" not in options:
        return ""
    verb = "dashcam" if "telemetry" in options or "annotation" in options else "videos"
    words = [f"pipelines {verb} --input ... --output ..."]
    rest = dict(options)
    height, width = rest.pop("height", None), rest.pop("width", None)
    if height and width:
        words.append(f"--size {height}x{width}")
    for name, value in rest.items():
        flag = f"--{name.removesuffix('s')}" if name == "split_lists" else f"--{name}"
        if value is True:
            words.append(flag)
        elif isinstance(value, dict):
            pairs = (f"{key}={format_value(own)}" for key, own in value.items())
            words.append(f"{flag} {shlex.quote(','.join(pairs)[:200])}")
        elif isinstance(value, list) and value:
            words.append(f"{flag} {shlex.quote(','.join(map(format_value, value))[:200])}")
        elif value not in (None, False, [], ""):
            words.append(f"{flag} {shlex.quote(str(value))}")
    return " ".join(words)


def format_value(value: Any) -> str:
    """Returns an option's value as text, cut if it is very long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]} ..."
