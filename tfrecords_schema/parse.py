"""Parses serialized records to tensors with static shapes. The only module here that imports TensorFlow."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.spec import ImageSpec, SequenceSpec, signal_floats_key

# Up to this many frames, one operation each is a tenth faster than a loop; a graph of more is slow to build.
_MAX_UNROLLED = 32
_DTYPES = {"bytes": tf.string, "int": tf.int64, "float": tf.float32}


def parse_sequence(
    serialized: tf.Tensor, spec: SequenceSpec, *, frames: bool = True
) -> dict[str, Any]:
    """Parses one serialized record; use it in ``Dataset.map``.

    Example: for 16 frames of 180x320 in a classification dataset the result holds, among others,
    ``"image/encoded"`` ``[16]`` string, ``"image/timestamp"`` ``[16]`` int64 and
    ``"clip/label/index"`` ``[]`` int64.

    Args:
        serialized: scalar string tensor, one ``SequenceExample``.
        spec: of the record.
        frames: include the encoded frames.

    Returns:
        A dict from each key of ``spec`` to its tensor. Shapes are static: ``()`` or ``[n]`` for context
        keys, ``[num_frames]`` or ``[num_frames, n]`` for feature lists. Keys with any number of values
        (a multi-label's) are dense ``[None]``.

    Raises:
        tf.errors.InvalidArgumentError: at run time, if the record lacks a key or has another number of
            values.
    """
    requested = [f for f in spec.feature_lists() if frames or f.key != keys.IMAGE_ENCODED]
    context, steps = tf.io.parse_single_sequence_example(
        serialized,
        context_features={
            f.key: tf.io.VarLenFeature(_DTYPES[f.kind])
            if f.shape == (None,)
            else tf.io.FixedLenFeature(f.shape, _DTYPES[f.kind])
            for f in spec.context_features()
        },
        sequence_features={
            f.key: tf.io.FixedLenSequenceFeature(f.shape, _DTYPES[f.kind]) for f in requested
        },
    )
    parsed = {
        key: tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value
        for key, value in context.items()
    }
    # ensure_shape raises an error for a record of another length; set_shape would only claim the shape.
    for feature in requested:
        parsed[feature.key] = tf.ensure_shape(steps[feature.key], (spec.num_frames, *feature.shape))
    return parsed


def parse_adopted(
    serialized: tf.Tensor, spec: SequenceSpec, *, frames: bool = True
) -> dict[str, Any]:
    """Parses a record of an adopted dataset as `parse_sequence` does, adjusted to ``spec``.

    Missing names become empty, missing times 0. Longer sequences are cut after ``spec.num_frames`` frames;
    shorter ones are padded with their last frame. A record without a group is its own group.
    """
    ids = (keys.GROUP_ID, keys.MEDIA_ID, keys.DATA_PATH, keys.EXAMPLE_ID)
    names = (*ids, keys.DATASET_NAME)
    label = {keys.LABEL_INDEX: tf.int64, keys.LABEL_VALUE: tf.float32}
    wanted = {f.key: f for f in (*spec.context_features(), *spec.feature_lists())}
    context, steps = tf.io.parse_single_sequence_example(
        serialized,
        context_features={
            **{key: tf.io.FixedLenFeature((), tf.string, "") for key in names},
            keys.VALID_FRAMES: tf.io.FixedLenFeature((), tf.int64, spec.num_frames),
            **{key: tf.io.VarLenFeature(kind) for key, kind in label.items() if key in wanted},
        },
        sequence_features={
            f.key: tf.io.FixedLenSequenceFeature(f.shape, _DTYPES[f.kind], allow_missing=True)
            for f in spec.feature_lists()
            if f.key != keys.FRAME_LABEL_STRING
        },
    )
    parsed = {key: context[key] for key in names}
    parsed[keys.GROUP_ID] = _first_of(context, ids)
    parsed[keys.MEDIA_ID] = _first_of(context, ids[1:])
    for key in label.keys() & wanted.keys():
        values, shape = context[key].values, wanted[key].shape
        parsed[key] = values[0] if shape == () else tf.ensure_shape(values, shape)
    held = steps[keys.IMAGE_ENCODED if spec.image else signal_floats_key(spec.signals[0].name)]
    length = tf.shape(held, tf.int64)[0]
    frames_of_both = tf.minimum(length, spec.num_frames)
    parsed[keys.VALID_FRAMES] = tf.minimum(context[keys.VALID_FRAMES], frames_of_both)
    places = tf.range(spec.num_frames, dtype=tf.int64)
    for feature in spec.feature_lists():
        if feature.key not in steps or (feature.key == keys.IMAGE_ENCODED and not frames):
            continue
        value = steps[feature.key]
        if feature.kind == "int":  # labels, or times, which may be missing
            missing = tf.zeros([tf.maximum(length - tf.shape(value, tf.int64)[0], 0)], tf.int64)
            value = tf.concat([value, missing], axis=0)
        value = tf.gather(value, tf.minimum(places, length - 1))
        parsed[feature.key] = tf.ensure_shape(value, (spec.num_frames, *feature.shape))
    return parsed


def _first_of(context: dict[str, Any], names: tuple[str, ...]) -> tf.Tensor:
    """Returns the first of the features ``names`` that is not empty."""
    found = tf.constant("")
    for name in reversed(names):
        found = tf.where(tf.equal(context[name], ""), found, context[name])
    return found


def _decode_frame(encoded: tf.Tensor, image: ImageSpec) -> tf.Tensor:
    if image.format == "PNG":
        pixels = tf.io.decode_png(encoded, image.channels)
    else:
        # OpenCV and libjpeg-turbo use the accurate transform too, so that all pixels are equal.
        pixels = tf.io.decode_jpeg(encoded, image.channels, dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(pixels, image.shape)


def decode_frames(encoded: tf.Tensor, image: ImageSpec) -> tf.Tensor:
    """Decodes ``encoded``, ``[num_frames]`` string, to ``[num_frames, height, width, channels]`` uint8."""
    count = encoded.shape[0]
    if count is not None and count <= _MAX_UNROLLED:
        return tf.stack([_decode_frame(encoded[i], image) for i in range(count)])
    return tf.map_fn(
        lambda data: _decode_frame(data, image),
        encoded,
        fn_output_signature=tf.TensorSpec(image.shape, tf.uint8),
    )


def parse_and_decode(serialized: tf.Tensor, spec: SequenceSpec) -> dict[str, Any]:
    """Parses a record as `parse_sequence` does, and decodes its frames to uint8 under ``"image"``."""
    parsed = parse_sequence(serialized, spec)
    if spec.image is not None:
        parsed["image"] = decode_frames(parsed.pop(keys.IMAGE_ENCODED), spec.image)
    return parsed
