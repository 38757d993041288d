"""Reads from an exported model how its training records were made, so that footage becomes the same."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from typing import Any

from pipelines.build.shard import library_versions
from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions, ImageOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.prediction.model_input import READING_FILE, Reading
from tfrecords_schema import storage
from tfrecords_schema.codec import from_json, parse_json
from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import is_url
from tfrecords_schema.spec import LabelSpec, SequenceSpec

_SAVED_MODEL = "saved_model.pb"
CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True, kw_only=True)
class Export:
    """The description of an exported model.

    Attributes:
        path: the SavedModel's folder.
        info: the dataset it was trained on.
        options: the build options of that dataset, without labels and splits.
        reading: the part of a record that the model takes.
        targets: telemetry options for the targets of new footage; None if they are not to be read.
        thresholds: probability from which a multi-label model reports each class; empty for one half.
    """

    path: str
    info: DatasetInfo
    options: DatasetOptions
    reading: Reading
    targets: TelemetryOptions | None = None
    thresholds: tuple[float, ...] = ()

    @property
    def spec(self) -> SequenceSpec:
        """Spec of the training records without their labels."""
        return replace(self.info.spec, label=LabelSpec())

    @property
    def predicts_last_frame(self) -> bool:
        """True if the model was trained on the values of a sequence's last frame; see `LabelOptions`."""
        label_at = self.info.build_options.label_at
        return label_at == "last" and not self.info.spec.label.per_frame

    def differing_libraries(self) -> list[str]:
        """Returns the libraries whose versions differ from those that built the training set."""
        ours = library_versions()
        return [
            f"{name} {theirs} there, {ours[name]} here"
            for name, theirs in sorted(self.info.versions.items())
            if name not in ("reelbeam", "protobuf") and ours.get(name, theirs) != theirs
        ]


def open_export(
    model: str,
    *,
    stride: int | None = None,
    telemetry_template: str | None = None,
    trusted: bool = False,
) -> Export:
    """Reads the description of an exported model in a run folder, or in the SavedModel's folder itself.

    ``stride`` and ``telemetry_template`` replace those of the training set. A model with signals reads
    targets from its telemetry too; another one only if a template is given. A model that others may have
    written must be ``trusted``.

    Raises:
        UserError: if there is no such model, others may have written it, or the options of its training set
            are not understood.
    """
    model = model.rstrip("/") or model
    tried = [model, f"{model}/export"]
    folder = next((path for path in tried if storage.is_file(f"{path}/{_SAVED_MODEL}")), None)
    if folder is None and storage.is_file(f"{model}/checkpoint.npz"):
        raise UserError(
            f"--model {model}: its training has not ended, so that it holds no export yet. Continue it with: "
            f"trainer --resume {model}"
        )
    if folder is None:
        found = "a folder without it" if storage.is_folder(model) else "no such folder"
        raise UserError(
            f"--model must be a run folder of `trainer` or the export in it (with {_SAVED_MODEL}), "
            f"got {found}: {model}"
        )
    if not trusted and (others := _other_writers(folder)):
        raise UserError(
            f"--model {folder}: {others}, and a SavedModel can read and write files like a program. If you "
            "trust those who can write there, give --trust_model"
        )
    try:
        info = DatasetInfo.load(f"{folder}/assets.extra")
    except DatasetInfoError as error:
        raise UserError(
            f"{folder} does not say what it was trained on ({error}): export it again with `trainer`"
        ) from error
    options, targets = _options(info, folder, telemetry_template)
    if stride is not None:
        options = replace(options, sampling=replace(options.sampling, stride=stride))
    if telemetry_template is not None and options.telemetry is targets is None:
        raise UserError(
            "--telemetry is for models whose training set took signals or labels from the telemetry of each "
            "video, and that of this one did not: leave it out"
        )
    return Export(
        path=folder,
        info=info,
        options=options,
        reading=_reading(info, folder),
        targets=targets,
        thresholds=_thresholds(info, folder),
    )


def _other_writers(folder: str) -> str | None:
    """Describes who else may have written to a folder; None if only this user and root can."""
    if is_url(folder):
        return "it lies on an object store, where others may have written it"
    entries = [os.path.dirname(os.path.abspath(folder)), folder]
    for parent, folders, files in os.walk(folder):
        entries += [os.path.join(parent, name) for name in (*folders, *files)]
    for entry in entries:
        found = os.stat(entry)
        if found.st_uid not in (0, os.getuid()):
            return f"{entry} belongs to another user"
        # In a sticky folder, such as /tmp, only the owner of a file may replace it.
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return f"all users may write to {entry}"
    return None


def _options(
    info: DatasetInfo, folder: str, template: str | None
) -> tuple[DatasetOptions, TelemetryOptions | None]:
    """Returns the options to prepare footage with, and those of its targets, if they are to be read."""
    fields = info.options
    place = f"{folder}/assets.extra/{FILE_NAME}"
    if info.adopted and "frame_rate" not in fields:
        raise UserError(
            "the model was trained on records of another program, which do not say their frame rate, so "
            "footage cannot be sampled alike. Describe them again with `pipelines adopt --frame_rate`, and "
            "train on them again"
        )
    try:
        rate = fields["frame_rate"]
        sampling = {**fields, "frame_rate": None if rate is None else str(rate)}
        telemetry = _telemetry(info, template, signals=True) if info.spec.signals else None
        targets = _telemetry(info, template, signals=False) if telemetry or template else None
        options = DatasetOptions(
            name=info.name,
            sampling=from_json(SamplingOptions, sampling),
            image=from_json(ImageOptions, {**fields, "size": (fields["height"], fields["width"])}),
            telemetry=telemetry,
        )
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"{place}: the build options of the training set are missing or wrong ({error}), so footage "
            "cannot be prepared in the same way: build the dataset with `pipelines`, and train on it again"
        ) from error
    image = None if options.telemetry and options.telemetry.no_images else options.image.spec
    if (image, options.sampling.num_frames) != (info.spec.image, info.spec.num_frames):
        raise UserError(
            f"{place}: its build options say {options.sampling.num_frames} frames of {image}, its spec "
            f"{info.spec.num_frames} of {info.spec.image}: export the model again with `trainer`"
        )
    return options, targets


def _telemetry(
    info: DatasetInfo, template: str | None, *, signals: bool
) -> TelemetryOptions | None:
    """Returns the telemetry options of a training set, for its signals or for its targets; None for none."""
    if info.options.get("telemetry") is None and not info.options.get("no_images"):
        return None
    telemetry = from_json(TelemetryOptions, info.options)
    columns = telemetry.signal_columns
    if not signals:
        # A file alone does not tell its place in a joined drive. Forecasts, and footage without images, are
        # not drawn.
        columns = info.spec.label.target_names
        is_part = telemetry.join is not None and not info.spec.signals
        if (
            is_part
            or telemetry.label_ahead
            or telemetry.no_images
            or not (columns or info.build_options.class_column)
        ):
            return None
        telemetry = replace(telemetry, signal_columns=(), signal_units=())
    angles = tuple(name for name in telemetry.angle_columns if name in columns)
    return replace(telemetry, angle_columns=angles, telemetry=template or telemetry.telemetry)


def _reading(info: DatasetInfo, folder: str) -> Reading:
    place = f"{folder}/assets.extra/{READING_FILE}"
    if not storage.is_file(place):
        return Reading()  # older exports take whole records
    try:
        reading = from_json(Reading, parse_json(storage.read_bytes(place)), strict=True)
        reading.seen(info.spec)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{place} cannot be understood ({error}): export the model again with `trainer`"
        ) from error
    return reading


def _thresholds(info: DatasetInfo, folder: str) -> tuple[float, ...]:
    place = f"{folder}/assets.extra/{CALIBRATION_FILE}"
    if not storage.is_file(place):
        return ()  # older exports, and those of a regression
    try:
        fields = from_json(dict[str, Any], parse_json(storage.read_bytes(place)))
        found = from_json(tuple[float, ...], fields["thresholds"])
        if len(found) not in (0, info.spec.label.num_classes):
            raise ValueError(f"{len(found)} thresholds of {info.spec.label.num_classes} classes")
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{place} cannot be understood ({error}): export the model again with `trainer`"
        ) from error
    return found
