"""A parsed record to what a model is given: features, labels and weights of one sequence, then its pixels.

Pixels come last, batch by batch: until then a sequence holds its encoded frames, and what was drawn for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.parse import parse_adopted, parse_sequence
from tfrecords_schema.spec import SequenceSpec, signal_floats_key
from trainer.config.clips import Augmentation, Clips, read_spec
from trainer.config.dataset import DatasetError
from trainer.config.options import ConfigError
from trainer.data.augment import Chances, colour_map, draw_chances, draw_window, mirror_values
from trainer.data.clips import choose_frames, jitter_frames, reverse_frames, take_frames
from trainer.data.pixels import FrameReader, Frames

# Names of the features beside the signals' own.
IMAGE = "image"
VALID_FRAMES = "valid_frames"
PADDING_MASK = "padding_mask"
METADATA = {
    "id": keys.EXAMPLE_ID,
    "source": keys.MEDIA_ID,
    "group": keys.GROUP_ID,
    "timestamps": keys.IMAGE_TIMESTAMP,
}

ImageDtype = Literal["uint8", "float32"]


@dataclass(frozen=True, kw_only=True)
class Elements:
    """What is made of each record; see `trainer.data.reader.read_sequences` for what the options mean.

    Raises:
        ConfigError, DatasetError: when the dataset has no such thing.
    """

    info: DatasetInfo
    clips: Clips | None = None
    augment: Augmentation | None = None
    image_size: tuple[int, int] | None = None
    image_dtype: ImageDtype = "uint8"
    padding_mask: bool = False
    metadata: bool = False
    sample_weights: bool = False
    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        spec = self.info.spec
        read_spec(spec, self.clips, self.image_size)
        if self.augment is not None:
            self.augment.check_for(self.info)
        if self.image_dtype not in ("uint8", "float32"):
            raise ConfigError(f"image_dtype must be uint8 or float32, got {self.image_dtype!r}")
        self._check_weights()
        taken = [VALID_FRAMES]
        taken += [PADDING_MASK] if self.padding_mask else []
        taken += METADATA if self.metadata else []
        for signal in spec.signals:
            if signal.name in taken:
                raise DatasetError(
                    f"a signal named {signal.name!r} hides the feature of that name: "
                    "build the dataset with another name for it"
                )

    @property
    def spec(self) -> SequenceSpec:
        """Of what comes out."""
        return read_spec(self.info.spec, self.clips, self.image_size)

    @property
    def random(self) -> bool:
        """Whether an element depends on a seed."""
        return self.augment is not None or (self.clips is not None and self.clips.at == "random")

    def from_record(self, parsed: dict[str, Any], seed: Any = None, number: Any = 0) -> Any:
        """One element, whose frames `with_pixels` decodes.

        Args:
            parsed: of `parse_record`; or without frames, and their places in a cache as `IMAGE`.
            seed: ``[2]`` int64, of an element that is `random`.
            number: ``[]`` int64, which of the clips.
        """
        chances = draw_chances(seed, self.spec.num_frames) if self.random else None
        chosen = self._chosen(parsed, chances, number)
        flipped = None
        if self.augment is not None and self.augment.flip and chances is not None:
            flipped = chances.flip < self.augment.flip
            chosen = mirror_values(chosen, self.info.spec, self.info, self.augment, flipped)
        features = self._features(chosen)
        if self.spec.image is not None:
            features[IMAGE] = self._drawn(chosen, chances, flipped)
        label = self.spec.label
        if label.task == "none":
            return features
        labels = labels_of(chosen, self.spec)
        if not self.sample_weights and self.class_weights is None:
            return features, labels
        return features, labels, weights_of(chosen, labels, self.spec, self.class_weights)

    def _chosen(
        self, parsed: dict[str, Any], chances: Chances | None, number: Any
    ) -> dict[str, Any]:
        """The record with the frames that are wanted, not yet decoded."""
        augment, valid = self.augment, parsed[keys.VALID_FRAMES]
        moves = augment is not None and (augment.jitter or augment.reverse)
        if self.clips is None and not moves:
            return parsed
        place = 0.0 if chances is None else chances.place
        clips = self.clips or Clips(num_frames=self.info.spec.num_frames, at="first")
        indices, kept = choose_frames(valid, clips, number, place)
        if augment is not None and chances is not None and augment.jitter:
            indices = jitter_frames(indices, valid, augment.jitter, chances.jitter)
        if augment is not None and chances is not None and augment.reverse:
            backwards = reverse_frames(indices, kept)
            indices = tf.where(chances.reverse < augment.reverse, backwards, indices)
        return take_frames(parsed, self.info.spec, indices, kept)

    def _drawn(
        self, parsed: dict[str, Any], chances: Chances | None, flipped: Any
    ) -> dict[str, tf.Tensor]:
        """Encoded frames, and what becomes of them: arguments of `trainer.data.pixels.FrameReader.read`."""
        drawn = {"frames": parsed[IMAGE] if IMAGE in parsed else parsed[keys.IMAGE_ENCODED]}
        augment, stored = self.augment, self.info.spec.image
        if augment is None or chances is None or stored is None:
            return drawn
        window = draw_window(augment, stored, chances)
        if window is not None:
            drawn["window"] = window
        if flipped is not None:
            drawn["flipped"] = flipped
        if augment.recolours:
            drawn["colours"] = colour_map(augment, chances)
        return drawn

    def with_pixels(self, batch: Any, kept: Frames | None = None) -> Any:
        """A batch of what `from_record` makes, with its pixels.

        Args:
            batch: of elements.
            kept: the frames of a cache, ``[N, height, width, channels]``.
        """
        stored, wanted = self.info.spec.image, self.spec.image
        if stored is None or wanted is None:
            return batch
        reader = FrameReader(
            stored=stored,
            wanted=wanted,
            adopted=self.info.adopted,
            as_float=self.image_dtype == "float32",
            kept=kept,
        )
        features = batch[0] if isinstance(batch, tuple) else batch
        names, drawn = zip(*features[IMAGE].items(), strict=True)

        def read(*values: Any) -> Any:
            return reader.read(**dict(zip(names, values, strict=True)))

        pixels = tf.numpy_function(read, drawn, tf.as_dtype(self.image_dtype), stateful=False)
        shape = (*features[IMAGE]["frames"].shape, *wanted.shape)
        features = {**features, IMAGE: tf.ensure_shape(pixels, shape)}
        return (features, *batch[1:]) if isinstance(batch, tuple) else features

    def _features(self, parsed: dict[str, Any]) -> dict[str, tf.Tensor]:
        valid = parsed[keys.VALID_FRAMES]
        features = {VALID_FRAMES: valid}
        for signal in self.info.spec.signals:
            features[signal.name] = parsed[signal_floats_key(signal.name)]
        if self.padding_mask:
            features[PADDING_MASK] = tf.sequence_mask(valid, self.spec.num_frames)
        if self.metadata:
            features |= {name: parsed[key] for name, key in METADATA.items()}
        return features

    def _check_weights(self) -> None:
        label, weights = self.info.spec.label, self.class_weights
        if (self.sample_weights or weights is not None) and label.task == "none":
            raise ConfigError("there is nothing to weigh in a dataset without labels")
        if weights is not None and (
            label.task != "classification" or len(weights) != label.num_classes
        ):
            raise ConfigError(
                f"class_weights go with a classification of as many classes, got {len(weights)} for "
                f"task {label.task!r} with {label.num_classes} classes"
            )


def parse_record(serialized: tf.Tensor, info: DatasetInfo, *, frames: bool = True) -> Any:
    """A record of a dataset, whoever wrote it, to tensors of its spec.

    Args:
        serialized: ``[]`` string.
        info: of the dataset.
        frames: whether its encoded frames are wanted.
    """
    parse = parse_adopted if info.adopted else parse_sequence
    return parse(serialized, info.spec, frames=frames)


def labels_of(parsed: dict[str, Any], spec: SequenceSpec) -> tf.Tensor:
    """The labels of a parsed record, shaped as `trainer.data.reader.read_sequences` says."""
    label = spec.label
    if label.task == "regression":
        return parsed[keys.FRAME_LABEL_VALUE if label.per_frame else keys.LABEL_VALUE]
    if label.per_frame:
        return parsed[keys.FRAME_LABEL_INDEX]
    if label.task == "classification":
        return parsed[keys.LABEL_INDEX]
    # A sum, since the maximum over no classes at all is minus infinity.
    marks = tf.reduce_sum(tf.one_hot(parsed[keys.LABEL_INDEX], label.num_classes), axis=0)
    return tf.minimum(marks, 1.0)


def weights_of(
    parsed: dict[str, Any],
    labels: tf.Tensor,
    spec: SequenceSpec,
    class_weights: Sequence[float] | None = None,
) -> tf.Tensor:
    """The weights of a parsed record: ``[]``, or ``[T]`` with labels by frame."""
    weights = tf.constant(1.0)
    if spec.label.per_frame:
        weights = tf.sequence_mask(parsed[keys.VALID_FRAMES], spec.num_frames, tf.float32)
    if class_weights is not None:
        weights *= tf.gather(tf.constant(class_weights, tf.float32), labels)
    return weights
