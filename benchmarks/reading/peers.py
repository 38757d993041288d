"""Peers of the reader: decoding alone, and other readers of the same records."""

from __future__ import annotations

import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tensorflow as tf

from reading.stand_ins import stand_in_for
from tfrecords_schema import open_dataset
from tfrecords_schema.parse import parse_sequence
from tfrecords_schema.spec import SequenceSpec

Read = Callable[[], Any]


class ByIndex:
    """Batches of `open_dataset`, read by a thread per CPU, as often as it is iterated."""

    def __init__(self, data: Path, split: str, batch_size: int) -> None:
        self.sequences, self.batch_size = open_dataset(data)[split], batch_size

    def __iter__(self) -> Iterator[list[Any]]:
        count = len(self.sequences)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for first in range(0, count, self.batch_size):
                batch = range(first, min(first + self.batch_size, count))
                yield list(pool.map(self.sequences.__getitem__, batch))


def decoding_alone(paths: list[str], spec: SequenceSpec) -> dict[str, Callable[[], None]]:
    """Returns functions that decode every frame once, with one thread per CPU, and keep nothing.

    One uses TensorFlow's decoder. For JPEGs, another uses libjpeg-turbo with memory that is allocated once.
    """
    steps, channels = spec.num_frames, spec.image.channels
    encoded = [
        parse_sequence(record, spec)["image/encoded"] for record in tf.data.TFRecordDataset(paths)
    ]
    files = [frames.numpy().tolist() for frames in encoded]

    @tf.function(input_signature=[tf.TensorSpec((steps,), tf.string)])
    def decode(frames: tf.Tensor) -> tf.Tensor:
        pixels = [
            tf.io.decode_image(frames[i], channels, expand_animations=False)
            if spec.image.format == "PNG"
            else tf.io.decode_jpeg(frames[i], channels, dct_method="INTEGER_ACCURATE")
            for i in range(steps)
        ]
        # Uses a part of each image, because TensorFlow removes unused operations.
        return tf.add_n([tf.cast(tf.reshape(image, [-1])[0], tf.int32) for image in pixels])

    def decode_all(part: slice) -> None:
        for frames in encoded[part]:
            decode(frames)

    def decode_all_fast(part: slice) -> None:
        memory = np.empty(spec.image.shape, np.uint8)
        colours = "GRAY" if channels == 1 else "RGB"
        for frames in files[part]:
            for frame in frames:
                simplejpeg.decode_jpeg(frame, colours, buffer=memory)

    decode(encoded[0])
    bounds = {"TensorFlow's decoder": in_threads(decode_all)}
    if spec.image.format == "JPEG":
        bounds["libjpeg-turbo"] = in_threads(decode_all_fast)
    return bounds


def in_threads(work: Callable[[slice], None]) -> Callable[[], None]:
    """Divides ``work`` among one thread per CPU."""
    workers = len(os.sched_getaffinity(0))

    def run() -> None:
        threads = [
            threading.Thread(target=work, args=(slice(number, None, workers),))
            for number in range(workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def plain_loop(paths: list[str], spec: SequenceSpec, batch_size: int) -> tf.data.Dataset:
    """Returns the dataset that tutorials build: parse, decode, shuffle, batch, prefetch."""

    def parse(serialized: tf.Tensor) -> Any:
        context, steps = tf.io.parse_single_sequence_example(
            serialized,
            {"clip/label/index": tf.io.VarLenFeature(tf.int64)},
            {"image/encoded": tf.io.FixedLenSequenceFeature([], tf.string)},
        )
        frames = tf.map_fn(
            lambda image: tf.image.convert_image_dtype(
                tf.io.decode_jpeg(image, channels=spec.image.channels), tf.float32
            ),
            steps["image/encoded"],
            fn_output_signature=tf.float32,
        )
        frames = tf.ensure_shape(frames, spec.image_shape)
        return frames, tf.sparse.to_dense(context["clip/label/index"])[:1]

    return (
        tf.data.TFRecordDataset(paths)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        .shuffle(32)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def dmvr_reader(path: Path, paths: list[str], spec: SequenceSpec, batch_size: int) -> Read:
    """Returns DMVR's reader for square frames without resizing, as floats from 0 to 1."""
    sys.path.insert(0, str(path))
    # Reading videos does not need the tokenizers, which import further packages.
    sys.modules["dmvr.tokenizers"] = types.ModuleType("dmvr.tokenizers")
    sys.modules["dmvr.tokenizers"].TextTokenizer = object
    from dmvr import modalities, video_dataset

    class Factory(video_dataset.BaseVideoDatasetFactory):
        def _build(self) -> None:
            builders = (
                self.parser_builder,
                self.sampler_builder,
                self.decoder_builder,
                self.preprocessor_builder,
                self.postprocessor_builder,
            )
            modalities.add_image(
                *builders,
                is_training=True,
                random_flip=False,
                num_frames=spec.num_frames,
                min_resize=spec.image.height,
                crop_size=spec.image.height,
            )

    def read() -> tf.data.Dataset:
        factory = Factory(paths).configure()
        return factory.make_dataset(num_epochs=1, batch_size=batch_size, drop_remainder=False)

    return read


def model_garden_reader(paths: list[str], spec: SequenceSpec, batch_size: int) -> Read:
    """Returns Model Garden's decoder and processing of whole frames, in the loop of its input reader."""
    stand_in_for(
        *("pandas", "pycocotools", "pydot_ng", "scipy", "tensorflow_datasets", "tensorflow_text")
    )
    from official.vision.dataloaders import video_input

    decoder = video_input.Decoder()

    def parse(serialized: tf.Tensor) -> tf.Tensor:
        return video_input.process_image(
            decoder.decode(serialized)["image/encoded"],
            is_training=False,
            num_frames=spec.num_frames,
            min_resize=spec.image.height,
            crop_size=spec.image.height,
        )

    def read() -> tf.data.Dataset:
        return (
            tf.data.Dataset.from_tensor_slices(paths)
            .interleave(
                tf.data.TFRecordDataset, cycle_length=10, num_parallel_calls=tf.data.AUTOTUNE
            )
            .shuffle(1000)
            .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size)
            .prefetch(tf.data.AUTOTUNE)
        )

    return read
