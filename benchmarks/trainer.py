"""Measures what the trainer's speed depends on. Run it on an idle machine.

    python benchmarks/trainer.py [--backbones MobileNetV2,VGG16,ResNet50] [--output results.json]

1. `trainer.TimeDistributed` against Keras's: seconds of the first step, and of a later one; around the
   default small network, the median ratio of later steps by batch and size of frames.
2. An epoch with and without cached features of a frozen backbone.
3. The share of a step that is spent waiting for input, and the device on which batches wait: the GPU, if
   there is one.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
import tensorflow as tf

from reading.waiting import waiting_for_input
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from trainer.config.run_folder import RunFolder
from trainer.config.training import ModelConfig, TrainingConfig
from trainer.models.backbones import build_frame_network
from trainer.models.layers import TimeDistributed
from trainer.models.network import build_model
from trainer.training.feeds import TrainingJob
from trainer.training.fitting import fit

CLASSES = LabelSpec(task="classification", class_names=("a", "b"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backbones", default="MobileNetV2,VGG16,ResNet50", help="networks to wrap"
    )
    parser.add_argument("--trained", action="store_true", help="train the backbones too")
    parser.add_argument("--frozen_backbone", default="MobileNet", help="network for 2 and 3")
    parser.add_argument(
        "--frozen_size", type=int, default=224, help="height and width of its frames"
    )
    parser.add_argument("--num_frames", type=int, default=8, help="frames per sequence")
    parser.add_argument("--size", type=int, default=64, help="height and width of frames for 1")
    parser.add_argument("--batch_size", type=int, default=2, help="sequences per batch")
    parser.add_argument("--steps", type=int, default=5, help="steps to measure after the first")
    parser.add_argument("--records", type=int, default=32, help="records of the generated dataset")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file of the results")
    options = parser.parse_args(argv)
    results: dict[str, Any] = {"cpus": os.cpu_count(), "tensorflow": tf.__version__}
    results["time_distributed"] = {
        name: compare_wrappers(name, options) for name in options.backbones.split(",") if name
    }
    results["small_network"] = [
        compare_small_network(batch, size, options.steps)
        for size in ((45, 80), (112, 112))
        for batch in (2, 16, 32)
    ]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        spec = SequenceSpec(
            num_frames=options.num_frames,
            image=ImageSpec(height=options.frozen_size, width=options.frozen_size),
            label=CLASSES,
        )
        info = write_fake_dataset(data, spec, {"train": options.records}, shards=4)
        results["cached_features"] = compare_caching(data, info, Path(folder), options)
        results["input"] = {
            options.frozen_backbone: describe_waiting(data, info, options.frozen_backbone, options)
        }
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def compare_wrappers(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Compares Keras's wrapper and ours around the same backbone."""
    shape = (options.num_frames, options.size, options.size, 3)
    random = np.random.default_rng(0)
    x = random.normal(size=(options.batch_size, *shape)).astype(np.float32)
    y = random.integers(0, 2, options.batch_size)
    wrappers = {"keras": keras.layers.TimeDistributed, "ours": TimeDistributed}

    def build(wrapper: Any) -> keras.Model:
        keras.utils.set_random_seed(0)
        inputs = keras.Input(shape)
        application = getattr(keras.applications, name)
        backbone = application(
            include_top=False, weights=None, input_shape=shape[1:], pooling="avg"
        )
        backbone.trainable = options.trained
        features = wrapper(backbone)(inputs)
        outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.LSTM(16)(features))
        model = keras.Model(inputs, outputs)
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    found, steps = {}, {}
    for which, wrapper in wrappers.items():
        model = build(wrapper)
        steps[which] = functools.partial(model.train_on_batch, x, y)
        found[f"{which}_first_step"] = timed(steps[which])
    # In turn, so that other load affects both; the minimum, because load only adds time.
    seconds = {which: [] for which in wrappers}
    for _ in range(options.steps):
        for which, step in steps.items():
            seconds[which].append(timed(step))
    found |= {f"{which}_step": min(values) for which, values in seconds.items()}
    first = found["keras_first_step"] / found["ours_first_step"]
    steady = found["keras_step"] / found["ours_step"]
    print(
        f"{name:<18} first step {found['keras_first_step']:6.1f} s with Keras's TimeDistributed, "
        f"{found['ours_first_step']:6.1f} s with ours ({first:.1f} times faster); then "
        f"{found['keras_step']:.3f} s and {found['ours_step']:.3f} s per step ({steady:.2f} times)",
        flush=True,
    )
    return {**found, "first_step_ratio": first, "step_ratio": steady}


def compare_small_network(batch: int, size: tuple[int, int], steps: int) -> dict[str, Any]:
    """Compares steps of Keras's wrapper and ours around the default network, with 8 frames per sequence."""
    config = ModelConfig()
    frames = (8, *size, config.channels(3))
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, *frames)).astype(np.float32)
    known = tf.data.Dataset.from_tensors((x, random.integers(0, 2, batch))).repeat()
    # As in a training, the graph does not know the number of sequences.
    unknown = (tf.TensorSpec((None, *frames), tf.float32), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(lambda: iter(known), output_signature=unknown)
    fits = []
    for wrapper in (keras.layers.TimeDistributed, TimeDistributed):
        keras.utils.set_random_seed(0)
        inputs = keras.Input(frames)
        network = build_frame_network(ImageSpec(height=size[0], width=size[1]), config).trained
        states = keras.layers.LSTM(64)(wrapper(network)(inputs))
        model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(states))
        model.compile("adam", "sparse_categorical_crossentropy")
        fits.append(functools.partial(model.fit, data, steps_per_epoch=4, verbose=0))
        fits[-1]()
    ratios = []
    for i in range(steps):
        order = (0, 1) if i % 2 else (1, 0)
        seconds = {which: timed(fits[which]) for which in order}
        ratios.append(seconds[0] / seconds[1])
    ratio = statistics.median(ratios)
    name = f"batches of {batch}, frames of {size[0]}x{size[1]}"
    print(f"small network, {name}: steps {ratio:.2f} times as fast as with Keras's", flush=True)
    return {"batch": batch, "size": size, "step_ratio": ratio}


def compare_caching(
    data: Path, info: Any, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Compares epochs of a head on a frozen backbone with and without cached features."""
    found = {}
    for caching in ("off", "auto"):
        config = TrainingConfig(
            epochs=3,
            batch_size=options.batch_size,
            cache_features=caching,
            model=ModelConfig(backbone=options.frozen_backbone, weights="none", trainable_layers=0),
        )
        keras.utils.set_random_seed(0)
        run = RunFolder(folder / caching)
        run.path.mkdir()
        job = TrainingJob(directory=data, info=info, folder=run, config=config)
        total = timed(lambda job=job: fit(build_model(info, job.config.model), job))
        with run.history.open() as file:
            found[f"{caching}_epoch"] = float(list(csv.DictReader(file))[-1]["seconds"])
        found[f"{caching}_total"] = total
    ratio = found["off_epoch"] / found["auto_epoch"]
    print(
        f"frozen {options.frozen_backbone}: a later epoch takes {found['off_epoch']:.2f} s without cached "
        f"features, {found['auto_epoch']:.2f} s with them ({ratio:.0f} times faster); three epochs "
        f"{found['off_total']:.1f} s and {found['auto_total']:.1f} s",
        flush=True,
    )
    return {**found, "epoch_ratio": ratio}


def describe_waiting(
    data: Path, info: Any, name: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Measures the share of a step with a frozen backbone that is spent waiting for input."""
    model = build_model(info, ModelConfig(backbone=name, weights="none", trainable_layers=0))
    model.compile("adam", "sparse_categorical_crossentropy")
    found = waiting_for_input(model, data, batch_size=options.batch_size)
    print(
        f"{name}: {found['share']:.1%} of a step of {found['read']:.3f} s is spent waiting for input; "
        f"batches wait on {found['device']}",
        flush=True,
    )
    return found


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
