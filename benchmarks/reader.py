"""How fast `trainer.reader` reads, against what it could do at best and against other readers.

    python benchmarks/reader.py                    a dataset made for it
    python benchmarks/reader.py --tfrecords DIR    your own: where the time goes, and whether training waits
    python benchmarks/reader.py --dmvr PATH        also DMVR's, of a checkout of google-deepmind/dmvr
    python benchmarks/reader.py --model_garden     also Model Garden's, if `tf-models-official` is installed
    python benchmarks/reader.py --memory           peak memory, of a dataset and of ten times as much

The bound is decoding the JPEGs alone, on all cores, with TensorFlow's decoder: nothing is read, parsed,
stacked or batched. Readers take turns, so that whatever else the machine does falls on all of them; ratios
are medians of rounds. CPU milliseconds a sequence are given beside, since they say more on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np
import tensorflow as tf

from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.parse import parse_sequence
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec
from trainer.buffers import reading_bytes
from trainer.dataset import shard_paths
from trainer.reader import Augmentation, read_sequences
from trainer.shuffling import plan_mixing

EVERYTHING = Augmentation(
    crop=0.6,
    flip=0.5,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.05,
    jitter=1,
    reverse=0.3,
)
Read = Callable[[], Any]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tfrecords", type=Path, metavar="DIR", help="a dataset to profile")
    parser.add_argument("--split", default="train")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=64, help="of the dataset that is made")
    parser.add_argument("--times", type=int, default=4, help="its records are read in a round")
    parser.add_argument("--num_frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="height and width of its frames")
    parser.add_argument("--dmvr", type=Path, metavar="PATH", help="of a checkout of DMVR")
    parser.add_argument("--model_garden", action="store_true")
    parser.add_argument("--memory", action="store_true", help="measure that instead")
    parser.add_argument("--most_batches", type=int, default=-1, help="that are read for it")
    parser.add_argument("--backbone", default="small", help="of the model that may wait for input")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON to write")
    parser.add_argument("--peak_of", type=Path, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args(argv)
    if options.peak_of is not None:
        print(peak_bytes(options.peak_of, options))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = options.tfrecords or made_dataset(Path(folder) / "made", options)
        if options.tfrecords is None and not options.memory:
            # Long enough for what happens once to count little.
            times = Path(folder) / "times"
            repeated_dataset(data, DatasetInfo.load(data), times, options.times)
            data = times
        results = {"cpus": len(os.sched_getaffinity(0)), "tensorflow": tf.__version__}
        if options.memory:
            results["memory"] = compare_memory(data, Path(folder), options)
        else:
            results["speed"] = compare_readers(data, options)
            results["mixing"] = measure_mixing(data, options)
            if options.tfrecords is not None:
                results["stages"] = profile_stages(data, options)
                results["training"] = waiting_for_input(data, options)
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def made_dataset(folder: Path, options: argparse.Namespace) -> Path:
    """Frames with as much detail as footage has, which fake ones lack, so that JPEGs are as large."""
    spec = SequenceSpec(
        num_frames=options.num_frames,
        image=ImageSpec(height=options.size, width=options.size),
        label=LabelSpec(task="classification", class_names=("a", "b", "c")),
    )
    random = np.random.default_rng(0)

    def frame() -> bytes:
        pixels = np.zeros((options.size, options.size, 3))
        for cells, strength in ((4, 90), (16, 40), (64, 20), (options.size, 4)):
            noise = random.normal(0, strength, (cells, cells, 3))
            pixels += cv2.resize(noise, (options.size, options.size), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(pixels + 127, 0, 255).astype(np.uint8)
        return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

    frames = [frame() for _ in range(4 * options.num_frames)]
    tiny = replace(spec, image=ImageSpec(height=8, width=8))
    records = []
    for i in range(options.records):
        chosen = [frames[(i + j) % len(frames)] for j in range(options.num_frames)]
        records.append(replace(fake_record(tiny, i), frames=chosen))
    write_fake_dataset(
        folder, spec, {"train": options.records}, records={"train": records}, shards=8
    )
    return folder


def compare_readers(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Sequences a second of each reader, and of decoding alone."""
    info, read = DatasetInfo.load(data), {"batch_size": options.batch_size}
    paths, count = shard_paths(data, info, options.split), info.splits[options.split].num_records
    readers: dict[str, Read] = {
        "ours, in order": lambda: read_sequences(data, options.split, **read),
        "ours, shuffled": lambda: read_sequences(data, options.split, shuffle=True, seed=0, **read),
        "ours, float": lambda: read_sequences(
            data, options.split, shuffle=True, seed=0, image_dtype="float32", **read
        ),
        "a plain loop": lambda: plain_loop(paths, info.spec, options.batch_size),
    }
    if not info.spec.value_names:  # which neither reverse, nor mirror without being marked
        readers["ours, augmented"] = lambda: read_sequences(
            data, options.split, shuffle=True, seed=0, augment=EVERYTHING, **read
        )
    if options.dmvr is not None:
        readers["DMVR"] = dmvr_reader(options.dmvr, paths, info.spec, options.batch_size)
    if options.model_garden:
        readers["Model Garden"] = model_garden_reader(paths, info.spec, options.batch_size)
    decode = decoding_alone(paths, info.spec)
    found: dict[str, Any] = {name: {"rates": [], "cpu_ms": [], "first": []} for name in readers}
    bounds: dict[str, list[float]] = {"rates": [], "cpu_ms": []}
    for number in range(options.rounds + 1):
        rate, cpu, _ = measured(lambda: (decode(), ()), count)
        if number:  # the first warms up
            bounds["rates"].append(rate)
            bounds["cpu_ms"].append(cpu)
        for name, reader in readers.items():
            rate, cpu, first = measured(lambda reader=reader: (None, reader()), count)
            if number:
                found[name]["rates"].append(rate)
                found[name]["cpu_ms"].append(cpu)
                found[name]["first"].append(first)
    print(f"decoding alone: {describe(bounds)}")
    for name, own in found.items():
        own["of_bound"] = ratio(own["rates"], bounds["rates"])
        own["of_bound_cpu"] = ratio(bounds["cpu_ms"], own["cpu_ms"])
        print(
            f"{name:<16} {describe(own)}; {own['of_bound']:.2f} of the bound by the clock, "
            f"{own['of_bound_cpu']:.2f} by CPU time; first batch after {np.median(own['first']):.2f} s",
            flush=True,
        )
    return {"bound": bounds, "readers": found}


def measured(start: Callable[[], tuple[Any, Any]], count: int) -> tuple[float, float, float]:
    """Sequences/s, CPU milliseconds a sequence, and seconds to the first batch."""
    clock, cpu, first = time.perf_counter(), time.process_time(), 0.0
    _, batches = start()
    for _ in batches:
        first = first or time.perf_counter() - clock
    seconds = time.perf_counter() - clock
    return count / seconds, (time.process_time() - cpu) / count * 1e3, first


def ratio(numbers: Sequence[float], others: Sequence[float]) -> float:
    return float(np.median(np.array(numbers) / np.array(others)))


def describe(own: dict[str, list[float]]) -> str:
    return f"{np.median(own['rates']):7.1f} sequences/s, {np.median(own['cpu_ms']):6.2f} CPU ms a sequence"


def decoding_alone(paths: list[str], spec: SequenceSpec) -> Callable[[], None]:
    """Decodes every frame once, by as many threads as there are CPUs, and keeps nothing."""
    steps, channels = spec.num_frames, spec.image.channels
    encoded = [
        parse_sequence(record, spec)["image/encoded"] for record in tf.data.TFRecordDataset(paths)
    ]

    @tf.function(input_signature=[tf.TensorSpec((steps,), tf.string)])
    def decode(frames: tf.Tensor) -> tf.Tensor:
        pixels = [
            tf.io.decode_image(frames[i], channels, expand_animations=False)
            if spec.image.format == "PNG"
            else tf.io.decode_jpeg(frames[i], channels, dct_method="INTEGER_ACCURATE")
            for i in range(steps)
        ]
        # Of what is decoded something must be used, or TensorFlow leaves it out.
        return tf.add_n([tf.cast(tf.reshape(image, [-1])[0], tf.int32) for image in pixels])

    decode(encoded[0])
    workers = len(os.sched_getaffinity(0))

    def work(number: int) -> None:
        for frames in encoded[number::workers]:
            decode(frames)

    def run() -> None:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def plain_loop(paths: list[str], spec: SequenceSpec, batch_size: int) -> tf.data.Dataset:
    """As tutorials write it: parse, decode, shuffle, batch, prefetch."""

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
    """DMVR's, for frames that need no resizing: square ones, whole, as floats from 0 to 1."""
    sys.path.insert(0, str(path))
    # Text is none of our business, and wants packages of its own.
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
    """Model Garden's decoder and processing of whole frames, in the loop of its input reader."""
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


def measure_mixing(data: Path, options: argparse.Namespace) -> dict[str, float]:
    """How far the sources and classes of batches are from those of all, beside perfect shuffles."""
    dataset = read_sequences(
        data, options.split, batch_size=options.batch_size, shuffle=True, seed=0, metadata=True
    )
    sources, classes = [], []
    for features, *labels in dataset:
        sources.append(features["source"].numpy())
        if labels and labels[0].shape.rank == 1:
            classes.append(labels[0].numpy())
    found = {}
    for what, batches in (("sources", sources), ("classes", classes)):
        if not batches:
            continue
        names = np.unique(np.concatenate(batches), return_inverse=True)[1]
        own = spread(names, options.batch_size)
        random = np.random.default_rng(0)
        perfect = np.mean(
            [spread(random.permutation(names), options.batch_size) for _ in range(30)]
        )
        found[what] = own / perfect if perfect else 1.0
        print(
            f"mixing of {what}: batches differ from the whole {found[what]:.2f} times as much as perfectly "
            "shuffled ones"
        )
    return found


def spread(names: np.ndarray, batch_size: int) -> float:
    """The mean over batches of half the sum of differences of shares."""
    whole = np.bincount(names) / len(names)
    batches = [names[i : i + batch_size] for i in range(0, len(names), batch_size)]
    shares = [np.bincount(batch, minlength=len(whole)) / len(batch) for batch in batches]
    return float(np.mean([np.abs(own - whole).sum() / 2 for own in shares]))


def profile_stages(data: Path, options: argparse.Namespace) -> dict[str, float]:
    """CPU milliseconds a sequence that each stage adds."""
    info = DatasetInfo.load(data)
    paths, count = shard_paths(data, info, options.split), info.splits[options.split].num_records
    records = tf.data.TFRecordDataset(paths)

    def parsed(frames: bool) -> tf.data.Dataset:
        return records.map(
            lambda record: parse_sequence(record, info.spec, frames=frames),
            len(os.sched_getaffinity(0)),
        )

    stages: dict[str, Read] = {
        "reading": lambda: records.batch(64),
        "parsing": lambda: parsed(True).batch(64),
        "decoding and batching": lambda: read_sequences(
            data, options.split, batch_size=options.batch_size
        ),
    }
    seconds = {
        name: min(measured(lambda stage=stage: (None, stage()), count)[1] for _ in range(3))
        for name, stage in stages.items()
    }
    before, found = 0.0, {}
    for name, total in seconds.items():
        found[name] = max(total - before, 0.0)
        before = total
        print(f"{name:<22} {found[name]:7.2f} CPU ms a sequence", flush=True)
    return found


def waiting_for_input(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Steps of a model on what is read, and on one batch that is there already."""
    import keras

    from trainer.config import ModelConfig
    from trainer.losses import make_loss
    from trainer.model import build_model

    info = DatasetInfo.load(data)
    if info.spec.label.task == "none":
        return {}
    weights = None if options.backbone == "small" else "none"
    model = build_model(info, ModelConfig(backbone=options.backbone, weights=weights))
    model.compile("adam", make_loss(info.spec.label, info.splits["train"], class_weights=False))
    read = read_sequences(
        data, "train", batch_size=options.batch_size, shuffle=True, seed=0, first_epoch=0
    )
    at_hand = tf.data.Dataset.from_tensors(next(iter(read))).repeat()
    seconds = {}
    for which, dataset in (("at_hand", at_hand), ("read", read)):
        ends: list[float] = []
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, ends=ends: ends.append(time.perf_counter())
        )
        model.fit(dataset, steps_per_epoch=25, verbose=0, shuffle=False, callbacks=[note])
        # Without the first ones, for which the graph is made and the buffers are filled.
        seconds[which] = float(np.median(np.diff(ends[5:])))
    share = max(0.0, 1 - seconds["at_hand"] / seconds["read"])
    bound = (
        "input: read smaller frames, cache decoded ones, or take more CPUs"
        if share > 0.1
        else "compute"
    )
    print(
        f"a step with backbone {options.backbone}: {seconds['read']:.3f} s, of which {share:.0%} is waiting "
        f"for input; training is bound by {bound}"
    )
    return {**seconds, "share": share}


def compare_memory(data: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of a process that reads a dataset, and of one that reads ten times as much."""
    info, found = DatasetInfo.load(data), {}
    for times in (1, 10):
        repeated = repeated_dataset(data, info, folder / f"times{times}", times)
        contents = repeated.splits[options.split]
        command = [sys.executable, __file__, "--peak_of", str(folder / f"times{times}")]
        command += ["--split", options.split, "--batch_size", str(options.batch_size)]
        command += ["--most_batches", str(options.most_batches)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        base, peak = map(int, run.stdout.split()[-2:])
        held = reading_bytes(
            info.spec, contents, plan_mixing(contents), batch_size=options.batch_size
        )
        found[f"times{times}"] = {"bytes": contents.num_bytes, "peak": peak - base, "bound": held}
        print(
            f"{contents.num_bytes / 2**20:8.0f} MiB of records: {(peak - base) / 2**20:6.0f} MiB at most, "
            f"beyond TensorFlow's {base / 2**20:.0f}; buffers are bounded to {held / 2**20:.0f} MiB",
            flush=True,
        )
    return found


def repeated_dataset(data: Path, info: DatasetInfo, folder: Path, times: int) -> DatasetInfo:
    """The same shards several times, as links."""
    folder.mkdir()
    splits = {}
    for split, contents in info.splits.items():
        shards = []
        for i in range(times):
            for shard in contents.shards:
                name = f"copy{i}-{shard.file}"
                (folder / name).symlink_to((data / shard.file).resolve())
                shards.append(replace(shard, file=name))
        splits[split] = replace(contents, shards=tuple(shards))
    repeated = replace(info, splits=splits)
    repeated.save(folder)
    return repeated


def peak_bytes(data: Path, options: argparse.Namespace) -> str:
    """Peak resident bytes of this process before it reads, and after."""
    for _ in tf.data.Dataset.range(1).map(lambda number: number + 1):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    dataset = read_sequences(
        data, options.split, batch_size=options.batch_size, shuffle=True, seed=0
    )
    for _ in dataset.take(options.most_batches):
        pass
    return f"{before} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}"


if __name__ == "__main__":
    main()
