"""Builds the element of one sequence from its parsed record: features, labels and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.reading.frames import Frames
from tfrecords_schema.spec import SequenceSpec, signal_floats_key
from trainer.config.clips import Augmentation, Clips, read_spec
from trainer.config.dataset import DatasetError
from trainer.data.augment import colour_matrix, crop_window, draw_numbers, mirror_values
from trainer.data.clips import choose_frames, jitter_frames, reverse_frames, take_frames
from trainer.data.parsed_records import (
    IMAGE,
    METADATA,
    PADDING_MASK,
    VALID_FRAMES,
    labels_of,
    weights_of,
)
from trainer.data.pixels import FrameReader
from trainer.data.read_options import Outputs
from trainer.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ElementBuilder:
    """Builds elements of a dataset; `trainer.data.reader.read_sequences` says what the options mean.

    Pixels come last, batch by batch: until then an element holds encoded frames, and the parameters of their
    transforms.

    Attributes:
        cached: the frames of a cache, ``[N, height, width, channels]``; None if records hold them.
    """

    info: DatasetInfo
    clips: Clips | None = None
    augment: Augmentation | None = None
    outputs: Outputs
    cached: Frames | None = None

    def __post_init__(self) -> None:
        spec, outputs = self.spec, self.outputs  # the spec checks clips and size
        if self.augment is not None:
            self.augment.check_for(self.info)
        label, weights = spec.label, outputs.class_weights
        if outputs.has_weights and label.task == "none":
            raise ConfigError("the dataset has no labels to weigh: leave the weights out")
        if weights is not None and (
            label.task != "classification" or len(weights) != label.num_classes
        ):
            raise ConfigError(
                "class_weights must hold one weight for each class of a classification, got "
                f"{len(weights)} for task {label.task!r} with {label.num_classes} classes"
            )
        taken = [VALID_FRAMES]
        taken += [PADDING_MASK] if outputs.padding_mask else []
        taken += METADATA if outputs.metadata else []
        for signal in spec.signals:
            if signal.name in taken:
                raise DatasetError(
                    f"a signal named {signal.name!r} hides the feature of that name: "
                    "build the dataset with another name for it"
                )

    @property
    def spec(self) -> SequenceSpec:
        """Spec of the sequences in elements: fewer frames or another size than in records."""
        return read_spec(self.info.spec, self.clips, self.outputs.image_size)

    @property
    def clips_per_sequence(self) -> int:
        """Elements per record."""
        return 1 if self.clips is None else self.clips.count

    @property
    def random(self) -> bool:
        """True if an element depends on a seed."""
        return self.augment is not None or (self.clips is not None and self.clips.at == "random")

    def build(self, parsed: dict[str, Any], seed: Any, clip: int) -> Any:
        """Builds the element of a clip, whose frames `decode_pixels` decodes.

        Frames in ``parsed`` are encoded, indices into ``cached``, or left out. A ``seed`` is ``[2]`` int64.
        """
        spec, augment = self.info.spec, self.augment or Augmentation()
        numbers: Any = draw_numbers(seed, self.spec.num_frames) if self.random else None
        if self.clips is not None or augment.jitter or augment.reverse:
            clips = self.clips or Clips(num_frames=spec.num_frames, at="first")
            valid = parsed[keys.VALID_FRAMES]
            start = 0.0 if numbers is None else numbers.clip_start
            indices, kept = choose_frames(valid, clips, clip, start)
            if augment.jitter:
                indices = jitter_frames(indices, valid, augment.jitter, numbers.jitter)
            if augment.reverse:
                backwards = reverse_frames(indices, kept)
                indices = tf.where(numbers.reverse < augment.reverse, backwards, indices)
            parsed = take_frames(parsed, spec, indices, kept)
        transforms = {}
        if augment.crop < 1 and spec.image is not None:
            transforms["window"] = crop_window(augment.crop, spec.image, numbers)
        if augment.flip:
            transforms["flipped"] = numbers.flip < augment.flip
            parsed = mirror_values(parsed, self.info, augment, transforms["flipped"])
        if augment.recolours:
            transforms["colours"] = colour_matrix(augment, numbers)
        features = self._features(parsed)
        if keys.IMAGE_ENCODED in parsed:
            features[IMAGE] = {"frames": parsed[keys.IMAGE_ENCODED], **transforms}
        if spec.label.task == "none":
            return features
        labels = labels_of(parsed, self.spec)
        if not self.outputs.has_weights:
            return features, labels
        return features, labels, weights_of(parsed, labels, self.spec, self.outputs.class_weights)

    def decode_pixels(self, batch: Any) -> Any:
        """Returns a batch of elements from `build` with its frames decoded and transformed."""
        stored, wanted = self.info.spec.image, self.spec.image
        if stored is None or wanted is None:
            return batch
        dtype = self.outputs.image_dtype
        reader = FrameReader(
            stored=stored,
            wanted=wanted,
            adopted=self.info.adopted,
            as_float=dtype == "float32",
            cached=self.cached,
        )
        features, *labels = batch if isinstance(batch, tuple) else (batch,)
        names, arguments = zip(*features[IMAGE].items(), strict=True)

        def read(*values: Any) -> Any:
            return reader.read(**dict(zip(names, values, strict=True)))

        pixels = tf.numpy_function(read, arguments, tf.as_dtype(dtype), stateful=False)
        shape = (*features[IMAGE]["frames"].shape, *wanted.shape)
        features = {**features, IMAGE: tf.ensure_shape(pixels, shape)}
        return (features, *labels) if labels else features

    def _features(self, parsed: dict[str, Any]) -> dict[str, Any]:
        """Returns all features but the frames."""
        valid = parsed[keys.VALID_FRAMES]
        features = {VALID_FRAMES: valid}
        for signal in self.info.spec.signals:
            features[signal.name] = parsed[signal_floats_key(signal.name)]
        if self.outputs.padding_mask:
            features[PADDING_MASK] = tf.sequence_mask(valid, self.spec.num_frames)
        if self.outputs.metadata:
            features |= {name: parsed[key] for name, key in METADATA.items()}
        return features
