"""Describes the records of a dataset: their keys, types and shapes.

Writing, parsing, validating and faking records all derive from one `SequenceSpec`. The keys are
MediaSequence's
(https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/util/sequence/media_sequence.py),
so DMVR, TensorFlow's Model Garden and MediaPipe read the records unchanged. Keys that
MediaSequence lacks are marked "ours" below. All times are integer microseconds.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from tfrecords_schema.codec import check_fields, from_json, parse_json, to_json

Kind = Literal["bytes", "int", "float"]
Task = Literal["none", "classification", "multilabel", "regression"]
ImageFormat = Literal["JPEG", "PNG"]

# Limits of what a description may demand of its readers, far beyond any real dataset.
MAX_PIXELS = 8192 * 8192  # per frame; 8K video has half as many
MAX_FRAMES = 100_000  # per sequence
MAX_CLASSES = 100_000
MAX_VALUES = 65_536  # of a signal per frame
MAX_TEXT_BYTES = 16_384  # of an id, path or class name in a record

# Context of a record.
EXAMPLE_ID = "example/id"
DATASET_NAME = "example/dataset_name"
DATA_PATH = "clip/data_path"
MEDIA_ID = "clip/media_id"
GROUP_ID = "clip/group_id"  # ours
START_TIMESTAMP = "clip/start/timestamp"
END_TIMESTAMP = "clip/end/timestamp"
LABEL_INDEX = "clip/label/index"
LABEL_STRING = "clip/label/string"
LABEL_TEXT = "clip/label/text"  # DMVR's name for the label strings
LABEL_VALUE = "clip/label/value"  # ours
IMAGE_FORMAT = "image/format"
IMAGE_COLORSPACE = "image/colorspace"
IMAGE_HEIGHT = "image/height"
IMAGE_WIDTH = "image/width"
IMAGE_CHANNELS = "image/channels"
FRAME_RATE = "image/frame_rate"
VALID_FRAMES = "image/valid_frames"  # ours

# Feature lists of a record: one step per frame.
IMAGE_ENCODED = "image/encoded"
IMAGE_TIMESTAMP = "image/timestamp"
FRAME_LABEL_INDEX = "image/label/index"
FRAME_LABEL_STRING = "image/label/string"
FRAME_LABEL_VALUE = "LABEL/feature/floats"

_RESERVED_NAMES = ("LABEL", "image", "clip", "example", "valid_frames")


def signal_floats_key(name: str) -> str:
    """Returns MediaSequence's key for the values of an input signal: ``SPEED/feature/floats``."""
    return f"{name}/feature/floats"


def signal_timestamp_key(name: str) -> str:
    """Returns MediaSequence's key for the times of an input signal, in microseconds."""
    return f"{name}/feature/timestamp"


class SpecError(ValueError):
    """A spec that contradicts itself, or a record that does not match its spec."""


@dataclass(frozen=True)
class Feature:
    """One key of a record.

    Attributes:
        shape: number of values (per step of a feature list): ``()`` is one, ``(3,)`` three, ``(None,)`` any
            up to ``limit``.
    """

    key: str
    kind: Kind
    shape: tuple[int | None, ...] = ()
    limit: int = 0

    def accepts(self, count: int) -> bool:
        """Returns True if ``count`` values fit the shape."""
        if self.shape == (None,):
            return count <= self.limit
        return count == (self.shape[0] if self.shape else 1)


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """The stored frames: ``[height, width, channels]`` uint8 when decoded, RGB or gray.

    ``ImageSpec(height=180, width=320)`` describes JPEG frames of shape ``(180, 320, 3)``.
    """

    height: int
    width: int
    channels: int = 3
    format: ImageFormat = "JPEG"

    def __post_init__(self) -> None:
        check_fields(self, SpecError)
        for name in ("height", "width"):
            if getattr(self, name) < 1:
                raise SpecError(f"image {name} must be at least 1, got {getattr(self, name)}")
        if self.height * self.width > MAX_PIXELS:
            raise SpecError(
                f"an image may have at most {MAX_PIXELS} pixels, got {self.height}x{self.width}"
            )
        if self.channels not in (1, 3):
            raise SpecError(f"image channels must be 1 (gray) or 3 (RGB), got {self.channels}")

    @property
    def colorspace(self) -> str:
        """``RGB`` or ``GRAY``, as stored under ``image/colorspace``."""
        return "RGB" if self.channels == 3 else "GRAY"

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)``."""
        return (self.height, self.width, self.channels)


@dataclass(frozen=True, kw_only=True)
class LabelSpec:
    """The labels of a record.

    Two classes, with label 0 for ``run``: ``LabelSpec(task="classification", class_names=("run", "walk"))``.
    Two regression targets, a float32 ``[2]`` per record:
    ``LabelSpec(task="regression", target_names=("vx", "vy"), target_units=("m/s", "m/s"))``.

    Attributes:
        task: ``classification`` (one class), ``multilabel`` (any number of classes), ``regression`` (one
            float32 per target) or ``none``.
        class_names: in label order: ``class_names[i]`` is the class with index ``i``.
        target_names: the regression targets, in order.
        target_units: their units; empty when unknown.
        target_offsets: subtracted from targets before they are stored as float32, which has 7 digits: a
            target is the stored value plus its offset. Empty for none.
        per_frame: every frame has a label of its own, not the sequence.
    """

    task: Task = "none"
    class_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    target_units: tuple[str, ...] = ()
    target_offsets: tuple[float, ...] = ()
    per_frame: bool = False

    def __post_init__(self) -> None:
        check_fields(self, SpecError)
        for kind, names, tasks in (
            ("class", self.class_names, ("classification", "multilabel")),
            ("target", self.target_names, ("regression",)),
        ):
            if self.task in tasks and not names:
                raise SpecError(f"task {self.task!r} needs at least one {kind} name, got none")
            if self.task not in tasks and names:
                raise SpecError(
                    f"task {self.task!r} takes no {kind} names, got {list(names)!r:.300}"
                )
            if len(names) > MAX_CLASSES:
                raise SpecError(
                    f"there may be at most {MAX_CLASSES} {kind} names, got {len(names)}"
                )
            if len(set(names)) != len(names):
                raise SpecError(f"{kind} names must be distinct, got {list(names)!r:.300}")
        if self.target_units and len(self.target_units) != len(self.target_names):
            raise SpecError(
                f"target_units must name a unit for each of {len(self.target_names)} targets, "
                f"got {len(self.target_units)}"
            )
        if self.target_offsets and (
            len(self.target_offsets) != len(self.target_names)
            or not all(map(math.isfinite, self.target_offsets))
        ):
            raise SpecError(
                f"target_offsets must hold a finite number for each of {len(self.target_names)} targets, "
                f"got {list(self.target_offsets)}"
            )
        if self.per_frame and self.task not in ("classification", "regression"):
            raise SpecError(
                f"per_frame labels need task 'classification' or 'regression', got {self.task!r}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for tasks without classes."""
        return len(self.class_names)

    @property
    def has_one_unit(self) -> bool:
        """True if all of several targets are in the same unit, or none has one: their errors can be added."""
        return len(self.target_names) > 1 and len(set(self.target_units)) <= 1

    @property
    def offsets(self) -> tuple[float, ...]:
        """The offset of each target; 0 for none."""
        return self.target_offsets or (0.0,) * len(self.target_names)


@dataclass(frozen=True, kw_only=True)
class SignalSpec:
    """An input signal with ``size`` float32 values per frame, stored as ``NAME/feature/floats``."""

    name: str
    size: int = 1
    unit: str = ""

    def __post_init__(self) -> None:
        check_fields(self, SpecError)
        # A slash would change the key; the reserved names are keys of records or of what readers return.
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", self.name) or self.name in _RESERVED_NAMES:
            raise SpecError(
                "a signal's name must begin with a letter, consist of letters, digits, '_', '.' and '-', and "
                f"be none of {', '.join(_RESERVED_NAMES)}; got {self.name!r:.300}"
            )
        if not 1 <= self.size <= MAX_VALUES:
            raise SpecError(
                f"signal {self.name} must have from 1 to {MAX_VALUES} values, got {self.size}"
            )


@dataclass(frozen=True, kw_only=True)
class SequenceSpec:
    """The shape of each record of a dataset.

    Example: 16 RGB frames of 180x320 at 10 frames/s in two classes::

        spec = SequenceSpec(
            num_frames=16,
            frame_rate=10.0,
            image=ImageSpec(height=180, width=320),
            label=LabelSpec(task="classification", class_names=("run", "walk")),
        )
        spec.image_shape  # (16, 180, 320, 3)

    Args:
        num_frames: frames per record, padding included.
        frame_rate: frames/s after sampling; None when sequences keep the rates of their sources.
        image: the stored frames; None for records of signals only.
        label: the task and its names.
        signals: input signals, one value or vector per frame.

    Raises:
        SpecError: when the parts contradict each other.
    """

    num_frames: int
    frame_rate: float | None = None
    image: ImageSpec | None = None
    label: LabelSpec = LabelSpec()
    signals: tuple[SignalSpec, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, SpecError)
        if not 1 <= self.num_frames <= MAX_FRAMES:
            raise SpecError(f"num_frames must be from 1 to {MAX_FRAMES}, got {self.num_frames}")
        if self.frame_rate is not None and not 0 < self.frame_rate < math.inf:
            raise SpecError(f"frame_rate must be positive and finite, got {self.frame_rate}")
        if self.image is None and not self.signals:
            raise SpecError("a sequence needs images or at least one signal, got neither")
        names = [signal.name for signal in self.signals]
        if len(set(names)) != len(names):
            raise SpecError(f"signal names must be distinct, got {names!r:.300}")

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """The shape of a decoded sequence: ``(num_frames, height, width, channels)``.

        Raises:
            SpecError: when records hold no images.
        """
        if self.image is None:
            raise SpecError("these records hold no images")
        return (self.num_frames, *self.image.shape)

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of all numeric columns: regression targets, then signals."""
        return (*self.label.target_names, *(signal.name for signal in self.signals))

    def context_features(self) -> tuple[Feature, ...]:
        """Returns the keys in a record's context."""
        texts = [EXAMPLE_ID, DATASET_NAME, DATA_PATH, MEDIA_ID, GROUP_ID]
        numbers = [START_TIMESTAMP, END_TIMESTAMP, VALID_FRAMES]
        if self.image is not None:
            texts += [IMAGE_FORMAT, IMAGE_COLORSPACE]
            numbers += [IMAGE_HEIGHT, IMAGE_WIDTH, IMAGE_CHANNELS]
        features = [Feature(key, "bytes") for key in texts]
        features += [Feature(key, "int") for key in numbers]
        features.append(Feature(FRAME_RATE, "float"))
        if self.label.num_classes and not self.label.per_frame:
            one = self.label.task == "classification"
            shape, limit = ((), 0) if one else ((None,), self.label.num_classes)
            features.append(Feature(LABEL_INDEX, "int", shape, limit))
            features += [Feature(key, "bytes", shape, limit) for key in (LABEL_STRING, LABEL_TEXT)]
        if self.label.task == "regression" and not self.label.per_frame:
            features.append(Feature(LABEL_VALUE, "float", (len(self.label.target_names),)))
        return tuple(features)

    def feature_lists(self) -> tuple[Feature, ...]:
        """Returns the keys with one step per frame; each shape is that of a single step."""
        features = [Feature(IMAGE_TIMESTAMP, "int")]
        if self.image is not None:
            features.append(Feature(IMAGE_ENCODED, "bytes"))
        if self.label.per_frame and self.label.task == "classification":
            features += [Feature(FRAME_LABEL_INDEX, "int"), Feature(FRAME_LABEL_STRING, "bytes")]
        if self.label.per_frame and self.label.task == "regression":
            features.append(Feature(FRAME_LABEL_VALUE, "float", (len(self.label.target_names),)))
        for signal in self.signals:
            features.append(Feature(signal_floats_key(signal.name), "float", (signal.size,)))
            features.append(Feature(signal_timestamp_key(signal.name), "int"))
        return tuple(features)

    def differences(
        self, other: SequenceSpec, sides: tuple[str, str] = ("here", "there")
    ) -> list[str]:
        """Returns the differences from ``other``, such as ``"num_frames: 16 here, 8 there"``."""
        mine, theirs = _flatten(to_json(self)), _flatten(to_json(other))
        return [
            f"{key}: {mine.get(key)!r} {sides[0]}, {theirs.get(key)!r} {sides[1]}"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]


def format_target(stored: float, offset: float, digits: int) -> str:
    """Returns a target, ``stored + offset``, with ``digits`` significant digits of ``stored``.

    ``format_target(12.3456, 1.7e9, 4)`` is ``1700000012.35``.
    """
    text = f"{stored:.{digits}g}"
    return f"{Decimal(text) + Decimal(repr(float(offset))):f}" if offset else text


def load_spec(path: str) -> SequenceSpec:
    """Returns the spec in the JSON file of ``--spec``; raises SpecError if it holds something else."""
    spec, key_map = load_spec_and_map(path)
    if spec is None or key_map:
        raise SpecError(f"--spec {path} must describe records whose keys are MediaSequence's")
    return spec


def load_spec_and_map(path: str) -> tuple[SequenceSpec | None, dict[str, str]]:
    """Returns the spec in a JSON file, None if it has none, and its ``map`` of our keys to theirs.

    Raises:
        SpecError: if the file holds something else.
    """
    try:
        fields = parse_json(Path(path).read_bytes())
        key_map = fields.pop("map", {}) if isinstance(fields, dict) else {}
        if not isinstance(key_map, dict) or not all(isinstance(v, str) for v in key_map.values()):
            raise ValueError('its map must be an object such as {"image": "frames", "label": "y"}')
        if key_map and not fields:
            return None, key_map
        return from_json(SequenceSpec, fields, error=SpecError, strict=True), key_map
    except ValueError as error:
        raise SpecError(
            f"--spec {path} must describe the records in JSON (docs/reader.md): {error}"
        ) from error


def _flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
