"""Builds the element of one sequence from its parsed record: features, labels and weights.

Pixels come last, batch by batch: until then an element holds encoded frames, and the parameters of their
transforms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import SequenceSpec, signal_floats_key
from trainer.config.clips import Augmentation, Clips, read_spec
from trainer.config.dataset import DatasetError
from trainer.data.augment import (
    RandomNumbers,
    colour_matrix,
    crop_window,
    draw_numbers,
    mirror_values,
)
from trainer.data.clips import choose_frames, jitter_frames, reverse_frames, take_frames
from trainer.data.parsed_records import (
    IMAGE,
    METADATA,
    PADDING_MASK,
    VALID_FRAMES,
    labels_of,
    weights_of,
)
from trainer.data.pixels import FrameReader, Frames
from trainer.data.read_options import Outputs
from trainer.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ElementBuilder:
    """Builds elements of a dataset; `trainer.data.reader.read_sequences` says what the options mean.

    Raises:
        ConfigError, DatasetError: if the dataset does not fit the options.
    """

    info: DatasetInfo
    clips: Clips | None = None
    augment: Augmentation | None = None
    outputs: Outputs

    def __post_init__(self) -> None:
        spec = self.info.spec
        read_spec(spec, self.clips, self.outputs.image_size)
        if self.augment is not None:
            self.augment.check_for(self.info)
        self._check_weights()
        taken = [VALID_FRAMES]
        taken += [PADDING_MASK] if self.outputs.padding_mask else []
        taken += METADATA if self.outputs.metadata else []
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

    def build(self, parsed: dict[str, Any], seed: Any = None, clip: Any = 0) -> Any:
        """Builds one element, whose frames `decode_pixels` decodes.

        Args:
            parsed: from `parse_record`; or without frames, and their indices in a cache as `IMAGE`.
            seed: ``[2]`` int64, if elements are `random`.
            clip: ``[]`` int64, index of the clip.
        """
        numbers = draw_numbers(seed, self.spec.num_frames) if self.random else None
        parsed = self._take_frames(parsed, numbers, clip)
        flipped = None
        if self.augment is not None and self.augment.flip and numbers is not None:
            flipped = numbers.flip < self.augment.flip
            parsed = mirror_values(parsed, self.info, self.augment, flipped)
        features = self._features(parsed)
        if self.spec.image is not None:
            features[IMAGE] = self._frames_and_transforms(parsed, numbers, flipped)
        if self.spec.label.task == "none":
            return features
        labels = labels_of(parsed, self.spec)
        if not self.outputs.has_weights:
            return features, labels
        return features, labels, weights_of(parsed, labels, self.spec, self.outputs.class_weights)

    def decode_pixels(self, batch: Any, cached: Frames | None = None) -> Any:
        """Returns a batch of elements with its frames decoded and transformed.

        Args:
            batch: elements from `build`, batched.
            cached: the frames of a cache, ``[N, height, width, channels]``.
        """
        stored, wanted = self.info.spec.image, self.spec.image
        if stored is None or wanted is None:
            return batch
        dtype = self.outputs.image_dtype
        reader = FrameReader(
            stored=stored,
            wanted=wanted,
            adopted=self.info.adopted,
            as_float=dtype == "float32",
            cached=cached,
        )
        features = batch[0] if isinstance(batch, tuple) else batch
        names, arguments = zip(*features[IMAGE].items(), strict=True)

        def read(*values: Any) -> Any:
            return reader.read(**dict(zip(names, values, strict=True)))

        pixels = tf.numpy_function(read, arguments, tf.as_dtype(dtype), stateful=False)
        shape = (*features[IMAGE]["frames"].shape, *wanted.shape)
        features = {**features, IMAGE: tf.ensure_shape(pixels, shape)}
        return (features, *batch[1:]) if isinstance(batch, tuple) else features

    def _take_frames(
        self, parsed: dict[str, Any], numbers: RandomNumbers | None, clip: Any
    ) -> dict[str, Any]:
        """Returns the record with the wanted frames, still encoded, in their final order."""
        augment, valid = self.augment, parsed[keys.VALID_FRAMES]
        reorders = augment is not None and (augment.jitter or augment.reverse)
        if self.clips is None and not reorders:
            return parsed
        clips = self.clips or Clips(num_frames=self.info.spec.num_frames, at="first")
        start = 0.0 if numbers is None else numbers.clip_start
        indices, kept = choose_frames(valid, clips, clip, start)
        if augment is not None and numbers is not None and augment.jitter:
            indices = jitter_frames(indices, valid, augment.jitter, numbers.jitter)
        if augment is not None and numbers is not None and augment.reverse:
            backwards = reverse_frames(indices, kept)
            indices = tf.where(numbers.reverse < augment.reverse, backwards, indices)
        return take_frames(parsed, self.info.spec, indices, kept)

    def _frames_and_transforms(
        self, parsed: dict[str, Any], numbers: RandomNumbers | None, flipped: Any
    ) -> dict[str, tf.Tensor]:
        """Returns the arguments of `trainer.data.pixels.FrameReader.read` for one sequence."""
        arguments = {"frames": parsed[IMAGE] if IMAGE in parsed else parsed[keys.IMAGE_ENCODED]}
        augment, stored = self.augment, self.info.spec.image
        if augment is None or numbers is None or stored is None:
            return arguments
        if augment.crop < 1:
            arguments["window"] = crop_window(augment.crop, stored, numbers)
        if flipped is not None:
            arguments["flipped"] = flipped
        if augment.recolours:
            arguments["colours"] = colour_matrix(augment, numbers)
        return arguments

    def _features(self, parsed: dict[str, Any]) -> dict[str, tf.Tensor]:
        valid = parsed[keys.VALID_FRAMES]
        features = {VALID_FRAMES: valid}
        for signal in self.info.spec.signals:
            features[signal.name] = parsed[signal_floats_key(signal.name)]
        if self.outputs.padding_mask:
            features[PADDING_MASK] = tf.sequence_mask(valid, self.spec.num_frames)
        if self.outputs.metadata:
            features |= {name: parsed[key] for name, key in METADATA.items()}
        return features

    def _check_weights(self) -> None:
        label, weights = self.info.spec.label, self.outputs.class_weights
        if self.outputs.has_weights and label.task == "none":
            raise ConfigError("the dataset has no labels to weigh: leave the weights out")
        if weights is not None and (
            label.task != "classification" or len(weights) != label.num_classes
        ):
            raise ConfigError(
                "class_weights must hold one weight for each class of a classification, got "
                f"{len(weights)} for task {label.task!r} with {label.num_classes} classes"
            )
